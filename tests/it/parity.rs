//! Every kernel against its counterpart in `xent::cpu`, with both families, at sizes that are not
//! multiples of a block, tile or quad.
//!
//! Tolerances follow from the arithmetic: an `f32` sum of n terms in blocks is accurate to a few
//! sqrt(n) roundings, and the elementary functions are accurate to 3 ulp; 1e-6 relative covers both
//! here. Absolute parts bound cancellation.

use crate::common::*;
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::optim::{Momentum, Sgd};
use xent::{Caps, Family, Gpu, Layout, Tensor, cpu};

const REDUCTIONS: [Reduction; 4] = [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum];

/// Shapes of logits: rows of all lengths at which plans differ, not multiples of 4, with one
/// element, empty, and with inner dimensions.
const ROWS: &[&[usize]] = &[
    &[1],
    &[7],
    &[1, 1],
    &[5, 1],
    &[7, 13],
    &[64, 10],
    &[3, 32],
    &[4, 33],
    &[9, 255],
    &[3, 1000],
    &[2, 1024],
    &[3, 1025],
    &[2, 4099],
    &[2000, 3],
    &[2, 3, 4, 5],
    &[3, 40, 7],
    &[2, 3, 2, 2, 2, 2, 2],
    &[0, 5],
    &[5, 0],
    &[4, 3, 0],
];

const LENGTHS: &[usize] = &[0, 1, 3, 4, 255, 1024, 1025, 10_007, 1_100_001];

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn targets_of(shape: &[usize], seed: u64) -> (Vec<usize>, Vec<i64>) {
    let mut dims = shape.to_vec();
    let classes = dims.remove(usize::from(dims.len() > 1));
    let mut targets = labels(seed, dims.iter().product(), classes.max(1));
    // Some targets are ignored, but never the first.
    for target in targets.iter_mut().skip(1).step_by(5) {
        *target = -100;
    }
    if classes == 0 {
        targets.fill(-100);
    }
    (dims, targets)
}

fn upload(gpu: &Gpu, dims: &[usize], targets: &[i64], classes: usize) -> Targets {
    Targets::new(gpu, dims, targets, classes).unwrap()
}

/// Returns upstream gradients for a reduction: none, a scalar, and one for each loss.
fn upstreams(reduction: Reduction, losses: &[usize]) -> Vec<Option<(Vec<usize>, Vec<f32>)>> {
    let mut all = vec![None, Some((vec![], vec![-1.7]))];
    if reduction == Reduction::None {
        all.push(Some((losses.to_vec(), random(5, losses.iter().product(), 2.0))));
    }
    all
}

/// Returns the largest magnitude of a gradient's coefficients, to which errors of cancelling terms
/// are relative.
fn largest(upstream: Option<&(Vec<usize>, Vec<f32>)>) -> f64 {
    upstream.map_or(1.0, |(_, values)| values.iter().fold(0.0, |m, &v| f64::from(v.abs()).max(m)))
}

/// Rows held in registers, and rows too long for registers, with the class statistics, which take
/// workgroup memory of their own.
#[test]
fn long_rows() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for shape in [[2, 1500], [3, 8192], [2, 9001], [2, 20_000], [2, 32_700]] {
            let (dims, targets) = targets_of(&shape, 3);
            let logits = random(2, shape.iter().product(), 4.0);
            let y = upload(&gpu, &dims, &targets, shape[1]);
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            let request = LossRequest::new().grad(Grad::New).statistics();
            for options in [CrossEntropy::default(), CrossEntropy::new().label_smoothing(0.1)] {
                let [loss, grad] = eval(&gpu, |b| {
                    let out = b.cross_entropy_with(&x, &y, &options, request)?;
                    Ok([out.loss.clone(), out.gradient()?])
                });
                let want = cpu::cross_entropy_backward((&logits, &shape), &targets, &options, None).unwrap();
                let what = format!("{shape:?} {:?} {options:?}", gpu.caps().family);
                close(&format!("loss {what}"), &loss, &want.loss, 1e-6, 1e-6);
                close(&format!("grad {what}"), &grad, &want.grad, 2e-6, 1e-9);
            }
        }
    }
}

