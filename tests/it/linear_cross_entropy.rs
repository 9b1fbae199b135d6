//! Cross-entropy of a linear layer: against the reference, for every split, and within the planned
//! memory.

use crate::common::*;
use crate::cross_entropy::{REDUCTIONS, variants};
use xent::linear::{LinearCrossEntropy, LinearLossRequest};
use xent::loss::{CrossEntropy, Grad, Reduction, Targets};
use xent::{Error, Family, Gpu, Layout, Tensor, Weights, cpu};

pub(crate) struct Case {
    pub(crate) sizes: [usize; 3],
    pub(crate) hidden: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    index: Vec<i64>,
    probabilities: Vec<f32>,
}

/// A case on the device.
pub(crate) struct Uploaded {
    pub(crate) hidden: Tensor<f32>,
    pub(crate) weight: Tensor<f32>,
    pub(crate) bias: Tensor<f32>,
    pub(crate) index: Targets,
    pub(crate) probabilities: Tensor<f32>,
}

impl Case {
    pub(crate) fn new([tokens, inputs, classes]: [usize; 3]) -> Self {
        let mut index = labels(3, tokens, classes.max(1));
        index.iter_mut().skip(1).step_by(5).for_each(|target| *target = -100);
        Self {
            sizes: [tokens, inputs, classes],
            hidden: random(1, tokens * inputs, 2.0),
            weight: random(2, classes * inputs, 2.0),
            bias: random(4, classes, 2.0),
            index,
            probabilities: unit(5, tokens * classes),
        }
    }

    /// Creates a case of numbers whose products and sums are exact, so that the logits have no
    /// rounding errors.
    pub(crate) fn exact(sizes @ [tokens, inputs, classes]: [usize; 3], seed: u64) -> Self {
        let eighths = |n: u64, len: usize| {
            let mut rng = fastrand::Rng::with_seed(seed ^ n);
            (0..len).map(|_| f32::from(rng.i8(-8..=8)) / 8.0).collect()
        };
        Self {
            hidden: eighths(1, tokens * inputs),
            weight: eighths(2, classes * inputs),
            bias: eighths(4, classes),
            ..Self::new(sizes)
        }
    }

    pub(crate) fn upload(&self, gpu: &Gpu) -> Uploaded {
        let [tokens, inputs, classes] = self.sizes;
        Uploaded {
            hidden: Tensor::from_slice(gpu, [tokens, inputs], &self.hidden).unwrap(),
            weight: Tensor::from_slice(gpu, [classes, inputs], &self.weight).unwrap(),
            bias: Tensor::from_slice(gpu, [classes], &self.bias).unwrap(),
            index: Targets::new(gpu, [tokens], &self.index, classes).unwrap(),
            probabilities: Tensor::from_slice(gpu, [tokens, classes], &self.probabilities).unwrap(),
        }
    }

    /// Returns the loss, the gradients of hidden states, weight and bias, log-sum-exp and entropy.
    pub(crate) fn run(
        &self,
        gpu: &Gpu,
        options: &LinearCrossEntropy,
        (biased, by_probabilities): (bool, bool),
        upstream: Option<&[f32]>,
    ) -> [Vec<f32>; 6] {
        let on = self.upload(gpu);
        eval(gpu, |b| {
            let upstream = upstream.map(|g| Tensor::from_slice(gpu, [g.len()], g)).transpose()?;
            let backward = LinearLossRequest::gradients().upstream(upstream.as_ref());
            let request = backward.statistics();
            let targets = if by_probabilities { Targets::from(&on.probabilities) } else { Targets::from(&on.index) };
            let bias = biased.then_some(&on.bias);
            let out = b.linear_cross_entropy_with(&on.hidden, &on.weight, bias, &targets, options, request)?;
            // Without gradients, the loss must be the same.
            let loss = b.linear_cross_entropy(&on.hidden, &on.weight, bias, &targets, options)?;
            let (mut twice, mut once) = (b.read(&out.loss)?, b.read(&loss)?);
            let mut extra = gpu.batch();
            std::mem::swap(&mut extra, b);
            extra.submit()?;
            let (once, twice) = (once.wait(TIMEOUT)?, twice.wait(TIMEOUT)?);
            if gpu.caps().family == Family::Gpu && self.sizes[2] > 8192 {
                // A few long rows are split across workgroups, but not if statistics are requested.
                let twice: Vec<f64> = twice.iter().map(|&x| x.into()).collect();
                close("loss alone", &once, &twice, 2.4e-7, 0.0);
            } else {
                same_bits("loss alone", &once, &twice);
            }
            let statistics = out.statistics.unwrap();
            assert_eq!(out.bias_grad.is_some(), biased);
            let bias = out.bias_grad.unwrap_or_else(|| out.loss.clone());
            Ok([
                out.loss,
                out.hidden_grad.unwrap(),
                out.weight_grad.unwrap(),
                bias,
                statistics.log_sum_exp,
                statistics.entropy,
            ])
        })
    }

