//! Evaluations: totals over many records, vocabularies, weights, and bad data, compared with counts
//! on the host in `f64`.

use std::collections::HashMap;

use crate::common::*;
use half::{bf16, f16};
use xent::loss::Targets;
use xent::metrics::{Average, BinaryOutputs, Evaluation, Scores};
use xent::{Batch, Error, Gpu, Result, Tensor};

/// Records with `record`, submits, and returns the scores.
fn try_scores(
    gpu: &Gpu,
    evaluation: &mut Evaluation,
    record: impl FnOnce(&mut Evaluation, &mut Batch) -> Result<()>,
) -> Result<Scores> {
    let mut batch = gpu.batch();
    record(evaluation, &mut batch)?;
    let mut ticket = evaluation.read(&mut batch)?;
    batch.submit()?;
    ticket.wait(TIMEOUT)
}

fn scores(
    gpu: &Gpu,
    evaluation: &mut Evaluation,
    record: impl FnOnce(&mut Evaluation, &mut Batch) -> Result<()>,
) -> Scores {
    try_scores(gpu, evaluation, record).unwrap()
}

#[track_caller]
fn near(got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "{got} instead of {want}");
}

/// The totals of all records, computed by definition.
#[derive(Default)]
struct Host {
    rows: u64,
    weight: f64,
    right: f64,
    loss: f64,
    /// The weight of each rank.
    ranks: HashMap<usize, f64>,
    cells: HashMap<(usize, usize), f64>,
}

impl Host {
    fn record(&mut self, row: &[f32], target: usize, weight: f32) {
        let weight = f64::from(weight);
        if weight == 0.0 {
            return;
        }
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let predicted = row.iter().position(|&x| x == best).unwrap();
        let x = row[target];
        let rank = (0..row.len()).filter(|&c| row[c] > x || (row[c] == x && c > target)).count();
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(best)).exp()).sum();
        self.rows += 1;
        self.weight += weight;
        self.right += if predicted == target { weight } else { 0.0 };
        self.loss += weight * (sum.ln() - (f64::from(x) - f64::from(best)));
        *self.ranks.entry(rank).or_default() += weight;
        *self.cells.entry((target, predicted)).or_default() += weight;
    }

    #[track_caller]
    fn check(&self, scores: &Scores) {
        assert_eq!(scores.counted(), self.rows);
        near(scores.total_weight(), self.weight, 1e-12);
        near(scores.accuracy(), self.right / self.weight, 1e-12);
        for k in [1, 2, 5, 100, 1 << 20] {
            let within: f64 = self.ranks.iter().filter(|&(&rank, _)| rank < k).map(|(_, w)| w).sum();
            near(scores.top_k_accuracy(k), within / self.weight, 1e-12);
        }
        near(scores.log_loss(), self.loss / self.weight, 1e-6);
        near(scores.perplexity(), (self.loss / self.weight).exp(), 1e-5);
        if let Some(confusion) = scores.confusion() {
            near(confusion.total(), self.weight, 1e-12);
            self.cells.iter().for_each(|(&(t, p), &want)| near(confusion.count(t, p), want, 1e-12));
        }
    }
}

/// Records the same rows `[z, 0]` of class 0 many times, and checks the totals.
fn records_lose_nothing(gpu: &Gpu, records: usize, rows: usize, z: f32) {
    let x = Tensor::from_slice(gpu, [rows, 2], &[z, 0.0].repeat(rows)).unwrap();
    let y = Tensor::<i32>::zeros(gpu, [rows]).unwrap();
    let mut evaluation = Evaluation::new(gpu, 2).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..records / 100 {
        let mut batch = gpu.batch();
        (0..100).for_each(|_| evaluation.record(&mut batch, &x, &y, None).unwrap());
        batch.submit().unwrap();
    }
    let scores = scores(gpu, &mut evaluation, |_, _| Ok(()));
    say(&format!("{records} records of {rows}: {:.1?}, log-loss {}", start.elapsed(), scores.log_loss()));
    assert_eq!(scores.counted(), records as u64 * rows as u64);
    near(scores.log_loss(), f64::ln_1p((-f64::from(z)).exp()), 1e-6);
}

