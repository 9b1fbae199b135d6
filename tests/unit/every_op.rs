//! Every operation, with its gradients. Tests inside and outside the crate run this list to check
//! that results have the same bits under all circumstances.

use xent::linear::{LinearBceWithLogits, LinearCrossEntropy, LinearLossOutput, LinearLossRequest, LinearSgd};
use xent::loss::{BceWithLogits, CrossEntropy, Denominator, Grad, LossRequest, Nll, Reduction, Statistics, Targets};
use xent::metrics::{BinaryOutputs, Evaluation};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Momentum, Optimization, Optimizer, Parameters, Schedule, Sgd};
use xent::{Batch, Element, Gpu, Layout, Result, Tensor, Weights, bf16, f16};

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);

/// Records an operation and the reads of all its outputs.
type Record = fn(&Gpu, &mut Outputs) -> Result<()>;

/// A batch and the readbacks of its outputs.
pub(crate) struct Outputs {
    batch: Batch,
    tickets: Vec<Box<dyn FnMut() -> Result<Vec<u8>>>>,
}

impl Outputs {
    fn read<T: Element>(&mut self, tensor: &Tensor<T>) -> Result<()> {
        let mut ticket = self.batch.read(tensor)?;
        self.tickets.push(Box::new(move || Ok(bytemuck::cast_slice(&ticket.wait(TIMEOUT)?).to_vec())));
        Ok(())
    }

    fn all<T: Element>(&mut self, tensors: &[&Tensor<T>]) -> Result<()> {
        tensors.iter().try_for_each(|tensor| self.read(tensor))
    }

    fn statistics(&mut self, of: &Statistics) -> Result<()> {
        self.all(&[&of.log_sum_exp, &of.target_log_prob, &of.entropy])?;
        self.read(&of.predicted)?;
        self.all(&[&of.correct, &of.counted])
    }

    fn linear(&mut self, of: &LinearLossOutput) -> Result<()> {
        self.read(&of.loss)?;
        let grads = [&of.hidden_grad, &of.weight_grad, &of.bias_grad];
        grads.into_iter().flatten().try_for_each(|grad| self.read(grad))
    }

    fn scores(&mut self, of: &Evaluation) -> Result<()> {
        let mut ticket = of.read(&mut self.batch)?;
        self.tickets.push(Box::new(move || Ok(format!("{:?}", ticket.wait(TIMEOUT)?).into_bytes())));
        Ok(())
    }
}

/// Returns the bits of all outputs of an operation, one output after the other.
pub(crate) fn run(gpu: &Gpu, record: Record) -> Result<Vec<u8>> {
    let mut outputs = Outputs { batch: gpu.batch(), tickets: Vec::new() };
    record(gpu, &mut outputs)?;
    outputs.batch.submit()?;
    let read: Result<Vec<_>> = outputs.tickets.iter_mut().map(|ticket| ticket()).collect();
    Ok(read?.concat())
}

/// Values around 0, the same for the same seed.
fn spread(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| (rng.f32() - 0.5) * 8.0).collect()
}

/// Values in [0, 1), the same for the same seed.
fn unit(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.f32()).collect()
}

fn tensor<const N: usize>(gpu: &Gpu, shape: [usize; N], seed: u64) -> Result<Tensor<f32>> {
    Tensor::from_slice(gpu, shape, &spread(seed, shape.iter().product()))
}

fn units<const N: usize>(gpu: &Gpu, shape: [usize; N], seed: u64) -> Result<Tensor<f32>> {
    Tensor::from_slice(gpu, shape, &unit(seed, shape.iter().product()))
}

/// Labels, some of them ignored.
fn labels(gpu: &Gpu, rows: usize, classes: usize) -> Result<Targets> {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut labels: Vec<_> = (0..rows).map(|_| rng.i64(0..classes as i64)).collect();
    labels.iter_mut().skip(3).step_by(7).for_each(|label| *label = -100);
    Targets::new(gpu, [rows], &labels, classes)
}

/// A shape for each way in which kernels treat rows: in one thread, in a workgroup's registers,
/// streamed.
const ROWS: [[usize; 2]; 3] = [[301, 10], [37, 501], [5, 4001]];

const LEN: usize = 40_007;

