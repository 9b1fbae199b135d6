//! Wall time of one operation: record, submit and wait. `XENT_ADAPTER` selects the adapter.
//!
//! `copy/{bytes}` is the baseline: a kernel that only copies, where bytes read and bytes written
//! both count. After each bench, a line reports its time and, on adapters with timestamps, the time
//! of its kernels alone; for benches that count bytes, also the fraction of the copy's rate that
//! they reach.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use xent::linear::{LinearCrossEntropy, LinearLossRequest, LinearSgd};
use xent::loss::{CrossEntropy, Grad, Nll, Targets};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Momentum, Optimization, Optimizer, Parameters, Sgd};
use xent::state::State;
use xent::wgpu::{self, PollType};
use xent::{Batch, Float, Gpu, Layout, Result, Tensor, bf16, f16};

fn values(gpu: &Gpu, shape: &[usize]) -> Tensor<f32> {
    let mut rng = fastrand::Rng::with_seed(1);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.f32()).collect();
    Tensor::from_slice(gpu, shape, &data).expect("a tensor that fits")
}

thread_local! {
    /// The copy's rate in bytes per second: by wall time, and by its kernel alone.
    static COPY: Cell<[f64; 2]> = const { Cell::new([f64::NAN; 2]) };
}

/// Returns the median of repeated measurements.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Prints how the bench that has just run compares with the copy. Measures the bench's times again,
/// because criterion does not expose its measurements.
fn compare(gpu: &Gpu, id: &str, throughput: &Throughput, record: &mut impl FnMut(&mut Batch) -> Result<()>) {
    const RUNS: usize = 5;
    let mut run = || {
        let start = Instant::now();
        let mut batch = gpu.batch();
        record(&mut batch).expect("valid arguments");
        batch.submit().expect("a device that works");
        gpu.device().poll(PollType::wait_indefinitely()).expect("a device that works");
        start.elapsed()
    };
    let clock = median((0..RUNS).map(|_| run()).collect());
    let kernels = has_timestamps(gpu).then(|| median((0..RUNS).map(|_| kernels_alone(gpu, record)).collect()));
    let fraction = |time: Duration, copy: f64| match *throughput {
        #[expect(clippy::cast_precision_loss, reason = "a rate is approximate")]
        Throughput::Bytes(bytes) => format!(", {:.2} of the copy", bytes as f64 / time.as_secs_f64().max(1e-12) / copy),
        _ => String::new(),
    };
    let [by_clock, alone] = COPY.get();
    let part = |time: Duration, copy| format!("{:.3} ms{}", time.as_secs_f64() * 1e3, fraction(time, copy));
    let kernels = kernels.map(|time| format!("; in kernels {}", part(time, alone)));
    eprintln!("{id}: {}{}", part(clock, by_clock), kernels.unwrap_or_default());
}

fn has_timestamps(gpu: &Gpu) -> bool {
    gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY)
}

fn kernels_alone(gpu: &Gpu, record: &mut impl FnMut(&mut Batch) -> Result<()>) -> Duration {
    let mut batch = gpu.batch();
    batch.profile().expect("timestamps");
    record(&mut batch).expect("valid arguments");
    let mut times = batch.times().expect("memory");
    batch.submit().expect("a device that works");
    times.wait(Duration::from_secs(60)).expect("a device that works").iter().map(|t| t.time).sum()
}

fn bench(
    c: &mut Criterion,
    gpu: &Gpu,
    id: &str,
    throughput: Throughput,
    mut record: impl FnMut(&mut Batch) -> Result<()>,
) {
    let (group, name) = id.split_once('/').expect("group/name");
    let mut group = c.benchmark_group(group);
    group.throughput(throughput.clone()).sample_size(10);
    let mut ran = false;
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function(name, |b| {
        ran = true;
        b.iter(|| {
            let mut batch = gpu.batch();
            record(&mut batch).expect("valid arguments");
            batch.submit().expect("a device that works");
            gpu.device().poll(PollType::wait_indefinitely()).expect("a device that works");
        });
    });
    // With `--test`, benches only have to run.
    if ran && !std::env::args().any(|argument| argument == "--test") {
        compare(gpu, id, &throughput, &mut record);
    }
}

/// Whether the device has memory for `count` tensors of `bytes` each.
fn has_memory(gpu: &Gpu, id: &str, count: usize, bytes: usize) -> bool {
    let shape = [bytes / 4];
    let tensors: Result<Vec<Tensor<f32>>> = (0..count).map(|_| Tensor::zeros(gpu, shape)).collect();
    gpu.trim();
    if let Err(error) = &tensors {
        eprintln!("{id}: left out: {error}");
    }
    tensors.is_ok()
}