/// With a total in one `f32`, the losses would be 6.714294e-3 and 0.3133194.
#[test]
fn twenty_thousand_records_lose_nothing() {
    let Some(gpu) = gpu() else { return };
    records_lose_nothing(&gpu, 20_000, 1, 5.0);
    near(f64::ln_1p((-5f64).exp()), 6.715348e-3, 1e-7);
    records_lose_nothing(&gpu, 20_000, 64, 1.0);
    near(f64::ln_1p((-1f64).exp()), 0.3132617, 1e-6);
}

#[test]
#[ignore = "minutes"]
fn a_million_records_lose_nothing() {
    let Some(gpu) = gpu() else { return };
    records_lose_nothing(&gpu, 1_000_000, 1, 5.0);
}

/// Each small loss is below half an ulp of the total, so a total in one `f32` would not change.
#[test]
fn small_losses_add_to_a_large_total() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let large = Tensor::from_slice(&gpu, [1, 2], &[-1000.0, 0.0f32]).unwrap();
        let small = Tensor::from_slice(&gpu, [1, 2], &[5.0, 0.0f32]).unwrap();
        let y = Tensor::<i32>::zeros(&gpu, [1]).unwrap();
        let weight = Tensor::from_slice(&gpu, [1], &[1048576.0f32]).unwrap();
        let mut evaluation = Evaluation::new(&gpu, 2).unwrap();
        let scores = scores(&gpu, &mut evaluation, |evaluation, batch| {
            evaluation.record(batch, &large, &y, Some(&weight))?;
            (0..1000).try_for_each(|_| evaluation.record(batch, &small, &y, None))
        });
        let added = scores.log_loss() * scores.total_weight() - 1000.0 * 1048576.0;
        near(added, 1000.0 * f64::ln_1p((-5f64).exp()), 1e-4);
    }
}

#[test]
fn infinite_and_nan_totals_stay() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let y = Tensor::<i32>::zeros(&gpu, [1]).unwrap();
        let row = |logit: f32| Tensor::from_slice(&gpu, [1, 2], &[logit, 0.0]).unwrap();
        let mut evaluation = Evaluation::new(&gpu, 2).unwrap();
        let mut loss_after = |logit: f32| {
            let x = row(logit);
            scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, None)).log_loss()
        };
        assert!(loss_after(1.0).is_finite());
        assert_eq!(loss_after(f32::NEG_INFINITY), f64::INFINITY);
        assert_eq!([loss_after(1.0), loss_after(f32::NEG_INFINITY), loss_after(2.0)], [f64::INFINITY; 3]);
        assert!(loss_after(f32::NAN).is_nan() && loss_after(1.0).is_nan() && loss_after(f32::NEG_INFINITY).is_nan());
        evaluation.reset().unwrap();
        let x = row(1.0);
        let scores = scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, None));
        near(scores.perplexity(), 1.0 + (-1f64).exp(), 1e-6);
    }
}

#[test]
fn a_vocabulary_takes_no_matrix() {
    let Some(gpu) = gpu() else { return };
    let (n, classes) = (5, 262_144);
    let logits: Vec<f32> = random(1, n * classes, 4.0).iter().map(|x| (x * 64.0).round() / 64.0).collect();
    let mut targets = labels(2, n, classes);
    // Row 1 gets the predicted class as its target, row 3 a class with a high logit.
    let row = &logits[classes..2 * classes];
    targets[1] = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap() as i64;
    targets[3] = (0..classes as i64).find(|&c| logits[3 * classes + c as usize] > 5.0).unwrap();
    let mut host = Host::default();
    let rows = logits.chunks(classes).zip(&targets);
    rows.for_each(|(row, &target)| host.record(row, target as usize, 1.0));
    for gpu in families(&gpu) {
        let x = Tensor::from_slice(&gpu, [n, classes], &logits).unwrap();
        let y = Targets::new(&gpu, [n], &targets, classes).unwrap();
        let before = gpu.counters().bytes_in_use;
        let mut evaluation = Evaluation::new(&gpu, classes).unwrap();
        let bytes = gpu.counters().bytes_in_use - before;
        // 4 MiB, and the pool's rounding.
        assert!(bytes < 6 << 20, "{bytes} bytes");
        let scores = scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, None));
        assert_eq!(scores.confusion(), None);
        host.check(&scores);
        assert!(scores.accuracy() > 0.0 && scores.top_k_accuracy(1 << 16) < 1.0, "not trivial");
        assert!(matches!(evaluation.with_confusion(), Err(Error::Limit { needed: 262_144, .. })));
    }
}