#[test]
fn cross_entropy_and_nll() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    for gpu in families(&gpu) {
        let spread = [(&[6, 50][..], 400.0), (&[6, 50], 1e4)];
        let cases = ROWS.iter().map(|s| (*s, 4.0)).chain(spread);
        for (shape, spread) in cases.filter(|_| chosen()) {
            let classes = shape[usize::from(shape.len() > 1)];
            let (dims, targets) = targets_of(shape, 3);
            let logits = random(2, shape.iter().product(), spread);
            let y = upload(&gpu, &dims, &targets, classes);
            for reduction in REDUCTIONS {
                let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
                let (ce, nll) = (CrossEntropy::new().reduction(reduction), Nll::new().reduction(reduction));
                for upstream in upstreams(reduction, &dims) {
                    let what =
                        format!("{shape:?} x{spread} {reduction:?} {:?} {:?}", upstream.is_some(), gpu.caps().family);
                    let g = upstream.as_ref().map(|(s, v)| Tensor::from_slice(&gpu, &s[..], v).unwrap());
                    let host = upstream.as_ref().map(|(_, v)| f64s(v));
                    let [loss, grad, forward] = eval(&gpu, |b| {
                        let out =
                            b.cross_entropy_with(&x, &y, &ce, LossRequest::new().grad(Grad::New).upstream(g.as_ref()))?;
                        Ok([out.loss.clone(), out.gradient()?, b.cross_entropy(&x, &y, &ce)?])
                    });
                    let want = cpu::cross_entropy_backward((&logits, shape), &targets, &ce, host.as_deref()).unwrap();
                    same_bits(&what, &loss, &forward);
                    close(&format!("loss {what}"), &loss, &want.loss, 1e-6, 2e-7 * f64::from(spread));
                    close(&format!("grad {what}"), &grad, &want.grad, 2e-6, 2e-7 * largest(upstream.as_ref()));

                    let in_place = Tensor::from_slice(&gpu, shape, &logits).unwrap();
                    let [loss_in_place, grad_in_place] = eval(&gpu, |b| {
                        let loss = b
                            .cross_entropy_with(
                                &in_place,
                                &y,
                                &ce,
                                LossRequest::new().grad(Grad::InPlace).upstream(g.as_ref()),
                            )?
                            .loss;
                        Ok([loss, in_place.clone()])
                    });
                    same_bits(&format!("loss in place {what}"), &loss_in_place, &loss);
                    same_bits(&format!("grad in place {what}"), &grad_in_place, &grad);

                    let [loss, grad, forward] = eval(&gpu, |b| {
                        let out = b.nll_with(&x, &y, &nll, LossRequest::new().grad(Grad::New).upstream(g.as_ref()))?;
                        Ok([out.loss.clone(), out.gradient()?, b.nll(&x, &y, &nll)?])
                    });
                    let want = cpu::nll_backward((&logits, shape), &targets, &nll, host.as_deref()).unwrap();
                    same_bits(&what, &loss, &forward);
                    let in_place = Tensor::from_slice(&gpu, shape, &logits).unwrap();
                    let [loss_in_place, grad_in_place] = eval(&gpu, |b| {
                        let request = LossRequest::new().grad(Grad::InPlace).upstream(g.as_ref());
                        Ok([b.nll_with(&in_place, &y, &nll, request)?.loss, in_place.clone()])
                    });
                    same_bits(&format!("nll in place {what}"), &loss_in_place, &loss);
                    same_bits(&format!("nll grad in place {what}"), &grad_in_place, &grad);
                    close(&format!("nll {what}"), &loss, &want.loss, 1e-6, 2e-7 * f64::from(spread));
                    close(&format!("nll grad {what}"), &grad, &want.grad, 1e-6, 0.0);
                }
            }
        }
    }
}

