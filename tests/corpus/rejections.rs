//! Inputs that PyTorch rejects (`errors.json`), and inputs that it surprisingly accepts.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Mse, Nll, Reduction, Targets};
use xent::optim::{Momentum, Sgd};
use xent::{Error, Gpu, Tensor, Weights, cpu};

use crate::TIMEOUT;

/// A case of `errors.json`.
pub(crate) struct Rejection {
    pub(crate) name: String,
    raises: bool,
    /// PyTorch's result if it does not raise.
    result: Option<f64>,
}

/// Reads the cases of `errors.json`. A folder in `XENT_CORPUS` need not have the file.
pub(crate) fn read(folder: &Path) -> Result<Vec<Rejection>> {
    let path = folder.join("errors.json");
    if !path.exists() {
        eprintln!("{} does not exist: no rejections are tested", path.display());
        return Ok(Vec::new());
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let rejection = |case: &serde_json::Value| {
        let text = |key: &str| case[key].as_str();
        Ok(Rejection {
            name: text("name").context("a case without a name")?.to_owned(),
            raises: case["raises"].as_bool().context("a case without `raises`")?,
            result: text("result").and_then(|result| result.parse().ok()),
        })
    };
    json["cases"].as_array().context("no cases")?.iter().map(rejection).collect()
}

/// An engine's result.
type Answer = Result<f32, Error>;

/// Calls an operation on the GPU and on the CPU reference.
struct Calls<'a> {
    gpu: &'a Gpu,
}

impl Calls<'_> {
    /// Cross-entropy of zeros of shape `[n, classes, ..]` and class indices of shape `rows`.
    fn indices(&self, shape: &[usize], index: &[i64], rows: &[usize], options: &CrossEntropy) -> [Answer; 2] {
        self.ignoring(shape, index, rows, options, Targets::IGNORED)
    }

    fn ignoring(
        &self,
        shape: &[usize],
        index: &[i64],
        rows: &[usize],
        options: &CrossEntropy,
        ignored: i64,
    ) -> [Answer; 2] {
        let zeros = vec![0.0f32; shape.iter().product()];
        let on_gpu = || {
            let y = Targets::new_ignoring(self.gpu, rows, index, shape[1], ignored)?;
            self.recorded(shape, |b, x| b.cross_entropy(x, &y, options))
        };
        let on_cpu =
            || Ok(cpu::cross_entropy((&zeros, shape), cpu::Targets::from(index).ignoring(ignored), options)?[0] as f32);
        [on_gpu(), on_cpu()]
    }

    fn probabilities(&self, shape: &[usize], targets: &[usize], options: &CrossEntropy) -> [Answer; 2] {
        self.probabilities_ignoring(shape, targets, options, Targets::IGNORED)
    }

    fn probabilities_ignoring(
        &self,
        shape: &[usize],
        targets: &[usize],
        options: &CrossEntropy,
        ignored: i64,
    ) -> [Answer; 2] {
        let (zeros, q) = (vec![0.0f32; shape.iter().product()], vec![0.25f32; targets.iter().product()]);
        let on_gpu = || {
            let y = Targets::from(&Tensor::from_slice(self.gpu, targets, &q)?).ignoring(ignored);
            self.recorded(shape, |b, x| b.cross_entropy(x, &y, options))
        };
        let on_cpu =
            || Ok(cpu::cross_entropy((&zeros, shape), cpu::Targets::from(&q).ignoring(ignored), options)?[0] as f32);
        [on_gpu(), on_cpu()]
    }

    fn bce(&self, p: (&[usize], &[f32]), y: (&[usize], &[f32]), options: &Bce) -> [Answer; 2] {
        let on_gpu = || {
            let input = Tensor::probabilities(self.gpu, p.0, p.1)?;
            let targets = Tensor::probabilities(self.gpu, y.0, y.1)?;
            self.recorded(&[1], |b, _| b.bce(&input, &targets, options))
        };
        // The reference gets the input's shape for the targets, too, so it checks only their
        // length.
        let on_cpu = || Ok(cpu::bce((p.1, p.0), (y.1, p.0), options)?[0] as f32);
        [on_gpu(), on_cpu()]
    }

    /// Records a loss of zeros, and checks that a rejected loss records no dispatch.
    fn recorded(
        &self,
        shape: &[usize],
        record: impl FnOnce(&mut xent::Batch, &Tensor<f32>) -> Result<Tensor<f32>, Error>,
    ) -> Answer {
        let x = Tensor::from_slice(self.gpu, shape, &vec![0.0f32; shape.iter().product()])?;
        let mut batch = self.gpu.batch();
        let before = self.gpu.counters().dispatches;
        let loss = record(&mut batch, &x);
        if loss.is_err() {
            assert_eq!(self.gpu.counters().dispatches, before, "nothing is recorded");
        }
        let mut loss = batch.read(&loss?)?;
        batch.submit()?;
        Ok(loss.wait(TIMEOUT)?[0])
    }
}

