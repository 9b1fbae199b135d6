//! Trains a network on handwritten digits, saves it, loads it again and tests it.
//!
//! 64 pixels -> 128 hidden units with ReLU -> 10 digits, softmax cross-entropy, stochastic gradient descent with momentum.
//! Everything happens on the GPU; a training step is one queue submission.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use plotters::prelude::*;
use xent::{Batch, CrossEntropy, Gpu, Layout, Momentum, Parameters, Sgd, Shape, Tensor};

const PIXELS: usize = 64;
const HIDDEN: usize = 128;
const DIGITS: usize = 10;
const BATCH: usize = 64;
/// Names and shapes as PyTorch's `Sequential(Linear(64, 128), ReLU(), Linear(128, 10))` has them.
const PARAMETERS: [(&str, &[usize]); 4] =
    [("0.weight", &[HIDDEN, PIXELS]), ("0.bias", &[HIDDEN]), ("2.weight", &[DIGITS, HIDDEN]), ("2.bias", &[DIGITS])];
const TIMEOUT: Duration = Duration::from_secs(60);

const HELP: &str = "\
Trains a network on handwritten digits, saves it, loads it again and tests it.

Usage: cargo run --release --example digits -- [options]
  --epochs N      how often to go through the training data (default 80)
  --seed N        what the split, the start and the order of the data follow from (default 0)
  --adapter NAME  an adapter by its backend (vulkan, gl, metal, dx12) or a piece of its name
  --data FILE     the digits (default examples/data/digits.csv)
  --out DIR       where the model and the picture go (default target/digits)
  --model FILE    only test this saved model (with the seed that it was trained with: the split follows from it)
  --help          this text";

struct Options {
    epochs: usize,
    seed: u64,
    adapter: String,
    data: PathBuf,
    out: PathBuf,
    model: Option<PathBuf>,
}

