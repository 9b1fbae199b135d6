//! Shared by the examples: the command line, a progress bar, line charts, initial weights from a
//! file.

#![allow(dead_code, reason = "each example uses only a part")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use plotters::prelude::*;
use xent::loss::Targets;
use xent::nn::Training;
use xent::state::State;
use xent::{Gpu, Readback, Tensor};

/// How long the examples wait for the GPU.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// An example's name, description and options.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) epochs: usize,
    /// This example's own options, which take a file: name and description.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// The parsed command line.
pub(crate) struct Options {
    pub(crate) epochs: usize,
    pub(crate) seed: u64,
    pub(crate) adapter: String,
    pub(crate) out: PathBuf,
    files: Vec<(String, PathBuf)>,
}

impl Options {
    /// Returns the file given with an option such as `--init`.
    pub(crate) fn file(&self, option: &str) -> Option<&Path> {
        self.files.iter().find(|(name, _)| name == option).map(|(_, path)| path.as_path())
    }

    /// Opens the adapter that `--adapter` or `XENT_ADAPTER` selects, and prints its description.
    pub(crate) fn gpu(&self) -> Result<Gpu> {
        let gpu = pollster::block_on(Gpu::request(&self.adapter))?;
        println!("adapter: {}", gpu.describe());
        // Finds the fastest choice of kernels, and keeps it beside the results.
        if std::env::var("XENT_TUNE").is_ok_and(|tune| tune == "1") {
            return Ok(gpu.tuned(Some(&self.in_out("tuning.tsv")?))?);
        }
        Ok(gpu)
    }

    /// Creates the example's output folder, and returns the path of a file in it.
    pub(crate) fn in_out(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("{}", self.out.display()))?;
        Ok(self.out.join(name))
    }
}

