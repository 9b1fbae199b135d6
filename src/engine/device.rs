//! The handle to a device, with its queue, properties, compiled pipelines and buffer pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::adapter::find_adapter;
use super::bind_groups::BindGroups;
use super::caps::{Caps, Family};
use super::error_scope::guard;
use super::kernel::Pipelines;
use super::opengl;
use super::pool::{Pool, Role, Storage, create_buffer};
use crate::error::{Error, Result, ensure, within};

/// A device to compute on. Clones are cheap and share everything.
///
/// Bring your own device with [`Gpu::new`], or let [`Gpu::headless`] find one. The crate installs
/// no callbacks on the device, starts no threads (except while [`warm_up`](Self::warm_up) compiles)
/// and never submits an encoder that is yours.
#[derive(Clone, Debug)]
pub struct Gpu {
    shared: Arc<Shared>,
    caps: Arc<Caps>,
}

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Pipelines,
    pool: Arc<Pool>,
    /// Holds 1.0, the default of upstream gradients and weights.
    one: Arc<Storage>,
    submissions: AtomicU64,
    dispatches: AtomicU64,
}

/// Counters of the work and the memory of a [`Gpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Queue submissions by this crate. Submissions of the caller's own encoders are not counted.
    pub submissions: u64,
    /// Recorded dispatches, submitted or not.
    pub dispatches: u64,
    /// Compiled pipelines: one per variant of a kernel.
    pub kernels_compiled: u64,
    /// Created buffers; reused ones are not counted.
    pub buffers_created: u64,
    /// Bytes of this crate's buffers in use: tensors, scratch, parameters and staging memory. The
    /// caller's buffers and free buffers in the pool are not counted.
    pub bytes_in_use: u64,
    /// The maximum of `bytes_in_use` since the start, or since [`Gpu::reset_peak`].
    pub peak_bytes: u64,
}

impl Gpu {
    /// The name of the environment variable that selects an adapter for [`Gpu::headless`].
    pub const ADAPTER_VARIABLE: &str = "XENT_ADAPTER";

