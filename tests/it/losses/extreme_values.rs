//! Elementwise losses of values at the ends of `f32`, with factors of any size.

use xent::loss::{Grad, LossRequest, Reduction};
use xent::{Error, Tensor, Weights};

use super::{Loss, wide};
use crate::common::{close, eval, families, gpu, one_in, try_eval};
use crate::tiny_and_huge::agree_where_normal;

/// Values at the ends of `f32`, infinities and NaN: results have the kind and size of the
/// reference's results, unless the reference refuses them, too.
pub(super) fn hostile_values<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    // Products of subnormal numbers and weights have few digits: `tiny_and_huge` has them.
    let ends =
        [0.0, -0.0, 1.0, -1.0, 1e-37, 88.0, -104.0, 1e19, -1e30, 3.4e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for gpu in families(&gpu) {
        for options in L::variants(&[1]) {
            let options = options.set(None, Reduction::None, false);
            for x in ends {
                // Losses for targets in [0, 1] cancel if a target is huge.
                let near = |y: &f32| L::RANGES[1][1] > 1.0 || !y.is_finite() || y.abs() <= 1.0;
                let pairs: Vec<f32> = ends.into_iter().filter(near).collect();
                let xs = vec![x; pairs.len()];
                let on = |values: &[f32]| Tensor::from_slice(&gpu, [values.len()], values).unwrap();
                let got = try_eval(&gpu, |b| {
                    let out = options.with(b, &on(&xs), &on(&pairs), Grad::New.into())?;
                    Ok([out.loss.clone(), out.gradient()?])
                });
                let (xs, ys) = (wide(&xs), wide(&pairs));
                let want = options.reference((&xs, [xs.len()]).into(), (&ys, [ys.len()]).into(), None);
                match (got, want) {
                    (Ok([loss, grad]), Ok(want)) => {
                        let what = format!("{} at {x:e} {:?}", L::NAME, gpu.caps().family);
                        kinds(&format!("loss {what}"), &loss, &want.loss);
                        kinds(&format!("gradient {what}"), &grad, &want.grad);
                    }
                    (Err(Error::Data { .. }), Err(Error::Value { .. })) => {}
                    (got, want) => panic!("{} at {x:e}: {got:?} against {want:?}", L::NAME),
                }
            }
        }
    }
}

/// Scalar upstream gradients from the smallest normal number to a large one, on as many elements as
/// the kernels process without checks.
pub(super) fn factors_of_any_size<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let (shape, len) = (&[5000][..], 5000);
    let (x, y) = (L::input(21, len), L::target(22, len));
    let on = |values: &[f32]| Tensor::from_slice(&gpu, shape, values).unwrap();
    let (tx, ty, x, y) = (on(&x), on(&y), wide(&x), wide(&y));
    for gpu in families(&gpu) {
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let options = L::default().set(None, reduction, false);
            for upstream in [1.2e-38, 3e-30, -1e-20, 1e-17, -1e-10, 1e5, 1e20] {
                let g = Tensor::from_slice(&gpu, [], &[upstream]).unwrap();
                let [grad] = eval(&gpu, |b| {
                    let request = LossRequest::new().upstream(&g).grad(Grad::New);
                    Ok([options.with(b, &tx, &ty, request)?.gradient()?])
                });
                let host = [f64::from(upstream)];
                let want = options.reference((&x, shape).into(), (&y, shape).into(), Some(&host)).unwrap().grad;
                let largest = want.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
                let what = format!("{} {reduction:?} upstream {upstream:e} {:?}", L::NAME, gpu.caps().family);
                // Hardware can flush results below the normal numbers.
                close(&what, &grad, &want, 2e-6, 3e-7 * largest + 1.2e-38);
            }
        }
    }
}

