//! The parameters of a model in one tensor, so that one dispatch updates them all.

use crate::error::{Error, Result, room};
use crate::gpu::Gpu;
use crate::state::check_name;
use crate::tensor::{Shape, Tensor, element_count};

/// Named parameters and their gradients. Each is a view into one flat tensor of values and one of gradients.
///
/// # Examples
/// ```
/// use xent::{Gpu, Parameters};
/// # if let Ok(gpu) = Gpu::headless() {
/// let parameters = Parameters::new(&gpu, &[
///     ("weight", [2, 3].into(), &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
///     ("bias", [2].into(), &[0.0, 0.0]),
/// ])?;
/// assert_eq!(parameters.value("bias")?.shape()[..], [2]);
/// # }
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Parameters {
    values: Tensor<f32>,
    grads: Tensor<f32>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    start: usize,
    shape: Shape,
}

/// Parts start at multiples of 256 bytes: no binding needs a residue, and every part can be read by quad.
const ALIGN: usize = 64;

impl Parameters {
    /// Uploads parameters: name, shape and values of each. The gradients start as 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if values do not fit their shape; [`Error::Value`] for a name that occurs twice; [`Error::State`] for one that
    /// no file can hold; the errors of [`Tensor::from_slice`].
    pub fn new(gpu: &Gpu, parameters: &[(&str, Shape, &[f32])]) -> Result<Self> {
        let lengths = parameters.iter().map(|(.., values)| values.len().next_multiple_of(ALIGN));
        let mut flat = room("Parameters::new", lengths.fold(0, usize::saturating_add))?;
        let mut parts = Vec::with_capacity(parameters.len());
        for (i, (name, shape, values)) in parameters.iter().enumerate() {
            check_name(name)?;
            if parameters.iter().take(i).any(|(earlier, ..)| earlier == name) {
                let expected = "names that differ".to_owned();
                return Err(Error::Value {
                    op: "Parameters::new",
                    what: "the names",
                    expected,
                    got: format!("{name:?} twice"),
                });
            }
            if shape.checked_len() != Some(values.len()) {
                return Err(Error::Shape {
                    op: "Parameters::new",
                    what: "a parameter's values",
                    expected: format!("the elements of {shape} for {name:?}"),
                    got: values.len().to_string(),
                });
            }
            element_count("Parameters::new", shape)?;
            parts.push(Part { name: (*name).to_owned(), start: flat.len(), shape: shape.clone() });
            flat.extend_from_slice(values);
            flat.resize(flat.len().next_multiple_of(ALIGN), 0.0);
        }
        let values = Tensor::from_slice(gpu, [flat.len()], &flat)?;
        let grads = Tensor::zeros(gpu, [flat.len()])?;
        Ok(Self { values, grads, parts })
    }

    /// All values, flat, with padding between the parameters: what [`sgd`](crate::Recorder::sgd) updates.
    #[must_use]
    pub fn values(&self) -> &Tensor<f32> {
        &self.values
    }

    /// All gradients, laid out like [`values`](Self::values).
    #[must_use]
    pub fn grads(&self) -> &Tensor<f32> {
        &self.grads
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// A parameter's value: a view.
    ///
    /// # Errors
    /// [`Error::Value`] with the names that there are.
    pub fn value(&self, name: &str) -> Result<Tensor<f32>> {
        let part = self.part(name)?;
        Ok(self.values.part(part.start, part.shape.clone()))
    }

    /// A parameter's gradient: a view for the backward pass to write.
    ///
    /// # Errors
    /// [`Error::Value`] with the names that there are.
    pub fn grad(&self, name: &str) -> Result<Tensor<f32>> {
        let part = self.part(name)?;
        Ok(self.grads.part(part.start, part.shape.clone()))
    }

    /// Each parameter's name and its range of the flat tensors, padding included: together they are all of them.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&str, std::ops::Range<usize>)> {
        let ends = self.parts.iter().skip(1).map(|part| part.start).chain([self.values.len()]);
        self.parts.iter().zip(ends).map(|(part, end)| (part.name.as_str(), part.start..end))
    }

    fn part(&self, name: &str) -> Result<&Part> {
        let found = self.parts.iter().find(|part| part.name == name);
        found.ok_or_else(|| Error::Value {
            op: "Parameters",
            what: "a name",
            expected: format!("one of {:?}", self.names().collect::<Vec<_>>()),
            got: format!("{name:?}"),
        })
    }
}
