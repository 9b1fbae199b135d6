//! Factors that no training should have: weights on the GPU, upstream gradients, and hidden states,
//! with extreme values among them.

use proptest::prelude::*;

use crate::common::*;
use crate::hostile::{Dims, FLUSHED, f64s, hostile};
use crate::properties::on_all;
use xent::linear::{LinearBceWithLogits, LinearLossRequest};
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::{Gpu, Tensor, Weights, cpu};

const MAX: f64 = f32::MAX as f64;

/// Returns the largest magnitude among the finite values.
fn largest<'a>(values: impl IntoIterator<Item = &'a f32>) -> f64 {
    values.into_iter().filter(|v| v.is_finite()).fold(0.0, |most, v| most.max(f64::from(v.abs())))
}

/// Compares results with the reference. `bounds` returns for each element the size of its
/// intermediate values, and the allowed absolute error. A result is finite if and only if the
/// reference is, except that it may be infinite or NaN if the size exceeds the range of `f32`,
/// where the order of the factors matters.
#[track_caller]
fn agree(what: &str, got: &[f32], want: &[f64], rel: f64, bounds: impl Fn(usize) -> (f64, f64)) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (size, abs) = bounds(i);
        let number = (want as f32).is_finite();
        let fine = if got.is_finite() {
            number && (f64::from(got) - want).abs() <= abs + rel * want.abs()
        } else {
            !number || size > MAX
        };
        assert!(fine, "{what}, element {i}: got {got:e}, want {want:e} of {size:e}");
    }
}

#[test]
fn rows() {
    let Some(gpu) = gpu() else { return };
    let shapes: [&[usize]; 3] = [&[9, 13], &[3, 70], &[2, 3, 4]];
    let shapes = prop::sample::select(shapes.map(<[usize]>::to_vec).to_vec());
    on_all(&gpu, 16, &(shapes, any::<bool>(), any::<u64>()), |gpu, (shape, smoothed, seed)| {
        check_rows(gpu, &shape, smoothed, seed);
    });
}