/// Gradients that are ordinary numbers although one of their factors is huge, and another is
/// subnormal or would be if it were stored: hardware that flushes subnormal numbers to 0 must not
/// lose them.
pub(super) fn tiny_and_huge_factors<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let [[input_low, _], [target_low, _]] = L::RANGES;
    // Probabilities, logits, or numbers whose difference counts.
    let (x, y): ([f32; 14], [f32; 14]) = if input_low >= 0.0 {
        (
            [1e-40, 1e-44, 2e-38, 1e-39, 0.0, 0.5, 1e-30, 1.0, 3e-38, 1e-45, 1e-20, 0.75, 1e-38, 1e-41],
            [0.0, 0.0, 1.9e-38, 3e-40, 1e-41, 1e-40, 0.0, 1.0, 2.9e-38, 0.0, 0.0, 0.5, 0.0, 1e-40],
        )
    } else if target_low >= 0.0 {
        (
            [-87.4, 87.4, -100.0, 120.0, -150.0, 170.0, -30.0, 2.0, -95.0, 95.0, -50.0, 43.0, -173.0, 1e38],
            [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.25, 0.5, 1.0, 1.0, 0.0, 0.0, 1.0],
        )
    } else {
        (
            [1e-40, -1e-44, 2e-38, 1e30, 0.0, 0.5, 1e-30, -3e-25, 3e-38, 1e-45, -1e38, 0.75, 1e-20, 1e-19],
            [0.0, 0.0, 1.9e-38, 1e29, 1e-41, 1e-40, 0.0, 2e-25, 2.9e-38, 0.0, 1e30, 0.5, 1e-40, 1e-19],
        )
    };
    let shape = &[x.len()][..];
    let on = |values: &[f32]| Tensor::from_slice(&gpu, shape, values).unwrap();
    let (tx, ty, x, y) = (on(&x), on(&y), wide(&x), wide(&y));
    let mut chosen = one_in(11);
    for gpu in families(&gpu) {
        for options in L::variants(&[]) {
            for weight in [None, Some(1e-40), Some(1e38), Some(3e-45), Some(1e-20)] {
                for upstream in [1.0f32, -1e38, 1e-38, 1e-40, 1e20] {
                    for each in [false, true] {
                        if !chosen() {
                            continue;
                        }
                        let reduction = if each { Reduction::None } else { Reduction::MeanByCount };
                        let g = vec![upstream; if each { x.len() } else { 1 }];
                        let tg = Tensor::from_slice(&gpu, if each { shape } else { &[] }, &g).unwrap();
                        let weights = weight.map(|w| Weights::new(shape, &vec![w; x.len()]).unwrap());
                        let options = options.set(weights, reduction, false);
                        let [got] = eval(&gpu, |b| {
                            let request = LossRequest::new().grad(Grad::New).upstream(&tg);
                            Ok([options.with(b, &tx, &ty, request)?.gradient()?])
                        });
                        let want = options.reference((&x, shape).into(), (&y, shape).into(), Some(&wide(&g)));
                        let what = format!("{} weight {weight:?}, upstream {upstream:e}, {each}", L::NAME);
                        agree_where_normal(
                            &format!("{what}, {:?}", gpu.caps().family),
                            &got,
                            &want.unwrap().grad,
                            2e-6,
                        );
                    }
                }
            }
        }
    }
}

/// Checks that numbers are of the same kind, and close unless intermediate results overflow or
/// hardware flushes them.
fn kinds(what: &str, got: &[f32], want: &[f64]) {
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let rounded = want as f32;
        let fine = match rounded {
            w if w.is_nan() => got.is_nan(),
            // A square or a product may overflow if the result nearly does.
            w if w.abs() > 1e37 => got.abs() > 1e37 || got.is_nan(),
            w if w.abs() < 1.2e-38 => got.abs() <= 2.4e-38,
            _ => (f64::from(got) - want).abs() <= 4e-6 * want.abs() + 1e-37,
        };
        assert!(fine, "{what}, element {i}: got {got:e}, want {want:e}");
    }
}
