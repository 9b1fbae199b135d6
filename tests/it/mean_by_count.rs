//! The mean over the number of losses, for weights whose sum, the weighted mean's denominator, is
//! about 0.

use crate::common::*;
use xent::linear::{LinearBceWithLogits, LinearCrossEntropy, LinearLossRequest, LinearSgd};
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::optim::Sgd;
use xent::{Error, Tensor, Weights, cpu, f16};

const ROWS: usize = 41;
const CLASSES: usize = 13;

/// Ignored rows, and a row of weight 0.
const IGNORED: [usize; 2] = [3, 20];
const FREE: usize = 7;

/// Returns advantages of both signs. Over the rows that are not ignored, their sum is a rounding
/// error.
fn advantages() -> Vec<f32> {
    let mut values = random(3, ROWS, 1.0);
    let with_weight: Vec<_> = (0..ROWS).filter(|row| !IGNORED.contains(row) && *row != FREE).collect();
    let mean = with_weight.iter().map(|&row| f64::from(values[row])).sum::<f64>() / with_weight.len() as f64;
    with_weight.iter().for_each(|&row| values[row] -= mean as f32);
    values[FREE] = 0.0;
    values
}

fn options() -> CrossEntropy {
    CrossEntropy::new().position_weight(Weights::from(advantages())).reduction(Reduction::MeanByCount)
}

