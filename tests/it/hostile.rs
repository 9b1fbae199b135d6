//! Values and shapes that no training should have, in random combinations. Results are the
//! reference's numbers, or the same kinds of special values.

use std::ops::Range;

use proptest::prelude::*;

use crate::common::*;
use crate::cross_entropy::REDUCTIONS;
use crate::properties::on_all;
use xent::linear::LinearCrossEntropy;
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, Mse, Nll, Reduction, Targets};
use xent::optim::{Momentum, Sgd};
use xent::{Error, Gpu, Layout, Tensor, Weights, cpu};

const EXTREMES: [f32; 22] = [
    f32::NAN,
    f32::from_bits(0xffff_ffff),
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007f_ffff),
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    1e38,
    -1e38,
    2e19,
    88.7,
    -87.4,
    -104.0,
    16_777_216.0,
    1.0,
    -1.0,
];

/// Twice the error of a difference of two numbers on a device that flushes subnormal operands and
/// results to 0, as WGSL allows.
pub(crate) const FLUSHED: f64 = 4.0 * f32::MIN_POSITIVE as f64;

/// The sizes of a tensor's dimensions before, at and after its class dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) outer: usize,
    pub(crate) classes: usize,
    pub(crate) inner: usize,
}

impl Dims {
    pub(crate) fn of(shape: &[usize]) -> Self {
        let split = usize::from(shape.len() > 1);
        let product = |dims: Range<usize>| shape[dims].iter().product();
        Self { outer: product(0..split), classes: shape[split], inner: product(split + 1..shape.len()) }
    }

    pub(crate) fn rows(self) -> usize {
        self.outer * self.inner
    }

    pub(crate) fn len(self) -> usize {
        self.rows() * self.classes
    }

    pub(crate) fn at(self, row: usize, class: usize) -> usize {
        (row / self.inner * self.classes + class) * self.inner + row % self.inner
    }

    pub(crate) fn row_of(self, i: usize) -> usize {
        i / (self.classes * self.inner) * self.inner + i % self.inner
    }
}

/// Returns rows of ordinary values, of one value, with a single spike, with an extreme among
/// ordinary values, of subnormal values, or of extremes only.
pub(crate) fn hostile(dims: Dims, seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut values = vec![0.0; dims.len()];
    for row in 0..dims.rows() {
        let kind = rng.u8(0..9);
        let (ordinary, extreme) = (rng.f32() * 8.0 - 4.0, EXTREMES[rng.usize(0..EXTREMES.len())]);
        let at = rng.usize(0..dims.classes.max(1));
        for class in 0..dims.classes {
            let any = rng.f32() * 8.0 - 4.0;
            values[dims.at(row, class)] = match (kind, class == at) {
                (1, _) => ordinary,
                (2, _) | (5 | 6, true) => extreme,
                (3, true) => 1e38,
                (4, true) => -1e38,
                (3 | 4, false) => 0.0,
                (0 | 5 | 6, _) => any,
                (7, _) => f32::from_bits(rng.u32(0..0x0080_0000) | (rng.u32(0..2) << 31)),
                _ => EXTREMES[rng.usize(0..EXTREMES.len())],
            };
        }
    }
    values
}

/// Checks that finite numbers agree within `rel` and each element's own absolute error, and that
/// other numbers are of the same kind.
#[track_caller]
fn agree(what: &str, got: &[f32], want: &[f64], rel: f64, abs: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        close(&format!("{what}, element {i}"), &[got], &[want], rel, abs(i));
    }
}

pub(crate) fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Checks a sum or mean of losses. The sum is an `f32`, so a mean is infinite if its sum is.
#[track_caller]
fn reduced(what: &str, got: f32, losses: &[f32], reduction: Reduction) {
    let all: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
    let size: f64 = losses.iter().map(|&loss| f64::from(loss).abs()).sum();
    if size > f64::from(f32::MAX) && losses.iter().all(|loss| loss.is_finite()) {
        // If signs differ, the order of the summands decides whether the sum overflows.
        let one_sign = losses.iter().all(|&loss| loss >= 0.0) || losses.iter().all(|&loss| loss <= 0.0);
        assert!(!one_sign || got.is_infinite(), "{what}: {got:e} is no sum that overflows");
        return;
    }
    let is_mean = matches!(reduction, Reduction::Mean | Reduction::MeanByCount);
    let by = if is_mean { losses.len() as f64 } else { 1.0 };
    close(what, &[got], &[all / by], 1e-6, 1e-6 * size / by + FLUSHED * losses.len() as f64 / by);
}