fn rows(c: &mut Criterion, gpu: &Gpu) {
    let everywhere = [(64, 10), (4096, 10), (1024, 1000), (1024, 4096), (128, 32768), (64, 50257), (33, 128_256)];
    let large = [(8192, 32768), (8192, 128_256)];
    let large = large.into_iter().filter(|_| is_discrete(gpu));
    for (n, classes) in everywhere.into_iter().chain(large) {
        if !has_memory(gpu, &format!("{n}x{classes}"), 2, n * classes * 4) {
            continue;
        }
        let x = values(gpu, &[n, classes]);
        let labels: Vec<i64> = (0..classes as i64).cycle().take(n).collect();
        let y = Targets::new(gpu, [n], &labels, classes).expect("labels are classes");
        let bytes = |per_element: u64| Throughput::Bytes((n * classes) as u64 * per_element);
        let (ce, nll) = (CrossEntropy::default(), Nll::default());
        let size = format!("{n}x{classes}");
        bench(c, gpu, &format!("cross_entropy/forward/{size}"), bytes(4), |b| {
            black_box(b.cross_entropy(&x, &y, &ce)?);
            Ok(())
        });
        bench(c, gpu, &format!("cross_entropy/forward_backward/{size}"), bytes(8), |b| {
            black_box(b.cross_entropy_with(&x, &y, &ce, Grad::New)?);
            Ok(())
        });
        bench(c, gpu, &format!("log_softmax/forward/{size}"), bytes(8), |b| {
            black_box(b.log_softmax(&x, 1)?);
            Ok(())
        });
        bench(c, gpu, &format!("log_softmax/backward/{size}"), bytes(12), |b| {
            black_box(b.log_softmax_backward(&x, &x, 1)?);
            Ok(())
        });
        bench(c, gpu, &format!("nll/forward/{size}"), Throughput::Elements(n as u64), |b| {
            black_box(b.nll(&x, &y, &nll)?);
            Ok(())
        });
        bench(c, gpu, &format!("nll/forward_backward/{size}"), bytes(4), |b| {
            black_box(b.nll_with(&x, &y, &nll, Grad::New)?);
            Ok(())
        });
    }
}

/// Rows stored in 16 bits per element: half the bytes.
fn halves<T: Float>(c: &mut Criterion, gpu: &Gpu, name: &str) {
    for (n, classes) in [(1024, 4096), (128, 32768)] {
        let mut batch = gpu.batch();
        let x: Tensor<T> = batch.cast(&values(gpu, &[n, classes])).expect("there is memory");
        batch.submit().expect("the device works");
        let labels: Vec<i64> = (0..classes as i64).cycle().take(n).collect();
        let y = Targets::new(gpu, [n], &labels, classes).expect("labels are classes");
        let id = format!("cross_entropy_{name}/forward_backward/{n}x{classes}");
        bench(c, gpu, &id, Throughput::Bytes((n * classes) as u64 * 4), |b| {
            black_box(b.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::New)?);
            Ok(())
        });
    }
}

fn elementwise(c: &mut Criterion, gpu: &Gpu) {
    // Larger than the caches of a discrete GPU.
    let large = is_discrete(gpu).then_some(1 << 26);
    for n in [1 << 20, 1 << 22].into_iter().chain(large) {
        updates(c, gpu, n);
    }
    for n in std::iter::once(1 << 20).chain(large) {
        losses(c, gpu, n);
    }
    let n = 1 << 20;
    let x = values(gpu, &[n]);
    let bytes = |per_element: u64| Throughput::Bytes(n as u64 * per_element);
    bench(c, gpu, &format!("relu/forward/{n}"), bytes(8), |b| b.relu(&x).map(|y| drop(black_box(y))));
    bench(c, gpu, &format!("sigmoid/forward/{n}"), bytes(8), |b| b.sigmoid(&x).map(|y| drop(black_box(y))));
    let matrix = x.reshape([1024, n / 1024]).expect("as many elements");
    bench(c, gpu, &format!("column_sum/1024x{}", n / 1024), bytes(4), |b| {
        b.column_sum(&matrix).map(|y| drop(black_box(y)))
    });
}

