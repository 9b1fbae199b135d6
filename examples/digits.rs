//! Trains a network on handwritten digits, saves it, loads it again and tests it.
//!
//! 64 pixels -> 128 hidden units with ReLU -> 10 digits, softmax cross-entropy, stochastic gradient
//! descent with momentum. Everything happens on the GPU; a training step is one queue submission.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use common::{Options, Program, TIMEOUT};
use xent::data::{Table, batches, shuffled};
use xent::loss::Targets;
use xent::metrics::{Confusion, Evaluation, Scores};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Schedule, Sgd};
use xent::state::State;
use xent::{Gpu, Tensor};

mod common;

const PROGRAM: Program = Program {
    name: "digits",
    about: "Trains a network on handwritten digits, saves it, loads it again and tests it.",
    epochs: 80,
    files: &[
        ("--data", "the digits (default examples/data/digits.csv)"),
        ("--checkpoint", "where to save after each epoch, and to go on from if it is there"),
        ("--model", "only test this saved model (with the seed that it was trained with: the split follows from it)"),
    ],
};

const PIXELS: usize = 64;
const DIGITS: usize = 10;
const BATCH: usize = 64;

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

/// PyTorch's `Sequential(Linear(64, 128), ReLU(), Linear(128, 10))`.
fn network() -> Sequential {
    Sequential::new().linear(PIXELS, 128).relu().linear(128, DIGITS)
}

fn example(options: &Options) -> Result<()> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.csv");
    let path = options.file("--data").unwrap_or(&default);
    let digits = read(path)?;
    let mut order = shuffled(digits.rows(), options.seed)?;
    // A fifth is for testing, a tenth of the rest for validation.
    let test = order.split_off(order.len() - order.len() / 5);
    let validation = order.split_off(order.len() - order.len() / 10);
    let train = order;
    ensure!(!validation.is_empty(), "{}: too few rows to split", path.display());

    let gpu = options.gpu()?;
    let test = Set::upload(&gpu, &digits, &test)?;
    let file = match options.file("--model") {
        Some(file) => file.to_owned(),
        None => {
            let (file, picture) = (options.in_out("model.safetensors")?, options.in_out("loss.svg")?);
            let rows = [train.len(), validation.len(), test.labels.shape().iter().product::<usize>()];
            println!("{} digits to train on, {} to validate, {} to test", rows[0], rows[1], rows[2]);
            let validation = Set::upload(&gpu, &digits, &validation)?;
            let (model, [training, validation]) = fit(&gpu, &digits, &train, &validation, options)?;
            let guessing = training.iter().map(|point| (point.0, (DIGITS as f64).ln())).collect();
            let lines = [("training", training), ("validation", validation), ("guessing, ln 10", guessing)];
            // A run that had already finished has nothing to draw.
            if !lines[0].1.is_empty() {
                common::chart(&picture, "cross-entropy of handwritten digits", ["epoch", "mean loss"], &lines)?;
            }
            common::save(&gpu, &model, &file)?;
            file
        }
    };
    let model = Model::new(&gpu, &network(), 0)?;
    common::load(&model, &file)?;
    let scores = evaluate(&gpu, &model, &test)?;
    scores.confusion().into_iter().for_each(print_confusion);
    println!("test accuracy: {:.3}", scores.accuracy());
    Ok(())
}

/// Reads rows of pixels, each followed by the digit. Scales the pixels to 0..1.
fn read(path: &Path) -> Result<Table> {
    let table = Table::read_csv(path, 0)?;
    let file = path.display();
    ensure!(table.columns() == PIXELS + 1, "{file}, line 1: {} columns instead of {}", table.columns(), PIXELS + 1);
    let mut values = table.values().to_vec();
    for (line, row) in values.chunks_mut(PIXELS + 1).enumerate() {
        for (column, value) in row.iter_mut().enumerate() {
            let (at, shown) = (format!("{file}, line {}, column {}", line + 1, column + 1), format!("\"{value}\""));
            match column {
                PIXELS if !(0..DIGITS).any(|digit| *value == digit as f32) => bail!("{at}: {shown} is no digit"),
                PIXELS => {}
                _ if !(0.0..=16.0).contains(value) => bail!("{at}: {shown} is no pixel from 0 to 16"),
                _ => *value /= 16.0,
            }
        }
    }
    Ok(Table::new(PIXELS + 1, values)?)
}

/// Digits on the GPU.
struct Set {
    pixels: Tensor<f32>,
    labels: Targets,
}

impl Set {
    fn upload(gpu: &Gpu, digits: &Table, rows: &[usize]) -> Result<Self> {
        let (pixels, labels) = digits.select(rows)?.split_columns(PIXELS)?;
        Ok(Self {
            pixels: Tensor::from_slice(gpu, [rows.len(), PIXELS], pixels.values())?,
            labels: Targets::new(gpu, [rows.len()], &labels.classes(DIGITS)?, DIGITS)?,
        })
    }
}

type Curve = Vec<(f64, f64)>;

