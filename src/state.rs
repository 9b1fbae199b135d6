//! Saved models: named tensors in a safetensors file, under PyTorch's names.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::readback::Readback;
use crate::recorder::Recorder;
use crate::tensor::Shape;

/// Named `f32` tensors on the host, and notes about them: what PyTorch calls a state dict.
///
/// # Examples
/// ```
/// use xent::State;
/// let mut state = State::default();
/// state.insert("linear.weight", [2, 1], vec![0.5, -0.5])?;
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("model.safetensors");
/// state.save(&path)?;
/// assert_eq!(State::load(&path)?, state);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    tensors: BTreeMap<String, (Shape, Vec<f32>)>,
    notes: BTreeMap<String, String>,
}

impl State {
    /// Puts a tensor in.
    ///
    /// # Errors
    /// [`Error::State`] if the number of values is not the shape's, or there is a tensor of this name.
    pub fn insert(&mut self, name: &str, shape: impl Into<Shape>, values: Vec<f32>) -> Result<()> {
        let shape = shape.into();
        if shape.checked_len() != Some(values.len()) {
            return Err(fail(name, &format!("the elements of {shape}"), format!("{} values", values.len())));
        }
        check_name(name)?;
        if self.tensors.contains_key(name) {
            return Err(fail(name, "a name of its own", "another tensor of this name".to_owned()));
        }
        self.tensors.insert(name.to_owned(), (shape, values));
        Ok(())
    }

    /// A tensor's shape and values.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&Shape, &[f32])> {
        self.tensors.get(name).map(|(shape, values)| (shape, &values[..]))
    }

    /// The tensors' names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A note, such as how many steps a training has made.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// Sets a note.
    pub fn set_note(&mut self, key: &str, text: impl Into<String>) {
        self.notes.insert(key.to_owned(), text.into());
    }

    /// Takes out the tensors and the notes whose names begin with `prefix`, under the rest of their names.
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

    /// Takes in another state's tensors and notes, their names after `prefix`.
    ///
    /// # Errors
    /// [`Error::State`] if a tensor's name is there already or none that the format allows; nothing is taken in then.
    pub fn merge(&mut self, prefix: &str, other: Self) -> Result<()> {
        for name in other.names().map(|name| format!("{prefix}{name}")) {
            check_name(&name)?;
            if self.get(&name).is_some() {
                return Err(fail(&name, "a name of its own", "another tensor of this name".to_owned()));
            }
        }
        self.notes.extend(other.notes.into_iter().map(|(key, text)| (format!("{prefix}{key}"), text)));
        other
            .tensors
            .into_iter()
            .try_for_each(|(name, (shape, values))| self.insert(&format!("{prefix}{name}"), shape, values))
    }

    /// The tensor of a name, which has to be of a shape.
    ///
    /// # Errors
    /// [`Error::State`] if it is missing or of another shape.
    pub fn require(&self, name: &str, shape: &Shape) -> Result<&[f32]> {
        match self.tensors.get(name) {
            Some((found, values)) if found == shape => Ok(values),
            Some((found, _)) => Err(fail(name, &format!("shape {shape}"), format!("shape {found}"))),
            None => Err(fail(name, &format!("a tensor of shape {shape}"), "none of this name".to_owned())),
        }
    }

    /// Checks that there are no tensors but these.
    ///
    /// # Errors
    /// [`Error::State`] with the first that is not among them.
    pub fn require_only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let known: std::collections::HashSet<&str> = names.into_iter().collect();
        match self.names().find(|name| !known.contains(name)) {
            Some(name) => Err(fail(name, "no such tensor", "one".to_owned())),
            None => Ok(()),
        }
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Format`] if it is no safetensors file, or not a whole one; [`Error::State`] for a
    /// tensor that is not of `f32`.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes).map_err(|error| match error {
            Error::Format { source, .. } => Error::Format { path: path.to_owned(), source },
            other => other,
        })
    }

    /// Reads a safetensors file that is in memory.
    ///
    /// # Errors
    /// As [`State::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let format = |source| Error::Format { path: "(in memory)".into(), source };
        let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = safetensors::SafeTensors::deserialize(bytes).map_err(format)?;
        let mut state = Self::default();
        for (name, view) in file.tensors() {
            if view.dtype() != safetensors::Dtype::F32 {
                return Err(fail(&name, "F32", format!("{:?}", view.dtype())));
            }
            state.insert(&name, view.shape(), bytemuck::pod_collect_to_vec(view.data()))?;
        }
        state.notes.extend(metadata.metadata().clone().unwrap_or_default());
        Ok(state)
    }

    /// The bytes of a safetensors file.
    ///
    /// # Errors
    /// [`Error::State`] for a tensor whose name the format keeps for itself; [`Error::Format`] if the format cannot hold it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.names().try_for_each(check_name)?;
        use safetensors::tensor::{Dtype, TensorView, serialize};
        let format = |source| Error::Format { path: "(in memory)".into(), source };
        let views = self.tensors.iter().map(|(name, (shape, values))| {
            Ok((name, TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values)).map_err(format)?))
        });
        let notes = (!self.notes.is_empty()).then(|| self.notes.clone().into_iter().collect());
        serialize(views.collect::<Result<Vec<_>>>()?, notes).map_err(format)
    }

    /// Writes a safetensors file that PyTorch's `safetensors.torch.load_file` reads: into a file beside it first, which then takes
    /// its place. So there is always a whole file: the old one or the new one. (Killed in the middle, a process leaves the other one
    /// behind under a temporary name.)
    ///
    /// # Errors
    /// [`Error::File`], and those of [`to_bytes`](Self::to_bytes); the old file is as it was then.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        // What a link points to is replaced, not the link.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        write_whole(&target, &bytes).map_err(|source| Error::File { path: path.to_owned(), source })
    }
}

