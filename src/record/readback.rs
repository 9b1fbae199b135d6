//! Readback of tensors to the host.

use std::marker::PhantomData;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use crate::engine::{Storage, WORD_BYTES, guard};
use crate::error::{Error, Result, try_with_capacity};
use crate::tensor::Element;

type Mapped = Result<(), wgpu::BufferAsyncError>;
type Arrival = Pin<Box<dyn Future<Output = Option<Mapped>> + Send>>;

/// Notifies a ticket once all its buffers are mapped, or one of them has failed.
struct Arrivals {
    missing: AtomicUsize,
    sender: OneshotSender<Mapped>,
}

impl Arrivals {
    fn arrived(&self, mapped: Mapped) {
        let last = self.missing.fetch_sub(1, Ordering::AcqRel) == 1;
        if last || mapped.is_err() {
            // The ticket may have been dropped, or notified before.
            let _ = self.sender.send(mapped);
        }
    }
}

/// A ticket for a tensor's values at one point of a recording.
///
/// It is a future. Somebody has to poll the device: browsers do, and applications usually do once per frame.
/// [`Readback::wait`] polls and blocks. A ticket can be dropped at any time.
#[must_use = "a ticket does nothing unless it is awaited or waited for"]
pub struct Readback<T: Element> {
    device: wgpu::Device,
    /// Resolves when the copy is mapped; taken afterwards. The mutex is never contended, it only makes the ticket `Sync`.
    arrival: Mutex<Option<Arrival>>,
    staging: Option<Storage>,
    /// The bytes before the data: halves can start inside a word.
    skipped: u64,
    len: usize,
    /// The check whose word follows the data, if any.
    check: Option<(&'static str, &'static str)>,
    element: PhantomData<T>,
}

impl<T: Element> std::fmt::Debug for Readback<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readback").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The longest single wait for the device, so that other threads get their turn.
#[cfg(not(target_arch = "wasm32"))]
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_millis(100);

impl<T: Element> Readback<T> {
    /// The size of staging memory for `bytes` bytes of data, followed by the word that reports bad data and the word that the
    /// device clears.
    pub(crate) fn staging_bytes(bytes: u64) -> u64 {
        bytes.next_multiple_of(WORD_BYTES) + 2 * WORD_BYTES
    }

    /// A ticket for `len` elements in `staging` after `skipped` bytes, and for each of its buffers the callback of its mapping.
    pub(crate) fn new(
        device: wgpu::Device,
        staging: Storage,
        (skipped, len): (u64, usize),
        check: Option<(&'static str, &'static str)>,
    ) -> (Self, impl Iterator<Item = impl FnOnce(Mapped) + Send + use<T>> + use<T>) {
        let (sender, receiver) = oneshot_channel();
        let missing = staging.buffers().count();
        let arrivals = Arc::new(Arrivals { missing: AtomicUsize::new(missing), sender });
        let arrival: Arrival = Box::pin(async move { receiver.receive().await });
        let arrival = Mutex::new(Some(arrival));
        let ticket = Self { device, arrival, staging: Some(staging), skipped, len, check, element: PhantomData };
        (ticket, std::iter::repeat_n(arrivals, missing).map(|arrivals| move |mapped| arrivals.arrived(mapped)))
    }

