//! Results on their way back to the host.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use crate::error::{Error, Result};
use crate::pool::Storage;
use crate::tensor::Element;

type Mapped = Result<(), wgpu::BufferAsyncError>;
type Arrival = Pin<Box<dyn Future<Output = Option<Mapped>> + Send>>;

/// A ticket for a tensor's values at one point of a recording.
///
/// It is a future; the device has to be polled by somebody (a browser does it by itself, an application usually once a
/// frame). [`Readback::wait`] polls and blocks. Dropping the ticket is fine at any time.
#[must_use = "a ticket does nothing unless it is awaited or waited for"]
pub struct Readback<T: Element> {
    device: wgpu::Device,
    /// What tells that the copy is mapped; gone once it has told. The mutex is never contended: it makes the ticket `Sync`.
    arrival: Mutex<Option<Arrival>>,
    staging: Option<Storage>,
    /// Bytes before the data: halves may begin within a word.
    skipped: u64,
    len: usize,
    /// What the word after the data reports, if there is one.
    check: Option<(&'static str, &'static str)>,
    element: PhantomData<T>,
}

impl<T: Element> std::fmt::Debug for Readback<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readback").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T: Element> Readback<T> {
    /// A ticket for `len` elements in `staging` after `skipped` bytes, and the sender that tells it that `staging` is mapped.
    pub(crate) fn new(
        device: wgpu::Device,
        staging: Storage,
        (skipped, len): (u64, usize),
        check: Option<(&'static str, &'static str)>,
    ) -> (Self, OneshotSender<Mapped>) {
        let (sender, receiver) = oneshot_channel();
        let arrival: Arrival = Box::pin(async move { receiver.receive().await });
        let arrival = Mutex::new(Some(arrival));
        (Self { device, arrival, staging: Some(staging), skipped, len, check, element: PhantomData }, sender)
    }

    /// Polls the device until the values are here. Not on the web.
    ///
    /// # Errors
    /// [`Error::Timeout`] (the ticket stays valid), [`Error::NotSubmitted`], [`Error::Readback`], [`Error::Data`] if data on the
    /// GPU that the tensor depends on was out of range, and [`Error::Taken`] after any other outcome than a timeout.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, timeout: std::time::Duration) -> Result<Vec<T>> {
        use std::time::{Duration, Instant};
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(left) };
            let idle = matches!(self.device.poll(wait), Ok(wgpu::PollStatus::QueueEmpty));
            if let Poll::Ready(values) = self.poll_arrival(&mut Context::from_waker(std::task::Waker::noop())) {
                return values;
            }
            if start.elapsed() >= timeout {
                return Err(Error::Timeout(timeout));
            }
            if idle {
                // Not submitted yet; another thread may be about to.
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

    /// Copies the values out of the mapped buffer, which goes back to its pool.
    fn take(&mut self) -> Result<Vec<T>> {
        let staging = self.staging.as_ref().ok_or(Error::Taken)?;
        let skipped = usize::try_from(self.skipped).unwrap_or(usize::MAX);
        let end = skipped.saturating_add(self.len.saturating_mul(size_of::<T>()));
        let view = staging.get_mapped_range(..).map_err(Error::MapRange)?;
        let words: &[u8] = &view;
        let split = words.split_at_checked(end.next_multiple_of(4));
        let (data, rest) = split.unwrap_or((words, &[]));
        let values = bytemuck::pod_collect_to_vec(data.get(skipped..end).unwrap_or_default());
        let position = rest.first_chunk().map_or(u32::MAX, |bytes| u32::from_ne_bytes(*bytes));
        drop(view);
        staging.unmap();
        self.staging = None;
        match self.check {
            Some((op, what)) if position != u32::MAX => Err(Error::Data { op, what, position }),
            _ => Ok(values),
        }
    }
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
        // The buffer is mapped, or will be: it must not be used again.
        if let Some(staging) = &mut self.staging {
            staging.abandon();
        }
    }
}
