//! One checker for all elementwise losses of the crate's table. A new loss needs nothing here but
//! an implementation of [`Variants`], with cases for its own options.

use xent::loss::{Bce, BceWithLogits, Grad, Huber, LossOutput, LossRequest, Mse, Reduction};
use xent::{Batch, Error, Gpu, Result, Tensor, Weights, cpu, elementwise_losses};

use crate::common::{close, devices, eval, families, gpu, one_in, random, same_bits, tiny, try_eval, unit};

const REDUCTIONS: [Reduction; 4] = [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum];

/// The combinations to test of a loss's options besides weight, reduction and broadcasting.
trait Variants: Sized + Default {
    fn variants(_shape: &[usize]) -> Vec<Self> {
        vec![Self::default()]
    }
}

impl Variants for Bce {}
impl Variants for Mse {}
impl Variants for Huber {
    fn variants(_: &[usize]) -> Vec<Self> {
        [1.0, 0.3, 1e4].map(|delta| Self::new().delta(delta)).into()
    }
}
impl Variants for BceWithLogits {
    fn variants(shape: &[usize]) -> Vec<Self> {
        let last: Vec<usize> = shape.last().copied().into_iter().collect();
        let each = Weights::new(&last[..], &unit(11, last.iter().product())).unwrap();
        vec![Self::new(), Self::new().pos_weight(each)]
    }
}

/// Returns values spread evenly over a range, determined by the seed.
fn within(seed: u64, len: usize, [low, high]: [f32; 2]) -> Vec<f32> {
    unit(seed, len).into_iter().map(|u| low + u * (high - low)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// A loss of the table, as the tests see it.
trait Loss: Variants + Clone {
    const NAME: &'static str;
    /// The ranges of inputs and targets.
    const RANGES: [[f32; 2]; 2];

    fn set(&self, weight: Option<Weights>, reduction: Reduction, broadcast: bool) -> Self;
    fn forward(&self, b: &mut Batch, x: &Tensor<f32>, y: &Tensor<f32>) -> Result<Tensor<f32>>;
    fn with(&self, b: &mut Batch, x: &Tensor<f32>, y: &Tensor<f32>, request: LossRequest<'_>) -> Result<LossOutput>;
    fn reference(&self, x: cpu::View<'_, f64>, y: cpu::View<'_, f64>, g: Option<&[f64]>) -> Result<cpu::LossGrad>;

    fn input(seed: u64, len: usize) -> Vec<f32> {
        within(seed, len, Self::RANGES[0])
    }

    fn target(seed: u64, len: usize) -> Vec<f32> {
        within(seed, len, Self::RANGES[1])
    }
}

macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
        $(
            impl Loss for $Options {
                const NAME: &'static str = stringify!($name);
                const RANGES: [[f32; 2]; 2] = [$inputs, $targets];

                fn set(&self, weight: Option<Weights>, reduction: Reduction, broadcast: bool) -> Self {
                    self.clone().weight(weight).reduction(reduction).broadcast(broadcast)
                }

                fn forward(&self, b: &mut Batch, x: &Tensor<f32>, y: &Tensor<f32>) -> Result<Tensor<f32>> {
                    b.$name(x, y, self)
                }

                fn with(
                    &self,
                    b: &mut Batch,
                    x: &Tensor<f32>,
                    y: &Tensor<f32>,
                    request: LossRequest<'_>,
                ) -> Result<LossOutput> {
                    b.$with(x, y, self, request)
                }

                fn reference(
                    &self,
                    x: cpu::View<'_, f64>,
                    y: cpu::View<'_, f64>,
                    g: Option<&[f64]>,
                ) -> Result<cpu::LossGrad> {
                    cpu::$backward(x, y, self, g)
                }
            }

            mod $name {
                use xent::loss::$Options as Options;

                #[test]
                fn agrees_with_the_reference() {
                    super::agrees_with_the_reference::<Options>();
                }

                #[test]
                fn the_reference_agrees_with_finite_differences() {
                    super::the_reference_agrees_with_finite_differences::<Options>();
                }

                #[test]
                fn hostile_values() {
                    super::hostile_values::<Options>();
                }

                #[test]
                fn factors_of_any_size() {
                    super::factors_of_any_size::<Options>();
                }

                #[test]
                fn wrong_calls_record_nothing() {
                    super::wrong_calls_record_nothing::<Options>();
                }

                #[test]
                fn broadcasts() {
                    super::broadcasts::<Options>();
                }
            }
        )*
    };
}
elementwise_losses!(losses);

/// Returns upstream gradients for a reduction: none, a scalar, and one for each loss.
fn upstreams(reduction: Reduction, shape: &[usize]) -> Vec<Option<(Vec<usize>, Vec<f32>)>> {
    let mut all = vec![None, Some((Vec::new(), vec![-1.7]))];
    if reduction == Reduction::None {
        all.push(Some((shape.to_vec(), random(8, shape.iter().product(), 2.0))));
    }
    all
}

/// Compares loss and gradient with the reference, on both families, with the smallest limits, and
/// with the gradient in every destination.
fn agrees_with_the_reference<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(47);
    for gpu in devices(&gpu) {
        for shape in [&[][..], &[0], &[1], &[7, 3], &[1030], &[3, 5, 333], &[40_007]] {
            // Large shapes test sums of blocks, for which one set of options is enough.
            let large = shape.iter().product::<usize>() > 1000;
            for options in L::variants(shape).into_iter().take(if large { 1 } else { 9 }) {
                for weighted in [false, true] {
                    for reduction in REDUCTIONS {
                        for upstream in upstreams(reduction, shape).into_iter().filter(|_| chosen()) {
                            check(&gpu, shape, &options, (weighted, reduction), upstream.as_ref());
                        }
                    }
                }
            }
        }
    }
}

