//! Recordings with their own encoder.

use super::recorder::{Encoder, Recorder};
use crate::engine::{Gpu, in_scopes};
use crate::error::{Error, Result};

/// Recording.
impl Gpu {
    /// Starts a recording with its own encoder, for one submission.
    #[must_use = "a batch does nothing unless it is submitted"]
    pub fn batch(&self) -> Batch {
        let label = wgpu::CommandEncoderDescriptor { label: Some("xent") };
        // wgpu reports an error again when the encoder is submitted.
        let (encoder, _) = in_scopes(self.device(), || self.device().create_command_encoder(&label));
        Recorder::new(self, Encoder::Own(encoder))
    }

    /// Records into the caller's encoder, which the caller submits. The encoder must belong to the
    /// same device. If it belongs to another `wgpu::Instance`, wgpu panics as soon as something is
    /// recorded.
    #[must_use]
    pub fn record<'e>(&self, encoder: &'e mut wgpu::CommandEncoder) -> Recorder<'e> {
        Recorder::new(self, Encoder::Callers(encoder))
    }
}

/// A recording with its own encoder, for one submission.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use xent::{Gpu, Tensor};
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let x = Tensor::from_slice(&gpu, [4], &[-1.0, 0.0, 1.0, 2.0f32])?;
/// let mut batch = gpu.batch();
/// let y = batch.relu(&x)?;
/// let mut values = batch.read(&y)?;
/// batch.submit()?;
/// assert_eq!(values.wait(Duration::from_secs(10))?, [0.0, 0.0, 1.0, 2.0]);
/// # Ok::<(), xent::Error>(())
/// ```
pub type Batch = Recorder<'static>;

impl Batch {
    /// Submits everything recorded so far in one queue submission, and returns at once. (During a
    /// submission, wgpu runs callbacks of finished work; errors that these cause count as errors of
    /// this submission.)
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device is out of memory; [`Error::NotSubmitted`] for a recorder into
    /// the caller's encoder. A lost device may be reported only by a readback.
    pub fn submit(mut self) -> Result<()> {
        self.upload_params()?;
        match std::mem::replace(&mut self.encoder, Encoder::Submitted) {
            Encoder::Own(encoder) => self.gpu().submit("submit", encoder),
            Encoder::Callers(_) | Encoder::Submitted => Err(Error::NotSubmitted),
        }
    }
}
