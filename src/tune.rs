//! Chooses some of the [`Caps`] by measurement instead of by the properties of the device.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::{Caps, Family, Gpu};
use crate::error::Result;
use crate::files::write_whole;
use crate::ops::loss::{CrossEntropy, Grad};
use crate::plan::product::Layout;
use crate::tensor::Tensor;

/// Tuning.
impl Gpu {
    /// Returns the same device with the fastest of a few choices of kernels. Measures them, which
    /// takes seconds (on a software adapter up to half a minute), unless `file` has an earlier
    /// result for this adapter and driver. Stores new results in `file`; without a file it measures
    /// every time. The device's default stays unless another choice is faster by more than a
    /// twentieth; usually none is.
    ///
    /// Results may differ in their last bits from those of other choices.
    ///
    /// # Errors
    /// The errors of recording and submitting with the device's default. A file that cannot be read
    /// or written is ignored.
    pub fn tuned(&self, file: Option<&Path>) -> Result<Self> {
        // Ignore a stored choice that the device rejects: anybody may have written the file.
        let taken = |choice: Choice| self.with_caps(choice.apply(self.caps())).is_ok();
        let choice = remembered(file, &self.tuning_key(), taken, || self.fastest())?;
        self.with_caps(choice.apply(self.caps()))
    }

    fn tuning_key(&self) -> String {
        let info = self.device().adapter_info();
        let key = format!(
            "{} {} {} {} {} subgroups of {}",
            env!("CARGO_PKG_VERSION"),
            info.backend,
            info.name,
            info.driver,
            info.driver_info,
            self.caps().subgroup_size
        );
        key.replace(char::is_control, " ")
    }

    /// Times the choices: first families and SIMD widths, then, if the GPU family is the fastest,
    /// its tile thresholds.
    fn fastest(&self) -> Result<Choice> {
        let usual = Choice::of(self.caps());
        let work = Work::new(self)?;
        let at_first = work.time(self)?;
        let ratio = |(now, first): (Duration, Duration)| now.as_secs_f64() / first.as_secs_f64().max(1e-9);
        let (mut best, mut least) = (usual, 0.95);
        for choices in [Choice::FAMILIES, Choice::TILES] {
            for choice in choices.into_iter().filter(|&choice| choice != usual) {
                if choices == Choice::TILES && best.family != Family::Gpu {
                    continue;
                }
                // Skip choices that fail.
                let timed = self.with_caps(choice.apply(self.caps())).and_then(|gpu| work.time(&gpu));
                let Ok(timing) = timed else { continue };
                // The mean of the two ratios.
                let relative = timing.into_iter().zip(at_first).map(ratio).sum::<f64>() / 2.0;
                if relative < least {
                    (best, least) = (choice, relative);
                }
            }
        }
        Ok(best)
    }
}

/// Returns the choice for a key in a file, if `taken` accepts it; else the result of `choose`,
/// which is then stored in the file.
fn remembered(
    path: Option<&Path>,
    key: &str,
    taken: impl Fn(Choice) -> bool,
    choose: impl FnOnce() -> Result<Choice>,
) -> Result<Choice> {
    let known = path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    if let Some(found) = known.lines().rev().find_map(|line| Choice::parse(line, key)).filter(|&found| taken(found)) {
        return Ok(found);
    }
    let choice = choose()?;
    if let Some(path) = path {
        let kept: String =
            known.lines().filter(|line| Choice::parse(line, key).is_none()).flat_map(|l| [l, "\n"]).collect();
        // It is no error if the result cannot be stored.
        let _ = write_whole(path, format!("{kept}{}\n", choice.line(key)).as_bytes());
    }
    Ok(choice)
}

/// The part of the [`Caps`] that is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    family: Family,
    simd_width: u32,
    enough_tiles: u32,
}

impl Choice {
    fn of(caps: &Caps) -> Self {
        Self { family: caps.family, simd_width: caps.simd_width, enough_tiles: caps.enough_tiles }
    }

    const GPU: Self = Self { family: Family::Gpu, simd_width: 8, enough_tiles: 128 };
    const FAMILIES: [Self; 4] = [Self::simd(4), Self::simd(8), Self::simd(16), Self::GPU];
    const TILES: [Self; 4] = [Self::tiles(16), Self::tiles(32), Self::tiles(512), Self::tiles(2048)];

