//! Options: structs with public fields, defaults and setters.
//!
//! Options are `#[non_exhaustive]`: callers start from `new()` and set what they need, so that a field
//! can be added without breaking them. A builder type would say the same twice, and could not be read back.

/// Declares a struct of options. For each field: its documentation, name, type and default. A field
/// written `name? Type` is an `Option<Type>`, `None` by default, whose setter takes a `Type`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$doc:meta])* $field:ident $kind:tt $ty:ty $(= $default:expr)?),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $name { $($(#[$doc])* pub $field: $crate::options::options!(@type $kind $ty)),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::options::options!(@default $($default)?)),* }
            }
        }

        impl $name {
            /// The defaults.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $($crate::options::options!(@setter $(#[$doc])* $field $kind $ty);)*
        }
    };
    (@type : $ty:ty) => { $ty };
    (@type ? $ty:ty) => { Option<$ty> };
    (@default) => { None };
    (@default $default:expr) => { $default };
    (@setter $(#[$doc:meta])* $field:ident : $ty:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        }
    };
    (@setter $(#[$doc:meta])* $field:ident ? $ty:ty) => {
        $(#[$doc])*
        #[must_use]
        pub fn $field(mut self, $field: impl Into<Option<$ty>>) -> Self {
            self.$field = $field.into();
            self
        }
    };
}
pub(crate) use options;

use crate::error::{Error, Result};
use crate::plan::linear::LinearPlan;
use crate::ops::loss::{BceWithLogits, Reduction};
use crate::tensor::{Weights, narrow};


/// Options of cross-entropy (`cross_entropy`, `cross_entropy_backward` and their like).
///
/// A number other than 0 must be at least 1.2e-38 (`f32::MIN_POSITIVE`), and so must each class's
/// share of `label_smoothing`: hardware may flush smaller numbers to 0.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// A factor for each class, `[C]`; 1 if there is none. With label smoothing or probabilities, a
    /// class's part of the loss (weight times share times logit) may count as 0 below 1.2e-38;
    /// gradients lose nothing.
    pub weight: Option<Weights>,
    /// A factor for each row's loss, with the shape of the targets (that of the logits without
    /// `C`); 1 if there is none. It may be negative, such as an advantage. Use
    /// [`Reduction::MeanByCount`] then, because the default mean divides by the sum of the weights,
    /// which is about 0. A row of weight 0 costs 0 whatever it holds.
    pub position_weight: Option<Weights>,
    /// How the losses of rows are reduced. [`Reduction::Mean`] divides by the sum, over the rows
    /// that are not ignored, of position weight times class weight of the target (without weights:
    /// by their number); with probabilities by the sum of the position weights (without: by the
    /// number of rows). [`Reduction::MeanByCount`] divides by the number of rows whose target is
    /// not the ignored index.
    pub reduction: Reduction,
    /// Rows with this target have loss 0 and gradient 0, and do not count in the mean. The index
    /// may lie outside the classes. One that the type of the targets cannot hold is `i32::MIN` in a
    /// `Tensor<i32>` ([`Tensor::targets`](crate::Tensor::targets) writes that value) and `u32::MAX`
    /// in a `Tensor<u32>`. With probabilities it must be negative, and has no effect.
    pub ignore_index: i64,
    /// The part of a target that is spread evenly over all classes, from 0 to 1. With class
    /// weights, the sum of the weights must be within the range of `f32`.
    pub label_smoothing: f64,
    /// The factor of the logits before everything else: the inverse of a temperature, above 0.
    pub logit_scale: f64,
    /// The bound `c` of soft-capped logits, above 0: after the scale, `z` becomes `c tanh(z / c)`.
    pub softcap: Option<f64>,
    /// The factor of the z-loss, at least 0: each row's loss grows by `z_loss` times the square of
    /// the row's log-sum-exp, independent of class weights.
    pub z_loss: f64,
}

impl CrossEntropy {
    /// The defaults, as a constant.
    pub const DEFAULT: Self = Self {
        weight: None,
        position_weight: None,
        reduction: Reduction::Mean,
        ignore_index: -100,
        label_smoothing: 0.0,
        logit_scale: 1.0,
        softcap: None,
        z_loss: 0.0,
    };

    /// Checks the numbers among the options.
    pub(crate) fn validate(&self, op: &'static str) -> Result<()> {
        let fail = |what, expected: &str, got: f64| {
            Err(Error::Value { op, what, expected: expected.to_owned(), got: got.to_string() })
        };
        // Kernels see the numbers as `f32`.
        let positive = |value: f64| narrow(value) > 0.0 && narrow(value).is_finite();
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return fail("label_smoothing", "in 0..=1", self.label_smoothing);
        }
        if !positive(self.logit_scale) {
            return fail("logit_scale", "above 0 and finite", self.logit_scale);
        }
        if let Some(softcap) = self.softcap.filter(|&softcap| !positive(softcap)) {
            return fail("softcap", "above 0 and finite", softcap);
        }
        if self.z_loss.is_nan() || self.z_loss < 0.0 || !narrow(self.z_loss).is_finite() {
            return fail("z_loss", "at least 0 and finite", self.z_loss);
        }
        let softcap = self.softcap.unwrap_or(1.0);
        let (smoothing, z_loss) = (self.label_smoothing, self.z_loss);
        let all = [
            ("label_smoothing", smoothing),
            ("logit_scale", self.logit_scale),
            ("softcap", softcap),
            ("z_loss", z_loss),
        ];
        // Hardware may flush subnormal numbers to 0.
        match all.into_iter().find(|&(_, value)| value != 0.0 && !narrow(value).is_normal()) {
            Some((what, value)) => {
                let may_be_zero = what == "label_smoothing" || what == "z_loss";
                let expected = if may_be_zero { "at least 1.2e-38, or 0" } else { "at least 1.2e-38" };
                Err(Error::Value { op, what, expected: expected.to_owned(), got: format!("{value:e}") })
            }
            None => Ok(()),
        }
    }

    /// Checks the share of a smoothed target that each of `classes` classes gets.
    pub(crate) fn validate_share(&self, op: &'static str, classes: usize) -> Result<()> {
        let share = narrow(self.label_smoothing / f64::from(u32::try_from(classes.max(1)).unwrap_or(u32::MAX)));
        if share.is_normal() || self.label_smoothing == 0.0 {
            Ok(())
        } else {
            let expected = format!("at least 1.2e-38 for each of {classes} classes, or 0");
            let got = format!("{:e}", self.label_smoothing);
            Err(Error::Value { op, what: "label_smoothing", expected, got })
        }
    }
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Options of cross-entropy of a linear layer's outputs (`linear_cross_entropy` and its like).
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    /// The options of the cross-entropy.
    pub loss: CrossEntropy,
    /// The most bytes of scratch memory, 32 MiB by default. The logits of one token must fit: 4
    /// bytes a class, and up to a fourth more, because buffer sizes are rounded up.
    /// `linear_cross_entropy_sgd` uses half of the scratch for logits.
    pub scratch: u64,
    /// Gradients with respect to logits that are smaller than this count as 0, and products of
    /// nothing but such zeros are skipped. The default of 0 skips nothing. The threshold is
    /// compared with the gradient of the token's own loss, before position weights, the denominator
    /// of the mean and the upstream gradient (together the factor `f`). An element of the gradient
    /// of the hidden states is then off by at most `threshold * |f_n| * sum over v of |W[v, d]|`,
    /// one of the weight's gradient by `threshold * sum over n of |f_n h[n, d]|`, and one of the
    /// bias's by `threshold * sum over n of |f_n|`. With a large vocabulary most probabilities are
    /// tiny. Weights and hidden states that are not finite go unnoticed if all products with them
    /// are skipped.
    pub gradient_threshold: f64,
}