/// Runs an example. On an error it prints one line and returns exit code 2.
pub(crate) fn run(program: &Program, example: impl FnOnce(&Options) -> Result<()>) -> ExitCode {
    match options(program).and_then(|options| options.map_or(Ok(()), |options| example(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn help(program: &Program) -> String {
    let mut rows = vec![
        ("--epochs N".to_owned(), format!("how often to go through the training data (default {})", program.epochs)),
        ("--seed N".to_owned(), "what everything random follows from (default 0)".to_owned()),
        (
            "--adapter NAME".to_owned(),
            "an adapter by its backend (vulkan, gl, metal, dx12) or a piece of its name".to_owned(),
        ),
        ("--out DIR".to_owned(), format!("where files go (default target/{})", program.name)),
    ];
    rows.extend(program.files.iter().map(|(option, what)| (format!("{option} FILE"), (*what).to_owned())));
    rows.push(("--help".to_owned(), "this text".to_owned()));
    let rows: String = rows.iter().map(|(option, what)| format!("\n  {option:17} {what}")).collect();
    format!("{}\n\nUsage: cargo run --release --example {} -- [options]{rows}", program.about, program.name)
}

fn options(program: &Program) -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut options = Options {
        epochs: program.epochs,
        seed: 0,
        adapter: std::env::var(Gpu::ADAPTER_VARIABLE).unwrap_or_default(),
        out: root.join("target").join(program.name),
        files: Vec::new(),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("epochs") => options.epochs = number("--epochs", &arguments.value()?)?,
            Long("seed") => options.seed = number("--seed", &arguments.value()?)?,
            Long("adapter") => options.adapter = arguments.value()?.string().context("--adapter")?,
            Long("out") => options.out = arguments.value()?.into(),
            Long("help") | Short('h') => {
                println!("{}", help(program));
                return Ok(None);
            }
            Long(name) if program.files.iter().any(|(option, _)| option.strip_prefix("--") == Some(name)) => {
                let option = format!("--{name}");
                options.files.push((option, arguments.value()?.into()));
            }
            other => return Err(other.unexpected()).context("try --help"),
        }
    }
    ensure!((1..=100_000).contains(&options.epochs), "--epochs must be in 1..=100000, got {}", options.epochs);
    Ok(Some(options))
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(flag: &str, value: &std::ffi::OsStr) -> Result<T> {
    let value = value.to_string_lossy();
    value.parse().map_err(|error| anyhow!("{flag}: {value:?}: {error}"))
}

/// Creates a progress bar of `steps` steps.
pub(crate) fn bar(steps: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} to go")?);
    Ok(bar)
}

/// Runs a full-batch step and waits for it. Returns the loss of each head.
pub(crate) fn step(gpu: &Gpu, training: &mut Training, x: &Tensor<f32>, targets: &[Targets]) -> Result<Vec<f32>> {
    let mut batch = gpu.batch();
    let out = training.step(&mut batch, x, targets)?;
    let tickets = out.losses.iter().map(|loss| batch.read(loss)).collect::<Result<Vec<Readback<Vec<f32>>>, _>>()?;
    batch.submit()?;
    tickets.into_iter().map(|mut ticket| Ok(ticket.wait(TIMEOUT)?[0])).collect()
}

/// Returns the outputs of each head of a model for inputs.
pub(crate) fn predict(gpu: &Gpu, model: &xent::nn::Model, x: &Tensor<f32>) -> Result<Vec<Vec<f32>>> {
    let mut batch = gpu.batch();
    let activations = model.forward(&mut batch, x)?;
    let tickets = activations.outputs().iter().map(|output| batch.read(output)).collect::<Result<Vec<_>, _>>()?;
    batch.submit()?;
    tickets.into_iter().map(|mut ticket| Ok(ticket.wait(TIMEOUT)?)).collect()
}

/// Saves a model's parameters, and prints the path.
pub(crate) fn save(gpu: &Gpu, model: &xent::nn::Model, path: &Path) -> Result<()> {
    let mut batch = gpu.batch();
    let mut state = model.parameters().state(&mut batch)?;
    batch.submit()?;
    state.wait(TIMEOUT)?.save(path)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Loads a model's parameters.
pub(crate) fn load(model: &xent::nn::Model, path: &Path) -> Result<()> {
    let state = State::load(path)?;
    model.parameters().load(&state).with_context(|| format!("{}", path.display()))
}

/// The tensors of a file, converted to `f32` from F32 or I64.
pub(crate) struct Initial(Vec<u8>, PathBuf);

impl Initial {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        safetensors::SafeTensors::deserialize(&bytes).with_context(|| format!("{}", path.display()))?;
        Ok(Self(bytes, path.to_owned()))
    }

    /// Returns the tensor with the first of these names that exists, which must have `len` values.
    pub(crate) fn get(&self, names: &[&str], len: usize) -> Result<Vec<f32>> {
        let found = self.find(names)?.with_context(|| format!("{}: no tensor {names:?}", self.1.display()))?;
        ensure!(found.len() == len, "{}: {names:?} has {} values instead of {len}", self.1.display(), found.len());
        Ok(found)
    }

    /// Returns the tensor with the first of these names that exists, if any.
    pub(crate) fn find(&self, names: &[&str]) -> Result<Option<Vec<f32>>> {
        let file = safetensors::SafeTensors::deserialize(&self.0)?;
        let Some(view) = names.iter().find_map(|name| file.tensor(name).ok()) else { return Ok(None) };
        Ok(Some(match view.dtype() {
            safetensors::Dtype::F32 => bytemuck::pod_collect_to_vec(view.data()),
            safetensors::Dtype::I64 => {
                bytemuck::pod_collect_to_vec::<u8, i64>(view.data()).into_iter().map(|v| v as f32).collect()
            }
            other => anyhow::bail!("{}: {names:?} is {other:?}", self.1.display()),
        }))
    }
}

/// A line of a chart: its name and its points.
pub(crate) type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// Writes lines as an SVG file, and prints its path.
pub(crate) fn chart(path: &Path, title: &str, [x, y]: [&str; 2], lines: &[Line<'_>]) -> Result<()> {
    const COLORS: [RGBColor; 4] = [BLUE, RED, BLACK, MAGENTA];
    let points = || lines.iter().flat_map(|(_, points)| points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
    let (right, top) = (most(|p| p.0).max(1e-9), most(|p| p.1).max(1e-9) * 1.05);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (800, 500)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 22))
            .margin(15)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart.configure_mesh().x_desc(x).y_desc(y).draw()?;
        for ((name, points), color) in lines.iter().zip(COLORS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        }
        chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
        root.present()?;
    }
    std::fs::write(path, svg).with_context(|| format!("{}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