    pub(crate) fn reference(
        &self,
        options: &CrossEntropy,
        which: (bool, bool),
        upstream: Option<&[f32]>,
    ) -> cpu::LinearLoss {
        self.reference_with(&options.clone().into(), which, upstream)
    }

    /// Returns the factor of each token's gradient.
    fn factors(&self, options: &CrossEntropy, upstream: Option<&[f32]>) -> Vec<f64> {
        let weights = options.position_weight.as_ref().map(|_| unit(6, self.sizes[0]));
        let counted = |t: usize| f64::from(u8::from(self.index[t] >= 0));
        let weight = |t: usize| weights.as_ref().map_or(1.0, |weights| f64::from(weights[t])) * counted(t);
        let all: f64 = (0..self.sizes[0]).map(weight).sum();
        let over = if options.reduction == Reduction::Mean { all } else { 1.0 };
        (0..self.sizes[0]).map(|t| upstream.map_or(1.0, |upstream| f64::from(upstream[t])) * weight(t) / over).collect()
    }

    fn reference_with(
        &self,
        options: &LinearCrossEntropy,
        (biased, by_probabilities): (bool, bool),
        upstream: Option<&[f32]>,
    ) -> cpu::LinearLoss {
        let [tokens, inputs, classes] = self.sizes;
        let targets: cpu::Targets<'_> =
            if by_probabilities { (&self.probabilities).into() } else { (&self.index).into() };
        let upstream: Option<Vec<f64>> = upstream.map(|g| g.iter().map(|&g| g.into()).collect());
        let (hidden, weight) = ((&self.hidden[..], [tokens, inputs]), (&self.weight[..], [classes, inputs]));
        let bias = biased.then_some(&self.bias[..]);
        cpu::linear_cross_entropy(hidden, weight, bias, targets, options, upstream.as_deref()).unwrap()
    }
}

/// Compares within the rounding errors of the logits and of sums of `len` products.
#[track_caller]
pub(crate) fn agrees(what: &str, got: &[f32], want: &[f64], len: usize) {
    let largest = want.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    close(what, got, want, 4e-6, 4e-7 * largest * (len as f64).sqrt().max(4.0) + 3e-6);
}

const SIZES: [[usize; 3]; 7] =
    [[1, 1, 1], [7, 5, 3], [37, 70, 45], [65, 33, 260], [130, 16, 1000], [5, 12, 9001], [0, 4, 6]];

