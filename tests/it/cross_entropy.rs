//! Cross-entropy's options beyond PyTorch's, alone and together, and the loss's statistics.

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, LossRequest, Nll, Reduction, Statistics, Targets};
use xent::{Error, Gpu, Tensor, Weights, cpu};

pub(crate) const REDUCTIONS: [Reduction; 4] =
    [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum];

/// Rows of all lengths at which plans differ, inner dimensions, a single row, empty tensors.
const SHAPES: &[&[usize]] =
    &[&[7], &[1, 1], &[70, 10], &[4, 33], &[5, 255], &[3, 2052], &[2, 6, 5], &[3, 40, 2, 2], &[0, 4], &[3, 0]];

/// Options that differ from the defaults, one at a time and together, for rows of this shape.
pub(crate) fn variants(classes: usize, rows: &[usize]) -> Vec<CrossEntropy> {
    let len: usize = rows.iter().product();
    // Some positions have weight 0, some a negative weight.
    let mut weights = random(11, len, 2.0);
    weights.iter_mut().skip(2).step_by(4).for_each(|w| *w = 0.0);
    let position_weight = Some(Weights::new(rows, &weights).unwrap());
    let weight = Some(unit(12, classes).into());
    let base = CrossEntropy::default();
    vec![
        base.clone().position_weight(position_weight.clone()),
        base.clone().logit_scale(0.37),
        base.clone().softcap(3.0),
        base.clone().softcap(30.0).logit_scale(2.5),
        base.clone().z_loss(0.25),
        base.clone()
            .weight(weight.clone())
            .position_weight(position_weight.clone())
            .label_smoothing(0.1)
            .logit_scale(1.5)
            .softcap(8.0)
            .z_loss(0.01),
        base.weight(weight).position_weight(position_weight).z_loss(1e-3).logit_scale(3.0),
    ]
}

struct Case {
    shape: Vec<usize>,
    rows: Vec<usize>,
    classes: usize,
    logits: Vec<f32>,
    index: Vec<i64>,
    probabilities: Vec<f32>,
}

impl Case {
    fn new(shape: &[usize]) -> Self {
        let mut rows = shape.to_vec();
        let classes = rows.remove(usize::from(rows.len() > 1));
        let len: usize = shape.iter().product();
        let mut index = labels(3, rows.iter().product(), classes.max(1));
        index.iter_mut().skip(1).step_by(5).for_each(|target| *target = -100);
        if classes == 0 {
            index.fill(-100);
        }
        let (logits, probabilities) = (random(2, len, 5.0), unit(4, len));
        Self { shape: shape.to_vec(), rows, classes, logits, index, probabilities }
    }

    fn upload(&self, gpu: &Gpu) -> (Tensor<f32>, Targets, Tensor<f32>) {
        (
            Tensor::from_slice(gpu, &self.shape[..], &self.logits).unwrap(),
            Targets::new(gpu, &self.rows[..], &self.index, self.classes).unwrap(),
            Tensor::from_slice(gpu, &self.shape[..], &self.probabilities).unwrap(),
        )
    }

    fn cpu_targets(&self, kind: usize) -> cpu::Targets<'_> {
        if kind == 0 { (&self.index).into() } else { (&self.probabilities).into() }
    }
}

/// The absolute error of a capped logit: the hyperbolic tangent is accurate to 3 ulp, and is
/// multiplied by the cap.
fn absolute(options: &CrossEntropy) -> f64 {
    2e-6 + 4e-7 * options.softcap.unwrap_or(0.0)
}