/// Every elementwise loss: alone, with its gradient, and broadcast.
fn elementwise_losses(gpu: &Gpu, out: &mut Outputs) -> Result<()> {
    macro_rules! record {
        ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
            $({
                let tensor = |shape: [usize; 2], seed, [low, high]: [f32; 2]| {
                    let values = unit(seed, shape[0] * shape[1]).into_iter().map(|u| low + u * (high - low));
                    Tensor::from_slice(gpu, shape, &values.collect::<Vec<f32>>())
                };
                let (x, y) = (tensor([LEN, 1], 1, $inputs)?, tensor([LEN, 1], 2, $targets)?);
                let options = xent::loss::$Options::new().weight(Weights::new([LEN, 1], &unit(3, LEN))?);
                let loss = out.batch.$name(&x, &y, &options)?;
                let both = out.batch.$with(&x, &y, &options, Grad::New)?;
                let (narrow, wide) = (tensor([1, 70], 3, $inputs)?, tensor([90, 70], 4, $targets)?);
                let broadcast = xent::loss::$Options::new().broadcast(true);
                let repeated = out.batch.$with(&narrow, &wide, &broadcast, Grad::New)?;
                out.all(&[&loss, &both.loss, &both.gradient()?, &repeated.loss, &repeated.gradient()?])?;
            })*
        };
    }
    xent::elementwise_losses!(record);
    Ok(())
}

/// Whether the sweeps run in full, as in the gate: `XENT_SWEEPS=full`. By default each runs a sample.
pub(crate) fn sweeps_in_full() -> bool {
    std::env::var_os("XENT_SWEEPS").is_some_and(|sweeps| sweeps == "full")
}

/// The operations of a sweep: all, or a sample of every eleventh from `first` on.
pub(crate) fn ops(first: usize) -> Vec<(&'static str, Record)> {
    let step = if sweeps_in_full() { 1 } else { 11 };
    EVERY_OP.iter().copied().skip(first % step).step_by(step).collect()
}

