use std::borrow::Cow;

use super::log_softmax::row_log_sum;
use super::{Classes, LossGrad, OF_NOTHING, View, class_of, count, factors, reduce, upstream_factor};
use crate::error::{Error, Result, ensure, expect_len, try_with_capacity, within};
use crate::ops::loss::{CrossEntropy, Reduction};

/// The targets of rows of logits; see [`crate::loss::Targets`]. Slices, vectors and arrays convert
/// into it: class indices of `i64`, `i32`, `u32` or `u8`, or probabilities of `f32`.
#[derive(Clone, Debug)]
pub struct Targets<'a> {
    kind: Kind<'a>,
    ignored: i64,
}

#[derive(Clone, Debug)]
enum Kind<'a> {
    /// A class index per row.
    Index(Cow<'a, [i64]>),
    /// A probability for each class of each row.
    Probabilities(&'a [f32]),
}

impl Targets<'_> {
    /// Sets the ignored index; see [`crate::loss::Targets::ignoring`].
    #[must_use]
    pub fn ignoring(self, ignored: i64) -> Self {
        Self { ignored, ..self }
    }

    /// The class indices and the ignored index.
    pub(super) fn indices(&self, op: &'static str) -> Result<(&[i64], i64)> {
        match &self.kind {
            Kind::Index(index) => Ok((index, self.ignored)),
            Kind::Probabilities(_) => Err(Error::value(op, "targets", "class indices", "probabilities")),
        }
    }
}

impl<'a> Targets<'a> {
    /// The probabilities, if these are the targets.
    pub(super) fn probabilities(&self) -> Option<&'a [f32]> {
        match self.kind {
            Kind::Index(_) => None,
            Kind::Probabilities(probabilities) => Some(probabilities),
        }
    }
}

impl<'a> From<Kind<'a>> for Targets<'a> {
    fn from(kind: Kind<'a>) -> Self {
        Self { kind, ignored: crate::ops::loss::Targets::IGNORED }
    }
}

impl<'a> From<&'a [i64]> for Targets<'a> {
    fn from(index: &'a [i64]) -> Self {
        Kind::Index(index.into()).into()
    }
}

impl<'a> From<&'a [f32]> for Targets<'a> {
    fn from(probabilities: &'a [f32]) -> Self {
        Kind::Probabilities(probabilities).into()
    }
}

macro_rules! from_narrow {
    ($($ty:ty),+) => { $(
        impl From<&[$ty]> for Targets<'_> {
            fn from(index: &[$ty]) -> Self {
                Kind::Index(index.iter().copied().map(i64::from).collect()).into()
            }
        }
    )+ };
}
from_narrow!(i32, u32, u8);

impl<'a, T> From<&'a Vec<T>> for Targets<'a>
where
    Self: From<&'a [T]>,
{
    fn from(targets: &'a Vec<T>) -> Self {
        targets[..].into()
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for Targets<'a>
where
    Self: From<&'a [T]>,
{
    fn from(targets: &'a [T; N]) -> Self {
        targets[..].into()
    }
}

/// Cross-entropy of logits and targets; see
/// [`Recorder::cross_entropy`](crate::Recorder::cross_entropy).
///
/// # Errors
/// [`Error::Shape`] if a slice does not fit the shape; [`Error::Value`] naming the first target
/// that is not a class, for an option outside its range, and for weights that are on the GPU;
/// [`Error::Limit`] for more than 2^24 rows without classes; [`Error::HostMemory`] if there is no
/// memory for the gradient.
pub fn cross_entropy<'a, T: Copy + Into<f64> + 'a>(
    logits: impl Into<View<'a, T>>,
    targets: impl Into<Targets<'a>>,
    options: &CrossEntropy,
) -> Result<Vec<f64>> {
    Ok(cross_entropy_backward(logits, targets, options, None)?.loss)
}

/// [`cross_entropy`] and its gradient with respect to the logits.
///
/// # Errors
/// Same as [`cross_entropy`], and if `upstream` has neither one element nor one per loss.
#[expect(
    clippy::indexing_slicing,
    reason = "`rows` returns a logit per element and an outcome per row, and all indices lie within"
)]
pub fn cross_entropy_backward<'a, T: Copy + Into<f64> + 'a>(
    logits: impl Into<View<'a, T>>,
    targets: impl Into<Targets<'a>>,
    options: &CrossEntropy,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let View { data: logits, shape } = logits.into();
    let op = "cpu::cross_entropy";
    let targets = targets.into();
    let Rows { dims, logits: z, outcomes, counted } = rows(op, View { data: logits, shape }, &targets, options)?;
    let weight = factors(op, "weight", options.weight.as_ref(), dims.classes)?;
    let position_weight = factors(op, "position_weight", options.position_weight.as_ref(), dims.rows())?;
    let smoothing = options.label_smoothing;
    let row_weight = |(row, outcome): (usize, &Outcome)| match *outcome {
        Outcome::Ignored => 0.0,
        Outcome::Class(class) => position_weight(row) * weight(class),
        Outcome::Probabilities => position_weight(row),
    };
    let mean = match options.reduction {
        Reduction::MeanByCount => count(counted),
        _ => outcomes.iter().enumerate().map(row_weight).sum(),
    };
    let factor = upstream_factor(op, upstream, outcomes.len(), options.reduction, mean)?;
    let mut losses = vec![0.0; outcomes.len()];
    let mut grad = try_with_capacity(op, logits.len())?;
    grad.resize(logits.len(), 0.0);
    for (row, &outcome) in outcomes.iter().enumerate().filter(|(_, outcome)| **outcome != Outcome::Ignored) {
        // The coefficient of each class's negative log-probability.
        let coefficient = |(class, i): (usize, usize)| {
            let kept = match (outcome, &targets.kind) {
                (Outcome::Class(target), _) => f64::from(u8::from(target == class)),
                (_, Kind::Probabilities(q)) => f64::from(q[i]),
                (_, Kind::Index(_)) => 0.0,
            };
            // Without smoothing, only the weight of the target's class matters.
            if matches!(outcome, Outcome::Class(target) if target != class) && smoothing == 0.0 {
                return 0.0;
            }
            let weight = weight(class);
            weight * ((1.0 - smoothing) * kept) + weight * (smoothing / count(dims.classes))
        };
        let sum: f64 = dims.row(row).enumerate().map(coefficient).sum();
        let (max, log_sum) = row_log_sum(dims.row(row).map(|i| z[i].value));
        let log_sum_exp = max + log_sum;
        for (class, i) in dims.row(row).enumerate() {
            let log_prob = (z[i].value - max) - log_sum;
            let a = coefficient((class, i));
            // A coefficient of 0 times an infinite log-probability is 0; times NaN it is NaN.
            losses[row] += if a == 0.0 && !log_prob.is_nan() { 0.0 } else { a * -log_prob };
            // sum * p - a, without cancellation if p is near 1.
            let pull = 2.0 * options.z_loss * log_sum_exp * log_prob.exp();
            let slope = a * log_prob.exp_m1() + (sum - a) * log_prob.exp() + pull;
            grad[i] = factor(row) * position_weight(row) * slope * z[i].slope;
        }
        if options.z_loss != 0.0 && dims.classes > 0 {
            losses[row] += options.z_loss * log_sum_exp * log_sum_exp;
        }
        losses[row] *= position_weight(row);
    }
    Ok(LossGrad { loss: reduce(losses, options.reduction, mean), grad })
}

