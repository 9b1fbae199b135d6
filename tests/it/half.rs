//! Tensors of halves: stored results are computed in `f32` from the stored inputs, and rounded
//! once.

use std::fmt::Debug;

use crate::common::*;
use xent::linear::{LinearCrossEntropy, LinearLossRequest};
use xent::loss::{CrossEntropy, Grad, LossRequest, Nll, Reduction, Targets};
use xent::{Error, Family, Float, Gpu, Layout, Tensor, bf16, cpu, f16};

trait Half: Float + Copy + Debug {
    /// The number of bits after the leading one: neighbouring values around 1 differ by
    /// `2^-DIGITS`, the smallest ones by `2^SMALLEST`.
    const DIGITS: i32;
    const SMALLEST: i32;
    fn of(x: f32) -> Self;
    fn value(self) -> f32;
    fn bits(self) -> u16;
    fn of_bits(bits: u16) -> Self;

    /// Returns the distance between neighbouring values around `x`.
    fn ulp(x: f64) -> f64 {
        let exponent = if x == 0.0 { Self::SMALLEST } else { x.abs().log2().floor() as i32 };
        2f64.powi((exponent - Self::DIGITS).max(Self::SMALLEST))
    }
}

macro_rules! half {
    ($ty:ty, $digits:literal, $smallest:literal) => {
        impl Half for $ty {
            const DIGITS: i32 = $digits;
            const SMALLEST: i32 = $smallest;
            fn of(x: f32) -> Self {
                Self::from_f32(x)
            }
            fn value(self) -> f32 {
                self.to_f32()
            }
            fn bits(self) -> u16 {
                self.to_bits()
            }
            fn of_bits(bits: u16) -> Self {
                Self::from_bits(bits)
            }
        }
    };
}
half!(f16, 10, -24);
half!(bf16, 7, -133);

fn halves<T: Half>(values: &[f32]) -> Vec<T> {
    values.iter().map(|&x| T::of(x)).collect()
}

fn values<T: Half>(halves: &[T]) -> Vec<f32> {
    halves.iter().map(|x| x.value()).collect()
}

fn read<T: Float>(gpu: &Gpu, record: impl FnOnce(&mut xent::Batch) -> xent::Result<Tensor<T>>) -> Vec<T> {
    let mut batch = gpu.batch();
    let tensor = record(&mut batch).unwrap();
    let mut ticket = batch.read(&tensor).unwrap();
    batch.submit().unwrap();
    ticket.wait(TIMEOUT).unwrap()
}

/// Checks that values agree within a unit in the last place of the type, plus the error of `f32`.
#[track_caller]
fn near<T: Half>(what: &str, got: &[T], want: &[f64], rel: f64, abs: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (got, &want)) in got.iter().zip(want).enumerate() {
        let (g, rounded) = (f64::from(got.value()), f64::from(T::of(want as f32).value()));
        let fine = if rounded.is_finite() {
            (g - want).abs() <= T::ulp(want) + rel * want.abs() + abs
        } else {
            g == rounded || (g.is_nan() && rounded.is_nan())
        };
        assert!(fine, "{what}: element {i}: got {got:?}, want {want:e}");
    }
}