/// Returns no class weights, positive class weights, and class weights with a 0.
fn class_weights(classes: usize) -> Vec<Option<xent::Weights>> {
    let mut weights: Vec<f32> = unit(7, classes).iter().map(|w| w + 0.25).collect();
    let positive = weights.clone();
    if classes > 2 {
        weights[1] = 0.0;
    }
    vec![None, Some(positive.into()), Some(weights.into())]
}

#[test]
fn cross_entropy_with_weights_smoothing_and_probabilities() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(83);
    for gpu in families(&gpu) {
        for &shape in ROWS {
            let classes = shape[usize::from(shape.len() > 1)];
            let len: usize = shape.iter().product();
            let (dims, targets) = targets_of(shape, 3);
            let mut logits = random(2, len, 4.0);
            if len > 3 {
                // A masked class, whose coefficient of 0 multiplies an infinity.
                logits[len / 2] = f32::NEG_INFINITY;
            }
            let mut probabilities = unit(4, len);
            for (q, x) in probabilities.iter_mut().zip(&logits) {
                *q = if x.is_infinite() { 0.0 } else { *q };
            }
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            let y = upload(&gpu, &dims, &targets, classes);
            let q = Tensor::from_slice(&gpu, shape, &probabilities).unwrap();
            for weight in class_weights(classes) {
                for label_smoothing in [0.0, 0.1, 1.0].into_iter().filter(|_| chosen()) {
                    for reduction in REDUCTIONS {
                        let options = CrossEntropy::new()
                            .weight(weight.clone())
                            .label_smoothing(label_smoothing)
                            .reduction(reduction);
                        let family = gpu.caps().family;
                        let what = format!("{shape:?} {} {label_smoothing} {reduction:?} {family:?}", weight.is_some());
                        let [index, index_grad, soft, soft_grad] = eval(&gpu, |b| {
                            let index = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                            let soft = b.cross_entropy_with(&x, &q, &options, Grad::New)?;
                            Ok([index.loss.clone(), index.gradient()?, soft.loss.clone(), soft.gradient()?])
                        });
                        let in_place = [&logits, &logits].map(|x| Tensor::from_slice(&gpu, shape, x).unwrap());
                        let [forward, soft_forward, index_in_place, soft_in_place] = eval(&gpu, |b| {
                            let forward = b.cross_entropy(&x, &y, &options)?;
                            let soft_forward = b.cross_entropy(&x, &q, &options)?;
                            b.cross_entropy_with(&in_place[0], &y, &options, Grad::InPlace)?;
                            b.cross_entropy_with(&in_place[1], &q, &options, Grad::InPlace)?;
                            Ok([forward, soft_forward, in_place[0].clone(), in_place[1].clone()])
                        });
                        same_bits(&what, &forward, &index);
                        same_bits(&what, &soft_forward, &soft);
                        same_bits(&what, &index_in_place, &index_grad);
                        same_bits(&what, &soft_in_place, &soft_grad);
                        let want = cpu::cross_entropy_backward((&logits, shape), &targets, &options, None).unwrap();
                        close(&format!("index {what}"), &index, &want.loss, 2e-6, 1e-6);
                        close(&format!("index grad {what}"), &index_grad, &want.grad, 2e-6, 3e-7);
                        let want =
                            cpu::cross_entropy_backward((&logits, shape), &probabilities, &options, None).unwrap();
                        // The coefficients of a row sum to about half the number of classes, and
                        // errors scale with their sum.
                        let scale = 1.0 + classes as f64 / 2.0;
                        close(&format!("soft {what}"), &soft, &want.loss, 2e-6, 1e-6);
                        close(&format!("soft grad {what}"), &soft_grad, &want.grad, 2e-6, 3e-7 * scale);
                    }
                    let nll = Nll::new().weight(weight.clone());
                    let [loss, grad] = eval(&gpu, |b| {
                        let out = b.nll_with(&x, &y, &nll, Grad::New)?;
                        Ok([out.loss.clone(), out.gradient()?])
                    });
                    let want = cpu::nll_backward((&logits, shape), &targets, &nll, None).unwrap();
                    close(&format!("nll {shape:?}"), &loss, &want.loss, 2e-6, 1e-6);
                    close(&format!("nll grad {shape:?}"), &grad, &want.grad, 2e-6, 1e-9);
                }
            }
        }
    }
}

