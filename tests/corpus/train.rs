//! Repeats the training runs of the corpus on each engine.

use anyhow::{Context, Result, bail};
use xent::loss::{Bce, CrossEntropy, Grad, Mse, Targets};
use xent::optim::Sgd;
use xent::{Gpu, Layout, Tensor, cpu};

use crate::case::{Case, Outputs};
use crate::{TIMEOUT, wide};

/// The linear heads of a training run, all on the same inputs.
pub(crate) trait Heads {
    /// Runs one full-batch step. Returns the loss of each head, and the gradients and new values of
    /// its weight and bias.
    fn step(&mut self) -> Result<Vec<HeadStep>>;
}

pub(crate) struct HeadStep {
    /// The suffix of the head's parameters after `weight` and `bias`: empty, `_cls` or `_reg`.
    suffix: &'static str,
    loss: f64,
    grads: [Vec<f64>; 2],
    values: [Vec<f64>; 2],
}

/// The heads of a run: suffix, loss, and name of the target tensor.
fn heads_of(case: &Case) -> Result<Vec<(&'static str, &'static str, &'static str)>> {
    Ok(match case.text("op")? {
        "train_ce" => vec![("", "ce", "y")],
        "train_bce" => vec![("", "bce", "y")],
        _ => vec![("_cls", "bce", "y"), ("_reg", "mse", "y_reg")],
    })
}

pub(crate) fn train(case: &Case, heads: &mut dyn Heads) -> Result<Outputs> {
    let mut out = Outputs::new();
    let mut push = |name: String, values: &[f64]| out.entry(name).or_default().values.extend(values);
    let logged = &case.data("logged_epochs")?.ints;
    let epochs = case.text("epochs")?.parse()?;
    for epoch in 1..=epochs {
        let steps = heads.step()?;
        let total: f64 = steps.iter().map(|head| head.loss).sum();
        let is_logged = logged.contains(&epoch);
        push("loss_history".into(), &[total]);
        if is_logged {
            push("loss_logged".into(), &[total]);
        }
        for head in &steps {
            if steps.len() > 1 {
                let kind = if head.suffix == "_cls" { "bce" } else { "mse" };
                push(format!("loss_{kind}_history"), &[head.loss]);
                if is_logged {
                    push(format!("loss_{kind}_logged"), &[head.loss]);
                }
            }
            for (i, parameter) in ["weight", "bias"].into_iter().enumerate() {
                let name = format!("{parameter}{}", head.suffix);
                if epoch == 1 {
                    push(format!("{name}_grad_first"), &head.grads[i]);
                }
                if is_logged {
                    push(format!("{name}_logged"), &head.values[i]);
                }
                if epoch == epochs {
                    push(format!("{name}_final"), &head.values[i]);
                }
            }
        }
    }
    Ok(out)
}

pub(crate) struct GpuHeads<'a> {
    gpu: &'a Gpu,
    x: Tensor<f32>,
    heads: Vec<GpuHead>,
    sgd: Sgd,
}

pub(crate) struct GpuHead {
    suffix: &'static str,
    kind: &'static str,
    classes: Option<Targets>,
    target: Option<Tensor<f32>>,
    parameters: [Tensor<f32>; 2],
}

impl<'a> GpuHeads<'a> {
    pub(crate) fn new(gpu: &'a Gpu, case: &Case) -> Result<Self> {
        let head = |(suffix, kind, y): (&'static str, &'static str, &str)| {
            let parameters =
                [case.upload(gpu, &format!("weight{suffix}_init"))?, case.upload(gpu, &format!("bias{suffix}_init"))?];
            let target = case.data(y)?;
            let classes = (kind == "ce")
                .then(|| Targets::new(gpu, &target.shape[..], &target.ints, parameters[1].len()))
                .transpose()?;
            let target = (kind != "ce").then(|| case.upload(gpu, y)).transpose()?;
            Ok(GpuHead { suffix, kind, classes, target, parameters })
        };
        let heads = heads_of(case)?.into_iter().map(head).collect::<Result<_>>()?;
        Ok(Self { gpu, x: case.upload(gpu, "X")?, heads, sgd: Sgd::new().lr(case.number("lr")?) })
    }
}

