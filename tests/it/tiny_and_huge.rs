//! Gradients that are ordinary numbers although one of their factors is huge, and another is
//! subnormal or would be if it were stored: hardware that flushes subnormal numbers to 0 must not
//! lose them.

use crate::common::*;
use xent::linear::LinearLossRequest;
use xent::loss::{BceWithLogits, CrossEntropy, Grad, LossRequest, Nll, Reduction, Targets};
use xent::{Gpu, Tensor, Weights, cpu};

/// Compares normal numbers. Smaller results may be flushed to 0; larger results must be infinite.
#[track_caller]
pub(crate) fn agree_where_normal(what: &str, got: &[f32], want: &[f64], rel: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let smallest = f64::from(f32::MIN_POSITIVE);
        let abs = if want.abs() < smallest { smallest } else { 0.0 };
        let fine = if (want as f32).is_finite() {
            (f64::from(got) - want).abs() <= abs + rel * want.abs()
        } else {
            got == want as f32
        };
        assert!(fine, "{what}, element {i}: got {got:e}, want {want:e}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

fn on(gpu: &Gpu, values: &[f32]) -> Tensor<f32> {
    Tensor::from_slice(gpu, [values.len()], values).unwrap()
}

#[test]
fn sigmoids() {
    let Some(gpu) = gpu() else { return };
    let x: Vec<f32> = [-87.4, -87.2, -90.0, -95.5, -103.0, -80.0, 0.0, 20.0].repeat(5);
    let g: Vec<f32> = [-1e38, 3e38, 1e30, -1.0, 1e-38].iter().flat_map(|&g| [g; 8]).collect();
    for gpu in families(&gpu) {
        let [y, grad] = eval(&gpu, |b| {
            let y = b.sigmoid(&on(&gpu, &x))?;
            Ok([y.clone(), b.sigmoid_backward(&y, &on(&gpu, &g))?])
        });
        agree_where_normal("sigmoid_backward", &grad, &cpu::sigmoid_backward(&y, &g).unwrap(), 1e-6);
        assert!((grad[0] + 1.103).abs() < 2e-3, "{}", grad[0]);
    }
}

#[test]
fn softmaxes() {
    let Some(gpu) = gpu() else { return };
    for classes in [4usize, 70, 1500] {
        let shape = [2, classes];
        let mut y = vec![0.0f32; 2 * classes];
        let mut g = y.clone();
        (y[0], y[1], y[2], y[3]) = (1.0, 1e-40, 3e-42, 2e-38);
        (g[1], g[2]) = (-1e38, 2e38);
        (y[classes], y[classes + 1], y[2 * classes - 1]) = (1.0, 1e-39, 1e-45);
        (g[classes + 1], g[2 * classes - 1]) = (3e38, 3e38);
        let mut log_y = vec![-130.0f32; 2 * classes];
        (log_y[0], log_y[1], log_y[2], log_y[3]) = (0.0, -87.4, -95.0, -120.0);
        (log_y[classes], log_y[classes + 1], log_y[classes + 2]) = (0.0, -60.0, -100.0);
        let mut log_g = vec![0.0f32; 2 * classes];
        (log_g[0], log_g[classes]) = (1e38, 1e-30);
        for gpu in families(&gpu) {
            let put = |values: &[f32]| Tensor::from_slice(&gpu, shape, values).unwrap();
            let [back, log_back] = eval(&gpu, |b| {
                let back = b.softmax_backward(&put(&y), &put(&g), 1)?;
                Ok([back, b.log_softmax_backward(&put(&log_y), &put(&log_g), 1)?])
            });
            let what = format!("{classes} {:?}", gpu.caps().family);
            agree_where_normal(
                &format!("softmax {what}"),
                &back,
                &cpu::softmax_backward((&y, &shape), &g, 1).unwrap(),
                4e-6,
            );
            let want = cpu::log_softmax_backward((&log_y, &shape), &log_g, 1).unwrap();
            agree_where_normal(&format!("log_softmax {what}"), &log_back, &want, 4e-6);
        }
    }
}

/// Rows whose last logit is far above all others. The sum of the others, which is the loss, would
/// be subnormal before its multiplication.
#[test]
fn rows_that_jump_at_their_end() {
    let Some(gpu) = gpu() else { return };
    let options = CrossEntropy::new().reduction(Reduction::Sum);
    for gpu in families(&gpu) {
        for classes in [50usize, 5000, 70_000] {
            // The position of a lane's elements depends on the number of lanes that share the row.
            for lanes in [4, 8] {
                for (jump, upstream) in
                    [(80.0, 1.0), (86.9, 1e30), (89.0, 1e38), (95.0, 1e38), (110.0, 1e38), (125.0, 1e38)]
                {
                    let mut x: Vec<f32> =
                        (0..classes).map(|i| if i / 4 % lanes == 1 { i as f32 * 1e-6 } else { -300.0 }).collect();
                    x[classes - 1] = jump;
                    let index = [classes as i64 - 1];
                    let [loss, grad] = eval(&gpu, |b| {
                        let y = Targets::new(&gpu, [1], &index, classes)?;
                        let upstream = Tensor::from_slice(&gpu, [], &[upstream])?;
                        let x = Tensor::from_slice(&gpu, [1, classes], &x)?;
                        let out = b.cross_entropy_with(
                            &x,
                            &y,
                            &options,
                            LossRequest::new().grad(Grad::New).upstream(&upstream),
                        )?;
                        Ok([out.loss.clone(), out.gradient()?])
                    });
                    let upstream = [f64::from(upstream)];
                    let want =
                        cpu::cross_entropy_backward((&x, &[1, classes]), &index, &options, Some(&upstream)).unwrap();
                    let what = format!("{jump} of {classes}, {lanes} lanes, {:?}", gpu.caps().family);
                    agree_where_normal(&format!("loss {what}"), &loss, &want.loss, 1e-5);
                    agree_where_normal(&format!("grad {what}"), &grad, &want.grad, 1e-5);
                }
            }
        }
    }
}

/// Label smoothing with class weights whose coefficients would be subnormal, or are huge.
#[test]
fn smoothed_targets() {
    let Some(gpu) = gpu() else { return };
    let (mut turn, mut chosen) = (0, one_in(11));
    for gpu in families(&gpu) {
        for classes in [3usize, 1000, 5000] {
            for (weight, upstream) in
                [(1e-37f32, 1e38f32), (3e-38, 3e37), (1e33, 1e-34), (1e30, 1e7), (1e-20, 1e20), (1.0, 1.0)]
            {
                for smoothing in [0.2, 1.0] {
                    turn += 1;
                    if !chosen() {
                        continue;
                    }
                    let x = random(turn as u64, 2 * classes, 2.0);
                    let index = [1, classes as i64 - 1];
                    let weights: Vec<f32> = unit(5, classes).iter().map(|u| weight * (1.0 + u)).collect();
                    let options = CrossEntropy::new()
                        .label_smoothing(smoothing)
                        .weight(Weights::from(weights))
                        .reduction(Reduction::Sum);
                    let [grad] = eval(&gpu, |b| {
                        let y = Targets::new(&gpu, [2], &index, classes)?;
                        let upstream = Tensor::from_slice(&gpu, [], &[upstream])?;
                        let x = Tensor::from_slice(&gpu, [2, classes], &x)?;
                        Ok([b
                            .cross_entropy_with(
                                &x,
                                &y,
                                &options,
                                LossRequest::new().grad(Grad::New).upstream(&upstream),
                            )?
                            .gradient()?])
                    });
                    let g = [f64::from(upstream)];
                    let want = cpu::cross_entropy_backward((&x, &[2, classes]), &index, &options, Some(&g)).unwrap();
                    let what = format!(
                        "{classes} classes, weights {weight:e}, smoothing {smoothing}, {:?}",
                        gpu.caps().family
                    );
                    // A class's gradient is a difference of two terms, which may cancel.
                    let abs = 1e-6 * want.grad.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                    close(&what, &grad, &want.grad, 1e-5, abs.max(f64::from(f32::MIN_POSITIVE)));
                }
            }
        }
    }
}

/// Class probabilities whose products with the classes' weights would be subnormal, or are huge.
#[test]
fn probabilities() {
    let Some(gpu) = gpu() else { return };
    let (mut turn, mut chosen) = (0, one_in(11));
    for gpu in families(&gpu) {
        for classes in [3usize, 1000, 5000, 70_001] {
            for (weight, upstream) in [(1e-37f32, 1e38f32), (3e-38, 3e37), (1e33, 1e-34), (1e-25, 1e26), (1.0, 1.0)] {
                for one_has_all in [false, true] {
                    turn += 1;
                    if !chosen() {
                        continue;
                    }
                    let shape = [2, classes];
                    let x = random(turn as u64, 2 * classes, 2.0);
                    let mut q: Vec<f32> =
                        unit(turn as u64 + 1, 2 * classes).iter().map(|u| 2.0 * u / classes as f32).collect();
                    if one_has_all {
                        q.fill(0.0);
                        (q[1], q[2 * classes - 1]) = (0.0625, 1.0);
                    }
                    let weights: Vec<f32> = unit(5, classes).iter().map(|u| weight * (1.0 + u)).collect();
                    let options = CrossEntropy::new().weight(Weights::from(weights)).reduction(Reduction::Sum);
                    let [grad] = eval(&gpu, |b| {
                        let q = Tensor::from_slice(&gpu, shape, &q)?;
                        let upstream = Tensor::from_slice(&gpu, [], &[upstream])?;
                        let x = Tensor::from_slice(&gpu, shape, &x)?;
                        Ok([b
                            .cross_entropy_with(
                                &x,
                                &q,
                                &options,
                                LossRequest::new().grad(Grad::New).upstream(&upstream),
                            )?
                            .gradient()?])
                    });
                    let g = [f64::from(upstream)];
                    let want = cpu::cross_entropy_backward((&x, &shape), &q[..], &options, Some(&g)).unwrap();
                    let family = gpu.caps().family;
                    let what = format!("{classes} classes, weights {weight:e}, {one_has_all}, {family:?}");
                    // A class's gradient is a difference of two terms, which may cancel.
                    let abs = 1e-6 * want.grad.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                    close(&what, &grad, &want.grad, 1e-5, abs.max(f64::from(f32::MIN_POSITIVE)));
                }
            }
        }
    }
}

#[test]
fn entropies() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for classes in [2usize, 50, 5000, 70_000] {
            for top in [20.0f32, 86.0, 87.3, 88.0, 91.0] {
                let mut x = vec![0.0f32; classes];
                x[classes / 2] = top;
                let [entropy] = eval(&gpu, |b| {
                    let y = Targets::new(&gpu, [1], &[0], classes)?;
                    let x = Tensor::from_slice(&gpu, [1, classes], &x)?;
                    let request = LossRequest::new().statistics();
                    let out = b.cross_entropy_with(&x, &y, &CrossEntropy::default(), request)?;
                    Ok([out.statistics.expect("asked for").entropy])
                });
                let want = cpu::cross_entropy_statistics((&x, &[1, classes]), &[0], &CrossEntropy::default()).unwrap();
                agree_where_normal(
                    &format!("{top} of {classes}, {:?}", gpu.caps().family),
                    &entropy,
                    &want.entropy,
                    1e-5,
                );
            }
        }
    }
}

