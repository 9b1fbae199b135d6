//! The compiled pipelines of kernels.

use std::collections::HashMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::compose::compose;
#[cfg(test)]
use super::turns;
use super::{Kernel, Variant, buffer_bindings};
use crate::engine::guard;
use crate::engine::opengl::is_opengl;
use crate::error::Result;

/// A compiled variant.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// The pipeline of a variant, once compiled. Its own lock is held during compilation, so that other
/// variants can be compiled at the same time.
type Slot = Arc<Mutex<Option<Arc<Compiled>>>>;

/// Pipelines, compiled on first use or ahead of it.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    /// By the label of the kernel.
    pub(super) compiled: Mutex<HashMap<&'static str, HashMap<Variant, Slot>>>,
    cache: Mutex<Option<wgpu::PipelineCache>>,
    count: AtomicU64,
    /// Test override. `Some(on)`: wgpu's bounds checks and zero-initialisation of workgroup memory
    /// are both on or both off. `None`: bounds checks only. No kernel needs zeros: each writes
    /// before it reads.
    pub(super) checks: Mutex<Option<bool>>,
    #[cfg(test)]
    pub(super) counter: Mutex<Option<Arc<turns::TurnCounter>>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipelines {
    fn slot(&self, kernel: &'static Kernel, variant: &Variant) -> Slot {
        let mut compiled = lock(&self.compiled);
        let variants = compiled.entry(kernel.label).or_default();
        match variants.get(variant) {
            Some(slot) => slot.clone(),
            None => variants.entry(variant.clone()).or_default().clone(),
        }
    }

    pub(crate) fn get(
        &self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        variant: &Variant,
    ) -> Result<Arc<Compiled>> {
        let slot = self.slot(kernel, variant);
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

    /// Compiles these variants, on all cores. On OpenGL, where calls are serialised anyway, the
    /// calling thread compiles alone, because it may hold the lock of the context.
    pub(crate) fn compile(&self, device: &wgpu::Device, wanted: &[(&'static Kernel, Variant)]) -> Result<()> {
        let mut missing: Vec<(&'static Kernel, &Variant)> = Vec::new();
        for (kernel, variant) in wanted {
            let seen = missing.iter().any(|(other, seen)| other.label == kernel.label && *seen == variant);
            // A slot whose lock is held is being compiled, and `get` waits for it.
            let compiled = self.slot(kernel, variant).try_lock().is_ok_and(|compiled| compiled.is_some());
            if !seen && !compiled {
                missing.push((kernel, variant));
            }
        }
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((kernel, variant)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.get(device, kernel, variant)?;
            }
            Ok(())
        };
        let cores = if is_opengl(device) { 1 } else { std::thread::available_parallelism().map_or(1, NonZero::get) };
        let threads = cores.min(missing.len());
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
use super::tests::shader_module;

/// The WGSL of all variants compiled so far, with the labels of their kernels, in any order.
#[cfg(test)]
pub(crate) fn composed(gpu: &crate::Gpu) -> Vec<(&'static str, String)> {
    let kernels = crate::ops::kernels();
    let compiled = lock(&gpu.pipelines().compiled);
    let text = |(label, variant): (&'static str, &Variant)| {
        let kernel = kernels.iter().find(|kernel| kernel.label == label).expect("a kernel");
        (label, compose(kernel, variant))
    };
    compiled
        .iter()
        .flat_map(|(&label, variants)| variants.keys().map(move |variant| (label, variant)))
        .map(text)
        .collect()
}
