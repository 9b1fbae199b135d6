//! Values that plain arithmetic gets wrong: infinities, NaN, ignored rows, targets that are not
//! classes.

use crate::common::*;
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, Mse, Nll, Reduction, Targets};
use xent::{Error, Layout, Tensor, Weights, cpu};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
fn none() -> CrossEntropy {
    CrossEntropy::new().reduction(Reduction::None)
}

#[test]
fn rows_with_infinities_and_nan() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        // Short rows and rows that a whole workgroup shares, with the special value first, last and
        // in between.
        for classes in [4usize, 50, 3000] {
            for at in [0, classes / 2, classes - 1] {
                let mut logits = random(1, 8 * classes, 2.0);
                let mut row = |row: usize, value: f32| logits[row * classes + at] = value;
                row(0, NAN);
                row(1, INF);
                row(2, -INF);
                row(3, f32::from_bits(0xffff_ffff));
                row(4, f32::MAX);
                row(5, f32::MIN);
                logits[6 * classes..7 * classes].fill(-INF);
                logits[7 * classes..].fill(f32::MIN);
                let shape = [8, classes];
                for target in [at, (at + 1) % classes] {
                    let targets = vec![target as i64; 8];
                    let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
                    let y = Targets::new(&gpu, [8], &targets, classes).unwrap();
                    let [loss, grad, log_probs] = eval(&gpu, |b| {
                        let out = b.cross_entropy_with(&x, &y, &none(), Grad::New)?;
                        Ok([out.loss.clone(), out.gradient()?, b.log_softmax(&x, 1)?])
                    });
                    let want = cpu::cross_entropy_backward((&logits, &shape), &targets, &none(), None).unwrap();
                    let what = format!("{classes} classes, special at {at}, target {target}");
                    close(&what, &loss, &want.loss, 1e-6, 1e-6);
                    close(&format!("grad {what}"), &grad, &want.grad, 2e-6, 2e-7);
                    let want = cpu::log_softmax((&logits, &shape), 1).unwrap();
                    close(&format!("log_softmax {what}"), &log_probs, &want, 1e-6, 1e-6);
                    // The reference's results, once by hand.
                    assert!(loss[0].is_nan() && loss[1].is_nan() && loss[3].is_nan() && loss[6].is_nan());
                    assert_eq!(loss[2] == INF, target == at, "-infinity costs +infinity where it is the target");
                    assert!(grad[2 * classes..3 * classes].iter().all(|g| g.is_finite()));
                }
            }
        }
    }
}

#[test]
fn ignored_rows_cost_nothing_whatever_they_hold() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for classes in [3usize, 70] {
            let mut logits = random(1, 4 * classes, 2.0);
            logits[classes] = NAN;
            logits[2 * classes..3 * classes].fill(-INF);
            for ignored in [-100, 2, 255, i64::MIN, i64::MAX] {
                let options = CrossEntropy::new();
                let x = Tensor::from_slice(&gpu, [4, classes], &logits).unwrap();
                let targets = [0, ignored, ignored, 1];
                let y = Targets::new_ignoring(&gpu, [4], &targets, classes, ignored).unwrap();
                let [loss, grad] = eval(&gpu, |b| {
                    let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                    Ok([out.loss.clone(), out.gradient()?])
                });
                let host = cpu::Targets::from(&targets).ignoring(ignored);
                let want = cpu::cross_entropy_backward((&logits, [4, classes]), host, &options, None).unwrap();
                close("loss", &loss, &want.loss, 1e-6, 1e-6);
                close("grad", &grad, &want.grad, 2e-6, 2e-7);
                let of_ignored = &grad[classes..3 * classes];
                assert!(of_ignored.iter().all(|g| g.to_bits() == 0), "exactly 0: {of_ignored:?}");

                // All ignored: the mean is NaN, the sum 0, the gradient 0.
                let y = Targets::new_ignoring(&gpu, [4], &[ignored; 4], classes, ignored).unwrap();
                let nll = Nll::new();
                let sum = CrossEntropy::new().reduction(Reduction::Sum);
                let [mean, grad, sum, nll, nll_grad] = eval(&gpu, |b| {
                    let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                    let nll = b.nll_with(&x, &y, &nll, Grad::New)?;
                    Ok([
                        out.loss.clone(),
                        out.gradient()?,
                        b.cross_entropy(&x, &y, &sum)?,
                        nll.loss.clone(),
                        nll.gradient()?,
                    ])
                });
                assert!(mean[0].is_nan() && nll[0].is_nan());
                assert_eq!(sum, [0.0]);
                assert!(grad.iter().chain(&nll_grad).all(|g| g.to_bits() == 0));
            }
        }
    }
}