/// Huge weights of positive targets with a tiny exp(-|x|), with upstream gradients that compensate
/// the rest, or do not.
#[test]
fn huge_weights_of_positive_targets() {
    let Some(gpu) = gpu() else { return };
    let x: Vec<f32> = (0..60).map(|i| 30.0 + 2.4 * i as f32).flat_map(|x| [x, -x]).collect();
    for gpu in families(&gpu) {
        for (weight, upstream) in [(1e21f32, 1.0f32), (1e27, 1e10), (1e36, 1.0), (3e38, 1e-20), (3e38, 1e38)] {
            let y = vec![1.0f32; x.len()];
            let pos_weight = Some(Weights::new([1], &[weight]).unwrap());
            let options = BceWithLogits::new().pos_weight(pos_weight).reduction(Reduction::Sum);
            let [grad] = eval(&gpu, |b| {
                let upstream = Tensor::from_slice(&gpu, [], &[upstream])?;
                let out = b.bce_with_logits_with(
                    &on(&gpu, &x),
                    &on(&gpu, &y),
                    &options,
                    LossRequest::new().grad(Grad::New).upstream(&upstream),
                )?;
                Ok([out.gradient()?])
            });
            let g = [f64::from(upstream)];
            let want = cpu::bce_with_logits_backward((&x, &[x.len()]), (&y, &[x.len()]), &options, Some(&g)).unwrap();
            agree_where_normal(&format!("{weight:e}, {upstream:e}, {:?}", gpu.caps().family), &grad, &want.grad, 2e-6);
        }
    }
}

