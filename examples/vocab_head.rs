//! A next-token head over a vocabulary of 16 384, trained without ever storing its logits.
//!
//! The text is the source code of two dependencies of xent (wgpu and naga; MIT or Apache 2.0),
//! which is on every machine that has built xent. Every tenth stretch of it is held out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use common::{Options, Program, TIMEOUT};
use xent::linear::{LinearCrossEntropy, LinearLossRequest};
use xent::loss::{Grad, LossRequest};
use xent::nn::{Linear, Model, Sequential};
use xent::optim::{Optimization, Optimizer, Parameters, Sgd};
use xent::{Gpu, Layout, Recorder, Tensor};

mod common;

const PROGRAM: Program = Program {
    name: "vocab_head",
    about: "Trains a next-token head over a vocabulary of 16384 tokens on source code, without storing its logits, and compares the\n\
            memory and the time of that with those of stored logits.",
    epochs: 2,
    files: &[("--text", "a text to use instead; it needs 16384 different words")],
};

/// The size of the vocabulary: the most frequent words, and token 0 for all others.
const VOCABULARY: usize = 16384;
/// The length of the fixed random vector that represents a token.
const CODE: usize = 48;
/// The number of tokens that predict the next one.
const CONTEXT: usize = 2;
const HIDDEN: usize = 64;
const BATCH: usize = 512;
/// The number of tokens to train on.
const TOKENS: usize = 128 * BATCH;

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

fn example(options: &Options) -> Result<()> {
    let text = Text::read(options.file("--text"))?;
    let gpu = options.gpu()?;
    println!(
        "text: {} tokens of {} words, {} to train on, {} held out",
        text.ids.len(),
        VOCABULARY,
        text.train.len(),
        text.held_out.len()
    );
    let unigram = text.unigram();
    let baseline = perplexity(
        text.held_out.iter().map(|&i| f64::from(-unigram[usize::from(text.ids[i])])).sum(),
        text.held_out.len(),
    );
    println!("unigram baseline: perplexity {baseline:.1}");

    let mut network = Network::new(&gpu, &unigram, options.seed)?;
    let plan = gpu.plan_linear_cross_entropy([BATCH, HIDDEN, VOCABULARY], &network.loss, true)?;
    println!("{plan}");
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut best = f64::INFINITY;
    for epoch in 1..=options.epochs {
        let start = Instant::now();
        let mut order = text.train.clone();
        rng.shuffle(&mut order);
        let bar = common::bar(order.len() / BATCH)?;
        let mut sum = 0.0;
        for batch in order.chunks_exact(BATCH) {
            sum += f64::from(network.step(&gpu, &text, batch)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let held_out = network.perplexity(&gpu, &text)?;
        let train = (sum / (order.len() / BATCH) as f64).exp();
        let seconds = start.elapsed().as_secs_f64();
        println!("epoch {epoch}: perplexity {train:.1} in training, {held_out:.1} held out ({seconds:.0} s)");
        best = best.min(held_out);
    }
    println!("held-out perplexity: {best:.1}, unigram {baseline:.1}");
    compare(&gpu)
}

fn perplexity(negative_log_likelihood: f64, tokens: usize) -> f64 {
    (negative_log_likelihood / tokens as f64).exp()
}

/// A text as token numbers.
struct Text {
    ids: Vec<u16>,
    codes: Vec<f32>,
    /// Positions of tokens to predict.
    train: Vec<usize>,
    held_out: Vec<usize>,
}

impl Text {
    fn read(file: Option<&Path>) -> Result<Self> {
        let text = match file {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?,
            None => sources()?,
        };
        let words = words(&text);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        words.iter().for_each(|word| *counts.entry(word).or_default() += 1);
        let mut frequent: Vec<_> = counts.into_iter().collect();
        frequent.sort_unstable_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        ensure!(frequent.len() >= VOCABULARY, "the text has {} different words, not {VOCABULARY}", frequent.len());
        let known: HashMap<&str, u16> =
            frequent[..VOCABULARY - 1].iter().zip(1..).map(|(&(word, _), id)| (word, id)).collect();
        let ids: Vec<u16> = words.iter().map(|word| known.get(word).copied().unwrap_or(0)).collect();
        let mut rng = fastrand::Rng::with_seed(0);
        let codes = (0..VOCABULARY * CODE).map(|_| if rng.bool() { 1.0 } else { -1.0 }).collect();
        // Every tenth stretch of 1000 tokens is held out, so that both sets span the whole text.
        let stretch = |i: &usize| (i / 1000) % 10 == 9;
        let (held_out, train): (Vec<_>, Vec<_>) = (CONTEXT..ids.len()).partition(stretch);
        let every = |positions: Vec<usize>, count: usize| {
            let step = (positions.len() / count).max(1);
            positions.into_iter().step_by(step).take(count).collect::<Vec<_>>()
        };
        let (train, held_out) = (every(train, TOKENS), every(held_out, 8 * BATCH));
        ensure!(held_out.len() == 8 * BATCH, "the text has only {} tokens", ids.len());
        Ok(Self { ids, codes, train, held_out })
    }

    /// Returns the log-probability of each word, with 1 added to every count.
    fn unigram(&self) -> Vec<f32> {
        let mut counts = vec![1.0; VOCABULARY];
        self.train.iter().for_each(|&i| counts[usize::from(self.ids[i])] += 1.0);
        let all: f64 = counts.iter().sum();
        #[expect(clippy::cast_possible_truncation, reason = "rounding is intended")]
        let log = |count: &f64| (count / all).ln() as f32;
        counts.iter().map(log).collect()
    }

    /// Returns the codes of the words before each position, and the word at each position.
    fn batch(&self, positions: &[usize]) -> (Vec<f32>, Vec<i32>) {
        let code = |i: usize| self.codes[usize::from(self.ids[i]) * CODE..][..CODE].iter().copied();
        let inputs = positions.iter().flat_map(|&i| (1..=CONTEXT).flat_map(move |back| code(i - back))).collect();
        let targets = positions.iter().map(|&i| self.ids[i].into()).collect();
        (inputs, targets)
    }
}

/// Reads the sources of wgpu and naga from cargo's own copies.
fn sources() -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = std::process::Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path", manifest])
        .output()
        .context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut files = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if ["naga", "wgpu", "wgpu-core", "wgpu-hal", "wgpu-types"].contains(&name) {
            let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
            collect(&manifest.with_file_name("src"), &mut files)?;
        }
    }
    files.sort_unstable();
    files.iter().map(|file| std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Splits a text into words and single other characters, without white space.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut start) = (Vec::new(), None);
    for (i, c) in text.char_indices() {
        match (start, c.is_alphanumeric() || c == '_') {
            (None, true) => start = Some(i),
            (Some(_), true) => {}
            (begin, false) => {
                words.extend(begin.map(|begin| &text[begin..i]));
                start = None;
                if !c.is_whitespace() {
                    words.push(&text[i..i + c.len_utf8()]);
                }
            }
        }
    }
    words.extend(start.map(|begin| &text[begin..]));
    words
}