/// The class dimension in second place, as for the losses; halves; weights, including 0; targets of
/// both types.
#[test]
fn many_dimensions_halves_and_weights() {
    let Some(gpu) = gpu() else { return };
    let (n, classes, inner) = (7, 6, 50);
    let shape = [n, classes, 5, 10];
    // Numbers that halves represent exactly, many of them equal.
    let logits: Vec<f32> = random(3, n * classes * inner, 8.0).iter().map(|x| x.round() / 4.0).collect();
    let mut targets = labels(4, n * inner, classes);
    targets[11] = -100;
    let mut weights: Vec<f32> = unit(5, n * inner).iter().map(|w| w * 3.0).collect();
    weights[20..60].fill(0.0);
    let ones = vec![1.0; n * inner];
    let mut poisoned = logits.clone();
    // The logits of a row of weight 0 do not matter.
    (0..classes).for_each(|c| poisoned[c * inner + 30] = f32::NAN);
    let mut bits = Vec::new();
    for (number, gpu) in devices(&gpu).iter().enumerate() {
        let y = Targets::new(gpu, [n, 5, 10], &targets, classes).unwrap();
        let unsigned: Vec<u32> = targets.iter().map(|&t| u32::try_from(t).unwrap_or(u32::MAX)).collect();
        let unsigned = Tensor::from_slice(gpu, [n, 5, 10], &unsigned).unwrap();
        let w = Tensor::from_slice(gpu, [n, 5, 10], &weights).unwrap();
        let x = Tensor::from_slice(gpu, shape, &logits).unwrap();
        let poisoned = Tensor::from_slice(gpu, shape, &poisoned).unwrap();
        let f16s: Vec<f16> = logits.iter().map(|&x| f16::from_f32(x)).collect();
        let bf16s: Vec<bf16> = logits.iter().map(|&x| bf16::from_f32(x)).collect();
        let (f16s, bf16s) =
            (Tensor::from_slice(gpu, shape, &f16s).unwrap(), Tensor::from_slice(gpu, shape, &bf16s).unwrap());
        for (weights, w) in [(&ones, None), (&weights, Some(&w))] {
            let mut host = Host::default();
            for (i, (&target, &weight)) in targets.iter().zip(weights).enumerate() {
                let Ok(target) = usize::try_from(target) else { continue };
                let at = |c: usize| logits[(i / inner * classes + c) * inner + i % inner];
                host.record(&(0..classes).map(at).collect::<Vec<_>>(), target, weight);
            }
            let evaluation = || Evaluation::new(gpu, classes).and_then(Evaluation::with_confusion).unwrap();
            let all = [
                scores(gpu, &mut evaluation(), |e, batch| e.record(batch, &x, &y, w)),
                scores(gpu, &mut evaluation(), |e, batch| e.record(batch, &x, &unsigned, w)),
                scores(gpu, &mut evaluation(), |e, batch| e.record(batch, &f16s, &y, w)),
                scores(gpu, &mut evaluation(), |e, batch| e.record(batch, &bf16s, &y, w)),
            ];
            all.iter().for_each(|scores| host.check(scores));
            if w.is_some() {
                let scores = scores(gpu, &mut evaluation(), |e, batch| e.record(batch, &poisoned, &y, w));
                host.check(&scores);
                assert_eq!(scores, all[0], "device {number}");
            }
            bits.push(all[0].clone());
        }
    }
    // Small limits, which split the work, do not change the scores.
    assert_eq!(bits[..4], bits[4..]);
}

/// A matrix with more cells than a binding or a buffer holds.
#[test]
fn a_matrix_that_is_cut() {
    let Some(gpu) = gpu() else { return };
    let (n, classes) = (1500, 90);
    let logits = random(7, n * classes, 3.0);
    let (targets, weights) = (labels(8, n, classes), unit(9, n));
    let mut host = Host::default();
    let rows = logits.chunks(classes).zip(&targets).zip(&weights);
    rows.for_each(|((row, &target), &weight)| host.record(row, target as usize, weight));
    let all = devices(&gpu).into_iter().map(|gpu| {
        let x = Tensor::from_slice(&gpu, [n, classes], &logits).unwrap();
        let y = Targets::new(&gpu, [n], &targets, classes).unwrap();
        let w = Tensor::from_slice(&gpu, [n], &weights).unwrap();
        let mut evaluation = Evaluation::new(&gpu, classes).and_then(Evaluation::with_confusion).unwrap();
        let scores = scores(&gpu, &mut evaluation, |e, batch| e.record(batch, &x, &y, Some(&w)));
        host.check(&scores);
        scores
    });
    let all: Vec<Scores> = all.collect();
    assert_eq!(all[..2], all[2..]);
}

