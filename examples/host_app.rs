//! A `wgpu` program with its own passes around xent's: one pipeline computes the logits, xent
//! computes the loss and the gradient, another pipeline updates the parameters with it. One encoder
//! and one submission per step, on the program's own device and buffers.
//!
//! It classifies points by the arm of a spiral, with softmax regression on 15 features, which are
//! polynomials of a point's coordinates.

use std::num::NonZero;
use std::process::ExitCode;

use anyhow::{Context, Result};
use common::{Options, Program, TIMEOUT};
use xent::loss::{CrossEntropy, Grad, Targets};
use xent::wgpu;
use xent::{Gpu, Tensor};

mod common;

const PROGRAM: Program = Program {
    name: "host_app",
    about: "A wgpu program with passes of its own around xent's: logits, then loss and gradient, then the update. One submission a step.",
    epochs: 500,
    files: &[],
};

const POINTS: usize = 300;
const FEATURES: usize = 15;
const CLASSES: usize = 3;

/// `logits` multiplies features by parameters, with one thread per logit; `update` is a gradient
/// descent step, with one thread per parameter. Each matrix has its own buffer.
const SHADER: &str = "
const POINTS = 300u;
const FEATURES = 15u;
const CLASSES = 3u;
const RATE = 0.5;

@group(0) @binding(0) var<storage, read> features: array<f32>;
@group(0) @binding(1) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(2) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(64)
fn logits(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= POINTS * CLASSES { return; }
    let point = id.x / CLASSES;
    let k = id.x % CLASSES;
    var sum = 0.0;
    for (var f = 0u; f < FEATURES; f++) {
        sum += features[point * FEATURES + f] * parameters[k * FEATURES + f];
    }
    rows[id.x] = sum;
}

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= CLASSES * FEATURES { return; }
    let k = id.x / FEATURES;
    let feature = id.x % FEATURES;
    var slope = 0.0;
    for (var p = 0u; p < POINTS; p++) {
        slope += rows[p * CLASSES + k] * features[p * FEATURES + feature];
    }
    parameters[id.x] -= RATE * slope;
}";

fn main() -> ExitCode {
    common::run(&PROGRAM, example)
}

/// Opens the program's own device. It requests nothing for xent: WebGPU's default limits are
/// enough.
fn device(wanted: &str) -> Result<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let fits = |info: wgpu::AdapterInfo| format!("{} {}", info.backend, info.name).to_lowercase().contains(wanted);
    let adapter = adapters.into_iter().find(|adapter| fits(adapter.get_info())).context("no adapter")?;
    Ok(pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?)
}

/// Returns points of three arms: for each point the fifteen products `x^i y^j` with `i + j < 5` of
/// its coordinates (scaled by `2^(i + j)`), and its arm.
fn spiral(seed: u64) -> (Vec<f32>, Vec<i64>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for point in 0..POINTS {
        let arm = point % CLASSES;
        let radius = (point / CLASSES) as f32 / (POINTS / CLASSES) as f32;
        let angle = 2.0 * radius + arm as f32 * std::f32::consts::TAU / CLASSES as f32 + 0.3 * (rng.f32() - 0.5);
        let (x, y) = (radius * angle.cos(), radius * angle.sin());
        features.extend((0..5).flat_map(|i| (0..5 - i).map(move |j| x.powi(i) * y.powi(j) * 2f32.powi(i + j))));
        labels.push(arm as i64);
    }
    (features, labels)
}

fn example(options: &Options) -> Result<()> {
    let (device, queue) = device(&options.adapter.to_lowercase())?;
    println!("adapter: {}", device.adapter_info().name);

    // The program's own buffers and pipelines.
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let buffer = |floats: usize| {
        let size = (floats * size_of::<f32>()) as u64;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let (features, labels) = spiral(options.seed);
    let (logit_threads, parameter_threads) = (u32::try_from(POINTS * CLASSES)?, u32::try_from(CLASSES * FEATURES)?);
    let inputs = buffer(features.len());
    queue.write_buffer(&inputs, 0, bytemuck::cast_slice(&features));
    let parameters = buffer(CLASSES * FEATURES);
    let rows = buffer(POINTS * CLASSES);
    let source = wgpu::ShaderSource::Wgsl(SHADER.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let storage = |binding, read_only| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: NonZero::new(4),
        },
        count: None,
    };
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: None,
        entries: &[storage(0, true), storage(1, false), storage(2, false)],
    });
    let buffers = [&inputs, &parameters, &rows];
    let whole = |(binding, buffer)| wgpu::BindGroupEntry { binding, resource: wgpu::Buffer::as_entire_binding(buffer) };
    let entries: Vec<_> = (0..).zip(buffers).map(whole).collect();
    let group =
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let [logits, update] = ["logits", "update"].map(|entry| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    });
    let pass = |encoder: &mut wgpu::CommandEncoder, pipeline: &wgpu::ComputePipeline, threads: u32| {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(threads.div_ceil(64), 1, 1);
    };

    // xent on the same device, with the program's buffer of logits as a tensor.
    let gpu = Gpu::new(device.clone(), queue.clone())?;
    let x = Tensor::<f32>::from_buffer(&gpu, rows.clone(), 0, [POINTS, CLASSES])?;
    let y = Targets::new(&gpu, [POINTS], &labels, CLASSES)?;
    for epoch in 1..=options.epochs {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        pass(&mut encoder, &logits, logit_threads);
        // The gradient overwrites the logits.
        let mut recorder = gpu.record(&mut encoder);
        let loss = recorder.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::InPlace)?.loss;
        let shown = epoch == 1 || epoch % 100 == 0;
        let ticket = if shown { Some(recorder.read(&loss)?) } else { None };
        recorder.finish()?;
        pass(&mut encoder, &update, parameter_threads);
        queue.submit([encoder.finish()]);
        if let Some(mut ticket) = ticket {
            println!("epoch {epoch:4}: loss {:.4}", ticket.wait(TIMEOUT)?[0]);
        }
    }
    println!("{} submissions by xent, {} by the program", gpu.counters().submissions, options.epochs);
    Ok(())
}