#[test]
fn every_option_agrees_with_the_reference() {
    let Some(gpu) = gpu() else { return };
    let (mut turn, mut chosen) = (0, one_in(47));
    for sizes in SIZES {
        let case = Case::new(sizes);
        let [tokens, inputs, classes] = sizes;
        let mut options = variants(classes, &[tokens]);
        let smoothed = CrossEntropy::new().label_smoothing(0.2);
        options.extend([CrossEntropy::default(), smoothed]);
        for options in options {
            turn += 1;
            if !chosen() {
                continue;
            }
            // Takes turns through the flags and reductions, so that all occur over the sizes.
            let (which, reduction) = ((turn % 2 == 0, turn % 3 == 0), REDUCTIONS[turn % 4]);
            let loss = options.reduction(reduction);
            let upstream = (reduction == Reduction::None).then(|| random(9, tokens, 1.0));
            let want = case.reference(&loss, which, upstream.as_deref());
            for gpu in families(&gpu) {
                // A few tokens at a time.
                let scratch =
                    (classes as u64 * 4 * 9).next_multiple_of(16).max(4096) * 5 / 4 + 9 * 4 * 8 * inputs as u64;
                let options = LinearCrossEntropy::new().loss(loss.clone()).scratch(scratch);
                let [got, hidden, weight, bias, lse, entropy] = case.run(&gpu, &options, which, upstream.as_deref());
                let what = |part| format!("{part}, {sizes:?}, {:?}, {which:?}, {loss:?}", gpu.caps().family);
                agrees(&what("loss"), &got, &want.loss, 4);
                agrees(&what("hidden"), &hidden, &want.hidden, classes);
                agrees(&what("weight"), &weight, &want.weight, tokens);
                if which.0 {
                    agrees(&what("bias"), &bias, &want.bias, tokens);
                }
                agrees(&what("log-sum-exp"), &lse, &want.statistics.log_sum_exp, 4);
                agrees(&what("entropy"), &entropy, &want.statistics.entropy, 4);
            }
        }
    }
}

/// The bits are the same for any number of tokens at a time, and for the smallest bindings.
#[test]
fn results_do_not_depend_on_chunking() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    // The last case splits sums into parts on a GPU. The smallest bindings hold the 3000 logits of
    // a token, and a fiftieth of the weight.
    let cases = [([150, 24, 70], true), ([77, 64, 3000], true), ([70, 9, 16500], false)];
    let mut case_chosen = one_in(3);
    for (sizes, tiny_too) in cases.into_iter().filter(|_| case_chosen()) {
        let case = Case::new(sizes);
        let loss = CrossEntropy::new().label_smoothing(0.1).z_loss(0.01);
        let narrow = if tiny_too { tiny(&gpu) } else { families(&gpu) };
        for (gpus, wide) in families(&gpu).iter().chain(&narrow).zip(families(&gpu).iter().cycle()) {
            for tokens in [1, 5, 64] {
                if !chosen() {
                    continue;
                }
                let [_, inputs, classes] = sizes;
                let parts = if gpus.caps().family == Family::Gpu { 4 * classes.div_ceil(8192) * inputs } else { 0 };
                let scratch = (tokens * (4 * classes + parts) * 5 / 4 + 64) as u64;
                let options = LinearCrossEntropy::new().loss(loss.clone()).scratch(scratch);
                let plan = gpus.plan_linear_cross_entropy(sizes, &options, true).unwrap();
                assert!(plan.tokens_at_once() < 90, "{plan}");
                let want = case.run(wide, &loss.clone().into(), (true, false), None);
                let got = case.run(gpus, &options, (true, false), None);
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    assert!(got.iter().any(|v| *v != 0.0), "{plan}, output {i}: not just zeros");
                    same_bits(&format!("{plan}, {:?}, output {i}", gpus.caps()), got, want);
                }
            }
        }
    }
}

