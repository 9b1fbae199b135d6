//! Losses of rows: code shared by cross-entropy and the negative log-likelihood.

use crate::engine::kernel::Kernel;
use crate::engine::{Caps, Family};
use crate::error::{Error, Result, ensure};
use crate::ops::loss::CrossEntropy;
use crate::ops::loss::request::GradientPlace;
use crate::plan::RowPlan;
use crate::record::Recorder;
use crate::tensor::{Check, Real, Shape, Tensor, Weights, expect_shape, narrow};

use crate::ops::loss::statistics::{KERNEL as STATISTICS, Statistics, WORDS};
use crate::ops::loss::{Denominator, Reduction, Targets};
use crate::ops::reduce::blocks::Divisor;
use crate::ops::{Classes, no_alias, shape_error};
use crate::plan::strips::Strip;

/// How a dispatch uses row statistics and the row state: the constant `STATISTICS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowStatistics {
    /// Neither writes statistics nor uses the row state.
    None = 0,
    /// Writes the statistics that the caller requests.
    Write = 1,
    /// Stores the row state for later dispatches.
    StoreState = 2,
    /// Loads the row state, because the dispatch has only some classes or blocks of the rows.
    LoadState = 3,
}

impl RowStatistics {
    pub(crate) fn wanted(wanted: bool) -> Self {
        if wanted { Self::Write } else { Self::None }
    }
}

/// Which classes of a row have a coefficient: the constant `TARGETS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coefficients {
    /// Only the target.
    OfTarget = 0,
    /// All classes, because of label smoothing.
    Smoothed = 1,
    /// All classes, because targets are probabilities.
    OfProbabilities = 2,
}

/// A call of a loss of rows.
#[derive(Debug)]
pub(crate) struct RowLoss<'a> {
    pub(crate) op: &'static str,
    pub(crate) kernel: &'static Kernel,
    /// The shape of the input.
    pub(crate) shape: Shape,
    pub(crate) targets: &'a Targets,
    /// `nll` uses only `weight`, `position_weight` and `reduction`; the rest keep their defaults.
    pub(crate) options: CrossEntropy,
    /// Whether a mean is divided by its denominator, or left as a sum.
    pub(crate) divided: bool,
    pub(crate) upstream: Option<&'a Tensor<f32>>,
    pub(crate) gradient: GradientPlace,
    pub(crate) statistics: RowStatistics,
    /// Elements of the gradient whose magnitude is below this number times the row's factor are
    /// replaced by 0.
    pub(crate) threshold: f64,
    /// The plan decides whether several workgroups share a row as if there were at most this many
    /// rows. The number must not depend on how rows are distributed over dispatches.
    pub(crate) most_rows_for_plan: u32,
}

/// The inputs of a validated call.
pub(crate) struct Inputs {
    pub(crate) dims: Classes,
    /// The shape of the input without its class dimension.
    pub(crate) rows: Shape,
    pub(crate) targets: Targets,
    /// A scalar 1, or one weight per class. After `begin_validated_rows`, with label smoothing,
    /// followed by their sum and by padding.
    pub(crate) weight: Tensor<f32>,
    /// A scalar 1, or one weight per row.
    pub(crate) position_weight: Tensor<f32>,
    /// A scalar 1, the caller's scalar, or one value per loss.
    pub(crate) upstream: Tensor<f32>,
}

/// A call in progress: the tensors that its dispatches read and write.
pub(crate) struct RowsCallState {
    pub(crate) inputs: Inputs,
    pub(crate) losses: Tensor<f32>,
    pub(crate) statistics: Option<Tensor<u32>>,
    /// The denominator of the mean as a partial result: the sum of the weights of the rows, or
    /// their number. `None` if it is the number of all rows. For class indices it also has the
    /// position of the first invalid target.
    pub(crate) denominator: Option<Tensor<u32>>,
    pub(crate) factor: Factor,
}

/// The results of a call except for the gradient.
pub(crate) struct RowsOutput {
    pub(crate) loss: Tensor<f32>,
    pub(crate) statistics: Option<Statistics>,
    /// The check of the targets.
    pub(crate) check: Option<Check>,
    pub(crate) denominator: Denominator,
}

/// Some rows of a call, and their tensors.
pub(crate) struct RowsSlice<'a> {
    /// The index of the first row.
    pub(crate) first: u64,
    pub(crate) dims: Classes,
    /// The index of the first class.
    pub(crate) first_class: u32,
    pub(crate) input: &'a Tensor<Real>,
    pub(crate) probabilities: Option<&'a Tensor<f32>>,
    /// The gradient, unless it is in place.
    pub(crate) grad: Option<&'a Tensor<Real>>,
}

