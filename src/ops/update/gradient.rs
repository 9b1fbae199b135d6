//! What happens to gradients between a backward pass and an update: accumulation, the loss's scale, clipping, a guard.

use crate::engine::kernel::{Kernel, kernel, params, read, read4, update4, write};
use crate::error::Result;
use crate::plan::Work;
use crate::record::{Blocks, Launch, Recorder};
use crate::tensor::{Shape, Tensor, narrow};

use crate::ops::reduce::blocks::{partials, words};
use crate::ops::{no_alias, same_shape};

params! {
    struct AccumulateParams {
        /// 1: nothing was added to `total` before, so it lacks nothing.
        fresh: u32,
    }
}

pub(crate) static ACCUMULATE: Kernel =
    kernel!("accumulate", AccumulateParams::FIELDS, &[read4("values"), update4("total"), update4("lows")]);

params! {
    struct NormParams {
        inverse_loss_scale: f32,
        clip_value: f32,
    }
}

pub(crate) static NORM: Kernel =
    kernel!("grad_norm", NormParams::FIELDS, &[read("grads", "f32"), write("partials", "u32")]);

params! {
    struct FactorParams {
        /// Infinity: no bound.
        max_norm: f32,
        /// 1: skip the update if a gradient is not finite.
        guard: u32,
    }
}

pub(crate) static FACTOR: Kernel = kernel!(
    "clip_factor",
    FactorParams::FIELDS,
    &[read("total", "u32"), write("factor", "f32"), write("norm", "f32"), write("skipped", "u32")]
);

/// The sums of squares of a norm: of large, usual and tiny gradients.
const SUMS: u32 = 3;

/// What is done to a gradient before it updates anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradient {
    /// What the loss was multiplied with.
    pub(crate) loss_scale: f64,
    pub(crate) clip_value: Option<f64>,
    pub(crate) clip_norm: Option<f64>,
    /// Skip the update if a gradient is NaN or infinite.
    pub(crate) guard: bool,
}

impl Gradient {
    pub(crate) const AS_IT_IS: Self = Self { loss_scale: 1.0, clip_value: None, clip_norm: None, guard: false };

    pub(crate) fn inverse_loss_scale(&self) -> f32 {
        narrow(1.0 / self.loss_scale)
    }

    pub(crate) fn clip_value(&self) -> f32 {
        narrow(self.clip_value.unwrap_or(f64::INFINITY))
    }
}

/// What [`Recorder::clip_factor`] gives.
#[derive(Clone, Debug)]
pub(crate) struct ClipFactor {
    /// Two factors that the gradients are multiplied with, one after the other; and room for what the learning rates are ([`ScheduleStep`](super::ScheduleStep)).
    pub(crate) factor: Tensor<f32>,
    /// A scalar: the norm before it was clipped.
    pub(crate) norm: Tensor<f32>,
    /// A scalar: 1 if the update is skipped.
    pub(crate) skipped: Tensor<u32>,
}

/// Sums of tensors.
impl Recorder<'_> {
    /// Adds `values` to `total`, element by element.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if they differ in shape, [`Error::Aliasing`](crate::Error::Aliasing) if they share a
    /// buffer, [`Error::ForeignTensor`](crate::Error::ForeignTensor). Nothing is recorded then.
    ///
    /// # Cost
    /// 12 bytes an element.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let total = Tensor::from_slice(&gpu, [2], &[1.0, 2.0f32])?;
    /// let values = Tensor::from_slice(&gpu, [2], &[0.5, -1.0f32])?;
    /// let mut batch = gpu.batch();
    /// batch.accumulate(&values, &total)?;
    /// let mut total = batch.read(&total)?;
    /// batch.submit()?;
    /// assert_eq!(total.wait(Duration::from_secs(10))?, [1.5, 1.0]);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn accumulate(&mut self, values: &Tensor<f32>, total: &Tensor<f32>) -> Result<()> {
        let op = "accumulate";
        self.check_device(op, "values", values)?;
        self.check_device(op, "total", total)?;
        same_shape(op, "values", values, total)?;
        no_alias(op, ("total", total), ("values", values))?;
        self.accumulate_into(values, total, None)
    }

    /// [`accumulate`](Self::accumulate) of many tensors, one after the other: what the total lacks of their sum is kept in `lows`, which need not be
    /// written before if the sum is `fresh`.
    pub(crate) fn accumulate_precisely(
        &mut self,
        values: &Tensor<f32>,
        total: &Tensor<f32>,
        (lows, fresh): (&Tensor<f32>, bool),
    ) -> Result<()> {
        self.accumulate_into(values, total, Some((lows, fresh)))
    }

    fn accumulate_into(
        &mut self,
        values: &Tensor<f32>,
        total: &Tensor<f32>,
        precisely: Option<(&Tensor<f32>, bool)>,
    ) -> Result<()> {
        let op = "accumulate";
        let lows = precisely.map(|(lows, _)| lows);
        Blocks::new(op, &ACCUMULATE, values.count(op)?)
            .constant("PRECISE", lows.is_some())
            .each("values", values)
            .each("total", total)
            .each("lows", lows)
            .run(self, &AccumulateParams { fresh: u32::from(precisely.is_some_and(|(_, fresh)| fresh)) })
    }

    /// The norm of all gradients, and what they are to be multiplied with. There is at least one.
    pub(crate) fn clip_factor(&mut self, grads: &Tensor<f32>, gradient: Gradient) -> Result<ClipFactor> {
        let op = "clip_factor";
        let partials = partials(self, op, grads.count(op)?, SUMS)?;
        let params =
            NormParams { inverse_loss_scale: gradient.inverse_loss_scale(), clip_value: gradient.clip_value() };
        Blocks::new(op, &NORM, grads.count(op)?)
            .each("grads", grads)
            .per_block("partials", &partials, words(SUMS))
            .run(self, &params)?;
        let total = self.sum_of_partials(op, partials, SUMS)?;
        let (factor, norm) = (self.output(op, [3])?, self.output(op, Shape::default())?);
        let skipped = self.output(op, Shape::default())?;
        let params = FactorParams {
            max_norm: narrow(gradient.clip_norm.unwrap_or(f64::INFINITY)),
            guard: u32::from(gradient.guard),
        };
        let launch = Launch::new(&FACTOR)
            .bind("total", self.whole(&total))
            .bind("factor", self.whole(&factor))
            .bind("norm", self.whole(&norm))
            .bind("skipped", self.whole(&skipped));
        self.launch(&launch, &params, Work::new(1, 0))?;
        Ok(ClipFactor { factor, norm, skipped })
    }
}
