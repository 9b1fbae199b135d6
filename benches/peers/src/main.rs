//! Compares xent with its Rust peers: burn on wgpu (the same adapter) and on flex, its CPU backend,
//! and candle on the CPU.
//!
//! All get the same inputs and take turns in one process. Losses and gradients are compared before
//! anything is timed; a peer that computes something else is marked. Prints a Markdown table: the
//! median time of each, and in brackets the median of its ratios to xent's time in the same round.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [-- PART_OF_A_NAME]`;
//! `XENT_ADAPTER` selects the adapter.

mod burn_peer;
mod candle_peer;
mod xent_peer;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use xent::{Gpu, wgpu};

/// One operation of one peer, to be run repeatedly.
pub struct Job {
    /// Runs the operation once, and waits for the result.
    pub run: Box<dyn FnMut() -> Result<()>>,
    /// Runs the operation again. Returns the loss (0 without one), and values such as a gradient.
    pub result: Box<dyn FnMut() -> Result<(f32, Vec<f32>)>>,
}

/// A matrix of logits, and a class per row.
#[derive(Clone)]
pub struct Rows {
    pub n: usize,
    pub classes: usize,
    pub logits: Vec<f32>,
    pub labels: Vec<u32>,
}

/// Two vectors, such as values and targets that are 0 or 1.
#[derive(Clone)]
pub struct Vectors {
    pub x: Vec<f32>,
    pub y: Vec<f32>,
}

/// A perceptron with one hidden layer, and a mini-batch. Weights are `[inputs, outputs]`.
#[derive(Clone)]
pub struct Network {
    pub sizes: [usize; 3],
    pub batch: usize,
    pub lr: f64,
    pub x: Vec<f32>,
    pub labels: Vec<u32>,
    pub weights: [Vec<f32>; 2],
}

/// Hidden states `[n, inputs]`, a weight `[classes, inputs]`, and a class per row.
#[derive(Clone)]
pub struct Head {
    pub n: usize,
    pub inputs: usize,
    pub classes: usize,
    pub hidden: Vec<f32>,
    pub weight: Vec<f32>,
    pub labels: Vec<u32>,
}

/// The operations to compare.
#[derive(Clone)]
pub enum Work {
    CrossEntropy(Rows),
    /// Compares the loss and the gradient of the weight; computes the hidden states' gradient, too.
    LinearCrossEntropy(Head),
    BceWithLogits(Vectors),
    /// Square matrices.
    Matmul(usize, Vectors),
    Sgd(Vectors),
    Step(Network),
}

fn uniform(seed: u64, len: usize, half_width: f32) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| (rng.f32() * 2.0 - 1.0) * half_width).collect()
}

fn labels(n: usize, classes: usize) -> Vec<u32> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..n).map(|_| rng.u32(0..classes as u32)).collect()
}

fn works() -> Vec<(String, Work)> {
    let mut works = Vec::new();
    for (n, classes) in [(64, 10), (1024, 1000), (1024, 4096), (128, 32768)] {
        let rows = Rows { n, classes, logits: uniform(1, n * classes, 5.0), labels: labels(n, classes) };
        works.push((format!("cross-entropy forward + backward, {n} x {classes}"), Work::CrossEntropy(rows)));
    }
    let (n, inputs, classes) = (1024, 256, 16384);
    let head = Head {
        n,
        inputs,
        classes,
        hidden: uniform(8, n * inputs, 1.0),
        weight: uniform(9, classes * inputs, 0.3),
        labels: labels(n, classes),
    };
    let name = format!("linear + cross-entropy forward + backward, {n} x {inputs} x {classes}");
    works.push((name, Work::LinearCrossEntropy(head)));
    let vectors = |len: usize| {
        let y = labels(len, 2).into_iter().map(|y| y as f32).collect();
        Vectors { x: uniform(2, len, 5.0), y }
    };
    works.push(("BCE with logits forward + backward, 1M".to_owned(), Work::BceWithLogits(vectors(1 << 20))));
    for side in [512, 1024] {
        let matrices = Vectors { x: uniform(3, side * side, 1.0), y: uniform(4, side * side, 1.0) };
        works.push((format!("matmul {side} x {side} x {side}"), Work::Matmul(side, matrices)));
    }
    works.push(("SGD step, 4M parameters".to_owned(), Work::Sgd(vectors(1 << 22))));
    let sizes = [64, 128, 10];
    let network = Network {
        sizes,
        batch: 64,
        lr: 0.1,
        x: uniform(5, 64 * 64, 1.0),
        labels: labels(64, 10),
        weights: [uniform(6, 64 * 128, 0.1), uniform(7, 128 * 10, 0.1)],
    };
    works.push(("training step, 64-128-10, batch of 64".to_owned(), Work::Step(network)));
    works
}

