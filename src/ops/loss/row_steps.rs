//! The dispatches of a loss of rows: one for short rows, several for rows that exceed the loop
//! budget or that several workgroups share.

use std::ops::Range;

use crate::engine::Caps;
use crate::engine::kernel::{Field, params};
use crate::error::{Error, Result};
use crate::plan::{RowPlan, Sweep, Work};
use crate::record::{Launch, Recorder, Window};
use crate::tensor::{Real, Tensor, narrow};

use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::row_loss::{Coefficients, Inputs, RowLoss, RowStatistics, RowsCallState, RowsSlice};
use crate::ops::loss::row_parts::Rows;
use crate::ops::loss::statistics::WORDS;

params! {
    struct Params {
        /// 0: one weight for all classes; 1: one per class.
        weight_stride: u32,
        /// 0: one weight for all rows; 1: one per row.
        position_weight_stride: u32,
        /// 0: one factor for all rows; 1: one per row.
        factor_stride: u32,
        /// The form of the factor: a `FactorForm`.
        factor_form: u32,
        ignored: i32,
        /// Label smoothing: the target's extra share, `1 - s`.
        target_share: f32,
        /// Label smoothing: every class's share, `s / C`.
        uniform_share: f32,
        logit_scale: f32,
        softcap: f32,
        z_loss: f32,
        /// The divisor of the factor.
        divisor: f32,
        /// Elements of the gradient whose magnitude is below this threshold times the factor of the
        /// row are replaced by 0.
        threshold: f32,
        /// The first class of this dispatch.
        first_class: u32,
        /// The number of all classes of a row, including those of other dispatches.
        all_classes: u32,
    }
}

pub(crate) const PARAMS: &[Field] = Params::FIELDS;

/// The number of words of a lane's sums between dispatches.
const LANE_WORDS: usize = 11;

/// The purpose of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Computes everything that is requested, for some or all blocks. Earlier dispatches may have
    /// computed the softmax.
    All,
    /// Computes the sums over classes, given the softmax.
    Sums,
    /// Writes losses and statistics, given sums and softmax.
    WriteResults,
    /// Stores the row state for the gradient dispatches, which bind it instead of both `parts` and
    /// `lanes`.
    StoreRowState,
    /// Writes the gradient of some blocks, given the row state.
    Gradient,
}

#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    blocks: Range<u32>,
    work: Work,
}

/// The dispatches of some rows, and whether earlier dispatches compute their softmax.
struct Steps {
    stores_part_stats: bool,
    steps: Vec<Step>,
}

impl RowLoss<'_> {
    /// The sweep that computes the sums over classes (`shaders/lib/row_sums.wgsl`).
    fn sums(&self, plan: RowPlan) -> Option<Sweep> {
        let wanted = self.statistics == RowStatistics::Write;
        let summed = self.coefficients() != Coefficients::OfTarget || wanted;
        (self.computes_softmax() && self.statistics != RowStatistics::LoadState && summed)
            .then(|| plan.sweep(0).with_more_turns(Sweep::QUADS))
    }

    fn steps(&self, caps: &Caps, plan: RowPlan, (rows, classes): (u32, u32)) -> Result<Steps> {
        let softmax =
            (self.computes_softmax() && self.statistics != RowStatistics::LoadState).then(|| plan.softmax_sweep());
        let (sums, grad) = (self.sums(plan), (self.gradient != GradientPlace::None).then(|| plan.sweep(1)));
        let sweeps: Vec<_> = [softmax, sums, grad].into_iter().flatten().collect();
        let once = |kind, sweeps: &[Sweep]| Step { kind, blocks: plan.all_blocks(), work: plan.work(rows, sweeps) };
        if plan.parts() == 1 && plan.fits(caps, &sweeps) {
            return Ok(Steps { stores_part_stats: false, steps: vec![once(Kind::All, &sweeps)] });
        }
        let by_blocks = |kind, sweep| {
            let dispatches = plan.dispatches(self.op, caps, (rows, classes), sweep)?;
            Ok::<_, Error>(dispatches.into_iter().map(move |(blocks, work)| Step { kind, blocks, work }))
        };
        let mut steps = Vec::new();
        match (sums, grad) {
            (None, None) => steps.push(once(Kind::All, &[])),
            (None, Some(grad)) => steps.extend(by_blocks(Kind::All, grad)?),
            (Some(sums), _) => {
                steps.extend(by_blocks(Kind::Sums, sums)?);
                steps.push(once(Kind::WriteResults, &[]));
            }
        }
        if let (Some(_), Some(grad)) = (sums, grad) {
            steps.push(once(Kind::StoreRowState, &[]));
            steps.extend(by_blocks(Kind::Gradient, grad)?);
        }
        Ok(Steps { stores_part_stats: softmax.is_some(), steps })
    }

    /// A launch with all constants except those of the row plan.
    fn launch(&self, kind: Kind, part_stats_stored: bool) -> Launch {
        let writes_grad = self.gradient != GradientPlace::None && matches!(kind, Kind::All | Kind::Gradient);
        let grad = if writes_grad { 1 + u32::from(narrow(self.threshold) > 0.0) } else { 0 };
        let launch = Launch::new(self.op, self.kernel).constant("GRAD", grad).constant("FACTORS", self.has_factors());
        if !self.computes_softmax() {
            return launch;
        }
        let sweep = match kind {
            Kind::All | Kind::Gradient => 0u32,
            Kind::Sums => 1,
            Kind::WriteResults | Kind::StoreRowState => 2,
        };
        launch
            .constant("TARGETS", self.coefficients() as u32)
            .constant("STATISTICS", self.statistics_of(kind) as u32)
            .constant("LOGITS", self.logits())
            .constant("PART_STATS_STORED", part_stats_stored && kind != Kind::Gradient)
            .constant("SWEEP", sweep)
    }

    fn statistics_of(&self, kind: Kind) -> RowStatistics {
        match kind {
            Kind::All | Kind::Sums | Kind::WriteResults => self.statistics,
            Kind::StoreRowState => RowStatistics::StoreState,
            Kind::Gradient => RowStatistics::LoadState,
        }
    }
}