fn check_rows(gpu: &Gpu, shape: &[usize], smoothed: bool, seed: u64) {
    let dims = Dims::of(shape);
    let x = random(seed, dims.len(), 4.0);
    let index = labels(seed, dims.rows(), dims.classes);
    let weights = hostile(Dims { outer: 1, classes: dims.classes, inner: 1 }, seed ^ 2);
    let g = hostile(Dims { outer: 1, classes: dims.rows(), inner: 1 }, seed ^ 3);
    let all_g = hostile(dims, seed ^ 4);
    let what = format!("{shape:?} {smoothed} {seed} {:?}", gpu.caps().family);
    let row_shape: Vec<usize> = shape.iter().enumerate().filter(|(d, _)| *d != 1).map(|(_, &n)| n).collect();
    let tx = Tensor::from_slice(gpu, shape, &x).unwrap();
    let ty = Targets::new(gpu, &row_shape[..], &index, dims.classes).unwrap();
    let tw = Tensor::from_slice(gpu, [dims.classes], &weights).unwrap();
    let tg = Tensor::from_slice(gpu, &row_shape[..], &g).unwrap();
    let all_tg = Tensor::from_slice(gpu, shape, &all_g).unwrap();
    let label_smoothing = if smoothed { 0.1 } else { 0.0 };
    let ce = |weight: Weights| {
        CrossEntropy::new().weight(weight).label_smoothing(label_smoothing).reduction(Reduction::None)
    };
    let nll = |weight: Weights| Nll::new().weight(weight).reduction(Reduction::None);
    let [loss, grad, nll_loss, nll_grad, y, log_y] = eval(gpu, |b| {
        let ce = b.cross_entropy_with(&tx, &ty, &ce((&tw).into()), LossRequest::new().grad(Grad::New).upstream(&tg))?;
        let nll = b.nll_with(&tx, &ty, &nll((&tw).into()), LossRequest::new().grad(Grad::New).upstream(&tg))?;
        Ok([
            ce.loss.clone(),
            ce.gradient()?,
            nll.loss.clone(),
            nll.gradient()?,
            b.softmax(&tx, 1)?,
            b.log_softmax(&tx, 1)?,
        ])
    });
    let upstream = f64s(&g);
    // The largest of the weights that affect a row.
    let heaviest = |row: usize| if smoothed { largest(&weights) } else { largest([&weights[index[row] as usize]]) };
    let sum = |row: usize| heaviest(row) * dims.classes as f64 * 20.0;
    let factor = |i: usize| if g[dims.row_of(i)].is_finite() { upstream[dims.row_of(i)].abs() } else { 1.0 };
    let want = cpu::cross_entropy_backward((&x, shape), &index, &ce(weights[..].into()), Some(&upstream)).unwrap();
    let abs = FLUSHED * 100.0;
    agree(&format!("loss {what}"), &loss, &want.loss, 4e-6, |row| (sum(row), 1e-5 * heaviest(row) + abs));
    agree(&format!("grad {what}"), &grad, &want.grad, 4e-6, |i| {
        let (row, factor) = (dims.row_of(i), factor(i));
        let flushed = abs * (1.0 + factor) * (1.0 + heaviest(row));
        (sum(row) * factor.max(1.0), 4e-6 * heaviest(row) * factor + flushed)
    });
    let want = cpu::nll_backward((&x, shape), &index, &nll(weights[..].into()), Some(&upstream)).unwrap();
    agree(&format!("nll {what}"), &nll_loss, &want.loss, 1e-6, |row| (sum(row), abs));
    agree(&format!("nll grad {what}"), &nll_grad, &want.grad, 1e-6, |i| {
        let (heaviest, factor) = (largest([&weights[index[dims.row_of(i)] as usize]]), factor(i));
        (heaviest * factor.max(1.0), FLUSHED * (1.0 + factor) * (1.0 + heaviest))
    });

    let (ty, tlog_y) = (Tensor::from_slice(gpu, shape, &y).unwrap(), Tensor::from_slice(gpu, shape, &log_y).unwrap());
    let [back, log_back] =
        eval(gpu, |b| Ok([b.softmax_backward(&ty, &all_tg, 1)?, b.log_softmax_backward(&tlog_y, &all_tg, 1)?]));
    let scale = |i: usize| {
        let row = dims.row_of(i);
        largest((0..dims.classes).map(|class| &all_g[dims.at(row, class)])) * dims.classes as f64
    };
    let want = cpu::softmax_backward((&y, shape), &all_g, 1).unwrap();
    agree(&format!("softmax back {what}"), &back, &want, 4e-6, |i| (2.0 * scale(i), 1e-6 * scale(i) + abs));
    let want = cpu::log_softmax_backward((&log_y, shape), &all_g, 1).unwrap();
    agree(&format!("log_softmax back {what}"), &log_back, &want, 4e-6, |i| (2.0 * scale(i), 1e-6 * scale(i) + abs));
}

#[test]
fn elements() {
    let Some(gpu) = gpu() else { return };
    on_all(&gpu, 16, &any::<u64>(), check_elements);
}