/// Describes how a peer's result differs from xent's, if by more than 1e-4 of the largest value.
fn difference(ours: &(f32, Vec<f32>), theirs: &(f32, Vec<f32>)) -> Option<String> {
    if ours.1.len() != theirs.1.len() {
        return Some(format!("{} values, not {}", theirs.1.len(), ours.1.len()));
    }
    let largest = ours.1.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    // `f32::max` would ignore NaN.
    let larger = |m: f32, v: f32| if v.is_nan() || v > m { v } else { m };
    let worst = ours.1.iter().zip(&theirs.1).fold(0.0f32, |m, (a, b)| larger(m, (a - b).abs()));
    let loss = (ours.0 - theirs.0).abs();
    match (worst <= 1e-4 * largest, loss <= 1e-4 * ours.0.abs().max(1.0)) {
        (false, _) => Some(format!("a value differs by {worst} where the largest is {largest}")),
        (_, false) => Some(format!("the loss is {}, not {}", theirs.0, ours.0)),
        (true, true) => None,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn milliseconds(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

fn main() -> Result<()> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let gpu = Gpu::headless()?;
    let adapter = gpu.device().adapter_info();
    let burn_wgpu = burn_peer::wgpu(adapter.device_type);
    let burn_flex = burn_peer::flex();
    let peers = ["xent", "burn 0.22, wgpu", "burn 0.22, flex", "candle 0.11, CPU"];
    let mut notes = Vec::new();
    println!("{}; {} CPU threads\n", gpu.describe(), std::thread::available_parallelism()?);
    println!("| | {} |\n|---|---|---|---|---|", peers.join(" | "));
    for (name, work) in works().into_iter().filter(|(name, _)| name.contains(&filter)) {
        let mut jobs = [
            xent_peer::job(&gpu, &work)?,
            burn_peer::job(&burn_wgpu, &work),
            burn_peer::job(&burn_flex, &work),
            candle_peer::job(&work)?,
        ];
        // Compiles, tunes and warms up.
        for job in &mut jobs {
            (job.run)()?;
        }
        let mut results = jobs.iter_mut().map(|job| (job.result)()).collect::<Result<Vec<_>>>()?.into_iter();
        let ours = results.next().expect("four jobs");
        let marks: Vec<_> = std::iter::once(None).chain(results.map(|theirs| difference(&ours, &theirs))).collect();
        for (mark, peer) in marks.iter().zip(peers) {
            notes.extend(mark.as_ref().map(|mark| format!("{name}, {peer}: {mark}")));
        }
        // If two of the three peers compute something else, xent may be the one that is wrong.
        ensure!(marks.iter().flatten().count() < 2, "{name}: {}", notes.join("; "));
        let mut times = vec![Vec::new(); jobs.len()];
        let start = Instant::now();
        while times[0].len() < 5
            || (start.elapsed() < Duration::from_secs(30) && times[0].len() < 15)
            || (start.elapsed() < Duration::from_secs(4) && times[0].len() < 200) {
            for (job, times) in jobs.iter_mut().zip(&mut times) {
                let start = Instant::now();
                (job.run)()?;
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let cell = |i: usize| {
            let time = milliseconds(median(times[i].clone()));
            let ratio = median(times[i].iter().zip(&times[0]).map(|(a, b)| a / b).collect());
            let mark = if marks[i].is_some() { " (!)" } else { "" };
            if i == 0 { time } else { format!("{time} ({ratio:.1}x){mark}") }
        };
        println!("| {name} | {} |", (0..jobs.len()).map(cell).collect::<Vec<_>>().join(" | "));
    }
    for note in notes {
        println!("\n(!) {note}");
    }
    Ok(())
}

/// Waits for all submitted work.
pub fn wait(gpu: &Gpu) -> Result<()> {
    gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
    Ok(())
}
