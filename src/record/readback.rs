//! Readback of tensors to the host.

use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use crate::engine::{Storage, WORD_BYTES, guard};
use crate::error::{Error, Result, ensure, try_with_capacity};
use crate::tensor::Element;

type Mapped = Result<(), wgpu::BufferAsyncError>;

/// The future of a ticket. On the web, wgpu's objects stay on their thread.
#[cfg(not(target_arch = "wasm32"))]
type Arrival<V> = Pin<Box<dyn Future<Output = Result<V>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Arrival<V> = Pin<Box<dyn Future<Output = Result<V>>>>;

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

/// A ticket for values on their way from the GPU: the values of a tensor, scores, a state, or
/// dispatch times.
///
/// A ticket is a future. Something must poll the device: browsers do, and applications usually do
/// once per frame. [`Readback::wait`] polls and blocks. A ticket can be dropped at any time.
///
/// # Errors
/// Awaiting a ticket and [`Readback::wait`] return [`Error::NotSubmitted`]; [`Error::Readback`];
/// [`Error::Data`] if the values depend on data on the GPU that was out of range;
/// [`Error::HostMemory`]; and [`Error::Taken`] once the ticket has returned its values or an error.
#[must_use = "a ticket does nothing unless it is awaited or waited for"]
pub struct Readback<V> {
    device: wgpu::Device,
    /// `None` once it has resolved. The mutex is never contended; it only makes the ticket `Sync`.
    arrival: Mutex<Option<Arrival<V>>>,
}

impl<V> std::fmt::Debug for Readback<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readback").finish_non_exhaustive()
    }
}

/// Lets other threads run between two polls of a wait that has taken `spent`. The pauses grow with
/// the wait: they lengthen it by a few percent.
#[cfg(not(target_arch = "wasm32"))]
fn pause(spent: std::time::Duration, left: std::time::Duration) {
    use std::time::Duration;
    if spent < Duration::from_micros(100) {
        std::thread::yield_now();
    } else {
        std::thread::sleep((spent / 32).min(Duration::from_millis(1)).min(left));
    }
}

impl<V> Readback<V> {
    fn arrival(&mut self) -> &mut Option<Arrival<V>> {
        self.arrival.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls the device until the values arrive. Not available on the web.
    ///
    /// # Errors
    /// The errors of the ticket, and [`Error::Timeout`], after which the ticket stays valid.
    ///
    /// # Panics
    /// If a driver loses its device during a poll, wgpu panics. The panic is caught and becomes
    /// [`Error::Readback`], but panic hooks run, and a program built with `panic = "abort"` aborts.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, timeout: std::time::Duration) -> Result<V> {
        let start = std::time::Instant::now();
        let mut context = Context::from_waker(std::task::Waker::noop());
        // Arrived values do not need the device, which may be lost by now.
        if let Poll::Ready(values) = self.poll_arrival(&mut context) {
            return values;
        }
        loop {
            if poll(&self.device).is_none() {
                *self.arrival() = None;
                return Err(Error::Readback(wgpu::BufferAsyncError));
            }
            if let Poll::Ready(values) = self.poll_arrival(&mut context) {
                return values;
            }
            let spent = start.elapsed();
            ensure!(spent < timeout, Error::Timeout(timeout));
            pause(spent, timeout.saturating_sub(spent));
        }
    }

    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<Result<V>> {
        let arrival = self.arrival();
        let Some(pending) = arrival else { return Poll::Ready(Err(Error::Taken)) };
        let values = pending.as_mut().poll(context);
        if values.is_ready() {
            *arrival = None;
        }
        values
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl<V: Send + 'static> Readback<V> {
    fn of(device: wgpu::Device, arrival: impl Future<Output = Result<V>> + Send + 'static) -> Self {
        Self { device, arrival: Mutex::new(Some(Box::pin(arrival))) }
    }

    /// A ticket for the result of `decode` on the values.
    pub(crate) fn map<U: Send + 'static>(self, decode: impl FnOnce(V) -> Result<U> + Send + 'static) -> Readback<U> {
        Readback::of(self.device.clone(), async move { decode(self.await?) })
    }
}

#[cfg(target_arch = "wasm32")]
impl<V: 'static> Readback<V> {
    fn of(device: wgpu::Device, arrival: impl Future<Output = Result<V>> + 'static) -> Self {
        Self { device, arrival: Mutex::new(Some(Box::pin(arrival))) }
    }

    /// A ticket for the result of `decode` on the values.
    pub(crate) fn map<U: 'static>(self, decode: impl FnOnce(V) -> Result<U> + 'static) -> Readback<U> {
        Readback::of(self.device.clone(), async move { decode(self.await?) })
    }
}

impl<V: Send + 'static> Readback<V> {
    /// A ticket for the values of several tickets.
    pub(crate) fn all(device: &wgpu::Device, tickets: Vec<Self>) -> Readback<Vec<V>> {
        Readback::of(device.clone(), async move {
            let mut all = Vec::with_capacity(tickets.len());
            for ticket in tickets {
                all.push(ticket.await?);
            }
            Ok(all)
        })
    }

    /// A ticket for the values of two tickets.
    pub(crate) fn and<U: Send + 'static>(self, other: Readback<U>) -> Readback<(V, U)> {
        Readback::of(self.device.clone(), async move { Ok((self.await?, other.await?)) })
    }
}