/// Only a few shapes, because some row lengths compile kernels of their own.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    let shapes: [&[usize]; 14] = [
        &[0],
        &[1],
        &[13],
        &[0, 5],
        &[5, 0],
        &[1, 1],
        &[5, 1],
        &[9, 13],
        &[3, 33],
        &[2, 3, 4],
        &[4, 3, 0],
        &[2, 0, 3],
        &[3, 70],
        &[2, 1100],
    ];
    prop::sample::select(shapes.map(<[usize]>::to_vec).to_vec())
}

prop_compose! {
    fn options(shape: Vec<usize>)(
        weight in any::<bool>(),
        label_smoothing in prop_oneof![2 => Just(0.0), 1 => Just(0.1), 1 => Just(1.0)],
        logit_scale in prop_oneof![2 => Just(1.0), 1 => Just(0.5), 1 => Just(2.0)],
        softcap in prop_oneof![3 => Just(None), 1 => Just(Some(10.0))],
        z_loss in prop_oneof![3 => Just(0.0), 1 => Just(0.01)],
    ) -> CrossEntropy {
        let classes = Dims::of(&shape).classes;
        let weights: Vec<f32> = (0..classes).map(|c| [0.5, 2.0, 0.0][c % 3]).collect();
        CrossEntropy::new().weight(weight.then(|| Weights::new([classes], &weights).unwrap())).label_smoothing(label_smoothing).logit_scale(logit_scale).softcap(softcap).z_loss(z_loss)
    }
}

fn row_cases() -> impl Strategy<Value = (Vec<usize>, CrossEntropy, Reduction, bool, u64)> {
    shapes().prop_flat_map(|shape| {
        let reduction = prop::sample::select(&REDUCTIONS[..]);
        (Just(shape.clone()), options(shape), reduction, any::<bool>(), any::<u64>())
    })
}

#[test]
fn rows() {
    let Some(gpu) = gpu() else { return };
    on_all(&gpu, 24, &row_cases(), |gpu, case| check_rows(gpu, &case));
}

fn check_rows(
    gpu: &Gpu,
    (shape, loss, reduction, by_probabilities, seed): &(Vec<usize>, CrossEntropy, Reduction, bool, u64),
) {
    let dims = Dims::of(shape);
    let x = hostile(dims, *seed);
    let mut index = labels(*seed, dims.rows(), dims.classes.max(1));
    index.iter_mut().skip(3).step_by(4).for_each(|target| *target = -100);
    if dims.classes == 0 {
        index.fill(-100);
    }
    let mut row_shape = shape.clone();
    row_shape.remove(usize::from(shape.len() > 1));
    let mut q = unit(*seed, dims.len());
    q.iter_mut().step_by(3).for_each(|q| *q = 0.0);
    // The largest finite magnitude of each row, whose rounding bounds the error of a difference.
    let mut scale = vec![0f64; dims.rows()];
    for (i, value) in x.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let row = dims.row_of(i);
        scale[row] = scale[row].max(f64::from(value.abs()));
    }
    let what = format!("{shape:?} {loss:?} {reduction:?} {by_probabilities} {seed} {:?}", gpu.caps().family);
    let none = loss.clone().reduction(Reduction::None);
    let nll = Nll::new().weight(loss.weight.clone()).reduction(Reduction::None);
    let options = loss.clone().reduction(*reduction);
    let tx = Tensor::from_slice(gpu, &shape[..], &x).unwrap();
    let ty = Targets::new(gpu, &row_shape[..], &index, dims.classes).unwrap();
    let tq = Tensor::from_slice(gpu, &shape[..], &q).unwrap();
    let dim = usize::from(shape.len() > 1);
    let targets = || if *by_probabilities { Targets::from(&tq) } else { Targets::from(&ty) };
    let [losses, grad, whole, nll_losses, nll_grad, softmax, log_softmax] = eval(gpu, |b| {
        let ce = b.cross_entropy_with(&tx, targets(), &none, Grad::New)?;
        let picked = b.nll_with(&tx, &ty, &nll, Grad::New)?;
        let whole = b.cross_entropy(&tx, targets(), &options)?;
        Ok([
            ce.loss.clone(),
            ce.gradient()?,
            whole,
            picked.loss.clone(),
            picked.gradient()?,
            b.softmax(&tx, dim)?,
            b.log_softmax(&tx, dim)?,
        ])
    });
    let host = || -> cpu::Targets<'_> { if *by_probabilities { (&q).into() } else { (&index).into() } };
    let want = cpu::cross_entropy_backward((&x, shape), host(), &none, None).unwrap();
    let picked = cpu::nll_backward((&x, shape), &index, &nll, None).unwrap();
    let coefficients = if *by_probabilities { dims.classes as f64 } else { 2.0 };
    agree(&format!("loss {what}"), &losses, &want.loss, 4e-6, |row| 4e-7 * coefficients * (scale[row] + 4.0));
    agree(&format!("grad {what}"), &grad, &want.grad, 4e-6, |_| 4e-7 * coefficients);
    agree(&format!("nll {what}"), &nll_losses, &picked.loss, 1e-6, |_| FLUSHED);
    agree(&format!("nll grad {what}"), &nll_grad, &picked.grad, 1e-6, |_| 0.0);
    let want = cpu::softmax((&x, shape), dim).unwrap();
    agree(&format!("softmax {what}"), &softmax, &want, 2e-6, |_| FLUSHED);
    let want = cpu::log_softmax((&x, shape), dim).unwrap();
    agree(&format!("log_softmax {what}"), &log_softmax, &want, 1e-6, |i| 2e-7 * scale[dims.row_of(i)] + 4e-7);
    if *reduction != Reduction::None && !*by_probabilities && loss.weight.is_none() {
        // A mean is over the rows that are not ignored.
        let kept: Vec<f32> = losses.iter().zip(&index).filter(|(_, y)| **y >= 0).map(|(loss, _)| *loss).collect();
        reduced(&format!("reduced {what}"), whole[0], &kept, *reduction);
    }
}