fn main() -> ExitCode {
    match options().and_then(|options| options.map_or(Ok(()), |options| run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut options = Options {
        epochs: 80,
        seed: 0,
        adapter: std::env::var(Gpu::ADAPTER_VARIABLE).unwrap_or_default(),
        data: root.join("examples/data/digits.csv"),
        out: root.join("target/digits"),
        model: None,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("epochs") => options.epochs = number("--epochs", &arguments.value()?)?,
            Long("seed") => options.seed = number("--seed", &arguments.value()?)?,
            Long("adapter") => options.adapter = arguments.value()?.string().context("--adapter")?,
            Long("data") => options.data = arguments.value()?.into(),
            Long("out") => options.out = arguments.value()?.into(),
            Long("model") => options.model = Some(arguments.value()?.into()),
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(None);
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

fn run(options: &Options) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut data = read_csv(&options.data)?;
    rng.shuffle(&mut data);
    // A fifth is for the test, a tenth of the rest for the validation.
    let test = data.split_off(data.len() - data.len() / 5);
    let validation = data.split_off(data.len() - data.len() / 10);
    let mut train = data;
    ensure!(!validation.is_empty(), "{}: too few rows to split", options.data.display());

    let gpu = pollster::block_on(Gpu::request(&options.adapter))?;
    println!("adapter: {}", gpu.describe());
    let model_file = match &options.model {
        Some(file) => file.clone(),
        None => {
            std::fs::create_dir_all(&options.out).with_context(|| format!("{}", options.out.display()))?;
            println!("{} digits to train on, {} to validate, {} to test", train.len(), validation.len(), test.len());
            let (model, curve) = fit(&gpu, &mut train, &validation, options.epochs, &mut rng)?;
            let picture = options.out.join("loss.svg");
            write_whole(&picture, draw(&curve)?.as_bytes())?;
            let file = options.out.join("model.safetensors");
            save(&gpu, &model, &file)?;
            println!("wrote {} and {}", file.display(), picture.display());
            file
        }
    };

    let model = load(&gpu, &model_file)?;
    let (_, predicted) = evaluate(&gpu, &model, &Set::upload(&gpu, &test)?)?;
    print_confusion(&test, &predicted);
    println!("test accuracy: {:.3}", accuracy(&test, &predicted));
    Ok(())
}

struct Digit {
    pixels: [f32; PIXELS],
    label: u8,
}

fn read_csv(path: &Path) -> Result<Vec<Digit>> {
    let file = path.display();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_path(path)
        .with_context(|| format!("{file}"))?;
    let mut digits = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("{file}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        ensure!(record.len() == PIXELS + 1, "{file}, line {line}: {} columns instead of {}", record.len(), PIXELS + 1);
        let mut pixels = [0.0; PIXELS];
        for (i, (pixel, field)) in pixels.iter_mut().zip(&record).enumerate() {
            match field.trim().parse::<f32>() {
                Ok(value) if (0.0..=16.0).contains(&value) => *pixel = value / 16.0,
                _ => bail!("{file}, line {line}, column {}: {field:?} is no pixel from 0 to 16", i + 1),
            }
        }
        let label = match record[PIXELS].trim().parse::<u8>() {
            Ok(label) if usize::from(label) < DIGITS => label,
            _ => bail!("{file}, line {line}, column {}: {:?} is no digit", PIXELS + 1, &record[PIXELS]),
        };
        digits.push(Digit { pixels, label });
    }
    Ok(digits)
}

/// Digits on the GPU.
struct Set {
    pixels: Tensor<f32>,
    labels: Tensor<i32>,
}

impl Set {
    fn upload(gpu: &Gpu, digits: &[Digit]) -> Result<Self> {
        let pixels: Vec<f32> = digits.iter().flat_map(|digit| digit.pixels).collect();
        let labels: Vec<u8> = digits.iter().map(|digit| digit.label).collect();
        let ignored = CrossEntropy::default().ignore_index;
        Ok(Self {
            pixels: Tensor::from_slice(gpu, [digits.len(), PIXELS], &pixels)?,
            labels: Tensor::targets(gpu, [digits.len()], &labels, DIGITS, ignored)?,
        })
    }
}

struct Epoch {
    train_loss: f32,
    validation_loss: f32,
}

/// Trains a network from scratch.
fn fit(
    gpu: &Gpu,
    train: &mut [Digit],
    validation: &[Digit],
    epochs: usize,
    rng: &mut fastrand::Rng,
) -> Result<(Parameters, Vec<Epoch>)> {
    let model = initial(gpu, rng)?;
    let mut momentum = Momentum::new(gpu, model.values().shape().clone())?;
    let validation_set = Set::upload(gpu, validation)?;
    let guessing = (DIGITS as f32).ln();
    let steps = train.len().div_ceil(BATCH);
    let bar = ProgressBar::new((epochs * steps) as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} to go")?);
    let start = Instant::now();
    let mut curve = Vec::new();
    let mut submissions = 0;
    for epoch in 1..=epochs {
        rng.shuffle(train);
        // One upload an epoch; the mini-batches are views of it.
        let set = Set::upload(gpu, train)?;
        let before = gpu.counters().submissions;
        for first in (0..train.len()).step_by(BATCH) {
            let rows = first..(first + BATCH).min(train.len());
            let mut batch = gpu.batch();
            step(&mut batch, &model, &mut momentum, &set.pixels.rows(rows.clone())?, &set.labels.rows(rows)?)?;
            batch.submit()?;
            bar.inc(1);
        }
        submissions += gpu.counters().submissions - before;
        let (train_loss, predicted) = evaluate(gpu, &model, &set)?;
        let train_accuracy = accuracy(train, &predicted);
        let (validation_loss, predicted) = evaluate(gpu, &model, &validation_set)?;
        let validation_accuracy = accuracy(validation, &predicted);
        bar.suspend(|| {
            println!(
                "epoch {epoch:3}: training loss {train_loss:.4} accuracy {train_accuracy:.3}, validation loss \
                 {validation_loss:.4} accuracy {validation_accuracy:.3} (guessing: {guessing:.4})"
            );
        });
        curve.push(Epoch { train_loss, validation_loss });
    }
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f32();
    println!("{epochs} epochs: {} training steps in {submissions} submissions, {seconds:.1} s", epochs * steps);
    Ok((model, curve))
}

/// PyTorch's initialisation of a linear layer: uniform within 1 / sqrt(inputs).
fn initial(gpu: &Gpu, rng: &mut fastrand::Rng) -> Result<Parameters> {
    let mut draw = |len: usize, inputs: usize| -> Vec<f32> {
        let bound = 1.0 / (inputs as f32).sqrt();
        (0..len).map(|_| (2.0 * rng.f32() - 1.0) * bound).collect()
    };
    let values =
        [draw(HIDDEN * PIXELS, PIXELS), draw(HIDDEN, PIXELS), draw(DIGITS * HIDDEN, HIDDEN), draw(DIGITS, HIDDEN)];
    parameters(gpu, &values)
}

fn parameters(gpu: &Gpu, values: &[Vec<f32>; 4]) -> Result<Parameters> {
    let named: Vec<_> =
        PARAMETERS.iter().zip(values).map(|(&(name, shape), values)| (name, Shape::from(shape), &values[..])).collect();
    Ok(Parameters::new(gpu, &named)?)
}

/// The network: its hidden activations and its logits.
fn forward(batch: &mut Batch, model: &Parameters, pixels: &Tensor<f32>) -> Result<(Tensor<f32>, Tensor<f32>)> {
    let hidden = batch.matmul(Layout::Nt, pixels, &model.value("0.weight")?, Some(&model.value("0.bias")?))?;
    let hidden = batch.relu(&hidden)?;
    let logits = batch.matmul(Layout::Nt, &hidden, &model.value("2.weight")?, Some(&model.value("2.bias")?))?;
    Ok((hidden, logits))
}

/// Records a training step: forward, loss, backward, update.
fn step(
    batch: &mut Batch,
    model: &Parameters,
    momentum: &mut Momentum,
    pixels: &Tensor<f32>,
    labels: &Tensor<i32>,
) -> Result<()> {
    let (hidden, logits) = forward(batch, model, pixels)?;
    batch.cross_entropy_backward_in_place(&logits, labels, &CrossEntropy::default(), None)?;
    // The logits now hold their own gradient.
    let grad = logits;
    batch.matmul_into(Layout::Tn, &grad, &hidden, None, &model.grad("2.weight")?)?;
    batch.column_sum_into(&grad, &model.grad("2.bias")?)?;
    let grad = batch.matmul(Layout::Nn, &grad, &model.value("2.weight")?, None)?;
    let grad = batch.relu_backward(&hidden, &grad)?;
    batch.matmul_into(Layout::Tn, &grad, pixels, None, &model.grad("0.weight")?)?;
    batch.column_sum_into(&grad, &model.grad("0.bias")?)?;
    let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 1e-3, ..Sgd::default() };
    batch.sgd(model.values(), model.grads(), Some(momentum), &sgd)?;
    Ok(())
}

/// The mean loss, and the digit that each row is taken for.
fn evaluate(gpu: &Gpu, model: &Parameters, set: &Set) -> Result<(f32, Vec<usize>)> {
    let mut batch = gpu.batch();
    let (_, logits) = forward(&mut batch, model, &set.pixels)?;
    let loss = batch.cross_entropy(&logits, &set.labels, &CrossEntropy::default())?;
    let (mut loss, mut logits) = (batch.read(&loss)?, batch.read(&logits)?);
    batch.submit()?;
    let largest = |row: &[f32]| (0..DIGITS).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
    let predicted = logits.wait(TIMEOUT)?.chunks(DIGITS).map(largest).collect();
    Ok((loss.wait(TIMEOUT)?[0], predicted))
}

fn accuracy(digits: &[Digit], predicted: &[usize]) -> f32 {
    let right = digits.iter().zip(predicted).filter(|(digit, p)| usize::from(digit.label) == **p).count();
    right as f32 / digits.len() as f32
}

fn print_confusion(digits: &[Digit], predicted: &[usize]) {
    let mut counts = [[0; DIGITS]; DIGITS];
    for (digit, &p) in digits.iter().zip(predicted) {
        counts[usize::from(digit.label)][p] += 1;
    }
    println!("digits down, what they were taken for across:");
    println!("    {}", (0..DIGITS).map(|p| format!("{p:4}")).collect::<String>());
    for (digit, row) in counts.iter().enumerate() {
        println!("{digit:4}{}", row.iter().map(|n| format!("{n:4}")).collect::<String>());
    }
}

/// Writes to a temporary file beside `path` and renames it, so that there is never half a file.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        // A temporary file is private by default; what it becomes is an ordinary file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(directory)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("{}", path.display()))
}

fn save(gpu: &Gpu, model: &Parameters, path: &Path) -> Result<()> {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let mut batch = gpu.batch();
    let tickets =
        PARAMETERS.iter().map(|(name, _)| Ok(batch.read(&model.value(name)?)?)).collect::<Result<Vec<_>>>()?;
    batch.submit()?;
    let values = tickets.into_iter().map(|mut t| Ok(t.wait(TIMEOUT)?)).collect::<Result<Vec<Vec<f32>>>>()?;
    let views = PARAMETERS.iter().zip(&values).map(|((name, shape), values)| {
        Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values))?))
    });
    write_whole(path, &serialize(views.collect::<Result<Vec<_>>>()?, None)?)
}

