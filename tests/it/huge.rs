//! More than 2^32 elements, for devices with the memory: `cargo test --release --test it huge --
//! --ignored`.

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, Reduction, Targets};
use xent::{Layout, Tensor};

#[test]
#[ignore = "takes 18 GB of device memory and a minute"]
fn rows_beyond_u32_elements() {
    let Some(gpu) = gpu() else { return };
    let (n, v) = (65_600_usize, 65_536_usize);
    let h: Vec<f32> = (0..n).map(|i| (i % 977) as f32 / 300.0 - 1.5).collect();
    let w: Vec<f32> = (0..v).map(|j| (j % 1009) as f32 / 300.0 - 1.6).collect();
    let y: Vec<i64> = (0..n).map(|i| (i * 7919 % v) as i64).collect();
    let hidden = Tensor::from_slice(&gpu, [n, 1], &h).unwrap();
    let weight = Tensor::from_slice(&gpu, [v, 1], &w).unwrap();
    let targets = Targets::new(&gpu, [n], &y, v).unwrap();
    let mut batch = gpu.batch();
    let logits = batch.matmul(Layout::Nt, &hidden, &weight, None).unwrap();
    say(&format!("{} logits in {} buffers", logits.len(), logits.buffers().count()));
    let options = CrossEntropy::new().reduction(Reduction::None);
    let loss = batch.cross_entropy_with(&logits, &targets, &options, Grad::InPlace).map(|out| out.loss).unwrap();
    let hidden_grad = batch.matmul(Layout::Nn, &logits, &weight, None).unwrap();
    let (mut loss, mut hidden_grad) = (batch.read(&loss).unwrap(), batch.read(&hidden_grad).unwrap());
    let shown = [0, 8191, 32_767, 32_768, 65_535, n - 1];
    let grads = shown.map(|i| batch.read(&logits.rows(i..i + 1).unwrap()).unwrap());
    batch.submit().unwrap();
    let (loss, hidden_grad) = (loss.wait(10 * TIMEOUT).unwrap(), hidden_grad.wait(TIMEOUT).unwrap());
    let reference = |i: usize| {
        let z: Vec<f64> = w.iter().map(|&w| f64::from(w * h[i])).collect();
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = z.iter().map(|z| (z - max).exp()).sum();
        let target = |j: usize| f64::from(u8::from(j as i64 == y[i]));
        let grad: Vec<f64> = z.iter().enumerate().map(|(j, z)| (z - max).exp() / sum - target(j)).collect();
        (max + sum.ln() - z[y[i] as usize], grad)
    };
    for i in (0..n).step_by(997).chain(shown) {
        let (want, grad) = reference(i);
        close(&format!("loss {i}"), &loss[i..=i], &[want], 1e-6, 0.0);
        let terms = || grad.iter().zip(&w).map(|(g, &w)| g * f64::from(w));
        // The error bound of a sequential sum of so many terms.
        let bound = v as f64 * 2f64.powi(-24) * terms().map(f64::abs).sum::<f64>();
        close(&format!("gradient of the hidden state {i}"), &hidden_grad[i..=i], &[terms().sum()], 0.0, bound);
    }
    for (i, mut grad) in shown.into_iter().zip(grads) {
        close(&format!("gradient of row {i}"), &grad.wait(TIMEOUT).unwrap(), &reference(i).1, 1e-5, 1e-12);
    }
}
