//! Stochastic gradient descent.

use crate::engine::Gpu;
use crate::engine::kernel::{Kernel, kernel, params, read, read4, update4};
use crate::error::{Error, Result, ensure};
use crate::options::options;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Shape, Tensor, expect_shape, narrow};

use crate::ops::no_alias;
use crate::ops::update::gradient::Gradient;

params! {
    struct Params {
        lr: f32,
        base_lr: f32,
        momentum: f32,
        /// 1 - dampening
        intake: f32,
        weight_decay: f32,
        /// 1, or -1 to maximise.
        sign: f32,
        inverse_loss_scale: f32,
        clip_value: f32,
        /// 1: skips the step if the factor is NaN.
        guard: u32,
    }
}

pub(crate) static KERNEL: Kernel =
    kernel!("sgd", Params::FIELDS, &[update4("values"), read4("grads"), read("factor", "f32"), update4("velocity")]);

options! {
    /// Options of stochastic gradient descent, with the meaning and the defaults of
    /// `torch.optim.SGD`.
    pub struct Sgd {
        /// The learning rate.
        lr: f64 = 1e-3,
        /// The fraction of the velocity that is kept from step to step.
        momentum: f64 = 0.0,
        /// The fraction of the gradient that does not enter the velocity.
        dampening: f64 = 0.0,
        /// The factor of the parameters that is added to their gradient, after `maximize` has set
        /// its sign.
        weight_decay: f64 = 0.0,
        /// Whether to look ahead along the velocity (Nesterov momentum).
        nesterov: bool = false,
        /// Whether to ascend the gradient instead of descending.
        maximize: bool = false,
    }
}

impl Sgd {
    /// Checks the numbers as `torch.optim.SGD` does.
    ///
    /// # Errors
    /// [`Error::Value`] for a learning rate, momentum or weight decay that is negative, or not
    /// finite in `f32`; for a dampening that is not finite; and for Nesterov momentum without
    /// momentum or with dampening.
    pub fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: f64| Error::value("sgd", what, expected, got);
        for (what, value) in [("lr", self.lr), ("momentum", self.momentum), ("weight_decay", self.weight_decay)] {
            ensure!(value >= 0.0 && narrow(value).is_finite(), fail(what, "at least 0 and finite", value));
        }
        ensure!(narrow(self.dampening).is_finite(), fail("dampening", "finite", self.dampening));
        ensure!(!self.nesterov || self.momentum != 0.0, fail("momentum", "above 0 with nesterov", self.momentum));
        ensure!(!self.nesterov || self.dampening == 0.0, fail("dampening", "0 with nesterov", self.dampening));
        Ok(())
    }
}

/// The velocity of [`Recorder::sgd`] with momentum: PyTorch's `momentum_buffer`.
#[derive(Debug)]
pub struct Momentum {
    velocity: Tensor<f32>,
}

/// A velocity before the first step: its bits are a NaN that the kernel never writes.
pub(crate) fn unstarted(gpu: &Gpu, shape: Shape) -> Result<Tensor<f32>> {
    Tensor::filled(gpu, "Momentum::new", shape, f32::from_bits(u32::MAX))
}

impl Momentum {
    /// A velocity that the first step sets to its gradient, as PyTorch does; NaN until then.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn new(gpu: &Gpu, shape: impl Into<Shape>) -> Result<Self> {
        Ok(Self { velocity: unstarted(gpu, shape.into())? })
    }

    /// An existing velocity, to resume training.
    #[must_use]
    pub fn resume(velocity: Tensor<f32>) -> Self {
        Self { velocity }
    }

    /// The velocity.
    #[must_use]
    pub fn velocity(&self) -> &Tensor<f32> {
        &self.velocity
    }
}

/// An update of some parameters.
#[derive(Debug)]
pub(crate) struct SgdStep<'a> {
    pub(crate) values: &'a Tensor<f32>,
    pub(crate) grads: &'a Tensor<f32>,
    /// With momentum; [`unstarted`] before the first step.
    pub(crate) velocity: Option<&'a Tensor<f32>>,
    pub(crate) options: &'a Sgd,
    pub(crate) gradient: Gradient,
    /// The factors of the gradients, from [`Recorder::clip_factor`].
    pub(crate) factor: Option<&'a Tensor<f32>>,
    /// If present, the learning rate is `base_lr` times the third element of `factor`, unless that
    /// element is negative.
    pub(crate) base_lr: Option<f64>,
}