fn load(gpu: &Gpu, path: &Path) -> Result<Parameters> {
    let file = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("{file}"))?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes).with_context(|| format!("{file}"))?;
    let read = |(name, shape): (&str, &[usize])| {
        let view = tensors.tensor(name).with_context(|| format!("{file}"))?;
        let is = (view.dtype(), view.shape());
        ensure!(is == (safetensors::Dtype::F32, shape), "{file}: {name} is {is:?} instead of F32 {shape:?}");
        Ok(bytemuck::pod_collect_to_vec(view.data()))
    };
    let [a, b, c, d] = PARAMETERS.map(read);
    parameters(gpu, &[a?, b?, c?, d?])
}

/// The loss curve as an SVG.
fn draw(curve: &[Epoch]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (800, 500)).into_drawing_area();
        root.fill(&WHITE)?;
        let guessing = (DIGITS as f32).ln();
        let mut chart = ChartBuilder::on(&root)
            .caption("cross-entropy of handwritten digits", ("sans-serif", 22))
            .margin(15)
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(1..curve.len().max(2), 0f32..guessing * 1.05)?;
        chart.configure_mesh().x_desc("epoch").y_desc("mean loss").draw()?;
        let mut line = |name: &str, color: RGBColor, loss: &dyn Fn(&Epoch) -> f32| -> Result<()> {
            let points = curve.iter().enumerate().map(|(i, epoch)| (i + 1, loss(epoch)));
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
            Ok(())
        };
        line("training", BLUE, &|epoch| epoch.train_loss)?;
        line("validation", RED, &|epoch| epoch.validation_loss)?;
        line("guessing, ln 10", BLACK, &|_| guessing)?;
        chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
        root.present()?;
    }
    Ok(svg)
}
