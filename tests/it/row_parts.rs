//! A few long rows, each shared by several workgroups.

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, Reduction, Targets};
use xent::{Caps, Error, Family, Gpu, Tensor, Weights, cpu};

/// The GPU family with the largest and with the smallest grids, which must return the same bits.
fn gpus(gpu: &Gpu) -> [Gpu; 2] {
    [u32::MAX, 3].map(|most| {
        let max_groups = most.min(gpu.caps().max_groups);
        gpu.with_caps(Caps { family: Family::Gpu, max_groups, ..gpu.caps().clone() }).unwrap()
    })
}

fn dispatches<T>(gpu: &Gpu, run: impl FnOnce() -> T) -> (T, u64) {
    let before = gpu.counters().dispatches;
    let result = run();
    (result, gpu.counters().dispatches - before)
}

/// Targets in the first, the last and other parts of rows; an ignored row, and rows of one value
/// and with infinities.
#[test]
fn cross_entropy_of_rows_in_parts() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(7);
    for classes in [12_000, 20_000, 33_001] {
        let rows = 6;
        let mut logits = random(1, rows * classes, 4.0);
        logits[2 * classes..3 * classes].fill(1.5);
        logits[3 * classes..4 * classes - 5].fill(f32::NEG_INFINITY);
        logits[4 * classes + 11_000] = 40.0;
        let last = classes as i64 - 1;
        let targets = [0, last, 4097, last - 1, 11_000, -100];
        let base = CrossEntropy::new().reduction(Reduction::None);
        for options in [
            base.clone(),
            base.clone().reduction(Reduction::Mean).z_loss(0.1),
            base.clone().logit_scale(0.5).weight(Weights::from(unit(4, classes))),
            base.softcap(6.0).reduction(Reduction::Sum),
        ]
        .into_iter()
        .filter(|_| chosen())
        {
            let want = cpu::cross_entropy_backward((&logits, &[rows, classes]), &targets, &options, None).unwrap();
            let mut first: Option<[Vec<f32>; 3]> = None;
            for gpu in gpus(&gpu) {
                let y = Targets::new(&gpu, [rows], &targets, classes).unwrap();
                let x = Tensor::from_slice(&gpu, [rows, classes], &logits).unwrap();
                let (out, passes) = dispatches(&gpu, || {
                    eval(&gpu, |b| {
                        let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
                        // In place, after the last use of the logits.
                        let in_place = b.cross_entropy_with(&x, &y, &options, Grad::InPlace)?.loss;
                        Ok([out.loss.clone(), out.gradient()?, in_place])
                    })
                });
                assert!(passes >= 6, "{passes} dispatches: rows were not cut");
                let [over] = eval(&gpu, |_| Ok([x.clone()]));
                let what = format!("{classes} classes, {options:?}");
                same_bits(&what, &out[1], &over);
                same_bits(&what, &out[0], &out[2]);
                close(&format!("loss, {what}"), &out[0], &want.loss, 1e-6, 1e-6);
                close(&format!("grad, {what}"), &out[1], &want.grad, 3e-6, 1e-9);
                if let Some(first) = &first {
                    for (a, b) in out.iter().zip(first) {
                        same_bits(&what, a, b);
                    }
                }
                first = Some(out);
            }
        }
    }
}

/// NaN or infinity in one part makes the whole row NaN, and no other row; a target that is not a
/// class is reported.
#[test]
fn nan_in_one_part_poisons_the_row() {
    let Some(gpu) = gpu() else { return };
    let [gpu, _] = gpus(&gpu);
    let (rows, classes) = (4, 20_000);
    for (at, value) in [(0, f32::NAN), (19_999, f32::INFINITY), (9000, f32::NAN)] {
        let mut logits = random(1, rows * classes, 4.0);
        logits[classes + at] = value;
        let x = Tensor::from_slice(&gpu, [rows, classes], &logits).unwrap();
        let y = Targets::new(&gpu, [rows], &[5, 15_000, 7, 19_999], classes).unwrap();
        let options = CrossEntropy::new().reduction(Reduction::None);
        let [loss, grad, p] = eval(&gpu, |b| {
            let out = b.cross_entropy_with(&x, &y, &options, Grad::New)?;
            Ok([out.loss.clone(), out.gradient()?, b.softmax(&x, 1)?])
        });
        for row in 0..rows {
            let spoilt = row == 1;
            assert_eq!(loss[row].is_nan(), spoilt, "loss of row {row}");
            for values in [&grad, &p] {
                let values = &values[row * classes..(row + 1) * classes];
                assert!(values.iter().all(|v| v.is_nan() == spoilt), "row {row}");
            }
        }
    }
    let x = Tensor::from_slice(&gpu, [1, classes], &random(1, classes, 4.0)).unwrap();
    let y = Tensor::from_slice(&gpu, [1], &[20_000i32]).unwrap();
    let mut batch = gpu.batch();
    let out = batch.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::New).unwrap();
    let mut loss = batch.read(&out.loss).unwrap();
    batch.submit().unwrap();
    assert!(matches!(loss.wait(TIMEOUT), Err(Error::Data { .. })));
}

#[test]
fn maps_of_rows_in_parts() {
    let Some(gpu) = gpu() else { return };
    for classes in [12_000, 33_001] {
        let logits = random(3, 2 * classes, 6.0);
        let mut first: Option<[Vec<f32>; 2]> = None;
        for gpu in gpus(&gpu) {
            let x = Tensor::from_slice(&gpu, [2, classes], &logits).unwrap();
            let (out, passes) = dispatches(&gpu, || eval(&gpu, |b| Ok([b.softmax(&x, 1)?, b.log_softmax(&x, 1)?])));
            assert!(passes >= 4, "{passes} dispatches: rows were not cut");
            let want = [cpu::softmax((&logits, &[2, classes]), 1), cpu::log_softmax((&logits, &[2, classes]), 1)];
            for (got, want) in out.iter().zip(want) {
                close(&format!("{classes} classes"), got, &want.unwrap(), 1e-6, 1e-6);
            }
            if let Some(first) = &first {
                for (a, b) in out.iter().zip(first) {
                    same_bits("cut", a, b);
                }
            }
            first = Some(out);
        }
    }
}