fn element_cases() -> impl Strategy<Value = (usize, Reduction, u64)> {
    (prop::sample::select(vec![0usize, 1, 2, 7, 1023, 1025, 5000]), prop::sample::select(&REDUCTIONS[..]), any::<u64>())
}

#[test]
fn elements() {
    let Some(gpu) = gpu() else { return };
    on_all(&gpu, 12, &element_cases(), check_elements);
}

fn check_elements(gpu: &Gpu, (len, reduction, seed): (usize, Reduction, u64)) {
    let dims = Dims { outer: len.div_ceil(16), classes: 16, inner: 1 };
    let take = |seed: u64| hostile(dims, seed)[..len].to_vec();
    let (x, g, y) = (take(seed), take(seed ^ 1), unit(seed, len));
    let what = format!("{len} {reduction:?} {seed} {:?}", gpu.caps().family);
    let on = |values: &[f32]| Tensor::from_slice(gpu, [len], values).unwrap();
    let (tx, tg, ty) = (on(&x), on(&g), on(&y));
    let none = BceWithLogits::new().reduction(Reduction::None);
    let whole = BceWithLogits::new().reduction(reduction);
    let mse_none = Mse::new().reduction(Reduction::None);
    let mse_whole = Mse::new().reduction(reduction);
    let [bce, bce_grad, bce_whole, mse, mse_grad, mse_reduced] = eval(gpu, |b| {
        let bce = b.bce_with_logits_with(&tx, &ty, &none, Grad::New)?;
        let mse = b.mse_with(&tx, &tg, &mse_none, Grad::New)?;
        let bce_whole = b.bce_with_logits(&tx, &ty, &whole)?;
        Ok([
            bce.loss.clone(),
            bce.gradient()?,
            bce_whole,
            mse.loss.clone(),
            mse.gradient()?,
            b.mse(&tx, &tg, &mse_whole)?,
        ])
    });
    let want = cpu::bce_with_logits_backward((&x, &[len]), (&y, &[len]), &none, None).unwrap();
    agree(&format!("bce {what}"), &bce, &want.loss, 1e-6, |_| FLUSHED);
    agree(&format!("bce grad {what}"), &bce_grad, &want.grad, 1e-6, |_| 2e-7);
    let want = cpu::mse_backward((&x, &[len]), (&g, &[len]), &mse_none, None).unwrap();
    agree(&format!("mse {what}"), &mse, &want.loss, 1e-6, |_| FLUSHED);
    agree(&format!("mse grad {what}"), &mse_grad, &want.grad, 1e-6, |_| FLUSHED);
    if reduction != Reduction::None {
        reduced(&format!("bce {what}"), bce_whole[0], &bce, reduction);
        reduced(&format!("mse {what}"), mse_reduced[0], &mse, reduction);
    }

    let [relu, relu_grad, sigmoid, sigmoid_grad] = eval(gpu, |b| {
        let sigmoid = b.sigmoid(&tx)?;
        Ok([b.relu(&tx)?, b.relu_backward(&tx, &tg)?, sigmoid.clone(), b.sigmoid_backward(&sigmoid, &tg)?])
    });
    close(&format!("relu {what}"), &relu, &cpu::relu(&x), 0.0, 0.0);
    close(&format!("relu grad {what}"), &relu_grad, &cpu::relu_backward(&x, &g).unwrap(), 0.0, 0.0);
    close(&format!("sigmoid {what}"), &sigmoid, &cpu::sigmoid(&x), 4e-7, f64::from(f32::from_bits(1)));
    let want = cpu::sigmoid_backward(&sigmoid, &g).unwrap();
    close(&format!("sigmoid grad {what}"), &sigmoid_grad, &want, 1e-6, FLUSHED);

    let momentum = Sgd::new().lr(0.1).momentum(0.9).weight_decay(0.01).nesterov(seed % 2 == 0);
    let values = on(&x);
    let mut velocity = Momentum::new(gpu, [len]).unwrap();
    let [sgd] = eval(gpu, |b| {
        b.sgd(&values, &tg, Some(&mut velocity), &momentum)?;
        Ok([values.clone()])
    });
    let (mut want, mut host_velocity) = (f64s(&x), Vec::new());
    cpu::sgd(&mut want, &g, &mut host_velocity, &momentum).unwrap();
    for (i, (&got, &want)) in sgd.iter().zip(&want).enumerate() {
        // The error of a cancellation is relative to the terms. A term that is not finite leads to
        // a special value.
        let size = f64::from(x[i]).abs() + 2.0 * f64::from(g[i]).abs();
        let abs = if size.is_finite() { 1e-6 * size + FLUSHED } else { 0.0 };
        let overflows = size.is_finite() && size > f64::from(f32::MAX) && !got.is_finite();
        if !overflows {
            close(&format!("sgd {what}, element {i}"), &[got], &[want], 1e-6, abs);
        }
    }
}

