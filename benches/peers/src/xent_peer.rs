//! xent's jobs.

use std::time::Duration;

use anyhow::Result;
use xent::nn::{Loss, Model, Sequential, Training};
use xent::{Gpu, Layout, Tensor};
use xent::linear::{LinearCrossEntropy, LinearLossRequest};
use xent::loss::{BceWithLogits, CrossEntropy, Grad, Targets};
use xent::optim::{Optimization, Sgd};

use crate::{Job, Network, Work, wait};

fn read(gpu: &Gpu, tensor: &Tensor<f32>) -> Result<Vec<f32>> {
    let mut batch = gpu.batch();
    let mut values = batch.read(tensor)?;
    batch.submit()?;
    Ok(values.wait(Duration::from_secs(60))?)
}

/// A job that records an operation, submits it and waits. Its `result` repeats this and reads the
/// values.
fn repeated(
    gpu: &Gpu,
    mut record: impl FnMut(&mut xent::Batch) -> Result<(Option<Tensor<f32>>, Tensor<f32>)> + 'static,
) -> Job {
    let (a, b) = (gpu.clone(), gpu.clone());
    let record = std::rc::Rc::new(std::cell::RefCell::new(move |gpu: &Gpu| -> Result<_> {
        let mut batch = gpu.batch();
        let out = record(&mut batch)?;
        batch.submit()?;
        wait(gpu)?;
        Ok(out)
    }));
    let again = record.clone();
    Job {
        run: Box::new(move || (record.borrow_mut())(&a).map(drop)),
        result: Box::new(move || {
            let (loss, values) = (again.borrow_mut())(&b)?;
            let loss = loss.map_or(Ok(0.0), |loss| read(&b, &loss).map(|v| v[0]))?;
            Ok((loss, read(&b, &values)?))
        }),
    }
}

pub fn job(gpu: &Gpu, work: &Work) -> Result<Job> {
    Ok(match work {
        Work::CrossEntropy(rows) => {
            let x = Tensor::from_slice(gpu, [rows.n, rows.classes], &rows.logits)?;
            let labels: Vec<i64> = rows.labels.iter().map(|&y| y.into()).collect();
            let y = Targets::new(gpu, [rows.n], &labels, rows.classes)?;
            repeated(gpu, move |batch| {
                let out = batch.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::New)?;
                let grad = out.gradient()?;
                Ok((Some(out.loss), grad))
            })
        }
        Work::LinearCrossEntropy(head) => {
            let hidden = Tensor::from_slice(gpu, [head.n, head.inputs], &head.hidden)?;
            let weight = Tensor::from_slice(gpu, [head.classes, head.inputs], &head.weight)?;
            let labels: Vec<i64> = head.labels.iter().map(|&y| y.into()).collect();
            let y = Targets::new(gpu, [head.n], &labels, head.classes)?;
            repeated(gpu, move |batch| {
                let backward = LinearLossRequest::gradients();
                let options = LinearCrossEntropy::default();
                let out = batch.linear_cross_entropy_with(&hidden, &weight, None, &y, &options, backward)?;
                Ok((Some(out.loss), out.weight_grad.unwrap()))
            })
        }
        Work::BceWithLogits(vectors) => {
            let x = Tensor::from_slice(gpu, [vectors.x.len()], &vectors.x)?;
            let y = Tensor::from_slice(gpu, [vectors.y.len()], &vectors.y)?;
            repeated(gpu, move |batch| {
                let out = batch.bce_with_logits_with(&x, &y, &BceWithLogits::default(), Grad::New)?;
                let grad = out.gradient()?;
                Ok((Some(out.loss), grad))
            })
        }
        Work::Matmul(side, matrices) => {
            let a = Tensor::from_slice(gpu, [*side, *side], &matrices.x)?;
            let b = Tensor::from_slice(gpu, [*side, *side], &matrices.y)?;
            repeated(gpu, move |batch| Ok((None, batch.matmul(Layout::Nn, &a, &b, None)?)))
        }
        Work::Sgd(vectors) => {
            let x = Tensor::from_slice(gpu, [vectors.x.len()], &vectors.x)?;
            let y = Tensor::from_slice(gpu, [vectors.y.len()], &vectors.y)?;
            let sgd = Sgd::new().lr(0.01);
            repeated(gpu, move |batch| {
                batch.sgd(&x, &y, None, &sgd)?;
                Ok((None, x.clone()))
            })
        }
        Work::Step(network) => step(gpu, network)?,
    })
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
}

fn step(gpu: &Gpu, network: &Network) -> Result<Job> {
    let [inputs, hidden, outputs] = network.sizes;
    let layers = Sequential::new().linear(inputs, hidden).relu().linear(hidden, outputs);
    let model = Model::new(gpu, &layers, 0)?;
    let values = [
        ("0.weight", transposed(&network.weights[0], hidden)),
        ("0.bias", vec![0.0; hidden]),
        ("2.weight", transposed(&network.weights[1], outputs)),
        ("2.bias", vec![0.0; outputs]),
    ];
    for (name, values) in &values {
        let mut batch = gpu.batch();
        let parameter = model.parameters().value(name)?;
        batch.upload(&parameter, &values[..])?;
        batch.submit()?;
    }
    let options = Optimization { sgd: Sgd::new().lr(network.lr), ..Optimization::default() };
    let weight = model.parameters().value("2.weight")?;
    let mut training = Training::new(model, vec![Loss::cross_entropy()], options)?;
    let x = Tensor::from_slice(gpu, [network.batch, inputs], &network.x)?;
    let labels: Vec<i64> = network.labels.iter().map(|&y| y.into()).collect();
    let y = Targets::new(gpu, [network.batch], &labels, outputs)?;
    Ok(repeated(gpu, move |batch| {
        let out = training.step(batch, &x, &[(&y).into()])?;
        Ok((out.losses.first().cloned(), weight.clone()))
    }))
}