fn check<L: Loss>(
    gpu: &Gpu,
    shape: &[usize],
    options: &L,
    (weighted, reduction): (bool, Reduction),
    upstream: Option<&(Vec<usize>, Vec<f32>)>,
) {
    let len = shape.iter().product();
    let what = format!("{} {shape:?} {weighted} {reduction:?} {} {:?}", L::NAME, upstream.is_some(), gpu.caps());
    let (x, y) = (L::input(1, len), L::target(2, len));
    let weight = weighted.then(|| Weights::new(shape, &unit(3, len)).unwrap());
    let options = options.set(weight, reduction, false);
    let on = |values: &[f32]| Tensor::from_slice(gpu, shape, values).unwrap();
    let (tx, ty, written, into) = (on(&x), on(&y), on(&x), on(&vec![f32::NAN; len]));
    let g = upstream.map(|(shape, values)| Tensor::from_slice(gpu, &shape[..], values).unwrap());
    let [loss, grad, forward, in_place, in_place_loss, into] = eval(gpu, |b| {
        let request = LossRequest::new().upstream(g.as_ref());
        let out = options.with(b, &tx, &ty, request.grad(Grad::New))?;
        let forward = options.forward(b, &tx, &ty)?;
        let over = options.with(b, &written, &ty, request.grad(Grad::InPlace))?;
        options.with(b, &tx, &ty, request.grad(Grad::Into(&into)))?;
        Ok([out.loss.clone(), out.gradient()?, forward, over.gradient()?, over.loss, into])
    });
    let host = upstream.map(|(_, values)| wide(values));
    let view = |values: &[f32]| wide(values);
    let (x, y) = (view(&x), view(&y));
    let want = options.reference((&x, shape).into(), (&y, shape).into(), host.as_deref()).unwrap();
    same_bits(&format!("forward {what}"), &forward, &loss);
    same_bits(&format!("loss in place {what}"), &in_place_loss, &loss);
    same_bits(&format!("gradient in place {what}"), &in_place, &grad);
    same_bits(&format!("gradient into {what}"), &into, &grad);
    close(&format!("loss {what}"), &loss, &want.loss, 1e-6, 1e-6);
    let largest = want.grad.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
    close(&format!("gradient {what}"), &grad, &want.grad, 2e-6, 3e-7 * largest);
}

fn the_reference_agrees_with_finite_differences<L: Loss>() {
    let shape = &[4, 3][..];
    for options in L::variants(shape) {
        for reduction in REDUCTIONS {
            let options = options.set(Some(Weights::new(shape, &unit(3, 12)).unwrap()), reduction, false);
            // Inside the ranges, and away from corners of losses.
            let [low, high] = L::RANGES[0];
            let inner = [low + 0.02 * (high - low), high - 0.02 * (high - low)];
            let (x, y) = (wide(&within(5, 12, inner)), wide(&L::target(6, 12)));
            let losses = if reduction == Reduction::None { 12 } else { 1 };
            let g = wide(&random(7, losses, 2.0));
            let grad = options.reference((&x, shape).into(), (&y, shape).into(), Some(&g)).unwrap().grad;
            for i in 0..12 {
                let total = |step: f64| {
                    let mut x = x.clone();
                    x[i] += step;
                    let loss = options.reference((&x, shape).into(), (&y, shape).into(), None).unwrap().loss;
                    loss.iter().zip(&g).map(|(loss, g)| loss * g).sum::<f64>()
                };
                let slope = (total(1e-6) - total(-1e-6)) / 2e-6;
                let error = (slope - grad[i]).abs();
                assert!(error <= 1e-7 + 1e-6 * slope.abs(), "{}, element {i}: {}, slope {slope}", L::NAME, grad[i]);
            }
        }
    }
}