#[test]
fn a_target_on_the_gpu_that_is_no_class_poisons_its_row_and_is_reported() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for (classes, bad) in [(3usize, 3), (3, -1), (50, i32::MAX), (50, i32::MIN + 1)] {
            // Positions after the first block of the check, so that the combination of blocks is
            // tested, too.
            let rows = 1500;
            let logits = random(1, rows * classes, 1.0);
            let mut targets = vec![1; rows];
            targets[1300] = bad;
            targets[1400] = bad;
            let x = Tensor::from_slice(&gpu, [rows, classes], &logits).unwrap();
            // As an application might: the targets were never checked on the host.
            let y = Tensor::<i32>::from_slice(&gpu, [rows], &targets).unwrap();
            let mut batch = gpu.batch();
            let out = batch.cross_entropy_with(&x, &y, &none(), Grad::New).unwrap();
            let mean = batch.cross_entropy(&x, &y, &CrossEntropy::default()).unwrap();
            // A view of a result's buffer without its check, to see the poison itself.
            let bare = |t: &Tensor<f32>| {
                Tensor::<f32>::from_buffer(&gpu, t.buffer().clone(), t.offset(), t.shape().clone()).unwrap()
            };
            let mut bare_values =
                [&out.loss.clone(), &out.gradient().unwrap(), &mean].map(|t| batch.read(&bare(t)).unwrap());
            let mut checked = [&out.loss.clone(), &out.gradient().unwrap(), &mean].map(|t| batch.read(t).unwrap());
            batch.submit().unwrap();
            for ticket in &mut checked {
                let error = ticket.wait(TIMEOUT).unwrap_err();
                assert!(matches!(error, Error::Data { position: 1300, .. }), "{error}");
            }
            let [loss, grad, mean] = bare_values.each_mut().map(|t| t.wait(TIMEOUT).unwrap());
            assert!(mean[0].is_nan());
            for row in 0..rows {
                let poisoned = row == 1300 || row == 1400;
                assert_eq!(loss[row].is_nan(), poisoned, "loss of row {row}");
                let row_grad = &grad[row * classes..(row + 1) * classes];
                assert!(row_grad.iter().all(|g| g.is_nan() == poisoned), "gradient of row {row}");
            }
        }
    }
}

#[test]
fn bce_at_its_ends_and_outside() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let p = [0.0, 0.0, 1.0, 1.0, -0.0, 1e-40, 0.5, 1e-45, 1.0 - 6e-8, 1e-12];
        let y = [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.0, 1.0, 0.25];
        let tp = Tensor::from_slice(&gpu, [10], &p).unwrap();
        let ty = Tensor::from_slice(&gpu, [10], &y).unwrap();
        let none = Bce::new().reduction(Reduction::None);
        let [loss, grad] = eval(&gpu, |b| {
            let out = b.bce_with(&tp, &ty, &none, Grad::New)?;
            Ok([out.loss.clone(), out.gradient()?])
        });
        let want = cpu::bce_backward((&p, &[p.len()]), (&y, &[p.len()]), &none, None).unwrap();
        // Arithmetic may flush subnormal numbers: the loss's product, and p before its division by
        // 1e-12.
        let smallest = f64::from(f32::MIN_POSITIVE);
        close("loss", &loss, &want.loss, 1e-6, smallest);
        close("grad", &grad, &want.grad, 1e-6, smallest / 1e-12);
        assert_eq!(loss[1], 100.0);
        assert_eq!(grad[1], -1e12);

        for (which, bad) in
            [(0, -0.1), (0, 1.5), (0, NAN), (1, -1e-45), (1, f32::from_bits(0x3f80_0001)), (1, -NAN), (0, INF)]
        {
            let mut data = [unit(1, 3000), unit(2, 3000)];
            data[which][2100] = bad;
            let [tp, ty] = data.each_ref().map(|v| Tensor::from_slice(&gpu, [3000], v).unwrap());
            for reduction in [Reduction::None, Reduction::Mean] {
                let error = try_eval(&gpu, |b| Ok([b.bce(&tp, &ty, &Bce::new().reduction(reduction))?])).unwrap_err();
                assert!(matches!(error, Error::Data { op: "bce", position: 2100, .. }), "{error}");
            }
            let [unchecked] = eval(&gpu, |b| {
                let loss = b.bce(&tp, &ty, &none)?;
                Ok([Tensor::from_buffer(&gpu, loss.buffer().clone(), 0, [3000])?])
            });
            assert!(unchecked.iter().enumerate().all(|(i, l)| l.is_nan() == (i == 2100)));
        }
    }
}

