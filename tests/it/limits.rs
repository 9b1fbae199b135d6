//! Tensors larger than a binding and grids larger than a dispatch: results are bit-identical for
//! all limits.

use crate::common::*;
use xent::linear::LinearLossRequest;
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Group, Momentum, Optimization, Sgd};
use xent::{Batch, Caps, Error, Gpu, Layout, Result, Tensor, f16};

fn broadcast() -> Mse {
    Mse::new().broadcast(true)
}

/// Compares the results of `record` with the device's limits and with the smallest limits.
fn same_with_tiny_limits<const N: usize>(
    what: &str,
    gpu: &Gpu,
    record: impl Fn(&Gpu, &mut Batch) -> Result<[Tensor<f32>; N]>,
) {
    same(what, gpu, tiny(gpu), record);
}

/// Compares the results of `record` on each family and on its counterpart in `cut`.
fn same<const N: usize>(
    what: &str,
    gpu: &Gpu,
    cut: [Gpu; 2],
    record: impl Fn(&Gpu, &mut Batch) -> Result<[Tensor<f32>; N]>,
) {
    for (wide, narrow) in families(gpu).iter().zip(&cut) {
        let a = eval(wide, |b| record(wide, b));
        let b = eval(narrow, |b| record(narrow, b));
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!(a.iter().any(|v| *v != 0.0), "{what}: output {i} is not just zeros");
            same_bits(&format!("{what}, output {i}, {:?}", wide.caps().family), a, b);
        }
    }
}

#[test]
fn row_losses() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(5);
    for shape in [
        &[300, 100][..],
        &[301, 33],
        &[40, 1000],
        &[2000, 7],
        &[50, 6, 40],
        &[9, 30, 121],
        &[2, 30, 901],
        &[1, 101, 200],
    ] {
        let classes = shape[1];
        let mut dims = shape.to_vec();
        dims.remove(1);
        let count = dims.iter().product();
        let logits = random(1, count * classes, 5.0);
        let mut targets = labels(2, count, classes);
        targets[3] = -100;
        for reduction in [Reduction::None, Reduction::Mean].into_iter().filter(|_| chosen()) {
            same_with_tiny_limits(&format!("{shape:?}"), &gpu, |gpu, b| {
                let x = Tensor::from_slice(gpu, shape, &logits)?;
                let y = Targets::new(gpu, &dims[..], &targets, classes)?;
                let upstream = Tensor::from_slice(gpu, &dims[..], &random(3, count, 1.0))?;
                let upstream = (reduction == Reduction::None).then_some(&upstream);
                let ce = CrossEntropy::new().reduction(reduction);
                let nll = Nll::new().reduction(reduction);
                let a = b.cross_entropy_with(&x, &y, &ce, LossRequest::new().grad(Grad::New).upstream(upstream))?;
                let c = b.nll_with(&x, &y, &nll, LossRequest::new().grad(Grad::New).upstream(upstream))?;
                let log_probs = b.log_softmax(&x, 1)?;
                let d = b.log_softmax_backward(&log_probs, &x, 1)?;
                let loss =
                    b.cross_entropy_with(&x, &y, &ce, LossRequest::new().grad(Grad::InPlace).upstream(upstream))?.loss;
                Ok([a.loss.clone(), a.gradient()?, c.loss.clone(), c.gradient()?, log_probs, d, loss, x])
            });
        }
    }
}

