//! Saved models: named tensors in a safetensors file, with PyTorch's names.

mod file;
mod load;
mod readback;
mod stored;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::{Error, Result, ensure};
use crate::parameters::check_name;
use crate::tensor::{Float, Shape};

pub use crate::error::Unmatched;
pub use load::LoadOptions;
pub(crate) use load::Wanted;
pub(crate) use readback::StateTickets;
pub use safetensors::Dtype;
use stored::Stored;

/// Named tensors on the host, with notes: the equivalent of PyTorch's state dict.
///
/// A state keeps and saves every tensor of a file unchanged, whatever its type. The type matters
/// only when a tensor is requested: `F32`, `F16`, `BF16` and `F64` are then converted, every
/// element rounded once, to nearest even. Tensors of other types (integers, booleans, 8-bit
/// numbers) cannot be requested, but do no harm.
///
/// # Examples
/// ```
/// use xent::bf16;
/// use xent::state::State;
/// let mut state = State::default();
/// state.insert("linear.weight", [2, 1], vec![0.5f32, -0.5])?;
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("model.safetensors");
/// state.save(&path)?;
/// assert_eq!(State::load(&path)?, state);
/// // In half the space:
/// state.cast::<bf16>();
/// state.save(&path)?;
/// assert_eq!(State::load(&path)?.require("linear.weight", &[2, 1].into())?, [0.5, -0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    tensors: BTreeMap<String, Stored>,
    notes: BTreeMap<String, String>,
}

impl State {
    /// Inserts a tensor of `f32` or of halves.
    ///
    /// # Errors
    /// [`Error::State`] if the number of values does not match the shape, or the name is taken or
    /// reserved by the format.
    pub fn insert<T: Float>(&mut self, name: &str, shape: impl Into<Shape>, values: Vec<T>) -> Result<()> {
        let shape = shape.into();
        let fits = shape.checked_len() == Some(values.len());
        ensure!(fits, Error::state(name, format!("the elements of {shape}"), format!("{} values", values.len())));
        check_name(name)?;
        ensure!(!self.tensors.contains_key(name), taken(name));
        self.tensors.insert(name.to_owned(), Stored::new(shape, values));
        Ok(())
    }

