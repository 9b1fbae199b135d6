//! Explains cross-entropy on three rows of logits: their loss, and the effect of class weights and
//! label smoothing.

use std::process::ExitCode;

use anyhow::Result;
use common::{Options, Program, TIMEOUT};
use xent::loss::{CrossEntropy, LossRequest, Reduction, Targets};
use xent::{Tensor, Weights};

mod common;

const PROGRAM: Program = Program {
    name: "cross_entropy",
    about: "What cross-entropy is: three rows of logits, their loss, and what weights and smoothing do to it.",
    epochs: 1,
    files: &[],
};

const LOGITS: [[f32; 4]; 3] =
    [[0.3703, -0.1607, -0.7473, -2.2135], [0.6929, -0.2042, -0.7660, -0.3613], [-0.3363, 0.6417, 0.3103, 0.3132]];
const LABELS: [i64; 3] = [0, 1, 2];

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

fn example(options: &Options) -> Result<()> {
    let gpu = options.gpu()?;
    let logits = Tensor::from_slice(&gpu, [3, 4], LOGITS.as_flattened())?;
    let labels = Targets::new(&gpu, [3], &LABELS, 4)?;

    let mean = CrossEntropy::default();
    let rows = CrossEntropy::new().reduction(Reduction::None);
    // Class 2 is rare: its rows count four times.
    let weighted = CrossEntropy::new().weight(Weights::from([1.0, 1.0, 4.0, 1.0]));
    let smoothed = CrossEntropy::new().label_smoothing(0.1);

    let mut batch = gpu.batch();
    let request = LossRequest::new().statistics();
    let out = batch.cross_entropy_with(&logits, &labels, &mean, request)?;
    let mut losses = Vec::new();
    for options in [&rows, &weighted, &smoothed] {
        let loss = batch.cross_entropy(&logits, &labels, options)?;
        losses.push(batch.read(&loss)?);
    }
    let statistics = out.statistics.expect("they were asked for");
    let mut mean = batch.read(&out.loss)?;
    let (mut predicted, mut log_probs) = (batch.read(&statistics.predicted)?, batch.read(&statistics.target_log_prob)?);
    batch.submit()?;

    let (predicted, log_probs) = (predicted.wait(TIMEOUT)?, log_probs.wait(TIMEOUT)?);
    let rows = losses[0].wait(TIMEOUT)?;
    println!("row  label  predicted  probability of the label  loss");
    for row in 0..3 {
        println!("{row:3}  {:5}  {:9}  {:24.4}  {:.4}", LABELS[row], predicted[row], log_probs[row].exp(), rows[row]);
    }
    println!("loss: {:.4}", mean.wait(TIMEOUT)?[0]);
    println!("random guessing among 4 classes costs ln 4 = {:.4}; certainty that is right costs 0", 4f32.ln());
    println!("with class 2 counted four times: {:.4}", losses[1].wait(TIMEOUT)?[0]);
    println!("with 0.1 of each label spread over all classes: {:.4}", losses[2].wait(TIMEOUT)?[0]);
    Ok(())
}