/// Values at the ends of `f32`, infinities and NaN: results have the kind and size of the
/// reference's results, unless the reference refuses them, too.
fn hostile_values<L: Loss>() {
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
fn factors_of_any_size<L: Loss>() {
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

fn wrong_calls_record_nothing<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let on = |shape: &[usize]| Tensor::<f32>::zeros(&gpu, shape).unwrap();
    let (x, y, short, row, scalar) = (on(&[4, 3]), on(&[4, 3]), on(&[4]), on(&[1, 3]), on(&[]));
    let options = L::default();
    let weighted = |shape: &[usize], broadcast| {
        let len = shape.iter().product();
        options.set(Some(Weights::new(shape, &vec![1.0; len]).unwrap()), Reduction::Mean, broadcast)
    };
    let request = LossRequest::new;
    let own = x.clone();
    let (column, slab) = (on(&[1, 70_000, 1]), on(&[2, 1, 70_000]));
    let calls: Vec<(L, &Tensor<f32>, &Tensor<f32>, LossRequest<'_>)> = vec![
        (options.clone(), &x, &short, request()),
        // More elements than a u32 counts, once both are broadcast.
        (options.set(None, Reduction::Sum, true), &column, &slab, request()),
        (options.clone(), &short, &y, request()),
        (weighted(&[4, 4], false), &x, &y, request()),
        (weighted(&[4, 4], true), &x, &row, request()),
        (options.clone(), &x, &y, request().upstream(&short)),
        (options.clone(), &x, &y, request().statistics()),
        (options.clone(), &x, &y, request().grad(Grad::Into(&short))),
        (options.clone(), &x, &y, request().grad(Grad::Into(&x))),
        (options.clone(), &x, &y, request().grad(Grad::Into(&y))),
        (options.clone(), &x, &own, request().grad(Grad::InPlace)),
        (options.clone(), &x, &y, request().grad(Grad::Into(&scalar)).upstream(&scalar)),
    ];
    let mut batch = gpu.batch();
    let before = gpu.counters().dispatches;
    for (number, (options, x, y, request)) in calls.into_iter().enumerate() {
        let error = options.with(&mut batch, x, y, request).unwrap_err();
        assert!(error.to_string().starts_with(L::NAME), "call {number}: {error}");
    }
    assert_eq!(gpu.counters().dispatches, before, "{}", L::NAME);
}

/// Inputs and targets that broadcast to each other's shapes, also with the smallest limits.
fn broadcasts<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let small = tiny(&gpu);
    for gpu in families(&gpu).iter().chain(&small) {
        for (of_input, of_targets) in
            [(&[5, 1][..], &[5, 4][..]), (&[3], &[2, 3]), (&[2, 1, 4], &[3, 1]), (&[], &[6]), (&[0, 1], &[4])]
        {
            for reduction in [Reduction::None, Reduction::Mean] {
                let len = |shape: &[usize]| shape.iter().product::<usize>();
                let (x, y) = (L::input(1, len(of_input)), L::target(2, len(of_targets)));
                let options = L::default().set(None, reduction, true);
                let (tx, ty) =
                    (Tensor::from_slice(gpu, of_input, &x).unwrap(), Tensor::from_slice(gpu, of_targets, &y).unwrap());
                let into = Tensor::<f32>::zeros(gpu, of_input).unwrap();
                let [loss, grad, into] = eval(gpu, |b| {
                    let out = options.with(b, &tx, &ty, Grad::New.into())?;
                    options.with(b, &tx, &ty, Grad::Into(&into).into())?;
                    Ok([out.loss.clone(), out.gradient()?, into])
                });
                let (x, y) = (wide(&x), wide(&y));
                let want = options.reference((&x, of_input).into(), (&y, of_targets).into(), None).unwrap();
                let what = format!("{} {of_input:?} {of_targets:?} {reduction:?}", L::NAME);
                close(&format!("loss {what}"), &loss, &want.loss, 1e-6, 1e-6);
                close(&format!("gradient {what}"), &grad, &want.grad, 2e-6, 1e-6);
                same_bits(&format!("gradient into {what}"), &into, &grad);
            }
        }
    }
}
