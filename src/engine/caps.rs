//! The few facts about a device that the planner works with.

/// A family of kernels. Both run on every adapter and compute the same thing; they differ in speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Workgroups of many threads and tiles in workgroup memory: discrete and integrated GPUs.
    Gpu,
    /// Workgroups of one SIMD vector and tiles in registers: software adapters such as lavapipe, llvmpipe
    /// and `SwiftShader`, where a workgroup is one thread of a CPU and a barrier is a loop.
    CpuSimd,
}

/// What the planner knows about a device.
///
/// [`Gpu::new`](crate::Gpu::new) reads it from the device. [`Gpu::with_caps`](crate::Gpu::with_caps) replaces it, for
/// instance to force the other [`Family`] or to keep bindings small; limits can only be lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The kernels to use.
    pub family: Family,
    /// Lanes of a SIMD vector on a software adapter (the size of a workgroup in [`Family::CpuSimd`]).
    pub simd_width: u32,
    /// Threads of a subgroup, if the device has `Features::SUBGROUP` and their number is fixed; else 0. The threads of a row
    /// or a sum hand each other values directly as far as a subgroup goes; in [`Family::CpuSimd`] if it is `simd_width`, and there
    /// those of a product too.
    pub subgroup_size: u32,
    /// Quads of elements that a thread takes in one turn, in straight-line code: 1 to 4. llvmpipe likes 4; `SwiftShader` runs out of memory
    /// while it compiles so much.
    pub quads_per_turn: u32,
    /// Tiles of a product from which on [`Family::Gpu`] takes the next larger ones.
    pub enough_tiles: u32,
    /// Bytes that one storage binding may cover.
    pub max_binding: u64,
    /// Bytes that one buffer may have, a multiple of 4096. What is larger is made of several.
    pub max_buffer: u64,
    /// Alignment of a storage binding's offset, in bytes.
    pub storage_align: u32,
    /// Alignment of a uniform binding's offset, in bytes.
    pub uniform_align: u32,
    /// Workgroups in one dimension of a dispatch.
    pub max_groups: u32,
    /// Threads in a workgroup.
    pub max_invocations: u32,
    /// Storage bindings of one shader. Where they are few, operations with many options in use do not fit.
    pub max_bindings: u32,
    /// Bytes of a workgroup's memory.
    pub workgroup_memory: u32,
    /// Turns that one invocation's loops may make in a dispatch, all its loops together, the end of a loop counted as a turn. Longer work is
    /// cut into several dispatches, with the same bits. llvmpipe and lavapipe end an invocation's loops after 65 535 turns without an error, and a GPU's watchdog
    /// ends dispatches that take seconds.
    pub max_turns: u32,
}

impl Caps {
    /// The smallest `max_binding` the kernels can work with: a block of a reduction and its alignment.
    pub const MIN_BINDING: u64 = 16384;

    /// The smallest `max_buffer`: what parameters are collected in.
    pub const MIN_BUFFER: u64 = 32768;

    /// The smallest `max_bindings`: what every operation takes that has no other inputs than it must.
    pub const MIN_BINDINGS: u32 = 4;

    /// The smallest `workgroup_memory`: what the threads of a workgroup of 64 hand each other.
    pub const MIN_WORKGROUP_MEMORY: u32 = 64 * Self::MEMORY_PER_THREAD;

    /// What is in workgroup memory for each thread (`shaders/lib/lanes.wgsl`).
    const MEMORY_PER_THREAD: u32 = 32;

    /// From this many bindings on every operation fits, with everything that can be asked for.
    pub(crate) const ENOUGH_BINDINGS: u32 = 8;

    /// The smallest `max_turns`: a run of a sum, in the kernel with the most loops.
    pub const MIN_TURNS: u32 = 1280;

    /// What llvmpipe and lavapipe have. An adapter that is known to have more would gain nothing: a turn does far more work than the
    /// share of a dispatch's cost that it bears, and a dispatch of so many is far from a watchdog.
    const TURNS: u32 = 65535;

    /// How errors name `max_bindings`.
    pub(crate) const BINDINGS: &'static str = "storage bindings in a shader";

    /// The largest alignment of a binding.
    pub(crate) const MOST_ALIGN: u32 = 4096;

    /// What is larger than a buffer is cut at multiples of every alignment.
    pub(crate) const SEGMENT_MASK: u64 = 4095;

    /// Reads the facts from a device.
    ///
    /// Software adapters (`DeviceType::Cpu`) get [`Family::CpuSimd`] with the adapter's subgroup size where it is fixed
    /// and a plausible width of a CPU's vector, and 8 lanes where it is not known; all others get [`Family::Gpu`].
    #[must_use]
    pub fn new(device: &wgpu::Device) -> Self {
        let (limits, info) = (device.limits(), device.adapter_info());
        let fixed = info.subgroup_min_size == info.subgroup_max_size;
        let simd_width = match info.subgroup_min_size {
            width @ 4..=16 if fixed && width.is_power_of_two() => width,
            _ => 8,
        };
        let subgroup_size =
            if fixed && device.features().contains(wgpu::Features::SUBGROUP) { info.subgroup_min_size } else { 0 };
        let family = match info.device_type {
            wgpu::DeviceType::Cpu => Family::CpuSimd,
            _ => Family::Gpu,
        };
        let quads_per_turn = if info.name.contains("llvmpipe") { 4 } else { 1 };
        // No tensor is larger, and sums of a few of these do not overflow.
        let max_buffer = limits.max_buffer_size.min(1 << 46) & !Self::SEGMENT_MASK;
        Self {
            family,
            simd_width,
            subgroup_size,
            quads_per_turn,
            enough_tiles: 128,
            // Made of quads, and counted in 32 bits by kernels and drivers.
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

    /// What a binding has room for: it starts at an aligned offset, so up to an alignment's bytes of it lie before.
    pub(crate) fn usable_binding(&self) -> u64 {
        self.max_binding - u64::from(self.storage_align)
    }

    /// The constants `WORKGROUP` and `SUBGROUP` of kernels whose threads hand each other values (`shaders/lib/lanes.wgsl`).
    pub(crate) fn threads(&self) -> [u32; 2] {
        let workgroup = self.workgroup_size();
        // Whether a SIMD vector that is not a whole workgroup's is made of neighbours is not known.
        let known = self.subgroup_size.is_power_of_two()
            && match self.family {
                Family::Gpu => self.subgroup_size <= workgroup,
                Family::CpuSimd => self.subgroup_size == workgroup,
            };
        [workgroup, if known { self.subgroup_size } else { 0 }]
    }

    /// Threads of a workgroup in this family.
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