/// Loss and gradients have the same bits as those of a product and a cross-entropy.
#[test]
fn equals_matmul_then_cross_entropy() {
    let Some(gpu) = gpu() else { return };
    let gpu = &families(&gpu)[0];
    let case = Case::new([50, 40, 120]);
    let on = case.upload(gpu);
    let options = LinearCrossEntropy::default();
    let want = eval(gpu, |b| {
        let logits = b.matmul(Layout::Nt, &on.hidden, &on.weight, Some(&on.bias))?;
        let out = b.cross_entropy_with(&logits, &on.index, &options.loss, Grad::New)?;
        let hidden = b.matmul(Layout::Nn, &out.gradient()?, &on.weight, None)?;
        Ok([out.loss.clone(), hidden, b.matmul(Layout::Tn, &out.gradient()?, &on.hidden, None)?])
    });
    let [loss, hidden, weight, ..] = case.run(gpu, &options, (true, false), None);
    for (i, (got, want)) in [loss, hidden, weight].iter().zip(&want).enumerate() {
        same_bits(&format!("output {i}"), got, want);
    }
}

#[test]
fn memory_stays_within_the_plan() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    drop(shared);
    let sizes @ [tokens, inputs, classes] = [if sweeps_in_full() { 2048 } else { 256 }, 256, 32768];
    let hidden = Tensor::from_slice(&gpu, [tokens, inputs], &random(1, tokens * inputs, 1.0)).unwrap();
    let weight = Tensor::from_slice(&gpu, [classes, inputs], &random(2, classes * inputs, 1.0)).unwrap();
    let targets = Targets::new(&gpu, [tokens], &labels(3, tokens, classes), classes).unwrap();
    for backward in [false, true] {
        let options = LinearCrossEntropy::default();
        let plan = gpu.plan_linear_cross_entropy(sizes, &options, backward).unwrap();
        assert!(plan.scratch_bytes() <= options.scratch && plan.scratch_bytes() > options.scratch / 2, "{plan}");
        gpu.trim();
        gpu.reset_peak();
        let before = gpu.counters().bytes_in_use;
        let mut batch = gpu.batch();
        let request = if backward { LinearLossRequest::gradients() } else { LinearLossRequest::new() };
        let out = batch.linear_cross_entropy_with(&hidden, &weight, None, &targets, &options, request).unwrap();
        let mut loss = batch.read(&out.loss).unwrap();
        batch.submit().unwrap();
        assert!(loss.wait(TIMEOUT).unwrap()[0] > 0.0);
        let outputs = if backward { ((tokens + classes) * inputs * 4) as u64 } else { 0 };
        let beyond = gpu.counters().peak_bytes - before - outputs - plan.scratch_bytes();
        assert!(beyond < 4 << 20, "{beyond} bytes beside inputs, outputs and scratch; {plan}");
        drop((out, loss));
        assert_eq!(gpu.counters().bytes_in_use, before, "everything is given back");
    }
}

/// A size that is too large to compute here is only recorded, and dropped.
#[test]
fn a_large_vocabulary_needs_what_the_plan_says() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    drop(shared);
    let sizes @ [tokens, inputs, classes] = [8192, if sweeps_in_full() { 512 } else { 64 }, 128_256];
    let on = |shape: [usize; 2]| Tensor::<f32>::zeros(&gpu, shape).unwrap();
    let (hidden, weight, hidden_like) = (on([tokens, inputs]), on([classes, inputs]), on([tokens, inputs]));
    let targets = Tensor::<i32>::zeros(&gpu, [tokens]).unwrap();
    // The caller's buffer for the weight's gradient, which is therefore not counted.
    let weight_grad = on([classes, inputs]);
    let options = LinearCrossEntropy::default();
    for gpu in families(&gpu) {
        let plan = gpu.plan_linear_cross_entropy(sizes, &options, true).unwrap();
        assert!(plan.scratch_bytes() <= 32 << 20 && plan.tokens_at_once() == 64, "{plan}");
        gpu.reset_peak();
        let before = gpu.counters().bytes_in_use;
        let backward = LinearLossRequest::gradients().weight_grad(Grad::Into(&weight_grad));
        gpu.warm_up(|rec| {
            rec.linear_cross_entropy_with(&hidden, &weight, None, &targets, &options, backward).map(drop)
        })
        .unwrap();
        let hidden_grad = hidden_like.len() as u64 * 4;
        let beyond = gpu.counters().peak_bytes - before - hidden_grad - plan.scratch_bytes();
        // Statistics of the tokens, and the pool's rounding.
        let allowed = plan.sums_bytes() * 5 / 4 + (1 << 20);
        assert!(beyond < allowed, "{beyond} bytes beside inputs, outputs and scratch; {plan}");
        say(&format!("{plan}; {beyond} bytes beside that"));
    }
}

