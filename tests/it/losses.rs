//! One checker for all elementwise losses of the crate's table. A new loss needs nothing here but
//! an implementation of [`Definition`].

use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, Huber, LossOutput, LossRequest, Mse, Nll, Reduction};
use xent::{Batch, Caps, Error, Gpu, Result, Tensor, Weights, cpu, elementwise_losses};

use crate::common::{close, devices, eval, families, gpu, one_in, random, same_bits, tiny, try_eval, unit};
use extreme_values::{factors_of_any_size, hostile_values, tiny_and_huge_factors};

mod extreme_values;

const REDUCTIONS: [Reduction; 4] = [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum];

/// What the definition of a loss says besides its formula. The tests do not take it from the crate,
/// whose kernels and reference share it.
trait Definition: Sized + Default {
    /// Whether the mean divides by the sum of the weights, instead of the number of losses.
    const MEAN_BY_WEIGHT: bool;
    /// Whether weights may have any shape that broadcasts to the losses' shape, instead of only the
    /// input's shape.
    const WEIGHT_BROADCASTS: bool;

    /// The combinations to test of the options besides weight, reduction and broadcasting.
    fn variants(_shape: &[usize]) -> Vec<Self> {
        vec![Self::default()]
    }

    /// Options with a number outside its range, and the number's name.
    fn refused() -> Vec<(Self, &'static str)>;
}

impl Definition for Bce {
    const MEAN_BY_WEIGHT: bool = false;
    const WEIGHT_BROADCASTS: bool = true;

    fn refused() -> Vec<(Self, &'static str)> {
        Vec::new()
    }
}
impl Definition for Mse {
    const MEAN_BY_WEIGHT: bool = true;
    const WEIGHT_BROADCASTS: bool = false;

    fn refused() -> Vec<(Self, &'static str)> {
        Vec::new()
    }
}
impl Definition for Huber {
    const MEAN_BY_WEIGHT: bool = false;
    const WEIGHT_BROADCASTS: bool = false;

    fn variants(_: &[usize]) -> Vec<Self> {
        [1.0, 0.3, 1e4, 1e-30].map(|delta| Self::new().delta(delta)).into()
    }

    fn refused() -> Vec<(Self, &'static str)> {
        let wrong = [0.0, -1.0, 1e-40, 1e39, f64::INFINITY, f64::NAN];
        wrong.map(|delta| (Self::new().delta(delta), "delta")).into()
    }
}
impl Definition for BceWithLogits {
    const MEAN_BY_WEIGHT: bool = false;
    const WEIGHT_BROADCASTS: bool = true;

    fn refused() -> Vec<(Self, &'static str)> {
        Vec::new()
    }

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
trait Loss: Definition + Clone {
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
                fn tiny_and_huge_factors() {
                    super::tiny_and_huge_factors::<Options>();
                }

                #[test]
                fn weights_follow_the_definition() {
                    super::weights_follow_the_definition::<Options>();
                }