/// A sum of weights from 2^-40 to 2^31 is exact.
#[test]
fn weights_of_all_sizes_are_summed_exactly() {
    let Some(gpu) = gpu() else { return };
    let n = 3000;
    let mut rng = fastrand::Rng::with_seed(9);
    let mut weights: Vec<f32> = (0..n).map(|_| (1.0 + rng.f32()) * 2f32.powi(rng.i32(-40..31))).collect();
    weights[..4].copy_from_slice(&[2147483648.0, 2147483648.0, -0.0, 2147483648.0]);
    // A weight as an integer multiple of 2^-64.
    let whole = |w: f32| match w.to_bits() >> 23 & 0xff {
        0 => 0,
        exponent => u128::from(w.to_bits() & 0x7f_ffff | 0x80_0000) << (exponent - 86),
    };
    let want = weights.iter().map(|&w| whole(w)).sum::<u128>() as f64 / 2f64.powi(64);
    for gpu in devices(&gpu) {
        let x = Tensor::from_slice(&gpu, [n, 2], &random(1, 2 * n, 2.0)).unwrap();
        let y = Tensor::<i32>::zeros(&gpu, [n]).unwrap();
        let w = Tensor::from_slice(&gpu, [n], &weights).unwrap();
        let mut evaluation = Evaluation::new(&gpu, 2).unwrap();
        let scores = scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, Some(&w)));
        assert_eq!((scores.total_weight(), scores.counted()), (want, n as u64 - 1));
        assert_eq!(scores.top_k_accuracy(2), 1.0);
        // Weights below 2^-40 are rounded to multiples of 2^-64, and refused if that might show.
        let mut tiny = vec![1.5 * 2f32.powi(-64); n];
        let upload = |weights: &[f32]| Tensor::from_slice(&gpu, [n], weights).unwrap();
        evaluation.reset().unwrap();
        let error = try_scores(&gpu, &mut evaluation, |e, batch| e.record(batch, &x, &y, Some(&upload(&tiny))));
        assert!(matches!(error, Err(Error::Value { what: "the mean of the sample weights", .. })), "{error:?}");
        tiny[..2].copy_from_slice(&[2f32.powi(-10), 0.74 * 2f32.powi(-64)]);
        evaluation.reset().unwrap();
        let scores = self::scores(&gpu, &mut evaluation, |e, batch| e.record(batch, &x, &y, Some(&upload(&tiny))));
        let want = (1u128 << 54) + (n as u128 - 2) * 2 + 1;
        assert_eq!(scores.total_weight(), want as f64 / 2f64.powi(64));
    }
}

#[test]
fn classes_of_rows_of_weight_0_occur() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&gpu, [3, 4], &[9., 0., 0., 0., 0., 9., 0., 0., 0., 9., 0., 0f32]).unwrap();
    let y = Tensor::from_slice(&gpu, [3], &[0, 1, 2]).unwrap();
    let w = Tensor::from_slice(&gpu, [3], &[2.0, 1.0, 0.0f32]).unwrap();
    let mut evaluation = Evaluation::new(&gpu, 4).and_then(Evaluation::with_confusion).unwrap();
    let scores = scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, Some(&w)));
    let confusion = scores.confusion().unwrap();
    // Classes 0 and 1 have a recall of 1, class 2 has 0 / 0.
    near(confusion.recall(Average::Macro), 2.0 / 3.0, 1e-15);
    assert_eq!((scores.accuracy(), confusion.accuracy(), scores.counted()), (1.0, 1.0, 2));
}