#[test]
fn options_agree_with_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(307);
    for gpu in devices(&gpu) {
        for &shape in SHAPES {
            let case = Case::new(shape);
            let (x, y, q) = case.upload(&gpu);
            for (number, options) in variants(case.classes, &case.rows).into_iter().enumerate() {
                for reduction in REDUCTIONS {
                    let options = options.clone().reduction(reduction);
                    for (kind, targets) in [Targets::from(&y), Targets::from(&q)].into_iter().enumerate() {
                        if !chosen() {
                            continue;
                        }
                        let what = format!("{shape:?} options {number} {reduction:?} targets {kind} {:?}", gpu.caps());
                        let in_place = Tensor::from_slice(&gpu, shape, &case.logits).unwrap();
                        // An upstream gradient for each row, or a scalar.
                        let upstream_shape = if reduction == Reduction::None { &case.rows[..] } else { &[] };
                        let upstream = random(6, upstream_shape.iter().product(), 1.0);
                        let wide: Vec<f64> = upstream.iter().copied().map(f64::from).collect();
                        let g = Tensor::from_slice(&gpu, upstream_shape, &upstream).unwrap();
                        let [loss, grad, forward, loss_in_place, grad_in_place] = eval(&gpu, |b| {
                            let out = b.cross_entropy_with(
                                &x,
                                &targets,
                                &options,
                                LossRequest::new().grad(Grad::New).upstream(&g),
                            )?;
                            let forward = b.cross_entropy(&x, &targets, &options)?;
                            let loss = b
                                .cross_entropy_with(
                                    &in_place,
                                    &targets,
                                    &options,
                                    LossRequest::new().grad(Grad::InPlace).upstream(&g),
                                )?
                                .loss;
                            Ok([out.loss.clone(), out.gradient()?, forward, loss, in_place.clone()])
                        });
                        same_bits(&what, &loss, &forward);
                        same_bits(&what, &loss, &loss_in_place);
                        same_bits(&what, &grad, &grad_in_place);
                        let want = cpu::cross_entropy_backward(
                            (&case.logits, shape),
                            case.cpu_targets(kind),
                            &options,
                            Some(&wide),
                        )
                        .unwrap();
                        // With probabilities, terms of the size of half the classes cancel.
                        let terms = if kind == 0 { 4.0 } else { 4.0 + case.classes as f64 };
                        // A mean's denominator may be small, because positive and negative weights
                        // cancel.
                        let largest = want.loss.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
                        let abs = absolute(&options) * terms * largest;
                        close(&format!("loss {what}"), &loss, &want.loss, 4e-6, abs);
                        close(&format!("grad {what}"), &grad, &want.grad, 1e-5, abs);
                    }
                }
            }
        }
    }
}

#[test]
fn nll_takes_position_weights() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for &shape in SHAPES {
            let case = Case::new(shape);
            let (x, y, _) = case.upload(&gpu);
            let CrossEntropy { weight, position_weight, .. } = variants(case.classes, &case.rows)[6].clone();
            for reduction in REDUCTIONS {
                let (weight, position_weight) = (weight.clone(), position_weight.clone());
                let options = Nll::new().weight(weight).position_weight(position_weight).reduction(reduction);
                let [loss, grad] = eval(&gpu, |b| {
                    let out = b.nll_with(&x, &y, &options, Grad::New)?;
                    Ok([out.loss.clone(), out.gradient()?])
                });
                let want = cpu::nll_backward((&case.logits, shape), &case.index, &options, None).unwrap();
                close(&format!("{shape:?}"), &loss, &want.loss, 2e-6, 2e-6);
                close(&format!("grad {shape:?}"), &grad, &want.grad, 2e-6, 1e-9);
            }
        }
    }
}

/// The statistics' values, read back together with the loss and, if there is one, the gradient.
struct Values {
    floats: [Vec<f32>; 3],
    predicted: Vec<i32>,
    counts: [Vec<u32>; 2],
    loss: Vec<f32>,
    grad: Option<Vec<f32>>,
}

fn values(gpu: &Gpu, x: &Tensor<f32>, targets: &Targets, options: &CrossEntropy, grad: Grad<'_>) -> Values {
    let mut batch = gpu.batch();
    let request = LossRequest::new().grad(grad).statistics();
    let out = batch.cross_entropy_with(x, targets, options, request).unwrap();
    let Statistics { log_sum_exp, target_log_prob, entropy, predicted, correct, counted } = out.statistics.unwrap();
    let floats = [log_sum_exp, target_log_prob, entropy].map(|t| batch.read(&t).unwrap());
    let mut predicted = batch.read(&predicted).unwrap();
    let counts = [correct, counted].map(|t| batch.read(&t).unwrap());
    let mut loss = batch.read(&out.loss).unwrap();
    let mut grad = out.grad.map(|grad| batch.read(&grad).unwrap());
    batch.submit().unwrap();
    Values {
        floats: floats.map(|mut t| t.wait(TIMEOUT).unwrap()),
        predicted: predicted.wait(TIMEOUT).unwrap(),
        counts: counts.map(|mut t| t.wait(TIMEOUT).unwrap()),
        loss: loss.wait(TIMEOUT).unwrap(),
        grad: grad.as_mut().map(|t| t.wait(TIMEOUT).unwrap()),
    }
}