#[test]
fn cross_entropy_of_more_rows_than_a_grid_has_groups() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for shape in [[70_001, 3], [66_000, 40]] {
            let logits = random(9, shape[0] * shape[1], 3.0);
            let targets = labels(4, shape[0], shape[1]);
            let (x, y) =
                (Tensor::from_slice(&gpu, shape, &logits).unwrap(), upload(&gpu, &[shape[0]], &targets, shape[1]));
            let options = CrossEntropy::default();
            let [loss, grad] = eval(&gpu, |b| {
                let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                Ok([out.loss.clone(), out.gradient()?])
            });
            let want = cpu::cross_entropy_backward((&logits, &shape), &targets, &options, None).unwrap();
            close("loss", &loss, &want.loss, 1e-6, 0.0);
            close("grad", &grad, &want.grad, 2e-6, 2e-7 / shape[0] as f64);
        }
    }
}

#[test]
fn a_confident_rows_loss_keeps_its_digits() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for classes in [2usize, 40, 1500] {
            let rows = 40;
            let mut logits = random(8, rows * classes, 1.0);
            // The target leads by 0 .. 78: losses from 1 down to 1e-34.
            for row in 0..rows {
                logits[row * classes + row % classes] = 2.0 * row as f32 + 3.0;
            }
            let targets: Vec<i64> = (0..rows).map(|row| (row % classes) as i64).collect();
            let x = Tensor::from_slice(&gpu, [rows, classes], &logits).unwrap();
            let y = upload(&gpu, &[rows], &targets, classes);
            let options = CrossEntropy::new().reduction(Reduction::None);
            let [loss, grad, log_probs] = eval(&gpu, |b| {
                let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                Ok([out.loss.clone(), out.gradient()?, b.log_softmax(&x, 1)?])
            });
            let shape = [rows, classes];
            let want = cpu::cross_entropy_backward((&logits, &shape), &targets, &options, None).unwrap();
            // x - m is up to 82, with a rounding error up to half of 2^-17, which is the relative
            // error of its exponential.
            let rel = 4e-6 + 1e-6;
            close("loss", &loss, &want.loss, rel, 1e-37);
            close("grad", &grad, &want.grad, rel, 1e-37);
            close("log_softmax", &log_probs, &cpu::log_softmax((&logits, &shape), 1).unwrap(), rel, 1e-37);
        }
    }
}

#[test]
fn softmax_and_log_softmax_over_every_dimension() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(7);
    for gpu in families(&gpu) {
        for &shape in ROWS.iter().filter(|_| chosen()) {
            let len: usize = shape.iter().product();
            let (logits, upstream) = (random(2, len, 4.0), random(3, len, 1.0));
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            let g = Tensor::from_slice(&gpu, shape, &upstream).unwrap();
            for dim in 0..shape.len() {
                let [y, grad, p, p_grad] = eval(&gpu, |b| {
                    let (y, p) = (b.log_softmax(&x, dim)?, b.softmax(&x, dim)?);
                    let grads = (b.log_softmax_backward(&y, &g, dim)?, b.softmax_backward(&p, &g, dim)?);
                    Ok([y, grads.0, p, grads.1])
                });
                let what = format!("{shape:?} over {dim}");
                close(&what, &y, &cpu::log_softmax((&logits, shape), dim).unwrap(), 1e-6, 1e-6);
                close(&format!("softmax {what}"), &p, &cpu::softmax((&logits, shape), dim).unwrap(), 2e-6, 1e-37);
                let want = cpu::log_softmax_backward((&y, shape), &upstream, dim).unwrap();
                let terms: f64 = upstream.iter().map(|g| f64::from(g.abs())).sum();
                close(&format!("backward {what}"), &grad, &want, 2e-6, 1e-7 * terms.max(1.0).sqrt());
                let want = cpu::softmax_backward((&p, shape), &upstream, dim).unwrap();
                close(&format!("softmax backward {what}"), &p_grad, &want, 2e-6, 3e-7);
            }
        }
    }
}

