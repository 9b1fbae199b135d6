//! Binary cross-entropy: the loss of four probabilities, and a logistic regression on 100 points.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use common::{Initial, Options, Program, TIMEOUT};
use xent::loss::{Bce, Reduction};
use xent::metrics::{Average, Confusion, roc_auc};
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Sgd};
use xent::{Gpu, Tensor};

mod common;

const PROGRAM: Program = Program {
    name: "binary",
    about: "Binary cross-entropy: what it is on four probabilities, and a logistic regression on 100 points.",
    epochs: 100,
    files: &[("--init", "a safetensors file with linear.weight and linear.bias (or weight_init, bias_init, X and y)")],
};

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

/// Points, and their labels: 1 if the point lies above 0, apart from some noise.
#[derive(Clone)]
struct Points {
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Points {
    fn random(count: usize, rng: &mut fastrand::Rng) -> Self {
        let mut noise = || (0..3).map(|_| rng.f32() - 0.5).sum::<f32>();
        let x: Vec<f32> = (0..count).map(|_| noise() * 3.0).collect();
        let y = x.iter().map(|x| f32::from(u8::from(x + 0.5 * noise() > 0.0))).collect();
        Self { x, y }
    }

    fn upload(&self, gpu: &Gpu) -> Result<[Tensor<f32>; 2]> {
        let shape = [self.x.len(), 1];
        Ok([Tensor::from_slice(gpu, shape, &self.x)?, Tensor::probabilities(gpu, shape, &self.y)?])
    }
}

fn example(options: &Options) -> Result<()> {
    let init = options.file("--init").map(Initial::read).transpose()?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let (mut train, mut validation) = (Points::random(100, &mut rng), Points::random(50, &mut rng));
    let mut linear = Linear::new(1, 1).named("linear");
    if let Some(init) = &init {
        let weight = init.get(&["linear.weight", "weight_init"], 1)?;
        linear = linear.with_values(&weight, &init.get(&["linear.bias", "bias_init"], 1)?);
        if let (Some(x), Some(y)) = (init.find(&["X"])?, init.find(&["y"])?) {
            ensure!(x.len() == y.len(), "the file has {} points and {} targets", x.len(), y.len());
            train = Points { x, y };
            // Random points cannot validate a model of the file's points.
            validation = train.clone();
        }
    }
    let gpu = options.gpu()?;
    four_probabilities(&gpu)?;

    let network = Sequential::new().layer(linear).sigmoid();
    let model = Model::new(&gpu, &network, options.seed)?;
    let sgd = Optimization { sgd: Sgd::new().lr(0.01), ..Optimization::default() };
    let mut training = Training::new(model, vec![Loss::bce()], sgd)?;
    let ([x, y], [vx, vy]) = (train.upload(&gpu)?, validation.upload(&gpu)?);
    let bar = common::bar(options.epochs)?;
    let (mut losses, mut validation_losses) = (Vec::new(), Vec::new());
    for epoch in 1..=options.epochs {
        let loss = common::step(&gpu, &mut training, &x, &[(&y).into()])?[0];
        let validation_loss = evaluate(&gpu, training.model(), &vx, &vy)?.0;
        losses.push((epoch as f64, f64::from(loss)));
        validation_losses.push((epoch as f64, f64::from(validation_loss)));
        if epoch % 10 == 0 {
            bar.suspend(|| println!("epoch {epoch:3}: loss {loss:.4}, validation loss {validation_loss:.4}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    let file = options.in_out("model.safetensors")?;
    common::save(&gpu, training.model(), &file)?;
    let picture = options.in_out("loss.svg")?;
    let lines = [("training", losses), ("validation", validation_losses)];
    common::chart(&picture, "binary cross-entropy", ["epoch", "mean loss"], &lines)?;

    let model = Model::new(&gpu, &network, options.seed.wrapping_add(1))?;
    common::load(&model, &file)?;
    let (loss, probabilities) = evaluate(&gpu, &model, &vx, &vy)?;
    let targets: Vec<usize> = validation.y.iter().map(|&y| usize::from(y > 0.5)).collect();
    let predicted: Vec<usize> = probabilities.iter().map(|&p| usize::from(p > 0.5)).collect();
    let confusion = Confusion::of(2, &targets, &predicted, None)?;
    let positive: Vec<bool> = targets.iter().map(|&target| target == 1).collect();
    let seen = if validation.x == train.x { "the file's" } else { "new" };
    println!("on {} {seen} points, as loaded:", targets.len());
    println!("loss      {loss:.4}");
    println!("accuracy  {:.4}", confusion.accuracy());
    println!("precision {:.4}", confusion.precision(Average::Binary(1)));
    println!("recall    {:.4}", confusion.recall(Average::Binary(1)));
    println!("F1        {:.4}", confusion.f1(Average::Binary(1)));
    println!("ROC-AUC   {:.4}", roc_auc(&probabilities, &positive, None)?);
    Ok(())
}

fn evaluate(gpu: &Gpu, model: &Model, x: &Tensor<f32>, y: &Tensor<f32>) -> Result<(f32, Vec<f32>)> {
    let mut batch = gpu.batch();
    let probabilities = model.forward(&mut batch, x)?.outputs()[0].clone();
    let loss = batch.bce(&probabilities, y, &Bce::default())?;
    let (mut loss, mut probabilities) = (batch.read(&loss)?, batch.read(&probabilities)?);
    batch.submit()?;
    Ok((loss.wait(TIMEOUT)?[0], probabilities.wait(TIMEOUT)?))
}

/// Prints the loss of four probabilities with every reduction.
fn four_probabilities(gpu: &Gpu) -> Result<()> {
    let p = Tensor::probabilities(gpu, [4], &[0.9, 0.1, 0.8, 0.2])?;
    let y = Tensor::probabilities(gpu, [4], &[1.0, 0.0, 1.0, 0.0])?;
    let mut batch = gpu.batch();
    let mut tickets = Vec::new();
    for (name, reduction) in [("none", Reduction::None), ("mean", Reduction::Mean), ("sum", Reduction::Sum)] {
        let loss = batch.bce(&p, &y, &Bce::new().reduction(reduction))?;
        tickets.push((name, batch.read(&loss)?));
    }
    batch.submit()?;
    println!("BCE of 0.9, 0.1, 0.8, 0.2 against 1, 0, 1, 0:");
    for (name, mut ticket) in tickets {
        let losses: Vec<String> = ticket.wait(TIMEOUT)?.iter().map(|loss| format!("{loss:.4}")).collect();
        println!("  {name}: {}", losses.join(", "));
    }
    Ok(())
}
