//! Kernels: a shader with its bindings and parameters, declared once. Also the cache of compiled
//! pipelines.
//!
//! [`compose`] generates the WGSL of a variant from the declaration.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::compose::compose;
use crate::engine::guard;
use crate::error::Result;

mod compose;
mod specialise;
mod text;
#[cfg(test)]
pub(crate) mod turns;

pub(crate) use text::COMMON;

/// Declares a kernel by the stem of its shader file, its parameters and its bindings.
macro_rules! kernel {
    ($stem:literal, $params:expr, $bindings:expr) => {
        $crate::engine::kernel::Kernel {
            label: concat!("xent.", $stem),
            shader: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $stem, ".wgsl")),
            bindings: $bindings,
            params: $params,
            text: std::sync::OnceLock::new(),
        }
    };
}
pub(crate) use kernel;

/// Declares the parameters of kernels. [`compose`] generates the struct `Params` of the shader from
/// it.
macro_rules! params {
    ($(#[$meta:meta])* struct $name:ident { $($(#[$doc:meta])* $field:ident : $ty:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub(crate) struct $name { $($(#[$doc])* pub(crate) $field: $ty),* }

        impl $name {
            pub(crate) const FIELDS: &'static [$crate::engine::kernel::Field] = &[$($crate::engine::kernel::Field {
                name: stringify!($field),
                ty: stringify!($ty),
            }),*];
        }
    };
}
pub(crate) use params;

/// A field of a kernel's parameters, of a 4-byte type with the same name in Rust and WGSL.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) ty: &'static str,
}

/// A storage binding of a kernel.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) name: &'static str,
    pub(crate) element: &'static str,
    /// Whether the shader accesses it in quads (`load4_x`, `store4_x` and related accessors).
    pub(crate) quads: bool,
    pub(crate) access: Access,
}

/// What a kernel does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Read and written.
    Update,
    /// Integers that threads add to atomically; their sums do not depend on the order.
    Count,
    /// Written; if the caller requests it, in place over the named binding.
    WriteOver(&'static str),
}

const fn binding(name: &'static str, element: &'static str, quads: bool, access: Access) -> Binding {
    Binding { name, element, quads, access }
}

pub(crate) const fn read(name: &'static str, element: &'static str) -> Binding {
    binding(name, element, false, Access::Read)
}

pub(crate) const fn write(name: &'static str, element: &'static str) -> Binding {
    binding(name, element, false, Access::Write)
}

pub(crate) const fn update(name: &'static str, element: &'static str) -> Binding {
    binding(name, element, false, Access::Update)
}

pub(crate) const fn count(name: &'static str) -> Binding {
    binding(name, "atomic<u32>", false, Access::Count)
}

pub(crate) const fn read4(name: &'static str) -> Binding {
    binding(name, "f32", true, Access::Read)
}

pub(crate) const fn write4(name: &'static str) -> Binding {
    binding(name, "f32", true, Access::Write)
}

pub(crate) const fn update4(name: &'static str) -> Binding {
    binding(name, "f32", true, Access::Update)
}

pub(crate) const fn write4_over(name: &'static str, over: &'static str) -> Binding {
    binding(name, "f32", true, Access::WriteOver(over))
}

/// A compute shader with the entry point `main`. Binding 0 is `params`; the bindings that need a
/// buffer follow from 1, in order.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// `xent.<stem of the shader's file>`
    pub(crate) label: &'static str,
    /// The text of the shader file, without the library files it needs.
    pub(crate) shader: &'static str,
    pub(crate) bindings: &'static [Binding],
    pub(crate) params: &'static [Field],
    pub(crate) text: OnceLock<Text>,
}

/// The complete source of a kernel, and what follows from it.
#[derive(Debug)]
pub(crate) struct Text {
    /// The shader file, preceded by all library files it needs.
    source: String,
    /// The names of the `override` constants.
    pub(crate) constants: Vec<&'static str>,
    /// The common parameters that the source uses (see [`text`]).
    pub(crate) common: Vec<&'static str>,
    /// The declared parameters that the source uses, with their index in the declaration. Kernels
    /// can share a declaration.
    pub(crate) own: Vec<(usize, &'static Field)>,
}

impl Kernel {
    pub(crate) fn text(&self) -> &Text {
        self.text.get_or_init(|| Text::of(self))
    }