const EVERY_OP: &[(&str, Record)] = &[
    ("cross_entropy", |gpu, out| {
        for [rows, classes] in ROWS {
            let (x, y) = (tensor(gpu, [rows, classes], 1)?, labels(gpu, rows, classes)?);
            let weight = Some(Weights::new([classes], &unit(4, classes))?);
            let options = CrossEntropy::new().weight(weight).label_smoothing(0.1);
            let position_weight = Some(Weights::new([rows], &unit(6, rows))?);
            let beyond = CrossEntropy::new().position_weight(position_weight).softcap(5.0).z_loss(0.01);
            let capped = out.batch.cross_entropy_with(&x, &y, &beyond, Grad::New)?;
            let unreduced = CrossEntropy::new().reduction(Reduction::None);
            let loss = out.batch.cross_entropy(&x, &y, &options)?;
            let upstream = spread(5, rows);
            let upstream = Tensor::from_slice(gpu, [rows], &upstream)?;
            let grads = out.batch.cross_entropy_with(
                &x,
                &y,
                &unreduced,
                LossRequest::new().grad(Grad::New).upstream(&upstream),
            )?;
            let q = out.batch.softmax(&tensor(gpu, [rows, classes], 2)?, 1)?;
            let request = LossRequest::new().grad(Grad::New).statistics();
            let soft = out.batch.cross_entropy_with(&x, &q, &CrossEntropy::default(), request)?;
            let in_place = out.batch.cross_entropy_with(&x, &y, &options, Grad::InPlace)?.loss;
            out.all(&[
                &loss,
                &capped.loss.clone(),
                &capped.gradient()?,
                &grads.loss.clone(),
                &grads.gradient()?,
                &soft.loss,
                &in_place,
                &x,
            ])?;
            out.read(&soft.gradient()?)?;
            soft.statistics.iter().try_for_each(|statistics| out.statistics(statistics))?;
        }
        Ok(())
    }),
    ("cross_entropy of halves, classes in the middle", |gpu, out| {
        let [n, classes, inner] = [3, 33, 50];
        let x = out.batch.cast::<f32, bf16>(&tensor(gpu, [n, classes, inner], 1)?)?;
        let y: Vec<_> = (0..n * inner).map(|i| (i * 7 % classes) as i64).collect();
        let y = Targets::new(gpu, [n, inner], &y, classes)?;
        let grads = out.batch.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::New)?;
        out.read(&grads.loss)?;
        out.read(&grads.gradient()?)
    }),
    ("nll and log_softmax", |gpu, out| {
        for [rows, classes] in ROWS {
            let (x, y) = (tensor(gpu, [rows, classes], 1)?, labels(gpu, rows, classes)?);
            let log_probs = out.batch.log_softmax(&x, 1)?;
            let loss = out.batch.nll(&log_probs, &y, &Nll::default())?;
            let grads = out.batch.nll_with(&log_probs, &y, &Nll::default(), Grad::New)?;
            let back = out.batch.log_softmax_backward(&log_probs, &x, 1)?;
            out.all(&[&log_probs, &loss, &grads.loss.clone(), &grads.gradient()?, &back])?;
        }
        Ok(())
    }),
    ("softmax", |gpu, out| {
        for [rows, classes] in ROWS {
            let x = tensor(gpu, [rows, classes], 1)?;
            for dim in [0, 1] {
                let y = out.batch.softmax(&x, dim)?;
                let back = out.batch.softmax_backward(&y, &x, dim)?;
                out.all(&[&y, &back])?;
            }
        }
        Ok(())
    }),
    ("elementwise losses", elementwise_losses),
    ("bce_with_logits with positive weights", |gpu, out| {
        let (x, y) = (tensor(gpu, [LEN / 7, 7], 1)?, units(gpu, [LEN / 7, 7], 2)?);
        let options = BceWithLogits::new().pos_weight(Weights::new([7], &unit(3, 7))?);
        let both = out.batch.bce_with_logits_with(&x, &y, &options, Grad::New)?;
        out.all(&[&both.loss, &both.gradient()?])
    }),
    ("relu, sigmoid and cast", |gpu, out| {
        let (x, g) = (tensor(gpu, [LEN], 1)?, tensor(gpu, [LEN], 2)?);
        let (relu, sigmoid) = (out.batch.relu(&x)?, out.batch.sigmoid(&x)?);
        let relu_back = out.batch.relu_backward(&relu, &g)?;
        let sigmoid_back = out.batch.sigmoid_backward(&sigmoid, &g)?;
        let half = out.batch.cast::<f32, f16>(&x)?;
        out.all(&[&relu, &relu_back, &sigmoid, &sigmoid_back])?;
        out.read(&half)
    }),
    ("matmul and column_sum", |gpu, out| {
        for [m, n, k] in [[70, 130, 90], [33, 10, 501], [3, 5, 4001]] {
            for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
                let a = tensor(gpu, if layout == Layout::Tn { [k, m] } else { [m, k] }, 1)?;
                let b = tensor(gpu, if layout == Layout::Nt { [n, k] } else { [k, n] }, 2)?;
                let c = out.batch.matmul(layout, &a, &b, Some(&tensor(gpu, [n], 3)?))?;
                let sums = out.batch.column_sum(&c)?;
                out.all(&[&c, &sums])?;
            }
        }
        Ok(())
    }),
    ("sgd and accumulate", |gpu, out| {
        let (values, grads) = (tensor(gpu, [LEN], 1)?, tensor(gpu, [LEN], 2)?);
        let mut momentum = Momentum::new(gpu, [LEN])?;
        for nesterov in [false, true] {
            let sgd = Sgd::new().lr(0.1).momentum(0.9).weight_decay(0.01).nesterov(nesterov);
            out.batch.accumulate(&values, &grads)?;
            out.batch.sgd(&values, &grads, Some(&mut momentum), &sgd)?;
        }
        out.all(&[&values, &grads, momentum.velocity()])
    }),
    ("linear_cross_entropy", |gpu, out| {
        let [tokens, inputs, classes] = [70, 24, 301];
        let (hidden, weight) = (tensor(gpu, [tokens, inputs], 1)?, tensor(gpu, [classes, inputs], 2)?);
        let (bias, y) = (tensor(gpu, [classes], 3)?, labels(gpu, tokens, classes)?);
        let options = LinearCrossEntropy::new().scratch(32 << 10);
        let loss = out.batch.linear_cross_entropy(&hidden, &weight, Some(&bias), &y, &options)?;
        let request = LinearLossRequest::gradients().statistics();
        let all = out.batch.linear_cross_entropy_with(&hidden, &weight, Some(&bias), &y, &options, request)?;
        out.read(&loss)?;
        out.linear(&all)?;
        all.statistics.iter().try_for_each(|statistics| out.statistics(statistics))?;
        let sparse = options.clone().gradient_threshold(1e-3);
        let request = LinearLossRequest::gradients();
        let sparse = out.batch.linear_cross_entropy_with(&hidden, &weight, Some(&bias), &y, &sparse, request)?;
        out.linear(&sparse)?;
        let sgd = Sgd::new().lr(0.1);
        let update = LinearSgd::new(sgd.clone());
        let updated = out.batch.linear_cross_entropy_sgd(&hidden, &weight, Some(&bias), &y, &options, update)?;
        out.all(&[&updated.loss, &updated.hidden_grad, &weight, &bias])
    }),
    ("linear_bce_with_logits", |gpu, out| {
        let [tokens, inputs, classes] = [70, 24, 301];
        let (hidden, weight) = (tensor(gpu, [tokens, inputs], 1)?, tensor(gpu, [classes, inputs], 2)?);
        let y = units(gpu, [tokens, classes], 3)?;
        let options = LinearBceWithLogits::new().scratch(32 << 10);
        let backward = LinearLossRequest::gradients();
        let loss = out.batch.linear_bce_with_logits(&hidden, &weight, None, &y, &options)?;
        let all = out.batch.linear_bce_with_logits_with(&hidden, &weight, None, &y, &options, backward)?;
        out.read(&loss)?;
        out.linear(&all)
    }),
    ("an evaluation", |gpu, out| {
        for [rows, classes] in [[301, 10], [37, 50]] {
            let mut evaluation = Evaluation::new(gpu, classes)?.with_confusion()?;
            let weights = units(gpu, [rows], 3)?;
            for (seed, weights) in [(1, None), (2, Some(&weights))] {
                let (x, y) = (tensor(gpu, [rows, classes], seed)?, labels(gpu, rows, classes)?);
                evaluation.record(&mut out.batch, &x, &y, weights)?;
            }
            out.scores(&evaluation)?;
        }
        let mut evaluation = Evaluation::binary(gpu)?;
        let bits: Vec<f32> = (0..LEN).map(|i| (i % 3 / 2) as f32).collect();
        let (y, weights) = (Tensor::from_slice(gpu, [LEN], &bits)?, units(gpu, [LEN], 2)?);
        let (x, p) = (tensor(gpu, [LEN], 1)?, units(gpu, [LEN], 4)?);
        evaluation.record_binary(&mut out.batch, BinaryOutputs::Logits(&x), &y, None)?;
        evaluation.record_binary(&mut out.batch, BinaryOutputs::Probabilities(&p), &y, Some(&weights))?;
        out.scores(&evaluation)
    }),
    ("an update, accumulated and clipped", |gpu, out| {
        let parameters = Parameters::new(gpu, &[("p", [LEN].into(), &spread(1, LEN))])?;
        let sgd = Sgd::new().lr(0.1).momentum(0.9);
        let options =
            Optimization { sgd, clip_norm: Some(1.0), skip_non_finite: true, accumulate: 2, ..Default::default() };
        let mut optimizer = Optimizer::new(&parameters, options)?;
        for seed in 0..4 {
            out.batch.upload(&parameters.grad("p")?, &spread(seed, LEN))?;
            if let Some(report) = optimizer.step(&mut out.batch, &parameters)? {
                out.read(&report.norm)?;
                out.read(&report.skipped)?;
            }
        }
        out.read(&parameters.value("p")?)
    }),
    ("updates for means, some skipped", |gpu, out| {
        let parameters = Parameters::new(gpu, &[("p", [LEN].into(), &spread(1, LEN))])?;
        let schedules =
            [Schedule::Step { every: 1, factor: 0.7 }, Schedule::Cosine { warm_up: 1, steps: 9, floor: 0.1 }];
        for schedule in schedules {
            let sgd = Sgd::new().lr(0.1);
            let options =
                Optimization { sgd, schedule, skip_non_finite: true, accumulate: 2, ..Optimization::default() };
            let mut optimizer = Optimizer::new(&parameters, options)?;
            let scalar = tensor(gpu, [], 5)?;
            for seed in 0..8 {
                let mut grads = spread(seed, LEN);
                if seed == 2 {
                    grads.fill(f32::INFINITY);
                }
                out.batch.upload(&parameters.grad("p")?, &grads)?;
                let denominator = if seed % 2 == 0 { Denominator::Count(7) } else { (&scalar).into() };
                optimizer.step_mean(&mut out.batch, &parameters, denominator)?;
            }
            out.read(&parameters.value("p")?)?;
        }
        // Two heads, each with its own denominator.
        let trunk = Sequential::new().linear(5, 9).relu();
        let heads = [Sequential::new().linear(9, 4), Sequential::new().linear(9, 1)];
        let model = Model::with_heads(gpu, &trunk, &[("a", &heads[0]), ("b", &heads[1])], 1)?;
        let options = Optimization { accumulate: 2, ..Optimization::default() };
        let mut training = Training::new(model, vec![Loss::cross_entropy(), Loss::mse()], options)?;
        for seed in 0..3 {
            let (x, y) = (tensor(gpu, [33, 5], seed)?, tensor(gpu, [33, 1], seed + 9)?);
            let step = training.step(&mut out.batch, &x, &[(&labels(gpu, 33, 4)?).into(), (&y).into()])?;
            step.window_losses.iter().try_for_each(|loss| out.read(loss))?;
        }
        training.flush(&mut out.batch)?;
        out.read(training.model().parameters().values())
    }),
];
