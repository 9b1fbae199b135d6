//! The shared devices, inputs, and comparisons.

use std::io::Write as _;
use std::sync::{MutexGuard, OnceLock};
use std::time::Duration;

use xent::wgpu;
use xent::{Batch, Caps, Family, Gpu, Readback, Result, Tensor};

pub(crate) use crate::adapter::{SharedDevices, adapter};
pub(crate) use crate::every_op::sweeps_in_full;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);

/// Locks one of the devices that the tests share; `None` if there is no adapter and none is
/// required.
///
/// `XENT_GPU=require` makes a missing adapter a failure; `auto` (the default) prints a message and
/// skips the tests.
pub(crate) fn gpu() -> Option<MutexGuard<'static, Gpu>> {
    static DEVICES: OnceLock<Option<SharedDevices>> = OnceLock::new();
    let shared = DEVICES.get_or_init(|| {
        let policy = std::env::var("XENT_GPU").unwrap_or_else(|_| "auto".to_owned());
        match (adapter(), policy.as_str()) {
            (Ok(gpu), "auto" | "require") => {
                say(&format!("adapter: {}", gpu.describe()));
                Some(SharedDevices::new(gpu).expect("the adapter is still there"))
            }
            (Err(error), "require") => panic!("XENT_GPU=require: {error}"),
            (Err(error), "auto") if std::env::var_os("XENT_ADAPTER").is_none() => {
                say(&format!("SKIPPED: every test that needs a GPU, because there is {error}"));
                None
            }
            (Err(error), "auto") => panic!("{error}"),
            (_, other) => panic!("XENT_GPU must be auto or require, got {other:?}"),
        }
    });
    let mut gpu = shared.as_ref()?.lock();
    // A software adapter's kernels take megabytes each, and only a new device frees them.
    if gpu.counters().kernels_compiled > MOST_KERNELS {
        *gpu = adapter().expect("the adapter is still there");
    }
    Some(gpu)
}

/// The number of compiled kernels after which tests get a new device.
const MOST_KERNELS: u64 = 25;

/// Finds the wgpu adapter of a device again, in a new instance.
pub(crate) fn adapter_of(gpu: &Gpu) -> (wgpu::Instance, wgpu::Adapter) {
    let info = gpu.device().adapter_info();
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends = info.backend.into();
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(info.backend.into()));
    let adapter = adapters.into_iter().find(|adapter| adapter.get_info() == info).expect("the same adapter again");
    (instance, adapter)
}

/// Creates a device on `adapter` with the features of `gpu`, and with its limits as `limits`
/// changes them.
pub(crate) fn device_like(
    gpu: &Gpu,
    adapter: &wgpu::Adapter,
    limits: impl FnOnce(&mut wgpu::Limits),
) -> (wgpu::Device, wgpu::Queue) {
    let mut required_limits = gpu.device().limits();
    limits(&mut required_limits);
    let required_features = gpu.device().features();
    let descriptor = wgpu::DeviceDescriptor { required_limits, required_features, ..Default::default() };
    pollster::block_on(adapter.request_device(&descriptor)).unwrap()
}

/// Creates an application's pipeline, with a layout derived from its shader.
pub(crate) fn pipeline_of(device: &wgpu::Device, wgsl: &str) -> wgpu::ComputePipeline {
    let source = wgpu::ShaderSource::Wgsl(wgsl.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}

/// Prints past the test harness, which captures the print macros of passing tests.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The device with each family of kernels.
pub(crate) fn families(gpu: &Gpu) -> [Gpu; 2] {
    [Family::CpuSimd, Family::Gpu].map(|family| gpu.with_caps(Caps { family, ..gpu.caps().clone() }).unwrap())
}

/// Each family with the smallest bindings, grids and loops that it can work with, and with memory
/// split into buffers of little more than two bindings.
pub(crate) fn tiny(gpu: &Gpu) -> [Gpu; 2] {
    families(gpu).map(|gpu| {
        let small = Caps { max_binding: Caps::MIN_BINDING, max_groups: 16, ..gpu.caps().clone() };
        let caps = Caps { max_buffer: Caps::MIN_BUFFER + 4096, max_turns: Caps::MIN_TURNS, ..small };
        gpu.with_caps(caps).unwrap()
    })
}

/// Both families with the device's limits, then both with the smallest limits.
pub(crate) fn devices(gpu: &Gpu) -> Vec<Gpu> {
    families(gpu).into_iter().chain(tiny(gpu)).collect()
}

/// Returns a function that chooses which cases of a sweep run: all with the sweeps in full, else the
/// second of every `n`. With a prime `n`, the sample covers every value of the inner loops.
pub(crate) fn one_in(n: usize) -> impl FnMut() -> bool {
    let mut case = 0;
    move || {
        case += 1;
        sweeps_in_full() || case % n == 2 % n
    }
}

/// Records with `record`, submits once, and reads the tensors that it returned.
pub(crate) fn eval<const N: usize>(
    gpu: &Gpu,
    record: impl FnOnce(&mut Batch) -> Result<[Tensor<f32>; N]>,
) -> [Vec<f32>; N] {
    try_eval(gpu, record).unwrap()
}

pub(crate) fn try_eval<const N: usize>(
    gpu: &Gpu,
    record: impl FnOnce(&mut Batch) -> Result<[Tensor<f32>; N]>,
) -> Result<[Vec<f32>; N]> {
    let mut batch = gpu.batch();
    let outputs = record(&mut batch)?;
    let tickets = outputs.map(|tensor| batch.read(&tensor).unwrap());
    batch.submit().unwrap();
    let mut values = Vec::new();
    for mut ticket in tickets {
        values.push(ticket.wait(TIMEOUT)?);
    }
    Ok(values.try_into().unwrap())
}

/// Returns an unsubmitted batch that computes the ReLU of `values`, and the ticket for the result.
pub(crate) fn relu_of(gpu: &Gpu, values: &[f32]) -> (Batch, Readback<Vec<f32>>) {
    let x = Tensor::from_slice(gpu, [values.len()], values).unwrap();
    let mut batch = gpu.batch();
    let y = batch.relu(&x).unwrap();
    let ticket = batch.read(&y).unwrap();
    (batch, ticket)
}

/// Returns values around 0 with the given spread, determined by the seed.
pub(crate) fn random(seed: u64, len: usize, spread: f32) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| (rng.f32() + rng.f32() + rng.f32() - 1.5) * spread).collect()
}

/// Returns values in [0, 1), determined by the seed.
pub(crate) fn unit(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.f32()).collect()
}

pub(crate) fn labels(seed: u64, len: usize, classes: usize) -> Vec<i64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.i64(0..classes as i64)).collect()
}

/// Checks `|got - want| <= abs` or `<= rel` times the larger magnitude; infinities and NaN must
/// match.
#[track_caller]
pub(crate) fn close(what: &str, got: &[f32], want: &[f64], rel: f64, abs: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let rounded = want as f32;
        let fine = if rounded.is_finite() {
            approx::relative_eq!(f64::from(got), want, epsilon = abs, max_relative = rel)
        } else {
            got.to_bits() == rounded.to_bits() || (got.is_nan() && rounded.is_nan())
        };
        assert!(fine, "{what}: element {i}: got {got:e}, want {want:e}");
    }
}

#[track_caller]
pub(crate) fn same_bits(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}: length");
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert_eq!(x.to_bits(), y.to_bits(), "{what}: element {i}: {x:e} against {y:e}");
    }
}