                #[test]
                fn few_bindings() {
                    super::few_bindings::<Options>();
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

/// The denominator of the mean, and the shapes of weights.
fn weights_follow_the_definition<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let shape = &[4, 3][..];
    let (x, y, weight) = (L::input(1, 12), L::target(2, 12), unit(3, 12));
    let on = |values: &[f32]| Tensor::from_slice(&gpu, shape, values).unwrap();
    let (tx, ty, x, y) = (on(&x), on(&y), wide(&x), wide(&y));
    let weighted = |shape: &[usize], reduction| {
        let len = shape.iter().product();
        L::default().set(Some(Weights::new(shape, &weight[..len]).unwrap()), reduction, false)
    };
    let [each, mean, by_count] = [Reduction::None, Reduction::Mean, Reduction::MeanByCount].map(|reduction| {
        let options = weighted(shape, reduction);
        let [loss] = eval(&gpu, |b| Ok([options.forward(b, &tx, &ty)?]));
        let want = options.reference((&x, shape).into(), (&y, shape).into(), None).unwrap().loss;
        close(&format!("{} {reduction:?}", L::NAME), &loss, &want, 1e-6, 1e-6);
        wide(&loss)
    });
    let sum: f64 = each.iter().sum();
    let by_weight = sum / wide(&weight).iter().sum::<f64>();
    let right = if L::MEAN_BY_WEIGHT { by_weight } else { sum / 12.0 };
    assert!((mean[0] - right).abs() <= 1e-5 * right.abs(), "{}: the mean is {}, want {right}", L::NAME, mean[0]);
    assert!((by_count[0] - sum / 12.0).abs() <= 1e-5 * sum.abs(), "{}: the mean by count is {}", L::NAME, by_count[0]);
    for row in [&[3][..], &[1, 3], &[]] {
        let options = weighted(row, Reduction::Sum);
        let on_gpu = try_eval(&gpu, |b| Ok([options.forward(b, &tx, &ty)?]));
        let on_cpu = options.reference((&x, shape).into(), (&y, shape).into(), None);
        assert_eq!(on_gpu.is_ok(), L::WEIGHT_BROADCASTS, "{}: a weight of shape {row:?}", L::NAME);
        assert_eq!(on_cpu.is_ok(), L::WEIGHT_BROADCASTS, "{}: a weight of shape {row:?}", L::NAME);
    }
}

/// With the fewest storage bindings, results have the same bits.
fn few_bindings<L: Loss>() {
    let Some(gpu) = gpu() else { return };
    let (x, y) = (L::input(31, 1500), L::target(32, 1500));
    for gpu in families(&gpu) {
        let few = gpu.with_caps(Caps { max_bindings: Caps::MIN_BINDINGS, ..gpu.caps().clone() }).unwrap();
        for reduction in REDUCTIONS {
            let options = L::default().set(None, reduction, false);
            let [all, few] = [&gpu, &few].map(|gpu| {
                let on = |values: &[f32]| Tensor::from_slice(gpu, [1500], values).unwrap();
                let (tx, ty, into, written) = (on(&x), on(&y), on(&y), on(&x));
                eval(gpu, |b| {
                    let out = options.with(b, &tx, &ty, Grad::New.into())?;
                    options.with(b, &tx, &ty, Grad::Into(&into).into())?;
                    options.with(b, &written, &ty, Grad::InPlace.into())?;
                    Ok([out.loss.clone(), out.gradient()?, into, written, tx])
                })
            });
            for (i, (all, few)) in all.iter().zip(&few).enumerate() {
                same_bits(&format!("{} {reduction:?}, result {i}", L::NAME), few, all);
            }
        }
    }
}

/// The defaults are PyTorch's.
#[test]
fn defaults() {
    let mean = Reduction::Mean;
    let (bce, logits, huber, mse) = (Bce::new(), BceWithLogits::new(), Huber::new(), Mse::new());
    assert_eq!([bce.reduction, logits.reduction, huber.reduction, mse.reduction], [mean; 4]);
    assert!(bce.weight.is_none() && huber.weight.is_none() && mse.weight.is_none());
    assert!(logits.weight.is_none() && logits.pos_weight.is_none());
    assert_eq!(huber.delta, 1.0);
    let (rows, nll) = (CrossEntropy::new(), Nll::new());
    assert_eq!([rows.reduction, nll.reduction], [mean; 2]);
    assert!(rows.weight.is_none() && rows.position_weight.is_none() && nll.weight.is_none());
    let CrossEntropy { label_smoothing, z_loss, softcap, logit_scale, .. } = rows;
    assert_eq!((label_smoothing, z_loss, softcap, logit_scale), (0.0, 0.0, None, 1.0));
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
        assert_eq!(error.op(), Some(L::NAME), "call {number}: {error}");
    }
    for (options, number) in L::refused() {
        let on_gpu = options.with(&mut batch, &x, &y, request()).unwrap_err();
        let (zeros, shape) = ([0.0; 12], &[4, 3][..]);
        let on_cpu = options.reference((&zeros, shape).into(), (&zeros, shape).into(), None).unwrap_err();
        for error in [on_gpu, on_cpu] {
            assert!(matches!(error, Error::Value { .. }), "{number}: {error}");
            assert_eq!(error.op(), Some(L::NAME), "{number}: {error}");
            assert!(error.to_string().contains(number), "{number}: {error}");
        }
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
