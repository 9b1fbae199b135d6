//! Prints the time of each kernel in a training step of the digits network, as measured by the GPU.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Options, Program, TIMEOUT};
use xent::loss::Targets;
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Sgd};
use xent::{Gpu, Tensor};

mod common;

const PROGRAM: Program = Program {
    name: "profile",
    about: "Where the time of a training step goes, as the GPU measures it: the digits network, kernel by kernel.\n\
            --epochs is the number of steps here; no file is written.",
    epochs: 1000,
    files: &[],
};

const BATCH: usize = 64;

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

fn example(options: &Options) -> Result<()> {
    let gpu = options.gpu()?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let pixels: Vec<f32> = (0..BATCH * 64).map(|_| rng.f32()).collect();
    let labels: Vec<u8> = (0..BATCH).map(|_| rng.u8(0..10)).collect();
    let x = Tensor::from_slice(&gpu, [BATCH, 64], &pixels)?;
    let y = Targets::new(&gpu, [BATCH], &labels, 10)?;
    let model = Model::new(&gpu, &Sequential::new().linear(64, 128).relu().linear(128, 10), options.seed)?;
    let sgd = Sgd::new().lr(0.01).momentum(0.9);
    let mut training = Training::new(model, vec![Loss::cross_entropy()], Optimization { sgd, ..Default::default() })?;

    // The first step compiles the kernels, unless another process left them in the driver's cache.
    let steps = options.epochs;
    let first = plain(&gpu, &mut training, &x, &y, 1)?;
    println!("first step               {:7.1} ms, {} kernels", micros(first) / 1e3, gpu.counters().kernels_compiled);
    plain(&gpu, &mut training, &x, &y, 20)?;
    // Both measurements alternate, so that they see the machine in the same state; medians are
    // reported.
    let (mut walls, mut kernels): (Vec<Duration>, Vec<Vec<_>>) = (Vec::new(), Vec::new());
    for _ in 0..steps.min(50) {
        walls.push(plain(&gpu, &mut training, &x, &y, steps.div_ceil(50))?);
        let mut batch = gpu.batch();
        batch.profile()?;
        training.step(&mut batch, &x, &[(&y).into()])?;
        let mut times = batch.times()?;
        batch.submit()?;
        kernels.push(times.wait(TIMEOUT)?);
    }
    println!("kernel                      time");
    let mut sum = Duration::ZERO;
    for (i, kernel) in kernels[0].iter().enumerate() {
        let time = median(kernels.iter().map(|step| step[i].time).collect());
        sum += time;
        println!("{:24} {:7.1} us", kernel.label, micros(time));
    }
    let wall = median(walls);
    println!("sum of the kernels       {:7.1} us", micros(sum));
    println!("a step, by the clock     {:7.1} us, {:.2} times the kernels", micros(wall), micros(wall) / micros(sum));
    Ok(())
}

/// Returns the time per step when steps follow each other without waiting.
fn plain(gpu: &Gpu, training: &mut Training, x: &Tensor<f32>, y: &Targets, steps: usize) -> Result<Duration> {
    let start = Instant::now();
    let mut last = None;
    for _ in 0..steps {
        let mut batch = gpu.batch();
        let out = training.step(&mut batch, x, &[y.into()])?;
        last = Some(batch.read(&out.losses[0])?);
        batch.submit()?;
    }
    if let Some(mut last) = last {
        last.wait(TIMEOUT)?;
    }
    Ok(start.elapsed() / u32::try_from(steps)?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
