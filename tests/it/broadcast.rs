//! NumPy's broadcasting: weights over a tensor, and the two tensors of the squared error.

use crate::common::*;
use xent::loss::{Bce, BceWithLogits, Grad, LossRequest, Mse, Reduction};
use xent::{Error, Tensor, Weights, cpu};

/// A column of predictions and a row of targets do not become N x N losses without a request.
#[test]
fn shapes_that_differ_are_errors_unless_broadcasting_is_asked_for() {
    let fits = |error: Error, op: &str, shapes: [&str; 2]| {
        let text = error.to_string();
        assert!(matches!(error, Error::Shape { what: "targets", .. }), "{text}");
        assert!(text.starts_with(op) && shapes.iter().all(|shape| text.contains(shape)), "{text}");
        assert!(text.contains("with the option `broadcast`"), "{text}");
    };
    let (column, row) = (&[4, 1][..], &[4][..]);
    let broadcast = Mse::new().broadcast(true);
    for (shape, other) in [(column, row), (row, column), (&[], row), (&[2, 4], row)] {
        let (x, y) = (unit(1, shape.iter().product()), unit(2, other.iter().product()));
        let shapes = [&format!("{shape:?}")[..], &format!("{other:?}")];
        let error = cpu::mse_backward((&x, shape), (&y, other), &Mse::default(), None).unwrap_err();
        fits(error, "cpu::mse", shapes);
        let want = cpu::mse_backward((&x, shape), (&y, other), &broadcast, None).unwrap();
        let Some(gpu) = gpu() else { continue };
        let (tx, ty) = (Tensor::from_slice(&gpu, shape, &x).unwrap(), Tensor::from_slice(&gpu, other, &y).unwrap());
        let mut b = gpu.batch();
        let before = gpu.counters().dispatches;
        fits(b.mse(&tx, &ty, &Mse::default()).unwrap_err(), "mse: ", shapes);
        fits(b.mse_with(&tx, &ty, &Mse::default(), Grad::New).unwrap_err(), "mse: ", shapes);
        fits(b.bce(&tx, &ty, &Bce::default()).unwrap_err(), "bce: ", shapes);
        let logits = BceWithLogits::default();
        fits(b.bce_with_logits(&tx, &ty, &logits).unwrap_err(), "bce_with_logits", shapes);
        assert_eq!(gpu.counters().dispatches, before, "nothing is recorded");
        let out = b.mse_with(&tx, &ty, &broadcast, Grad::New).unwrap();
        let (mut loss, mut grad) = (b.read(&out.loss).unwrap(), b.read(&out.gradient().unwrap()).unwrap());
        b.submit().unwrap();
        close("loss", &loss.wait(TIMEOUT).unwrap(), &want.loss, 1e-6, 0.0);
        close("grad", &grad.wait(TIMEOUT).unwrap(), &want.grad, 1e-6, 1e-7);
    }
}

const REDUCTIONS: [Reduction; 4] = [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum];

#[test]
fn weights_are_broadcast() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(31);
    let cases: &[(&[usize], &[&[usize]])] = &[
        (&[], &[&[]]),
        (&[7], &[&[], &[1], &[7]]),
        (&[3, 4], &[&[], &[1], &[4], &[3, 1], &[1, 4], &[1, 1], &[3, 4]]),
        (&[2, 3, 4, 5], &[&[4, 1], &[3, 1, 1], &[2, 1, 4, 1], &[2, 1, 1, 5], &[3, 1, 5], &[2, 3, 4, 5], &[2, 1, 4, 5]]),
        (&[1, 3, 1, 4], &[&[3, 1, 1], &[4], &[1, 3, 1, 4]]),
        // More than a block and, with small limits, more than a binding.
        (&[40, 6, 50], &[&[40, 1, 50], &[6, 1], &[40, 6, 50], &[50]]),
        (&[0, 3], &[&[3], &[0, 1]]),
    ];
    for gpu in devices(&gpu) {
        for (shape, weights) in cases {
            let len: usize = shape.iter().product();
            let (p, y, x) = (unit(1, len), unit(2, len), random(3, len, 8.0));
            let [tp, ty, tx] = [&p, &y, &x].map(|v| Tensor::from_slice(&gpu, *shape, v).unwrap());
            for (k, &own) in weights.iter().enumerate() {
                let count = own.iter().product();
                let weight = Weights::new(own, &unit(5, count)).unwrap();
                let other = weights[(k + 1) % weights.len()];
                let pos_weight = Weights::new(other, &unit(6, other.iter().product())).unwrap();
                for reduction in REDUCTIONS.into_iter().filter(|_| chosen()) {
                    let what = format!("{shape:?} weight {own:?} pos_weight {other:?} {reduction:?}");
                    let bce = Bce::new().weight(weight.clone()).reduction(reduction);
                    let logits =
                        BceWithLogits::new().weight(weight.clone()).pos_weight(pos_weight.clone()).reduction(reduction);
                    let [a, ag, b, bg] = eval(&gpu, |b| {
                        let o0 = b.bce_with(&tp, &ty, &bce, Grad::New)?;
                        let o1 = b.bce_with_logits_with(&tx, &ty, &logits, Grad::New)?;
                        Ok([o0.loss.clone(), o0.gradient()?, o1.loss.clone(), o1.gradient()?])
                    });
                    let want = cpu::bce_backward((&p, *shape), (&y, *shape), &bce, None).unwrap();
                    close(&format!("bce {what}"), &a, &want.loss, 1e-6, 1e-7);
                    close(&format!("bce grad {what}"), &ag, &want.grad, 1e-6, 3e-7);
                    let want = cpu::bce_with_logits_backward((&x, *shape), (&y, *shape), &logits, None).unwrap();
                    close(&format!("bce_with_logits {what}"), &b, &want.loss, 1e-6, 1e-7);
                    close(&format!("bce_with_logits grad {what}"), &bg, &want.grad, 1e-6, 3e-7);
                }
            }
        }
    }
}