/// The factors of a case, which compensate each other.
const FACTORS: [(f32, f32, f32); 6] = [
    // The upstream gradient, the row's weight, the class's weight.
    (1e38, 1.0, 1.0),
    (-1e38, 1e-40, 1.0),
    (3e38, 1.0, 1e-44),
    (1e-30, 1e-20, 1e38),
    (1e38, 1e38, 1e-40),
    (1e-40, 1.0, 1e37),
];

#[test]
fn losses_of_rows() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    for classes in [3usize, 70, 1500, 9001] {
        // Rows held in registers, and longer rows, with several lanes whose maxima lie far apart.
        let x: Vec<f32> = (0..3 * classes).map(|i| (i % classes) as f32 * (-140.0 / classes as f32)).collect();
        let mut x: Vec<f32> = x.iter().map(|x| x.round()).collect();
        // A certain class, an unlikely one; and in the last row, two logits with nearly all
        // probability.
        for row in 0..3 {
            x[row * classes] = 1.0;
            x[row * classes + 1] = -87.0;
        }
        x[2 * classes + 2] = 0.5;
        let index = [0i64, 1, classes as i64 - 1];
        for gpu in families(&gpu) {
            let tx = Tensor::from_slice(&gpu, [3, classes], &x).unwrap();
            let ty = Targets::new(&gpu, [3], &index, classes).unwrap();
            for (upstream, row_weight, class_weight) in FACTORS {
                for each in [false, true] {
                    if !chosen() {
                        continue;
                    }
                    let reduction = if each { Reduction::None } else { Reduction::Sum };
                    let options = CrossEntropy::new()
                        .weight(Weights::from(vec![class_weight; classes]))
                        .position_weight(Weights::from([row_weight; 3]))
                        .reduction(reduction);
                    let nll = Nll::new()
                        .weight(options.weight.clone())
                        .position_weight(options.position_weight.clone())
                        .reduction(reduction);
                    let g = if each { vec![upstream; 3] } else { vec![upstream] };
                    let tg = Tensor::from_slice(&gpu, if each { vec![3] } else { vec![] }, &g).unwrap();
                    let [grad, nll_grad] = eval(&gpu, |b| {
                        let out =
                            b.cross_entropy_with(&tx, &ty, &options, LossRequest::new().grad(Grad::New).upstream(&tg))?;
                        Ok([
                            out.gradient()?,
                            b.nll_with(&tx, &ty, &nll, LossRequest::new().grad(Grad::New).upstream(&tg))?.gradient()?,
                        ])
                    });
                    let family = gpu.caps().family;
                    let what = format!("{classes} {upstream:e} {row_weight:e} {class_weight:e} {each} {family:?}");
                    let g = wide(&g);
                    let want =
                        cpu::cross_entropy_backward((&x, &[3, classes]), &index, &options, Some(&g)).unwrap().grad;
                    agree_where_normal(&format!("cross_entropy {what}"), &grad, &want, 4e-6);
                    let want = cpu::nll_backward((&x, &[3, classes]), &index, &nll, Some(&g)).unwrap().grad;
                    agree_where_normal(&format!("nll {what}"), &nll_grad, &want, 1e-6);
                }
            }
        }
    }
}

