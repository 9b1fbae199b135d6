//! The choices of [`Caps`] by measurement instead of by the device's facts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::caps::{Caps, Family};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::options::{CrossEntropy, Layout};
use crate::state::write_whole;
use crate::tensor::Tensor;

/// Tuning.
impl Gpu {
    /// The name of the environment variable that makes [`Gpu::request`] and [`Gpu::headless`] give a [`tuned`](Self::tuned) `Gpu` if it
    /// is `1`.
    pub const TUNE_VARIABLE: &str = "XENT_TUNE";

    /// The same device with the fastest of a few choices of kernels: times them, which takes seconds (on a
    /// software adapter up to half a minute), unless it finds in the user's
    /// cache directory (`XDG_CACHE_HOME`, `HOME/.cache` or `LOCALAPPDATA`) what was fastest with this adapter and driver before. What
    /// it finds out it leaves there. Usually nothing is faster by more than a twentieth than what the device's facts say; then those stay.
    ///
    /// Results may differ in their last bits from those of other choices.
    ///
    /// # Errors
    /// Those of recording and submitting; [`Error::File`] if the directory is there and cannot be used.
    pub fn tuned(&self) -> Result<Self> {
        let Some(directory) = cache_directory() else { return self.with_caps(self.fastest()?.apply(self.caps())) };
        let path = directory.join("xent").join("tuning.tsv");
        let file = |source| Error::File { path: path.clone(), source };
        let known = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(file(error)),
        };
        let key = self.tuning_key();
        // A choice that the device does not take (the file may be anybody's) is as good as none.
        let tuned = |choice: Choice| self.with_caps(choice.apply(self.caps()));
        if let Some(gpu) = known.lines().rev().find_map(|line| Choice::parse(line, &key)).and_then(|c| tuned(c).ok()) {
            return Ok(gpu);
        }
        let choice = self.fastest()?;
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(file)?;
        write_whole(&path, format!("{known}{}\n", choice.line(&key)).as_bytes()).map_err(file)?;
        tuned(choice)
    }

    fn tuning_key(&self) -> String {
        let info = self.device().adapter_info();
        let key = format!(
            "{} {} {} {} {}",
            env!("CARGO_PKG_VERSION"),
            info.backend,
            info.name,
            info.driver,
            info.driver_info
        );
        key.replace(char::is_control, " ")
    }

    /// Times all choices.
    fn fastest(&self) -> Result<Choice> {
        let usual = Choice::of(self.caps());
        let work = Work::new(self)?;
        let at_first = work.time(self)?;
        let (mut best, mut least) = (usual, 0.95);
        for choice in Choice::all().filter(|&choice| choice != usual) {
            let Ok(gpu) = self.with_caps(choice.apply(self.caps())) else { continue };
            let relative = work.time(&gpu)?.relative_to(at_first);
            if relative < least {
                (best, least) = (choice, relative);
            }
        }
        Ok(best)
    }
}

fn cache_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").map(|home| home.join(".cache"));
    variable("XDG_CACHE_HOME")
        .or_else(home)
        .or_else(|| variable("LOCALAPPDATA"))
        .filter(|path: &PathBuf| Path::is_absolute(path))
}

/// What is tuned of the [`Caps`].
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

    fn all() -> impl Iterator<Item = Self> {
        let simd = [4, 8, 16].map(|simd_width| Self { family: Family::CpuSimd, simd_width, enough_tiles: 128 });
        let gpu = [32, 128, 512].map(|enough_tiles| Self { family: Family::Gpu, simd_width: 8, enough_tiles });
        simd.into_iter().chain(gpu)
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

/// What is timed: a loss of rows and a product.
struct Work {
    logits: Tensor<f32>,
    targets: Tensor<i32>,
    matrix: Tensor<f32>,
}

#[derive(Clone, Copy)]
struct Timing {
    rows: Duration,
    product: Duration,
}

impl Timing {
    /// The mean of the ratios.
    fn relative_to(self, other: Self) -> f64 {
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
        (ratio(self.rows, other.rows) + ratio(self.product, other.product)) / 2.0
    }
}

impl Work {
    fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            logits: Tensor::zeros(gpu, [1024, 1024])?,
            targets: Tensor::zeros(gpu, [1024])?,
            matrix: Tensor::zeros(gpu, [512, 512])?,
        })
    }

    fn time(&self, gpu: &Gpu) -> Result<Timing> {
        let options = CrossEntropy::default();
        let rows =
            shortest(gpu, |rec| rec.cross_entropy_backward(&self.logits, &self.targets, &options, None).map(drop))?;
        let product = shortest(gpu, |rec| rec.matmul(Layout::Nt, &self.matrix, &self.matrix, None).map(drop))?;
        Ok(Timing { rows, product })
    }
}

/// The shortest of a few runs, after one that compiles.
fn shortest(gpu: &Gpu, record: impl Fn(&mut crate::recorder::Recorder<'_>) -> Result<()>) -> Result<Duration> {
    let mut least = Duration::MAX;
    for run in 0..6 {
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

    #[test]
    fn a_choice_is_read_as_it_was_written() {
        for choice in Choice::all() {
            assert_eq!(Choice::parse(&choice.line("a driver"), "a driver"), Some(choice));
            assert_eq!(Choice::parse(&choice.line("a driver 2"), "a driver"), None);
        }
        for line in
            ["", "a driver", "a driver\t", "a driver\tgpu\t8", "a driver\tgpu\t8\tmany", "a driver\tneither\t8\t128"]
        {
            assert_eq!(Choice::parse(line, "a driver"), None, "{line:?}");
        }
    }
}
