//! Elementwise losses of the corpus, from the crate's table.

use anyhow::Result;
use xent::loss::{Bce, BceWithLogits, Grad, Huber, LossRequest, Mse};
use xent::{Gpu, cpu};

use crate::case::{Case, Known, Outputs};
use crate::{eval, named};

/// The options of a case besides weight and reduction.
trait FromCase: Sized {
    /// The names of the metadata and tensors of a case. They must include the options' names.
    const METADATA: &'static [&'static str] = &["reduction"];
    const TENSORS: &'static [&'static str] = &["grad_output", "input", "target", "weight"];

    fn with_options_of(self, _case: &Case) -> Result<Self> {
        Ok(self)
    }
}

impl FromCase for Bce {}
impl FromCase for Mse {}
impl FromCase for Huber {
    const METADATA: &'static [&'static str] = &["delta", "reduction"];

    fn with_options_of(self, case: &Case) -> Result<Self> {
        Ok(self.delta(case.number("delta")?))
    }
}
impl FromCase for BceWithLogits {
    const TENSORS: &'static [&'static str] = &["grad_output", "input", "pos_weight", "target", "weight"];

    fn with_options_of(self, case: &Case) -> Result<Self> {
        Ok(self.pos_weight(case.weights("pos_weight")?))
    }
}

/// The losses of the table, and the names of their metadata and tensors.
pub(crate) fn known() -> Vec<Known> {
    macro_rules! losses {
        ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
            vec![$((
                &[stringify!($name)],
                <xent::loss::$Options as FromCase>::METADATA,
                <xent::loss::$Options as FromCase>::TENSORS,
            )),*]
        };
    }
    xent::elementwise_losses!(losses)
}

/// Runs a case on the GPU. Returns `None` if its operation is not in the table.
pub(crate) fn on_gpu(gpu: &Gpu, op: &str, case: &Case) -> Result<Option<Outputs>> {
    macro_rules! losses {
        ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
            $(if op == stringify!($name) {
                let options = xent::loss::$Options::new().weight(case.weights("weight")?).reduction(case.reduction()?);
                let options = options.broadcast(case.broadcasts()?).with_options_of(case)?;
                let (x, y, g) = (case.upload(gpu, "input")?, case.upload(gpu, "target")?, case.upload_upstream(gpu)?);
                let outputs = eval(gpu, |b| {
                    let request = LossRequest::new().grad(Grad::New).upstream(g.as_ref());
                    let out = b.$with(&x, &y, &options, request)?;
                    Ok([("loss", out.loss.clone()), ("grad_input", out.gradient()?)])
                });
                return outputs.map(Some);
            })*
        };
    }
    xent::elementwise_losses!(losses);
    Ok(None)
}

/// Runs a case on the CPU reference.
pub(crate) fn on_cpu(op: &str, case: &Case) -> Result<Option<Outputs>> {
    macro_rules! losses {
        ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
            $(if op == stringify!($name) {
                let options = xent::loss::$Options::new().weight(case.weights("weight")?).reduction(case.reduction()?);
                let options = options.broadcast(case.broadcasts()?).with_options_of(case)?;
                let (x, y) = (case.floats("input")?, case.floats("target")?);
                let (xs, ys) = (&case.data("input")?.shape, &case.data("target")?.shape);
                let out = cpu::$backward((&x, xs), (&y, ys), &options, case.upstream())?;
                return Ok(Some(named([("loss", out.loss), ("grad_input", out.grad)])));
            })*
        };
    }
    xent::elementwise_losses!(losses);
    Ok(None)
}
