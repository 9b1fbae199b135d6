//! What the losses and the optimiser can be told; the same for the GPU and the CPU reference.

use crate::error::{Error, Result};
use crate::weights::Weights;

/// How the losses of single elements become the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Every element's loss.
    None,
    /// Their mean. What it divides by is the loss's own matter; over nothing it is NaN.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    /// The reduction that PyTorch's two deprecated arguments mean; `None` is an argument that was not given.
    ///
    /// # Examples
    /// ```
    /// use xent::Reduction;
    /// assert_eq!(Reduction::from_legacy(None, None), Reduction::Mean);
    /// assert_eq!(Reduction::from_legacy(Some(false), None), Reduction::Sum);
    /// assert_eq!(Reduction::from_legacy(Some(true), Some(false)), Reduction::None);
    /// ```
    #[must_use]
    pub fn from_legacy(size_average: Option<bool>, reduce: Option<bool>) -> Self {
        match (size_average.unwrap_or(true), reduce.unwrap_or(true)) {
            (true, true) => Self::Mean,
            (false, true) => Self::Sum,
            (_, false) => Self::None,
        }
    }
}

/// Options of cross-entropy (`cross_entropy`, `cross_entropy_backward`).
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// A factor for each class, `[C]`; 1 if there is none.
    pub weight: Option<Weights>,
    /// How the rows' losses become the result. The mean divides by the sum of the weights of the targets that are not ignored
    /// (without weights: by their number); with probabilities by the number of rows.
    pub reduction: Reduction,
    /// Rows with this target have loss 0, gradient 0 and no part in the mean. It may lie outside the classes.
    /// With probabilities it must be negative, and means nothing.
    pub ignore_index: i64,
    /// How much of a target is spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f32,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { weight: None, reduction: Reduction::Mean, ignore_index: -100, label_smoothing: 0.0 }
    }
}

/// Options of the negative log-likelihood (`nll`, `nll_backward`).
#[derive(Clone, Debug)]
pub struct Nll {
    /// A factor for each class, `[C]`; 1 if there is none.
    pub weight: Option<Weights>,
    /// How the rows' losses become the result. The mean divides by the sum of the weights of the targets that are not ignored
    /// (without weights: by their number).
    pub reduction: Reduction,
    /// Rows with this target have loss 0, gradient 0 and no part in the mean. It may lie outside the classes.
    pub ignore_index: i64,
}

impl Default for Nll {
    fn default() -> Self {
        let CrossEntropy { weight, reduction, ignore_index, .. } = CrossEntropy::default();
        Self { weight, reduction, ignore_index }
    }
}

/// Options of binary cross-entropy on probabilities (`bce`, `bce_backward`).
#[derive(Clone, Debug, Default)]
pub struct Bce {
    /// Factors of the elements' losses, of any shape that broadcasts to theirs. They do not enter the mean's denominator.
    pub weight: Option<Weights>,
    /// How the elements' losses become the result. The mean divides by the number of elements.
    pub reduction: Reduction,
}

/// Options of binary cross-entropy on logits (`bce_with_logits`, `bce_with_logits_backward`).
#[derive(Clone, Debug, Default)]
pub struct BceWithLogits {
    /// Factors of the elements' losses, of any shape that broadcasts to theirs. They do not enter the mean's denominator.
    pub weight: Option<Weights>,
    /// Factors of the positive targets' part of the loss, of any shape that broadcasts to the logits'.
    pub pos_weight: Option<Weights>,
    /// How the elements' losses become the result. The mean divides by the number of elements.
    pub reduction: Reduction,
}

/// Options of the squared error (`mse`, `mse_backward`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mse {
    /// How the elements' losses become the result. The mean divides by the number of elements.
    pub reduction: Reduction,
}

/// Options of stochastic gradient descent, with the meaning and the defaults of `torch.optim.SGD`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f32,
    /// How much of the velocity stays from step to step.
    pub momentum: f32,
    /// How much of the gradient is kept out of the velocity.
    pub dampening: f32,
    /// The factor of the parameters that is added to their gradient (after its sign is settled).
    pub weight_decay: f32,
    /// Look ahead along the velocity (Nesterov's momentum).
    pub nesterov: bool,
    /// Go up the gradient instead of down.
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
    /// [`Error::Value`] for a negative or NaN learning rate, momentum or weight decay, and for Nesterov's momentum without
    /// momentum or with dampening.
    pub fn validate(&self) -> Result<()> {
        let fail = |what, expected: &str, got: f32| {
            Err(Error::Value { op: "sgd", what, expected: expected.to_owned(), got: got.to_string() })
        };
        for (what, value) in [("lr", self.lr), ("momentum", self.momentum), ("weight_decay", self.weight_decay)] {
            if value.is_nan() || value < 0.0 {
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

/// Which of a product's matrices are stored transposed. All are row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `c = a b`: `a` is `[m, k]`, `b` is `[k, n]`. A layer's gradient with respect to its input: `upstream * weight`.
    Nn,
    /// `c = a b^T`: `a` is `[m, k]`, `b` is `[n, k]`. A layer forward: `input * weight^T + bias`.
    Nt,
    /// `c = a^T b`: `a` is `[k, m]`, `b` is `[k, n]`. A layer's gradient with respect to its weight: `upstream^T * input`.
    Tn,
}

/// The ignored target as kernels compare it, in 32 bits. A value that does not fit cannot be a class; host slices are
/// translated with it, and it takes the one place that no class can have.
pub(crate) fn device_ignore_index(ignore_index: i64) -> i32 {
    i32::try_from(ignore_index).unwrap_or(i32::MIN)
}