#[track_caller]
fn same_as_reference(what: &str, got: &Values, want: &cpu::Statistics, abs: f64) {
    close(&format!("log_sum_exp {what}"), &got.floats[0], &want.log_sum_exp, 1e-6, abs);
    close(&format!("target_log_prob {what}"), &got.floats[1], &want.target_log_prob, 1e-6, abs);
    close(&format!("entropy {what}"), &got.floats[2], &want.entropy, 2e-6, abs);
    let predicted: Vec<i64> = got.predicted.iter().copied().map(i64::from).collect();
    assert_eq!(predicted, want.predicted, "predicted {what}");
    assert_eq!(got.counts, [vec![want.correct as u32], vec![want.counted as u32]], "correct, counted {what}");
}

#[test]
fn statistics_agree_with_the_reference() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(89);
    for gpu in devices(&gpu) {
        // Many rows: their counts are summed in several levels.
        for &shape in SHAPES.iter().chain(&[&[70_001, 3][..]]) {
            let case = Case::new(shape);
            let (x, y, q) = case.upload(&gpu);
            let variants = variants(case.classes, &case.rows);
            let few = [CrossEntropy::default(), variants[if shape[0] > 1000 { 0 } else { 5 }].clone()];
            for (number, options) in few.into_iter().enumerate() {
                for (kind, targets) in [Targets::from(&y), Targets::from(&q)].into_iter().enumerate() {
                    if !chosen() {
                        continue;
                    }
                    let what = format!("{shape:?} options {number} targets {kind} {:?}", gpu.caps());
                    let logits = &case.logits;
                    let want =
                        cpu::cross_entropy_statistics((logits, shape), case.cpu_targets(kind), &options).unwrap();
                    let [plain, plain_grad] = eval(&gpu, |b| {
                        let out = b.cross_entropy_with(&x, &targets, &options, Grad::New)?;
                        Ok([out.loss.clone(), out.gradient()?])
                    });
                    for grad in [Grad::No, Grad::New, Grad::InPlace] {
                        let x = Tensor::from_slice(&gpu, shape, logits).unwrap();
                        let got = values(&gpu, &x, &targets, &options, grad);
                        same_as_reference(&what, &got, &want, absolute(&options));
                        same_bits(&what, &got.loss, &plain);
                        assert_eq!(got.grad.is_some(), !matches!(grad, Grad::No));
                        if let Some(grad) = got.grad {
                            same_bits(&what, &grad, &plain_grad);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn statistics_of_ties_and_of_rows_without_a_softmax() {
    let Some(gpu) = gpu() else { return };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for gpu in families(&gpu) {
        for classes in [4usize, 50, 3000] {
            let mut logits = vec![0.5; 7 * classes];
            // Row 0 is equal everywhere: it predicts the first class, with the largest entropy.
            logits[classes + 2] = nan;
            logits[2 * classes + 2] = inf;
            logits[3 * classes..4 * classes].fill(-inf);
            // Row 4 has a masked class, row 5 two that tie, row 6 a certain one.
            logits[4 * classes + 1] = -inf;
            logits[5 * classes + classes - 1] = 7.0;
            logits[5 * classes + 1] = 7.0;
            logits[6 * classes + 3] = 80.0;
            let (shape, index) = ([7, classes], vec![0, 1, 2, 3, -100, 1, 3]);
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            let y = Targets::new(&gpu, [7], &index, classes).unwrap();
            let options = CrossEntropy::default();
            let got = values(&gpu, &x, &y, &options, Grad::No);
            let want = cpu::cross_entropy_statistics((&logits, &shape), &index, &options).unwrap();
            same_as_reference(&format!("{classes} classes"), &got, &want, 1e-37);
            // Equal probabilities: the first of the largest is the target, even if it is not the
            // first class that its thread reads.
            let mut probabilities = vec![0.5; 7 * classes];
            probabilities.chunks_mut(classes).for_each(|row| row[..classes.min(6) - 1].fill(0.25));
            let q = Tensor::from_slice(&gpu, shape, &probabilities).unwrap();
            let different = random(1, 7 * classes, 2.0);
            let soft =
                values(&gpu, &Tensor::from_slice(&gpu, shape, &different).unwrap(), &(&q).into(), &options, Grad::No);
            let want = cpu::cross_entropy_statistics((&different, &shape), &probabilities, &options).unwrap();
            same_as_reference(&format!("{classes} classes, probabilities"), &soft, &want, 1e-6);
            // The reference's results, once by hand.
            assert_eq!(got.predicted, [0, -1, -1, -1, 0, 1, 3]);
            assert_eq!(got.counts, [vec![3], vec![6]]);
            assert!(got.floats.iter().all(|v| v[1].is_nan() && v[2].is_nan() && v[3].is_nan()));
            assert_eq!(got.floats[1][4], 0.0, "an ignored row");
            assert!(got.floats[2][6] > 0.0 && got.floats[2][6] < 1e-28, "a certain row has little entropy");
        }
    }
}

#[test]
fn a_position_of_weight_0_is_ignored_whatever_it_holds() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for classes in [3usize, 70] {
            let mut logits = random(1, 4 * classes, 2.0);
            logits[classes] = f32::NAN;
            logits[2 * classes..3 * classes].fill(f32::NEG_INFINITY);
            let position_weight: Option<Weights> = Some([2.0, 0.0, -0.0, -0.5].into());
            let shape = [4, classes];
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            // The target of an ignored position is not checked.
            let targets = [0, i32::MAX, 1, 2];
            let y = Tensor::<i32>::from_slice(&gpu, [4], &targets).unwrap();
            let probabilities = unit(2, 4 * classes);
            let q = Tensor::from_slice(&gpu, shape, &probabilities).unwrap();
            let index = targets.map(i64::from);
            for z_loss in [0.0, 0.1] {
                let options = CrossEntropy::new().position_weight(position_weight.clone()).z_loss(z_loss);
                let nll = Nll::new().position_weight(position_weight.clone());
                let [loss, grad, soft, soft_grad, nll, nll_grad] = eval(&gpu, |b| {
                    let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                    let soft = b.cross_entropy_with(&x, &q, &options, Grad::New)?;
                    let nll = b.nll_with(&x, &y, &nll, Grad::New)?;
                    Ok([
                        out.loss.clone(),
                        out.gradient()?,
                        soft.loss.clone(),
                        soft.gradient()?,
                        nll.loss.clone(),
                        nll.gradient()?,
                    ])
                });
                let want = cpu::cross_entropy_backward((&logits, &shape), &index, &options, None).unwrap();
                close("loss", &loss, &want.loss, 1e-6, 1e-6);
                close("grad", &grad, &want.grad, 2e-6, 1e-6);
                let want = cpu::cross_entropy_backward((&logits, &shape), &probabilities, &options, None).unwrap();
                close("soft", &soft, &want.loss, 1e-6, 1e-5);
                close("soft grad", &soft_grad, &want.grad, 2e-6, 1e-5);
                assert!(loss[0].is_finite() && soft[0].is_finite() && nll[0].is_finite());
                for grad in [grad, soft_grad, nll_grad] {
                    assert!(grad[classes..3 * classes].iter().all(|g| g.to_bits() == 0), "exactly 0");
                }
            }
        }
    }
}

#[test]
fn a_cap_makes_infinite_logits_finite() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(5);
    for gpu in families(&gpu) {
        for classes in [4usize, 5, 50, 3001].into_iter().filter(|_| chosen()) {
            let mut logits = random(1, 6 * classes, 2.0);
            logits[1] = f32::INFINITY;
            logits[classes + 1] = f32::NEG_INFINITY;
            logits[2 * classes..3 * classes].fill(f32::NEG_INFINITY);
            logits[3 * classes..4 * classes].fill(f32::MAX);
            logits[4 * classes + 3] = f32::NAN;
            logits[5 * classes] = -f32::NAN;
            let shape = [6, classes];
            let index = [1; 6];
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            let y = Targets::new(&gpu, [6], &index, classes).unwrap();
            let options = CrossEntropy::new().softcap(2.0).logit_scale(3.0).z_loss(0.1);
            let options = options.reduction(Reduction::None);
            let [loss, grad] = eval(&gpu, |b| {
                let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                Ok([out.loss.clone(), out.gradient()?])
            });
            let want = cpu::cross_entropy_backward((&logits, &shape), &index, &options, None).unwrap();
            close("loss", &loss, &want.loss, 2e-6, 2e-6);
            close("grad", &grad, &want.grad, 1e-5, 2e-6);
            assert!(loss[..4].iter().all(|loss| loss.is_finite()) && loss[4].is_nan() && loss[5].is_nan());
        }
    }
}

/// Scaled logits that exceed `f32` cancel in the loss.
#[test]
fn scaled_logits_may_overflow() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for classes in [3usize, 70] {
            let mut logits = random(1, 2 * classes, 2.0);
            [logits[0], logits[1]] = [3e38, 3e38];
            logits[classes..].iter_mut().for_each(|logit| *logit = -3e38 - *logit);
            let (shape, index) = ([2, classes], [1, 2]);
            let options = CrossEntropy::new().logit_scale(2.0).reduction(Reduction::None);
            let x = Tensor::from_slice(&gpu, shape, &logits).unwrap();
            let y = Targets::new(&gpu, [2], &index, classes).unwrap();
            let [loss, grad] = eval(&gpu, |b| {
                let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                Ok([out.loss.clone(), out.gradient()?])
            });
            let want = cpu::cross_entropy_backward((&logits, &shape), &index, &options, None).unwrap();
            close("loss", &loss, &want.loss, 1e-6, 0.0);
            close("grad", &grad, &want.grad, 1e-6, 1e-37);
        }
    }
}

/// The slope of a capped logit keeps its digits even if the hyperbolic tangent is near 1.
#[test]
fn the_gradient_of_a_saturated_logit_keeps_its_digits() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let logits: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let options = CrossEntropy::new().softcap(2.0);
        let x = Tensor::from_slice(&gpu, [1, 64], &logits).unwrap();
        let y = Targets::new(&gpu, [1], &[5], 64).unwrap();
        let [grad] = eval(&gpu, |b| Ok([b.cross_entropy_with(&x, &y, &options, Grad::New)?.gradient()?]));
        let want = cpu::cross_entropy_backward((&logits, &[1, 64]), &[5], &options, None).unwrap();
        close("grad", &grad, &want.grad, 2e-5, 1e-37);
    }
}

