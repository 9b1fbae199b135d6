//! Reads and writes states as safetensors files.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};

use super::stored::Stored;
use super::{State, check_name};
use crate::error::{Error, Result};
use crate::files::write_whole;

impl State {
    /// Reads all tensors of a safetensors file, whatever their types. A type matters only when its
    /// tensor is requested.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read; [`Error::Format`] if it is not a complete
    /// safetensors file, or has a type that the format does not define.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes).map_err(|error| match error {
            Error::Format { source, .. } => Error::Format { path: path.to_owned(), source },
            other => other,
        })
    }

    /// Reads the bytes of a safetensors file.
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

    /// Returns the bytes of a safetensors file, with every tensor in its own type.
    ///
    /// # Errors
    /// [`Error::State`] for a tensor with a name that the format reserves; [`Error::Format`] if the
    /// format cannot represent the state.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.names().try_for_each(check_name)?;
        let format = |source| Error::Format { path: "(in memory)".into(), source };
        let views = self.tensors.iter().map(|(name, stored)| {
            Ok((name, TensorView::new(stored.dtype(), stored.shape.to_vec(), stored.bytes()).map_err(format)?))
        });
        let notes = (!self.notes.is_empty()).then(|| self.notes.clone().into_iter().collect());
        serialize(views.collect::<Result<Vec<_>>>()?, notes).map_err(format)
    }

    /// Writes a safetensors file that PyTorch's `safetensors.torch.load_file` reads. The bytes go
    /// to a temporary file in the same directory, which then replaces the file at `path`, so that
    /// there is always a complete file: the old one or the new one. (A process killed in the middle
    /// leaves the temporary file behind.)
    ///
    /// # Errors
    /// [`Error::File`], and the errors of [`to_bytes`](Self::to_bytes); the old file is then
    /// unchanged.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        // Replace the target of a symbolic link, which need not exist yet, and not the link itself.
        let linked = |_| std::fs::read_link(path).map(|link| path.parent().unwrap_or(Path::new("")).join(link));
        let target = std::fs::canonicalize(path).or_else(linked).unwrap_or_else(|_| path.to_owned());
        write_whole(&target, &bytes).map_err(|source| Error::File { path: path.to_owned(), source })
    }
}