#[test]
fn bce_with_logits_takes_its_limits() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        #[rustfmt::skip]
        let cases = [
            // (logit, target, loss, gradient)
            (INF, 1.0, 0.0, 0.0), (INF, 0.0, INF, 1.0), (-INF, 0.0, 0.0, 0.0), (-INF, 1.0, INF, -1.0),
            (INF, 0.5, INF, 0.5), (-INF, 0.5, INF, -0.5),
            (0.0, 0.0, std::f32::consts::LN_2, 0.5), (0.0, 1.0, std::f32::consts::LN_2, -0.5),
            (f32::MAX, 1.0, 0.0, 0.0), (f32::MIN, 1.0, f32::MAX, -1.0), (200.0, 0.0, 200.0, 1.0),
            (NAN, 0.0, NAN, NAN), (0.0, NAN, NAN, NAN), (-NAN, 1.0, NAN, NAN), (INF, NAN, NAN, NAN),
        ];
        let x = cases.map(|c| c.0);
        let y = cases.map(|c| c.1);
        let [tx, ty] = [x, y].map(|v| Tensor::from_slice(&gpu, [v.len()], &v).unwrap());
        let none = BceWithLogits::new().reduction(Reduction::None);
        let [loss, grad] = eval(&gpu, |b| {
            let out = b.bce_with_logits_with(&tx, &ty, &none, Grad::New)?;
            Ok([out.loss.clone(), out.gradient()?])
        });
        let reference = cpu::bce_with_logits_backward((&x, &[x.len()]), (&y, &[x.len()]), &none, None).unwrap();
        close("loss", &loss, &reference.loss, 1e-6, 0.0);
        close("grad", &grad, &reference.grad, 1e-6, 0.0);
        close("loss", &loss, &cases.map(|c| f64::from(c.2)), 1e-6, 0.0);
        close("grad", &grad, &cases.map(|c| f64::from(c.3)), 1e-6, 0.0);

        // Confident and right outputs: tiny losses and gradients keep their digits.
        let x: Vec<f32> = (0..100).map(|i| i as f32 - 50.0).collect();
        let y: Vec<f32> = x.iter().map(|&x| f32::from(u8::from(x > 0.0))).collect();
        let [tx, ty] = [&x, &y].map(|v| Tensor::from_slice(&gpu, [100], v).unwrap());
        let [loss, grad] = eval(&gpu, |b| {
            let out = b.bce_with_logits_with(&tx, &ty, &none, Grad::New)?;
            Ok([out.loss.clone(), out.gradient()?])
        });
        let reference = cpu::bce_with_logits_backward((&x, &[x.len()]), (&y, &[x.len()]), &none, None).unwrap();
        close("loss", &loss, &reference.loss, 1e-6, 0.0);
        close("grad", &grad, &reference.grad, 1e-6, 0.0);
    }
}