fn losses(c: &mut Criterion, gpu: &Gpu, n: usize) {
    if !has_memory(gpu, &n.to_string(), 3, n * 4) {
        return;
    }
    let (x, y) = (values(gpu, &[n]), values(gpu, &[n]));
    let bytes = |per_element: u64| Throughput::Bytes(n as u64 * per_element);
    macro_rules! rows {
        ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
            $(
                bench(c, gpu, &format!(concat!(stringify!($name), "/forward_backward/{}"), n), bytes(12), |b| {
                    black_box(b.$with(&x, &y, &xent::loss::$Options::new(), Grad::New)?);
                    Ok(())
                });
            )*
        };
    }
    xent::elementwise_losses!(rows);
}

fn updates(c: &mut Criterion, gpu: &Gpu, n: usize) {
    let (x, y) = (values(gpu, &[n]), values(gpu, &[n]));
    let bytes = |per_element: u64| Throughput::Bytes(n as u64 * per_element);
    bench(c, gpu, &format!("sgd/plain/{n}"), bytes(12), |b| b.sgd(&x, &y, None, &Sgd::default()));
    let mut momentum = Momentum::new(gpu, [n]).expect("a tensor that fits");
    let options = Sgd::new().momentum(0.9);
    bench(c, gpu, &format!("sgd/momentum/{n}"), bytes(20), |b| b.sgd(&x, &y, Some(&mut momentum), &options));
}

fn matmul(c: &mut Criterion, gpu: &Gpu) {
    // Square products, and the products of a layer of 512 outputs on a batch of 64.
    let large = is_discrete(gpu).then_some([4096, 4096, 4096]);
    for [m, n, k] in [[512, 512, 512], [1024, 1024, 1024], [64, 512, 1024]].into_iter().chain(large) {
        for (name, layout) in [("nn", Layout::Nn), ("nt", Layout::Nt), ("tn", Layout::Tn)] {
            let (a, b_shape) = match layout {
                Layout::Nn => ([m, k], [k, n]),
                Layout::Nt => ([m, k], [n, k]),
                Layout::Tn => ([k, m], [k, n]),
            };
            let (x, y) = (values(gpu, &a), values(gpu, &b_shape));
            let operations = Throughput::Elements(2 * (m * n * k) as u64);
            bench(c, gpu, &format!("matmul/{name}/{m}x{n}x{k}"), operations, |b| {
                black_box(b.matmul(layout, &x, &y, None)?);
                Ok(())
            });
        }
    }
}

/// A linear layer and cross-entropy, forward and backward: fused, without logits in memory; with
/// logits in memory; and the three products alone.
fn linear_cross_entropy(c: &mut Criterion, gpu: &Gpu) {
    let large = is_discrete(gpu).then_some([8192, 512, 128_256]);
    for [n, d, v] in [[256, 64, 4096], [1024, 256, 16384]].into_iter().chain(large) {
        let (hidden, weight) = (values(gpu, &[n, d]), values(gpu, &[v, d]));
        let labels: Vec<i64> = (0..v as i64).cycle().take(n).collect();
        let y = Targets::new(gpu, [n], &labels, v).expect("labels are classes");
        let options = LinearCrossEntropy::default();
        let operations = || Throughput::Elements(6 * (n * d * v) as u64);
        let size = format!("{n}x{d}x{v}");
        let fused = format!("linear_cross_entropy/fused/{size}");
        gpu.trim();
        gpu.reset_peak();
        bench(c, gpu, &fused, operations(), |b| {
            let request = LinearLossRequest::gradients();
            black_box(b.linear_cross_entropy_with(&hidden, &weight, None, &y, &options, request)?);
            Ok(())
        });
        peak(gpu, &fused);
        if !has_memory(gpu, &size, 1, n * v * 4) {
            continue;
        }
        let materialised = format!("linear_cross_entropy/materialised/{size}");
        bench(c, gpu, &materialised, operations(), |b| {
            let logits = b.matmul(Layout::Nt, &hidden, &weight, None)?;
            b.cross_entropy_with(&logits, &y, &options.loss, Grad::InPlace)?;
            black_box(b.matmul(Layout::Nn, &logits, &weight, None)?);
            black_box(b.matmul(Layout::Tn, &logits, &hidden, None)?);
            Ok(())
        });
        peak(gpu, &materialised);
        bench(c, gpu, &format!("linear_cross_entropy/products/{size}"), operations(), |b| {
            let logits = b.matmul(Layout::Nt, &hidden, &weight, None)?;
            black_box(b.matmul(Layout::Nn, &logits, &weight, None)?);
            black_box(b.matmul(Layout::Tn, &logits, &hidden, None)?);
            Ok(())
        });
        gpu.reset_peak();
    }
}

