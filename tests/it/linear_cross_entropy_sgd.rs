//! A linear layer's loss and its update in one operation: the same results as two operations, but
//! without the weight's gradient in memory.

use crate::common::*;
use crate::cross_entropy::{REDUCTIONS, variants};
use crate::linear_cross_entropy::{Case, agrees};
use xent::linear::{LinearCrossEntropy, LinearLossRequest, LinearSgd};
use xent::loss::{CrossEntropy, Reduction, Targets};
use xent::optim::{Momentum, Sgd};
use xent::{Error, Family, Gpu, Tensor, Weights};

fn sgd() -> Sgd {
    Sgd::new().lr(0.3).momentum(0.9).weight_decay(0.05).nesterov(true)
}

/// Runs two steps. Returns the loss, the hidden states' gradient, weight, bias, both velocities,
/// and the entropy.
fn run(
    gpu: &Gpu,
    case: &Case,
    options: &LinearCrossEntropy,
    (biased, by_probabilities): (bool, bool),
    upstream: Option<&[f32]>,
    at_once: bool,
) -> [Vec<f32>; 7] {
    let [_, inputs, classes] = case.sizes;
    let on = case.upload(gpu);
    eval(gpu, |b| {
        let upstream = upstream.map(|g| Tensor::from_slice(gpu, [g.len()], g)).transpose()?;
        let upstream = upstream.as_ref();
        let bias = biased.then_some(&on.bias);
        let targets = || if by_probabilities { Targets::from(&on.probabilities) } else { Targets::from(&on.index) };
        let mut weight_momentum = Momentum::new(gpu, [classes, inputs])?;
        let mut bias_momentum = Momentum::new(gpu, [classes])?;
        let mut out = None;
        for _ in 0..2 {
            out = Some(if at_once {
                let update = LinearSgd::new(sgd())
                    .weight_momentum(&mut weight_momentum)
                    .bias_momentum(&mut bias_momentum)
                    .upstream(upstream)
                    .statistics();
                let out = b.linear_cross_entropy_sgd(&on.hidden, &on.weight, bias, targets(), options, update)?;
                (out.loss, out.hidden_grad, out.statistics.expect("they were asked for"))
            } else {
                let backward = LinearLossRequest::gradients().upstream(upstream);
                let request = backward.statistics();
                let out = b.linear_cross_entropy_with(&on.hidden, &on.weight, bias, targets(), options, request)?;
                b.sgd(&on.weight, &out.weight_grad.clone().unwrap(), Some(&mut weight_momentum), &sgd())?;
                if let Some(grad) = &out.bias_grad {
                    b.sgd(&on.bias, grad, Some(&mut bias_momentum), &sgd())?;
                }
                (out.loss, out.hidden_grad.unwrap(), out.statistics.expect("they were asked for"))
            });
        }
        let (loss, hidden, statistics) = out.expect("two steps");
        let velocity = |momentum: &Momentum| momentum.velocity().clone();
        // Without a bias, the bias's velocity stays unset.
        let second = if biased { velocity(&bias_momentum) } else { loss.clone() };
        Ok([loss, hidden, on.weight.clone(), on.bias.clone(), velocity(&weight_momentum), second, statistics.entropy])
    })
}

/// Two rows of padding, which hold NaN and infinity.
#[test]
fn padding_reaches_no_weight() {
    let Some(gpu) = gpu() else { return };
    let mut hidden: Vec<f32> = (0..12u8).map(|i| f32::from(i) / 8.0).collect();
    let (mut results, weight) = (Vec::new(), random(1, 15, 1.0));
    for padding in [[0.0, 0.0], [f32::NAN, f32::INFINITY]] {
        [hidden[6], hidden[10]] = padding;
        for gpu in families(&gpu) {
            let options = LinearCrossEntropy::default();
            results.push(eval(&gpu, |b| {
                let on = Tensor::from_slice(&gpu, [4, 3], &hidden)?;
                let weight = Tensor::from_slice(&gpu, [5, 3], &weight)?;
                let targets = Targets::new(&gpu, [4], &[1, 4, -100, -100], 5)?;
                let sgd = Sgd::new().lr(0.5);
                let update = LinearSgd::new(sgd.clone());
                let out = b.linear_cross_entropy_sgd(&on, &weight, None, &targets, &options, update)?;
                Ok([out.loss, out.hidden_grad, weight])
            }));
        }
    }
    for result in &results {
        for (got, want) in result.iter().zip(&results[0]) {
            same_bits("with padding", got, want);
        }
        assert!(result.iter().flatten().all(|value| value.is_finite()));
    }
}