#[test]
fn mse_takes_weights_and_broadcasts_both_tensors() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(31);
    let cases: &[(&[usize], &[usize])] = &[
        (&[], &[]),
        (&[7], &[7]),
        (&[40, 1030], &[40, 1030]),
        (&[3, 1], &[3]),
        (&[3], &[3, 1]),
        (&[1], &[5, 2]),
        (&[], &[5, 2]),
        (&[5, 2], &[]),
        (&[4, 1, 6], &[5, 1]),
        (&[2, 1, 3, 1], &[4, 1, 5]),
        // Sums over long dimensions, before and after others.
        (&[1, 3], &[5000, 3]),
        (&[3, 1], &[3, 4000]),
        (&[0, 3], &[1, 3]),
        (&[1, 3], &[0, 3]),
    ];
    for gpu in devices(&gpu) {
        for &(shape, targets_shape) in cases {
            let (len, targets_len) = (shape.iter().product(), targets_shape.iter().product());
            let (x, y) = (random(1, len, 3.0), random(2, targets_len, 3.0));
            let tx = Tensor::from_slice(&gpu, shape, &x).unwrap();
            let ty = Tensor::from_slice(&gpu, targets_shape, &y).unwrap();
            for weight in [None, Some(Weights::new(shape, &unit(3, len)).unwrap())] {
                for reduction in REDUCTIONS.into_iter().filter(|_| chosen()) {
                    let options = Mse::new().weight(weight.clone()).broadcast(true).reduction(reduction);
                    let what = format!("{shape:?} {targets_shape:?} {} {reduction:?}", weight.is_some());
                    let want = cpu::mse_backward((&x, shape), (&y, targets_shape), &options, None).unwrap();
                    let upstream = random(4, want.loss.len(), 2.0);
                    let wide: Vec<f64> = upstream.iter().copied().map(f64::from).collect();
                    let mut batch = gpu.batch();
                    let out = batch.mse_with(&tx, &ty, &options, Grad::New).unwrap();
                    let g = Tensor::from_slice(&gpu, out.loss.shape().clone(), &upstream).unwrap();
                    let scaled =
                        batch.mse_with(&tx, &ty, &options, LossRequest::new().grad(Grad::New).upstream(&g)).unwrap();
                    let forward = batch.mse(&tx, &ty, &options).unwrap();
                    assert_eq!(out.gradient().unwrap().shape()[..], *shape, "{what}");
                    let [loss, grad, scaled, forward] =
                        [&out.loss.clone(), &out.gradient().unwrap(), &scaled.gradient().unwrap(), &forward]
                            .map(|t| batch.read(t).unwrap());
                    batch.submit().unwrap();
                    let [loss, grad, scaled, forward] =
                        [loss, grad, scaled, forward].map(|mut t| t.wait(TIMEOUT).unwrap());
                    same_bits(&what, &loss, &forward);
                    close(&format!("loss {what}"), &loss, &want.loss, 2e-6, 1e-12);
                    // Terms of both signs are summed.
                    let terms = (want.loss.len() as f64 / (len as f64).max(1.0)).max(1.0);
                    close(&format!("grad {what}"), &grad, &want.grad, 2e-6, 1e-6 * terms.sqrt());
                    let want = cpu::mse_backward((&x, shape), (&y, targets_shape), &options, Some(&wide)).unwrap();
                    close(&format!("scaled {what}"), &scaled, &want.grad, 2e-6, 4e-6 * terms.sqrt());
                }
            }
        }
    }
}
