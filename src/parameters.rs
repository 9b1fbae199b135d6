//! The parameters of a model in one tensor, so that one dispatch updates all of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::Gpu;
use crate::error::{Error, Result, ensure, few, try_with_capacity};
use crate::tensor::{Shape, Tensor, element_count};

/// Named parameters and their gradients: views into one flat tensor of values and one of gradients.
///
/// # Examples
/// ```
/// use xent::Gpu;
/// use xent::optim::Parameters;
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let parameters = Parameters::new(&gpu, &[
///     ("weight", [2, 3].into(), &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
///     ("bias", [2].into(), &[0.0, 0.0]),
/// ])?;
/// assert_eq!(parameters.value("bias")?.shape()[..], [2]);
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Parameters {
    values: Tensor<f32>,
    grads: Tensor<f32>,
    /// Shared with optimisers, which recognise their parameters without comparing names.
    parts: Arc<Parts>,
}

/// The position of each parameter in the flat tensors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    list: Vec<Part>,
    /// The number of the parameter with each name. Without this map, each lookup would search the
    /// whole list.
    numbers: HashMap<String, usize>,
    /// Aliases, and the numbers of their parameters.
    ties: Vec<(String, usize)>,
}

#[derive(Clone, Debug)]
#[cfg_attr(not(test), derive(PartialEq))]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) start: usize,
}

#[cfg(test)]
thread_local! {
    /// The number of comparisons of parts.
    pub(crate) static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        (&self.name, &self.shape, self.start) == (&other.name, &other.shape, other.start)
    }
}

/// Neighbouring parameters.
pub(crate) struct Run<'a> {
    pub(crate) range: Range<usize>,
    pub(crate) parts: &'a [Part],
}

impl Parts {
    pub(crate) fn list(&self) -> &[Part] {
        &self.list
    }

    /// Aliases, and the numbers of their parameters.
    pub(crate) fn ties(&self) -> impl Iterator<Item = (&str, usize)> {
        self.ties.iter().map(|(name, number)| (name.as_str(), *number))
    }
}

/// The number of elements of small parameters that are gathered for one copy. One copy per
/// parameter would cost more than copying all their data.
const AT_ONCE: usize = 1 << 20;

/// Parts start at multiples of 256 bytes, so that no binding needs a base, and every part can be
/// read in quads.
const ALIGN: usize = 64;

impl Parameters {
    /// Uploads parameters: the name, shape and values of each. The gradients start at 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if values do not fit their shape; [`Error::Value`] for a name that occurs
    /// twice; [`Error::State`] for a name that no file can hold; the errors of
    /// [`Tensor::from_slice`].
    pub fn new(gpu: &Gpu, parameters: &[(&str, Shape, &[f32])]) -> Result<Self> {
        let lengths = parameters.iter().map(|(.., values)| values.len().next_multiple_of(ALIGN));
        let mut flat = try_with_capacity("Parameters::new", lengths.fold(0, usize::saturating_add))?;
        let mut parts = Parts::default();
        for (name, shape, values) in parameters {
            check_name(name)?;
            if shape.checked_len() != Some(values.len()) {
                let expected = format!("the elements of {shape} for {name:?}");
                return Err(Error::shape("Parameters::new", "a parameter's values", expected, values.len()));
            }
            element_count("Parameters::new", shape)?;
            let part = Part { name: (*name).to_owned(), start: flat.len(), shape: shape.clone() };
            if parts.numbers.insert(part.name.clone(), parts.list.len()).is_some() {
                let got = format!("{name:?} twice");
                return Err(Error::value("Parameters::new", "the names", "names that differ", got));
            }
            parts.list.push(part);
            flat.extend_from_slice(values);
            flat.resize(flat.len().next_multiple_of(ALIGN), 0.0);
        }
        let values = Tensor::from_slice(gpu, [flat.len()], &flat)?;
        let grads = Tensor::zeros(gpu, [flat.len()])?;
        Ok(Self { values, grads, parts: Arc::new(parts) })
    }