    /// Returns a tensor's shape, and its values as `f32`; `None` if there is no tensor of this
    /// name, or it does not hold real numbers. Values of a type other than `F32` are converted by
    /// the first call and cached; [`require_as`](Self::require_as) does not cache them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&Shape, &[f32])> {
        let stored = self.tensors.get(name)?;
        Some((&stored.shape, stored.values()?))
    }

    /// Returns the type of a tensor, as a file names it.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(Stored::dtype)
    }

    /// The names of the tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns a note, such as the number of training steps made.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// Sets a note.
    pub fn set_note(&mut self, key: &str, text: impl Into<String>) {
        self.notes.insert(key.to_owned(), text.into());
    }

    /// Removes the tensors and notes whose names begin with `prefix`, and returns them without the
    /// prefix.
    #[must_use]
    pub fn split_off(&mut self, prefix: &str) -> Self {
        let inside = |name: &String| name.strip_prefix(prefix).map(str::to_owned);
        let names: Vec<_> = self.tensors.keys().filter_map(|name| Some((name.clone(), inside(name)?))).collect();
        let tensors = names.into_iter().filter_map(|(name, rest)| Some((rest, self.tensors.remove(&name)?)));
        let tensors = tensors.collect();
        let keys: Vec<_> = self.notes.keys().filter_map(|key| Some((key.clone(), inside(key)?))).collect();
        let notes = keys.into_iter().filter_map(|(key, rest)| Some((rest, self.notes.remove(&key)?)));
        Self { tensors, notes: notes.collect() }
    }

    /// Adds the tensors and notes of another state, with `prefix` before their names.
    ///
    /// # Errors
    /// [`Error::State`] if a tensor's name is taken or reserved by the format, or a note's key is
    /// taken; nothing is added then.
    pub fn merge(&mut self, prefix: &str, other: Self) -> Result<()> {
        for name in other.names().map(|name| format!("{prefix}{name}")) {
            check_name(&name)?;
            ensure!(!self.tensors.contains_key(&name), taken(&name));
        }
        if let Some(key) =
            other.notes.keys().map(|key| format!("{prefix}{key}")).find(|key| self.notes.contains_key(key))
        {
            return Err(Error::state(key, "a key of its own", "another note of this key"));
        }
        self.notes.extend(other.notes.into_iter().map(|(key, text)| (format!("{prefix}{key}"), text)));
        self.tensors.extend(other.tensors.into_iter().map(|(name, stored)| (format!("{prefix}{name}"), stored)));
        Ok(())
    }

    /// Renames every tensor to the name that `map` returns for its old name, for a model with other
    /// parameter names. Notes keep their keys.
    ///
    /// # Errors
    /// [`Error::State`] if two tensors would have the same name, or a tensor would have a name that
    /// the format reserves; nothing is renamed then.
    ///
    /// # Examples
    /// ```
    /// use xent::state::State;
    /// let mut state = State::default();
    /// state.insert("model.layers.0.weight", [1], vec![0.5f32])?;
    /// state.insert("norm", [1], vec![1.0f32])?;
    /// state.rename(|name| name.strip_prefix("model.layers.").unwrap_or(name).to_owned())?;
    /// assert!(state.names().eq(["0.weight", "norm"]));
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn rename(&mut self, mut map: impl FnMut(&str) -> String) -> Result<()> {
        let names: Vec<String> = self.names().map(&mut map).collect();
        let mut seen = BTreeSet::new();
        for name in &names {
            check_name(name)?;
            ensure!(seen.insert(name), taken(name));
        }
        self.tensors = names.into_iter().zip(std::mem::take(&mut self.tensors).into_values()).collect();
        Ok(())
    }

    /// Drops all tensors for whose names `keep` returns `false`. Notes stay.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Converts all tensors of real numbers (`F32`, `F16`, `BF16`, `F64`) to one type, each element
    /// rounded once, to nearest even; other tensors stay as they are. Cast before
    /// [`save`](Self::save) to write a file of halves. To keep the type of some tensors, such as
    /// the state of an optimiser, [split them off](Self::split_off) before and
    /// [merge](Self::merge) them afterwards.
    pub fn cast<T: Float>(&mut self) {
        for stored in self.tensors.values_mut().filter(|stored| stored.dtype() != T::DTYPE) {
            if let Some(values) = stored.to::<T>().map(Cow::into_owned) {
                *stored = Stored::new(stored.shape.clone(), values);
            }
        }
    }

    /// Returns the values of the tensor `name`, which must have this shape, as `f32`.
    ///
    /// # Errors
    /// [`Error::State`] if the tensor is missing, has another shape, or does not hold real numbers.
    pub fn require(&self, name: &str, shape: &Shape) -> Result<&[f32]> {
        let stored = self.find(name, shape)?;
        stored.values().ok_or_else(|| unreal(name, stored.dtype()))
    }

    /// Returns the values of the tensor `name`, which must have this shape, converted to `T`: every
    /// element is rounded once, to nearest even. Borrowed if the tensor is saved as `T`.
    ///
    /// # Errors
    /// As [`State::require`].
    ///
    /// # Examples
    /// ```
    /// use xent::f16;
    /// use xent::state::State;
    /// let mut state = State::default();
    /// state.insert("scale", [2], vec![0.1f32, 1e9])?;
    /// assert_eq!(*state.require_as::<f16>("scale", &[2].into())?, [f16::from_f32(0.1), f16::INFINITY]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn require_as<T: Float>(&self, name: &str, shape: &Shape) -> Result<Cow<'_, [T]>> {
        let stored = self.find(name, shape)?;
        stored.to().ok_or_else(|| unreal(name, stored.dtype()))
    }

    /// Checks that the state has no tensors other than `names`.
    ///
    /// # Errors
    /// [`Error::StateNames`] with the names of all other tensors.
    pub fn require_only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let known: HashSet<&str> = names.into_iter().collect();
        let superfluous: Vec<_> = self.names().filter(|name| !known.contains(name)).map(str::to_owned).collect();
        ensure!(superfluous.is_empty(), Error::StateNames(Unmatched { missing: Vec::new(), superfluous }));
        Ok(())
    }

    fn find(&self, name: &str, shape: &Shape) -> Result<&Stored> {
        match self.tensors.get(name) {
            Some(stored) if stored.shape == *shape => Ok(stored),
            Some(stored) => Err(Error::state(name, format!("shape {shape}"), format!("shape {}", stored.shape))),
            None => Err(Error::state(name, format!("a tensor of shape {shape}"), "none of this name")),
        }
    }
}

fn taken(name: &str) -> Error {
    Error::state(name, "a name of its own", "another tensor of this name")
}

fn unreal(name: &str, dtype: Dtype) -> Error {
    Error::state(name, "real numbers (F32, F16, BF16 or F64)", format!("{dtype:?}"))
}