/// A trunk that computes hidden states, and the head over the vocabulary.
struct Network {
    trunk: Model,
    head: Parameters,
    optimizers: [Optimizer; 2],
    loss: LinearCrossEntropy,
}

impl Network {
    fn new(gpu: &Gpu, unigram: &[f32], seed: u64) -> Result<Self> {
        let trunk = Sequential::new().layer(Linear::new(CONTEXT * CODE, HIDDEN)).relu();
        let trunk = Model::new(gpu, &trunk, seed)?;
        let mut rng = fastrand::Rng::with_seed(seed + 1);
        let weight: Vec<f32> = (0..VOCABULARY * HIDDEN).map(|_| 0.1 * (rng.f32() - 0.5)).collect();
        // The bias starts at the log-probabilities of the words.
        let parameters: [(&str, xent::Shape, &[f32]); 2] =
            [("weight", [VOCABULARY, HIDDEN].into(), &weight), ("bias", [VOCABULARY].into(), unigram)];
        let head = Parameters::new(gpu, &parameters)?;
        let sgd = Sgd::new().lr(0.5).momentum(0.9);
        let options = Optimization { sgd, clip_norm: Some(1.0), ..Optimization::default() };
        let optimizers = [Optimizer::new(trunk.parameters(), options.clone())?, Optimizer::new(&head, options)?];
        Ok(Self { trunk, head, optimizers, loss: LinearCrossEntropy::default() })
    }

    fn step(&mut self, gpu: &Gpu, text: &Text, positions: &[usize]) -> Result<f32> {
        let (inputs, targets) = text.batch(positions);
        let inputs = Tensor::from_slice(gpu, [positions.len(), CONTEXT * CODE], &inputs)?;
        let targets = Tensor::from_slice(gpu, [positions.len()], &targets)?;
        let mut batch = gpu.batch();
        let activations = self.trunk.forward(&mut batch, &inputs)?;
        let (weight_grad, bias_grad) = (self.head.grad("weight")?, self.head.grad("bias")?);
        let request =
            LinearLossRequest::gradients().weight_grad(Grad::Into(&weight_grad)).bias_grad(Grad::Into(&bias_grad));
        let (weight, bias) = (self.head.value("weight")?, self.head.value("bias")?);
        let hidden = &activations.outputs()[0];
        let out = batch.linear_cross_entropy_with(hidden, &weight, Some(&bias), &targets, &self.loss, request)?;
        let hidden_grad = out.hidden_grad.context("it was requested")?;
        self.trunk.backward(&mut batch, &activations, &[hidden_grad])?;
        let [trunk, head] = &mut self.optimizers;
        trunk.step(&mut batch, self.trunk.parameters())?;
        head.step(&mut batch, &self.head)?;
        let mut loss = batch.read(&out.loss)?;
        batch.submit()?;
        Ok(loss.wait(TIMEOUT)?[0])
    }

