//! The passes of an update: their gradients, losses and denominators, on the GPU.

use crate::engine::Gpu;
use crate::error::{Error, Result};
use crate::ops::loss::Denominator;
use crate::record::Recorder;
use crate::tensor::{Shape, Tensor};

/// The sums over the passes of an update so far.
///
/// Losses with different denominators have separate sums of gradients, because each sum is divided
/// by its own denominator at the end.
#[derive(Debug)]
pub(crate) struct Window {
    shape: Shape,
    /// Sums of gradients, each laid out like the parameters. Sum `i` is divided by the denominator
    /// of loss `i`.
    pub(super) totals: Vec<Tensor<f32>>,
    /// The rounding errors of each sum, if there are many passes.
    pub(super) lows: Vec<Tensor<f32>>,
    precise: bool,
    /// For each loss, its sum and the sum of its denominators, in two numbers each: `[losses, 4]`.
    pub(super) sums: Tensor<f32>,
    /// For each loss, whether it is divided.
    pub(super) divided: Vec<bool>,
    pub(crate) passes: u32,
}

impl Window {
    /// Allocates `totals` sums of gradients, for windows of `passes` passes, and the sums of
    /// `losses` losses.
    pub(super) fn new(gpu: &Gpu, shape: Shape, (totals, passes): (usize, u32), losses: usize) -> Result<Self> {
        let (sums, divided) = (Tensor::zeros(gpu, [losses, SUMS])?, vec![false; losses]);
        let (precise, lows) = (passes > PLAIN_PASSES, Vec::new());
        let mut window = Self { shape, totals: Vec::new(), lows, precise, sums, divided, passes: 0 };
        window.reserve(gpu, totals)?;
        Ok(window)
    }

    /// Allocates sums of gradients until there are `totals`.
    pub(super) fn reserve(&mut self, gpu: &Gpu, totals: usize) -> Result<()> {
        while self.totals.len() < totals {
            self.totals.push(Tensor::zeros(gpu, self.shape.clone())?);
        }
        while self.precise && self.lows.len() < totals {
            self.lows.push(Tensor::zeros(gpu, self.shape.clone())?);
        }
        Ok(())
    }

    /// Checks that a pass divides its loss like the earlier passes of the window.
    pub(super) fn check(&self, op: &'static str, divided: bool) -> Result<()> {
        let say = |divided: bool| if divided { "a denominator" } else { "nothing" };
        match self.divided.first() {
            Some(&before) if self.passes > 0 && before != divided => {
                let expected = format!("{}, as for those before it in the window", say(before));
                Err(Error::value(op, "what a pass is divided by", expected, say(divided)))
            }
            _ => Ok(()),
        }
    }

    /// Adds a pass's loss and its denominator. Returns the loss of the pass and the loss of the
    /// window so far, each divided by its denominator if there is one.
    pub(crate) fn count(
        &mut self,
        rec: &mut Recorder<'_>,
        number: usize,
        loss: Option<&Tensor<f32>>,
        denominator: Option<&Denominator>,
    ) -> Result<[Tensor<f32>; 2]> {
        if let Some(divided) = self.divided.get_mut(number) {
            *divided = denominator.is_some();
        }
        let sums = self.sums_of(number);
        let means = rec.window_sum(loss, denominator, &sums, self.passes == 0)?;
        Ok([0, 1].map(|i| means.part(i, Shape::default()).with_check(loss.and_then(|loss| loss.check().cloned()))))
    }

    /// Adds the gradients of a pass to the sum `number`.
    pub(crate) fn add(&self, rec: &mut Recorder<'_>, number: usize, grads: &Tensor<f32>) -> Result<()> {
        match (self.totals.get(number), self.lows.get(number)) {
            (Some(total), _) if self.passes == 0 => rec.copy(grads, total),
            (Some(total), Some(lows)) => rec.accumulate_into(grads, total, Some((lows, self.passes == 1))),
            (Some(total), None) => rec.accumulate(grads, total),
            (None, _) => Ok(()),
        }
    }

    /// Returns the gradient of all passes: each sum divided by its denominator, added up.
    /// Overwrites the first sum.
    pub(super) fn gradient(&self, rec: &mut Recorder<'_>) -> Result<Option<Tensor<f32>>> {
        let Some((first, others)) = self.totals.split_first() else { return Ok(None) };
        let divided = |number: usize| self.divided.get(number).copied().unwrap_or_default();
        if divided(0) {
            rec.window_mean(None, first, &self.sums_of(0))?;
        }
        for (total, number) in others.iter().zip(1..) {
            if divided(number) {
                rec.window_mean(Some(total), first, &self.sums_of(number))?;
            } else {
                rec.accumulate(total, first)?;
            }
        }
        Ok(Some(first.clone()))
    }

    fn sums_of(&self, number: usize) -> Tensor<f32> {
        self.sums.part(number * SUMS, [SUMS].into())
    }
}

/// The most passes whose gradients are added without compensation. Rounding errors of longer sums
/// would be visible: a sum of 4096 equal gradients is off by 4e-5.
const PLAIN_PASSES: u32 = 16;

/// The numbers of a loss: its sum and the sum of its denominators, in two numbers each.
const SUMS: usize = 4;