    pub(crate) fn has_constant(&self, name: &str) -> bool {
        self.text().constants.contains(&name)
    }
}

/// Everything that distinguishes compiled pipelines of the same kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    /// The values of the kernel's constants, in order.
    pub(crate) constants: Vec<u32>,
    /// Declares bindings that are accessed in quads as arrays of quads: `vec4<f32>`, or `vec2<u32>`
    /// for halves.
    pub(crate) vec4: bool,
    /// Bit `i`: declares binding `i` as scalars even though the shader accesses it in quads.
    pub(crate) by_scalar: u32,
    /// The [`Access::WriteOver`] binding shares the memory of its input.
    pub(crate) in_place: bool,
    /// Bit `i`: binding `i` stores `f16`, two per word.
    pub(crate) f16: u32,
    /// Bit `i`: binding `i` stores `bf16`, two per word.
    pub(crate) bf16: u32,
    /// Bit `i`: binding `i` is absent; loads return 0 and stores do nothing.
    pub(crate) absent: u32,
    /// Bit `i`: binding `i` is absent, and loads return 1.
    pub(crate) ones: u32,
}

impl Variant {
    #[cfg(test)]
    pub(crate) fn new(constants: &[u32]) -> Self {
        Self { constants: constants.to_vec(), ..Self::default() }
    }

    /// Whether binding `i` is declared as quads, provided that the shader accesses it in quads.
    pub(crate) fn by_quad(&self, i: usize) -> bool {
        self.vec4 && self.by_scalar & (1 << i) == 0
    }
}

/// The bindings of a variant that need a buffer: the index, the binding, and whether it is
/// read-only.
fn buffer_bindings(kernel: &Kernel, variant: &Variant) -> Vec<(usize, &'static Binding, bool)> {
    let written_over = kernel.bindings.iter().find_map(|b| match b.access {
        Access::WriteOver(over) if variant.in_place => Some(over),
        _ => None,
    });
    let needs_buffer = |(i, b): &(usize, &Binding)| {
        let aliased = variant.in_place && matches!(b.access, Access::WriteOver(_));
        (variant.absent | variant.ones) & (1 << i) == 0 && !aliased
    };
    let only_read = |b: &Binding| b.access == Access::Read && written_over != Some(b.name);
    kernel.bindings.iter().enumerate().filter(needs_buffer).map(|(i, b)| (i, b, only_read(b))).collect()
}

/// A compiled variant.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// The pipeline of a variant, once compiled. Its own lock is held during compilation, so that other
/// variants can be compiled at the same time.
type Slot = Arc<Mutex<Option<Arc<Compiled>>>>;