#[test]
fn elementwise_losses() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(5);
    for gpu in families(&gpu) {
        for &len in LENGTHS.iter().filter(|_| chosen()) {
            let (p, y, x) = (unit(1, len), unit(2, len), random(3, len, 8.0));
            let [tp, ty, tx] = [&p, &y, &x].map(|v| Tensor::from_slice(&gpu, [len], v).unwrap());
            for reduction in REDUCTIONS {
                for upstream in upstreams(reduction, &[len]) {
                    let what = format!("{len} {reduction:?} {} {:?}", upstream.is_some(), gpu.caps().family);
                    let g = upstream.as_ref().map(|(s, v)| Tensor::from_slice(&gpu, &s[..], v).unwrap());
                    let host = upstream.as_ref().map(|(_, v)| f64s(v));
                    let (g, host) = (g.as_ref(), host.as_deref());
                    let (bce, logits, mse) = (
                        Bce::new().reduction(reduction),
                        BceWithLogits::new().reduction(reduction),
                        Mse::new().reduction(reduction),
                    );
                    let [a, ag, b, bg, c, cg, f0, f1, f2] = eval(&gpu, |b| {
                        let o0 = b.bce_with(&tp, &ty, &bce, LossRequest::new().grad(Grad::New).upstream(g))?;
                        let o1 =
                            b.bce_with_logits_with(&tx, &ty, &logits, LossRequest::new().grad(Grad::New).upstream(g))?;
                        let o2 = b.mse_with(&tx, &ty, &mse, LossRequest::new().grad(Grad::New).upstream(g))?;
                        let forward =
                            [b.bce(&tp, &ty, &bce)?, b.bce_with_logits(&tx, &ty, &logits)?, b.mse(&tx, &ty, &mse)?];
                        let [f0, f1, f2] = forward;
                        Ok([
                            o0.loss.clone(),
                            o0.gradient()?,
                            o1.loss.clone(),
                            o1.gradient()?,
                            o2.loss.clone(),
                            o2.gradient()?,
                            f0,
                            f1,
                            f2,
                        ])
                    });
                    same_bits(&what, &a, &f0);
                    same_bits(&what, &b, &f1);
                    same_bits(&what, &c, &f2);
                    let scale = largest(upstream.as_ref())
                        / if matches!(reduction, Reduction::Mean | Reduction::MeanByCount) {
                            len.max(1) as f64
                        } else {
                            1.0
                        };
                    let want = cpu::bce_backward((&p, &[p.len()]), (&y, &[p.len()]), &bce, host).unwrap();
                    close(&format!("bce {what}"), &a, &want.loss, 1e-6, 1e-7);
                    close(&format!("bce grad {what}"), &ag, &want.grad, 1e-6, 3e-7 * scale);
                    let want =
                        cpu::bce_with_logits_backward((&x, &[x.len()]), (&y, &[x.len()]), &logits, host).unwrap();
                    close(&format!("bce_with_logits {what}"), &b, &want.loss, 1e-6, 1e-7);
                    close(&format!("bce_with_logits grad {what}"), &bg, &want.grad, 1e-6, 3e-7 * scale);
                    let want = cpu::mse_backward((&x, &[len]), (&y, &[len]), &mse, host).unwrap();
                    close(&format!("mse {what}"), &c, &want.loss, 1e-6, 1e-12);
                    close(&format!("mse grad {what}"), &cg, &want.grad, 1e-6, 1e-12);
                }
            }
        }
    }
}