fn check_elements(gpu: &Gpu, seed: u64) {
    let shape = [7, 24];
    let dims = Dims::of(&shape);
    let (x, t, p) = (random(seed, 168, 4.0), unit(seed, 168), unit(seed ^ 1, 168));
    let [w, pos] = [2, 3].map(|salt| hostile(Dims { outer: 1, classes: 24, inner: 1 }, seed ^ salt));
    let g = hostile(dims, seed ^ 4);
    let what = format!("{seed} {:?}", gpu.caps().family);
    let on = |values: &[f32]| Tensor::from_slice(gpu, shape, values).unwrap();
    let (tx, tt, tp, tg) = (on(&x), on(&t), on(&p), on(&g));
    let [tw, tpos] = [&w, &pos].map(|values| Tensor::from_slice(gpu, [24], values).unwrap());
    let (reduction, upstream) = (Reduction::None, f64s(&g));
    let logits =
        |weight: Weights, pos: Weights| BceWithLogits::new().weight(weight).pos_weight(pos).reduction(reduction);
    let bce = |weight: Weights| Bce::new().weight(weight).reduction(reduction);
    let mse = |weight: Weights| Mse::new().weight(weight).broadcast(false).reduction(reduction);
    // The squared error's weights have the loss's shape.
    let repeated = w.repeat(7);
    let each = Weights::new(shape, &repeated).unwrap();
    let got: [Vec<f32>; 6] = eval(gpu, |b| {
        let logits = b.bce_with_logits_with(
            &tx,
            &tt,
            &logits((&tw).into(), (&tpos).into()),
            LossRequest::new().grad(Grad::New).upstream(&tg),
        )?;
        let bce = b.bce_with(&tp, &tt, &bce((&tw).into()), LossRequest::new().grad(Grad::New).upstream(&tg))?;
        let mse =
            b.mse_with(&tx, &tt, &mse((&on(&repeated)).into()), LossRequest::new().grad(Grad::New).upstream(&tg))?;
        Ok([
            logits.loss.clone(),
            logits.gradient()?,
            bce.loss.clone(),
            bce.gradient()?,
            mse.loss.clone(),
            mse.gradient()?,
        ])
    });
    let want = [
        cpu::bce_with_logits_backward(
            (&x, &shape),
            (&t, &shape),
            &logits(w[..].into(), pos[..].into()),
            Some(&upstream),
        )
        .unwrap(),
        cpu::bce_backward((&p, &shape), (&t, &shape), &bce(w[..].into()), Some(&upstream)).unwrap(),
        cpu::mse_backward((&x, &shape), (&t, &shape), &mse(each), Some(&upstream)).unwrap(),
    ];
    let finite = |value: f32| if value.is_finite() { f64::from(value.abs()) } else { 0.0 };
    for (which, (name, want)) in ["bce_with_logits", "bce", "mse"].iter().zip(&want).enumerate() {
        // The size of the factor that the weight multiplies, and its error.
        let bound = |i: usize| {
            let p = f64::from(p[i]);
            let largest = [10.0 * (1.0 + finite(pos[i % 24])), 100.0 + 1.0 / (p * (1.0 - p)).max(1e-12), 200.0][which];
            (largest, 1e-6 * largest + FLUSHED)
        };
        let weighted = |i: usize, factor: f64| {
            let (size, abs) = bound(i);
            let (w, factor) = (finite(w[i % 24]), factor.max(1.0));
            let flushed = FLUSHED * (1.0 + w) * factor * (1.0 + size);
            ([w, factor, w * factor].iter().fold(0.0, |most: f64, by| most.max(by * size)), abs * w * factor + flushed)
        };
        let (loss, grad) = (&got[2 * which], &got[2 * which + 1]);
        agree(&format!("{name} {what}"), loss, &want.loss, 1e-6, |i| weighted(i, 1.0));
        agree(&format!("{name} grad {what}"), grad, &want.grad, 1e-6, |i| weighted(i, finite(g[i])));
    }
}

/// A token's hidden state affects only that token, and the sums that the token takes part in.
#[test]
fn linear_losses() {
    let Some(gpu) = gpu() else { return };
    on_all(&gpu, 16, &any::<u64>(), check_linear);
}