fn conversions_of<T: Half>(gpu: &Gpu) {
    let all: Vec<T> = (0..=u16::MAX).map(T::of_bits).collect();
    let stored = Tensor::from_slice(gpu, [all.len()], &all).unwrap();
    let loaded = read(gpu, |b| b.cast::<T, f32>(&stored));
    let back = read(gpu, |b| b.cast::<T, T>(&stored));
    for ((half, loaded), back) in all.iter().zip(loaded).zip(back) {
        let exact = half.value();
        assert!(exact.to_bits() == loaded.to_bits() || exact.is_nan() && loaded.is_nan(), "{half:?} -> {loaded:e}");
        assert!(half.bits() == back.bits() || exact.is_nan() && back.value().is_nan(), "{half:?} -> {back:?}");
    }
    // Every tie and its neighbours, and random bits; an odd number of values in total.
    let mut rng = fastrand::Rng::with_seed(1);
    let mut hard: Vec<f32> = (0..100_000).map(|_| f32::from_bits(rng.u32(..))).collect();
    for pair in all.windows(2).filter(|pair| pair[0].value().is_finite()) {
        let tie = f64::midpoint(pair[0].value().into(), pair[1].value().into()) as f32;
        hard.extend([
            tie,
            f32::from_bits(tie.to_bits().wrapping_sub(1)),
            f32::from_bits(tie.to_bits().wrapping_add(1)),
        ]);
    }
    hard.extend([65504.0, 65519.99, 65520.0, f32::MAX, f32::MIN_POSITIVE, 1e-40, -0.0, f32::INFINITY, f32::NAN]);
    assert_eq!(hard.len() % 2, 1);
    let x = Tensor::from_slice(gpu, [hard.len()], &hard).unwrap();
    for (x, got) in hard.iter().zip(read(gpu, |b| b.cast::<f32, T>(&x))) {
        let want = T::of(*x);
        assert!(got.bits() == want.bits() || x.is_nan() && got.value().is_nan(), "{x:e} -> {got:?}, not {want:?}");
    }
}

#[test]
fn conversions_are_exact_or_round_to_nearest_even() {
    let Some(gpu) = gpu() else { return };
    conversions_of::<f16>(&gpu);
    conversions_of::<bf16>(&gpu);
}

/// Rows whose lengths are even, odd, and not a multiple of four; interleaved rows; and rows in the
/// middle of a tensor whose neighbours must not change.
fn losses_of<T: Half>(gpu: &Gpu, every_option: bool, chosen: &mut impl FnMut() -> bool) {
    for shape in [&[5, 12][..], &[5, 7], &[2, 2051], &[3, 5, 3]].into_iter().filter(|_| chosen()) {
        let classes = shape[1];
        let rows: Vec<usize> = shape.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, &n)| n).collect();
        let len: usize = shape.iter().product();
        let part: usize = len / shape[0];
        let stored: Vec<T> = halves(&random(1, len, 6.0));
        let exact = values(&stored);
        let mut index = labels(2, rows.iter().product(), classes);
        index[1] = -100;
        for options in [
            CrossEntropy::default(),
            CrossEntropy::new().reduction(Reduction::Sum).label_smoothing(0.2),
            CrossEntropy::new().softcap(4.0).z_loss(0.01),
        ]
        .into_iter()
        .take(if every_option { 3 } else { 1 })
        {
            let what = format!("{shape:?} {:?} {options:?}", gpu.caps().family);
            let want = cpu::cross_entropy_backward((&exact, shape), &index, &options, None).unwrap();
            let y = Targets::new(gpu, &rows[..], &index, classes).unwrap();
            let x = Tensor::from_slice(gpu, shape, &stored).unwrap();
            let mut batch = gpu.batch();
            let out = batch.cross_entropy_with(&x, &y, &options, Grad::New).unwrap();
            let (mut loss, mut grad) = (batch.read(&out.loss).unwrap(), batch.read(&out.gradient().unwrap()).unwrap());
            batch.submit().unwrap();
            close(&format!("loss {what}"), &loss.wait(TIMEOUT).unwrap(), &want.loss, 2e-6, 1e-6);
            let grad = grad.wait(TIMEOUT).unwrap();
            near(&format!("grad {what}"), &grad, &want.grad, 2e-6, 1e-8);
            // In place, in the middle of a larger tensor; an odd part starts within a word.
            let mut around = vec![T::of(1.5); part];
            around.extend(&stored);
            around.extend(vec![T::of(-2.5); part]);
            let mut larger = shape.to_vec();
            larger[0] += 2;
            let whole = Tensor::from_slice(gpu, &larger[..], &around).unwrap();
            let middle = whole.rows(1..shape[0] + 1).unwrap();
            let after = read(gpu, |b| {
                let request = LossRequest::new().grad(Grad::InPlace);
                b.cross_entropy_with(&middle, &y, &options, request)?;
                Ok(whole.clone())
            });
            let expect = [&vec![T::of(1.5); part][..], &grad, &vec![T::of(-2.5); part]].concat();
            assert!(after.iter().map(|v| v.bits()).eq(expect.iter().map(|v| v.bits())), "in place {what}");
            let alone = read(gpu, |_| Ok(middle.clone()));
            assert!(alone.iter().map(|v| v.bits()).eq(grad.iter().map(|v| v.bits())), "a part read alone {what}");
        }
        let x = Tensor::from_slice(gpu, shape, &stored).unwrap();
        let what = format!("{shape:?} {:?}", gpu.caps().family);
        // Softmax refuses a row that is interleaved with more rows than fit a small grid.
        for dim in (0..shape.len()).filter(|&dim| dim == 1 || every_option && len < 1000) {
            let y = read(gpu, |b| b.softmax(&x, dim));
            near(&format!("softmax {what}"), &y, &cpu::softmax((&exact, shape), dim).unwrap(), 2e-6, 1e-9);
            let log_y = read(gpu, |b| b.log_softmax(&x, dim));
            near(&format!("log_softmax {what}"), &log_y, &cpu::log_softmax((&exact, shape), dim).unwrap(), 2e-6, 1e-6);
            let g: Vec<T> = halves(&random(3, len, 1.0));
            let upstream = Tensor::from_slice(gpu, shape, &g).unwrap();
            let (y_on, log_y_on) =
                (Tensor::from_slice(gpu, shape, &y).unwrap(), Tensor::from_slice(gpu, shape, &log_y).unwrap());
            let want = cpu::softmax_backward((&values(&y), shape), &values(&g), dim).unwrap();
            let got = read(gpu, |b| b.softmax_backward(&y_on, &upstream, dim));
            near(&format!("softmax_backward {what}"), &got, &want, 4e-6, 2e-6);
            let want = cpu::log_softmax_backward((&values(&log_y), shape), &values(&g), dim).unwrap();
            let got = read(gpu, |b| b.log_softmax_backward(&log_y_on, &upstream, dim));
            near(&format!("log_softmax_backward {what}"), &got, &want, 4e-6, 4e-6);
        }
        let y = Targets::new(gpu, &rows[..], &index, classes).unwrap();
        let nll = cpu::nll_backward((&exact, shape), &index, &Nll::default(), None).unwrap();
        let grad = read(gpu, |b| b.nll_with(&x, &y, &Nll::default(), Grad::New)?.gradient());
        near(&format!("nll {what}"), &grad, &nll.grad, 1e-6, 0.0);
    }
}