/// No value in padding changes a bit of any gradient or weight.
#[test]
fn hidden_states_of_ignored_tokens_reach_no_weight() {
    let Some(gpu) = gpu() else { return };
    let every = [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-4)];
    let (usual, small) = (families(&gpu), tiny(&gpu));
    let mut chosen = one_in(7);
    let cases =
        [([4, 3, 5], &every[..], &usual), ([40, 9, 21], &every[..1], &small), ([5, 6, 4100], &every[..1], &usual)];
    for (sizes, options, devices) in cases {
        let [tokens, inputs, _] = sizes;
        let mut clean = Case::new(sizes);
        let mut weights = unit(6, tokens);
        weights.iter_mut().skip(2).step_by(7).for_each(|weight| *weight = 0.0);
        let mut dirty = Case::new(sizes);
        // Fills the tokens that are padding for this kind of targets.
        for by_probabilities in [false, true] {
            for t in 0..tokens {
                let ignored = weights[t] == 0.0 || (clean.index[t] == -100 && !by_probabilities);
                for d in 0..inputs {
                    let padding = [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX, -f32::from_bits(0x7fc1_2345)];
                    let value = if ignored { padding[(t + d) % 5] } else { clean.hidden[t * inputs + d] };
                    dirty.hidden[t * inputs + d] = value;
                    if ignored {
                        clean.hidden[t * inputs + d] = 0.0;
                    }
                }
            }
            for &(label_smoothing, gradient_threshold) in options {
                let position_weight = Some(Weights::new([tokens], &weights).unwrap());
                let loss = CrossEntropy::new().position_weight(position_weight).label_smoothing(label_smoothing);
                let options = LinearCrossEntropy::from(loss).gradient_threshold(gradient_threshold);
                let want = dirty.reference_with(&options, (true, by_probabilities), None);
                for gpu in devices.iter().filter(|_| chosen()) {
                    let [loss, hidden, weight, bias, ..] = dirty.run(gpu, &options, (true, by_probabilities), None);
                    let [clean_loss, clean_hidden, clean_weight, clean_bias, ..] =
                        clean.run(gpu, &options, (true, by_probabilities), None);
                    same_bits("loss", &loss, &clean_loss);
                    same_bits("hidden", &hidden, &clean_hidden);
                    same_bits("weight", &weight, &clean_weight);
                    same_bits("bias", &bias, &clean_bias);
                    agrees("loss", &loss, &want.loss, inputs);
                    agrees("weight", &weight, &want.weight, tokens);
                }
            }
        }
    }
}