/// A logit after scale and cap, and its derivative with respect to the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logit {
    pub(super) value: f64,
    slope: f64,
}

/// How a row enters the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ignored,
    Class(usize),
    Probabilities,
}

/// The rows of a call, once its arguments are checked.
pub(super) struct Rows {
    pub(super) dims: Classes,
    pub(super) logits: Vec<Logit>,
    pub(super) outcomes: Vec<Outcome>,
    /// The number of targets that are not the ignored index.
    counted: usize,
}

#[expect(clippy::indexing_slicing, reason = "there is a target for each row, or an error was returned")]
pub(super) fn rows<T: Copy + Into<f64>>(
    op: &'static str,
    View { data: logits, shape }: View<'_, T>,
    targets: &Targets<'_>,
    options: &CrossEntropy,
) -> Result<Rows> {
    options.validate(op)?;
    let dims = Classes::of(op, &shape, logits.len())?;
    options.validate_share(op, dims.classes)?;
    let position_weight = factors(op, "position_weight", options.position_weight.as_ref(), dims.rows())?;
    let rows = match &targets.kind {
        Kind::Index(index) => {
            expect_len(op, "targets", index.len(), dims.rows())?;
            index.len()
        }
        Kind::Probabilities(probabilities) => {
            expect_len(op, "targets", probabilities.len(), logits.len())?;
            let ignored = targets.ignored;
            ensure!(ignored < 0, Error::value(op, "the ignored index", "below 0 with probabilities", ignored));
            if logits.is_empty() && dims.classes > 0 { 0 } else { dims.rows() }
        }
    };
    // Without classes there are no elements to bound the number of rows.
    if dims.classes == 0 {
        within(op, "the number of rows without classes", rows as u64, OF_NOTHING)?;
    }
    let outcome = |row| match &targets.kind {
        _ if position_weight(row) == 0.0 => Ok(Outcome::Ignored),
        Kind::Probabilities(_) => Ok(Outcome::Probabilities),
        Kind::Index(index) => {
            let class = class_of(op, index[row], row, dims.classes, targets.ignored)?;
            Ok(class.map_or(Outcome::Ignored, Outcome::Class))
        }
    };
    let outcomes = (0..rows).map(outcome).collect::<Result<Vec<_>>>()?;
    let counted = match &targets.kind {
        Kind::Probabilities(_) => rows,
        Kind::Index(index) => index.iter().filter(|&&target| target != targets.ignored).count(),
    };
    let scale = options.logit_scale;
    let logit = |&x: &T| {
        let scaled = scale * x.into();
        match options.softcap {
            None => Logit { value: scaled, slope: scale },
            Some(cap) => {
                let cosh = (scaled / cap).cosh();
                Logit { value: cap * (scaled / cap).tanh(), slope: scale / cosh / cosh }
            }
        }
    };
    // The allocation is checked, because a linear layer's caller holds no slice of all logits.
    let mut z = try_with_capacity(op, logits.len())?;
    z.extend(logits.iter().map(logit));
    Ok(Rows { dims, logits: z, outcomes, counted })
}