/// Binary cross-entropy takes only probabilities: the GPU and the reference report the same value
/// that is not one, or return the same losses.
#[test]
fn probabilities() {
    let Some(gpu) = gpu() else { return };
    let cases = (prop::sample::select(vec![0usize, 1, 7, 1025]), any::<bool>(), any::<u64>());
    let check = |gpu: &Gpu, (len, broken, seed): (usize, bool, u64)| {
        let edges = [0.0, 1.0, f32::from_bits(1), f32::MIN_POSITIVE, 1.0 - 6e-8, 0.5, -0.0];
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut p: Vec<f32> =
            (0..len).map(|_| if rng.bool() { rng.f32() } else { edges[rng.usize(0..edges.len())] }).collect();
        let y = unit(seed, len);
        if broken && len > 0 {
            let bad = [f32::NAN, f32::INFINITY, -1e-45, 1.000_000_1, 2.0, f32::MIN, -f32::INFINITY];
            p[rng.usize(0..len)] = bad[rng.usize(0..bad.len())];
        }
        let none = Bce::new().reduction(Reduction::None);
        let [tp, ty] = [&p, &y].map(|values| Tensor::from_slice(gpu, [len], values).unwrap());
        let got = try_eval(gpu, |b| {
            let out = b.bce_with(&tp, &ty, &none, Grad::New)?;
            Ok([out.loss.clone(), out.gradient()?])
        });
        let checked = Tensor::probabilities(gpu, [len], &p);
        let smallest = f64::from(f32::MIN_POSITIVE);
        match (got, cpu::bce_backward((&p, &[len]), (&y, &[len]), &none, None)) {
            (Ok([loss, grad]), Ok(want)) => {
                assert!(checked.is_ok());
                close("loss", &loss, &want.loss, 1e-6, smallest);
                close("grad", &grad, &want.grad, 1e-6, smallest / 1e-12);
            }
            (Err(Error::Data { op: "bce", position, .. }), Err(Error::Value { got, .. })) => {
                assert!(got.ends_with(&format!("at position {position}")), "{got}, not at {position}");
                assert!(matches!(checked, Err(Error::Value { op: "probabilities", .. })));
            }
            (got, want) => panic!("{got:?}, but the reference {want:?}"),
        }
    };
    on_all(&gpu, 40, &cases, check);
}