#[test]
fn gradients_go_where_they_are_wanted() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new([9, 4, 6]);
    let on = case.upload(&gpu);
    // Both gradients in one buffer, as in `Parameters`.
    let grads = Tensor::from_slice(&gpu, [9, 4], &[f32::NAN; 36]).unwrap();
    let weight_grad = grads.rows(1..7).unwrap();
    let bias_grad = grads.rows(7..9).unwrap().reshape([8]).unwrap().rows(1..7).unwrap();
    let overlapping = grads.rows(5..7).unwrap().reshape([8]).unwrap().rows(1..7).unwrap();
    let options = LinearCrossEntropy::default();
    let backward =
        LinearLossRequest::gradients().weight_grad(Grad::Into(&weight_grad)).bias_grad(Grad::Into(&bias_grad));
    let bias = Some(&on.bias);
    let [weight, bias_got] = eval(&gpu, |b| {
        b.linear_cross_entropy_with(&on.hidden, &on.weight, bias, &on.index, &options, backward)?;
        Ok([weight_grad.clone(), bias_grad.clone()])
    });
    let want = case.reference(&options.loss, (true, false), None);
    agrees("weight", &weight, &want.weight, 9);
    agrees("bias", &bias_got, &want.bias, 9);

    let fail = |backward: LinearLossRequest<'_>, bias: Option<&Tensor<f32>>| {
        let (mut batch, before) = (gpu.batch(), gpu.counters().dispatches);
        let out = batch.linear_cross_entropy_with(&on.hidden, &on.weight, bias, &on.index, &options, backward);
        assert_eq!(gpu.counters().dispatches, before, "nothing is recorded");
        out.unwrap_err()
    };
    let nowhere = LinearLossRequest::gradients();
    let short = Tensor::<f32>::zeros(&gpu, [5, 4]).unwrap();
    for (backward, bias, what) in [
        (nowhere.weight_grad(Grad::Into(&on.weight)), bias, "weight_grad"),
        (nowhere.weight_grad(Grad::Into(&short)), bias, "weight_grad"),
        (nowhere.bias_grad(Grad::Into(&bias_grad)), None, "bias_grad"),
        (nowhere.weight_grad(Grad::Into(&weight_grad)).bias_grad(Grad::Into(&overlapping)), bias, "bias_grad"),
        (nowhere, Some(&on.hidden), "bias"),
        (nowhere.upstream(&short), bias, "upstream"),
    ] {
        let error = fail(backward, bias).to_string();
        assert!(error.starts_with("linear_cross_entropy: ") && error.contains(what), "{what}: {error}");
    }
    let mut batch = gpu.batch();
    let error = batch.linear_cross_entropy(&on.weight, &on.bias, None, &on.index, &options).unwrap_err();
    assert!(matches!(error, Error::Shape { what: "weight", .. }), "{error}");
}

#[test]
fn limits_are_typed_errors() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new([3, 2, 5000]);
    let on = case.upload(&gpu);
    let options = LinearCrossEntropy::new().scratch(19_999);
    let before = gpu.counters().dispatches;
    let error = gpu.batch().linear_cross_entropy(&on.hidden, &on.weight, None, &on.index, &options).unwrap_err();
    assert!(matches!(error, Error::Limit { op: "linear_cross_entropy", .. }), "{error}");
    let [_, narrow] = tiny(&gpu);
    let error = narrow.plan_linear_cross_entropy([3, 2, 5000], &LinearCrossEntropy::default(), false).unwrap_err();
    assert!(matches!(error, Error::Limit { needed: 20_000, .. }), "{error}");
    assert_eq!(gpu.counters().dispatches, before);
}