/// How `value` and `divisor` define the factor of gradients: the parameter `factor_form`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FactorForm {
    /// `value / divisor`, with a scalar value or one value per row.
    Quotient = 0,
    /// `1 / value`.
    Inverse = 1,
    /// The product of the two elements of `value`.
    Product = 2,
}

/// The factor of gradients.
pub(crate) struct Factor {
    pub(crate) value: Tensor<f32>,
    pub(crate) form: FactorForm,
    pub(crate) divisor: f32,
}

impl Factor {
    /// Whether there is one factor per row.
    pub(crate) fn by_row(&self) -> bool {
        self.form == FactorForm::Quotient && !self.value.shape().is_empty()
    }
}

impl RowLoss<'_> {
    pub(crate) fn input_name(&self) -> &'static str {
        self.kernel.bindings.first().map_or("input", |binding| binding.name)
    }

    pub(crate) fn validate(&self, rec: &Recorder<'_>) -> Result<Inputs> {
        let (op, what) = (self.op, self.input_name());
        let dims = Classes::of(op, what, &self.shape)?;
        let mut rows = self.shape.to_vec();
        rows.remove(usize::from(rows.len() > 1));
        let rows = Shape::from(rows);
        if self.statistics == RowStatistics::Write {
            // The statistics are split at the end; their kernel's bindings are checked before
            // anything is recorded.
            rec.check_bindings(op, STATISTICS.bindings.len())?;
        }
        self.options.validate(op)?;
        self.options.validate_share(op, dims.classes as usize)?;
        self.validate_targets(rec, &rows)?;
        let weight = self.weights(rec, "weight", self.options.weight.as_ref(), &[dims.classes as usize].into())?;
        let position_weight = self.weights(rec, "position_weight", self.options.position_weight.as_ref(), &rows)?;
        check_upstream(rec, op, self.upstream, self.options.reduction, &rows)?;
        let upstream = self.upstream.cloned().unwrap_or_else(|| rec.gpu().one());
        let targets = self.targets.clone();
        Ok(Inputs { dims, rows, targets, weight, position_weight, upstream })
    }

    /// Checks that a written tensor shares no memory with the other inputs.
    pub(crate) fn check_written(&self, inputs: &Inputs, written: (&'static str, &Tensor<Real>)) -> Result<()> {
        let op = self.op;
        inputs.targets.no_alias(op, written)?;
        no_alias(op, written, ("weight", &inputs.weight))?;
        no_alias(op, written, ("position_weight", &inputs.position_weight))?;
        no_alias(op, written, ("upstream", &inputs.upstream))
    }

    fn validate_targets(&self, rec: &Recorder<'_>, rows: &Shape) -> Result<()> {
        let op = self.op;
        self.targets.check_device(rec, op)?;
        let shape = self.targets.shape();
        if self.targets.probabilities().is_some() {
            // Returns the error of a loss that takes only class indices (`nll`).
            if self.kernel.bindings.iter().all(|binding| binding.name != "probabilities") {
                self.targets.indices(op)?;
            }
            expect_shape(op, "targets", shape, &self.shape)?;
            let ignored = self.targets.ignored;
            ensure!(ignored < 0, Error::value(op, "the ignored index", "below 0 with probabilities", ignored));
            return Ok(());
        }
        if shape != rows {
            let expected = format!("shape {rows} for {} of shape {}", self.input_name(), self.shape);
            return Err(shape_error(op, "targets", expected, shape));
        }
        Ok(())
    }

    /// Returns the weights, which must have exactly this shape, or a scalar 1 if there are none.
    fn weights(
        &self,
        rec: &Recorder<'_>,
        what: &'static str,
        weights: Option<&Weights>,
        shape: &Shape,
    ) -> Result<Tensor<f32>> {
        let Some(weights) = weights else { return Ok(rec.gpu().one()) };
        expect_shape(self.op, what, weights.shape(), shape)?;
        let tensor = weights.on(rec.gpu())?;
        rec.check_device(self.op, what, &tensor)?;
        Ok(tensor)
    }

    /// The classes that have a coefficient.
    pub(crate) fn coefficients(&self) -> Coefficients {
        if self.targets.probabilities().is_some() {
            Coefficients::OfProbabilities
        } else if self.options.label_smoothing == 0.0 {
            Coefficients::OfTarget
        } else {
            Coefficients::Smoothed
        }
    }

    /// Whether the kernel computes the softmax of rows.
    pub(crate) fn computes_softmax(&self) -> bool {
        self.kernel.bindings.iter().any(|binding| binding.name == "parts")
    }

    /// Plans the rows. Rows stay in registers only without a cap, whose gradient needs logits; on a
    /// CPU also only for class indices without smoothing, because coefficients of each class take
    /// more registers than it has. Rows are split across workgroups only for class indices without
    /// smoothing, in kernels that compute a softmax, and only if no statistics or row state are
    /// involved.
    pub(crate) fn plan(&self, caps: &Caps, dims: Classes) -> RowPlan {
        let Classes { classes, inner, .. } = dims;
        if self.statistics == RowStatistics::LoadState {
            return RowPlan::streamed(caps, classes, inner);
        }
        let indices = self.coefficients() == Coefficients::OfTarget;
        let held = (indices || caps.family == Family::Gpu) && self.options.softcap.is_none();
        let plan = match (held, self.computes_softmax()) {
            (true, true) => RowPlan::of_softmax(caps, classes, inner),
            (true, false) => RowPlan::new(caps, classes, inner),
            (false, _) => RowPlan::streamed(caps, classes, inner),
        };
        if indices && self.statistics == RowStatistics::None && self.computes_softmax() {
            plan.in_parts(caps, classes, self.most_rows_for_plan.min(dims.rows()))
        } else {
            plan
        }
    }

    /// Splits the rows into strips that fit bindings and the grid.
    pub(crate) fn strips(
        &self,
        caps: &Caps,
        dims: Classes,
        input: &Tensor<Real>,
        grad: Option<&Tensor<Real>>,
    ) -> Result<Vec<Strip>> {
        let words = if self.statistics == RowStatistics::None { 1 } else { u64::from(WORDS) };
        let probabilities = self.targets.probabilities().map(Tensor::placed);
        let others = [grad.map(Tensor::placed), probabilities].into_iter().flatten();
        let tensors: Vec<_> = std::iter::once(input.placed()).chain(others).collect();
        Strip::all(self.op, caps, dims, &tensors, 4 * words, self.plan(caps, dims).parts().into())
    }

    /// The divisor of the loss.
    pub(crate) fn divisor<'d>(&self, inputs: &Inputs, denominator: Option<&'d Tensor<u32>>) -> Divisor<'d> {
        if self.divided { Divisor::of(self.options.reduction, mean_divisor(inputs, denominator)) } else { Divisor::One }
    }

    /// Whether gradients have factors of arbitrary size besides the denominator of the mean (an
    /// upstream gradient, weights, a z-loss or a logit scale): the constant `FACTORS`.
    pub(crate) fn has_factors(&self) -> bool {
        let CrossEntropy { weight, position_weight, z_loss, logit_scale, .. } = &self.options;
        let weighted = weight.is_some() || position_weight.is_some();
        weighted || self.upstream.is_some() || *z_loss != 0.0 || *logit_scale != 1.0
    }

    /// The constant `LOGITS`.
    pub(crate) fn logits(&self) -> u32 {
        match self.options.softcap {
            Some(_) => 2,
            None => u32::from(narrow(self.options.logit_scale) != 1.0),
        }
    }
}

/// The divisor of the mean.
pub(crate) fn mean_divisor<'d>(inputs: &Inputs, denominator: Option<&'d Tensor<u32>>) -> Divisor<'d> {
    denominator.map_or(Divisor::Count(inputs.dims.rows()), Divisor::Sum)
}

/// Checks that an upstream gradient belongs to the device of a recorder, and that it is a scalar or
/// has the shape of the loss. `losses` is the shape of the losses before their reduction.
pub(crate) fn check_upstream(
    rec: &Recorder<'_>,
    op: &'static str,
    upstream: Option<&Tensor<f32>>,
    reduction: Reduction,
    losses: &Shape,
) -> Result<()> {
    let Some(upstream) = upstream else { return Ok(()) };
    rec.check_device(op, "upstream", upstream)?;
    let loss = if reduction == Reduction::None { losses } else { &Shape::default() };
    if upstream.shape().is_empty() || upstream.shape() == loss {
        return Ok(());
    }
    let expected = if loss.is_empty() { "shape []".to_owned() } else { format!("shape [] or {loss}") };
    Err(shape_error(op, "upstream", expected, upstream.shape()))
}