/// The fused loss with a gradient threshold, and with an immediate update of the layer; except
/// on a discrete GPU, also the plain loss.
fn linear_cross_entropy_variants(c: &mut Criterion, gpu: &Gpu) {
    let [n, d, v] = if is_discrete(gpu) { [8192, 512, 128_256] } else { [512, 128, 8192] };
    let (hidden, weight) = (values(gpu, &[n, d]), values(gpu, &[v, d]));
    let labels: Vec<i64> = (0..v as i64).cycle().take(n).collect();
    let y = Targets::new(gpu, [n], &labels, v).expect("labels are classes");
    let plain = (!is_discrete(gpu)).then_some(("fused", 0.0));
    for (name, gradient_threshold) in plain.into_iter().chain([("threshold", 1.0 / 4096.0)]) {
        let options = LinearCrossEntropy::new().gradient_threshold(gradient_threshold);
        let operations = Throughput::Elements(6 * (n * d * v) as u64);
        bench(c, gpu, &format!("linear_cross_entropy/{name}/{n}x{d}x{v}"), operations, |b| {
            let request = LinearLossRequest::gradients();
            black_box(b.linear_cross_entropy_with(&hidden, &weight, None, &y, &options, request)?);
            Ok(())
        });
    }
    let (options, sgd) = (LinearCrossEntropy::default(), Sgd::new().lr(1e-3));
    let operations = Throughput::Elements(8 * (n * d * v) as u64);
    bench(c, gpu, &format!("linear_cross_entropy/update/{n}x{d}x{v}"), operations, |b| {
        black_box(b.linear_cross_entropy_sgd(&hidden, &weight, None, &y, &options, LinearSgd::new(sgd.clone()))?);
        Ok(())
    });
}

/// Prints the peak memory since the last reset, and resets it.
fn peak(gpu: &Gpu, id: &str) {
    eprintln!("{id}: {} MiB at most, inputs and outputs included", gpu.counters().peak_bytes.div_ceil(1 << 20));
    gpu.trim();
    gpu.reset_peak();
}

/// A training step of the digits network on a mini-batch of 64, and the host's part alone.
fn step(c: &mut Criterion, gpu: &Gpu) {
    let network = Sequential::new().linear(64, 128).relu().linear(128, 10);
    let model = Model::new(gpu, &network, 0).expect("layers that fit");
    let sgd = Sgd::new().lr(1e-3).momentum(0.9);
    let options = Optimization { sgd, ..Optimization::default() };
    let mut training = Training::new(model, vec![Loss::cross_entropy()], options).expect("a loss for the head");
    let x = values(gpu, &[64, 64]);
    let labels: Vec<u8> = (0..10).cycle().take(64).collect();
    let y = Targets::new(gpu, [64], &labels, 10).expect("labels are classes");
    bench(c, gpu, "step/digits", Throughput::Elements(64), |b| training.step(b, &x, &[(&y).into()]).map(drop));
    host(c, gpu, "digits_host", |b| training.step(b, &x, &[(&y).into()]).map(drop));
    many_parameters(c, gpu);
}

/// Measures the host's part of a step: recording and submitting, without the wait for the device.
fn host(c: &mut Criterion, gpu: &Gpu, id: &str, mut record: impl FnMut(&mut Batch) -> Result<()>) {
    let mut group = c.benchmark_group("step");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function(id, |b| {
        b.iter_custom(|steps| {
            let mut spent = Duration::ZERO;
            for _ in 0..steps {
                let start = Instant::now();
                let mut batch = gpu.batch();
                record(&mut batch).expect("valid arguments");
                batch.submit().expect("a device that works");
                spent += start.elapsed();
                gpu.device().poll(PollType::wait_indefinitely()).expect("a device that works");
            }
            spent
        });
    });
}

/// The host's time to update many small parameters, and to load them from a state.
fn many_parameters(c: &mut Criterion, gpu: &Gpu) {
    let names: Vec<String> = (0..8000).map(|i| format!("layers.{i}.scale")).collect();
    let values = names.iter().zip((1..=4).cycle()).map(|(name, len)| (&name[..], [len].into(), &[0.5; 4][..len]));
    let values: Vec<_> = values.collect();
    let parameters = Parameters::new(gpu, &values).expect("names that differ");
    let mut optimizer = Optimizer::new(&parameters, Optimization::default()).expect("valid options");
    host(c, gpu, "8000_parameters_host", |b| optimizer.step(b, &parameters).map(drop));
    let mut state = State::default();
    for (name, shape, values) in values {
        state.insert(name, shape, values.to_vec()).expect("names that differ");
    }
    host(c, gpu, "8000_parameters_load", |_| parameters.load(&state));
}