/// Trains a network, from the checkpoint if there is one. Returns the model and the losses after
/// each epoch, on the training data and on the validation data.
fn fit(gpu: &Gpu, digits: &Table, train: &[usize], validation: &Set, options: &Options) -> Result<(Model, [Curve; 2])> {
    let (epochs, seed, checkpoint) = (options.epochs, options.seed, options.file("--checkpoint"));
    let sgd = Sgd::new().lr(0.1).momentum(0.9).weight_decay(1e-3);
    let model = Model::new(gpu, &network(), seed)?;
    let steps = train.len().div_ceil(BATCH);
    let schedule = Schedule::Cosine { warm_up: 0, steps: (epochs * steps) as u64, floor: 0.0 };
    let optimization = Optimization { sgd, schedule, ..Optimization::default() };
    let mut training = Training::new(model, vec![Loss::cross_entropy()], optimization)?;
    let guessing = (DIGITS as f32).ln();
    let bar = common::bar(epochs * steps)?;
    let start = Instant::now();
    let mut curves = [Curve::new(), Curve::new()];
    let mut submissions = 0;
    let run = format!("seed {seed}, {epochs} epochs");
    let done = match checkpoint.filter(|path| path.exists()) {
        Some(path) => resume(&mut training, path, &run)?.min(epochs),
        None => 0,
    };
    bar.inc((done * steps) as u64);
    let first = Set::upload(gpu, digits, train.get(..BATCH).unwrap_or(train))?;
    training.warm_up(gpu, &first.pixels, &[first.labels])?;
    for epoch in done + 1..=epochs {
        // One upload per epoch; the mini-batches are views of it.
        let order = batches(train, train.len(), seed, epoch as u64)?.next().unwrap_or_default();
        let set = Set::upload(gpu, digits, &order)?;
        let before = gpu.counters().submissions;
        for first in (0..train.len()).step_by(BATCH) {
            let rows = first..(first + BATCH).min(train.len());
            let mut batch = gpu.batch();
            training.step(&mut batch, &set.pixels.rows(rows.clone())?, &[set.labels.rows(rows)?])?;
            batch.submit()?;
            bar.inc(1);
        }
        submissions += gpu.counters().submissions - before;
        let scores = [&set, validation].map(|set| evaluate(gpu, training.model(), set));
        let [trained, validated] = scores;
        let (trained, validated) = (trained?, validated?);
        bar.suspend(|| {
            println!(
                "epoch {epoch:3}: training loss {:.4} accuracy {:.3}, validation loss {:.4} accuracy {:.3} (guessing: {guessing:.4})",
                trained.log_loss(),
                trained.accuracy(),
                validated.log_loss(),
                validated.accuracy()
            );
        });
        for (curve, scores) in curves.iter_mut().zip([trained, validated]) {
            curve.push((epoch as f64, scores.log_loss()));
        }
        if let Some(path) = checkpoint {
            save_checkpoint(gpu, &training, epoch, &run, path)?;
        }
    }
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f32();
    println!(
        "{epochs} epochs: {} training steps in {submissions} submissions, {seconds:.1} s",
        (epochs - done) * steps
    );
    Ok((training.into_model(), curves))
}

fn save_checkpoint(gpu: &Gpu, training: &Training, epoch: usize, run: &str, path: &Path) -> Result<()> {
    let mut batch = gpu.batch();
    let mut state = training.checkpoint(&mut batch)?;
    batch.submit()?;
    let mut state = state.wait(TIMEOUT)?;
    state.set_note("epoch", epoch.to_string());
    state.set_note("run", run);
    Ok(state.save(path)?)
}

/// Resumes from a checkpoint of the same run. Returns the number of finished epochs.
fn resume(training: &mut Training, path: &Path, run: &str) -> Result<usize> {
    let state = State::load(path)?;
    let own = state.note("run").unwrap_or("nothing");
    ensure!(own == run, "{}: a checkpoint of {own}, not of {run}", path.display());
    training.resume(&state).with_context(|| format!("{}", path.display()))?;
    let epoch = state.note("epoch").and_then(|epoch| epoch.parse().ok());
    epoch.with_context(|| format!("{}: no epoch in it", path.display()))
}

fn evaluate(gpu: &Gpu, model: &Model, set: &Set) -> Result<Scores> {
    let mut evaluation = Evaluation::new(gpu, DIGITS)?.with_confusion()?;
    let mut batch = gpu.batch();
    let activations = model.forward(&mut batch, &set.pixels)?;
    evaluation.record(&mut batch, &activations.outputs()[0], &set.labels, None)?;
    let mut scores = evaluation.read(&mut batch)?;
    batch.submit()?;
    scores.wait(TIMEOUT).context("evaluation")
}

fn print_confusion(confusion: &Confusion) {
    println!("digits down, what they were taken for across:");
    println!("    {}", (0..DIGITS).map(|p| format!("{p:4}")).collect::<String>());
    for digit in 0..DIGITS {
        println!("{digit:4}{}", (0..DIGITS).map(|p| format!("{:4}", confusion.count(digit, p))).collect::<String>());
    }
}