    /// Polls the device until the values arrive. Not available on the web.
    ///
    /// # Errors
    /// [`Error::Timeout`] (the ticket stays valid), [`Error::NotSubmitted`], [`Error::Readback`], [`Error::Data`] if data on the
    /// GPU that the tensor depends on was out of range, [`Error::HostMemory`], and [`Error::Taken`] after any other outcome than a timeout.
    ///
    /// # Panics
    /// If a driver loses its device during a poll, wgpu panics. The panic is caught and becomes [`Error::Readback`], but panic
    /// hooks run, and a program built with `panic = "abort"` aborts.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, timeout: std::time::Duration) -> Result<Vec<T>> {
        use std::time::{Duration, Instant};
        let start = Instant::now();
        let mut context = Context::from_waker(std::task::Waker::noop());
        // Values that have arrived do not need the device, which may be lost by now.
        if let Poll::Ready(values) = self.poll_arrival(&mut context) {
            return values;
        }
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(left.min(LONGEST_WAIT)) };
            let idle = match poll(&self.device, wait) {
                Some(polled) => matches!(polled, Ok(wgpu::PollStatus::QueueEmpty)),
                None => {
                    *self.arrival.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
                    return Err(Error::Readback(wgpu::BufferAsyncError));
                }
            };
            if let Poll::Ready(values) = self.poll_arrival(&mut context) {
                return values;
            }
            if start.elapsed() >= timeout {
                return Err(Error::Timeout(timeout));
            }
            if idle {
                // Not submitted yet; another thread may do so.
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }

    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<T>>> {
        let arrival = self.arrival.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(pending) = arrival else { return Poll::Ready(Err(Error::Taken)) };
        let Poll::Ready(mapped) = pending.as_mut().poll(context) else { return Poll::Pending };
        *arrival = None;
        Poll::Ready(match mapped {
            None => Err(Error::NotSubmitted),
            Some(Err(source)) => Err(Error::Readback(source)),
            Some(Ok(())) => self.take(),
        })
    }

    /// Copies the values out of the mapped buffer and returns it to the pool.
    fn take(&mut self) -> Result<Vec<T>> {
        let staging = self.staging.as_ref().ok_or(Error::Taken)?;
        let end = self.skipped + self.len as u64 * size_of::<T>() as u64;
        let check_at = end.next_multiple_of(WORD_BYTES);
        let ran_at = check_at + WORD_BYTES;
        if word(staging, ran_at)? != 0 {
            return Err(Error::NotSubmitted);
        }
        let mut values = try_with_capacity("readback", self.len)?;
        values.resize(self.len, T::zeroed());
        let mut rest = bytemuck::cast_slice_mut(&mut values);
        for (buffer, piece) in staging.pieces(self.skipped..end) {
            let view = mapped(buffer)?;
            let here = bytes(&view, piece);
            let (part, after) = rest.split_at_mut_checked(here.len()).ok_or(Error::NotSubmitted)?;
            part.copy_from_slice(here);
            rest = after;
        }
        let position = word(staging, check_at)?;
        guard(&self.device, "readback", || staging.buffers().for_each(wgpu::Buffer::unmap))?;
        self.staging = None;
        match self.check {
            Some((op, what)) if position != u32::MAX => Err(Error::Data { op, what, position, record: None }),
            _ => Ok(values),
        }
    }
}

/// Polls the device. Returns `None` if the driver has lost it, in which case wgpu panics. All other panics come from
/// callbacks of the application, and are passed on.
#[cfg(not(target_arch = "wasm32"))]
fn poll(device: &wgpu::Device, how: wgpu::PollType) -> Option<Result<wgpu::PollStatus, wgpu::PollError>> {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    let _turn = crate::engine::opengl::turn(device);
    match catch_unwind(AssertUnwindSafe(|| device.poll(how))) {
        Ok(polled) => Some(polled),
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(message) if message.starts_with("Error in Device::poll") => None,
            _ => resume_unwind(panic),
        },
    }
}

/// Reads a word of mapped memory.
fn word(staging: &Storage, at: u64) -> Result<u32> {
    let (buffer, at) = staging.at(at);
    let view = mapped(buffer)?;
    Ok(bytes(&view, at..at + WORD_BYTES).first_chunk().map_or(u32::MAX, |bytes| u32::from_ne_bytes(*bytes)))
}

fn mapped(buffer: &wgpu::Buffer) -> Result<wgpu::BufferView> {
    buffer.get_mapped_range(..).map_err(Error::MapRange)
}

fn bytes(view: &[u8], piece: Range<u64>) -> &[u8] {
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
    view.get(at(piece.start)..at(piece.end)).unwrap_or_default()
}

impl<T: Element> Future for Readback<T> {
    type Output = Result<Vec<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_arrival(context)
    }
}

impl<T: Element> Unpin for Readback<T> {}

impl<T: Element> Drop for Readback<T> {
    fn drop(&mut self) {
        // The buffer is or will be mapped, so it must not return to the pool.
        if let Some(staging) = &mut self.staging {
            staging.detach_from_pool();
        }
    }
}
