//! States in safetensors files.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};

use super::stored::Stored;
use super::{State, check_name};
use crate::error::{Error, Result};
use crate::files::write_whole;

impl State {
    /// Reads a safetensors file: all of its tensors, whatever their types, which have to suit only who asks for them.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Format`] if it is no safetensors file, or not a whole one; a type
    /// that the format does not name makes it none.
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
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let data = bytes.get(size_of::<u64>().saturating_add(header)..).unwrap_or_default();
        let mut state = Self::default();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let bytes = data.get(start..end).unwrap_or_default();
            let stored = Stored::from_bytes(info.shape.clone().into(), info.dtype, bytes);
            state.tensors.insert(name, stored);
        }
        state.notes.extend(metadata.metadata().clone().unwrap_or_default());
        Ok(state)
    }

    /// The bytes of a safetensors file: every tensor in its type.
    ///
    /// # Errors
    /// [`Error::State`] for a tensor whose name the format keeps for itself; [`Error::Format`] if the format cannot hold it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.names().try_for_each(check_name)?;
        let format = |source| Error::Format { path: "(in memory)".into(), source };
        let views = self.tensors.iter().map(|(name, stored)| {
            Ok((name, TensorView::new(stored.dtype(), stored.shape.to_vec(), stored.bytes()).map_err(format)?))
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
