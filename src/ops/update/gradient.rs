//! Gradients between a backward pass and an update: accumulation, loss scale, clipping and guard.

use crate::engine::kernel::{Kernel, kernel, params, read, read4, update4, write};
use crate::error::Result;
use crate::plan::{BLOCK, Work};
use crate::record::{BlockLaunch, Launch, Recorder};
use crate::tensor::{Shape, Tensor, expect_shape, narrow};

use crate::ops::no_alias;
use crate::ops::reduce::blocks::{partials, words};

params! {
    struct AccumulateParams {
        /// 1: nothing has been added to `total` yet, so its rounding error is 0.
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
        /// Infinity if there is no bound.
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

/// The number of sums of squares in a norm: of large, normal and tiny gradients.
const SUMS: u32 = 3;

/// The treatment of a gradient before an update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradient {
    /// The factor that the loss was multiplied by.
    pub(crate) loss_scale: f64,
    pub(crate) clip_value: Option<f64>,
    pub(crate) clip_norm: Option<f64>,
    /// Whether to skip the update if a gradient is NaN or infinite.
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

/// The report of an update, on the GPU. Only updates with norm clipping or the guard make one.
#[derive(Clone, Debug)]
pub struct UpdateReport {
    /// A scalar: the norm of all gradients, after clipping by value and before clipping by norm. It
    /// is infinite if it exceeds the range of `f32`; finite gradients are clipped correctly even
    /// then.
    pub norm: Tensor<f32>,
    /// A scalar: 1 if the update was skipped, else 0.
    pub skipped: Tensor<u32>,
}

/// Sums of tensors.
impl Recorder<'_> {
    /// Adds `values` to `total`, element by element.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes differ,
    /// [`Error::Aliasing`](crate::Error::Aliasing) if the tensors share a buffer,
    /// [`Error::ForeignTensor`](crate::Error::ForeignTensor). On an error nothing is recorded
    /// (except as stated for [`Recorder`]).
    ///
    /// # Cost
    /// 12 bytes an element.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let total = Tensor::from_slice(&gpu, [2], &[1.0, 2.0f32])?;
    /// let values = Tensor::from_slice(&gpu, [2], &[0.5, -1.0f32])?;
    /// let mut batch = gpu.batch();
    /// batch.accumulate(&values, &total)?;
    /// let mut total = batch.read(&total)?;
    /// batch.submit()?;
    /// assert_eq!(total.wait(Duration::from_secs(10))?, [1.5, 1.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn accumulate(&mut self, values: &Tensor<f32>, total: &Tensor<f32>) -> Result<()> {
        let op = "accumulate";
        self.check_device(op, "values", values)?;
        self.check_device(op, "total", total)?;
        expect_shape(op, "values", values.shape(), total.shape())?;
        no_alias(op, ("total", total), ("values", values))?;
        self.accumulate_into(values, total, None)
    }

    /// [`accumulate`](Self::accumulate) without checks. Sums of many tensors are added `precisely`:
    /// the rounding errors of the total are kept in a tensor, whose contents are ignored if the
    /// flag is set, because the sum is fresh.
    pub(crate) fn accumulate_into(
        &mut self,
        values: &Tensor<f32>,
        total: &Tensor<f32>,
        precisely: Option<(&Tensor<f32>, bool)>,
    ) -> Result<()> {
        let op = "accumulate";
        let lows = precisely.map(|(lows, _)| lows);
        BlockLaunch::new(op, &ACCUMULATE, values.count(op)?)
            .constant("PRECISE", lows.is_some())
            .per_element("values", values)
            .per_element("total", total)
            .per_element("lows", lows)
            .run(self, &AccumulateParams { fresh: u32::from(precisely.is_some_and(|(_, fresh)| fresh)) })
    }

    /// Computes the norm of all gradients, and the factors to multiply them by. There is at least
    /// one gradient. The first tensor has two factors, which apply one after the other, and an
    /// element for the factor of the learning rates ([`schedule_step`](Self::schedule_step)).
    pub(crate) fn clip_factor(
        &mut self,
        grads: &Tensor<f32>,
        gradient: Gradient,
    ) -> Result<(Tensor<f32>, UpdateReport)> {
        let op = "clip_factor";
        let partials = partials(self, op, (grads.count(op)?, BLOCK), SUMS)?;
        let params =
            NormParams { inverse_loss_scale: gradient.inverse_loss_scale(), clip_value: gradient.clip_value() };
        BlockLaunch::new(op, &NORM, grads.count(op)?)
            .per_element("grads", grads)
            .per_block("partials", &partials, words(SUMS))
            .run(self, &params)?;
        let total = self.sum_of_partials(op, partials, SUMS)?;
        let (factor, norm) = (self.output(op, [3])?, self.output(op, Shape::default())?);
        let skipped = self.output(op, Shape::default())?;
        let params = FactorParams {
            max_norm: narrow(gradient.clip_norm.unwrap_or(f64::INFINITY)),
            guard: u32::from(gradient.guard),
        };
        let launch = Launch::new(op, &FACTOR)
            .bind("total", self.whole(&total))
            .bind("factor", self.whole(&factor))
            .bind("norm", self.whole(&norm))
            .bind("skipped", self.whole(&skipped));
        self.launch(launch, &params, Work::new(1, 0))?;
        Ok((factor, UpdateReport { norm, skipped }))
    }
}
