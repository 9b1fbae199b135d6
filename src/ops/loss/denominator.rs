//! Denominators of the means of losses.

use crate::record::Recorder;
use crate::tensor::{Shape, Tensor};

use crate::ops::reduce::blocks::Divisor;

/// The denominator of a loss's mean: a number of rows or elements, or a sum of weights. With
/// [`Reduction::MeanByCount`](crate::loss::Reduction::MeanByCount) it is the number; with every
/// other reduction it is the denominator of [`Reduction::Mean`](crate::loss::Reduction::Mean). The
/// mean over several batches is therefore the sum of their losses divided by the sum of their
/// denominators ([`Optimizer::step_mean`](crate::optim::Optimizer::step_mean)).
///
/// # Examples
/// ```
/// use xent::loss::{CrossEntropy, Denominator, Grad, Reduction, Targets};
/// use xent::{Gpu, Tensor};
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let logits = Tensor::from_slice(&gpu, [2, 3], &[2.0, 1.0, 0.0, 0.0, 0.0, 0.0f32])?;
/// let targets = Targets::new(&gpu, [2], &[0, -100], 3)?;
/// let options = CrossEntropy::new().reduction(Reduction::Sum);
/// let mut batch = gpu.batch();
/// let out = batch.cross_entropy_with(&logits, &targets, &options, Grad::New)?;
/// // Only the GPU knows how many targets are not ignored.
/// let Denominator::Scalar(count) = out.denominator else { panic!("there are class indices") };
/// let mut count = batch.read(&count)?;
/// batch.submit()?;
/// assert_eq!(count.wait(std::time::Duration::from_secs(10))?, [1.0]);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Denominator {
    /// A number that the host knows.
    Count(u32),
    /// A scalar on the GPU.
    Scalar(Tensor<f32>),
}

impl From<u32> for Denominator {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

impl From<&Tensor<f32>> for Denominator {
    fn from(scalar: &Tensor<f32>) -> Self {
        Self::Scalar(scalar.clone())
    }
}

impl From<&Self> for Denominator {
    fn from(denominator: &Self) -> Self {
        denominator.clone()
    }
}

impl Denominator {
    /// Returns the denominator of a mean with this divisor.
    pub(crate) fn of(rec: &Recorder<'_>, mean: Divisor<'_>) -> Self {
        match mean {
            Divisor::One => Self::Count(1),
            Divisor::Count(count) => Self::Count(count),
            // The sum over no rows.
            Divisor::Sum(sum) if sum.is_empty() => Self::Count(0),
            // The first word of a partial result is its sum, rounded.
            Divisor::Sum(sum) => {
                let (storage, start) = (sum.storage().clone(), sum.bytes().start);
                Self::Scalar(Tensor::over(rec.gpu(), storage, start, Shape::default()))
            }
        }
    }
}