#[test]
fn maps() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for &len in LENGTHS {
            let (x, g) = (random(3, len, 8.0), random(4, len, 1.0));
            let [tx, tg] = [&x, &g].map(|v| Tensor::from_slice(&gpu, [len], v).unwrap());
            let [relu, relu_grad, sigmoid, sigmoid_grad] = eval(&gpu, |b| {
                let (relu, sigmoid) = (b.relu(&tx)?, b.sigmoid(&tx)?);
                let grads = (b.relu_backward(&relu, &tg)?, b.sigmoid_backward(&sigmoid, &tg)?);
                Ok([relu, grads.0, sigmoid, grads.1])
            });
            close("relu", &relu, &cpu::relu(&x), 0.0, 0.0);
            close("relu_backward", &relu_grad, &cpu::relu_backward(&relu, &g).unwrap(), 0.0, 0.0);
            close("sigmoid", &sigmoid, &cpu::sigmoid(&x), 3e-7, 0.0);
            close("sigmoid_backward", &sigmoid_grad, &cpu::sigmoid_backward(&sigmoid, &g).unwrap(), 3e-7, 1e-12);
        }
    }
}

#[test]
fn matmul_and_column_sum() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    for gpu in families(&gpu) {
        for [m, n, k] in [
            [1, 1, 1],
            [1, 5, 3],
            [5, 1, 3],
            [8, 32, 4],
            [7, 13, 9],
            [33, 31, 17],
            [32, 32, 16],
            [64, 10, 64],
            [65, 130, 70],
            [3, 200, 300],
            [200, 3, 301],
            // Few rows and columns with many summands; many tiles; even more tiles.
            [10, 130, 1100],
            [5, 33, 2051],
            [600, 900, 20],
            [1300, 1500, 6],
            [4, 5, 0],
            [0, 5, 4],
            [5, 0, 4],
        ] {
            for layout in [Layout::Nn, Layout::Nt, Layout::Tn].into_iter().filter(|_| chosen()) {
                let a_shape = if layout == Layout::Tn { [k, m] } else { [m, k] };
                let b_shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
                let (a, b, bias) = (random(1, m * k, 1.0), random(2, k * n, 1.0), random(3, n, 1.0));
                let ta = Tensor::from_slice(&gpu, a_shape, &a).unwrap();
                let tb = Tensor::from_slice(&gpu, b_shape, &b).unwrap();
                let tbias = Tensor::from_slice(&gpu, [n], &bias).unwrap();
                let [c, with_bias, columns] = eval(&gpu, |r| {
                    let with_bias = r.matmul(layout, &ta, &tb, Some(&tbias))?;
                    Ok([r.matmul(layout, &ta, &tb, None)?, with_bias.clone(), r.column_sum(&with_bias)?])
                });
                let what = format!("{layout:?} {m}x{n}x{k} {:?}", gpu.caps().family);
                let abs = 1e-7 * (k as f64 + 1.0);
                close(&what, &c, &cpu::matmul(layout, (&a, &a_shape), (&b, &b_shape), None).unwrap(), 1e-6, abs);
                let want = cpu::matmul(layout, (&a, &a_shape), (&b, &b_shape), Some(&bias)).unwrap();
                close(&format!("bias {what}"), &with_bias, &want, 1e-6, abs);
                let want = cpu::column_sum((&with_bias, &[m, n])).unwrap();
                close(&format!("column_sum {what}"), &columns, &want, 1e-6, 1e-7 * m as f64 * (k as f64 + 1.0));
            }
        }
        for [rows, columns] in [[256, 3], [257, 10], [70_000, 2], [1000, 300]] {
            let input = random(6, rows * columns, 1.0);
            let x = Tensor::from_slice(&gpu, [rows, columns], &input).unwrap();
            let [sums] = eval(&gpu, |r| Ok([r.column_sum(&x)?]));
            let want = cpu::column_sum((&input, &[rows, columns])).unwrap();
            // Partial sums are about sqrt(rows), and go through about 64 roundings, which add up
            // like a random walk.
            let abs = (rows as f64).sqrt() * 64f64.sqrt() * f64::from(f32::EPSILON);
            close(&format!("column_sum {rows}x{columns}"), &sums, &want, 1e-6, abs);
        }
    }
}