impl<T: Element> Readback<Vec<T>> {
    /// A ticket for the single element of a tensor, such as a loss.
    ///
    /// # Errors
    /// The ticket returns [`Error::Shape`] if the tensor has another number of elements.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::Mse;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [2], &[1.0, 3.0f32])?;
    /// let mut batch = gpu.batch();
    /// let loss = batch.mse(&x, &Tensor::zeros(&gpu, [2])?, &Mse::new())?;
    /// let mut loss = batch.read(&loss)?.scalar();
    /// batch.submit()?;
    /// assert_eq!(loss.wait(Duration::from_secs(10))?, 5.0);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn scalar(self) -> Readback<T> {
        self.map(|values| match values[..] {
            [value] => Ok(value),
            _ => Err(Error::shape("Readback::scalar", "the tensor", "1 element", values.len())),
        })
    }

    /// The size of staging memory for `bytes` bytes of data, followed by the word that reports bad
    /// data and the word that the device clears.
    pub(crate) fn staging_bytes(bytes: u64) -> u64 {
        bytes.next_multiple_of(WORD_BYTES) + 2 * WORD_BYTES
    }

    /// A ticket for `len` elements in `staging` after `skipped` bytes. Also returns one map
    /// callback per staging buffer. `check` names the check whose word follows the data.
    pub(crate) fn staged(
        device: wgpu::Device,
        staging: Storage,
        (skipped, len): (u64, usize),
        check: Option<(&'static str, &'static str)>,
    ) -> (Self, impl Iterator<Item = impl FnOnce(Mapped) + Send + use<T>> + use<T>) {
        let (sender, receiver) = oneshot_channel();
        let missing = staging.buffers().count();
        let arrivals = Arc::new(Arrivals { missing: AtomicUsize::new(missing), sender });
        let staging = Staging { device: device.clone(), storage: Some(staging) };
        let ticket = Self::of(device, async move {
            match receiver.receive().await {
                None => Err(Error::NotSubmitted),
                Some(Err(source)) => Err(Error::Readback(source)),
                Some(Ok(())) => staging.take((skipped, len), check),
            }
        });
        (ticket, std::iter::repeat_n(arrivals, missing).map(|arrivals| move |mapped| arrivals.arrived(mapped)))
    }
}

/// The position, in bytes, of the end of `len` elements after `skipped` bytes.
pub(super) fn end_of<T: Element>(skipped: u64, len: usize) -> u64 {
    skipped + len as u64 * size_of::<T>() as u64
}

/// Staging memory of a ticket.
struct Staging {
    device: wgpu::Device,
    storage: Option<Storage>,
}

impl Staging {
    /// Copies the values out of the mapped buffers, unmaps them and returns them to the pool.
    fn take<T: Element>(
        mut self,
        (skipped, len): (u64, usize),
        check: Option<(&'static str, &'static str)>,
    ) -> Result<Vec<T>> {
        let storage = self.storage.as_ref().ok_or(Error::Taken)?;
        // Halves can start inside a word.
        let end = end_of::<T>(skipped, len);
        let check_at = end.next_multiple_of(WORD_BYTES);
        let ran_at = check_at + WORD_BYTES;
        ensure!(word(storage, ran_at)? == 0, Error::NotSubmitted);
        let mut values = try_with_capacity("readback", len)?;
        values.resize(len, T::zeroed());
        let mut rest = bytemuck::cast_slice_mut(&mut values);
        for (buffer, piece) in storage.pieces(skipped..end) {
            let view = mapped(buffer)?;
            let here = bytes(&view, piece);
            let (part, after) = rest.split_at_mut_checked(here.len()).ok_or(Error::NotSubmitted)?;
            part.copy_from_slice(here);
            rest = after;
        }
        let position = word(storage, check_at)?;
        guard(&self.device, "readback", || storage.buffers().for_each(wgpu::Buffer::unmap))?;
        self.storage = None;
        match check {
            Some((op, what)) if position != u32::MAX => Err(Error::Data { op, what, position, record: None }),
            _ => Ok(values),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The buffer is or will be mapped, so it must not return to the pool.
        if let Some(storage) = &mut self.storage {
            storage.home = None;
        }
    }
}

/// Polls the device. Returns `None` if the driver has lost it, in which case wgpu panics. All other
/// panics come from the application's callbacks, and are passed on.
///
/// Polls without waiting: if the wait of one thread times out while another thread empties the
/// queue, wgpu panics and forgets callbacks.
#[cfg(not(target_arch = "wasm32"))]
fn poll(device: &wgpu::Device) -> Option<()> {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    let _guard = crate::engine::opengl::lock_context(device);
    match catch_unwind(AssertUnwindSafe(|| device.poll(wgpu::PollType::Poll))) {
        Ok(_) => Some(()),
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

impl<V> Future for Readback<V> {
    type Output = Result<V>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_arrival(context)
    }
}

impl<V> Unpin for Readback<V> {}