#[test]
fn targets_may_be_u32() {
    let Some(gpu) = gpu() else { return };
    let logits = random(1, 12, 2.0);
    let x = Tensor::from_slice(&gpu, [4, 3], &logits).unwrap();
    let u32s = |values: [u32; 4]| Tensor::<u32>::from_slice(&gpu, [4], &values).unwrap();
    for (ignored, raw, index) in [
        (-100, [2, u32::MAX, 0, 1], [2, -100, 0, 1]),
        (1, [2, 0, 1, 1], [2, 0, 1, 1]),
        (3_000_000_000, [2, 3_000_000_000, 0, 1], [2, 3_000_000_000i64, 0, 1]),
    ] {
        let (options, nll) = (CrossEntropy::new(), Nll::new());
        let y = Targets::from(&u32s(raw)).ignoring(ignored);
        let index = cpu::Targets::from(&index).ignoring(ignored);
        let [loss, grad, nll_loss] = eval(&gpu, |b| {
            let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
            Ok([out.loss.clone(), out.gradient()?, b.nll(&x, &y, &nll)?])
        });
        let want = cpu::cross_entropy_backward((&logits, &[4, 3]), index.clone(), &options, None).unwrap();
        close("loss", &loss, &want.loss, 1e-6, 1e-7);
        close("grad", &grad, &want.grad, 2e-6, 1e-7);
        close("nll", &nll_loss, &cpu::nll((&logits, &[4, 3]), index, &nll).unwrap(), 1e-6, 1e-7);
    }
    // The bits of -100 are not an ignored index, nor is any other number that is not a class.
    for bad in [3, 0x8000_0000, u32::MAX - 99] {
        let y = u32s([0, 1, bad, 2]);
        let error = try_eval(&gpu, |b| Ok([b.cross_entropy(&x, &y, &CrossEntropy::default())?])).unwrap_err();
        assert!(matches!(error, Error::Data { position: 2, .. }), "{bad}: {error}");
    }
}