    const fn simd(simd_width: u32) -> Self {
        Self { family: Family::CpuSimd, simd_width, enough_tiles: 128 }
    }

    const fn tiles(enough_tiles: u32) -> Self {
        Self { enough_tiles, ..Self::GPU }
    }

    fn apply(self, caps: &Caps) -> Caps {
        let Self { family, simd_width, enough_tiles } = self;
        Caps { family, simd_width, enough_tiles, ..caps.clone() }
    }

    fn line(self, key: &str) -> String {
        let family = match self.family {
            Family::Gpu => "gpu",
            Family::CpuSimd => "cpu-simd",
        };
        format!("{key}\t{family}\t{}\t{}", self.simd_width, self.enough_tiles)
    }

    fn parse(line: &str, key: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(key)?.strip_prefix('\t')?.split('\t');
        let family = match fields.next()? {
            "gpu" => Family::Gpu,
            "cpu-simd" => Family::CpuSimd,
            _ => return None,
        };
        let mut number = || fields.next()?.parse().ok();
        Some(Self { family, simd_width: number()?, enough_tiles: number()? })
    }
}

/// The timed operations: a loss of rows and a product.
struct Work {
    logits: Tensor<f32>,
    targets: Tensor<i32>,
    matrix: Tensor<f32>,
}

impl Work {
    fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            logits: Tensor::zeros(gpu, [1024, 1024])?,
            targets: Tensor::zeros(gpu, [1024])?,
            matrix: Tensor::zeros(gpu, [1024, 1024])?,
        })
    }

    fn time(&self, gpu: &Gpu) -> Result<[Duration; 2]> {
        let options = CrossEntropy::default();
        let rows =
            shortest(gpu, |rec| rec.cross_entropy_with(&self.logits, &self.targets, &options, Grad::New).map(drop))?;
        let product = shortest(gpu, |rec| rec.matmul(Layout::Nt, &self.matrix, &self.matrix, None).map(drop))?;
        Ok([rows, product])
    }
}

/// The shortest time of three runs, after one that compiles the kernels.
fn shortest(gpu: &Gpu, record: impl Fn(&mut crate::record::Recorder<'_>) -> Result<()>) -> Result<Duration> {
    let mut least = Duration::MAX;
    for run in 0..4 {
        let start = Instant::now();
        let mut batch = gpu.batch();
        record(&mut batch)?;
        let mut done = batch.read(&gpu.one())?;
        batch.submit()?;
        done.wait(Duration::from_secs(60))?;
        if run > 0 {
            least = least.min(start.elapsed());
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_choice_is_read_as_it_was_written() {
        for choice in Choice::FAMILIES.into_iter().chain(Choice::TILES) {
            assert_eq!(Choice::parse(&choice.line("a driver"), "a driver"), Some(choice));
            assert_eq!(Choice::parse(&choice.line("a driver 2"), "a driver"), None);
        }
        for line in
            ["", "a driver", "a driver\t", "a driver\tgpu\t8", "a driver\tgpu\t8\tmany", "a driver\tneither\t8\t128"]
        {
            assert_eq!(Choice::parse(line, "a driver"), None, "{line:?}");
        }
    }

    #[test]
    fn choices_are_made_once_for_each_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tuning.tsv");
        let at = Some(path.as_path());
        let get = |at, key, new: Choice| remembered(at, key, |_| true, || Ok(new)).expect("a choice");
        let (a, b) = (Choice::simd(4), Choice::tiles(32));
        assert_eq!([get(at, "a", a), get(at, "b", b), get(at, "a", b)], [a, b, a]);
        // A choice that the device rejects is measured again, and replaces the old one.
        assert_eq!(remembered(at, "a", |_| false, || Ok(b)).expect("a choice"), b);
        assert_eq!(fs::read_to_string(&path).expect("a file"), format!("{}\n{}\n", b.line("b"), b.line("a")));
        // A file that is not text counts as empty.
        fs::write(&path, [0xff, 0xfe]).expect("a file");
        assert_eq!(get(at, "a", a), a);
        let below = path.join("tuning.tsv");
        assert_eq!(get(Some(below.as_path()), "a", b), b, "below a file nothing can be kept");
        assert_eq!(get(None, "a", b), b);
        assert!(remembered(None, "a", |_| true, || Err(Error::NoTimestamps)).is_err());
    }
}