    /// Returns the perplexity of the held-out tokens.
    fn perplexity(&self, gpu: &Gpu, text: &Text) -> Result<f64> {
        let mut sum = 0.0;
        for positions in text.held_out.chunks(BATCH) {
            let (inputs, targets) = text.batch(positions);
            let inputs = Tensor::from_slice(gpu, [positions.len(), CONTEXT * CODE], &inputs)?;
            let targets = Tensor::from_slice(gpu, [positions.len()], &targets)?;
            let mut batch = gpu.batch();
            let activations = self.trunk.forward(&mut batch, &inputs)?;
            let (weight, bias) = (self.head.value("weight")?, self.head.value("bias")?);
            let hidden = &activations.outputs()[0];
            let loss = batch.linear_cross_entropy(hidden, &weight, Some(&bias), &targets, &self.loss)?;
            let mut loss = batch.read(&loss)?;
            batch.submit()?;
            sum += f64::from(loss.wait(TIMEOUT)?[0]) * positions.len() as f64;
        }
        Ok(perplexity(sum, text.held_out.len()))
    }
}

/// Compares memory and time of a loss with its gradients, without and with the logits in memory.
fn compare(gpu: &Gpu) -> Result<()> {
    const TOKENS: usize = 2048;
    let mut rng = fastrand::Rng::with_seed(0);
    let mut random = |len: usize| (0..len).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
    let hidden = Tensor::from_slice(gpu, [TOKENS, HIDDEN], &random(TOKENS * HIDDEN))?;
    let weight = Tensor::from_slice(gpu, [VOCABULARY, HIDDEN], &random(VOCABULARY * HIDDEN))?;
    let targets: Vec<i32> = (0..16384).step_by(16384 / TOKENS).collect();
    let targets = Tensor::from_slice(gpu, [TOKENS], &targets)?;
    let options = LinearCrossEntropy::default();
    let fused = |rec: &mut Recorder<'_>| -> Result<[Tensor<f32>; 3]> {
        let request = LinearLossRequest::gradients();
        let out = rec.linear_cross_entropy_with(&hidden, &weight, None, &targets, &options, request)?;
        let requested = "it was requested";
        Ok([out.loss, out.hidden_grad.context(requested)?, out.weight_grad.context(requested)?])
    };
    let materialised = |rec: &mut Recorder<'_>| -> Result<[Tensor<f32>; 3]> {
        let logits = rec.matmul(Layout::Nt, &hidden, &weight, None)?;
        let request = LossRequest::new().grad(Grad::InPlace);
        let loss = rec.cross_entropy_with(&logits, &targets, &options.loss, request)?.loss;
        let hidden_grad = rec.matmul(Layout::Nn, &logits, &weight, None)?;
        Ok([loss, hidden_grad, rec.matmul(Layout::Tn, &logits, &hidden, None)?])
    };
    println!("\nloss and gradients of {TOKENS} tokens, {HIDDEN} inputs, {VOCABULARY} classes:");
    println!("| | memory beside inputs and gradients | time |\n|---|---|---|");
    measure(gpu, "fused, without logits", fused)?;
    measure(gpu, "with logits in memory", materialised)
}

fn measure(gpu: &Gpu, name: &str, record: impl Fn(&mut Recorder<'_>) -> Result<[Tensor<f32>; 3]>) -> Result<()> {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..4 {
        gpu.trim();
        gpu.reset_peak();
        let before = gpu.counters().bytes_in_use;
        let start = Instant::now();
        let mut batch = gpu.batch();
        let [loss, hidden, weight] = record(&mut batch)?;
        let mut loss = batch.read(&loss)?;
        batch.submit()?;
        loss.wait(TIMEOUT)?;
        times.push(start.elapsed());
        let outputs = 4 * (hidden.len() + weight.len()) as u64;
        bytes = gpu.counters().peak_bytes - before - outputs;
    }
    // The first run compiles kernels.
    let time = times[1..].iter().min().context("runs")?;
    println!("| {name} | {:.1} MiB | {:.0} ms |", bytes as f64 / f64::from(1 << 20), time.as_secs_f64() * 1e3);
    Ok(())
}
