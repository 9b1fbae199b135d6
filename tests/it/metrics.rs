//! Metrics against values of scikit-learn 1.9.1, and data tables.

use crate::common::*;
use xent::data::{Feed, Table, batches, shuffled};
use xent::loss::Targets;
use xent::metrics::{Average, BinaryOutputs, Confusion, Evaluation, average_precision, roc_auc, roc_curve};
use xent::state::State;
use xent::{Error, Tensor, cpu};

#[track_caller]
fn near(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-14, "{got} instead of {want}");
}

#[test]
fn precision_recall_and_f1_are_scikit_learns() {
    let targets = [0, 1, 2, 2, 1, 0, 3, 3, 1, 0, 2, 3];
    let predicted = [0, 2, 2, 2, 1, 1, 3, 0, 1, 0, 1, 3];
    let confusion = Confusion::of(4, &targets, &predicted, None).unwrap();
    near(confusion.accuracy(), 2.0 / 3.0);
    let rows: Vec<f64> = (0..4).flat_map(|t| (0..4).map(move |p| (t, p))).map(|(t, p)| confusion.count(t, p)).collect();
    assert_eq!(rows, [2, 1, 0, 0, 0, 2, 1, 0, 0, 1, 2, 0, 1, 0, 0, 2].map(f64::from));
    // Class 3 does not occur, class 4 is never predicted, class 2 never the target.
    let sparse = Confusion::of(5, &[0, 0, 1, 1, 4], &[0, 1, 1, 1, 2], None).unwrap();
    for (confusion, average, precision, recall, f1) in [
        (&confusion, Average::Macro, 0.7083333333333333, 0.6666666666666666, 0.6761904761904762),
        (&confusion, Average::Micro, 0.6666666666666666, 0.6666666666666666, 0.6666666666666666),
        (&confusion, Average::Weighted, 0.7083333333333334, 0.6666666666666666, 0.6761904761904761),
        (&sparse, Average::Macro, 0.41666666666666663, 0.375, 0.3666666666666667),
        (&sparse, Average::Micro, 0.6, 0.6, 0.6),
        (&sparse, Average::Weighted, 0.6666666666666666, 0.6, 0.5866666666666667),
        (&sparse, Average::Binary(4), 0.0, 0.0, 0.0),
    ] {
        near(confusion.precision(average), precision);
        near(confusion.recall(average), recall);
        near(confusion.f1(average), f1);
    }
    let binary = Confusion::of(2, &[0, 1, 1, 0, 1], &[0, 0, 1, 1, 1], None).unwrap();
    near(binary.precision(Average::Binary(1)), 2.0 / 3.0);
    near(binary.recall(Average::Binary(0)), 0.5);
    near(binary.f1(Average::Binary(0)), 0.5);
    assert_eq!(Confusion::of(2, &[], &[], None).unwrap().accuracy(), 0.0);
    assert!(Confusion::of(2, &[0], &[0, 1], None).is_err() && Confusion::of(2, &[2], &[0], None).is_err());
}