/// One rule for logits and probabilities: nothing is clipped.
#[test]
fn certain_outputs_cost_nothing_or_infinitely_much() {
    let Some(gpu) = gpu() else { return };
    let inf = f32::INFINITY;
    for gpu in families(&gpu) {
        let tensor = |values: &[f32]| Tensor::from_slice(&gpu, [values.len()], values).unwrap();
        let (logits, certain) = (tensor(&[inf, -inf, 0.0]), tensor(&[1.0, 0.0, 0.5]));
        let outputs = [BinaryOutputs::Logits(&logits), BinaryOutputs::Probabilities(&certain)];
        for (targets, weights, want) in [
            ([1.0, -0.0, 1.0], None, 2f64.ln() / 3.0),
            ([0.0, 0.0, 1.0], None, f64::INFINITY),
            ([1.0, 1.0, 1.0], None, f64::INFINITY),
            ([0.0, 1.0, 0.0], Some([0.0, 0.0, 4.0]), 2f64.ln()),
            ([1.0, 0.0, 0.0], Some([3.0, 2.0, 1.0]), 2f64.ln() / 6.0),
        ] {
            let (targets, weights) = (tensor(&targets), weights.map(|weights| tensor(&weights)));
            for outputs in outputs {
                let scores = scores(&gpu, &mut Evaluation::binary(&gpu).unwrap(), |evaluation, batch| {
                    evaluation.record_binary(batch, outputs, &targets, weights.as_ref())
                });
                if want.is_finite() {
                    near(scores.log_loss(), want, 1e-6);
                } else {
                    assert_eq!(scores.log_loss(), want, "{outputs:?}");
                }
            }
        }
    }
}

#[test]
fn weighted_binary_outputs() {
    let Some(gpu) = gpu() else { return };
    let n = 3000;
    let logits = random(1, n, 4.0);
    let targets: Vec<f32> = labels(2, n, 2).iter().map(|&label| label as f32).collect();
    let weights: Vec<f32> = unit(3, n).iter().map(|&w| if w < 0.2 { 0.0 } else { w }).collect();
    let rows = || logits.iter().zip(&targets).zip(&weights).map(|((&x, &y), &w)| (f64::from(x), y, f64::from(w)));
    let total: f64 = rows().map(|(.., w)| w).sum();
    let loss: f64 = rows().map(|(x, y, w)| w * f64::ln_1p((if y == 1.0 { -x } else { x }).exp())).sum();
    let cell = |t: f32, p: bool| rows().filter(|&(x, y, _)| y == t && (x > 0.0) == p).map(|(.., w)| w).sum::<f64>();
    for gpu in devices(&gpu) {
        let tensor = |values: &[f32]| Tensor::from_slice(&gpu, [n], values).unwrap();
        let [x, y, w] = [&logits, &targets, &weights].map(|values| tensor(values));
        let p = tensor(&logits.iter().map(|&x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32).collect::<Vec<_>>());
        for outputs in [BinaryOutputs::Logits(&x), BinaryOutputs::Probabilities(&p)] {
            let scores = scores(&gpu, &mut Evaluation::binary(&gpu).unwrap(), |evaluation, batch| {
                evaluation.record_binary(batch, outputs, &y, Some(&w))
            });
            let confusion = scores.confusion().unwrap();
            for (t, p) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                near(confusion.count(t, p), cell(t as f32, p == 1), 1e-12);
            }
            near(scores.accuracy(), (cell(0.0, false) + cell(1.0, true)) / total, 1e-12);
            assert_eq!((scores.accuracy(), scores.top_k_accuracy(2)), (scores.top_k_accuracy(1), 1.0));
            near(scores.log_loss(), loss / total, 1e-6);
        }
    }
}