#[test]
fn a_coefficient_of_zero_wins_over_an_infinite_term() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        // The second class is masked. It has probability 0 in the first row, and is the target of
        // the others.
        let logits = [0.0, -INF, 0.0, 1.0, -INF, 2.0];
        let x = Tensor::from_slice(&gpu, [2, 3], &logits).unwrap();
        let q = Tensor::from_slice(&gpu, [2, 3], &[0.25f32, 0.0, 0.75, 1.0, 0.0, 0.0]).unwrap();
        let y = Targets::new(&gpu, [2], &[1, 1], 3).unwrap();
        let free = none().weight(Weights::from([1.0, 0.0, 1.0]));
        let free_nll = Nll::new().weight(free.weight.clone()).reduction(Reduction::None);
        let tx = Tensor::from_slice(&gpu, [3], &[INF, -INF, INF]).unwrap();
        let ty = Tensor::from_slice(&gpu, [3], &[0.0f32, 1.0, 0.5]).unwrap();
        let no_weight = BceWithLogits::new().weight(Weights::from([0.0])).reduction(Reduction::None);
        let [soft, soft_grad, index, index_grad, nll, bce, bce_grad, mean] = eval(&gpu, |b| {
            let soft = b.cross_entropy_with(&x, &q, &none(), Grad::New)?;
            let index = b.cross_entropy_with(&x, &y, &free, Grad::New)?;
            let nll = b.nll(&x, &y, &free_nll)?;
            let bce = b.bce_with_logits_with(&tx, &ty, &no_weight, Grad::New)?;
            let mean = b.cross_entropy(&x, &y, &free.clone().reduction(Reduction::Mean))?;
            Ok([
                soft.loss.clone(),
                soft.gradient()?,
                index.loss.clone(),
                index.gradient()?,
                nll,
                bce.loss.clone(),
                bce.gradient()?,
                mean,
            ])
        });
        close("soft", &soft, &[2f64.ln(), 1.0 + (-1f64).exp().ln_1p()], 1e-6, 0.0);
        assert!(soft_grad.iter().all(|g| g.is_finite()) && soft_grad[1] == 0.0);
        assert_eq!(index, [0.0, 0.0]);
        assert_eq!(index_grad, [0.0; 6]);
        assert_eq!(nll, [0.0, 0.0]);
        assert_eq!((bce, bce_grad), (vec![0.0; 3], vec![0.0; 3]));
        assert!(mean[0].is_nan(), "all weights are 0: 0 / 0");
        // A masked target costs +infinity if its weight is not 0.
        let [masked] = eval(&gpu, |b| Ok([b.cross_entropy(&x, &y, &none())?]));
        assert_eq!(masked, [INF, INF]);
    }
}

#[test]
fn maps_of_special_values() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let x = [0.0, -0.0, INF, -INF, NAN, -NAN, f32::MIN, 1e-45, -1e-45];
        let g = [1.0; 9];
        let [tx, tg] = [x, g].map(|v| Tensor::from_slice(&gpu, [9], &v).unwrap());
        let [relu, relu_grad, sigmoid] = eval(&gpu, |b| {
            let relu = b.relu(&tx)?;
            Ok([relu.clone(), b.relu_backward(&relu, &tg)?, b.sigmoid(&tx)?])
        });
        close("relu", &relu, &cpu::relu(&x), 0.0, 0.0);
        close("relu_backward", &relu_grad, &cpu::relu_backward(&relu, &g).unwrap(), 0.0, 0.0);
        close("sigmoid", &sigmoid, &cpu::sigmoid(&x), 3e-7, 0.0);
    }
}

#[test]
fn products_and_squares_of_special_values() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        // A special value reaches only its own row of the product, also at the edge of a tile.
        let (m, n, k) = (11, 37, 21);
        for (special, at) in [(NAN, 0), (INF, 5 * k + 20), (-INF, 10 * k)] {
            let mut a = random(1, m * k, 1.0);
            a[at] = special;
            let b: Vec<f32> = unit(2, n * k).iter().map(|v| v + 0.5).collect();
            let ta = Tensor::from_slice(&gpu, [m, k], &a).unwrap();
            let tb = Tensor::from_slice(&gpu, [n, k], &b).unwrap();
            let [c] = eval(&gpu, |r| Ok([r.matmul(Layout::Nt, &ta, &tb, None)?]));
            let want = cpu::matmul(Layout::Nt, (&a, &[m, k]), (&b, &[n, k]), None).unwrap();
            close(&format!("{special} at {at}"), &c, &want, 1e-6, 1e-5);
        }
        let x = [3e38, INF, -INF, NAN, 0.0, 2e19, 1e-30];
        let y = [0.0, 1.0, 2.0, 3.0, NAN, 0.0, 0.0];
        let [tx, ty] = [x, y].map(|v| Tensor::from_slice(&gpu, [7], &v).unwrap());
        for reduction in [Reduction::None, Reduction::Mean] {
            let options = Mse::new().reduction(reduction);
            let [loss, grad] = eval(&gpu, |b| {
                let out = b.mse_with(&tx, &ty, &options, Grad::New)?;
                Ok([out.loss.clone(), out.gradient()?])
            });
            let want = cpu::mse_backward((&x, &[x.len()]), (&y, &[y.len()]), &options, None).unwrap();
            // Subnormal squares may be flushed.
            close("mse", &loss, &want.loss, 1e-6, f64::from(f32::MIN_POSITIVE));
            close("mse grad", &grad, &want.grad, 1e-6, 0.0);
        }
    }
}