#[test]
fn statistics_report_a_target_that_is_no_class() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&gpu, [3, 2], &[1.0, 0.0, 0.0, 1.0, 2.0, 3.0f32]).unwrap();
    let y = Tensor::<i32>::from_slice(&gpu, [3], &[0, 2, 1]).unwrap();
    let mut batch = gpu.batch();
    let request = LossRequest::new().statistics();
    let out = batch.cross_entropy_with(&x, &y, &CrossEntropy::default(), request).unwrap().statistics.unwrap();
    let mut reported = [batch.read(&out.correct).unwrap(), batch.read(&out.counted).unwrap()];
    let mut target_log_prob = batch.read(&out.target_log_prob).unwrap();
    // These do not depend on targets.
    let mut fine = [batch.read(&out.log_sum_exp).unwrap(), batch.read(&out.entropy).unwrap()];
    let mut predicted = batch.read(&out.predicted).unwrap();
    batch.submit().unwrap();
    for ticket in &mut reported {
        assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Data { position: 1, .. })));
    }
    assert!(matches!(target_log_prob.wait(TIMEOUT), Err(Error::Data { position: 1, .. })));
    assert!(fine.iter_mut().all(|ticket| ticket.wait(TIMEOUT).unwrap().iter().all(|v| v.is_finite())));
    assert_eq!(predicted.wait(TIMEOUT).unwrap(), [0, 1, 1]);
}