/// Writes a file, whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary_file(directory)?;
    #[cfg(unix)]
    if let Ok(old) = std::fs::metadata(path) {
        file.as_file().set_permissions(old.permissions())?;
    }
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name survives a loss of power once the directory is written; not every directory can be opened for that.
    #[cfg(unix)]
    let _ = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// A temporary file is private by default; what it becomes is an ordinary file.
fn temporary_file(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        let mut builder = builder;
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder
    };
    builder.tempfile_in(directory)
}

/// A name that a file can hold.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name {
        "__metadata__" => Err(fail(name, "another name", "one that the format keeps for itself".to_owned())),
        _ => Ok(()),
    }
}

fn fail(tensor: &str, expected: &str, got: String) -> Error {
    Error::State { tensor: tensor.to_owned(), expected: expected.to_owned(), got }
}

/// A state on its way back from the GPU.
#[derive(Debug)]
#[must_use = "a ticket does nothing unless it is waited for"]
pub struct StateReadback {
    tickets: Vec<(String, Shape, Readback<f32>)>,
    notes: BTreeMap<String, String>,
    /// What has arrived when a wait ran out of time, in the tickets' order.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "nothing waits on the web"))]
    arrived: Vec<Vec<f32>>,
    /// A wait has given the state.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "nothing waits on the web"))]
    given: bool,
}

impl StateReadback {
    pub(crate) fn new() -> Self {
        Self { tickets: Vec::new(), notes: BTreeMap::new(), arrived: Vec::new(), given: false }
    }

    pub(crate) fn push(&mut self, name: String, shape: Shape, ticket: Readback<f32>) {
        self.tickets.push((name, shape, ticket));
    }

    pub(crate) fn set_note(&mut self, key: &str, text: String) {
        self.notes.insert(key.to_owned(), text);
    }

    /// Takes in another's tickets, their names after `prefix`.
    pub(crate) fn merge(&mut self, prefix: &str, other: Self) {
        self.notes.extend(other.notes.into_iter().map(|(key, text)| (format!("{prefix}{key}"), text)));
        self.tickets.extend(other.tickets.into_iter().map(|(name, shape, t)| (format!("{prefix}{name}"), shape, t)));
    }

    /// The state, once the recording is submitted and done.
    ///
    /// # Errors
    /// Those of [`Readback`].
    pub async fn arrive(self) -> Result<State> {
        let mut state = State { tensors: BTreeMap::new(), notes: self.notes };
        for (name, shape, ticket) in self.tickets {
            state.insert(&name, shape, ticket.await?)?;
        }
        Ok(state)
    }

    /// Polls the device until the state is here, at most so long in all. Not on the web.
    ///
    /// # Errors
    /// As [`Readback::wait`]: after a timeout the ticket stays valid, after anything else it has given what it had
    /// ([`Error::Taken`]).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, timeout: std::time::Duration) -> Result<State> {
        if self.given {
            return Err(Error::Taken);
        }
        let start = std::time::Instant::now();
        for (_, _, ticket) in self.tickets.iter_mut().skip(self.arrived.len()) {
            self.arrived.push(ticket.wait(timeout.saturating_sub(start.elapsed()))?);
        }
        self.given = true;
        let mut state = State { tensors: BTreeMap::new(), notes: std::mem::take(&mut self.notes) };
        for ((name, shape, _), values) in self.tickets.drain(..).zip(self.arrived.drain(..)) {
            state.insert(&name, shape, values)?;
        }
        Ok(state)
    }
}

impl Parameters {
    /// Records a copy of all values.
    ///
    /// # Errors
    /// Those of [`Recorder::read`].
    pub fn state(&self, rec: &mut Recorder<'_>) -> Result<StateReadback> {
        let mut state = StateReadback::new();
        for (name, value) in self.views(self.values()) {
            state.push(name.to_owned(), value.shape().clone(), rec.read(&value)?);
        }
        Ok(state)
    }

    /// Replaces all values by a state's. Checked as a whole first: if something does not fit, nothing changes.
    ///
    /// # Errors
    /// [`Error::State`] with the tensor that is missing, of another shape, or superfluous; the errors of
    /// [`Tensor::write`](crate::Tensor::write).
    pub fn load(&self, state: &State) -> Result<()> {
        self.check(state)?;
        let values = self.views(self.values()).map(|(name, view)| Ok(Some(state.require(name, view.shape())?.into())));
        self.write(self.values(), values)
    }

    /// Checks that a state has these parameters and no others.
    pub(crate) fn check(&self, state: &State) -> Result<()> {
        state.require_only(self.names())?;
        self.parts().list().iter().try_for_each(|part| state.require(&part.name, &part.shape).map(|_| ()))
    }
}