/// Gradients below the threshold, and no others, count as 0. Skipping whole tiles of them does not
/// change a bit.
#[test]
fn small_gradients_are_left_out() {
    let Some(gpu) = gpu() else { return };
    let sizes @ [tokens, inputs, classes] = [70, 33, 1300];
    let mut case = Case::exact(sizes, 5);
    // A few confident classes next to each other, and none elsewhere.
    case.bias.iter_mut().enumerate().for_each(|(c, bias)| *bias += if (300..340).contains(&c) { 12.0 } else { 0.0 });
    let target = |t: usize| if t % 5 == 1 { -100 } else { 300 + (t % 60) as i64 };
    case.index = (0..tokens).map(target).collect();
    let cases = [(1e-4, Reduction::Mean, None), (3e-3, Reduction::None, None), (1e-3, Reduction::Sum, Some(20.0))];
    let mut chosen = one_in(5);
    for (threshold, reduction, softcap) in cases {
        let position_weight = Some(unit(6, tokens).into());
        let loss = CrossEntropy::new().reduction(reduction).softcap(softcap).position_weight(position_weight);
        let upstream = (reduction == Reduction::None).then(|| random(9, tokens, 1.0));
        let exact = case.reference(&loss, (true, false), upstream.as_deref());
        let options = LinearCrossEntropy::from(loss.clone()).gradient_threshold(threshold);
        let want = case.reference_with(&options, (true, false), upstream.as_deref());
        let left_out = |a: &[f64], b: &[f64]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert!(left_out(&exact.bias, &want.bias) > classes / 2, "most of it is small");
        assert!(want.bias.iter().filter(|grad| **grad != 0.0).count() > 30, "not all of it is");
        for (wide, narrow) in families(&gpu).iter().zip(&tiny(&gpu)).filter(|_| chosen()) {
            let got = case.run(wide, &options, (true, false), upstream.as_deref());
            let few = options.clone().scratch(9 * 4 * classes as u64 * 5 / 4);
            let cut = case.run(narrow, &few, (true, false), upstream.as_deref());
            for (i, (got, cut)) in got.iter().zip(&cut).enumerate() {
                same_bits(&format!("output {i}"), got, cut);
            }
            let [_, hidden, weight, bias, ..] = got;
            agrees("hidden", &hidden, &want.hidden, classes);
            agrees("weight", &weight, &want.weight, tokens);
            agrees("bias", &bias, &want.bias, tokens);
            let zeros = |values: &[f32]| values.iter().filter(|value| **value == 0.0).count();
            assert_eq!(zeros(&bias), want.bias.iter().filter(|grad| **grad == 0.0).count(), "exactly 0");
            // The documented bound holds, and some errors come near it, so it is not meaningless.
            let factors = case.factors(&loss, upstream.as_deref());
            let mut nearest = 0.0f64;
            for n in 0..tokens {
                for d in 0..inputs {
                    let column: f64 = (0..classes).map(|v| f64::from(case.weight[v * inputs + d]).abs()).sum();
                    let bound = threshold * factors[n].abs() * column;
                    let off = (f64::from(hidden[n * inputs + d]) - exact.hidden[n * inputs + d]).abs();
                    assert!(off <= bound + 1e-6, "hidden {n}, {d}: {off} of {bound}");
                    nearest = nearest.max(off / bound.max(1e-9));
                }
            }
            assert!(nearest > 1e-3, "{nearest}");
            for (i, (got, want)) in weight.iter().zip(&exact.weight).enumerate() {
                let d = i % inputs;
                let rows = factors.iter().enumerate().map(|(n, f)| (f * f64::from(case.hidden[n * inputs + d])).abs());
                let bound = threshold * rows.sum::<f64>();
                assert!((f64::from(*got) - want).abs() <= bound + 1e-5, "weight {i}");
            }
            let all: f64 = factors.iter().map(|f| f.abs()).sum();
            for (c, (got, want)) in bias.iter().zip(&exact.bias).enumerate() {
                assert!((f64::from(*got) - want).abs() <= threshold * all + 1e-6, "bias {c}");
            }
        }
    }
    // A NaN factor makes the whole gradient of its token NaN.
    let loss = CrossEntropy::new().reduction(Reduction::None);
    let options = LinearCrossEntropy::from(loss).gradient_threshold(1e-3);
    let mut upstream = vec![1.0; tokens];
    upstream[7] = -f32::from_bits(0x7fc1_2345);
    for gpu in families(&gpu) {
        let [_, hidden, ..] = case.run(&gpu, &options, (true, false), Some(&upstream));
        assert!(hidden[7 * inputs..8 * inputs].iter().all(|grad| grad.is_nan()), "{:?}", gpu.caps().family);
        assert!(hidden[..7 * inputs].iter().all(|grad| grad.is_finite()));
    }
    let on = case.upload(&gpu);
    for gradient_threshold in [-1.0, f64::NAN, f64::INFINITY] {
        let options = LinearCrossEntropy::new().gradient_threshold(gradient_threshold);
        let error = gpu.batch().linear_cross_entropy(&on.hidden, &on.weight, None, &on.index, &options).unwrap_err();
        assert!(matches!(error, Error::Value { what: "gradient_threshold", .. }), "{error}");
    }
}
