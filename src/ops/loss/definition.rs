//! How an elementwise loss describes itself to the common code.

use std::fmt::Debug;

use crate::engine::kernel::{Binding, Kernel, read, read4, write, write4, write4_over};
use crate::error::Result;
use crate::ops::loss::Reduction;
use crate::ops::reduce::broadcast::broadcast_shape;
use crate::ops::shape_error;
use crate::tensor::{Shape, Weights, expect_shape};

/// The options of an elementwise loss.
pub(crate) trait ElementwiseLoss: Debug + Send + Sync {
    fn describe(&self) -> Elementwise<'_>;

    /// Checks the numbers among the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// An elementwise loss as the common code sees it.
#[derive(Clone, Debug)]
pub(crate) struct Elementwise<'a> {
    pub(crate) op: &'static str,
    pub(crate) kernel: &'static Kernel,
    /// The name of the first tensor in errors.
    pub(crate) input: &'static str,
    pub(crate) reduction: Reduction,
    /// Whether inputs and targets of different shapes are broadcast.
    pub(crate) broadcast: bool,
    pub(crate) weight: Option<&'a Weights>,
    /// Whether weights must have the input's shape, instead of any shape that broadcasts to the
    /// losses.
    pub(crate) weight_like_input: bool,
    /// Whether [`Reduction::Mean`] divides by the sum of the weights, instead of the number of
    /// losses.
    pub(crate) mean_by_weight: bool,
    pub(crate) pos_weight: Option<&'a Weights>,
    /// A constant factor of the gradient that the shader's `element_slope` leaves out. It is folded
    /// into `Params::scale`, so that no intermediate product overflows unless the gradient does.
    /// Divided by the number of losses, up to 2^32, it must be a normal `f32`.
    pub(crate) slope_factor: f64,
    /// The numbers that the shader reads as `params.option_0` and `params.option_1`. A loss with
    /// more needs further fields of `Params`.
    pub(crate) options: [f64; 2],
}

impl<'a> Elementwise<'a> {
    /// A loss whose weights broadcast and do not enter the denominator of the mean.
    pub(crate) fn new(
        op: &'static str,
        kernel: &'static Kernel,
        weight: Option<&'a Weights>,
        reduction: Reduction,
    ) -> Self {
        Self {
            op,
            kernel,
            input: "input",
            reduction,
            broadcast: false,
            weight,
            weight_like_input: false,
            mean_by_weight: false,
            pos_weight: None,
            slope_factor: 1.0,
            options: [0.0; 2],
        }
    }

    /// The shape of the losses of an input and targets.
    pub(crate) fn common_shape(&self, input: &Shape, targets: &Shape) -> Result<Shape> {
        let op = self.op;
        let common =
            if self.broadcast { broadcast_shape(input, targets) } else { (input == targets).then(|| input.clone()) };
        let shape = common.ok_or_else(|| {
            let expected = if self.broadcast {
                format!("a shape that broadcasts with the input's {input}")
            } else {
                format!("the input's shape {input} (or, with the option `broadcast`, one that broadcasts with it)")
            };
            shape_error(op, "targets", expected, targets)
        })?;
        if let Some(weight) = self.weight.filter(|_| self.weight_like_input) {
            expect_shape(op, "weight", weight.shape(), input)?;
        }
        Ok(shape)
    }
}

/// The bindings of an elementwise loss without further inputs.
pub(crate) const BINDINGS: &[Binding] = &[
    read4("x"),
    read4("y"),
    read4("upstream"),
    read("weight", "f32"),
    write4("losses"),
    write4_over("grad", "x"),
    write("partials", "u32"),
];