/// Rows of halves with random bits, and rows of ordinary numbers with one such half.
fn any_bits_of<T: Half>(gpu: &Gpu, chosen: &mut impl FnMut() -> bool) {
    for (shape, seed) in [([40, 13], 1), ([40, 12], 2), ([8, 70], 3)].into_iter().filter(|_| chosen()) {
        let [rows, classes] = shape;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut stored: Vec<T> = halves(&random(seed, rows * classes, 6.0));
        for row in stored.chunks_mut(classes) {
            let at = rng.usize(0..classes);
            let all = rng.u8(..) < 64;
            let some = row.iter_mut().enumerate().filter(|(i, _)| all || *i == at);
            some.for_each(|(_, value)| *value = T::of_bits(rng.u16(..)));
        }
        let exact = values(&stored);
        let index = labels(seed, rows, classes);
        let options = CrossEntropy::new().reduction(Reduction::None);
        let want = cpu::cross_entropy_backward((&exact, &shape), &index, &options, None).unwrap();
        let x = Tensor::from_slice(gpu, shape, &stored).unwrap();
        let y = Targets::new(gpu, [rows], &index, classes).unwrap();
        let mut batch = gpu.batch();
        let out = batch.cross_entropy_with(&x, &y, &options, Grad::New).unwrap();
        let (mut loss, mut grad) = (batch.read(&out.loss).unwrap(), batch.read(&out.gradient().unwrap()).unwrap());
        batch.submit().unwrap();
        let (loss, grad) = (loss.wait(TIMEOUT).unwrap(), grad.wait(TIMEOUT).unwrap());
        for (row, x) in exact.chunks(classes).enumerate() {
            let what = format!("{shape:?} {:?} {x:?}", gpu.caps().family);
            let scale = x.iter().filter(|x| x.is_finite()).fold(1.0f64, |most, x| most.max(f64::from(x.abs())));
            close(&format!("loss {what}"), &loss[row..=row], &want.loss[row..=row], 4e-6, 8e-7 * scale);
            let here = row * classes..(row + 1) * classes;
            near(&format!("grad {what}"), &grad[here.clone()], &want.grad[here], 4e-6, 1e-6);
        }
    }
}