fn check_linear(gpu: &Gpu, seed: u64) {
    let [tokens, inputs, classes] = [21, 5, 33];
    let mut h = random(seed ^ 1, tokens * inputs, 1.0);
    // Only one hostile token, because the weight's gradient is a sum over all tokens.
    h[5 * inputs..6 * inputs].copy_from_slice(&hostile(Dims { outer: 1, classes: inputs, inner: 1 }, seed));
    let g: Vec<f32> = unit(seed ^ 2, tokens * classes).iter().map(|g| g + 0.5).collect();
    let w = random(seed, classes * inputs, 1.0);
    let mut index = labels(seed, tokens, classes);
    index[2] = -100;
    let t = unit(seed, tokens * classes);
    let what = format!("{seed} {:?}", gpu.caps().family);
    let th = Tensor::from_slice(gpu, [tokens, inputs], &h).unwrap();
    let tw = Tensor::from_slice(gpu, [classes, inputs], &w).unwrap();
    let ty = Targets::new(gpu, [tokens], &index, classes).unwrap();
    let tt = Tensor::from_slice(gpu, [tokens, classes], &t).unwrap();
    let loss = CrossEntropy::new().reduction(Reduction::None);
    let bce = BceWithLogits::new().reduction(Reduction::None);
    let got: [Vec<f32>; 6] = eval(gpu, |b| {
        let upstream = Tensor::from_slice(gpu, [tokens], &g[..tokens])?;
        let backward = LinearLossRequest::gradients().upstream(&upstream);
        let ce = b.linear_cross_entropy_with(&th, &tw, None, &ty, &loss.clone().into(), backward)?;
        let upstream = Tensor::from_slice(gpu, [tokens, classes], &g)?;
        let backward = LinearLossRequest::gradients().upstream(&upstream);
        let options = LinearBceWithLogits::new().loss(bce.clone());
        let bce = b.linear_bce_with_logits_with(&th, &tw, None, &tt, &options, backward)?;
        Ok([
            ce.loss,
            ce.hidden_grad.unwrap(),
            ce.weight_grad.unwrap(),
            bce.loss,
            bce.hidden_grad.unwrap(),
            bce.weight_grad.unwrap(),
        ])
    });
    let (on_host, upstream) = (((&h[..], [tokens, inputs]), (&w[..], [classes, inputs])), f64s(&g));
    let (hidden, weight) = on_host;
    let ce = cpu::linear_cross_entropy(hidden, weight, None, &index, &loss.into(), Some(&upstream[..tokens])).unwrap();
    let bce = cpu::linear_bce_with_logits(hidden, weight, None, &f64s(&t), &bce, Some(&upstream)).unwrap();
    // The bound of a token's logits, and of their rounding errors.
    let size = |token: usize| largest(&h[token * inputs..][..inputs]) * 1.5 * inputs as f64;
    let abs = |token: usize| 1e-6 * size(token) + 1e-6;
    // A softmax of logits with large errors may have any value.
    let slope = |token: usize| if abs(token) > 0.1 { 2.0 } else { 2.0 * abs(token) };
    let by_token = |per_logit: f64| move |i: usize| (2.0 * size(i / inputs), per_logit * slope(i / inputs));
    let by_input = |i: usize| {
        let of = |token: usize| largest([&h[token * inputs + i % inputs]]);
        let sizes: f64 = (0..tokens).map(of).sum();
        // An overflow in one token's logits affects all sums.
        let largest = (0..tokens).map(size).fold(4.0 * sizes, f64::max);
        (largest, (0..tokens).map(|token| of(token) * slope(token)).sum::<f64>() + 1e-6 * sizes + FLUSHED)
    };
    agree(&format!("loss {what}"), &got[0], &ce.loss, 4e-6, |token| (size(token), abs(token)));
    agree(&format!("hidden {what}"), &got[1], &ce.hidden, 4e-6, by_token(4.0));
    agree(&format!("weight {what}"), &got[2], &ce.weight, 4e-6, by_input);
    agree(&format!("bce {what}"), &got[3], &bce.loss, 4e-6, |i| (size(i / classes), abs(i / classes)));
    agree(&format!("bce hidden {what}"), &got[4], &bce.hidden, 4e-6, by_token(1.5 * classes as f64));
    agree(&format!("bce weight {what}"), &got[5], &bce.weight, 4e-6, by_input);
}
