//! Constant factors of losses, on the host or on the GPU.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Gpu;
use crate::error::{Error, Result, ensure};
use crate::tensor::{Shape, Tensor};

/// Factors of a loss, such as one for each class: host values, or a tensor on the GPU.
///
/// Host values are uploaded at their first use on a [`Gpu`] and stay there; clones share them. The
/// CPU reference takes only host values.
///
/// # Examples
/// ```
/// use xent::loss::CrossEntropy;
/// use xent::{Weights, cpu};
/// // The second class is rare: its mistakes count four times.
/// let options = CrossEntropy::new().weight(Weights::from([1.0, 4.0]));
/// let loss = cpu::cross_entropy((&[0.0, 0.0, 0.0, 2.0], &[2, 2]), &[0, 1], &options)?;
/// assert!((loss[0] - (2f64.ln() + 4.0 * (-2f64).exp().ln_1p()) / 5.0).abs() < 1e-15);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Weights(Source);

#[derive(Clone, Debug)]
enum Source {
    Host(Arc<Host>),
    Gpu(Tensor<f32>),
}

#[derive(Debug)]
struct Host {
    shape: Shape,
    values: Vec<f32>,
    uploaded: Mutex<Option<Tensor<f32>>>,
}

impl Weights {
    /// Creates weights from host values of any shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of values does not match the shape.
    pub fn new(shape: impl Into<Shape>, values: &[f32]) -> Result<Self> {
        let shape = shape.into();
        ensure!(
            shape.checked_len() == Some(values.len()),
            Error::shape("Weights::new", "the values", format!("the elements of {shape}"), values.len())
        );
        Ok(Self(Source::Host(Arc::new(Host { shape, values: values.to_vec(), uploaded: Mutex::default() }))))
    }

    /// The sizes of the dimensions; a single one for values from a slice or a vector.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        match &self.0 {
            Source::Host(host) => &host.shape,
            Source::Gpu(tensor) => tensor.shape(),
        }
    }

    /// The host values, for the CPU reference.
    pub(crate) fn host(&self, op: &'static str, what: &'static str) -> Result<&[f32]> {
        match &self.0 {
            Source::Host(host) => Ok(&host.values),
            Source::Gpu(_) => Err(Error::value(op, what, "host values", "a tensor on the GPU")),
        }
    }

    /// The values on a device. The caller checks that a tensor of the user belongs to that device.
    pub(crate) fn on(&self, gpu: &Gpu) -> Result<Tensor<f32>> {
        match &self.0 {
            Source::Gpu(tensor) => Ok(tensor.clone()),
            Source::Host(host) => {
                let mut uploaded = host.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(tensor) = uploaded.as_ref().filter(|tensor| tensor.gpu().is_same_device(gpu)) {
                    return Ok(tensor.clone());
                }
                let tensor = Tensor::from_slice(gpu, host.shape.clone(), &host.values)?;
                Ok(uploaded.insert(tensor).clone())
            }
        }
    }
}

impl From<Vec<f32>> for Weights {
    fn from(values: Vec<f32>) -> Self {
        let shape = [values.len()].into();
        Self(Source::Host(Arc::new(Host { shape, values, uploaded: Mutex::default() })))
    }
}

impl From<&[f32]> for Weights {
    fn from(values: &[f32]) -> Self {
        values.to_vec().into()
    }
}

impl<const N: usize> From<[f32; N]> for Weights {
    fn from(values: [f32; N]) -> Self {
        values.to_vec().into()
    }
}

impl From<Tensor<f32>> for Weights {
    fn from(tensor: Tensor<f32>) -> Self {
        Self(Source::Gpu(tensor))
    }
}

impl From<&Tensor<f32>> for Weights {
    fn from(tensor: &Tensor<f32>) -> Self {
        tensor.clone().into()
    }
}