/// Infinities and NaN reach exactly the products and sums that they are part of, and no sum of huge
/// numbers of both signs has a wrong ordinary value.
#[test]
fn products_and_sums() {
    let Some(gpu) = gpu() else { return };
    let sizes = prop::sample::select(vec![[0usize, 3, 2], [3, 0, 2], [2, 3, 0], [1, 1, 1], [9, 37, 21], [40, 5, 130]]);
    let layouts = prop::sample::select(vec![Layout::Nn, Layout::Nt, Layout::Tn]);
    let check = |gpu: &Gpu, ([m, n, k], layout, seed): ([usize; 3], Layout, u64)| {
        let a = hostile(Dims { outer: m, classes: k, inner: 1 }, seed);
        let b: Vec<f32> = unit(seed, k * n).iter().map(|v| v + 0.25).collect();
        let (a_shape, b_shape) = match layout {
            Layout::Nn => ([m, k], [k, n]),
            Layout::Nt => ([m, k], [n, k]),
            Layout::Tn => ([k, m], [k, n]),
        };
        let (ta, tb) = (Tensor::from_slice(gpu, a_shape, &a).unwrap(), Tensor::from_slice(gpu, b_shape, &b).unwrap());
        let [product, sums] = eval(gpu, |r| Ok([r.matmul(layout, &ta, &tb, None)?, r.column_sum(&ta)?]));
        let what = format!("{m} x {n} x {k} {layout:?} {seed} {:?}", gpu.caps().family);
        let sizes: Vec<f64> = a.iter().map(|v| if v.is_finite() { f64::from(v.abs()) } else { 0.0 }).collect();
        let b_sizes: Vec<f64> = f64s(&b);
        let against = |what: &str, got: &[f32], want: &[f64], size: &[f64]| {
            for (i, ((&got, &want), &size)) in got.iter().zip(want).zip(size).enumerate() {
                if !want.is_nan() && size > f64::from(f32::MAX) {
                    // The order of the terms decides whether a part of the sum overflows, and
                    // whether infinities of both signs meet.
                    let fine = !got.is_finite() || (want.is_finite() && (f64::from(got) - want).abs() <= 2e-6 * size);
                    assert!(fine, "{what}, element {i}: {got:e}, want {want:e} of {size:e}");
                } else {
                    close(&format!("{what}, element {i}"), &[got], &[want], 1e-6, 2e-6 * size + 1e-36);
                }
            }
        };
        let want = cpu::matmul(layout, (&a, &a_shape), (&b, &b_shape), None).unwrap();
        let size = cpu::matmul(layout, (&sizes, &a_shape), (&b_sizes, &b_shape), None).unwrap();
        assert_eq!(product.len(), want.len());
        against(&format!("product {what}"), &product, &want, &size);
        let size = cpu::column_sum((&sizes, a_shape)).unwrap();
        against(&format!("sums {what}"), &sums, &cpu::column_sum((&a, a_shape)).unwrap(), &size);
    };
    on_all(&gpu, 20, &(sizes, layouts, any::<u64>()), check);
}

/// Sizes beyond any memory are planned or refused.
#[test]
fn plans_of_any_sizes() {
    let Some(gpu) = gpu() else { return };
    let size = || prop_oneof![0usize..4, 0usize..1_000_000, any::<usize>(), Just(usize::MAX)];
    let cases = ([size(), size(), size()], prop_oneof![Just(32u64 << 20), any::<u64>()], any::<bool>());
    on_all(&gpu, 400, &cases, |gpu, (sizes, scratch, flag)| {
        let options = LinearCrossEntropy::new().scratch(scratch);
        let bce = xent::linear::LinearBceWithLogits::new().scratch(scratch);
        for plan in [
            gpu.plan_linear_cross_entropy(sizes, &options, flag),
            gpu.plan_linear_cross_entropy_sgd(sizes, &options, flag),
            gpu.plan_linear_bce_with_logits(sizes, &bce, flag),
        ] {
            match plan {
                Ok(plan) => {
                    assert!(plan.scratch_bytes() <= scratch, "{plan}");
                    assert!((1..=sizes[0].max(1)).contains(&plan.tokens_at_once()), "{plan}");
                }
                Err(Error::Limit { needed, allowed, .. }) => assert!(needed > allowed, "{sizes:?}"),
                Err(other) => panic!("{sizes:?}: {other}"),
            }
        }
    });
}