#[test]
fn reductions_over_zero_elements() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let x = Tensor::<f32>::from_slice(&gpu, [0, 5], &[]).unwrap();
        let y = Tensor::<i32>::from_slice(&gpu, [0], &[]).unwrap();
        let e = Tensor::<f32>::from_slice(&gpu, [0], &[]).unwrap();
        for (reduction, want) in [(Reduction::Mean, Some(NAN)), (Reduction::Sum, Some(0.0)), (Reduction::None, None)] {
            let out = eval(&gpu, |b| {
                let ce = b.cross_entropy_with(&x, &y, &none().reduction(reduction), Grad::New)?;
                let bce = b.bce_with(&e, &e, &Bce::new().reduction(reduction), Grad::New)?;
                Ok([ce.loss.clone(), bce.loss.clone(), ce.gradient()?, bce.gradient()?])
            });
            for loss in &out[..2] {
                assert_eq!(loss.len(), usize::from(want.is_some()));
                assert!(want.is_none_or(|w| w.to_bits() == loss[0].to_bits() || (w.is_nan() && loss[0].is_nan())));
            }
            assert!(out[2].is_empty() && out[3].is_empty());
        }
    }
}

#[test]
fn a_weight_of_0_wins_over_either_infinity() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        // At +infinity the loss of a target above 1 falls without end.
        let (x, y) = ([INF, INF, -INF, -INF], [1.5, 0.5, 0.5, -0.5]);
        let options = BceWithLogits::new().weight(Weights::from([0.0])).reduction(Reduction::None);
        let [tx, ty] = [x, y].map(|v| Tensor::from_slice(&gpu, [4], &v).unwrap());
        let [loss] = eval(&gpu, |b| Ok([b.bce_with_logits(&tx, &ty, &options)?]));
        let want = cpu::bce_with_logits((&x, &[4]), (&y, &[4]), &options).unwrap();
        assert_eq!((loss, want), (vec![0.0; 4], vec![0.0; 4]));
    }
}

#[test]
fn softmax_of_a_scalar() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&gpu, [], &[3.0]).unwrap();
    let [p, log_p, grad] = eval(&gpu, |b| {
        let p = b.softmax(&x, 0)?;
        Ok([p.clone(), b.log_softmax(&x, 0)?, b.softmax_backward(&p, &x, 0)?])
    });
    assert_eq!((p, log_p, grad), (vec![1.0], vec![0.0], vec![0.0]));
    assert_eq!(cpu::softmax((&[3.0f32], &[]), 0).unwrap(), [1.0]);
}

#[test]
fn softmax_gradients_of_huge_upstream_gradients() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for g in [[2e38, -1e38, 1.0], [INF, 1.0, 1.0], [3e38; 3]] {
            let y = [0.5f32, 0.25, 0.25];
            let [ty, tg] = [y, g].map(|v| Tensor::from_slice(&gpu, [1, 3], &v).unwrap());
            let [grad] = eval(&gpu, |b| Ok([b.softmax_backward(&ty, &tg, 1)?]));
            let want = cpu::softmax_backward((&y, &[1, 3]), &g, 1).unwrap();
            close(&format!("{g:?}"), &grad, &want, 1e-6, 3e31);
        }
    }
}