impl Heads for GpuHeads<'_> {
    fn step(&mut self) -> Result<Vec<HeadStep>> {
        let mut batch = self.gpu.batch();
        let mut tickets = Vec::new();
        for GpuHead { suffix, kind, classes, target, parameters: [weight, bias] } in &self.heads {
            let z = batch.matmul(Layout::Nt, &self.x, weight, Some(bias))?;
            let out = match (classes, target) {
                (Some(classes), _) => batch.cross_entropy_with(&z, classes, &CrossEntropy::default(), Grad::New)?,
                (_, Some(y)) if *kind == "bce" => {
                    let p = batch.sigmoid(&z)?;
                    let mut out = batch.bce_with(&p, y, &Bce::default(), Grad::New)?;
                    out.grad = Some(batch.sigmoid_backward(&p, &out.gradient()?)?);
                    out
                }
                (_, Some(y)) => batch.mse_with(&z, y, &Mse::default(), Grad::New)?,
                (None, None) => bail!("a head without targets"),
            };
            let grad = out.gradient()?;
            let grads = [batch.matmul(Layout::Tn, &grad, &self.x, None)?, batch.column_sum(&grad)?];
            for (values, grad) in [weight, bias].into_iter().zip(&grads) {
                batch.sgd(values, grad, None, &self.sgd)?;
            }
            let loss = batch.read(&out.loss)?;
            let reads = [&grads[0], &grads[1], weight, bias].map(|t| batch.read(t));
            tickets.push((*suffix, loss, reads));
        }
        batch.submit()?;
        let mut steps = Vec::new();
        for (suffix, mut loss, reads) in tickets {
            let mut values = Vec::new();
            for read in reads {
                values.push(wide(&read?.wait(TIMEOUT)?));
            }
            let [gw, gb, w, b]: [Vec<f64>; 4] = values.try_into().ok().context("four reads")?;
            let loss = f64::from(loss.wait(TIMEOUT)?[0]);
            steps.push(HeadStep { suffix, loss, grads: [gw, gb], values: [w, b] });
        }
        Ok(steps)
    }
}

pub(crate) struct CpuHeads<'a> {
    case: &'a Case,
    parameters: Vec<[Vec<f64>; 2]>,
    sgd: Sgd,
}

impl<'a> CpuHeads<'a> {
    pub(crate) fn new(case: &'a Case) -> Result<Self> {
        let init = |name: String| Ok::<_, anyhow::Error>(case.data(&name)?.floats.clone());
        let parameters = heads_of(case)?
            .into_iter()
            .map(|(suffix, ..)| Ok([init(format!("weight{suffix}_init"))?, init(format!("bias{suffix}_init"))?]))
            .collect::<Result<_>>()?;
        Ok(Self { case, parameters, sgd: Sgd::new().lr(case.number("lr")?) })
    }
}

impl Heads for CpuHeads<'_> {
    fn step(&mut self) -> Result<Vec<HeadStep>> {
        let x = self.case.data("X")?;
        let [n, inputs] = x.shape[..] else { bail!("X of shape {:?}", x.shape) };
        let mut steps = Vec::new();
        for ((suffix, kind, y), parameters) in heads_of(self.case)?.into_iter().zip(&mut self.parameters) {
            let outputs = parameters[1].len();
            let y = self.case.data(y)?;
            let z = cpu::matmul(
                Layout::Nt,
                (&x.floats, &[n, inputs]),
                (&parameters[0], &[outputs, inputs]),
                Some(&parameters[1]),
            )?;
            let out = match kind {
                "ce" => cpu::cross_entropy_backward((&z, &[n, outputs]), &y.ints, &CrossEntropy::default(), None)?,
                "bce" => {
                    let p = cpu::sigmoid(&z);
                    let mut out =
                        cpu::bce_backward((&p, &[n, outputs]), (&y.floats, &[n, outputs]), &Bce::default(), None)?;
                    out.grad = cpu::sigmoid_backward(&p, &out.grad)?;
                    out
                }
                _ => cpu::mse_backward((&z, &[n, outputs]), (&y.floats, &y.shape), &Mse::default(), None)?,
            };
            let weight_grad = cpu::matmul(Layout::Tn, (&out.grad, &[n, outputs]), (&x.floats, &[n, inputs]), None)?;
            let grads = [weight_grad, cpu::column_sum((&out.grad, &[n, outputs]))?];
            for (values, grad) in parameters.iter_mut().zip(&grads) {
                cpu::sgd(values, grad, &mut Vec::new(), &self.sgd)?;
            }
            steps.push(HeadStep { suffix, loss: out.loss[0], grads, values: parameters.clone() });
        }
        Ok(steps)
    }
}