impl LinearCrossEntropy {
    pub(crate) const DEFAULT_SCRATCH: u64 = LinearPlan::DEFAULT_SCRATCH;

    /// Checks the numbers that are not options of the loss.
    pub(crate) fn validate(&self, op: &'static str) -> Result<()> {
        let threshold = self.gradient_threshold;
        if threshold >= 0.0 && narrow(threshold).is_finite() {
            Ok(())
        } else {
            let (expected, got) = ("at least 0 and finite".to_owned(), threshold.to_string());
            Err(Error::Value { op, what: "gradient_threshold", expected, got })
        }
    }
}

impl Default for LinearCrossEntropy {
    fn default() -> Self {
        Self { loss: CrossEntropy::DEFAULT, scratch: Self::DEFAULT_SCRATCH, gradient_threshold: 0.0 }
    }
}

/// Options of binary cross-entropy of a linear layer's outputs (`linear_bce_with_logits` and its
/// like).
#[derive(Clone, Debug)]
pub struct LinearBceWithLogits {
    /// The options of the binary cross-entropy.
    pub loss: BceWithLogits,
    /// The most bytes of scratch memory, 32 MiB by default. The logits of one token and their
    /// losses must fit, 8 bytes a class.
    pub scratch: u64,
}

impl Default for LinearBceWithLogits {
    fn default() -> Self {
        Self { loss: BceWithLogits::default(), scratch: LinearCrossEntropy::DEFAULT_SCRATCH }
    }
}

