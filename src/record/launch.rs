//! Launches kernels, with bindings and constants set by name.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;

use super::recorder::{Arena, Recorder, Window};
use crate::engine::kernel::{Access, COMMON, Kernel, Variant};
use crate::engine::{BoundRange, Caps, Role, Storage, guard};
use crate::error::{Error, Result, within};
use crate::plan::{self, RowPlan, Work};
use crate::tensor::Format;

const UNDECLARED: &str = "is not declared by the kernel";

/// A launch of a kernel under construction. Every binding must be set, if only to `None`, and every
/// constant except those that follow from the device; otherwise recording returns
/// [`Error::Kernel`].
#[derive(Clone, Debug)]
#[must_use]
pub(crate) struct Launch {
    /// The operation, for errors.
    op: &'static str,
    kernel: &'static Kernel,
    /// For each binding: not set, absent, or a window.
    windows: Vec<Option<Option<Window>>>,
    constants: Vec<Option<u32>>,
    /// The values of common parameters (see [`text`](crate::engine::kernel::text)).
    common: Vec<(&'static str, u32)>,
    /// Whether quad bindings are declared as quads, where alignment permits.
    quads: bool,
    /// Bit `i`: quad binding `i` is declared as scalars even if the others are declared as quads.
    by_scalar: u32,
    /// Bit `i`: if binding `i` is a scalar 1, the shader has a constant instead.
    ones: u32,
    /// Whether the gradient is written in place.
    in_place: bool,
    /// A name that was set wrongly, and what is wrong with it.
    mistake: Option<(&'static str, &'static str)>,
}

impl Launch {
    pub(crate) fn new(op: &'static str, kernel: &'static Kernel) -> Self {
        Self {
            op,
            kernel,
            windows: vec![None; kernel.bindings.len()],
            constants: vec![None; kernel.text().constants.len()],
            common: Vec::with_capacity(COMMON.len()),
            quads: false,
            by_scalar: 0,
            ones: 0,
            in_place: false,
            mistake: None,
        }
    }

    fn binding(&mut self, name: &'static str) -> Option<usize> {
        let found = self.kernel.bindings.iter().position(|binding| binding.name == name);
        if found.is_none() {
            self.mistake = Some((name, UNDECLARED));
        }
        found
    }

    /// Sets a binding; `None` leaves it absent.
    pub(crate) fn bind(mut self, name: &'static str, window: impl Into<Option<Window>>) -> Self {
        if let Some(slot) = self.binding(name).and_then(|i| self.windows.get_mut(i)) {
            *slot = Some(window.into());
        }
        self
    }

    /// Sets a constant.
    pub(crate) fn constant(mut self, name: &'static str, value: impl Into<u32>) -> Self {
        let found = self.kernel.text().constants.iter().position(|&constant| constant == name);
        match found.and_then(|i| self.constants.get_mut(i)) {
            Some(constant) => *constant = Some(value.into()),
            None => self.mistake = Some((name, UNDECLARED)),
        }
        self
    }

    /// Sets a common parameter.
    pub(crate) fn common(mut self, name: &'static str, value: u32) -> Self {
        if !COMMON.contains(&name) {
            self.mistake = Some((name, UNDECLARED));
        }
        if self.common.iter().any(|(set, _)| *set == name) {
            self.mistake = Some((name, "is set twice"));
        }
        self.common.push((name, value));
        self
    }

    /// Sets whether quad bindings are declared as quads, where alignment permits.
    pub(crate) fn by_quad(self, quads: bool) -> Self {
        Self { quads, ..self }
    }

    /// Declares this quad binding as scalars even if the others are declared as quads.
    pub(crate) fn by_scalar(mut self, name: &'static str) -> Self {
        if let Some(i) = self.binding(name) {
            self.by_scalar |= 1 << i;
        }
        self
    }

    /// Replaces this binding by a constant in the shader if it is a scalar 1.
    pub(crate) fn constant_if_one(mut self, name: &'static str) -> Self {
        if let Some(i) = self.binding(name) {
            self.ones |= 1 << i;
        }
        self
    }

    /// Sets whether the gradient is written in place.
    pub(crate) fn in_place(self, in_place: bool) -> Self {
        Self { in_place, ..self }
    }

    /// Sets the constants and parameters of rows `[rows, classes, inner]`. `blocks` is the range of
    /// blocks that each lane processes. Also sets [`by_quad`](Self::by_quad) for these dimensions.
    pub(crate) fn rows(mut self, plan: &RowPlan, [rows, classes, inner]: [u32; 3], blocks: &Range<u32>) -> Self {
        for (name, value) in RowPlan::CONSTANTS.into_iter().zip(plan.constants()) {
            self = self.constant(name, value);
        }
        let common = [("rows", rows), ("classes", classes), ("inner", inner)];
        let blocks = [("first_block", blocks.start), ("end_block", blocks.end)];
        common
            .into_iter()
            .chain(blocks)
            .fold(self, |launch, (name, value)| launch.common(name, value))
            .by_quad(inner == 1 && classes.is_multiple_of(4))
    }