/// The state that dispatches of the same rows share.
struct SharedState {
    /// The softmax statistics of the parts of rows.
    parts: Option<Window>,
    /// The sums of lanes.
    lanes: Option<Window>,
    /// The row state, for the gradient dispatches.
    row_state: Option<Window>,
}

impl Recorder<'_> {
    /// Records all dispatches of some rows.
    pub(crate) fn rows_slice(
        &mut self,
        call: &RowLoss<'_>,
        begun: &RowsCallState,
        slice: &RowsSlice<'_>,
    ) -> Result<()> {
        let (op, dims) = (call.op, slice.dims);
        let plan = call.plan(self.gpu().caps(), begun.inputs.dims);
        let (rows, classes) = (dims.rows(), dims.classes);
        let Steps { stores_part_stats, steps } = call.steps(self.gpu().caps(), plan, (rows, classes))?;
        let parts = if stores_part_stats && !slice.input.is_empty() {
            let of_rows = Rows {
                window: &self.whole(slice.input),
                rows,
                classes,
                inner: dims.inner,
                logits: call.logits(),
                logit_scale: narrow(call.options.logit_scale),
                softcap: narrow(call.options.softcap.unwrap_or(1.0)),
            };
            Some(self.row_parts(op, plan, &of_rows)?)
        } else {
            None
        };
        let any = |kind| steps.iter().any(|step| step.kind == kind);
        let lanes = self.lanes(op, plan, rows as usize, LANE_WORDS, any(Kind::Sums))?;
        let row_state = if any(Kind::StoreRowState) {
            Some(self.output::<u32>(op, [rows as usize, WORDS as usize])?)
        } else {
            None
        };
        let shared = SharedState { parts, lanes, row_state: row_state.map(|state| self.whole(&state)) };
        steps.iter().try_for_each(|step| self.rows_step(call, begun, slice, &shared, (plan, step)))
    }

    /// Records one dispatch.
    fn rows_step(
        &mut self,
        call: &RowLoss<'_>,
        begun: &RowsCallState,
        slice: &RowsSlice<'_>,
        shared: &SharedState,
        (plan, step): (RowPlan, &Step),
    ) -> Result<()> {
        let Inputs { dims: whole, targets, weight, position_weight, .. } = &begun.inputs;
        let RowsSlice { first, dims, first_class, input, probabilities, grad } = *slice;
        let Step { kind, ref blocks, work } = *step;
        let count = dims.rows();
        let len = u64::from(count) * u64::from(dims.classes);
        // A row without classes has no elements to bind, but still a loss: 0 with probabilities or
        // if it is ignored, else NaN.
        let elements = |tensor: &Tensor<Real>| (len > 0).then(|| self.window(tensor, 0, len));
        let one_a_row = |tensor: &Tensor<f32>| {
            if tensor.shape().is_empty() { self.whole(tensor) } else { self.window(tensor, first, count.into()) }
        };
        let stride = |tensor: &Tensor<f32>| u32::from(!tensor.shape().is_empty());
        let input = elements(input);
        let (targets, probabilities, ignored) = if targets.probabilities().is_none() {
            let (index, ignored) = targets.indices(call.op)?;
            (Some(self.window(index, first, count.into())), None, ignored)
        } else {
            // From the first class of the first row to the last class of the last row.
            let gap = (u64::from(count).saturating_sub(1)) * u64::from(whole.classes - dims.classes);
            let window = |q| self.window(q, first_class.into(), len + gap);
            (None, probabilities.filter(|_| len > 0).map(window), 0)
        };
        let weight_window = (!weight.is_empty()).then(|| self.whole(weight));
        // If every class has a coefficient, loads of single weights and probabilities would cost as
        // much as those of logits.
        let of_every_class = call.coefficients() != Coefficients::OfTarget;
        let quads = whole.classes.is_multiple_of(4) && first_class.is_multiple_of(4);
        let in_quads = |window: Option<&Window>| quads && window.is_none_or(|window| window.quads || window.one);
        let weight_by_quad = of_every_class && in_quads(weight_window.as_ref());
        let probabilities_by_quad = in_quads(probabilities.as_ref());
        let position_weight_window = one_a_row(position_weight);
        let writes_grad = call.gradient != GradientPlace::None && matches!(kind, Kind::All | Kind::Gradient);
        let factor = writes_grad.then(|| {
            if begun.factor.by_row() { one_a_row(&begun.factor.value) } else { self.whole(&begun.factor.value) }
        });
        let statistics = call.statistics_of(kind);
        // With `RowStatistics::LoadState`, an earlier dispatch that saw all classes has written the
        // losses.
        let writes_losses = matches!(kind, Kind::All | Kind::WriteResults) && statistics != RowStatistics::LoadState;
        let losses = writes_losses.then(|| self.window(&begun.losses, first, count.into()));
        let words = u64::from(WORDS);
        let of_call = || begun.statistics.as_ref().map(|t| self.window(t, first * words, u64::from(count) * words));
        // The row state is stored to the binding `statistics`, and loaded from the binding `parts`.
        let (statistics_to, parts) = match (kind, statistics) {
            (Kind::Gradient, _) => (None, shared.row_state.clone()),
            (_, RowStatistics::LoadState) => (None, of_call()),
            (Kind::StoreRowState, _) => (shared.row_state.clone(), shared.parts.clone()),
            (Kind::Sums, _) => (None, shared.parts.clone()),
            (Kind::All | Kind::WriteResults, _) => (of_call(), shared.parts.clone()),
        };
        let lanes =
            shared.lanes.as_ref().filter(|_| matches!(kind, Kind::Sums | Kind::WriteResults | Kind::StoreRowState));
        let new_grad = grad.filter(|_| writes_grad).and_then(elements);
        let in_place = writes_grad && call.gradient == GradientPlace::InPlace && len > 0;
        let smoothing = call.options.label_smoothing;
        let params = Params {
            weight_stride: stride(weight),
            position_weight_stride: stride(position_weight),
            factor_stride: u32::from(begun.factor.by_row()),
            factor_form: begun.factor.form as u32,
            ignored,
            target_share: narrow(1.0 - smoothing),
            uniform_share: narrow(smoothing / f64::from(whole.classes)),
            logit_scale: narrow(call.options.logit_scale),
            softcap: narrow(call.options.softcap.unwrap_or(1.0)),
            z_loss: narrow(call.options.z_loss),
            divisor: begun.factor.divisor,
            threshold: narrow(call.threshold),
            first_class,
            all_classes: whole.classes,
        };
        let launch = call
            .launch(kind, shared.parts.is_some())
            .rows(&plan, [count, dims.classes, dims.inner], blocks)
            // The `inner` of the whole tensor decides, so that a gathered strip with a single
            // `inner` index does not need another variant.
            .by_quad(whole.inner == 1 && dims.classes.is_multiple_of(4))
            .in_place(in_place)
            .bind(call.input_name(), input)
            .bind("targets", targets)
            .bind("weight", weight_window)
            .bind("position_weight", position_weight_window)
            .bind("factor", factor)
            .bind("losses", losses)
            .bind("grad", new_grad);
        let launch = if call.computes_softmax() {
            let launch = if of_every_class { launch.constant_if_one("weight") } else { launch };
            let launch = if weight_by_quad { launch } else { launch.by_scalar("weight") };
            let launch = if probabilities_by_quad { launch } else { launch.by_scalar("probabilities") };
            launch
                .bind("probabilities", probabilities)
                .bind("statistics", statistics_to)
                .bind("parts", parts)
                .bind("lanes", lanes.cloned())
        } else {
            launch
        };
        self.launch(launch, &params, work)
    }
}