#[test]
fn sgd() {
    let Some(gpu) = gpu() else { return };
    let base = Sgd::new().lr(0.1);
    let options = [
        base.clone(),
        base.clone().weight_decay(0.2),
        base.clone().maximize(true).weight_decay(0.2),
        base.clone().momentum(0.9),
        base.clone().momentum(0.9).dampening(0.3).weight_decay(0.01),
        base.clone().momentum(0.9).nesterov(true),
        base.clone().momentum(0.5).nesterov(true).maximize(true).weight_decay(0.1),
        base.dampening(0.5),
    ];
    for gpu in families(&gpu) {
        for len in [0, 1, 5, 1024, 2051] {
            for options in &options {
                let start = random(1, len, 1.0);
                let values = Tensor::from_slice(&gpu, [len], &start).unwrap();
                let mut momentum = Momentum::new(&gpu, [len]).unwrap();
                let (mut want, mut velocity) = (f64s(&start), Vec::new());
                for step in 0..4 {
                    let grads = random(10 + step, len, 1.0);
                    let g = Tensor::from_slice(&gpu, [len], &grads).unwrap();
                    let [got, got_velocity] = eval(&gpu, |b| {
                        b.sgd(&values, &g, Some(&mut momentum), options)?;
                        Ok([values.clone(), momentum.velocity().clone()])
                    });
                    cpu::sgd(&mut want, &grads, &mut velocity, options).unwrap();
                    close(&format!("{options:?} step {step}"), &got, &want, 1e-6, 1e-6);
                    if options.momentum != 0.0 {
                        close(&format!("velocity {options:?} step {step}"), &got_velocity, &velocity, 1e-6, 1e-6);
                    }
                }
            }
        }
    }
}

/// Lanes share sums through subgroups, workgroup memory, or both, in workgroups of several sizes:
/// the sums must be the same.
#[test]
fn subgroup_and_workgroup_exchange_agree() {
    let Some(gpu) = gpu() else { return };
    let [rows, classes] = [5, 3000];
    let logits = random(1, rows * classes, 5.0);
    let index = labels(2, rows, classes);
    let options = CrossEntropy::new().label_smoothing(0.1);
    let want = cpu::cross_entropy_backward((&logits, &[rows, classes]), &index, &options, None).unwrap();
    let mut results: Vec<(Family, u32, [Vec<f32>; 4])> = Vec::new();
    let mut chosen = one_in(2);
    for gpu in families(&gpu).into_iter().filter(|_| chosen()) {
        for max_invocations in [256, 64] {
            for subgroup_size in [gpu.caps().subgroup_size, 0] {
                let gpu = gpu.with_caps(Caps { subgroup_size, max_invocations, ..gpu.caps().clone() }).unwrap();
                let x = Tensor::from_slice(&gpu, [rows, classes], &logits).unwrap();
                let y = Targets::new(&gpu, [rows], &index, classes).unwrap();
                let out = eval(&gpu, |b| {
                    let request = LossRequest::new().grad(Grad::New).statistics();
                    let out = b.cross_entropy_with(&x, &y, &options, request)?;
                    let p = b.softmax(&x, 1)?;
                    let back = b.softmax_backward(&p, &x, 1)?;
                    Ok([out.loss.clone(), out.gradient()?, out.statistics.unwrap().entropy, back])
                });
                let what = format!("{:?}", gpu.caps());
                close(&format!("loss {what}"), &out[0], &want.loss, 1e-6, 1e-6);
                close(&format!("grad {what}"), &out[1], &want.grad, 2e-6, 1e-9);
                for (family, invocations, same) in &results {
                    if (*family, *invocations) == (gpu.caps().family, max_invocations) {
                        same.iter().zip(&out).for_each(|(a, b)| same_bits(&what, a, b));
                    }
                }
                results.push((gpu.caps().family, max_invocations, out));
            }
        }
    }
}