/// Rows whose classes lie so far apart that no binding spans them; each part is processed in
/// strips.
#[test]
fn rows_that_lie_far_apart() {
    let Some(gpu) = gpu() else { return };
    let [n, classes, inner] = [2, 33, 700];
    let (count, rows) = (n * classes * inner, n * inner);
    same_with_tiny_limits("strips", &gpu, |gpu, b| {
        let x = Tensor::from_slice(gpu, [n, classes, inner], &random(1, count, 5.0))?;
        let mut q = unit(2, count);
        q.iter_mut().for_each(|q| *q /= classes as f32);
        let q = Tensor::from_slice(gpu, [n, classes, inner], &q)?;
        let position_weight = Some(xent::Weights::new([n, inner], &unit(3, rows))?);
        let options = CrossEntropy::new().position_weight(position_weight).softcap(9.0);
        let request = LossRequest::new().grad(Grad::New).statistics();
        let out = b.cross_entropy_with(&x, &q, &options, request)?;
        let statistics = out.statistics.clone().expect("they were asked for");
        let flat = x.reshape([n * classes, inner])?;
        let softmax = b.softmax(&flat, 0)?;
        let narrow = Tensor::from_slice(gpu, [n, 1, inner], &unit(5, rows))?;
        let mse = b.mse_with(&narrow, &q, &broadcast(), Grad::New)?;
        let repeated = b.mse(&q.rows(0..1)?, &x, &broadcast())?;
        let half = b.cast::<f32, f16>(&x)?;
        let y = Targets::new(gpu, [n, inner], &labels(4, rows, classes), classes)?;
        let in_place = b.cross_entropy_with(&half, &y, &CrossEntropy::default(), Grad::InPlace)?.loss;
        let half = b.cast::<f16, f32>(&half)?;
        let grad = out.gradient()?;
        Ok([
            out.loss.clone(),
            grad,
            statistics.entropy,
            b.softmax_backward(&softmax, &flat, 0)?,
            softmax,
            mse.gradient()?,
            repeated,
            in_place,
            half,
        ])
    });
}

/// Sums over rows that exceed a binding, and repeated weights that exceed a binding.
#[test]
fn wide_rows() {
    let Some(gpu) = gpu() else { return };
    same_with_tiny_limits("wide", &gpu, |gpu, b| {
        let x = Tensor::from_slice(gpu, [3, 5003], &unit(1, 15_009))?;
        let one = Tensor::from_slice(gpu, [1, 5003], &unit(2, 5003))?;
        let tall = Tensor::from_slice(gpu, [70, 5003], &random(3, 350_210, 1.0))?;
        let mse = b.mse_with(&one, &x, &broadcast(), Grad::New)?;
        let weights = |shape: [usize; 3]| xent::Weights::new(shape, &unit(4, shape.iter().product()));
        let elements = x.reshape([1, 5003, 3])?;
        let repeated = Bce::new().weight(weights([1, 5003, 1])?);
        let y = Tensor::from_slice(gpu, [1, 5003, 3], &unit(5, 15_009))?;
        let bce = b.bce_with(&elements, &y, &repeated, Grad::New)?;
        let each = Bce::new().weight(weights([1, 5003, 3])?).reduction(Reduction::None);
        let unreduced = b.bce(&elements, &y, &each)?;
        Ok([
            b.column_sum(&x)?,
            b.column_sum(&tall)?,
            mse.loss.clone(),
            mse.gradient()?,
            bce.loss.clone(),
            bce.gradient()?,
            unreduced,
        ])
    });
}

#[test]
fn elementwise() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(5);
    // Beyond a million elements, the partial sums of a reduction are split, too.
    for len in [4097, 50_002, 1_200_004] {
        let (p, y, x) = (unit(1, len), unit(2, len), random(3, len, 8.0));
        for reduction in [Reduction::None, Reduction::Mean].into_iter().filter(|_| chosen()) {
            same_with_tiny_limits(&format!("{len}"), &gpu, |gpu, b| {
                let p = Tensor::from_slice(gpu, [len], &p)?;
                let y = Tensor::from_slice(gpu, [len], &y)?;
                let x = Tensor::from_slice(gpu, [len], &x)?;
                let o0 = b.bce_with(&p, &y, &Bce::new().reduction(reduction), Grad::New)?;
                let o1 = b.bce_with_logits_with(&x, &y, &BceWithLogits::new().reduction(reduction), Grad::New)?;
                let o2 = b.mse_with(&x, &y, &Mse::new().reduction(reduction), Grad::New)?;
                let relu = b.relu(&x)?;
                let relu_grad = b.relu_backward(&relu, &y)?;
                let sigmoid = b.sigmoid(&x)?;
                let sigmoid_grad = b.sigmoid_backward(&sigmoid, &y)?;
                let mut momentum = Momentum::new(gpu, [len])?;
                let options = Sgd::new().lr(0.1).momentum(0.9);
                b.sgd(&x, &y, Some(&mut momentum), &options)?;
                b.sgd(&x, &y, Some(&mut momentum), &options)?;
                let out = [
                    o0.loss.clone(),
                    o0.gradient()?,
                    o1.loss.clone(),
                    o1.gradient()?,
                    o2.loss.clone(),
                    o2.gradient()?,
                    relu,
                    relu_grad,
                    sigmoid,
                    sigmoid_grad,
                    x,
                ];
                Ok(out)
            });
        }
    }
}