/// Computes a loss and its gradient on the GPU, and compares them with the reference.
#[track_caller]
fn agree(gpu: &Gpu, shape: &[usize], logits: &[f32], index: &[i32], options: &CrossEntropy) -> (Vec<f32>, Vec<f32>) {
    let x = Tensor::from_slice(gpu, shape, logits).unwrap();
    let y = Tensor::<i32>::from_slice(gpu, [index.len()], index).unwrap();
    let [loss, grad] = eval(gpu, |b| {
        let out = b.cross_entropy_with(&x, &y, options, Grad::New)?;
        Ok([out.loss.clone(), out.gradient()?])
    });
    let want = cpu::cross_entropy_backward((logits, shape), index, options, None).unwrap();
    close("loss", &loss, &want.loss, 1e-6, 1e-6);
    close("grad", &grad, &want.grad, 2e-6, 1e-6);
    (loss, grad)
}

#[test]
fn weights_that_are_not_finite_and_weights_that_cancel() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let logits = [0.0, 1.0, 2.0, 3.0, 1.0, 0.0];
        let weights = |values: &[f32]| Some(Weights::from(values));
        // A position weight of NaN does not count as 0.
        let options = CrossEntropy::new().position_weight(weights(&[1.0, f32::NAN, 2.0]));
        let (loss, grad) = agree(&gpu, &[3, 2], &logits, &[0, 1, 0], &options);
        assert!(loss[0].is_nan() && grad.iter().all(|g| g.is_nan()));
        let y = Tensor::<i32>::from_slice(&gpu, [3], &[0, 7, 0]).unwrap();
        let x = Tensor::from_slice(&gpu, [3, 2], &logits).unwrap();
        let error = try_eval(&gpu, |b| Ok([b.cross_entropy(&x, &y, &options)?])).unwrap_err();
        assert!(matches!(error, Error::Data { position: 1, .. }), "{error}");
        // A class that is never a target may have any weight.
        for weight in [f32::INFINITY, f32::NAN] {
            let options = CrossEntropy::new().weight(weights(&[1.0, weight]));
            let (loss, grad) = agree(&gpu, &[3, 2], &logits, &[0, 0, 0], &options);
            assert!(loss[0].is_finite() && grad.iter().all(|g| g.is_finite()));
        }
        // The sum of the weights is 0, the sum of the losses is not.
        let options = CrossEntropy::new().weight(weights(&[1.0, -1.0]));
        let x = Tensor::from_slice(&gpu, [2, 2], &[0.0, 0.0, 0.0, 1.0]).unwrap();
        let y = Targets::new(&gpu, [2], &[0, 1], 2).unwrap();
        let nll = Nll::new().weight(weights(&[1.0, -1.0]));
        let mse = xent::loss::Mse::new().weight(weights(&[1.0, -1.0]));
        let [ce, nll, mse] = eval(&gpu, |b| {
            let (x1, y1) = (Tensor::from_slice(&gpu, [2], &[1.0, 3.0])?, Tensor::zeros(&gpu, [2])?);
            Ok([b.cross_entropy(&x, &y, &options)?, b.nll(&x, &y, &nll)?, b.mse(&x1, &y1, &mse)?])
        });
        let want = cpu::cross_entropy((&[0.0f32, 0.0, 0.0, 1.0], &[2, 2]), &[0i64, 1], &options).unwrap();
        assert_eq!((ce[0], want[0]), (f32::INFINITY, f64::INFINITY));
        assert_eq!((nll[0], mse[0]), (f32::INFINITY, f32::NEG_INFINITY));
    }
}

