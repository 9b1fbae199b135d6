//! The properties of a device that the planner uses.

/// A family of kernels. Both families run on every adapter and compute the same results up to
/// rounding; they differ in speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Workgroups of many threads and tiles in workgroup memory: discrete and integrated GPUs.
    Gpu,
    /// Workgroups of one SIMD vector and tiles in registers: software adapters such as lavapipe,
    /// llvmpipe and `SwiftShader`, where a workgroup is one thread of a CPU and a barrier saves the
    /// registers of all threads and starts a new loop over them.
    CpuSimd,
}

/// The properties of a device that the planner uses.
///
/// [`Gpu::new`](crate::Gpu::new) reads them from the device.
/// [`Gpu::with_caps`](crate::Gpu::with_caps) replaces them, for instance to force the other
/// [`Family`] or to keep bindings small; limits can only be lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The kernels to use.
    pub family: Family,
    /// The width of a SIMD vector on a software adapter: the size of a workgroup in
    /// [`Family::CpuSimd`].
    pub simd_width: u32,
    /// The least number of threads in a subgroup, if the device has `Features::SUBGROUP` (and, on a
    /// software adapter, if that number is fixed); else 0. Threads that share a row or a sum
    /// exchange values within a subgroup directly. On [`Family::CpuSimd`] they do so only if this
    /// equals `simd_width`; product kernels then use subgroups as well.
    pub subgroup_size: u32,
    /// On [`Family::Gpu`], a product uses a larger tile only if the result then still has at least
    /// this many tiles.
    pub enough_tiles: u32,
    /// The largest storage binding, in bytes.
    pub max_binding: u64,
    /// The largest buffer, in bytes, a multiple of 4096. Larger tensors consist of several buffers.
    pub max_buffer: u64,
    /// The alignment of storage binding offsets, in bytes.
    pub storage_align: u32,
    /// The alignment of uniform binding offsets, in bytes.
    pub uniform_align: u32,
    /// The most workgroups in one dimension of a dispatch.
    pub max_groups: u32,
    /// The most threads in a workgroup.
    pub max_invocations: u32,
    /// The most storage bindings of a shader. With few of them, operations that use many options do
    /// not fit.
    pub max_bindings: u32,
    /// The size of workgroup memory, in bytes.
    pub workgroup_memory: u32,
    /// The most loop iterations of one invocation in a dispatch, over all its loops; the comparison
    /// that ends a loop counts as an iteration. Longer work is split into several dispatches, with
    /// bit-identical results. llvmpipe and lavapipe silently end all loops of an invocation after
    /// 65 535 iterations, and the watchdog of a GPU ends dispatches that take seconds.
    pub max_turns: u32,
}

impl Caps {
    /// The smallest supported `max_binding`: a block of 1024 partial results of three words, and
    /// the largest alignment (4096).
    pub const MIN_BINDING: u64 = 16384;

    /// The smallest supported `max_buffer`: the size of a parameter arena.
    pub const MIN_BUFFER: u64 = 32768;

    /// The smallest supported `max_bindings`: enough for every operation without optional inputs
    /// and statistics, except for label smoothing of rows so long that they take several dispatches.
    pub const MIN_BINDINGS: u32 = 4;

    /// The smallest supported `workgroup_memory`: the tiles of the smallest product kernel.
    pub const MIN_WORKGROUP_MEMORY: u32 = 4096;

    /// The bytes of workgroup memory per thread (`shaders/lib/lanes.wgsl`).
    const MEMORY_PER_THREAD: u32 = 32;

    /// With this many bindings, every operation fits with all its options.
    pub(crate) const ENOUGH_BINDINGS: u32 = 8;

    /// The smallest supported `max_turns`: one run of a sum in the kernel with the most loops.
    pub const MIN_TURNS: u32 = 1280;

    /// The limit of llvmpipe and lavapipe, used for all adapters. A larger value would not be
    /// faster, because the cost of a dispatch is small compared to that of 65535 iterations; and
    /// this one keeps dispatches far from any watchdog.
    const TURNS: u32 = 65535;