/// Returns class indices, with two rows ignored.
fn index() -> Vec<i64> {
    let mut index = labels(2, ROWS, CLASSES);
    IGNORED.iter().for_each(|&row| index[row] = -100);
    index
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// The sum of the rows' losses over the number of targets that are not ignored, including the row
/// of weight 0.
#[test]
fn it_is_the_sum_over_the_number_of_rows() {
    let Some(gpu) = gpu() else { return };
    let (x, q) = (random(1, ROWS * CLASSES, 3.0), unit(4, ROWS * CLASSES));
    let (shape, index, upstream) = ([ROWS, CLASSES], index(), [-1.7]);
    let weight: Option<Weights> = Some(unit(6, CLASSES).into());
    let each = options().reduction(Reduction::None);
    let losses = cpu::cross_entropy((&x, &shape), &index, &each).unwrap();
    let by_hand = losses.iter().sum::<f64>() / (ROWS - 2) as f64;
    assert!((cpu::cross_entropy((&x, &shape), &index, &options()).unwrap()[0] - by_hand).abs() < 1e-15);
    let by_weight = options().reduction(Reduction::Mean);
    let useless = cpu::cross_entropy((&x, &shape), &index, &by_weight).unwrap()[0];
    assert!(useless.abs() > 1e4, "{useless}");
    let cases = [options(), options().weight(weight.clone()).label_smoothing(0.1), options().softcap(3.0).z_loss(0.1)];
    // Each device runs one case: all pairs would compile kernels for a minute.
    for (gpu, options) in devices(&gpu).iter().zip(cases.iter().cycle()) {
        let what = |name: &str| format!("{name} {:?}", gpu.caps());
        let tx = Tensor::from_slice(gpu, shape, &x).unwrap();
        let ty = Targets::new(gpu, [ROWS], &index, CLASSES).unwrap();
        let tq = Tensor::from_slice(gpu, shape, &q).unwrap();
        let g = Tensor::from_slice(gpu, [], &[-1.7f32]).unwrap();
        let nll = Nll::new()
            .weight(options.weight.clone())
            .position_weight(options.position_weight.clone())
            .reduction(options.reduction);
        let in_place = Tensor::from_slice(gpu, shape, &x).unwrap();
        let [loss, grad, alone, of_place, soft, soft_grad, nll_loss, nll_grad, half_loss] = eval(gpu, |b| {
            let out = b.cross_entropy_with(&tx, &ty, options, LossRequest::new().grad(Grad::New).upstream(&g))?;
            let loss = b.cross_entropy(&tx, &ty, options)?;
            b.cross_entropy_with(&in_place, &ty, options, LossRequest::new().grad(Grad::InPlace).upstream(&g))?;
            let soft = b.cross_entropy_with(&tx, &tq, options, Grad::New)?;
            let nll = b.nll_with(&tx, &ty, &nll, Grad::New)?;
            let half = b.cast::<f32, f16>(&tx)?;
            let half = b.cross_entropy(&half, &ty, options)?;
            Ok([
                out.loss.clone(),
                out.gradient()?,
                loss,
                in_place.clone(),
                soft.loss.clone(),
                soft.gradient()?,
                nll.loss.clone(),
                nll.gradient()?,
                half,
            ])
        });
        same_bits(&what("alone"), &loss, &alone);
        same_bits(&what("in place"), &grad, &of_place);
        let want = cpu::cross_entropy_backward((&x, &shape), &index, options, Some(&upstream)).unwrap();
        close(&what("loss"), &loss, &want.loss, 2e-6, 1e-6);
        close(&what("grad"), &grad, &want.grad, 1e-5, 1e-8);
        close(&what("halves"), &half_loss, &want.loss, 0.0, 5e-3);
        let want = cpu::cross_entropy_backward((&x, &shape), &q, options, None).unwrap();
        close(&what("soft"), &soft, &want.loss, 2e-6, 1e-5);
        close(&what("soft grad"), &soft_grad, &want.grad, 1e-5, 1e-7);
        let want = cpu::nll_backward((&x, &shape), &index, &nll, None).unwrap();
        close(&what("nll"), &nll_loss, &want.loss, 2e-6, 1e-6);
        close(&what("nll grad"), &nll_grad, &want.grad, 1e-6, 0.0);
    }
}

#[test]
fn linear_losses_take_it_in_chunks_and_with_an_update() {
    let Some(gpu) = gpu() else { return };
    let inputs = 5;
    let (h, w) = (random(1, ROWS * inputs, 2.0), random(2, CLASSES * inputs, 2.0));
    let (hidden, weight) = ((&h[..], [ROWS, inputs]), (&w[..], [CLASSES, inputs]));
    let index = index();
    let want = cpu::linear_cross_entropy(hidden, weight, None, &index, &options().into(), None).unwrap();
    let bce =
        BceWithLogits::new().weight(Weights::new([ROWS, 1], &advantages()).unwrap()).reduction(Reduction::MeanByCount);
    let y = unit(4, ROWS * CLASSES);
    let want_bce = cpu::linear_bce_with_logits(hidden, weight, None, &wide(&y), &bce, None).unwrap();
    for gpu in families(&gpu) {
        for scratch in [32 << 20, 1 << 10] {
            let th = Tensor::from_slice(&gpu, hidden.1, &h).unwrap();
            let [tw, updated] = [0, 1].map(|_| Tensor::from_slice(&gpu, weight.1, &w).unwrap());
            let ty = Targets::new(&gpu, [ROWS], &index, CLASSES).unwrap();
            let tq = Tensor::from_slice(&gpu, [ROWS, CLASSES], &y).unwrap();
            let sgd = Sgd::new().lr(1.0);
            let got: [Vec<f32>; 7] = eval(&gpu, |b| {
                let options = LinearCrossEntropy::new().loss(options()).scratch(scratch);
                let backward = LinearLossRequest::gradients();
                let out = b.linear_cross_entropy_with(&th, &tw, None, &ty, &options, backward)?;
                let step =
                    b.linear_cross_entropy_sgd(&th, &updated, None, &ty, &options, LinearSgd::new(sgd.clone()))?;
                let options = LinearBceWithLogits::new().loss(bce.clone()).scratch(scratch.max(4096));
                let bce =
                    b.linear_bce_with_logits_with(&th, &tw, None, &tq, &options, LinearLossRequest::gradients())?;
                Ok([
                    out.loss,
                    out.hidden_grad.unwrap(),
                    out.weight_grad.unwrap(),
                    step.loss,
                    updated.clone(),
                    bce.loss,
                    bce.weight_grad.unwrap(),
                ])
            });
            let what = |name: &str| format!("{name} {:?} {scratch}", gpu.caps().family);
            close(&what("loss"), &got[0], &want.loss, 2e-6, 1e-6);
            close(&what("hidden"), &got[1], &want.hidden, 1e-5, 1e-7);
            close(&what("weight"), &got[2], &want.weight, 1e-5, 1e-6);
            close(&what("loss of the step"), &got[3], &want.loss, 2e-6, 1e-6);
            let after: Vec<f64> = w.iter().zip(&want.weight).map(|(&w, g)| f64::from(w) - g).collect();
            close(&what("updated"), &got[4], &after, 1e-6, 1e-6);
            close(&what("bce"), &got[5], &want_bce.loss, 2e-6, 1e-6);
            close(&what("bce weight"), &got[6], &want_bce.weight, 1e-5, 1e-6);
        }
    }
}

#[test]
fn elementwise_losses_divide_by_the_number_of_elements() {
    let Some(gpu) = gpu() else { return };
    let (x, y, w) = (random(1, ROWS, 3.0), unit(4, ROWS), advantages());
    let (weight, reduction): (Option<Weights>, _) = (Some(w.clone().into()), Reduction::MeanByCount);
    let mse = Mse::new().weight(weight.clone()).broadcast(false).reduction(reduction);
    let bce = Bce::new().weight(weight.clone()).reduction(reduction);
    let logits = BceWithLogits::new().weight(weight).reduction(reduction);
    let terms = x.iter().zip(&y).zip(&w).map(|((&x, &y), &w)| f64::from(w) * (f64::from(x) - f64::from(y)).powi(2));
    let by_hand = terms.sum::<f64>() / ROWS as f64;
    assert!((cpu::mse((&x, &[ROWS]), (&y, &[ROWS]), &mse).unwrap()[0] - by_hand).abs() < 1e-15);
    for gpu in families(&gpu) {
        let [tx, ty] = [&x, &y].map(|values| Tensor::from_slice(&gpu, [ROWS], values).unwrap());
        let got = eval(&gpu, |b| {
            let (mse, bce) = (b.mse_with(&tx, &ty, &mse, Grad::New)?, b.bce_with(&ty, &ty, &bce, Grad::New)?);
            let logits = b.bce_with_logits_with(&tx, &ty, &logits, Grad::New)?;
            Ok([
                mse.loss.clone(),
                mse.gradient()?,
                bce.loss.clone(),
                bce.gradient()?,
                logits.loss.clone(),
                logits.gradient()?,
            ])
        });
        let want = [
            cpu::mse_backward((&x, &[ROWS]), (&y, &[ROWS]), &mse, None).unwrap(),
            cpu::bce_backward((&y, &[ROWS]), (&y, &[ROWS]), &bce, None).unwrap(),
            cpu::bce_with_logits_backward((&x, &[ROWS]), (&y, &[ROWS]), &logits, None).unwrap(),
        ];
        for (i, want) in want.iter().enumerate() {
            close(&format!("loss {i}"), &got[2 * i], &want.loss, 1e-6, 1e-7);
            close(&format!("grad {i}"), &got[2 * i + 1], &want.grad, 1e-6, 1e-9);
        }
    }
}

/// A row of weight 0 may have any target, and counts even if the target is not a class. A mean over
/// no rows is NaN.
#[test]
fn mean_by_count_counts_by_target() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let x = Tensor::from_slice(&gpu, [3, 2], &[0.0, 0.0, f32::NAN, 5.0, 1.0, 1.0]).unwrap();
        let mean = |weights: [f32; 3], index: [i32; 3]| {
            let options = options().position_weight(Weights::from(weights));
            let y = Tensor::<i32>::from_slice(&gpu, [3], &index).unwrap();
            try_eval(&gpu, |b| {
                let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                Ok([out.loss.clone(), out.gradient()?])
            })
        };
        let [loss, grad] = mean([1.0, 0.0, 2.0], [0, 77, 1]).unwrap();
        close("weight 0", &loss, &[2f64.ln()], 1e-6, 0.0);
        close("its gradient", &grad, &[-1.0 / 6.0, 1.0 / 6.0, 0.0, 0.0, 1.0 / 3.0, -1.0 / 3.0], 1e-6, 0.0);
        let [loss, _] = mean([1.0, 3.0, 2.0], [0, -100, 1]).unwrap();
        close("ignored", &loss, &[1.5 * 2f64.ln()], 1e-6, 0.0);
        let [loss, grad] = mean([1.0, 3.0, 2.0], [-100; 3]).unwrap();
        assert!(loss[0].is_nan() && grad.iter().all(|&g| g == 0.0), "{loss:?} {grad:?}");
        let error = mean([1.0, 1.0, 2.0], [0, 77, 1]).unwrap_err();
        assert!(matches!(error, Error::Data { position: 1, .. }), "{error}");
    }
    let want = cpu::cross_entropy(
        (&[0.0, 0.0, f32::NAN, 5.0], &[2, 2]),
        &[0i64, 77],
        &options().position_weight(Weights::from([1.0, 0.0])),
    );
    assert!((want.unwrap()[0] - 0.5 * 2f64.ln()).abs() < 1e-15);
    assert!(
        cpu::cross_entropy((&[0.0f32; 2], &[1, 2]), &[-100i64], &options().position_weight(None)).unwrap()[0].is_nan()
    );
    assert!(
        cpu::nll((&[0.0f32; 2], &[1, 2]), &[-100i64], &Nll::new().reduction(Reduction::MeanByCount)).unwrap()[0]
            .is_nan()
    );
}
