//! Networks against their single operations: fused layers return the same bits.

use crate::common::*;
use xent::nn::{Linear, Model, Sequential};
use xent::{Layout, Tensor};

/// Products of several sizes, including a size whose sums a GPU splits. Many values are negative, 0
/// or NaN.
#[test]
fn linear_layers_and_rectifiers() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(7);
    for (rows, inputs, hidden, outputs) in [(37, 70, 45, 6), (64, 64, 128, 10), (5, 2048, 12, 1030)] {
        let mut x = random(1, rows * inputs, 1.0);
        if rows == 37 {
            x[inputs] = f32::NAN;
        }
        let (w1, b1) = (random(2, hidden * inputs, 1.0), random(3, hidden, 1.0));
        let (w2, b2) = (random(4, outputs * hidden, 1.0), random(5, outputs, 1.0));
        let upstream = random(6, rows * outputs, 1.0);
        for gpu in devices(&gpu).iter().filter(|_| chosen()) {
            let first = Linear::new(inputs, hidden).with_values(&w1, &b1);
            let second = Linear::new(hidden, outputs).with_values(&w2, &b2);
            let model = Model::new(gpu, &Sequential::new().layer(first).relu().layer(second), 0).unwrap();
            let got = eval(gpu, |b| {
                let x = Tensor::from_slice(gpu, [rows, inputs], &x)?;
                let upstream = Tensor::from_slice(gpu, [rows, outputs], &upstream)?;
                let activations = model.forward(b, &x)?;
                model.backward(b, &activations, &[upstream])?;
                let grad = |name| model.parameters().grad(name);
                Ok([
                    activations.outputs()[0].clone(),
                    grad("0.weight")?,
                    grad("0.bias")?,
                    grad("2.weight")?,
                    grad("2.bias")?,
                ])
            });
            let want = eval(gpu, |b| {
                let x = Tensor::from_slice(gpu, [rows, inputs], &x)?;
                let upstream = Tensor::from_slice(gpu, [rows, outputs], &upstream)?;
                let w1 = Tensor::from_slice(gpu, [hidden, inputs], &w1)?;
                let w2 = Tensor::from_slice(gpu, [outputs, hidden], &w2)?;
                let (b1, b2) = (Tensor::from_slice(gpu, [hidden], &b1)?, Tensor::from_slice(gpu, [outputs], &b2)?);
                let h = b.matmul(Layout::Nt, &x, &w1, Some(&b1))?;
                let h = b.relu(&h)?;
                let y = b.matmul(Layout::Nt, &h, &w2, Some(&b2))?;
                let back = b.matmul(Layout::Nn, &upstream, &w2, None)?;
                let back = b.relu_backward(&h, &back)?;
                let g1 = b.matmul(Layout::Tn, &back, &x, None)?;
                let g2 = b.matmul(Layout::Tn, &upstream, &h, None)?;
                Ok([y, g1, b.column_sum(&back)?, g2, b.column_sum(&upstream)?])
            });
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let what = format!("{rows}x{inputs}x{hidden}x{outputs}, {:?}, output {i}", gpu.caps());
                assert!(got.iter().any(|v| *v != 0.0), "{what}: not just zeros");
                same_bits(&what, got, want);
            }
        }
    }
}
