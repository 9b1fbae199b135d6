//! Records losses of rows.

use crate::engine::Caps;
use crate::error::Result;
use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::row_loss::{
    Coefficients, Factor, FactorForm, Inputs, RowLoss, RowStatistics, RowsCallState, RowsOutput, RowsSlice,
    mean_divisor,
};
use crate::ops::loss::statistics::WORDS;
use crate::ops::loss::{Denominator, Grad, LossOutput, Reduction};
use crate::ops::map::cast::KERNEL as CAST;
use crate::ops::reduce::blocks::{Divisor, as_f32, check_of};
use crate::ops::{Classes, no_alias};
use crate::plan::RowSplit;
use crate::record::Recorder;
use crate::tensor::{Float, Format, Shape, Tensor, expect_shape, size32};
use std::ops::Range;

impl Recorder<'_> {
    /// Records a loss of all rows.
    pub(crate) fn row_loss<T: Float>(
        &mut self,
        call: &RowLoss<'_>,
        input: &Tensor<T>,
        grad: Grad<'_, T>,
    ) -> Result<LossOutput<T>> {
        let op = call.op;
        self.check_device(op, call.input_name(), input)?;
        let inputs = call.validate(self)?;
        match grad {
            Grad::No | Grad::New => {}
            Grad::InPlace => call.check_written(&inputs, (call.input_name(), &input.real()))?,
            Grad::Into(to) => {
                self.check_device(op, "grad", to)?;
                expect_shape(op, "grad", to.shape(), input.shape())?;
                no_alias(op, ("grad", to), (call.input_name(), input))?;
                call.check_written(&inputs, ("grad", &to.real()))?;
            }
        }
        let to = match grad {
            Grad::No | Grad::InPlace => None,
            Grad::New => Some(self.output(op, call.shape.clone())?),
            Grad::Into(to) => Some(to.clone()),
        };
        if let Some(to) = to.as_ref().filter(|_| self.gpu().caps().max_bindings < Caps::ENOUGH_BINDINGS) {
            // Saves a binding: the gradient is written in place over a copy of the input.
            let options = call.options.clone();
            let call = RowLoss { shape: call.shape.clone(), options, gradient: GradientPlace::InPlace, ..*call };
            // Fails before anything is recorded.
            call.strips(self.gpu().caps(), inputs.dims, &to.real(), None)?;
            match T::FORMAT {
                Format::Word => self.copy(input, to)?,
                // Halves can start and end inside a word, so they cannot be copied as words.
                Format::F16 | Format::Bf16 => self.map_into(op, &CAST, &input.real(), &to.real())?,
            }
            return self.row_loss(&call, to, Grad::InPlace);
        }
        let (whole, new_grad) = (input.real(), to.as_ref().map(Tensor::real));
        let strips = call.strips(self.gpu().caps(), inputs.dims, &whole, new_grad.as_ref())?;
        let begun = self.begin_validated_rows(call, inputs)?;
        for strip in strips {
            let (first, dims) = (strip.first_row(), strip.dims());
            let input = &self.strip_of(op, &whole, &strip)?;
            let probabilities = call.targets.probabilities();
            let probabilities = probabilities.map(|q| self.strip_of(op, q, &strip)).transpose()?;
            let grad = new_grad.as_ref().map(|grad| self.room_for_strip(op, grad, &strip)).transpose()?;
            let (probabilities, grad) = (probabilities.as_ref(), grad.as_ref());
            self.rows_slice(call, &begun, &RowsSlice { first, dims, first_class: 0, input, probabilities, grad })?;
            match (grad, &new_grad) {
                (Some(grad), Some(new_grad)) => self.store_strip(grad, &strip, new_grad)?,
                _ if call.gradient == GradientPlace::InPlace => self.store_strip(input, &strip, &whole)?,
                _ => {}
            }
        }
        let RowsOutput { loss, statistics, check, denominator } = self.end_rows(call, begun)?;
        let grad = match grad {
            Grad::InPlace => Some(input.clone()),
            Grad::No | Grad::New | Grad::Into(_) => to,
        };
        let grad = grad.map(|grad| grad.with_check(check));
        Ok(LossOutput { loss, grad, statistics, denominator })
    }

    /// Begins a loss whose rows are recorded in slices.
    pub(crate) fn begin_rows(&mut self, call: &RowLoss<'_>) -> Result<RowsCallState> {
        let inputs = call.validate(self)?;
        self.begin_validated_rows(call, inputs)
    }

    /// Like [`begin_rows`](Self::begin_rows), after `RowLoss::validate`.
    pub(crate) fn begin_validated_rows(&mut self, call: &RowLoss<'_>, inputs: Inputs) -> Result<RowsCallState> {
        let op = call.op;
        let inputs = match call.coefficients() {
            Coefficients::Smoothed if !inputs.weight.shape().is_empty() => {
                Inputs { weight: self.with_sum(op, &inputs.weight)?, ..inputs }
            }
            _ => inputs,
        };
        let losses = self.output(op, inputs.rows.clone())?;
        let rows = inputs.dims.rows() as usize;
        let statistics = call.statistics != RowStatistics::None;
        let statistics = statistics.then(|| self.output(op, [rows, WORDS as usize])).transpose()?;
        let denominator = self.denominator(call, &inputs)?;
        let factor = self.factor(call, &inputs, call.divisor(&inputs, denominator.as_ref()))?;
        Ok(RowsCallState { inputs, losses, statistics, denominator, factor })
    }

    /// Ends a loss: computes the results that depend on all rows.
    pub(crate) fn end_rows(&mut self, call: &RowLoss<'_>, begun: RowsCallState) -> Result<RowsOutput> {
        let op = call.op;
        let RowsCallState { inputs, losses, statistics, denominator, .. } = begun;
        let divisor = call.divisor(&inputs, denominator.as_ref());
        let by_index = inputs.targets.probabilities().is_none();
        let check = denominator.as_ref().filter(|_| by_index).and_then(|partial| check_of(op, "a target", partial));
        let loss = match call.options.reduction {
            Reduction::None => losses,
            Reduction::Mean | Reduction::MeanByCount | Reduction::Sum => self.loss_of_values(op, &losses, divisor)?,
        };
        let wanted = statistics.filter(|_| call.statistics == RowStatistics::Write);
        let statistics =
            wanted.map(|words| self.row_statistics(op, &words, &inputs.rows, check.as_ref())).transpose()?;
        let denominator = Denominator::of(self, mean_divisor(&inputs, denominator.as_ref()));
        Ok(RowsOutput { loss: loss.with_check(check.clone()), statistics, check, denominator })
    }

    /// Returns weights followed by their sum, and by padding if the weights are whole quads.
    fn with_sum(&mut self, op: &'static str, weights: &Tensor<f32>) -> Result<Tensor<f32>> {
        let (sum, count) = (self.loss_of_values(op, weights, Divisor::One)?, weights.len());
        let padding = if count.is_multiple_of(4) { 3 } else { 0 };
        let both = self.output(op, [count + 1 + padding])?;
        self.copy(weights, &both.rows(0..count)?)?;
        self.copy(&sum.reshape([1])?, &both.rows(count..count + 1)?)?;
        Ok(both)
    }

    fn denominator(&mut self, call: &RowLoss<'_>, inputs: &Inputs) -> Result<Option<Tensor<u32>>> {
        let op = call.op;
        let Inputs { dims, targets, weight, position_weight, .. } = inputs;
        let by_count = call.options.reduction == Reduction::MeanByCount;
        if targets.probabilities().is_none() {
            let (index, ignored) = targets.indices(op)?;
            let weights = [weight, position_weight];
            Ok(Some(self.sum_target_weights(op, index, weights, dims.classes, ignored, by_count)?))
        } else if call.options.position_weight.is_none() || by_count {
            Ok(None)
        } else {
            Ok(Some(self.sum_of_values(op, position_weight)?))
        }
    }

    /// Describes the factor of the gradients, upstream / divisor. The loss kernel divides. Only if
    /// there are both an upstream gradient and a divisor on the GPU does a separate dispatch
    /// compute the quotient.
    fn factor(&mut self, call: &RowLoss<'_>, inputs: &Inputs, divisor: Divisor<'_>) -> Result<Factor> {
        let upstream = inputs.upstream.clone();
        Ok(match divisor {
            Divisor::Count(count) => Factor { value: upstream, form: FactorForm::Quotient, divisor: as_f32(count) },
            Divisor::Sum(partial) if !partial.is_empty() && call.upstream.is_none() => {
                let value =
                    Tensor::over(self.gpu(), partial.storage().clone(), partial.bytes().start, Shape::default());
                Factor { value, form: FactorForm::Inverse, divisor: 1.0 }
            }
            Divisor::Sum(partial) if call.gradient != GradientPlace::None => {
                let value = self.upstream_quotient(call.op, &upstream, partial)?;
                Factor { value, form: FactorForm::Product, divisor: 1.0 }
            }
            Divisor::Sum(_) | Divisor::One => Factor { value: upstream, form: FactorForm::Quotient, divisor: 1.0 },
        })
    }

    /// Records the rows of some tokens, given their logits of some classes from `first_class` on.
    /// Takes several dispatches if the rows exceed the grid, or if the probabilities span several
    /// buffers.
    pub(crate) fn rows_of_tokens(
        &mut self,
        call: &RowLoss<'_>,
        begun: &RowsCallState,
        tokens: Range<usize>,
        first_class: usize,
        logits: &Tensor<f32>,
    ) -> Result<()> {
        let whole = begun.inputs.dims;
        let probabilities = begun.inputs.targets.probabilities();
        let probabilities = probabilities.map(|q| q.rows(tokens.clone())).transpose()?;
        let classes = size32(logits.shape().get(1).copied().unwrap_or(0));
        let per_row: Vec<_> = probabilities.iter().map(|q| q.per_row(whole.classes.into())).collect();
        let groups_per_granule = call.plan(self.gpu().caps(), whole).parts().into();
        let split = RowSplit { groups_per_granule, ..RowSplit::new(call.op, size32(tokens.len()), &per_row, 1) };
        for rows in split.ranges(self.gpu().caps())? {
            let rows = rows.start as usize..rows.end as usize;
            let dims = Classes { outer: size32(rows.len()), classes, inner: 1 };
            let first = (tokens.start + rows.start) as u64;
            let input = &logits.rows(rows.clone())?.real();
            let probabilities = probabilities.as_ref().map(|q| q.rows(rows)).transpose()?;
            let (first_class, probabilities) = (size32(first_class), probabilities.as_ref());
            self.rows_slice(call, begun, &RowsSlice { first, dims, first_class, input, probabilities, grad: None })?;
        }
        Ok(())
    }
}