#[test]
fn scales_that_bring_huge_logits_back() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let none = CrossEntropy::new().reduction(Reduction::None);
        let huge = [-3e38f32, 3e38];
        for (logit_scale, want) in [(1e-37, 60.0), (0.1, 6e37)] {
            let options = none.clone().logit_scale(logit_scale);
            let (loss, _) = agree(&gpu, &[1, 2], &huge, &[0], &options);
            assert!((loss[0] / want - 1.0).abs() < 1e-6, "{}", loss[0]);
        }
        let (loss, _) = agree(&gpu, &[1, 2], &[1e20, 0.0], &[0], &none.z_loss(1e-10));
        assert!((loss[0] / 1e30 - 1.0).abs() < 1e-6, "{}", loss[0]);
    }
}

#[test]
fn the_prediction_is_the_largest_logit_before_the_cap_and_nan_is_no_probability() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let x = Tensor::from_slice(&gpu, [1, 3], &[100.0, 200.0, 50.0]).unwrap();
        let y = Targets::new(&gpu, [1], &[1], 3).unwrap();
        let options = CrossEntropy::new().softcap(1.0);
        let got = values(&gpu, &x, &y, &options, Grad::No);
        let want = cpu::cross_entropy_statistics((&[100.0f32, 200.0, 50.0], &[1, 3]), &[1i64], &options).unwrap();
        same_as_reference("capped", &got, &want, 1e-6);
        assert_eq!((got.predicted, got.counts), (vec![1], [vec![1], vec![1]]));
        for classes in [3usize, 64, 2000] {
            let logits = random(1, 2 * classes, 1.0);
            let mut q = vec![0.1; 2 * classes];
            q[classes / 3] = f32::NAN;
            q[classes - 1] = 0.9;
            q[classes..].fill(f32::NAN);
            let (x, tq) = (
                Tensor::from_slice(&gpu, [2, classes], &logits).unwrap(),
                Tensor::from_slice(&gpu, [2, classes], &q).unwrap(),
            );
            let options = CrossEntropy::default();
            let got = values(&gpu, &x, &(&tq).into(), &options, Grad::No);
            let want = cpu::cross_entropy_statistics((&logits, &[2, classes]), &q, &options).unwrap();
            same_as_reference(&format!("{classes} classes"), &got, &want, 2e-6);
        }
    }
}

/// Few rows take three dispatches: the sum of the targets' weights, the losses, their sum. With more,
/// both sums have two levels.
#[test]
fn sums_over_few_rows_have_one_level() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for (rows, dispatches) in [(1025, 3), (3072, 3), (3073, 5)] {
            let logits = random(1, rows * 3, 4.0);
            let mut index: Vec<i32> = (0..3).cycle().take(rows).collect();
            index[rows - 1] = 1;
            index.iter_mut().step_by(7).take(rows / 8).for_each(|target| *target = -100);
            let weights = Weights::new([rows], &unit(4, rows)).unwrap();
            let options = CrossEntropy::new().position_weight(Some(weights));
            let before = gpu.counters().dispatches;
            agree(&gpu, &[rows, 3], &logits, &index, &options);
            assert_eq!(gpu.counters().dispatches - before, dispatches, "{rows} rows");
            // A target that is no class is found at the end of the block, too.
            index[rows - 1] = 3;
            let targets = Tensor::from_slice(&gpu, [rows], &index).unwrap();
            let x = Tensor::from_slice(&gpu, [rows, 3], &logits).unwrap();
            let mut batch = gpu.batch();
            let loss = batch.cross_entropy(&x, &targets, &options).unwrap();
            let mut loss = batch.read(&loss).unwrap();
            batch.submit().unwrap();
            let error = loss.wait(TIMEOUT).unwrap_err();
            assert!(matches!(error, Error::Data { position, .. } if position as usize == rows - 1), "{error}");
        }
    }
}