/// A mean divides by a sum of weights: in the rows or, with an upstream gradient, before the rows.
#[test]
fn denominators() {
    let Some(gpu) = gpu() else { return };
    let (x, index) = ([0.0f32, -87.4, 0.0, 2.0], [0i64, 1]);
    for gpu in families(&gpu) {
        let (tx, ty) = (on(&gpu, &x).reshape([2, 2]).unwrap(), Targets::new(&gpu, [2], &index, 2).unwrap());
        for (weight, upstream) in
            [(1e-37f32, None), (1e38, None), (1e38, Some(1e38f32)), (1e-30, Some(1e38)), (1e30, Some(1e-10))]
        {
            let options = CrossEntropy::new().position_weight(Weights::from([weight; 2]));
            let tg = upstream.map(|g| Tensor::from_slice(&gpu, [], &[g]).unwrap());
            let g = upstream.map(|g| vec![f64::from(g)]);
            let [grad] = eval(&gpu, |b| {
                Ok([b
                    .cross_entropy_with(&tx, &ty, &options, LossRequest::new().grad(Grad::New).upstream(tg.as_ref()))?
                    .gradient()?])
            });
            let want = cpu::cross_entropy_backward((&x, &[2, 2]), &index, &options, g.as_deref()).unwrap().grad;
            agree_where_normal(&format!("{weight:e} {upstream:?}"), &grad, &want, 4e-6);
        }
    }
}