#[test]
fn rankings_are_scikit_learns() {
    let scores = [0.5, 0.25, 0.75, 0.5, 0.5, 0.125, 1.0, 0.75, 0.25, 0.0, 0.5, 0.875];
    let positive = [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1].map(|label| label == 1);
    near(roc_auc(&scores, &positive, None).unwrap(), 0.7777777777777778);
    near(average_precision(&scores, &positive, None).unwrap(), 0.7666666666666666);
    let curve = roc_curve(&scores, &positive, None).unwrap();
    let thresholds: Vec<f32> = curve.iter().map(|point| point.threshold).collect();
    assert_eq!(thresholds, [f32::INFINITY, 1.0, 0.875, 0.75, 0.5, 0.25, 0.125, 0.0]);
    let sixths =
        |f: fn(&xent::metrics::RocPoint) -> f64| curve.iter().map(|p| (f(p) * 6.0).round()).collect::<Vec<_>>();
    assert_eq!(sixths(|p| p.false_positive_rate), [0.0, 0.0, 0.0, 1.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(sixths(|p| p.true_positive_rate), [0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 6.0, 6.0]);
    // Equal scores count half; without both classes there is no area.
    near(roc_auc(&[0.0, -0.0, 0.0, 0.0], &[true, false, true, false], None).unwrap(), 0.5);
    assert!(roc_auc(&[0.1, 0.2], &[true, true], None).unwrap().is_nan());
    assert_eq!(average_precision(&[0.1, 0.2], &[false, false], None).unwrap(), 0.0);
    assert!(matches!(roc_auc(&[f32::NAN], &[true], None), Err(Error::Value { .. })));
    assert!(matches!(roc_auc(&[0.5], &[], None), Err(Error::Shape { .. })));
}

#[test]
fn counters_on_the_gpu_are_scikit_learns() {
    let Some(gpu) = gpu() else { return };
    for gpu in devices(&gpu) {
        let logits: [[f32; 4]; 6] =
            [[1., 2., 2., 0.], [3., 1., 0., 0.], [0.; 4], [5., 4., 3., 2.], [1., 1., 2., 3.], [9., 9., 9., 9.]];
        let x = Tensor::from_slice(&gpu, [6, 4], logits.as_flattened()).unwrap();
        let y = Targets::new(&gpu, [6], &[1, 0, 2, 3, 1, -100], 4).unwrap();
        let mut evaluation = Evaluation::new(&gpu, 4).and_then(Evaluation::with_confusion).unwrap();
        for round in 1..=2 {
            let mut batch = gpu.batch();
            // Two records per round; the second round adds to the first.
            evaluation.record(&mut batch, &x.rows(0..2).unwrap(), y.rows(0..2).unwrap(), None).unwrap();
            evaluation.record(&mut batch, &x.rows(2..6).unwrap(), y.rows(2..6).unwrap(), None).unwrap();
            let mut ticket = evaluation.read(&mut batch).unwrap();
            batch.submit().unwrap();
            let scores = ticket.wait(TIMEOUT).unwrap();
            assert_eq!(scores.counted(), 5 * round);
            assert_eq!([1, 2, 3, 4].map(|k| scores.top_k_accuracy(k)), [0.2, 0.6, 0.8, 1.0]);
            assert!((scores.log_loss() - 1.6897738375161395).abs() < 1e-6);
            // Of equal logits, the first is predicted.
            let want = Confusion::of(4, &[1, 0, 2, 3, 1], &[1, 0, 0, 0, 3], None).unwrap();
            let doubled = |t, p| want.count(t, p) * round as f64;
            let confusion = scores.confusion().expect("asked for");
            assert!((0..16).all(|i| confusion.count(i / 4, i % 4) == doubled(i / 4, i % 4)));
            assert_eq!((scores.accuracy(), confusion.accuracy()), (0.4, 0.4));
        }
        evaluation.reset().unwrap();
        let mut batch = gpu.batch();
        let mut ticket = evaluation.read(&mut batch).unwrap();
        batch.submit().unwrap();
        let scores = ticket.wait(TIMEOUT).unwrap();
        assert!(scores.counted() == 0 && scores.accuracy().is_nan() && scores.log_loss().is_nan());
        assert_eq!(scores.confusion().expect("asked for").total(), 0.0);
        assert!(evaluation.record(&mut gpu.batch(), &x.reshape([3, 8]).unwrap(), &y, None).is_err());
    }
}

/// A metric of scores, labels and sample weights.
type Metric = fn(&[f32], &[bool], Option<&[f32]>) -> xent::Result<f64>;

/// An integer weight means repeating a row, and a weight of 0 leaving it out.
#[test]
fn rankings_with_weights_are_those_of_repeated_rows() {
    let mut rng = fastrand::Rng::with_seed(3);
    for n in [1, 2, 7, 60] {
        // Few scores, so that many are equal.
        let scores: Vec<f32> = (0..n).map(|_| rng.u8(0..8).into()).collect();
        let positive: Vec<bool> = (0..n).map(|_| rng.bool()).collect();
        let weights: Vec<f32> = (0..n).map(|_| rng.u8(0..4).into()).collect();
        let repeated = (0..n).flat_map(|i| std::iter::repeat_n((scores[i], positive[i]), weights[i] as usize));
        let (all_scores, all_positive): (Vec<f32>, Vec<bool>) = repeated.unzip();
        for metric in [roc_auc as Metric, average_precision] {
            let got = metric(&scores, &positive, Some(&weights)).unwrap();
            let want = metric(&all_scores, &all_positive, None).unwrap();
            assert!(got.is_nan() && want.is_nan() || got == want, "{n}: {got} instead of {want}");
            // Only the ratios of weights matter.
            let smaller: Vec<f32> = weights.iter().map(|w| w / 1024.0).collect();
            assert_eq!(metric(&scores, &positive, Some(&smaller)).unwrap().to_bits(), got.to_bits());
            let ones = vec![1.0; n];
            let unweighted = metric(&scores, &positive, None).unwrap();
            assert_eq!(metric(&scores, &positive, Some(&ones)).unwrap().to_bits(), unweighted.to_bits());
        }
        let curve = roc_curve(&scores, &positive, Some(&weights)).unwrap();
        let want = roc_curve(&all_scores, &all_positive, None).unwrap();
        assert_eq!(format!("{curve:?}"), format!("{want:?}"));
    }
}

/// Compares with sums over pairs and thresholds, by definition.
#[test]
fn rankings_with_weights_follow_the_definitions() {
    let mut rng = fastrand::Rng::with_seed(4);
    let n = 80;
    let scores: Vec<f32> = (0..n).map(|_| f32::from(rng.u8(0..20)) / 4.0).collect();
    let positive: Vec<bool> = (0..n).map(|_| rng.bool()).collect();
    let weights: Vec<f32> = (0..n).map(|i| if i % 5 == 0 { 0.0 } else { rng.f32() * 10.0 }).collect();
    let w = |i: usize| f64::from(weights[i]);
    let (positives, negatives): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| positive[i]);
    let (mut above, mut all) = (0.0, 0.0);
    for &i in &positives {
        for &j in &negatives {
            let order = if scores[i] > scores[j] {
                1.0
            } else if scores[i] == scores[j] {
                0.5
            } else {
                0.0
            };
            above += w(i) * w(j) * order;
            all += w(i) * w(j);
        }
    }
    near(roc_auc(&scores, &positive, Some(&weights)).unwrap(), above / all);
    // Each positive adds its share of the recall at its own threshold.
    let precision = |threshold: f32| {
        let taken = |of: &[usize]| of.iter().filter(|&&i| scores[i] >= threshold).map(|&i| w(i)).sum::<f64>();
        taken(&positives) / (taken(&positives) + taken(&negatives))
    };
    let recall: f64 = positives.iter().map(|&i| w(i)).sum();
    let counted = positives.iter().filter(|&&i| w(i) > 0.0);
    let want: f64 = counted.map(|&i| w(i) / recall * precision(scores[i])).sum();
    near(average_precision(&scores, &positive, Some(&weights)).unwrap(), want);
    // By hand: the positive above the negative has weight 2 of the positives' 3.
    near(roc_auc(&[3.0, 2.0, 1.0, 9.0], &[true, false, true, false], Some(&[2.0, 3.0, 1.0, 0.0])).unwrap(), 2.0 / 3.0);
    let ap = average_precision(&[3.0, 2.0, 1.0, 9.0], &[true, false, true, false], Some(&[2.0, 3.0, 1.0, 0.0]));
    near(ap.unwrap(), 2.0 / 3.0 + 1.0 / 3.0 * 0.5);
    assert!(roc_auc(&[0.1, 0.2], &[true, false], Some(&[1.0, 0.0])).unwrap().is_nan());
    assert_eq!(average_precision(&[0.1, 0.2], &[true, false], Some(&[0.0, 1.0])).unwrap(), 0.0);
    for bad in [f32::NAN, -1.0, f32::INFINITY] {
        let error = roc_auc(&[0.1, 0.2], &[true, false], Some(&[1.0, bad])).unwrap_err();
        assert!(matches!(error, Error::Value { what: "a sample weight", .. }), "{error}");
    }
    assert!(matches!(roc_auc(&[0.1], &[true], Some(&[])), Err(Error::Shape { what: "sample_weight", .. })));
}

#[test]
fn confusion_matrices_take_weights() {
    let (targets, predicted) = ([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3]);
    let weighted = Confusion::of(4, &targets, &predicted, Some(&[1.0, 2.0, 3.0, 1.0, 0.5, 0.0])).unwrap();
    assert_eq!(
        [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (3, 3)].map(|(t, p)| weighted.count(t, p)),
        [1., 2., 3., 1., 0.5, 0.]
    );
    near(weighted.total(), 7.5);
    near(weighted.accuracy(), 4.5 / 7.5);
    near(weighted.recall(Average::Binary(0)), 1.0 / 3.0);
    near(weighted.precision(Average::Binary(1)), 3.0 / 5.0);
    near(weighted.f1(Average::Binary(2)), 2.0 * 0.5 / (1.5 + 0.5));
    // Class 3 occurs only in a row of weight 0: scikit-learn includes it in the mean, with 0 for
    // 0 / 0.
    near(weighted.recall(Average::Macro), (1.0 / 3.0 + 3.0 / 4.0 + 1.0) / 4.0);
    near(weighted.recall(Average::Weighted), (3.0 * (1.0 / 3.0) + 4.0 * (3.0 / 4.0) + 0.5) / 7.5);
    near(weighted.precision(Average::Micro), 4.5 / 7.5);
    let error = Confusion::of(2, &[0, 1], &[0, 1], Some(&[1.0, f32::NAN])).unwrap_err();
    assert!(error.to_string().contains("NaN at position 1"), "{error}");
}

#[test]
fn tables_from_csv() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.csv");
    let read = |text: &[u8], skip| {
        std::fs::write(&path, text).unwrap();
        Table::read_csv(&path, skip)
    };
    let table = read(b"a,b\n 1.5, -2e3\n3,4\n", 1).unwrap();
    assert_eq!((table.rows(), table.columns(), table.values()), (2, 2, &[1.5, -2e3, 3.0, 4.0][..]));
    for (text, at, says) in [
        (&b"1,2\n3,x\n"[..], "line 2, column 2", "expected a finite number, got \"x\""),
        (b"1,2\n3,NaN\n", "line 2, column 2", "expected a finite number, got \"NaN\""),
        (b"1,2\n3\n", "line 2, column 2", "expected 2 columns, as in the first row, got 1"),
        (b"1,2\n3,4,5\n", "line 2, column 3", "expected 2 columns, as in the first row, got 3"),
        (b"1,2\n3,\xff\n", "line 2, column 2", "expected UTF-8 text, got other bytes"),
        (b"1,2\r\n3,4\r\n5,x\r\n", "line 3, column 2", "expected a finite number, got \"x\""),
        (b"1,2\n\n\n3,x\n", "line 4, column 2", "expected a finite number, got \"x\""),
        (b"", "line 1, column 1", "expected at least one row of numbers, got none"),
    ] {
        let error = read(text, 0).unwrap_err().to_string();
        assert!(error.ends_with(&format!("t.csv, {at}: {says}")), "{error}");
    }
    // The contents of a header are ignored, but its lines count.
    assert_eq!(read(b"gr\xf6sse,b\n1,2\n", 1).unwrap().values(), [1.0, 2.0]);
    assert_eq!(read(b"\na,b\n1,2\n3,4\n", 2).unwrap().values(), [1.0, 2.0, 3.0, 4.0]);
    let error = read(b"a,b\n1,2\n3,x\n", 1).unwrap_err().to_string();
    assert!(error.contains("line 3, column 2"), "{error}");
    assert!(read(b"a,b\n", 1).is_err() && read(b"a,b", 3).is_err());
    assert!(matches!(Table::read_csv(directory.path().join("none"), 0), Err(Error::File { .. })));
}

