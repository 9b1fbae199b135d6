//! Reductions of losses.

/// How the losses of rows, or of single elements, are reduced to the result.
///
/// Keras calls the two means `mean_with_sample_weight` and `sum_over_batch_size`. Both means of
/// `bce`, `bce_with_logits` and `huber` divide by the number of elements, whatever the weights, as
/// in PyTorch.
///
/// # Examples
/// ```
/// use xent::cpu;
/// use xent::loss::{CrossEntropy, Reduction};
/// // Advantages of both signs: their sum is 0, so it cannot be the denominator.
/// let position_weight = Some([1.5, -1.5].into());
/// let options = CrossEntropy::new().position_weight(position_weight).reduction(Reduction::MeanByCount);
/// let loss = cpu::cross_entropy((&[0.0, 0.0, 0.0, 2.0], &[2, 2]), &[0, 1], &options)?;
/// assert!((loss[0] - 1.5 * (2f64.ln() - (-2f64).exp().ln_1p()) / 2.0).abs() < 1e-15);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// No reduction: every loss.
    None,
    /// The mean as PyTorch defines it. Each loss documents its denominator. If that is the sum of
    /// the weights (`cross_entropy`, `linear_cross_entropy`, `nll`, `mse`), the mean is weighted,
    /// and weights of both signs, such as advantages, make it useless: they sum to about 0, and the
    /// mean is huge, infinite or NaN. Use [`MeanByCount`](Self::MeanByCount) then. The mean of
    /// nothing is NaN.
    #[default]
    Mean,
    /// The sum of the losses divided by their number, whatever the weights. For losses of rows,
    /// this is the number of rows whose target is not the ignored index: a row of position weight 0
    /// adds nothing to the sum but is counted. (To leave a row out, give it the ignored index.)
    /// With probabilities it is the number of all rows, and for elementwise losses the number of
    /// elements. The mean of nothing is NaN.
    MeanByCount,
    /// The sum of the losses.
    Sum,
}

impl Reduction {
    /// Whether the reduction divides by a denominator.
    pub(crate) fn is_mean(self) -> bool {
        matches!(self, Self::Mean | Self::MeanByCount)
    }

    /// Converts PyTorch's two deprecated arguments; `None` stands for an argument that is not
    /// passed.
    ///
    /// # Examples
    /// ```
    /// use xent::loss::Reduction;
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
