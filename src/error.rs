//! The error type of the crate.

use std::fmt;
use std::time::Duration;

/// The result of a fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Returns an error unless a condition holds.
macro_rules! ensure {
    ($ok:expr, $error:expr) => {
        if !$ok {
            return Err($error);
        }
    };
}
pub(crate) use ensure;

/// Allocates a vector whose size no slice of the caller bounds. `Vec` itself would panic, or abort
/// the process.
pub(crate) fn try_with_capacity<T>(op: &'static str, elements: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    match room.try_reserve_exact(elements) {
        Ok(()) => Ok(room),
        Err(_) => Err(Error::HostMemory { op, elements: elements as u64 }),
    }
}

/// Checks that an operation needs no more of something than is allowed.
pub(crate) fn within(op: &'static str, what: &'static str, needed: u64, allowed: impl Into<u64>) -> Result<()> {
    let allowed = allowed.into();
    if needed <= allowed { Ok(()) } else { Err(Error::limit(op, what, needed, allowed)) }
}

/// Checks the length of a slice.
pub(crate) fn expect_len(op: &'static str, what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::shape(op, what, format!("{expected} elements"), got)) }
}

/// Formats names for a message: the first few, and the number of the others.
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

/// How the names in a state differ from the requested names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// Requested names that the state does not have.
    pub missing: Vec<String>,
    /// Names in the state that are not requested, whatever the types of their tensors.
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

/// All errors of this crate. Every message names the operation, what was expected and what was
/// given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has a shape that the operation does not accept.
    #[error("{op}: {what} must have {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The tensor or number that does not fit.
        what: &'static str,
        /// What the operation expects.
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
        /// Its valid range.
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
    /// The launch of a kernel does not set exactly what the kernel declares: a bug in this crate.
    #[error("{kernel}: {name:?} {problem}")]
    Kernel {
        /// The kernel.
        kernel: &'static str,
        /// A binding, a constant or a parameter.
        name: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The host does not have enough memory for a result.
    #[error("{op}: the host has no memory for {elements} elements")]
    HostMemory {
        /// The operation.
        op: &'static str,
        /// The number of elements of the result.
        elements: u64,
    },
    /// An output shares its buffer with another tensor of the same operation, which WebGPU forbids.
    #[error("{op}: {output} is written, so it must have a buffer of its own, but it shares one with {other}")]
    Aliasing {
        /// The operation.
        op: &'static str,
        /// The tensor that is written.
        output: &'static str,
        /// The tensor with which it shares its buffer.
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
        /// What the buffer has.
        got: String,
    },
    /// Data on the GPU contains a value outside its range. Results that depend on it are NaN.
    #[error("{op}: {what} at flat position {position}{} is out of range; the results that depend on it are NaN", of(*record))]
    Data {
        /// The operation that found the value.
        op: &'static str,
        /// What the value is.
        what: &'static str,
        /// The flat (row-major) position of the first such value.
        position: u32,
        /// For an [`Evaluation`](crate::metrics::Evaluation), the record that holds the value: the
        /// index of the call since the last reset, from 0.
        record: Option<u32>,
    },
    /// A file could not be read or written.
    #[error("{}: the file cannot be read or written", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The reason given by the system.
        #[source]
        source: std::io::Error,
    },
    /// A file is not a complete safetensors file.
    #[error("{}: not a whole safetensors file", path.display())]
    Format {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A CSV file contains something other than a table of numbers.
    #[error("{}, line {line}, column {column}: expected {expected}, got {got}", path.display())]
    Csv {
        /// The file.
        path: std::path::PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: usize,
        /// What is expected there.
        expected: String,
        /// What the file has there.
        got: String,
    },
    /// A saved state does not fit.
    #[error("state: {tensor:?} must have {expected}, got {got}")]
    State {
        /// The tensor's name.
        tensor: String,
        /// What was expected.
        expected: String,
        /// What the state has.
        got: String,
    },
    /// The names in a saved state differ from the requested names.
    #[error("state: the names must be those that are asked for, got {0}")]
    StateNames(Unmatched),
    /// No adapter meets the request.
    #[error("no adapter {wanted}; available: {available}")]
    NoAdapter {
        /// The requested adapter.
        wanted: String,
        /// The available adapters.
        available: String,
    },
    /// The adapter did not provide a device.
    #[error("the adapter {adapter:?} refused to make a device")]
    RequestDevice {
        /// The adapter's name.
        adapter: String,
        /// wgpu's reason.
        #[source]
        source: wgpu::RequestDeviceError,
    },
    /// wgpu rejected a resource: out of memory, a shader that the driver does not compile, a lost
    /// device.
    #[error("{op}: the GPU rejected it")]
    Gpu {
        /// The operation.
        op: &'static str,
        /// wgpu's reason.
        #[source]
        source: wgpu::Error,
    },
    /// The device was created without timestamp queries.
    #[error("profile: the device must have timestamp queries, got one without")]
    NoTimestamps,
    /// A readback did not run: its recorder, or the caller's encoder, was dropped before it was
    /// submitted, or wgpu rejected the encoder or its submission and reported that to the
    /// application's error scope or handler.
    #[error("readback: the recording did not run: it was dropped before it was submitted, or wgpu rejected it")]
    NotSubmitted,
    /// A ticket was waited for again after it had returned its values or an error.
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

impl Error {
    pub(crate) fn value(op: &'static str, what: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Value { op, what, expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn shape(op: &'static str, what: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Shape { op, what, expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn limit(op: &'static str, what: &'static str, needed: impl Into<u64>, allowed: impl Into<u64>) -> Self {
        Self::Limit { op, what, needed: needed.into(), allowed: allowed.into() }
    }

    pub(crate) fn state(tensor: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::State { tensor: tensor.into(), expected: expected.into(), got: got.into() }
    }

    /// The operation that failed, if the error belongs to one.
    #[must_use]
    pub fn op(&self) -> Option<&'static str> {
        match self {
            Self::Shape { op, .. }
            | Self::Value { op, .. }
            | Self::Limit { op, .. }
            | Self::HostMemory { op, .. }
            | Self::Aliasing { op, .. }
            | Self::ForeignTensor { op, .. }
            | Self::Buffer { op, .. }
            | Self::Data { op, .. }
            | Self::Gpu { op, .. } => Some(op),
            _ => None,
        }
    }

    /// Whether memory was exhausted, on the GPU or on the host.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Gpu { source: wgpu::Error::OutOfMemory { .. }, .. } | Self::HostMemory { .. })
    }

    /// Whether the device may be lost. Its results no longer arrive; create another device.
    #[must_use]
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Self::Readback(_) | Self::MapRange(_))
    }

    /// Whether data on the GPU was out of range.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Data { .. })
    }
}