impl From<BceWithLogits> for LinearBceWithLogits {
    fn from(loss: BceWithLogits) -> Self {
        Self { loss, ..Self::default() }
    }
}

impl From<CrossEntropy> for LinearCrossEntropy {
    fn from(loss: CrossEntropy) -> Self {
        Self { loss, ..Self::default() }
    }
}

/// Options of the negative log-likelihood (`nll`, `nll_backward`).
#[derive(Clone, Debug)]
pub struct Nll {
    /// A factor for each class, `[C]`; 1 if there is none.
    pub weight: Option<Weights>,
    /// A factor for each row's loss, with the shape of the targets; 1 if there is none. All that
    /// [`CrossEntropy::position_weight`] says applies.
    pub position_weight: Option<Weights>,
    /// How the losses of rows are reduced. [`Reduction::Mean`] divides by the sum, over the rows
    /// that are not ignored, of position weight times class weight of the target (without weights:
    /// by their number), [`Reduction::MeanByCount`] by the number of rows whose target is not the
    /// ignored index.
    pub reduction: Reduction,
    /// Rows with this target have loss 0 and gradient 0, and do not count in the mean, as for
    /// [`CrossEntropy::ignore_index`].
    pub ignore_index: i64,
}

impl Default for Nll {
    fn default() -> Self {
        let CrossEntropy { weight, position_weight, reduction, ignore_index, .. } = CrossEntropy::DEFAULT;
        Self { weight, position_weight, reduction, ignore_index }
    }
}

/// Options of stochastic gradient descent, with the meaning and the defaults of `torch.optim.SGD`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f64,
    /// The fraction of the velocity that is kept from step to step.
    pub momentum: f64,
    /// The fraction of the gradient that does not enter the velocity.
    pub dampening: f64,
    /// The factor of the parameters that is added to their gradient, after `maximize` has set its
    /// sign.
    pub weight_decay: f64,
    /// Whether to look ahead along the velocity (Nesterov momentum).
    pub nesterov: bool,
    /// Whether to ascend the gradient instead of descending.
    pub maximize: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false }
    }
}

impl Sgd {
    /// Checks the numbers as `torch.optim.SGD` does.
    ///
    /// # Errors
    /// [`Error::Value`] for a negative learning rate, momentum or weight decay, and for Nesterov
    /// momentum without momentum or with dampening.
    pub fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: f64| {
            Err(Error::Value { op: "sgd", what, expected: expected.to_owned(), got: got.to_string() })
        };
        for (what, value) in [("lr", self.lr), ("momentum", self.momentum), ("weight_decay", self.weight_decay)] {
            if value < 0.0 {
                return fail(what, "at least 0", value);
            }
        }
        if self.nesterov && self.momentum == 0.0 {
            return fail("momentum", "above 0 with nesterov", self.momentum);
        }
        if self.nesterov && self.dampening != 0.0 {
            return fail("dampening", "0 with nesterov", self.dampening);
        }
        Ok(())
    }
}

/// The ignored index in 32 bits, as kernels compare it. A value that does not fit cannot be a
/// class: it becomes `i32::MIN`, which no class can have. Host slices are translated with this
/// function.
pub(crate) fn device_ignore_index(ignore_index: i64) -> i32 {
    i32::try_from(ignore_index).unwrap_or(i32::MIN)
}