#[test]
fn grids_of_nine_workgroups() {
    let Some(gpu) = gpu() else { return };
    let cut = || families(&gpu).map(|gpu| gpu.with_caps(Caps { max_groups: 3, ..gpu.caps().clone() }).unwrap());
    let logits = random(1, 40_000, 8.0);
    same("elementwise", &gpu, cut(), |gpu, b| {
        let x = Tensor::from_slice(gpu, [40_000], &logits)?;
        let y = Tensor::from_slice(gpu, [40_000], &unit(2, 40_000))?;
        let mse = b.mse_with(&x, &y, &Mse::default(), Grad::New)?;
        Ok([mse.loss.clone(), mse.gradient()?, b.sigmoid(&x)?])
    });
    same("rows", &gpu, cut(), |gpu, b| {
        let x = Tensor::from_slice(gpu, [800, 50], &logits)?;
        let y = Targets::new(gpu, [800], &labels(2, 800, 50), 50)?;
        let weight = Tensor::from_slice(gpu, [20, 50], &random(3, 1000, 1.0))?;
        let ce = b.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::New)?;
        let product = b.matmul(Layout::Nt, &x, &weight, None)?;
        let labels = Targets::new(gpu, [800], &labels(4, 800, 20), 20)?;
        let request = LinearLossRequest::gradients();
        let linear = b.linear_cross_entropy_with(&x, &weight, None, &labels, &Default::default(), request)?;
        let hidden = linear.hidden_grad.unwrap();
        Ok([
            ce.loss.clone(),
            ce.gradient()?,
            b.log_softmax(&x, 1)?,
            b.column_sum(&product)?,
            product,
            linear.loss,
            hidden,
        ])
    });
}

#[test]
fn products_and_column_sums() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    for [m, n, k] in [
        [130, 70, 90],
        [33, 300, 500],
        [1000, 10, 64],
        [10, 64, 1000],
        [61, 47, 1001],
        [64, 72, 1024],
        // Split into pieces that are not multiples of a quad.
        [64, 512, 40],
        [40, 1348, 64],
    ] {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn].into_iter().filter(|_| chosen()) {
            same_with_tiny_limits(&format!("{layout:?} {m}x{n}x{k}"), &gpu, |gpu, b| {
                let a_shape = if layout == Layout::Tn { [k, m] } else { [m, k] };
                let b_shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
                let x = Tensor::from_slice(gpu, a_shape, &random(1, m * k, 1.0))?;
                let y = Tensor::from_slice(gpu, b_shape, &random(2, k * n, 1.0))?;
                let bias = Tensor::from_slice(gpu, [n], &random(3, n, 1.0))?;
                let c = b.matmul(layout, &x, &y, Some(&bias))?;
                Ok([b.column_sum(&x)?, b.column_sum(&c)?, c])
            });
        }
    }
}

