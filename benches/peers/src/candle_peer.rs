//! candle's jobs, on the CPU.

use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use candle_nn::{Optimizer, SGD, loss};

use crate::{Job, Network, Work};

/// A job that computes an operation. Its `result` computes again and reads the values.
fn repeated(compute: impl FnMut() -> Result<(Option<Tensor>, Tensor)> + 'static) -> Job {
    let compute = std::rc::Rc::new(std::cell::RefCell::new(compute));
    let again = compute.clone();
    Job {
        run: Box::new(move || (compute.borrow_mut())().map(drop)),
        result: Box::new(move || {
            let (loss, tensor) = (again.borrow_mut())()?;
            let loss = loss.map_or(Ok(0.0), |loss| loss.to_scalar::<f32>())?;
            Ok((loss, tensor.flatten_all()?.to_vec1()?))
        }),
    }
}

pub fn job(work: &Work) -> Result<Job> {
    let device = Device::Cpu;
    Ok(match work.clone() {
        Work::CrossEntropy(rows) => {
            let x = Var::from_vec(rows.logits, (rows.n, rows.classes), &device)?;
            let y = Tensor::from_vec(rows.labels, rows.n, &device)?;
            repeated(move || {
                let loss = loss::cross_entropy(&x, &y)?;
                let grads = loss.backward()?;
                Ok((Some(loss), grads.get(&x).expect("a gradient").clone()))
            })
        }
        Work::LinearCrossEntropy(head) => {
            let hidden = Var::from_vec(head.hidden, (head.n, head.inputs), &device)?;
            let weight = Var::from_vec(head.weight, (head.classes, head.inputs), &device)?;
            let y = Tensor::from_vec(head.labels, head.n, &device)?;
            repeated(move || {
                let loss = loss::cross_entropy(&hidden.matmul(&weight.t()?)?, &y)?;
                let grads = loss.backward()?;
                Ok((Some(loss), grads.get(&weight).expect("a gradient").clone()))
            })
        }
        Work::BceWithLogits(vectors) => {
            let len = vectors.x.len();
            let x = Var::from_vec(vectors.x, len, &device)?;
            let y = Tensor::from_vec(vectors.y, len, &device)?;
            repeated(move || {
                let loss = loss::binary_cross_entropy_with_logit(&x, &y)?;
                let grads = loss.backward()?;
                Ok((Some(loss), grads.get(&x).expect("a gradient").clone()))
            })
        }
        Work::Matmul(side, matrices) => {
            let a = Tensor::from_vec(matrices.x, (side, side), &device)?;
            let b = Tensor::from_vec(matrices.y, (side, side), &device)?;
            repeated(move || Ok((None, a.matmul(&b)?)))
        }
        Work::Sgd(vectors) => {
            let len = vectors.x.len();
            let x = Var::from_vec(vectors.x, len, &device)?;
            let grad = Tensor::from_vec(vectors.y, len, &device)?;
            repeated(move || {
                x.set(&x.sub(&(&grad * 0.01)?)?)?;
                Ok((None, x.as_tensor().clone()))
            })
        }
        Work::Step(network) => step(&network, &device)?,
    })
}

fn step(network: &Network, device: &Device) -> Result<Job> {
    let [inputs, hidden, outputs] = network.sizes;
    let x = Tensor::from_slice(&network.x, (network.batch, inputs), device)?;
    let y = Tensor::from_slice(&network.labels, network.batch, device)?;
    let w1 = Var::from_slice(&network.weights[0], (inputs, hidden), device)?;
    let b1 = Var::from_vec(vec![0.0f32; hidden], hidden, device)?;
    let w2 = Var::from_slice(&network.weights[1], (hidden, outputs), device)?;
    let b2 = Var::from_vec(vec![0.0f32; outputs], outputs, device)?;
    let mut sgd = SGD::new(vec![w1.clone(), b1.clone(), w2.clone(), b2.clone()], network.lr)?;
    Ok(repeated(move || {
        let hidden = x.matmul(&w1)?.broadcast_add(&b1)?.relu()?;
        let logits = hidden.matmul(&w2)?.broadcast_add(&b2)?;
        let loss = loss::cross_entropy(&logits, &y)?;
        sgd.backward_step(&loss)?;
        Ok((Some(loss), w2.t()?.contiguous()?))
    }))
}