#[test]
fn it_is_the_gradients_and_a_step() {
    let Some(gpu) = gpu() else { return };
    let (mut turn, mut chosen) = (0, one_in(19));
    for sizes in [[37, 70, 45], [5, 12, 3001], [0, 4, 6]] {
        let case = Case::new(sizes);
        let [tokens, inputs, classes] = sizes;
        let mut options = variants(classes, &[tokens]);
        let smoothed = CrossEntropy::new().label_smoothing(0.2);
        options.extend([CrossEntropy::default(), smoothed]);
        for loss in options {
            turn += 1;
            let (which, reduction) = ((turn % 2 == 0, turn % 3 == 0), REDUCTIONS[turn % 4]);
            let loss = loss.reduction(reduction);
            let gradient_threshold = if turn % 5 == 0 { 1e-3 } else { 0.0 };
            let upstream = (reduction == Reduction::None).then(|| random(9, tokens, 1.0));
            if !chosen() {
                continue;
            }
            for (wide, narrow) in families(&gpu).iter().zip(&tiny(&gpu)) {
                let options = LinearCrossEntropy::from(loss.clone()).gradient_threshold(gradient_threshold);
                let want = run(wide, &case, &options, which, upstream.as_deref(), false);
                let whole = run(wide, &case, &options, which, upstream.as_deref(), true);
                // A few tokens or classes at a time.
                let most = classes.max(inputs) as u64 * 4 * 7;
                let few = options.scratch(2 * (most * 5 / 4 + 64));
                let plan = narrow.plan_linear_cross_entropy_sgd(sizes, &few, which.1).unwrap();
                assert!(plan.scratch_bytes() <= few.scratch, "{plan}");
                let cut = run(narrow, &case, &few, which, upstream.as_deref(), true);
                for (i, ((want, whole), cut)) in want.iter().zip(&whole).zip(&cut).enumerate() {
                    let what = format!("output {i}, {sizes:?}, {which:?}, {loss:?}, {plan}");
                    same_bits(&what, cut, whole);
                    if wide.caps().family == Family::CpuSimd {
                        same_bits(&what, whole, want);
                    } else {
                        let want: Vec<f64> = want.iter().map(|&want| want.into()).collect();
                        agrees(&what, whole, &want, classes);
                    }
                }
            }
        }
    }
}

/// Blocks of whole quads of classes, although a row's probabilities, or all weights, are no whole
/// quads.
#[test]
fn quads_in_a_block_are_not_quads_in_a_row() {
    let Some(gpu) = gpu() else { return };
    for classes in [501, 502, 503] {
        // Between the first and the last of 5 tokens lie whole quads.
        let sizes = [5, 12, classes];
        let case = Case::new(sizes);
        let weight = Some(Weights::new([classes], &random(7, classes, 1.0)).unwrap());
        let loss = CrossEntropy::new().label_smoothing(0.2).weight(weight);
        for (gpu, by_probabilities) in families(&gpu).iter().flat_map(|gpu| [(gpu, false), (gpu, true)]) {
            let options = LinearCrossEntropy::from(loss.clone());
            let blocks = options.clone().scratch(24576);
            let plan = gpu.plan_linear_cross_entropy_sgd(sizes, &blocks, by_probabilities).unwrap().to_string();
            assert!(plan.contains("2 blocks of 256 classes by 5 tokens"), "{plan}");
            let whole = run(gpu, &case, &options, (true, by_probabilities), None, true);
            let in_blocks = run(gpu, &case, &blocks, (true, by_probabilities), None, true);
            for (got, want) in in_blocks.iter().zip(&whole) {
                same_bits(&format!("{classes} classes, by probabilities: {by_probabilities}"), got, want);
            }
        }
    }
}

