//! A corpus file, and its metadata as this crate's options.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use xent::loss::{CrossEntropy, Nll, Reduction};
use xent::optim::Sgd;
use xent::{Gpu, Tensor, Weights};

use crate::losses;

/// Results by name.
pub(crate) type Outputs = HashMap<String, Output>;

/// A result: its values, and its shape if the engine reports one.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) shape: Option<Vec<usize>>,
    pub(crate) values: Vec<f64>,
}

/// The metadata keys that `FORMAT.md` defines for all operations. `KNOWN` lists the further keys
/// and the tensors of each operation, and `losses::known` those of elementwise losses.
const COMMON: &[&str] = &[
    "class_mismatch",
    "f64_source",
    "features",
    "format_version",
    "name",
    "onnx_atol",
    "onnx_data",
    "onnx_rtol",
    "onnx_test",
    "op",
    "outputs",
    "rtol",
    "shape",
    "source",
];
const KNOWN: &[Known] = &[
    (
        &["cross_entropy", "nll_loss"],
        &["class_dim", "ignore_index", "label_smoothing", "reduction", "target_kind"],
        &["grad_output", "input", "target", "weight"],
    ),
    (&["log_softmax", "softmax"], &["dim"], &["grad_output", "input"]),
    (&["sigmoid"], &[], &["grad_output", "input"]),
    (
        &["sgd"],
        &["dampening", "lr", "maximize", "momentum", "nesterov", "steps", "weight_decay"],
        &["grads", "momentum_init", "params_init"],
    ),
    (
        &["train_ce", "train_bce", "train_combined"],
        &["epochs", "log_every", "lr", "momentum", "reduction"],
        &[
            "X",
            "bias_cls_init",
            "bias_init",
            "bias_reg_init",
            "logged_epochs",
            "weight_cls_init",
            "weight_init",
            "weight_reg_init",
            "y",
            "y_reg",
        ],
    ),
];

/// Operations, and the names of their metadata and tensors.
pub(crate) type Known = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// A corpus file.
pub(crate) struct Case {
    pub(crate) meta: HashMap<String, String>,
    pub(crate) tensors: HashMap<String, Data>,
}

pub(crate) struct Data {
    pub(crate) shape: Vec<usize>,
    pub(crate) floats: Vec<f64>,
    pub(crate) ints: Vec<i64>,
}

impl Case {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes)?;
        let meta = metadata.metadata().clone().context("no metadata")?;
        let mut tensors = HashMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let data = view.data();
            let (mut floats, mut ints) = (Vec::new(), Vec::new());
            match view.dtype() {
                Dtype::F32 => {
                    floats = bytemuck::pod_collect_to_vec::<u8, f32>(data).into_iter().map(f64::from).collect();
                }
                Dtype::F64 => floats = bytemuck::pod_collect_to_vec(data),
                Dtype::I64 => ints = bytemuck::pod_collect_to_vec(data),
                other => bail!("{name} is {other:?}"),
            }
            tensors.insert(name, Data { shape: view.shape().to_vec(), floats, ints });
        }
        let case = Self { meta, tensors };
        case.refuse_what_is_not_known()?;
        Ok(case)
    }

    /// Rejects unknown metadata and tensors, which would otherwise go untested.
    fn refuse_what_is_not_known(&self) -> Result<()> {
        let op = self.text("op")?;
        let losses = losses::known();
        let mut known = KNOWN.iter().chain(&losses);
        let (_, keys, tensors) =
            known.find(|(ops, ..)| ops.contains(&op)).with_context(|| format!("op {op:?} is not known"))?;
        let outputs: Vec<&str> = self.text("outputs")?.split(',').collect();
        let is_output = |name: &str| {
            let bare = name.strip_suffix("_f64").or(name.strip_suffix("_pytorch_f32")).unwrap_or(name);
            outputs.contains(&bare)
        };
        for key in self.meta.keys() {
            let tolerance = key.strip_prefix("atol_").is_some_and(|name| outputs.contains(&name));
            ensure!(COMMON.contains(&&**key) || keys.contains(&&**key) || tolerance, "metadata {key:?} are not known");
        }
        for name in self.tensors.keys() {
            ensure!(tensors.contains(&&**name) || is_output(name), "tensor {name:?} is not known");
        }
        ensure!(!op.starts_with("train") || self.number("momentum")? == 0.0, "momentum in a training run is not known");
        Ok(())
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        self.meta.get(key).map(String::as_str).with_context(|| format!("no {key:?} in the metadata"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64> {
        self.text(key)?.parse().with_context(|| format!("{key:?} is no number"))
    }

    pub(crate) fn data(&self, name: &str) -> Result<&Data> {
        self.tensors.get(name).with_context(|| format!("no tensor {name:?}"))
    }

    /// The values of an `f32` tensor of the file.
    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.data(name)?.floats.iter().map(|&v| v as f32).collect())
    }

    pub(crate) fn upload(&self, gpu: &Gpu, name: &str) -> Result<Tensor<f32>> {
        Ok(Tensor::from_slice(gpu, &self.data(name)?.shape[..], &self.floats(name)?)?)
    }

    pub(crate) fn upstream(&self) -> Option<&[f64]> {
        self.tensors.get("grad_output").map(|data| &data.floats[..])
    }

    pub(crate) fn upload_upstream(&self, gpu: &Gpu) -> Result<Option<Tensor<f32>>> {
        self.tensors.contains_key("grad_output").then(|| self.upload(gpu, "grad_output")).transpose()
    }

    pub(crate) fn weights(&self, name: &str) -> Result<Option<Weights>> {
        let Some(data) = self.tensors.get(name) else { return Ok(None) };
        Ok(Some(Weights::new(&data.shape[..], &self.floats(name)?)?))
    }

    pub(crate) fn reduction(&self) -> Result<Reduction> {
        Ok(match self.text("reduction")? {
            "none" => Reduction::None,
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            other => bail!("reduction {other:?}"),
        })
    }

    pub(crate) fn cross_entropy(&self) -> Result<CrossEntropy> {
        let label_smoothing = self.number("label_smoothing")?;
        Ok(CrossEntropy::new()
            .weight(self.weights("weight")?)
            .reduction(self.reduction()?)
            .label_smoothing(label_smoothing))
    }

    /// The ignored index of class indices.
    pub(crate) fn ignored(&self) -> Result<i64> {
        Ok(self.text("ignore_index")?.parse()?)
    }

    pub(crate) fn nll(&self) -> Result<Nll> {
        let CrossEntropy { weight, reduction, label_smoothing, .. } = self.cross_entropy()?;
        ensure!(label_smoothing == 0.0, "nll_loss has no label smoothing");
        Ok(Nll::new().weight(weight).reduction(reduction))
    }

    /// Whether the shapes of input and target differ, so that PyTorch broadcasts them.
    pub(crate) fn broadcasts(&self) -> Result<bool> {
        Ok(self.data("input")?.shape != self.data("target")?.shape)
    }

    pub(crate) fn sgd(&self) -> Result<Sgd> {
        let flag = |key| match self.text(key)? {
            "0" => Ok(false),
            "1" => Ok(true),
            other => bail!("{key} {other:?}"),
        };
        Ok(Sgd::new()
            .lr(self.number("lr")?)
            .momentum(self.number("momentum")?)
            .dampening(self.number("dampening")?)
            .weight_decay(self.number("weight_decay")?)
            .nesterov(flag("nesterov")?)
            .maximize(flag("maximize")?))
    }
}