    /// The parameters of the shader: the positions of tensors in their bindings, common parameters,
    /// and those of the kernel's own that the shader uses, of which `given` has all.
    fn params(&self, windows: &[Option<Window>], given: &[u8]) -> Result<Vec<u32>> {
        let text = self.kernel.text();
        let mut words = Vec::with_capacity(windows.len() + text.common.len() + text.own.len());
        words.extend(windows.iter().map(|window| window.as_ref().map_or(0, |window| window.base)));
        for &name in &text.common {
            words.push(match self.common.iter().find(|(known, _)| *known == name) {
                Some(&(_, value)) => value,
                None if name == "zero" => 0,
                None => return Err(self.not_set(name)),
            });
        }
        for &(i, field) in &text.own {
            let word = given.get(4 * i..).and_then(|rest| rest.first_chunk());
            words.push(u32::from_ne_bytes(*word.ok_or_else(|| self.not_set(field.name))?));
        }
        Ok(words)
    }

    fn not_set(&self, name: &'static str) -> Error {
        Error::Kernel { kernel: self.kernel.label, name, problem: "is not set by the launch" }
    }

    /// The variant of the kernel, and the windows in the order of its bindings, which are taken
    /// out.
    fn resolve(&mut self, caps: &Caps) -> Result<(Variant, Vec<Option<Window>>)> {
        if let Some((name, problem)) = self.mistake {
            return Err(Error::Kernel { kernel: self.kernel.label, name, problem });
        }
        let [workgroup, subgroup] = caps.threads();
        let quads = plan::quads_per_run(caps);
        let mut constants = Vec::with_capacity(self.constants.len());
        for (&name, &value) in self.kernel.text().constants.iter().zip(&self.constants) {
            constants.push(match (value, name) {
                (Some(value), _) => value,
                (None, "WORKGROUP") => workgroup,
                (None, "SUBGROUP") => subgroup,
                (None, "QUADS") => quads,
                (None, _) => return Err(self.not_set(name)),
            });
        }
        if let Some((_, binding)) = self.windows.iter().zip(self.kernel.bindings).find(|(slot, _)| slot.is_none()) {
            return Err(self.not_set(binding.name));
        }
        let mut windows: Vec<_> = std::mem::take(&mut self.windows).into_iter().map(Option::flatten).collect();
        let mut variant = Variant {
            constants,
            vec4: self.quads,
            by_scalar: self.by_scalar,
            in_place: self.in_place,
            ..Variant::default()
        };
        for (i, (slot, binding)) in windows.iter_mut().zip(self.kernel.bindings).enumerate() {
            if self.ones & (1 << i) != 0 && slot.as_ref().is_some_and(|window| window.one) {
                variant.ones |= 1 << i;
                *slot = None;
                continue;
            }
            match slot {
                Some(window) => {
                    variant.vec4 &= !binding.quads || window.quads || !variant.by_quad(i);
                    variant.f16 |= u32::from(window.format == Format::F16) << i;
                    variant.bf16 |= u32::from(window.format == Format::Bf16) << i;
                }
                // A gradient in place is not absent: it uses the window of its input.
                None if variant.in_place && matches!(binding.access, Access::WriteOver(_)) => {}
                None => variant.absent |= 1 << i,
            }
        }
        if !variant.vec4 {
            variant.by_scalar = 0;
        }
        Ok((variant, windows))
    }
}

/// The buffer range of a window.
#[derive(Debug)]
struct Place {
    buffer: wgpu::Buffer,
    offset: u64,
    /// The contiguous copy that is bound instead.
    copy: Option<Arc<Storage>>,
}

impl Recorder<'_> {
    /// Records a launch. `params` holds the kernel's own parameters.
    pub(crate) fn launch<P: Pod>(&mut self, mut launch: Launch, params: &P, work: Work) -> Result<()> {
        let Launch { op, kernel, .. } = launch;
        let (mut variant, windows) = launch.resolve(self.gpu().caps())?;
        let Work { groups, turns } = work;
        if groups == 0 {
            return Ok(());
        }
        within(op, plan::TURNS, turns, plan::turn_budget(self.gpu().caps()))?;
        within(op, "workgroups in a dispatch", groups, plan::most_groups(self.gpu().caps()))?;
        let windows = self.within_bindings(op, &mut variant, windows)?;
        let mut places = Vec::with_capacity(windows.len());
        for window in windows.iter().flatten() {
            places.push(self.place(op, window)?);
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.push((kernel, variant));
            return Ok(());
        }
        let compiled = self.gpu().pipelines().get(self.gpu().device(), kernel, &variant)?;
        let words = launch.params(&windows, bytemuck::bytes_of(params))?;
        let bytes = bytemuck::cast_slice(&words);
        let (arena, params_offset, params_size) = self.push_params(bytes)?;
        let params = BoundRange { buffer: arena.buffer().clone(), offset: 0, size: params_size };
        let others = windows.iter().flatten().zip(&places).map(|(window, place)| BoundRange {
            buffer: place.buffer.clone(),
            offset: place.offset,
            size: window.size,
        });
        let ranges: Vec<_> = std::iter::once(params).chain(others).collect();
        let create = |ranges: &[BoundRange]| self.create_bind_group(kernel.label, &compiled.layout, ranges);
        let pooled = windows.iter().flatten().all(|window| window.one || window.storage.is_pooled());
        let group =
            if pooled { self.gpu().bind_groups().get(&compiled.layout, ranges, create) } else { create(&ranges) }?;
        windows.iter().flatten().for_each(|window| self.held.retain(&window.storage));
        let [x, y, z] = plan::grid(groups, self.gpu().caps());
        #[cfg(test)]
        let counter = self.gpu().pipelines().counter();
        let pass = self.pass(kernel.label).ok_or(Error::NotSubmitted)?;
        pass.set_pipeline(&compiled.pipeline);
        pass.set_bind_group(0, &group, &[params_offset]);
        #[cfg(test)]
        if let Some(counter) = counter {
            counter.count(pass, (kernel, &variant), turns);
        }
        pass.dispatch_workgroups(x, y, z);
        self.gpu().count_dispatch();
        let present = windows.iter().zip(kernel.bindings).filter_map(|(slot, binding)| Some((slot.as_ref()?, binding)));
        for ((window, binding), place) in present.zip(&places) {
            // In place, the input is written although its access is `Read`.
            let written = variant.in_place || binding.access != Access::Read;
            if let Some(copy) = place.copy.as_ref().filter(|_| written) {
                self.copy_bytes((copy, 0), (&window.storage, window.offset), window.size)?;
            }
        }
        Ok(())
    }