/// Neither the logits nor the weight's gradient are ever in memory as a whole.
#[test]
fn memory_stays_within_the_plan() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    drop(shared);
    let sizes @ [tokens, inputs, classes] = [256, 256, 16384];
    let hidden = Tensor::from_slice(&gpu, [tokens, inputs], &random(1, tokens * inputs, 1.0)).unwrap();
    let weight = Tensor::from_slice(&gpu, [classes, inputs], &random(2, classes * inputs, 1.0)).unwrap();
    let targets = Targets::new(&gpu, [tokens], &labels(3, tokens, classes), classes).unwrap();
    let options = LinearCrossEntropy::new().scratch(4 << 20);
    let plan = gpu.plan_linear_cross_entropy_sgd(sizes, &options, false).unwrap();
    assert!(plan.scratch_bytes() <= 4 << 20 && plan.operations() == 8 * (tokens * inputs * classes) as u64, "{plan}");
    gpu.trim();
    gpu.reset_peak();
    let before = gpu.counters().bytes_in_use;
    let (mut batch, sgd) = (gpu.batch(), Sgd::default());
    let update = LinearSgd::new(sgd.clone());
    let out = batch.linear_cross_entropy_sgd(&hidden, &weight, None, &targets, &options, update).unwrap();
    let mut loss = batch.read(&out.loss).unwrap();
    batch.submit().unwrap();
    assert!(loss.wait(TIMEOUT).unwrap()[0] > 0.0);
    let outputs = (tokens * inputs * 4) as u64;
    let beyond = gpu.counters().peak_bytes - before - outputs - plan.scratch_bytes();
    assert!(beyond < 1 << 20, "{beyond} bytes beside inputs, outputs and scratch; {plan}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new([6, 5, 40]);
    let on = case.upload(&gpu);
    let options = LinearCrossEntropy::default();
    let plain = Sgd::default();
    let mut batch = gpu.batch();
    let dispatches = gpu.counters().dispatches;
    let mut refused = |hidden: &Tensor<f32>, weight: &Tensor<f32>, bias, update: LinearSgd<'_>, scratch: u64| {
        let options = options.clone().scratch(scratch);
        batch.linear_cross_entropy_sgd(hidden, weight, bias, &on.index, &options, update).unwrap_err()
    };
    let enough = options.scratch;
    let error = refused(&on.hidden, &on.weight, None, LinearSgd::new(sgd()), enough);
    let expected = "linear_cross_entropy_sgd: momentum must be 0 without a Momentum for the weight, got ";
    assert!(error.to_string().starts_with(expected), "{error}");
    let mut wrong = Momentum::new(&gpu, [40]).unwrap();
    let update = LinearSgd::new(sgd()).weight_momentum(&mut wrong);
    let error = refused(&on.hidden, &on.weight, None, update, enough);
    let op = "linear_cross_entropy_sgd";
    assert!(matches!(&error, Error::Shape { op: o, what: "the weight's velocity", .. } if *o == op), "{error}");
    let error = refused(&on.weight.rows(0..6).unwrap(), &on.weight, None, LinearSgd::new(plain.clone()), enough);
    assert!(matches!(error, Error::Aliasing { output: "weight", other: "hidden", .. }), "{error}");
    let bias = on.weight.reshape([200]).unwrap().rows(160..200).unwrap();
    let error = refused(&on.hidden, &on.weight, Some(&bias), LinearSgd::new(plain.clone()), enough);
    assert!(matches!(error, Error::Aliasing { output: "weight", other: "bias", .. }), "{error}");
    let upstream = on.bias.rows(0..6).unwrap();
    let update = LinearSgd::new(plain.clone()).upstream(&upstream);
    let error = refused(&on.hidden, &on.weight, Some(&on.bias), update, enough);
    assert!(matches!(error, Error::Aliasing { output: "bias", other: "upstream", .. }), "{error}");
    // Velocities are written, too.
    let square = Tensor::from_slice(&gpu, [6, 5], &[0.5; 30]).unwrap();
    let hidden = square.clone();
    let six = Tensor::from_slice(&gpu, [6, 5], &[0.25; 30]).unwrap();
    let mut read = Momentum::resume(hidden.clone());
    let update = LinearSgd::new(sgd()).weight_momentum(&mut read);
    let error = refused(&hidden, &six, None, update, enough);
    assert!(matches!(error, Error::Aliasing { output: "velocity", other: "hidden", .. }), "{error}");
    let (thin, column) = (on.bias.reshape([40, 1]).unwrap(), Tensor::from_slice(&gpu, [6, 1], &[1.0; 6]).unwrap());
    let bias = Tensor::from_slice(&gpu, [40], &[0.0; 40]).unwrap();
    let mut first = Momentum::new(&gpu, [40, 1]).unwrap();
    let mut second = Momentum::resume(thin.reshape([40]).unwrap());
    let update = LinearSgd::new(sgd()).weight_momentum(&mut first).bias_momentum(&mut second);
    let error = refused(&column, &thin, Some(&bias), update, enough);
    assert!(matches!(error, Error::Aliasing { output: "velocity", other: "weight", .. }), "{error}");
    let mut first = Momentum::resume(Tensor::from_slice(&gpu, [40, 1], &[0.0; 40]).unwrap());
    let mut second = Momentum::resume(first.velocity().reshape([40]).unwrap());
    let update = LinearSgd::new(sgd()).weight_momentum(&mut first).bias_momentum(&mut second);
    let error = refused(&column, &thin, Some(&bias), update, enough);
    assert!(matches!(error, Error::Aliasing { output: "velocity", .. }), "{error}");
    let error = refused(&on.hidden, &on.weight, None, LinearSgd::new(plain.clone()), 200);
    assert!(matches!(error, Error::Limit { op: "linear_cross_entropy_sgd", .. }), "{error}");
    assert_eq!(gpu.counters().dispatches, dispatches, "nothing is recorded");
}