#[test]
fn halves_of_any_bits() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(5);
    for gpu in families(&gpu) {
        any_bits_of::<f16>(&gpu, &mut chosen);
        any_bits_of::<bf16>(&gpu, &mut chosen);
    }
}

#[test]
fn losses_and_maps_of_rows() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    for gpu in families(&gpu) {
        losses_of::<f16>(&gpu, true, &mut chosen);
        losses_of::<bf16>(&gpu, false, &mut chosen);
    }
}

#[test]
fn losses_with_small_limits() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(5);
    for gpu in tiny(&gpu) {
        losses_of::<f16>(&gpu, false, &mut chosen);
    }
}

fn products_of<T: Half>(gpu: &Gpu, chosen: &mut impl FnMut() -> bool) {
    for [m, n, k] in [[5, 7, 3], [64, 64, 32], [33, 130, 65], [70, 12, 600], [3, 5, 0]] {
        let (a, b, bias) = (random(1, m * k, 1.0), random(2, k * n, 1.0), random(3, n, 1.0));
        let (a, b, bias): (Vec<T>, Vec<T>, Vec<T>) = (halves(&a), halves(&b), halves(&bias));
        let on_bias = Tensor::from_slice(gpu, [n], &bias).unwrap();
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn].into_iter().filter(|_| chosen()) {
            let a_shape = if layout == Layout::Tn { [k, m] } else { [m, k] };
            let b_shape = if layout == Layout::Nt { [n, k] } else { [k, n] };
            let on_a = Tensor::from_slice(gpu, a_shape, &a).unwrap();
            let on_b = Tensor::from_slice(gpu, b_shape, &b).unwrap();
            let got = read(gpu, |batch| batch.matmul(layout, &on_a, &on_b, Some(&on_bias)));
            let (a, b) = (values(&a), values(&b));
            let want = cpu::matmul(layout, (&a, &a_shape), (&b, &b_shape), Some(&values(&bias))).unwrap();
            let what = format!("{layout:?} {m}x{n}x{k} {:?}", gpu.caps().family);
            near(&what, &got, &want, 0.0, 1e-6 * (k as f64).sqrt().max(1.0));
        }
    }
}

#[test]
fn products() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(13);
    for gpu in families(&gpu) {
        products_of::<f16>(&gpu, &mut chosen);
        products_of::<bf16>(&gpu, &mut chosen);
    }
}