/// The optimiser.
impl Recorder<'_> {
    /// One step of stochastic gradient descent, in one dispatch for all the parameters of a model
    /// ([`Parameters`](crate::optim::Parameters) keeps them in one tensor).
    ///
    /// ```text
    /// g = -grad if maximize else grad;  g += weight_decay * value
    /// v = g at the first step, else momentum * v + (1 - dampening) * g          with momentum only
    /// value -= lr * (g + momentum * v with Nesterov's, v with momentum, else g)
    /// ```
    ///
    /// `momentum` is required if `options.momentum` is not 0, and ignored otherwise. The first step
    /// with a new [`Momentum`] sets its velocity.
    ///
    /// # Errors
    /// [`Error::Value`] as [`Sgd::validate`], or if the options need a `momentum` that is `None`;
    /// different shapes; [`Error::Aliasing`]; [`Error::ForeignTensor`]. On an error nothing is
    /// recorded (except as stated for [`Recorder`]).
    ///
    /// # Cost
    /// 12 bytes an element, 20 with momentum.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::optim::Sgd;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let values = Tensor::from_slice(&gpu, [2], &[1.0, 2.0f32])?;
    /// let grads = Tensor::from_slice(&gpu, [2], &[0.5, -1.0f32])?;
    /// let mut batch = gpu.batch();
    /// batch.sgd(&values, &grads, None, &Sgd::new().lr(0.5))?;
    /// let mut values = batch.read(&values)?;
    /// batch.submit()?;
    /// assert_eq!(values.wait(Duration::from_secs(10))?, [0.75, 2.5]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definition is PyTorch's `torch.optim.SGD`.
    pub fn sgd(
        &mut self,
        values: &Tensor<f32>,
        grads: &Tensor<f32>,
        momentum: Option<&mut Momentum>,
        options: &Sgd,
    ) -> Result<()> {
        let op = "sgd";
        options.validate()?;
        self.check_device(op, "values", values)?;
        self.check_device(op, "grads", grads)?;
        expect_shape(op, "grads", grads.shape(), values.shape())?;
        no_alias(op, ("values", values), ("grads", grads))?;
        let velocity = self.velocity_of("sgd", ["velocity", "values"], values, momentum, options)?;
        let velocity = velocity.as_ref();
        velocity.map_or(Ok(()), |velocity| no_alias(op, ("velocity", velocity), ("grads", grads)))?;
        self.sgd_step(&SgdStep {
            values,
            grads,
            velocity,
            options,
            gradient: Gradient::AS_IT_IS,
            factor: None,
            base_lr: None,
        })
    }

    /// The velocity for a step with these options, if they have momentum. Checks that it fits the
    /// values. Errors call the velocity `name`, and the values `values_name`.
    pub(crate) fn velocity_of(
        &self,
        op: &'static str,
        [name, values_name]: [&'static str; 2],
        values: &Tensor<f32>,
        momentum: Option<&mut Momentum>,
        options: &Sgd,
    ) -> Result<Option<Tensor<f32>>> {
        options.validate()?;
        match momentum {
            _ if options.momentum == 0.0 => Ok(None),
            Some(Momentum { velocity }) => {
                self.check_device(op, name, velocity)?;
                expect_shape(op, name, velocity.shape(), values.shape())?;
                no_alias(op, (name, velocity), (values_name, values))?;
                Ok(Some(velocity.clone()))
            }
            None => {
                let expected = format!("0 without a Momentum for the {values_name}");
                Err(Error::value(op, "momentum", expected, options.momentum))
            }
        }
    }

    /// Records a step; its tensors fit each other.
    pub(crate) fn sgd_step(&mut self, step: &SgdStep<'_>) -> Result<()> {
        let SgdStep { values, grads, velocity, options, gradient, factor, base_lr } = step;
        let op = "sgd";
        let kind = match (velocity, options.nesterov) {
            (None, _) => 0u32,
            (Some(_), false) => 1,
            (Some(_), true) => 2,
        };
        let params = Params {
            lr: narrow(options.lr),
            base_lr: narrow(base_lr.unwrap_or(options.lr)),
            momentum: narrow(options.momentum),
            intake: narrow(1.0 - options.dampening),
            weight_decay: narrow(options.weight_decay),
            sign: if options.maximize { -1.0 } else { 1.0 },
            inverse_loss_scale: gradient.inverse_loss_scale(),
            clip_value: gradient.clip_value(),
            guard: u32::from(gradient.guard),
        };
        BlockLaunch::new(op, &KERNEL, values.count(op)?)
            .constant("MOMENTUM", kind)
            .constant("FACTOR", factor.is_some())
            .constant("SCHEDULED", base_lr.is_some())
            .per_element("values", *values)
            .per_element("grads", *grads)
            .whole("factor", *factor)
            .per_element("velocity", *velocity)
            .run(self, &params)
    }
}