#[test]
fn views_at_any_offset() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let (rows, classes) = (40, 12);
        let logits = random(1, rows * classes, 3.0);
        let targets = labels(2, rows, classes);
        let whole = Tensor::from_slice(&gpu, [rows, classes], &logits).unwrap();
        let flat = whole.reshape([rows * classes]).unwrap();
        let y = Targets::new(&gpu, [rows], &targets, classes).unwrap();
        for start in 0..9 {
            let part = whole.rows(start..rows).unwrap();
            let copy = Tensor::from_slice(&gpu, [rows - start, classes], &logits[start * classes..]).unwrap();
            let labels = y.rows(start..rows).unwrap();
            // An offset of `start` elements, a multiple of neither a quad nor an alignment.
            let flat_part = flat.rows(start..rows * classes).unwrap();
            let flat_copy = Tensor::from_slice(&gpu, [rows * classes - start], &logits[start..]).unwrap();
            let out = eval(&gpu, |b| {
                let options = CrossEntropy::default();
                let (o, c) = (
                    b.cross_entropy_with(&part, &labels, &options, Grad::New)?,
                    b.cross_entropy_with(&copy, &labels, &options, Grad::New)?,
                );
                Ok([
                    o.loss.clone(),
                    c.loss.clone(),
                    o.gradient()?,
                    c.gradient()?,
                    b.sigmoid(&flat_part)?,
                    b.sigmoid(&flat_copy)?,
                ])
            });
            for pair in out.chunks(2) {
                same_bits(&format!("from {start}"), &pair[0], &pair[1]);
            }
        }
    }
}

/// Uploads to and readbacks from tensors of several buffers, of whole words and of halves, at
/// offsets within a buffer and across buffers.
#[test]
fn tensors_of_several_buffers() {
    let Some(gpu) = gpu() else { return };
    for gpu in tiny(&gpu) {
        let values = random(1, 50_000, 4.0);
        let x = Tensor::from_slice(&gpu, [50_000], &values).unwrap();
        let sizes: Vec<u64> = x.buffers().map(|(_, bytes)| bytes.end - bytes.start).collect();
        assert_eq!(sizes, [36_864, 36_864, 36_864, 36_864, 36_864, 15_680]);
        let part = x.rows(9000..20_001).unwrap();
        assert_eq!(part.buffers().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [36_000..36_864, 0..36_864, 0..6276]);
        assert_eq!((part.offset(), x.rows(9216..9217).unwrap().offset()), (36_000, 0));
        assert_eq!(x.rows(50_000..50_000).unwrap().buffers().count(), 0);
        let zeros = Tensor::<f32>::zeros(&gpu, [50_000]).unwrap();
        let mut batch = gpu.batch();
        let before = batch.read(&part).unwrap();
        batch.upload(&part, &values[..11_001]).unwrap();
        let after = batch.read(&x).unwrap();
        let half = batch.cast::<f32, f16>(&x).unwrap();
        let odd = batch.read(&half.rows(18_431..40_000).unwrap()).unwrap();
        batch.accumulate(&part, &zeros.rows(777..11_778).unwrap()).unwrap();
        let sum = batch.read(&zeros).unwrap();
        batch.submit().unwrap();
        let [before, after, sum] = [before, after, sum].map(|mut ticket| ticket.wait(TIMEOUT).unwrap());
        same_bits("a read across cuts", &before, &values[9000..20_001]);
        let mut expected = values.clone();
        expected[9000..20_001].copy_from_slice(&values[..11_001]);
        same_bits("an upload across cuts", &after, &expected);
        let halves: Vec<f16> = expected[18_431..40_000].iter().map(|&value| f16::from_f32(value)).collect();
        assert_eq!({ odd }.wait(TIMEOUT).unwrap(), halves);
        assert!(sum[..777].iter().chain(&sum[11_778..]).all(|&value| value == 0.0), "nothing around it is written");
        same_bits("a sum across cuts", &sum[777..11_778], &values[..11_001]);
        let elsewhere = Tensor::<f32>::from_buffer(&gpu, part.buffers().nth(1).unwrap().0.clone(), 0, [11_001]);
        let overlapping = elsewhere.unwrap_err();
        assert!(matches!(overlapping, Error::Buffer { .. }), "a tensor of the caller's is one buffer: {overlapping}");
        let elsewhere = Tensor::<f32>::from_buffer(&gpu, part.buffers().nth(1).unwrap().0.clone(), 0, [9000]).unwrap();
        let aliasing = gpu.batch().accumulate(&x.rows(0..9000).unwrap(), &elsewhere).unwrap_err();
        assert!(matches!(aliasing, Error::Aliasing { .. }), "{aliasing}");
    }
}

