//! Even or odd: trains `Linear(1, 2)` with cross-entropy on six numbers, saves and loads it, and
//! evaluates it on seven others.
//!
//! A linear model cannot tell even from odd, so the accuracy is poor. The example shows every step,
//! with the same numbers as PyTorch.

use std::process::ExitCode;

use anyhow::{Context, Result};
use common::{Initial, Options, Program, TIMEOUT};
use xent::Tensor;
use xent::loss::Targets;
use xent::metrics::{Average, Evaluation, roc_auc};
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Sgd};

mod common;

const PROGRAM: Program = Program {
    name: "even_odd",
    about: "Even or odd: a linear layer and cross-entropy on six numbers; saved, loaded, and evaluated on seven others.",
    epochs: 1000,
    files: &[("--init", "a safetensors file with linear.weight and linear.bias (or weight_init and bias_init)")],
};

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

fn network(init: Option<&Initial>) -> Result<Sequential> {
    let mut linear = Linear::new(1, 2).named("linear");
    if let Some(init) = init {
        let weight = init.get(&["linear.weight", "weight_init"], 2)?;
        linear = linear.with_values(&weight, &init.get(&["linear.bias", "bias_init"], 2)?);
    }
    Ok(Sequential::new().layer(linear))
}

fn example(options: &Options) -> Result<()> {
    let init = options.file("--init").map(Initial::read).transpose()?;
    let network = network(init.as_ref())?;
    let file = options.in_out("model.safetensors")?;
    let gpu = options.gpu()?;
    let x = Tensor::from_slice(&gpu, [6, 1], &[2.0, 5.0, 8.0, 12.0, 15.0, 17.0])?;
    let labels = Targets::new(&gpu, [6], &[0, 1, 0, 0, 1, 1], 2)?;

    let model = Model::new(&gpu, &network, options.seed)?;
    let sgd = Optimization { sgd: Sgd::new().lr(0.01), ..Optimization::default() };
    let mut training = Training::new(model, vec![Loss::cross_entropy()], sgd)?;
    let bar = common::bar(options.epochs)?;
    for epoch in 1..=options.epochs {
        if epoch % 100 == 0 || epoch == options.epochs {
            let loss = common::step(&gpu, &mut training, &x, &[(&labels).into()])?[0];
            bar.suspend(|| println!("epoch {epoch:4}: loss {loss:.4}"));
        } else {
            let mut batch = gpu.batch();
            training.step(&mut batch, &x, &[(&labels).into()])?;
            batch.submit()?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    common::save(&gpu, training.model(), &file)?;
    let model = Model::new(&gpu, &network, options.seed.wrapping_add(1))?;
    common::load(&model, &file)?;

    let logits = &common::predict(&gpu, &model, &Tensor::from_slice(&gpu, [1, 1], &[3.0])?)?[0];
    let odd = 1.0 / (1.0 + (logits[0] - logits[1]).exp());
    println!("3 is odd with probability {odd:.4}: {}", if odd > 0.5 { "odd" } else { "even" });

    let test = Tensor::from_slice(&gpu, [7, 1], &[4.0, 6.0, 9.0, 11.0, 14.0, 16.0, 19.0])?;
    let test_labels = [0, 0, 1, 1, 0, 0, 1];
    let mut evaluation = Evaluation::new(&gpu, 2)?.with_confusion()?;
    let mut batch = gpu.batch();
    let logits = model.forward(&mut batch, &test)?.outputs()[0].clone();
    evaluation.record(&mut batch, &logits, &Targets::new(&gpu, [7], &test_labels, 2)?, None)?;
    let (mut scores, mut logits) = (evaluation.read(&mut batch)?, batch.read(&logits)?);
    batch.submit()?;
    let scores = scores.wait(TIMEOUT)?;
    let margins: Vec<f32> = logits.wait(TIMEOUT)?.chunks(2).map(|row| row[1] - row[0]).collect();
    let (odd, confusion) = (Average::Binary(1), scores.confusion().context("a confusion matrix was asked for")?);
    println!("on 4, 6, 9, 11, 14, 16, 19:");
    println!("accuracy  {:.4}", scores.accuracy());
    println!("precision {:.4}", confusion.precision(odd));
    println!("recall    {:.4}", confusion.recall(odd));
    println!("F1        {:.4}", confusion.f1(odd));
    println!("ROC-AUC   {:.4}", roc_auc(&margins, &test_labels.map(|label| label == 1), None)?);
    Ok(())
}
