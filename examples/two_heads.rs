//! Two heads on the same input, a classifier and a regression, trained together: BCE + MSE.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use common::{Initial, Options, Program};
use xent::Tensor;
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Sgd};

mod common;

const PROGRAM: Program = Program {
    name: "two_heads",
    about: "Two heads on the same input, one that classifies and one that measures, trained together: BCE + MSE.",
    epochs: 100,
    files: &[(
        "--init",
        "a safetensors file with cls.weight, cls.bias, reg.weight, reg.bias (or weight_cls_init and so on, X, y, y_reg)",
    )],
};

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

fn example(options: &Options) -> Result<()> {
    let init = options.file("--init").map(Initial::read).transpose()?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut noise = || (0..3).map(|_| rng.f32() - 0.5).sum::<f32>();
    // Labels: 1 above 0, apart from some noise. Regression targets: about 2 x + 1.
    let mut x: Vec<f32> = (0..100).map(|_| noise() * 3.0).collect();
    let mut y: Vec<f32> = x.iter().map(|x| f32::from(u8::from(x + 0.5 * noise() > 0.0))).collect();
    let mut y_reg: Vec<f32> = x.iter().map(|x| 2.0 * x + 1.0 + 0.2 * noise()).collect();
    let mut heads = ["cls", "reg"].map(|_| Linear::new(1, 1).named(""));
    if let Some(init) = &init {
        for (name, head) in ["cls", "reg"].into_iter().zip(&mut heads) {
            let weight = init.get(&[&format!("{name}.weight"), &format!("weight_{name}_init")], 1)?;
            let bias = init.get(&[&format!("{name}.bias"), &format!("bias_{name}_init")], 1)?;
            *head = head.clone().with_values(&weight, &bias);
        }
        if let (Some(own_x), Some(own_y), Some(own_y_reg)) =
            (init.find(&["X"])?, init.find(&["y"])?, init.find(&["y_reg"])?)
        {
            (x, y, y_reg) = (own_x, own_y, own_y_reg);
            ensure!(x.len() == y.len() && x.len() == y_reg.len(), "the file's X, y and y_reg differ in length");
        }
    }
    let [cls, reg] = heads;
    let (cls, reg) = (Sequential::new().layer(cls).sigmoid(), Sequential::new().layer(reg));
    let gpu = options.gpu()?;
    let model = Model::with_heads(&gpu, &Sequential::new(), &[("cls", &cls), ("reg", &reg)], options.seed)?;
    let sgd = Optimization { sgd: Sgd::new().lr(0.01), ..Optimization::default() };
    let mut training = Training::new(model, vec![Loss::bce(), Loss::mse()], sgd)?;
    let shape = [x.len(), 1];
    let (tx, ty, tr) = (
        Tensor::from_slice(&gpu, shape, &x)?,
        Tensor::probabilities(&gpu, shape, &y)?,
        Tensor::from_slice(&gpu, shape, &y_reg)?,
    );
    let bar = common::bar(options.epochs)?;
    let mut lines = [("BCE", Vec::new()), ("MSE", Vec::new()), ("sum", Vec::new())];
    for epoch in 1..=options.epochs {
        let losses = common::step(&gpu, &mut training, &tx, &[(&ty).into(), (&tr).into()])?;
        let [bce, mse] = losses[..] else { unreachable!("two heads") };
        for ((_, points), loss) in lines.iter_mut().zip([bce, mse, bce + mse]) {
            points.push((epoch as f64, f64::from(loss)));
        }
        if epoch % 10 == 0 {
            bar.suspend(|| println!("epoch {epoch:3}: BCE {bce:.4} + MSE {mse:.4} = {:.4}", bce + mse));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let file = options.in_out("model.safetensors")?;
    common::save(&gpu, training.model(), &file)?;
    common::chart(&options.in_out("loss.svg")?, "two heads", ["epoch", "mean loss"], &lines)?;
    let outputs = common::predict(&gpu, training.model(), &Tensor::from_slice(&gpu, [2, 1], &[-1.0, 1.0])?)?;
    for (i, x) in [-1.0, 1.0].into_iter().enumerate() {
        println!("x = {x:4}: positive with probability {:.4}, value {:.4}", outputs[0][i], outputs[1][i]);
    }
    Ok(())
}