/// The slope of a cap at logits far beyond it.
#[test]
fn capped_logits() {
    let Some(gpu) = gpu() else { return };
    let x = [50.0f32, -45.0, 0.5, 60.0, 30.0, 1.0, -29.0, 70.0, 0.0];
    for gpu in families(&gpu) {
        let (tx, ty) = (on(&gpu, &x).reshape([3, 3]).unwrap(), Targets::new(&gpu, [3], &[1, 0, 2], 3).unwrap());
        for (logit_scale, softcap, label_smoothing) in [(1.0, 1.0, 0.0), (0.5, 0.6, 0.0), (1.0, 1.0, 0.2)] {
            let reduction = Reduction::Sum;
            let options = CrossEntropy::new()
                .logit_scale(logit_scale)
                .softcap(softcap)
                .label_smoothing(label_smoothing)
                .reduction(reduction);
            let tg = Tensor::from_slice(&gpu, [], &[1e38f32]).unwrap();
            let [grad] = eval(&gpu, |b| {
                Ok([b
                    .cross_entropy_with(&tx, &ty, &options, LossRequest::new().grad(Grad::New).upstream(&tg))?
                    .gradient()?])
            });
            let want = cpu::cross_entropy_backward((&x, &[3, 3]), &[1i64, 0, 2], &options, Some(&[f64::from(1e38f32)]))
                .unwrap();
            agree_where_normal(&format!("{logit_scale} {softcap} {label_smoothing}"), &grad, &want.grad, 4e-5);
        }
    }
}

/// The products of a linear layer's gradients.
#[test]
fn a_linear_layers_gradients() {
    let Some(gpu) = gpu() else { return };
    let (h, w) = ([1.0f32, 0.0], [0.0f32, 0.0, -87.5, 0.0, -100.0, 0.0]);
    let options = CrossEntropy::new().reduction(Reduction::Sum);
    let g = [f64::from(1e38f32)];
    let want =
        cpu::linear_cross_entropy((&h, &[1, 2]), (&w, &[3, 2]), None, &[0i64], &options.clone().into(), Some(&g))
            .unwrap();
    for gpu in families(&gpu) {
        let (th, tw) = (on(&gpu, &h).reshape([1, 2]).unwrap(), on(&gpu, &w).reshape([3, 2]).unwrap());
        let ty = Targets::new(&gpu, [1], &[0], 3).unwrap();
        let tg = Tensor::from_slice(&gpu, [], &[1e38f32]).unwrap();
        let [hidden, weight] = eval(&gpu, |b| {
            let backward = LinearLossRequest::gradients().upstream(&tg);
            let out = b.linear_cross_entropy_with(&th, &tw, None, &ty, &options.clone().into(), backward)?;
            Ok([out.hidden_grad.unwrap(), out.weight_grad.unwrap()])
        });
        agree_where_normal("hidden", &hidden, &want.hidden, 4e-6);
        agree_where_normal("weight", &weight, &want.weight, 4e-6);
    }
}