#[test]
fn a_row_larger_than_a_binding_is_an_error_and_records_nothing() {
    let Some(gpu) = gpu() else { return };
    for gpu in tiny(&gpu) {
        let x = Tensor::from_slice(&gpu, [2, 5000], &vec![0.5; 10_000]).unwrap();
        let y = Targets::new(&gpu, [2], &[1, 2], 5000).unwrap();
        let mut batch = gpu.batch();
        let before = gpu.counters().dispatches;
        let error = batch.cross_entropy(&x, &y, &CrossEntropy::default()).unwrap_err();
        let Error::Limit { op: "cross_entropy", needed: 20_000, allowed, .. } = error else { panic!("{error}") };
        assert!(allowed < Caps::MIN_BINDING);
        assert!(matches!(batch.matmul(Layout::Nt, &x, &x, None), Err(Error::Limit { op: "matmul", .. })));
        assert_eq!(gpu.counters().dispatches, before);
    }
}

/// With few bindings, the gradient is computed over a copy of the logits.
#[test]
fn few_bindings_and_an_error_leave_the_gradient_as_it_was() {
    let Some(gpu) = gpu() else { return };
    for gpu in tiny(&gpu) {
        let gpu = gpu.with_caps(Caps { max_bindings: Caps::MIN_BINDINGS, ..gpu.caps().clone() }).unwrap();
        let call = |classes: usize, statistics: bool| {
            let x = Tensor::from_slice(&gpu, [2, classes], &vec![0.5; 2 * classes]).unwrap();
            let y = Targets::new(&gpu, [2], &[1, 2], classes).unwrap();
            let grad = Tensor::from_slice(&gpu, [2, classes], &vec![7.0; 2 * classes]).unwrap();
            let mut batch = gpu.batch();
            let request = LossRequest::new().grad(Grad::Into(&grad));
            let request = if statistics { request.statistics() } else { request };
            let error = batch.cross_entropy_with(&x, &y, &CrossEntropy::default(), request).unwrap_err();
            assert!(matches!(error, Error::Limit { op: "cross_entropy", .. }), "{error}");
            let mut after = batch.read(&grad).unwrap();
            batch.submit().unwrap();
            assert!(after.wait(TIMEOUT).unwrap().iter().all(|&value| value == 7.0), "{classes} {statistics}");
        };
        call(5000, false);
        call(10, true);
    }
}

#[test]
fn updates() {
    let Some(gpu) = gpu() else { return };
    // More parameters than the smallest binding holds.
    let (n, inputs, outputs) = (20, 130, 100);
    let (x, targets) = (random(1, n * inputs, 1.0), labels(2, n, outputs));
    same_with_tiny_limits("updates", &gpu, |gpu, b| {
        let network = Sequential::new().linear(inputs, 90).relu().linear(90, outputs);
        let sgd = Sgd::new().lr(0.5).momentum(0.9).weight_decay(0.01);
        let groups = vec![Group { names: vec!["2.weight".into()], lr: Some(0.2), ..Group::default() }];
        let clipped =
            Optimization { clip_norm: Some(0.1), clip_value: Some(0.01), skip_non_finite: true, ..Default::default() };
        let options = Optimization { sgd, groups, accumulate: 2, ..clipped };
        let model = Model::new(gpu, &network, 7)?;
        let mut training = Training::new(model, vec![Loss::cross_entropy()], options)?;
        let (x, y) = (Tensor::from_slice(gpu, [n, inputs], &x)?, Targets::new(gpu, [n], &targets, outputs)?);
        let mut last = None;
        for _ in 0..4 {
            last = Some(training.step(b, &x, &[(&y).into()])?);
        }
        let out = last.expect("four steps");
        let parameters = training.model().parameters();
        Ok([out.losses[0].clone(), out.report.expect("it is clipped").norm, parameters.values().clone()])
    });
}