    /// Adds an alias for a parameter, for models whose output layer is their embedding. Both names
    /// refer to the same tensor and to one gradient, to which every use must
    /// [add](crate::Recorder::accumulate) its own.
    ///
    /// The tie is declared once, here, and not at each load, because it is a fact about the model,
    /// whatever a file contains: some files have such a tensor once, under either name, and some
    /// twice. A load takes the tensor under any of its names, and rejects a file that has it twice
    /// with different values, because one of the two would be lost. [`names`](Self::names), an
    /// optimiser and a saved state list it once, under its original name. (For a program that
    /// expects both names, add the alias to the file with
    /// [`State::insert`](crate::state::State::insert).)
    ///
    /// # Errors
    /// [`Error::Value`] if there is no parameter `name`, or if `alias` is already in use;
    /// [`Error::State`] for an alias that no file can hold.
    ///
    /// # Examples
    /// ```
    /// use xent::Gpu;
    /// use xent::optim::Parameters;
    /// use xent::state::State;
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let mut parameters = Parameters::new(&gpu, &[("embedding.weight", [3, 2].into(), &[0.0; 6])])?;
    /// parameters.tie("head.weight", "embedding.weight")?;
    /// let mut file = State::default();
    /// file.insert("head.weight", [3, 2], vec![1.0f32; 6])?;
    /// parameters.load(&file)?;
    /// assert_eq!(parameters.value("head.weight")?.offset(), parameters.value("embedding.weight")?.offset());
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn tie(&mut self, alias: &str, name: &str) -> Result<()> {
        check_name(alias)?;
        let (number, _) = self.part(name)?;
        ensure!(
            !self.parts.numbers.contains_key(alias),
            Error::value("Parameters::tie", "a further name", "one that no parameter has", format!("{alias:?}"))
        );
        let parts = Arc::make_mut(&mut self.parts);
        parts.numbers.insert(alias.to_owned(), number);
        parts.ties.push((alias.to_owned(), number));
        Ok(())
    }

    /// All values, flat, with padding between the parameters: the tensor that
    /// [`sgd`](crate::Recorder::sgd) updates.
    #[must_use]
    pub fn values(&self) -> &Tensor<f32> {
        &self.values
    }

    /// All gradients, laid out like [`values`](Self::values).
    #[must_use]
    pub fn grads(&self) -> &Tensor<f32> {
        &self.grads
    }

    /// The names of the parameters, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.list.iter().map(|part| part.name.as_str())
    }

    /// A view of a parameter's value.
    ///
    /// # Errors
    /// [`Error::Value`], which lists the existing names, if there is no such parameter.
    pub fn value(&self, name: &str) -> Result<Tensor<f32>> {
        let (_, part) = self.part(name)?;
        Ok(self.values.part(part.start, part.shape.clone()))
    }

    /// A view of a parameter's gradient, for the backward pass to write.
    ///
    /// # Errors
    /// [`Error::Value`], which lists the existing names, if there is no such parameter.
    pub fn grad(&self, name: &str) -> Result<Tensor<f32>> {
        let (_, part) = self.part(name)?;
        Ok(self.grads.part(part.start, part.shape.clone()))
    }

    /// The positions of the parameters.
    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    /// Each parameter's range of the flat tensors, padding included. The ranges cover the whole
    /// tensors.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = || self.parts.list.iter().map(|part| part.start);
        starts().zip(starts().skip(1).chain([self.values.len()])).map(|(start, end)| start..end)
    }

    /// All parameters, with small neighbours grouped together.
    pub(crate) fn gathered(&self) -> impl Iterator<Item = Run<'_>> {
        let mut runs: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        for (number, range) in self.ranges().enumerate() {
            match runs.last_mut() {
                Some((elements, numbers)) if range.end - elements.start <= AT_ONCE => {
                    (elements.end, numbers.end) = (range.end, number + 1);
                }
                _ => runs.push((range, number..number + 1)),
            }
        }
        let list = &self.parts.list;
        runs.into_iter().map(|(range, numbers)| Run { range, parts: list.get(numbers).unwrap_or_default() })
    }

    /// Writes the values of the parameters, in their order, into a flat tensor with the layout of
    /// [`values`](Self::values). A parameter without values keeps its old ones. Small neighbours
    /// are copied together.
    pub(crate) fn write<'a>(
        &self,
        flat: &Tensor<f32>,
        values: impl IntoIterator<Item = Result<Option<Cow<'a, [f32]>>>>,
    ) -> Result<()> {
        let (mut run, mut start) = (Vec::new(), 0);
        let write = |start: usize, run: &[f32]| {
            if run.is_empty() { Ok(()) } else { flat.part(start, [run.len()].into()).write(run) }
        };
        for (range, values) in self.ranges().zip(values) {
            let values = values?;
            // The run ends when it is full, and before a missing or large parameter.
            if run.len() >= AT_ONCE || values.as_ref().is_none_or(|values| values.len() >= AT_ONCE) {
                write(start, &run)?;
                run.clear();
            }
            match values {
                Some(values) if values.len() >= AT_ONCE => write(range.start, &values)?,
                Some(values) => {
                    if run.is_empty() {
                        start = range.start;
                    }
                    run.extend_from_slice(&values);
                    run.resize(range.end - start, 0.0);
                }
                None => {}
            }
        }
        write(start, &run)
    }

    /// Returns the parameter with this name, and its number.
    pub(crate) fn part(&self, name: &str) -> Result<(usize, &Part)> {
        let number = self.parts.numbers.get(name).copied();
        let found = number.and_then(|number| Some((number, self.parts.list.get(number)?)));
        found.ok_or_else(|| {
            Error::value("Parameters", "a name", format!("one of {}", few(self.names())), format!("{name:?}"))
        })
    }
}

/// Checks that a file can hold a name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name {
        "__metadata__" => Err(Error::state(name, "another name", "one that the format keeps for itself")),
        _ => Ok(()),
    }
}