#[test]
fn tables_are_split_shuffled_and_standardised() {
    let values: Vec<f32> = (0..30).map(|i| (i * i) as f32).collect();
    let table = Table::new(3, values).unwrap();
    let (mut x, y) = table.split_columns(2).unwrap();
    assert_eq!((x.rows(), x.columns(), y.columns()), (10, 2, 1));
    assert_eq!(y.select(&[0, 9]).unwrap().values(), [4.0, 841.0]);
    assert_eq!(y.select(&[0, 99]).unwrap_err().to_string(), "Table::select: a row must be in 0..10, got 99");
    x.standardisation().apply(&mut x).unwrap();
    for column in 0..2 {
        let column: Vec<f64> = x.values().iter().skip(column).step_by(2).map(|&v| f64::from(v)).collect();
        assert!(column.iter().sum::<f64>().abs() < 1e-5);
        assert!((column.iter().map(|v| v * v).sum::<f64>() / 10.0 - 1.0).abs() < 1e-5);
    }
    let constant = Table::new(1, vec![5.0; 4]).unwrap();
    let mut moved = constant.clone();
    constant.standardisation().apply(&mut moved).unwrap();
    assert_eq!(moved.values(), [0.0; 4]);
    assert!(constant.standardisation().apply(&mut x).is_err());
    assert!(Table::new(0, vec![]).is_err() && Table::new(2, vec![1.0; 3]).is_err());
    assert!(table.split_columns(0).is_err() && table.split_columns(3).is_err());
    assert_eq!(Table::new(1, vec![0.0, 2.0]).unwrap().classes(3).unwrap(), [0, 2]);
    for bad in [-1.0, 0.5, 3.0, f32::NAN] {
        assert!(matches!(Table::new(1, vec![bad]).unwrap().classes(3), Err(Error::Value { .. })), "{bad}");
    }

    let order = shuffled(100, 5).unwrap();
    assert!(order == shuffled(100, 5).unwrap() && order != shuffled(100, 6).unwrap());
    let all = |epoch| batches(&order, 32, 1, epoch).expect("a size").collect::<Vec<_>>();
    assert_eq!(all(0).iter().map(Vec::len).collect::<Vec<_>>(), [32, 32, 32, 4]);
    assert!(all(3) == all(3) && all(3) != all(4));
    let mut seen = all(3).concat();
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_feed_uploads_rows_and_refuses_more_than_it_holds() {
    let Some(gpu) = gpu() else { return };
    let table = Table::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    let mut feed = Feed::new(&gpu, 2, 2).unwrap();
    let mut batch = gpu.batch();
    let first = feed.load(&mut batch, &table, &[1]).unwrap();
    let mut a = batch.read(&first).unwrap();
    let second = feed.load(&mut batch, &table, &[0, 1]).unwrap();
    let mut b = batch.read(&second).unwrap();
    assert!(feed.load(&mut batch, &table, &[0, 1, 0]).is_err());
    assert!(matches!(feed.load(&mut batch, &table, &[9]), Err(Error::Value { .. })));
    let wide = Table::new(4, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    assert!(matches!(feed.load(&mut batch, &wide, &[0, 99]), Err(Error::Shape { .. })));
    batch.submit().unwrap();
    assert_eq!((a.wait(TIMEOUT).unwrap(), b.wait(TIMEOUT).unwrap()), (vec![3.0, 4.0], vec![1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn rows_without_a_softmax_are_mistakes() {
    let Some(gpu) = gpu() else { return };
    let nan = f32::NAN;
    let logits = [nan, nan, nan, 0.0, 0.0, nan, f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 5.0];
    let x = Tensor::from_slice(&gpu, [4, 3], &logits).unwrap();
    let y = Targets::new(&gpu, [4], &[0, 1, 0, 2], 3).unwrap();
    let mut evaluation = Evaluation::new(&gpu, 3).and_then(Evaluation::with_confusion).unwrap();
    let mut batch = gpu.batch();
    evaluation.record(&mut batch, &x, &y, None).unwrap();
    let mut ticket = evaluation.read(&mut batch).unwrap();
    batch.submit().unwrap();
    let scores = ticket.wait(TIMEOUT).unwrap();
    let confusion = scores.confusion().expect("asked for");
    assert_eq!((scores.counted(), confusion.total(), confusion.unclassified()), (4, 4.0, 3.0));
    assert_eq!([1, 2, 3, 9].map(|k| scores.top_k_accuracy(k)), [0.25; 4]);
    assert_eq!((confusion.accuracy(), confusion.recall(Average::Binary(0))), (0.25, 0.0));
    assert!(scores.log_loss().is_nan());
}

#[test]
fn binary_outputs_are_counted_on_the_gpu() {
    let Some(gpu) = gpu() else { return };
    for gpu in devices(&gpu) {
        let n = 5000;
        let mut logits = random(1, n, 2.0);
        logits[7] = 0.0;
        let probabilities: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        let targets: Vec<f32> = labels(2, n, 2).iter().map(|&label| label as f32).collect();
        let [x, p, y] = [&logits, &probabilities, &targets].map(|v| Tensor::from_slice(&gpu, [n, 1], v).unwrap());
        let classes = |values: &[f32], threshold: f32| -> Vec<usize> {
            values.iter().map(|&value| usize::from(value > threshold)).collect()
        };
        let want = Confusion::of(2, &classes(&targets, 0.5), &classes(&logits, 0.0), None).unwrap();
        for outputs in [BinaryOutputs::Logits(&x), BinaryOutputs::Probabilities(&p)] {
            let mut evaluation = Evaluation::binary(&gpu).unwrap();
            let mut batch = gpu.batch();
            evaluation.record_binary(&mut batch, outputs, &y, None).unwrap();
            let mut ticket = evaluation.read(&mut batch).unwrap();
            batch.submit().unwrap();
            let scores = ticket.wait(TIMEOUT).unwrap();
            assert_eq!(scores.confusion(), Some(&want));
            assert_eq!((scores.counted(), scores.top_k_accuracy(1)), (n as u64, want.accuracy()));
            let loss = cpu::bce_with_logits((&logits, &[n]), (&targets, &[n]), &Default::default()).unwrap()[0];
            assert!((scores.log_loss() - loss).abs() < 1e-6 * loss, "{} {loss}", scores.log_loss());
        }
        let nan = Tensor::from_slice(&gpu, [3], &[f32::NAN, 1.0, 1.0]).unwrap();
        let y = Tensor::from_slice(&gpu, [3], &[1.0, 0.0, 1.0]).unwrap();
        let mut evaluation = Evaluation::binary(&gpu).unwrap();
        let mut batch = gpu.batch();
        evaluation.record_binary(&mut batch, BinaryOutputs::Logits(&nan), &y, None).unwrap();
        let mut ticket = evaluation.read(&mut batch).unwrap();
        batch.submit().unwrap();
        let scores = ticket.wait(TIMEOUT).unwrap();
        let confusion = scores.confusion().expect("asked for");
        assert_eq!((scores.counted(), confusion.unclassified(), confusion.count(0, 1)), (3, 1.0, 1.0));
        let mut three = Evaluation::new(&gpu, 3).unwrap();
        assert!(three.record_binary(&mut gpu.batch(), BinaryOutputs::Logits(&nan), &y, None).is_err());
    }
}

#[test]
fn an_evaluation_takes_no_memory_batch_after_batch_and_survives_one_that_is_dropped() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&gpu, [2, 3], &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
    let y = Targets::new_ignoring(&gpu, [2], &[0, 255], 3, 255).unwrap();
    let mut evaluation = Evaluation::new(&gpu, 3).and_then(Evaluation::with_confusion).unwrap();
    let mut created = Vec::new();
    for i in 0..30 {
        let mut batch = gpu.batch();
        evaluation.record(&mut batch, &x, &y, None).unwrap();
        if i != 20 {
            batch.submit().unwrap();
        }
        created.push(gpu.counters().buffers_created);
    }
    assert_eq!(created[5], created[29], "no buffer after the first steps");
    let mut batch = gpu.batch();
    let mut ticket = evaluation.read(&mut batch).unwrap();
    batch.submit().unwrap();
    let scores = ticket.wait(TIMEOUT).unwrap();
    assert_eq!((scores.counted(), scores.confusion().map(|c| c.count(0, 0))), (29, Some(29.0)));
    let want = (1.0 + 2.0 * (-1f64).exp()).ln();
    assert!((scores.log_loss() - want).abs() < 1e-5, "{}", scores.log_loss());
}

/// Written by the Python package `safetensors` 0.8 with `save_file`.
#[test]
fn a_file_that_python_wrote() {
    let state = State::from_bytes(include_bytes!("../data/python.safetensors")).unwrap();
    assert_eq!(state.names().collect::<Vec<_>>(), ["linear.bias", "linear.weight"]);
    let (shape, values) = state.get("linear.weight").unwrap();
    assert_eq!((&shape[..], values), (&[2, 3][..], &[0.5, -1.25, 3.0, 2.0, 0.125, -7.5][..]));
    assert_eq!((state.get("linear.bias").unwrap().1, state.note("format")), (&[1.0, -2.0][..], Some("pt")));
    let again = State::from_bytes(&state.to_bytes().unwrap()).unwrap();
    assert_eq!(again, state);
}