/// Pipelines, compiled on first use.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    compiled: Mutex<HashMap<(&'static str, Variant), Slot>>,
    cache: Mutex<Option<wgpu::PipelineCache>>,
    count: AtomicU64,
    /// Test override. `Some(on)`: wgpu's bounds checks and zero-initialisation of workgroup memory
    /// are both on or both off. `None`: bounds checks only. No kernel needs zeros: each writes
    /// before it reads.
    checks: Mutex<Option<bool>>,
    #[cfg(test)]
    counter: Mutex<Option<Arc<turns::TurnCounter>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipelines {
    pub(crate) fn get(
        &self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        variant: &Variant,
    ) -> Result<Arc<Compiled>> {
        let slot = lock(&self.compiled).entry((kernel.label, variant.clone())).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(found) = &*slot {
            return Ok(found.clone());
        }
        let cache = self.cache();
        let checks = *lock(&self.checks);
        let text = compose(kernel, variant);
        #[cfg(test)]
        let counter = self.counter();
        #[cfg(test)]
        let (text, others) = match &counter {
            Some(counter) => (turns::counting(&text), vec![Some(&counter.layout)]),
            None => (text, Vec::new()),
        };
        #[cfg(not(test))]
        let others = Vec::new();
        let source = Source { kernel, variant, text };
        let compile = || compile(device, &source, others, cache.as_ref(), checks);
        let made = Arc::new(guard(device, kernel.label, compile)?);
        *slot = Some(made.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(made)
    }

    /// Compiles these variants, on all cores.
    pub(crate) fn compile(&self, device: &wgpu::Device, wanted: &[(&'static Kernel, Variant)]) -> Result<()> {
        let mut seen = HashSet::new();
        let wanted: Vec<_> =
            wanted.iter().filter(|(kernel, variant)| seen.insert((kernel.label, variant.clone()))).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((kernel, variant)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.get(device, kernel, variant)?;
            }
            Ok(())
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(wanted.len());
        std::thread::scope(|scope| {
            // A platform without threads spawns none.
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).filter_map(spawn).collect();
            let own = work();
            let results = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            results.fold(own, Result::and)
        })
    }

    /// The turn counter, in tests that use one.
    #[cfg(test)]
    pub(crate) fn counter(&self) -> Option<Arc<turns::TurnCounter>> {
        lock(&self.counter).clone()
    }

    /// The number of pipelines compiled so far.
    pub(crate) fn compiled(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The driver's pipeline cache, if one is used.
    pub(crate) fn cache(&self) -> Option<wgpu::PipelineCache> {
        lock(&self.cache).clone()
    }

    pub(crate) fn set_cache(&self, cache: wgpu::PipelineCache) {
        *lock(&self.cache) = Some(cache);
    }
}

/// The WGSL text of a variant.
struct Source<'a> {
    kernel: &'a Kernel,
    variant: &'a Variant,
    text: String,
}

fn compile(
    device: &wgpu::Device,
    source: &Source<'_>,
    other_groups: Vec<Option<&wgpu::BindGroupLayout>>,
    cache: Option<&wgpu::PipelineCache>,
    checks: Option<bool>,
) -> Compiled {
    let Source { kernel, variant, text } = source;
    let entry = |binding: usize, ty: wgpu::BufferBindingType, has_dynamic_offset: bool| wgpu::BindGroupLayoutEntry {
        // A kernel has a handful of bindings.
        binding: u32::try_from(binding).unwrap_or(u32::MAX),
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let params = entry(0, wgpu::BufferBindingType::Uniform, true);
    let storage = buffer_bindings(kernel, variant)
        .into_iter()
        .enumerate()
        .map(|(slot, (_, _, read_only))| entry(slot + 1, wgpu::BufferBindingType::Storage { read_only }, false));
    let entries: Vec<_> = std::iter::once(params).chain(storage).collect();
    let label = Some(kernel.label);
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let groups: Vec<_> = std::iter::once(Some(&layout)).chain(other_groups).collect();
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &groups,
        immediate_size: 0,
    });
    let source = wgpu::ShaderSource::Wgsl(text.as_str().into());
    let module = shader_module(device, wgpu::ShaderModuleDescriptor { label, source }, checks.unwrap_or(true));
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[],
            zero_initialize_workgroup_memory: checks.unwrap_or(false),
        },
        cache,
    });
    Compiled { pipeline, layout }
}

#[cfg(not(test))]
fn shader_module(device: &wgpu::Device, text: wgpu::ShaderModuleDescriptor<'_>, bounds: bool) -> wgpu::ShaderModule {
    debug_assert!(bounds, "only tests compile without bounds checks");
    device.create_shader_module(text)
}

#[cfg(test)]
use self::tests::shader_module;

/// The WGSL of all variants compiled so far, with the labels of their kernels, in any order.
#[cfg(test)]
pub(crate) fn composed(gpu: &crate::Gpu) -> Vec<(&'static str, String)> {
    let kernels = crate::ops::kernels();
    let compiled = lock(&gpu.pipelines().compiled);
    let text = |(label, variant): &(&'static str, Variant)| {
        let kernel = kernels.iter().find(|kernel| kernel.label == *label).expect("a kernel");
        (*label, compose(kernel, variant))
    };
    compiled.keys().map(text).collect()
}

#[cfg(test)]
#[path = "../../tests/unit/kernel.rs"]
mod tests;