    /// The optional features that the crate uses: timestamp queries for profiles, subgroups for
    /// faster reductions, and a pipeline cache. None is required.
    pub const USEFUL_FEATURES: wgpu::Features =
        wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::SUBGROUP).union(wgpu::Features::PIPELINE_CACHE);

    /// Uses the caller's device and its queue.
    ///
    /// Threads may share the device. On OpenGL, xent calls wgpu from one thread at a time, because
    /// wgpu panics in a thread that waits six seconds for another. Your own calls can still wait
    /// that long while a large kernel is compiled; [`Gpu::warm_up`] compiles ahead of time.
    ///
    /// # Panics
    /// Inside wgpu, if the queue belongs to another device: wgpu offers no way to check.
    ///
    /// # Errors
    /// [`Error::Limit`] if the device's limits are below what every kernel needs. WebGPU's default
    /// limits are enough for every operation; [`wgpu::Limits::downlevel_defaults`] are enough for
    /// operations on few tensors, such as a loss and its gradient in place, without weights. An
    /// operation that needs more storage bindings than the device has returns [`Error::Limit`] when
    /// it is recorded; its earlier dispatches, if any, stay recorded and may write outputs.
    /// [`Error::Value`] if an offset alignment of the device exceeds 4096 bytes.
    pub fn new(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        opengl::register(&device);
        let limits = device.limits();
        let caps = Caps::new(&device);
        let enough = |what, needed: u64, allowed: u64| within("Gpu::new", what, needed, allowed);
        enough(Caps::BINDINGS, Caps::MIN_BINDINGS.into(), caps.max_bindings.into())?;
        enough("a storage binding's bytes", Caps::MIN_BINDING, caps.max_binding)?;
        enough("a buffer's bytes", Caps::MIN_BUFFER, caps.max_buffer)?;
        enough("threads in a workgroup", 64, caps.max_invocations.into())?;
        enough("workgroup memory", Caps::MIN_WORKGROUP_MEMORY.into(), caps.workgroup_memory.into())?;
        enough("a uniform binding's bytes", 256, limits.max_uniform_buffer_binding_size)?;
        enough("dynamic uniform offsets", 1, limits.max_dynamic_uniform_buffers_per_pipeline_layout.into())?;
        let aligns = [
            ("min_storage_buffer_offset_alignment", caps.storage_align),
            ("min_uniform_buffer_offset_alignment", caps.uniform_align),
        ];
        for (what, align) in aligns {
            ensure!(
                align.is_power_of_two() && align <= Caps::MOST_ALIGN,
                Error::value("Gpu::new", what, format!("a power of 2 up to {}", Caps::MOST_ALIGN), align)
            );
        }
        let usage = Role::Storage.usage_flags();
        let one = guard(&device, "Gpu::new", || create_buffer(&device, "xent.one", 16, usage))?;
        guard(&device, "Gpu::new", || queue.write_buffer(&one, 0, bytemuck::bytes_of(&[1.0f32; 4])))?;
        let shared = Shared {
            device,
            queue,
            pipelines: Pipelines::default(),
            pool: Arc::default(),
            one: Arc::new(Storage::unpooled(one)),
            submissions: AtomicU64::new(0),
            dispatches: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), caps: Arc::new(caps) })
    }

    /// Finds an adapter and creates a device with all of the adapter's limits. Blocks; not
    /// available on the web, where [`Gpu::request`] replaces it.
    ///
    /// The environment variable `XENT_ADAPTER` selects an adapter by its backend (`vulkan`, `gl`,
    /// `metal`, `dx12`) or by a part of its name or its driver's name. Without it, discrete GPUs
    /// are preferred to integrated ones, and these to software adapters.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], which lists the available adapters, or [`Error::RequestDevice`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn headless() -> Result<Self> {
        let wanted = std::env::var(Self::ADAPTER_VARIABLE).unwrap_or_default();
        pollster::block_on(Self::request(&wanted))
    }

    /// Finds an adapter and creates a device with all of the adapter's limits. `wanted` selects an
    /// adapter as in [`Gpu::headless`]; an empty string selects the best.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], which lists the available adapters, or [`Error::RequestDevice`].
    pub async fn request(wanted: &str) -> Result<Self> {
        let adapter = find_adapter(wanted).await?;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("xent"),
            required_limits: adapter.limits(),
            required_features: adapter.features() & Self::USEFUL_FEATURES,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|source| Error::RequestDevice { adapter: adapter.get_info().name, source })?;
        Self::new(device, queue)
    }

    /// Returns the same device with other properties for the planner: the other [`Family`], or
    /// lower limits.
    ///
    /// # Errors
    /// [`Error::Value`] if a limit is above the device's or below the kernels' minimum.
    ///
    /// # Examples
    /// ```
    /// use xent::{Caps, Family, Gpu};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let gpu = gpu.with_caps(Caps { family: Family::Gpu, max_binding: 1 << 20, ..gpu.caps().clone() })?;
    /// assert_eq!(gpu.caps().max_binding, 1 << 20);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn with_caps(&self, caps: Caps) -> Result<Self> {
        let device = Caps::new(self.device());
        let between = |what, value: u64, least: u64, most: u64| {
            let inside = (least..=most).contains(&value);
            ensure!(inside, Error::value("with_caps", what, format!("{least}..={most}"), value));
            Ok(())
        };
        between("max_binding", caps.max_binding, Caps::MIN_BINDING, device.max_binding)?;
        between("max_buffer", caps.max_buffer, Caps::MIN_BUFFER, device.max_buffer)?;
        between("max_groups", caps.max_groups.into(), 1, device.max_groups.into())?;
        between("max_invocations", caps.max_invocations.into(), 64, device.max_invocations.into())?;
        between("max_bindings", caps.max_bindings.into(), Caps::MIN_BINDINGS.into(), device.max_bindings.into())?;
        let memory = u64::from(device.workgroup_memory);
        between("workgroup_memory", caps.workgroup_memory.into(), Caps::MIN_WORKGROUP_MEMORY.into(), memory)?;
        between("max_turns", caps.max_turns.into(), Caps::MIN_TURNS.into(), device.max_turns.into())?;
        if caps.subgroup_size != 0 {
            between(
                "subgroup_size",
                caps.subgroup_size.into(),
                device.subgroup_size.into(),
                device.subgroup_size.into(),
            )?;
        }
        let power_between = |what, value: u32, least: u32, most: u32| {
            let inside = value.is_power_of_two() && (least..=most).contains(&value);
            ensure!(inside, Error::value("with_caps", what, format!("a power of 2 in {least}..={most}"), value));
            Ok(())
        };
        power_between("storage_align", caps.storage_align, device.storage_align, Caps::MOST_ALIGN)?;
        power_between("uniform_align", caps.uniform_align, device.uniform_align, Caps::MOST_ALIGN)?;
        power_between("simd_width", caps.simd_width, 4, 64)?;
        // Rounded as in `Caps::new`.
        let max_buffer = caps.max_buffer & !Caps::SEGMENT_MASK;
        let max_binding = (caps.max_binding & !15).min(max_buffer);
        Ok(Self { shared: self.shared.clone(), caps: Arc::new(Caps { max_binding, max_buffer, ..caps }) })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &wgpu::Device {
        &self.shared.device
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.shared.queue
    }

    /// The properties that the planner uses.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The counters of this handle and its clones.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (bytes_in_use, peak_bytes) = self.shared.pool.bytes();
        Counters {
            bytes_in_use,
            peak_bytes,
            submissions: self.shared.submissions.load(Ordering::Relaxed),
            dispatches: self.shared.dispatches.load(Ordering::Relaxed),
            kernels_compiled: self.shared.pipelines.compiled(),
            buffers_created: self.shared.pool.created(),
        }
    }

    /// Restarts [`Counters::peak_bytes`] from the current value.
    pub fn reset_peak(&self) {
        self.shared.pool.reset_most();
    }

    /// A description of the adapter: name, backend, driver, driver version, kernel family.
    #[must_use]
    pub fn describe(&self) -> String {
        let info = self.device().adapter_info();
        let family = match self.caps.family {
            Family::Gpu => "GPU kernels",
            Family::CpuSimd => "CPU-SIMD kernels",
        };
        format!("{} [{}; {} {}; {family}]", info.name, info.backend, info.driver, info.driver_info)
    }

    /// Frees all unused buffers of the pool, and the bind groups that are kept for pooled buffers.
    pub fn trim(&self) {
        self.shared.pool.clear();
    }

    pub(crate) fn is_same_device(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.shared.pipelines
    }

    /// The memory that holds a scalar 1.
    pub(crate) fn memory_of_one(&self) -> &Arc<Storage> {
        &self.shared.one
    }

    /// The bind groups of pooled buffers.
    pub(crate) fn bind_groups(&self) -> &BindGroups {
        &self.shared.pool.bind_groups
    }

    pub(crate) fn allocate(&self, op: &'static str, role: Role, bytes: u64) -> Result<Storage> {
        self.shared.pool.take(self.device(), op, role, bytes, self.caps.max_buffer)
    }

    pub(crate) fn count_dispatch(&self) {
        self.shared.dispatches.fetch_add(1, Ordering::Relaxed);
    }

    /// Fills memory with zeros on the device, without an upload.
    pub(crate) fn clear(&self, op: &'static str, storage: &Storage) -> Result<()> {
        let label = wgpu::CommandEncoderDescriptor { label: Some("xent.clear") };
        let encoder = guard(self.device(), op, || {
            let mut encoder = self.device().create_command_encoder(&label);
            storage.buffers().for_each(|buffer| encoder.clear_buffer(buffer, 0, None));
            encoder
        })?;
        self.submit(op, encoder)
    }

    pub(crate) fn submit(&self, op: &'static str, encoder: wgpu::CommandEncoder) -> Result<()> {
        self.shared.submissions.fetch_add(1, Ordering::Relaxed);
        guard(self.device(), op, || self.queue().submit([encoder.finish()]))?;
        Ok(())
    }
}
