//! Conversions between types of real numbers.

use crate::engine::kernel::{Kernel, kernel};
use crate::error::Result;
use crate::record::Recorder;
use crate::tensor::{Float, Real, Tensor};

use crate::ops::map::elementwise::FORWARD_BINDINGS;
use crate::ops::shape_error;

pub(crate) static KERNEL: Kernel = kernel!("cast", &[], FORWARD_BINDINGS);

/// Conversions between types of real numbers.
impl Recorder<'_> {
    /// Converts elements to another type: exactly from halves to `f32`, rounded to nearest even
    /// from `f32` to halves. Numbers too large for [`f16`](struct@crate::f16) become infinite; NaN
    /// stays NaN, but its bits change.
    ///
    /// # Errors
    /// [`Error::ForeignTensor`](crate::Error::ForeignTensor); no memory for the result. On an error
    /// nothing is recorded (except as stated for [`Recorder`]).
    ///
    /// # Cost
    /// One read and one write of each element, 2 or 4 bytes each.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor, bf16};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [3], &[1.0, 0.1, -3.0f32])?;
    /// let mut batch = gpu.batch();
    /// let half = batch.cast::<f32, bf16>(&x)?;
    /// let mut half = batch.read(&half)?;
    /// batch.submit()?;
    /// assert_eq!(half.wait(Duration::from_secs(10))?, [1.0, 0.1, -3.0].map(bf16::from_f32));
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The types are IEEE 754's binary16 and the upper half of binary32.
    pub fn cast<T: Float, U: Float>(&mut self, x: &Tensor<T>) -> Result<Tensor<U>> {
        self.check_device("cast", "x", x)?;
        x.count("cast")?;
        let y = self.output("cast", x.shape().clone())?;
        self.map_into("cast", &KERNEL, &x.real(), &Tensor::<U>::real(&y))?;
        Ok(y)
    }

    /// Rounds `x` into a matrix of the same shape, of any size.
    pub(crate) fn cast_into(&mut self, x: &Tensor<f32>, y: &Tensor<Real>) -> Result<()> {
        let [rows, columns] = x.shape()[..] else {
            return Err(shape_error("cast", "x", "2 dimensions", x.shape()));
        };
        let at_once = ((1 << 31) / columns.max(1)).max(1);
        for start in (0..rows).step_by(at_once) {
            let some = start..rows.min(start + at_once);
            self.map_into("cast", &KERNEL, &x.rows(some.clone())?.real(), &y.rows(some)?)?;
        }
        Ok(())
    }
}