    /// The name of `max_bindings` in errors.
    pub(crate) const BINDINGS: &'static str = "storage bindings in a shader";

    /// The largest supported alignment of bindings.
    pub(crate) const MOST_ALIGN: u32 = 4096;

    /// The low bits that are 0 in every segment size, so that segment sizes are multiples of every
    /// supported alignment.
    pub(crate) const SEGMENT_MASK: u64 = 4095;

    /// Reads the properties of a device.
    ///
    /// Software adapters (`DeviceType::Cpu`) get [`Family::CpuSimd`], all others [`Family::Gpu`].
    /// The SIMD width is the adapter's subgroup size if that is fixed and a power of two from 4 to
    /// 16, and 8 otherwise.
    #[must_use]
    pub fn new(device: &wgpu::Device) -> Self {
        let (limits, info) = (device.limits(), device.adapter_info());
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        let simd_width = match info.subgroup_min_size {
            width @ 4..=16 if fixed && width.is_power_of_two() => width,
            _ => 8,
        };
        let family = match info.device_type {
            wgpu::DeviceType::Cpu => Family::CpuSimd,
            _ => Family::Gpu,
        };
        let known = device.features().contains(wgpu::Features::SUBGROUP) && (fixed || family == Family::Gpu);
        let subgroup_size = if known { info.subgroup_min_size } else { 0 };
        // At most 2^46 bytes, the size of the largest tensor, so that sums of a few sizes do not
        // overflow.
        let max_buffer = limits.max_buffer_size.min(1 << 46) & !Self::SEGMENT_MASK;
        Self {
            family,
            simd_width,
            subgroup_size,
            enough_tiles: 128,
            // A whole number of quads; kernels and drivers use 32-bit offsets.
            max_binding: limits.max_storage_buffer_binding_size.min(max_buffer).min(u32::MAX.into()) & !15,
            max_buffer,
            storage_align: limits.min_storage_buffer_offset_alignment,
            uniform_align: limits.min_uniform_buffer_offset_alignment,
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
            max_bindings: limits.max_storage_buffers_per_shader_stage,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_turns: Self::TURNS,
        }
    }

    /// The bytes of a binding that a tensor can use: the binding starts at an aligned offset, up to
    /// one alignment before the tensor.
    pub(crate) fn usable_binding(&self) -> u64 {
        self.max_binding - u64::from(self.storage_align)
    }

    /// The constants `WORKGROUP` and `SUBGROUP` of kernels whose threads exchange values
    /// (`shaders/lib/lanes.wgsl`).
    pub(crate) fn threads(&self) -> [u32; 2] {
        let workgroup = self.workgroup_size();
        // If a workgroup has several subgroups, the device decides which threads form one, so
        // `compose` renumbers the threads; kernels of `CpuSimd` need a subgroup that is the whole
        // workgroup.
        let known = self.subgroup_size.is_power_of_two()
            && match self.family {
                Family::Gpu => self.subgroup_size <= workgroup,
                Family::CpuSimd => self.subgroup_size == workgroup,
            };
        [workgroup, if known { self.subgroup_size } else { 0 }]
    }

    /// Whether a workgroup of this many threads that exchange values is possible and useful.
    pub(crate) fn has_workgroup_of(&self, threads: u32) -> bool {
        let memory = threads * Self::MEMORY_PER_THREAD;
        self.family == Family::Gpu && threads <= self.max_invocations && memory <= self.workgroup_memory
    }

    /// The number of threads in a workgroup of this family.
    #[must_use]
    pub fn workgroup_size(&self) -> u32 {
        match self.family {
            Family::Gpu => {
                let most = self.max_invocations.min(self.workgroup_memory / Self::MEMORY_PER_THREAD).clamp(1, 256);
                1 << most.ilog2()
            }
            Family::CpuSimd => self.simd_width,
        }
    }
}
