//! Timestamps of single dispatches.

use std::time::Duration;

use crate::engine::{Role, create_buffer, guard};
use crate::error::{Error, Result, ensure};
use crate::record::{Readback, Recorder};

/// The most dispatches that a recording can time: WebGPU query sets have at most 4096 entries, two
/// per dispatch.
const MOST: u32 = 2048;

/// The timestamps of a recording.
#[derive(Debug)]
pub(crate) struct Profile {
    queries: wgpu::QuerySet,
    labels: Vec<&'static str>,
}

impl Profile {
    /// The queries of the next dispatch, or `None` if the query set is full.
    pub(crate) fn next(&mut self, label: &'static str) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let index = u32::try_from(self.labels.len()).ok().filter(|&index| index < MOST)?;
        self.labels.push(label);
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * index),
            end_of_pass_write_index: Some(2 * index + 1),
        })
    }
}

/// How long one dispatch took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatchTime {
    /// The kernel: `xent.` and the name of its shader.
    pub label: &'static str,
    /// The time from start to end on the GPU.
    pub time: Duration,
}

/// Profiling.
impl Recorder<'_> {
    /// Measures the time of all further dispatches, up to 2048. Each gets its own compute pass,
    /// which costs some time.
    ///
    /// # Errors
    /// [`Error::NoTimestamps`] unless the device was created with
    /// [`wgpu::Features::TIMESTAMP_QUERY`]; [`Gpu::headless`](crate::Gpu::headless) requests it if
    /// the adapter supports it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Error, Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [4], &[-1.0, 0.0, 1.0, 2.0f32])?;
    /// let mut batch = gpu.batch();
    /// match batch.profile() {
    ///     Err(Error::NoTimestamps) => return Ok(()),
    ///     other => other?,
    /// }
    /// let y = batch.relu(&x)?;
    /// let mut times = batch.times()?;
    /// batch.submit()?;
    /// let times = times.wait(Duration::from_secs(10))?;
    /// assert_eq!(times.iter().map(|t| t.label).collect::<Vec<_>>(), ["xent.relu"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn profile(&mut self) -> Result<()> {
        let device = self.gpu().device();
        ensure!(device.features().contains(wgpu::Features::TIMESTAMP_QUERY), Error::NoTimestamps);
        let descriptor =
            wgpu::QuerySetDescriptor { label: Some("xent"), ty: wgpu::QueryType::Timestamp, count: 2 * MOST };
        let queries = guard(device, "profile", || device.create_query_set(&descriptor))?;
        self.set_profile(Some(Profile { queries, labels: Vec::new() }));
        Ok(())
    }

    /// Stops measuring. The ticket returns the times of all dispatches since
    /// [`profile`](Self::profile), in order; none if `profile` was not called.
    ///
    /// # Errors
    /// [`Error::Gpu`] if there is no memory for the times.
    pub fn times(&mut self) -> Result<Readback<Vec<DispatchTime>>> {
        let profile = self.set_profile(None);
        let (queries, labels) = profile.map_or((None, Vec::new()), |p| (Some(p.queries), p.labels));
        let device = self.gpu().device().clone();
        let entries = u32::try_from(2 * labels.len()).unwrap_or(0);
        let bytes = u64::from(entries) * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = guard(&device, "times", || create_buffer(&device, "xent.times", bytes.max(8), usage))?;
        let staging = self.gpu().allocate("times", Role::Staging, Readback::<Vec<u32>>::staging_bytes(bytes))?;
        let nanoseconds = f64::from(self.gpu().queue().get_timestamp_period());
        let encoder = self.between_passes().ok_or(Error::NotSubmitted)?;
        if let Some(queries) = queries.filter(|_| entries > 0) {
            encoder.resolve_query_set(&queries, 0..entries, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, staging.buffer(), 0, bytes);
        }
        let ticket: Readback<Vec<u32>> = self.ticket("times", staging, (0, 4 * labels.len()), None)?;
        Ok(ticket.map(move |words| Ok(times(&labels, nanoseconds, &words))))
    }
}

/// Decodes pairs of 64-bit ticks, each stored as two words, low word first.
fn times(labels: &[&'static str], nanoseconds: f64, words: &[u32]) -> Vec<DispatchTime> {
    let tick = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    let time = |(&label, &[begin, begin_high, end, end_high]): (&&'static str, &[u32; 4])| {
        #[expect(clippy::cast_precision_loss, reason = "a dispatch takes less than 2^53 ticks")]
        let nanoseconds = tick(end, end_high).saturating_sub(tick(begin, begin_high)) as f64 * nanoseconds;
        // Drivers can return arbitrary ticks.
        DispatchTime { label, time: Duration::try_from_secs_f64(nanoseconds * 1e-9).unwrap_or(Duration::MAX) }
    };
    labels.iter().zip(words.as_chunks().0).map(time).collect()
}