fn linear_of<T: Half>(gpu: &Gpu, chosen: &mut impl FnMut() -> bool) {
    let [tokens, inputs, classes] = [131, 9, 77];
    let hidden: Vec<T> = halves(&random(1, tokens * inputs, 2.0));
    let weight: Vec<T> = halves(&random(2, classes * inputs, 1.0));
    let bias: Vec<T> = halves(&random(3, classes, 1.0));
    let index = labels(4, tokens, classes);
    let options = CrossEntropy::default();
    let (h, w, v) = (values(&hidden), values(&weight), values(&bias));
    let (h, w) = ((&h[..], [tokens, inputs]), (&w[..], [classes, inputs]));
    let want = cpu::linear_cross_entropy(h, w, Some(&v), &index, &options.clone().into(), None).unwrap();
    let on_hidden = Tensor::from_slice(gpu, [tokens, inputs], &hidden).unwrap();
    let on_weight = Tensor::from_slice(gpu, [classes, inputs], &weight).unwrap();
    let on_bias = Tensor::from_slice(gpu, [classes], &bias).unwrap();
    let y = Targets::new(gpu, [tokens], &index, classes).unwrap();
    for scratch in [32 << 20, 16 << 10].into_iter().filter(|_| chosen()) {
        let options = LinearCrossEntropy::new().loss(options.clone()).scratch(scratch);
        let mut batch = gpu.batch();
        let request = LinearLossRequest::gradients();
        let out =
            batch.linear_cross_entropy_with(&on_hidden, &on_weight, Some(&on_bias), &y, &options, request).unwrap();
        let (mut loss, mut hidden) = (batch.read(&out.loss).unwrap(), batch.read(&out.hidden_grad.unwrap()).unwrap());
        let (mut weight, mut bias) =
            (batch.read(&out.weight_grad.unwrap()).unwrap(), batch.read(&out.bias_grad.unwrap()).unwrap());
        batch.submit().unwrap();
        close("loss", &loss.wait(TIMEOUT).unwrap(), &want.loss, 2e-6, 0.0);
        near("hidden", &hidden.wait(TIMEOUT).unwrap(), &want.hidden, 2e-6, 1e-8);
        close("weight", &weight.wait(TIMEOUT).unwrap(), &want.weight, 4e-6, 1e-7);
        close("bias", &bias.wait(TIMEOUT).unwrap(), &want.bias, 4e-6, 1e-7);
    }
}

#[test]
fn linear_cross_entropy() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(7);
    for gpu in families(&gpu) {
        linear_of::<f16>(&gpu, &mut chosen);
        linear_of::<bf16>(&gpu, &mut chosen);
    }
}

/// A tensor that begins or ends within a word shares that word, so copies must not write it.
#[test]
fn parts_of_words_are_read_but_not_written() {
    let Some(gpu) = gpu() else { return };
    let all: Vec<f16> = (0..15u8).map(f16::from).collect();
    let whole = Tensor::from_slice(&gpu, [5, 3], &all).unwrap();
    for rows in [0..1, 1..2, 1..4, 2..5, 3..5, 4..5] {
        let part = whole.rows(rows.clone()).unwrap();
        assert_eq!(read(&gpu, |_| Ok(part.clone())), all[rows.start * 3..rows.end * 3], "{rows:?}");
    }
    for rows in [0..1, 1..3] {
        let part = whole.rows(rows.clone()).unwrap();
        let data = vec![f16::ONE; part.len()];
        assert!(matches!(part.write(&data), Err(Error::Buffer { op: "write", .. })), "{rows:?}");
        let mut batch = gpu.batch();
        assert!(matches!(batch.upload(&part, &data), Err(Error::Buffer { op: "upload", .. })), "{rows:?}");
    }
    whole.rows(2..4).unwrap().write(&[f16::NEG_ONE; 6]).unwrap();
    let after = read(&gpu, |_| Ok(whole.clone()));
    assert_eq!(after[..6], all[..6]);
    assert_eq!(after[6..12], [f16::NEG_ONE; 6]);
    assert_eq!(after[12..], all[12..]);
}

/// A few long rows, each shared by several workgroups.
#[test]
fn long_rows_of_halves() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu).into_iter().filter(|gpu| gpu.caps().family == Family::Gpu) {
        for classes in [20_000, 20_001] {
            let stored: Vec<bf16> = halves(&random(1, 2 * classes, 4.0));
            let x = Tensor::from_slice(&gpu, [2, classes], &stored).unwrap();
            let y = Targets::new(&gpu, [2], &[7, 19_999], classes).unwrap();
            let options = CrossEntropy::default();
            let exact = values(&stored);
            let want = cpu::cross_entropy_backward((&exact, &[2, classes]), &[7, 19_999], &options, None).unwrap();
            let grad = read(&gpu, |b| b.cross_entropy_with(&x, &y, &options, Grad::New)?.gradient());
            near("grad", &grad, &want.grad, 4e-6, 1e-9);
        }
    }
}
