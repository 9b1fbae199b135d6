//! Counts the turns that invocations make, so that tests can compare them with the planned turns.

use std::sync::{Arc, Mutex};

use super::pipelines::lock;
use super::{Kernel, Variant};
use crate::engine::{Gpu, create_buffer};
use crate::error::Result;

/// The bytes between the counters of dispatches: the largest binding alignment of the adapters in
/// `.ci/run`.
const STRIDE: usize = 256;

/// The most dispatches that are counted.
const MOST: usize = 1 << 15;

/// The counters: for each dispatch, a word of `buffer` with the turns of the invocation that made
/// the most.
#[derive(Debug)]
pub(crate) struct TurnCounter {
    buffer: wgpu::Buffer,
    pub(super) layout: wgpu::BindGroupLayout,
    group: wgpu::BindGroup,
    /// For each dispatch, the kernel, its variant, and the planned turns.
    planned: Mutex<Vec<(&'static str, Variant, u64)>>,
}

/// The turns of a dispatch.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) label: &'static str,
    pub(crate) variant: Variant,
    pub(crate) planned: u64,
    pub(crate) made: u64,
}

impl TurnCounter {
    fn new(device: &wgpu::Device) -> Self {
        let size = (STRIDE * MOST) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer = create_buffer(device, "xent.turns", size, usage);
        let ty = wgpu::BufferBindingType::Storage { read_only: false };
        let entry = wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: true, min_binding_size: None },
            count: None,
        };
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &[entry] });
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &buffer,
            offset: 0,
            size: std::num::NonZero::new(4),
        });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource }],
        });
        Self { buffer, layout, group, planned: Mutex::default() }
    }

    /// Counts the turns of the next dispatch of this pass.
    pub(crate) fn count(&self, pass: &mut wgpu::ComputePass<'_>, (kernel, variant): (&Kernel, &Variant), planned: u64) {
        let mut all = lock(&self.planned);
        let offset = u32::try_from(all.len() * STRIDE).expect("fewer dispatches");
        assert!(all.len() < MOST, "too many dispatches to count");
        pass.set_bind_group(1, &self.group, &[offset]);
        all.push((kernel.label, variant.clone(), planned));
    }
}

impl Gpu {
    /// Makes the kernels of this device count their turns. No kernel may have been compiled before.
    pub(crate) fn count_turns(&self) {
        assert_eq!(self.pipelines().compiled(), 0, "kernels that do not count are compiled");
        *lock(&self.pipelines().counter) = Some(Arc::new(TurnCounter::new(self.device())));
    }

    /// The turns of all dispatches so far, which must have been submitted. Restarts the counting.
    pub(crate) fn turns(&self) -> Result<Vec<Turns>> {
        let counter = self.pipelines().counter().expect("turns are counted");
        let planned = std::mem::take(&mut *lock(&counter.planned));
        let size = (STRIDE * planned.len()) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = create_buffer(self.device(), "xent.turns", size, usage);
        let mut encoder = self.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&counter.buffer, 0, &staging, 0, size);
        encoder.clear_buffer(&counter.buffer, 0, None);
        self.submit("turns", encoder)?;
        staging.slice(..).map_async(wgpu::MapMode::Read, |mapped| mapped.expect("memory to read"));
        self.device().poll(wgpu::PollType::wait_indefinitely()).expect("a device that works");
        let bytes = staging.get_mapped_range(..).expect("memory to read").to_vec();
        let made = bytes.chunks(STRIDE).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let turns = |((label, variant, planned), made)| Turns { label, variant, planned, made: u64::from(made) };
        Ok(planned.into_iter().zip(made).map(turns).collect())
    }
}

/// Adds counting to a shader: each iteration of a loop and the end of a loop count as a turn.
pub(super) fn counting(source: &str) -> String {
    let mut text = String::from(
        "@group(1) @binding(0) var<storage, read_write> turns_made: atomic<u32>;\n\
         var<private> my_turns: u32;\n\
         fn turn() { my_turns += 1u; atomicMax(&turns_made, my_turns); }\n",
    );
    // The indentation of the open loops.
    let mut open: Vec<usize> = Vec::new();
    for line in source.lines() {
        text.push_str(line);
        text.push('\n');
        let code = line.split("//").next().unwrap_or_default().trim();
        let indent = line.len() - line.trim_start().len();
        if ["for (", "while (", "loop "].iter().any(|keyword| code.starts_with(keyword)) {
            assert!(code.ends_with('{'), "a loop on one line: {line}");
            text.push_str("turn();\n");
            open.push(indent);
        } else if code == "}" && open.last() == Some(&indent) {
            text.push_str("turn();\n");
            open.pop();
        }
    }
    assert!(open.is_empty(), "loops end where they are indented like their beginning");
    text
}
