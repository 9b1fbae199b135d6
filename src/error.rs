//! The one error type of the crate.

use std::fmt;
use std::time::Duration;

/// What a fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Memory for a result whose size no slice of the caller's vouches for: `Vec` itself would panic, or end the process.
pub(crate) fn try_with_capacity<T>(op: &'static str, elements: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    match room.try_reserve_exact(elements) {
        Ok(()) => Ok(room),
        Err(_) => Err(Error::HostMemory { op, elements: elements as u64 }),
    }
}

/// Names for a message: all of a few, of many their number and the first.
pub(crate) fn few<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const FEW: usize = 8;
    let mut names = names.into_iter();
    let first: Vec<&str> = names.by_ref().take(FEW).collect();
    match names.count() {
        0 => format!("{first:?}"),
        more => format!("{first:?} and {more} more"),
    }
}

fn of(record: Option<u32>) -> String {
    record.map_or_else(String::new, |record| format!(" of record {record}"))
}

/// Where the names of a state and those that are asked for differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// Names that are asked for and are not in the state.
    pub missing: Vec<String>,
    /// Names that are in the state and that nobody asks for, whatever their types.
    pub superfluous: Vec<String>,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [("missing", &self.missing), ("superfluous", &self.superfluous)];
        for (i, (what, names)) in lists.into_iter().filter(|(_, names)| !names.is_empty()).enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            let names = (names.len(), few(names.iter().map(String::as_str)));
            write!(f, "{separator}{} {what}: {}", names.0, names.1)?;
        }
        Ok(())
    }
}

/// Everything that can go wrong. Every message names the operation, what was expected and what was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has a shape that the operation cannot take.
    #[error("{op}: {what} must have {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The tensor, or the number, that does not fit.
        what: &'static str,
        /// What would have fitted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A number (an option, a target in a host slice) is outside its range.
    #[error("{op}: {what} must be {expected}, got {got}")]
    Value {
        /// The operation.
        op: &'static str,
        /// The number's name.
        what: &'static str,
        /// Its range.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The operation needs more of something than the device, or an option, allows.
    #[error("{op}: {what} needs {needed}, the limit is {allowed}")]
    Limit {
        /// The operation.
        op: &'static str,
        /// What is limited.
        what: &'static str,
        /// What the operation needs.
        needed: u64,
        /// What the device, or an option, allows.
        allowed: u64,
    },
    /// A kernel is launched with a name that it does not have, or without one that it has: a bug of this crate.
    #[error("{kernel}: the launch and the kernel do not agree about {name:?}")]
    Kernel {
        /// The kernel.
        kernel: &'static str,
        /// A binding, a constant or a parameter.
        name: &'static str,
    },
    /// The host has no memory for a result.
    #[error("{op}: the host has no memory for {elements} elements")]
    HostMemory {
        /// The operation.
        op: &'static str,
        /// How many elements there would be.
        elements: u64,
    },
    /// An output shares its buffer with another tensor of the same operation, which WebGPU forbids.
    #[error("{op}: {output} is written, so it must have a buffer of its own, but it shares one with {other}")]
    Aliasing {
        /// The operation.
        op: &'static str,
        /// The tensor that is written.
        output: &'static str,
        /// The tensor it shares its buffer with.
        other: &'static str,
    },
    /// A tensor was made for another [`Gpu`](crate::Gpu).
    #[error("{op}: {what} must belong to this Gpu, got a tensor made by another Gpu")]
    ForeignTensor {
        /// The operation.
        op: &'static str,
        /// The tensor.
        what: &'static str,
    },
    /// A caller's buffer cannot be used as a tensor.
    #[error("{op}: the buffer must have {expected}, got {got}")]
    Buffer {
        /// The operation.
        op: &'static str,
        /// What the buffer must have.
        expected: String,
        /// What it has.
        got: String,
    },
    /// Data that was already on the GPU holds a value outside its range. The results that depend on it are NaN.
    #[error("{op}: {what} at flat position {position}{} is out of range; the results that depend on it are NaN", of(*record))]
    Data {
        /// The operation that met the value.
        op: &'static str,
        /// What the value is.
        what: &'static str,
        /// The flat (row-major) position of the first such value.
        position: u32,
        /// Of an [`Evaluation`](crate::metrics::Evaluation) the record, from 0, that it is in: which call since the last reset.
        record: Option<u32>,
    },
    /// A file could not be read or written.
    #[error("{}: the file cannot be read or written", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file is no safetensors file, or not a whole one.
    #[error("{}: not a whole safetensors file", path.display())]
    Format {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A CSV file holds something else than a table of numbers.
    #[error("{}, line {line}, column {column}: expected {expected}, got {got}", path.display())]
    Csv {
        /// The file.
        path: std::path::PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A saved state does not fit.
    #[error("state: {tensor:?} must have {expected}, got {got}")]
    State {
        /// The tensor's name.
        tensor: String,
        /// What would have fitted.
        expected: String,
        /// What there is.
        got: String,
    },
    /// The names of a saved state are not those that are asked for.
    #[error("state: the names must be those that are asked for, got {0}")]
    StateNames(Unmatched),
    /// No adapter fits.
    #[error("no adapter {wanted}; available: {available}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters that there are.
        available: String,
    },
    /// The adapter did not give a device.
    #[error("the adapter {adapter:?} refused to make a device")]
    RequestDevice {
        /// The adapter's name.
        adapter: String,
        /// wgpu's reason.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// wgpu rejected a resource: out of memory, a driver that does not compile a shader, a lost device.
    #[error("{op}: the GPU rejected it")]
    Gpu {
        /// The operation.
        op: &'static str,
        /// wgpu's reason.
        #[source]
        source: wgpu::Error,
    },
    /// The device was made without timestamp queries.
    #[error("profile: the device must have timestamp queries, got one without")]
    NoTimestamps,
    /// A readback did not run: its recorder, or the caller's encoder, was dropped before it was submitted, or wgpu rejected the encoder
    /// or its submission, and said so to the application's error scope or handler.
    #[error("readback: the recording did not run: it was dropped before it was submitted, or wgpu rejected it")]
    NotSubmitted,
    /// A ticket was waited for again after it had given its values, or an error.
    #[error("readback: the ticket has already given its values or an error")]
    Taken,
    /// The readback's buffer could not be mapped, most likely because the device is lost.
    #[error("readback: the buffer could not be mapped; the device may be lost")]
    Readback(#[source] wgpu::BufferAsyncError),
    /// The mapped memory of a readback could not be read.
    #[error("readback: the mapped memory could not be read")]
    MapRange(#[source] wgpu::MapRangeError),
    /// The GPU did not finish in time. The ticket stays valid: wait again.
    #[error("readback: the GPU did not finish within {0:?}")]
    Timeout(Duration),
}