#[test]
fn bad_data_is_reported_with_its_record_and_position() {
    let Some(gpu) = gpu() else { return };
    let n = 2500;
    let (ones, zeros) = (vec![1.0; n], vec![0.0; n]);
    let with = |values: &[f32], at: &[usize], bad: f32| {
        let mut values = values.to_vec();
        at.iter().for_each(|&at| values[at] = bad);
        values
    };
    let fine = (ones.clone(), ones.clone(), ones.clone());
    for gpu in devices(&gpu) {
        let tensor = |values: &[f32]| Tensor::from_slice(&gpu, [n], values).unwrap();
        let mut cases = Vec::new();
        for bad in [0.5, -1.0, 2.0, f32::NAN, f32::INFINITY] {
            cases.push((false, (zeros.clone(), with(&ones, &[2400, 1300], bad), ones.clone()), 1300));
        }
        for bad in [1.5, -0.5, f32::INFINITY] {
            cases.push((true, (with(&ones, &[7, 2499], bad), zeros.clone(), ones.clone()), 7));
        }
        for bad in [-1.0, f32::NAN, 2147483900.0, f32::INFINITY] {
            cases.push((true, (zeros.clone(), ones.clone(), with(&ones, &[2499], bad)), 2499));
        }
        for (probabilities, bad, want) in cases {
            let mut evaluation = Evaluation::binary(&gpu).unwrap();
            // A later record has bad data at an earlier position.
            let later = (zeros.clone(), with(&ones, &[0], 0.5), ones.clone());
            let error = try_scores(&gpu, &mut evaluation, |evaluation, batch| {
                [&fine, &fine, &bad, &later, &fine].iter().try_for_each(|(x, y, w)| {
                    let (x, y, w) = (tensor(x), tensor(y), tensor(w));
                    let outputs =
                        if probabilities { BinaryOutputs::Probabilities(&x) } else { BinaryOutputs::Logits(&x) };
                    evaluation.record_binary(batch, outputs, &y, Some(&w))
                })
            });
            let error = error.unwrap_err();
            let fits = matches!(error, Error::Data { position, record: Some(2), .. } if position == want);
            assert!(fits, "{want}: {error}");
            assert!(error.to_string().contains(&format!("at flat position {want} of record 2")), "{error}");
            // A reset forgets the bad data.
            evaluation.reset().unwrap();
            let scores = scores(&gpu, &mut evaluation, |evaluation, batch| {
                evaluation.record_binary(batch, BinaryOutputs::Probabilities(&tensor(&ones)), &tensor(&ones), None)
            });
            assert_eq!((scores.log_loss(), scores.counted()), (0.0, n as u64));
        }
        // Rows of logits.
        let x = Tensor::from_slice(&gpu, [n, 2], &random(1, 2 * n, 1.0)).unwrap();
        let mut targets = vec![1; n];
        (targets[1200], targets[1250], targets[3]) = (2, -1, -100);
        let y = Tensor::from_slice(&gpu, [n], &targets).unwrap();
        // The weight of an ignored row is not checked.
        let w = tensor(&with(&ones, &[3], -1.0));
        let mut evaluation = Evaluation::new(&gpu, 2).unwrap();
        let error = try_scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, Some(&w)));
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Data { position: 1200, record: Some(0), .. }), "{error}");
        let w = tensor(&with(&ones, &[4], -1.0));
        evaluation.reset().unwrap();
        let error = try_scores(&gpu, &mut evaluation, |evaluation, batch| evaluation.record(batch, &x, &y, Some(&w)));
        assert!(matches!(error, Err(Error::Data { position: 4, record: Some(0), .. })));
    }
}

#[test]
fn wrong_calls_are_typed_errors() {
    let Some(gpu) = gpu() else { return };
    let mut batch = gpu.batch();
    let x = Tensor::from_slice(&gpu, [4, 3], &[0.0f32; 12]).unwrap();
    let y = Tensor::<i32>::zeros(&gpu, [4]).unwrap();
    let mut evaluation = Evaluation::new(&gpu, 3).unwrap();
    let before = gpu.counters().dispatches;
    for wrong in [[3, 4], [12, 1], [1, 12]] {
        let result = evaluation.record(&mut batch, &x.reshape(wrong).unwrap(), &y, None);
        assert!(matches!(result, Err(Error::Shape { what: "logits", .. })), "{result:?}");
    }
    let weights = Tensor::from_slice(&gpu, [3], &[1.0f32; 3]).unwrap();
    let result = evaluation.record(&mut batch, &x, &y, Some(&weights));
    assert!(matches!(result, Err(Error::Shape { what: "sample_weight", .. })), "{result:?}");
    let result = evaluation.record(&mut batch, &x, &x, None);
    assert!(matches!(result, Err(Error::Value { what: "targets", .. })), "{result:?}");
    let mut binary = Evaluation::binary(&gpu).unwrap();
    let result = binary.record_binary(&mut batch, BinaryOutputs::Logits(&x), &weights, None);
    assert!(matches!(result, Err(Error::Shape { what: "targets", .. })), "{result:?}");
    let result = binary.record_binary(&mut batch, BinaryOutputs::Logits(&x), &x, Some(&weights));
    assert!(matches!(result, Err(Error::Shape { what: "sample_weight", .. })), "{result:?}");
    assert_eq!(gpu.counters().dispatches, before, "nothing is recorded");
}