/// Runs a case on the GPU and on the CPU reference, and compares with PyTorch.
pub(crate) fn check(gpu: &Gpu, case: &Rejection) -> Result<()> {
    let calls = Calls { gpu };
    let ce = CrossEntropy::default();
    let weighted = |len: usize| CrossEntropy::new().weight(Weights::from(vec![1.0; len]));
    let smoothed = |label_smoothing| CrossEntropy::new().label_smoothing(label_smoothing);
    let one = |values: &[f32], targets: &[f32]| calls.bce((&[1], values), (&[1], targets), &Bce::default());
    let sgd = |options: Sgd| {
        let on_gpu = || {
            let x = Tensor::from_slice(gpu, [2], &[1.0f32, 2.0])?;
            let g = Tensor::from_slice(gpu, [2], &[1.0f32, 2.0])?;
            let mut momentum = Momentum::new(gpu, [2])?;
            calls.recorded(&[1], |b, x1| b.sgd(&x, &g, Some(&mut momentum), &options).map(|()| x1.clone()))
        };
        let on_cpu = || cpu::sgd(&mut [1.0, 2.0], &[1.0, 2.0], &mut Vec::new(), &options).map(|()| 0.0);
        [on_gpu(), on_cpu()]
    };
    // The answers, and the strings that an error has to contain.
    let (answers, names): (Vec<Answer>, &[&str]) = match case.name.as_str() {
        "ce_target_too_large" => (calls.indices(&[2, 3], &[0, 5], &[2], &ce).into(), &["0..3", "5 at position 1"]),
        "ce_target_equal_C" => (calls.indices(&[2, 3], &[3, 0], &[2], &ce).into(), &["0..3", "3 at position 0"]),
        "ce_target_negative" => (calls.indices(&[2, 3], &[0, -1], &[2], &ce).into(), &["0..3", "-1 at position 1"]),
        "ce_target_minus100_not_ignored" => {
            (calls.ignoring(&[2, 3], &[-100, 0], &[2], &ce, 1).into(), &["0..3", "-100 at position 0"])
        }
        "ce_batch_mismatch" => (calls.indices(&[3, 4], &[0, 0], &[2], &ce).into(), &["targets", "3", "2"]),
        "ce_spatial_mismatch" => (calls.indices(&[3, 4, 5], &[0; 18], &[3, 6], &ce).into(), &["targets"]),
        "ce_weight_length" => (calls.indices(&[3, 4], &[0; 3], &[3], &weighted(3)).into(), &["weight", "4", "3"]),
        "ce_weight_length_prob" => (calls.probabilities(&[3, 4], &[3, 4], &weighted(3)).into(), &["weight", "4", "3"]),
        "ce_label_smoothing_neg" => {
            // An intended difference: PyTorch treats a negative label smoothing as 0.
            let answers = calls.indices(&[3, 4], &[0; 3], &[3], &smoothed(-0.1));
            for answer in answers {
                let error = answer.err().context("a negative label smoothing is accepted")?.to_string();
                ensure!(error.ends_with("label_smoothing must be in 0..=1, got -0.1"), "{error}");
            }
            return Ok(());
        }
        "ce_label_smoothing_above_1" => {
            (calls.indices(&[3, 4], &[0; 3], &[3], &smoothed(1.1)).into(), &["label_smoothing", "0..=1", "1.1"])
        }
        "ce_ignore_index_prob" => {
            (calls.probabilities_ignoring(&[3, 4], &[3, 4], &ce, 1).into(), &["the ignored index", "below 0", "1"])
        }
        "ce_float_index_target" => (calls.probabilities(&[3, 4], &[3], &ce).into(), &["targets"]),
        "ce_int_prob_target" => (calls.indices(&[3, 4], &[0; 12], &[3, 4], &ce).into(), &["targets"]),
        "ce_zero_classes" => (calls.indices(&[3, 0], &[0; 3], &[3], &ce).into(), &["0..0", "0 at position 0"]),
        "ce_all_ignored_ok" => (calls.indices(&[3, 4], &[-100; 3], &[3], &ce).into(), &[]),
        // `Reduction` has no invalid value.
        "ce_bad_reduction" => return Ok(()),
        "nll_target_too_large" => {
            let nll = Nll::new().reduction(Reduction::Mean);
            let on_gpu = Targets::new(gpu, [2], &[0, 5], 3).map(|_| 0.0);
            let on_cpu = cpu::nll((&[0.0f32; 6], &[2, 3]), &[0, 5], &nll).map(|loss| loss[0] as f32);
            (vec![on_gpu, on_cpu], &["0..3", "5 at position 1"])
        }
        "bce_p_above_1" => (one(&[1.0001], &[1.0]).into(), &["0..=1", "1.0001", "at position 0"]),
        "bce_p_negative" => (one(&[-1e-7], &[1.0]).into(), &["0..=1", "at position 0"]),
        "bce_p_nan" => (one(&[f32::NAN], &[1.0]).into(), &["0..=1", "NaN at position 0"]),
        "bce_target_above_1" => (one(&[0.5], &[1.5]).into(), &["0..=1", "1.5 at position 0"]),
        "bce_target_nan" => (one(&[0.5], &[f32::NAN]).into(), &["0..=1", "NaN at position 0"]),
        "bce_shape_mismatch" => {
            let [on_gpu, _] = calls.bce((&[3, 1], &[0.5; 3]), (&[3], &[0.5; 3]), &Bce::default());
            (vec![on_gpu], &["targets", "[3, 1]", "[3]"])
        }
        "bce_weight_not_broadcastable" => {
            let options = Bce::new().weight(Weights::from(vec![1.0; 3]));
            let (p, y) = ((&[3, 4][..], &[0.5f32; 12][..]), (&[3, 4][..], &[0.5f32; 12][..]));
            (calls.bce(p, y, &options).into(), &["weight", "[3, 4]", "[3]"])
        }
        "bcel_shape_mismatch" => {
            let on_gpu = || {
                let y = Tensor::from_slice(gpu, [3], &[0.5f32; 3])?;
                calls.recorded(&[3, 1], |b, x| b.bce_with_logits(x, &y, &BceWithLogits::default()))
            };
            (vec![on_gpu()], &["targets", "[3, 1]", "[3]"])
        }
        "bcel_target_above_1_ok" => {
            return accepts_targets_above_1(gpu, case.result);
        }
        "mse_not_broadcastable" => {
            let broadcast = Mse::new().broadcast(true);
            let on_gpu = || {
                let y = Tensor::from_slice(gpu, [3], &[0.5f32; 3])?;
                calls.recorded(&[3, 4], |b, x| b.mse(x, &y, &broadcast))
            };
            let on_cpu = cpu::mse((&[0.0f32; 12], &[3, 4]), (&[0.5; 3], &[3]), &broadcast);
            (vec![on_gpu(), on_cpu.map(|loss| loss[0] as f32)], &["targets", "[3, 4]", "[3]"])
        }
        "sgd_negative_lr" => (sgd(Sgd::new().lr(-0.1)).into(), &["lr", "-0.1"]),
        "sgd_negative_momentum" => (sgd(Sgd::new().momentum(-0.1)).into(), &["momentum", "-0.1"]),
        "sgd_negative_weight_decay" => (sgd(Sgd::new().weight_decay(-0.1)).into(), &["weight_decay", "-0.1"]),
        "sgd_nesterov_no_momentum" => (sgd(Sgd::new().nesterov(true)).into(), &["momentum", "nesterov"]),
        "sgd_nesterov_dampening" => {
            let options = Sgd::new().nesterov(true).momentum(0.9).dampening(0.1);
            (sgd(options).into(), &["dampening", "0.1"])
        }
        other => bail!("the case {other:?} is not known"),
    };
    for answer in answers {
        match (answer, case.raises) {
            (Err(error @ (Error::Shape { .. } | Error::Value { .. })), true) => {
                let text = error.to_string();
                ensure!(names.iter().all(|name| text.contains(name)), "{text:?} does not name all of {names:?}");
            }
            (Err(error), _) => bail!("{error}"),
            (Ok(value), true) => bail!("accepted: {value}"),
            (Ok(value), false) => {
                let want = case.result.context("a case without its result")?;
                let fine = (value.is_nan() && want.is_nan()) || (f64::from(value) - want).abs() < 1e-6;
                ensure!(fine, "{value} instead of {want}");
            }
        }
    }
    Ok(())
}

/// Binary targets of logits may lie outside [0, 1], and the loss below 0.
fn accepts_targets_above_1(gpu: &Gpu, pytorch: Option<f64>) -> Result<()> {
    let (x, y) = (0.5f32, 1.5f32);
    let want = cpu::bce_with_logits((&[x], &[1]), (&[y], &[1]), &BceWithLogits::default())?[0];
    // The file does not state the logit; this check confirms that it is `x`.
    let pytorch = pytorch.context("a case without its result")?;
    ensure!((want - pytorch).abs() < 1e-7, "{want} instead of {pytorch}");
    let mut batch = gpu.batch();
    let (x, y) = (Tensor::from_slice(gpu, [1], &[x])?, Tensor::from_slice(gpu, [1], &[y])?);
    let loss = batch.bce_with_logits(&x, &y, &BceWithLogits::default())?;
    let mut loss = batch.read(&loss)?;
    batch.submit()?;
    let got = f64::from(loss.wait(TIMEOUT)?[0]);
    ensure!((got - want).abs() < 1e-7, "{got} instead of {want}");
    Ok(())
}