/// Whether the adapter is a discrete GPU, which has memory for large rows.
fn is_discrete(gpu: &Gpu) -> bool {
    gpu.device().adapter_info().device_type == wgpu::DeviceType::DiscreteGpu
}

/// Benches a copy in quads, 1024 elements per workgroup, and sets `COPY`.
fn copy(c: &mut Criterion, gpu: &Gpu) {
    // Larger than the caches of a discrete GPU.
    let n: usize = if is_discrete(gpu) { 1 << 26 } else { 1 << 22 };
    let workgroup = gpu.caps().workgroup_size();
    let source = format!(
        "@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
        @group(0) @binding(1) var<storage, read_write> copied: array<vec4<f32>>;
        @compute @workgroup_size({workgroup})
        fn main(
            @builtin(workgroup_id) id: vec3<u32>,
            @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) thread: u32,
        ) {{
            let group = id.y * groups.x + id.x;
            for (var i = group * 256u + thread; i < (group + 1u) * 256u; i += {workgroup}u) {{
                copied[i] = source[i];
            }}
        }}"
    );
    let device = gpu.device();
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("copy"),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("copy"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let (from, to) = (values(gpu, &[n]), values(gpu, &[n]));
    let entries = [from.buffer(), to.buffer()].map(|buffer| buffer.as_entire_binding());
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("copy"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: entries[0].clone() },
            wgpu::BindGroupEntry { binding: 1, resource: entries[1].clone() },
        ],
    });
    let mut benches = c.benchmark_group("copy");
    benches.throughput(Throughput::Bytes(n as u64 * 8)).sample_size(10);
    benches.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let queries = has_timestamps(gpu).then(|| {
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("copy"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: Some("copy"), size: 16, usage, mapped_at_creation: false };
        (queries, device.create_buffer(&descriptor))
    });
    let rows = u32::try_from(n / 1024).expect("a few thousand").div_ceil(32768);
    let columns = u32::try_from(n / 1024).expect("a few thousand") / rows;
    let once = || {
        let start = Instant::now();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let timestamp_writes = queries.as_ref().map(|(queries, _)| wgpu::ComputePassTimestampWrites {
                query_set: queries,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: Some("copy"), timestamp_writes };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(columns, rows, 1);
        }
        if let Some((queries, ticks)) = &queries {
            encoder.resolve_query_set(queries, 0..2, ticks, 0);
        }
        gpu.queue().submit([encoder.finish()]);
        device.poll(PollType::wait_indefinitely()).expect("a device that works");
        start.elapsed()
    };
    benches.bench_function((n * 8).to_string(), |b| b.iter(once));
    let kernel = || {
        let Some((_, ticks)) = &queries else { return Duration::ZERO };
        once();
        let ticks = Tensor::<u32>::from_buffer(gpu, ticks.clone(), 0, [4]).expect("a buffer of 16 bytes");
        let mut batch = gpu.batch();
        let mut words = batch.read(&ticks).expect("memory");
        batch.submit().expect("a device that works");
        let words = words.wait(Duration::from_secs(60)).expect("a device that works");
        let tick = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let ticks = tick(words[2], words[3]).saturating_sub(tick(words[0], words[1]));
        #[expect(clippy::cast_precision_loss, reason = "a time is approximate")]
        Duration::from_secs_f64(ticks as f64 * f64::from(gpu.queue().get_timestamp_period()) * 1e-9)
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate is approximate")]
    let rate = |times: Vec<Duration>| (n * 8) as f64 / median(times).as_secs_f64();
    COPY.set([rate((0..10).map(|_| once()).collect()), rate((0..10).map(|_| kernel()).collect())]);
}

fn kernels(c: &mut Criterion) {
    let gpu = match Gpu::headless() {
        Ok(gpu) => gpu,
        Err(error) if std::env::var("XENT_GPU").is_ok_and(|policy| policy == "require") => panic!("{error}"),
        Err(error) if std::env::var_os(Gpu::ADAPTER_VARIABLE).is_some() => panic!("{error}"),
        Err(error) => return eprintln!("SKIPPED: {error}"),
    };
    eprintln!("adapter: {}", gpu.describe());
    copy(c, &gpu);
    rows(c, &gpu);
    halves::<f16>(c, &gpu, "f16");
    halves::<bf16>(c, &gpu, "bf16");
    elementwise(c, &gpu);
    matmul(c, &gpu);
    linear_cross_entropy(c, &gpu);
    linear_cross_entropy_variants(c, &gpu);
    step(c, &gpu);
}

criterion_group!(all, kernels);
criterion_main!(all);