    fn create_bind_group(
        &self,
        label: &'static str,
        layout: &wgpu::BindGroupLayout,
        ranges: &[BoundRange],
    ) -> Result<wgpu::BindGroup> {
        let entries: Vec<_> = (0..)
            .zip(ranges)
            .map(|(binding, BoundRange { buffer, offset, size })| {
                let range = wgpu::BufferBinding { buffer, offset: *offset, size: std::num::NonZero::new(*size) };
                wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(range) }
            })
            .collect();
        guard(self.gpu().device(), label, || {
            let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries };
            self.gpu().device().create_bind_group(&descriptor)
        })
    }

    /// If there are more bindings than the device supports, replaces inputs that are a scalar 1 by
    /// a constant in the shader.
    fn within_bindings(
        &self,
        op: &'static str,
        variant: &mut Variant,
        mut windows: Vec<Option<Window>>,
    ) -> Result<Vec<Option<Window>>> {
        let allowed = self.gpu().caps().max_bindings as usize;
        let used = |windows: &[Option<Window>]| windows.iter().flatten().count();
        if used(&windows) > allowed {
            let ones = windows.iter_mut().enumerate();
            for (i, slot) in ones.filter(|(_, slot)| slot.as_ref().is_some_and(|window| window.one)) {
                variant.ones |= 1 << i;
                *slot = None;
            }
        }
        self.check_bindings(op, used(&windows))?;
        Ok(windows)
    }

    /// Checks the number of storage bindings of a shader.
    pub(crate) fn check_bindings(&self, op: &'static str, needed: usize) -> Result<()> {
        within(op, Caps::BINDINGS, needed as u64, self.gpu().caps().max_bindings)
    }

    /// Finds the buffer range of a window. A window that spans two buffers is copied into one.
    fn place(&mut self, op: &'static str, window: &Window) -> Result<Place> {
        let Window { storage, offset, size, .. } = window;
        within(op, "a storage binding's bytes for a whole tensor", *size, self.gpu().caps().max_binding)?;
        let (buffer, start) = storage.at(*offset);
        if start + size <= buffer.size() {
            return Ok(Place { buffer: buffer.clone(), offset: start, copy: None });
        }
        let copy = self.output_storage(op, *size)?;
        self.copy_bytes((storage, *offset), (&copy, 0), *size)?;
        Ok(Place { buffer: copy.buffer().clone(), offset: 0, copy: Some(copy) })
    }

    /// Appends parameters to an arena. Returns its storage, their offset and their size.
    fn push_params(&mut self, params: &[u8]) -> Result<(Arc<Storage>, u32, u64)> {
        let align = self.gpu().caps().uniform_align as usize;
        let size = params.len().next_multiple_of(16);
        let fits = |arena: &&mut Arena| (arena.bytes.len().next_multiple_of(align) + size) as u64 <= Arena::BYTES;
        if self.arenas.last_mut().filter(fits).is_none() {
            let storage = Arc::new(self.gpu().allocate("params", Role::Params, Arena::BYTES)?);
            self.held.retain(&storage);
            self.arenas.push(Arena { storage, bytes: Vec::new() });
        }
        let Some(arena) = self.arenas.last_mut() else {
            return Err(Error::limit("params", "arenas", 1u32, 0u32));
        };
        let offset = arena.bytes.len().next_multiple_of(align);
        arena.bytes.resize(offset, 0);
        arena.bytes.extend_from_slice(params);
        arena.bytes.resize(offset + size, 0);
        Ok((arena.storage.clone(), u32::try_from(offset).unwrap_or(u32::MAX), size as u64))
    }
}
