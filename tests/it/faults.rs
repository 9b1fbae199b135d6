//! Faults of the host or the machine: no adapter, no device, no memory, dropped tickets. Each ends
//! in the documented error or in the right result.

use std::time::Duration;

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, LossRequest, Targets};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Sgd};
use xent::wgpu;
use xent::{Caps, Error, Gpu, Layout, Readback, Tensor, Weights, cpu};

/// Checks that the device still computes the right values.
#[track_caller]
fn works(gpu: &Gpu) {
    let (logits, labels) = (random(1, 35, 2.0), labels(2, 5, 7));
    let x = Tensor::from_slice(gpu, [5, 7], &logits).unwrap();
    let y = Targets::new(gpu, [5], &labels, 7).unwrap();
    let [loss, grad] = eval(gpu, |b| {
        let out = b.cross_entropy_with(&x, &y, &CrossEntropy::default(), Grad::New)?;
        Ok([out.loss.clone(), out.gradient()?])
    });
    let want = cpu::cross_entropy_backward((&logits, &[5, 7]), &labels, &CrossEntropy::default(), None).unwrap();
    close("loss", &loss, &want.loss, 1e-6, 1e-6);
    close("gradient", &grad, &want.grad, 2e-6, 1e-7);
}

/// Runs an example in a process whose environment hides all Vulkan drivers.
#[test]
fn without_a_driver_the_error_says_so() {
    let Some(_shared) = gpu() else { return };
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--release", "--example", "cross_entropy"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("XENT_ADAPTER", "vulkan");
    let hidden = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(|variable| (variable, "/dev/null"));
    let output = command.envs(hidden).output().expect("cargo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("error: no adapter matches \"vulkan\"; available: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn a_device_with_too_little_of_anything_is_refused() {
    let Some(shared) = gpu() else { return };
    let (_instance, adapter) = adapter_of(&shared);
    type Lower = fn(&mut wgpu::Limits);
    let cases: [(&str, Lower); 7] = [
        ("storage bindings in a shader", |l| l.max_storage_buffers_per_shader_stage = 3),
        ("a storage binding's bytes", |l| l.max_storage_buffer_binding_size = 16380),
        ("a buffer's bytes", |l| l.max_buffer_size = 32764),
        ("threads in a workgroup", |l| l.max_compute_invocations_per_workgroup = 63),
        ("workgroup memory", |l| l.max_compute_workgroup_storage_size = 2044),
        ("a uniform binding's bytes", |l| l.max_uniform_buffer_binding_size = 252),
        ("dynamic uniform offsets", |l| l.max_dynamic_uniform_buffers_per_pipeline_layout = 0),
    ];
    for (limit, lower) in cases {
        let (device, queue) = device_like(&shared, &adapter, lower);
        let error = Gpu::new(device, queue).unwrap_err();
        match error {
            Error::Limit { op: "Gpu::new", what, needed, allowed } => {
                assert_eq!(what, limit);
                assert!(allowed < needed, "{limit}: {allowed} of {needed}");
            }
            other => panic!("{limit}: {other:?}"),
        }
    }
    // WebGPU's default limits are enough.
    let (device, queue) = device_like(&shared, &adapter, |limits| *limits = wgpu::Limits::default());
    works(&Gpu::new(device, queue).unwrap());
}

/// With wgpu's limits for old devices: 4 storage bindings in a shader, and 32 bytes less workgroup
/// memory than the largest tiles need.
#[test]
fn a_device_with_downlevel_limits_trains_and_names_what_is_short() {
    let Some(shared) = gpu() else { return };
    let (_instance, adapter) = adapter_of(&shared);
    let (device, queue) = device_like(&shared, &adapter, |limits| {
        let downlevel = wgpu::Limits::downlevel_defaults();
        // Not a multiple of a quad.
        let odd = downlevel.max_storage_buffer_binding_size - 20;
        *limits = wgpu::Limits { max_storage_buffer_binding_size: odd, ..downlevel };
    });
    for gpu in families(&Gpu::new(device, queue).unwrap()) {
        works(&gpu);
        let usual = shared.with_caps(Caps { family: gpu.caps().family, ..shared.caps().clone() }).unwrap();
        for (few, all) in trained(&gpu).iter().zip(&trained(&usual)) {
            same_bits("trained", few, all);
        }
        let logits = Tensor::from_slice(&gpu, [2, 3], &[0.0f32; 6]).unwrap();
        let targets = Targets::new(&gpu, [2], &[0, 2], 3).unwrap();
        let ones = Some(Weights::new([3], &[1.0; 3]).unwrap());
        let options = CrossEntropy::new().weight(ones);
        let error = gpu.batch().cross_entropy_with(&logits, &targets, &options, Grad::New).unwrap_err();
        let (op, what) = ("cross_entropy", "storage bindings in a shader");
        assert_eq!(error.to_string(), Error::Limit { op, what, needed: 5, allowed: 4 }.to_string());
        // The error comes before anything is overwritten.
        let mut batch = gpu.batch();
        let request = LossRequest::new().grad(Grad::InPlace).statistics();
        let error = batch.cross_entropy_with(&logits, &targets, &CrossEntropy::default(), request).unwrap_err();
        assert!(matches!(error, Error::Limit { op: "cross_entropy", needed: 6, allowed: 4, .. }), "{error}");
        let mut untouched = batch.read(&logits).unwrap();
        batch.submit().unwrap();
        assert_eq!(untouched.wait(TIMEOUT).unwrap(), [0.0; 6]);
    }
}

/// Returns the parameters of two layers after two clipped steps with momentum. The products are so
/// large that a GPU uses the largest tiles.
fn trained(gpu: &Gpu) -> Vec<Vec<f32>> {
    let [rows, inputs, hidden, classes] = [1500, 9, 1500, 7];
    let model = Model::new(gpu, &Sequential::new().linear(inputs, hidden).relu().linear(hidden, classes), 1).unwrap();
    let sgd = Sgd::new().lr(0.1).momentum(0.9);
    let options = Optimization { sgd, clip_norm: Some(0.1), ..Optimization::default() };
    let mut training = Training::new(model, vec![Loss::cross_entropy()], options).unwrap();
    let x = Tensor::from_slice(gpu, [rows, inputs], &random(1, rows * inputs, 1.0)).unwrap();
    let y = Targets::new(gpu, [rows], &labels(2, rows, classes), classes).unwrap();
    let mut batch = gpu.batch();
    for _ in 0..2 {
        training.step(&mut batch, &x, &[(&y).into()]).unwrap();
    }
    let parameters = training.model().parameters();
    let tickets: Vec<_> =
        parameters.names().map(|name| batch.read(&parameters.value(name).unwrap()).unwrap()).collect();
    batch.submit().unwrap();
    tickets.into_iter().map(|mut ticket| ticket.wait(TIMEOUT).unwrap()).collect()
}

#[test]
fn a_ticket_that_timed_out_gives_its_values_later() {
    let Some(gpu) = gpu() else { return };
    let values = random(1, 1 << 20, 1.0);
    let want: Vec<f32> = values.iter().map(|v| v.max(0.0)).collect();
    let (batch, mut ticket) = relu_of(&gpu, &values);
    let soon = Duration::from_millis(1);
    for _ in 0..3 {
        assert!(matches!(ticket.wait(soon), Err(Error::Timeout(limit)) if limit == soon), "not submitted");
    }
    batch.submit().unwrap();
    // However far the device is by now, the result is a timeout or the values, and after a timeout
    // the values can still be read.
    let values = match ticket.wait(Duration::ZERO) {
        Err(Error::Timeout(Duration::ZERO)) => ticket.wait(Duration::MAX).unwrap(),
        other => other.unwrap(),
    };
    same_bits("after the timeout", &values, &want);
    assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Taken)));
}

#[test]
fn dropped_tickets_cost_nobody_a_value() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    drop(shared);
    let before = gpu.counters().bytes_in_use;
    for round in 0..4 {
        let values = random(round, 3000, 1.0);
        let want: Vec<f32> = values.iter().map(|v| v.max(0.0)).collect();
        let (batch, unsubmitted) = relu_of(&gpu, &values);
        drop(unsubmitted);
        drop(batch);
        let (mut batch, early) = relu_of(&gpu, &values);
        drop(early);
        let x = Tensor::from_slice(&gpu, [3000], &values).unwrap();
        let y = batch.relu(&x).unwrap();
        let (late, mut kept) = (batch.read(&y).unwrap(), batch.read(&y).unwrap());
        batch.submit().unwrap();
        drop(late);
        same_bits("the ticket that was kept", &kept.wait(TIMEOUT).unwrap(), &want);
    }
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(gpu.counters().bytes_in_use, before, "nothing is held for them");
}

#[test]
fn what_a_dropped_recorder_recorded_counts_in_the_callers_encoder_and_in_no_batch() {
    let Some(gpu) = gpu() else { return };
    let sgd = Sgd::new().lr(1.0);
    let grads = Tensor::from_slice(&gpu, [3], &[1.0f32, 2.0, 3.0]).unwrap();
    let wrong = Tensor::from_slice(&gpu, [2], &[1.0f32, 2.0]).unwrap();
    let values = Tensor::from_slice(&gpu, [3], &[10.0f32; 3]).unwrap();
    let now = || eval(&gpu, |_| Ok([values.clone()]))[0].clone();

    let mut batch = gpu.batch();
    batch.sgd(&values, &grads, None, &sgd).unwrap();
    drop(batch);
    assert_eq!(now(), [10.0; 3], "a batch that is dropped does nothing");

    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut half_way = || -> xent::Result<()> {
        let mut recorder = gpu.record(&mut encoder);
        recorder.sgd(&values, &grads, None, &sgd)?;
        recorder.sgd(&values, &wrong, None, &sgd)
    };
    assert!(matches!(half_way(), Err(Error::Shape { .. })));
    gpu.queue().submit([encoder.finish()]);
    assert_eq!(now(), [9.0, 8.0, 7.0], "the caller's encoder keeps what was recorded");

    // A panic of the application drops both recorders half-way.
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let panicked = std::thread::scope(|scope| {
        let panicking = || {
            let (mut batch, mut recorder) = (gpu.batch(), gpu.record(&mut encoder));
            batch.sgd(&values, &grads, None, &sgd).unwrap();
            recorder.sgd(&values, &grads, None, &sgd).unwrap();
            std::panic::resume_unwind(Box::new("the application's"));
        };
        scope.spawn(panicking).join()
    });
    assert!(panicked.is_err());
    gpu.queue().submit([encoder.finish()]);
    assert_eq!(now(), [8.0, 6.0, 4.0]);
}

/// Trains one model. Two threads at the same time must get the same results as each thread alone.
fn train(gpu: &Gpu, seed: u64, in_callers_encoder: bool) -> Vec<f32> {
    let x = Tensor::from_slice(gpu, [16, 8], &random(seed, 128, 1.0)).unwrap();
    let y = Targets::new(gpu, [16], &labels(seed + 1, 16, 5), 5).unwrap();
    let weight = Tensor::from_slice(gpu, [5, 8], &random(seed + 2, 40, 0.5)).unwrap();
    let grad = Tensor::zeros(gpu, [5, 8]).unwrap();
    let sgd = Sgd::new().lr(0.3);
    let mut losses = Vec::new();
    for _ in 0..25 {
        let step = |recorder: &mut xent::Recorder<'_>| -> xent::Result<Readback<Vec<f32>>> {
            let logits = recorder.matmul(Layout::Nt, &x, &weight, None)?;
            let out = recorder.cross_entropy_with(&logits, &y, &CrossEntropy::default(), Grad::New)?;
            recorder.matmul_into(Layout::Tn, &out.gradient()?, &x, None, &grad)?;
            recorder.sgd(&weight, &grad, None, &sgd)?;
            recorder.read(&out.loss)
        };
        let mut ticket = if in_callers_encoder {
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let ticket = step(&mut gpu.record(&mut encoder)).unwrap();
            gpu.queue().submit([encoder.finish()]);
            ticket
        } else {
            let mut batch = gpu.batch();
            let ticket = step(&mut batch).unwrap();
            batch.submit().unwrap();
            ticket
        };
        losses.extend(ticket.wait(TIMEOUT).unwrap());
    }
    losses.extend(eval(gpu, |_| Ok([weight]))[0].iter());
    losses
}

#[test]
fn two_threads_that_record_on_one_gpu_get_the_results_of_each_alone() {
    let Some(gpu) = gpu() else { return };
    let (alone_a, alone_b) = (train(&gpu, 1, false), train(&gpu, 7, true));
    for _ in 0..4 {
        let gpu: &Gpu = &gpu;
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| train(gpu, 1, false));
            let b = scope.spawn(|| train(gpu, 7, true));
            (a.join().unwrap(), b.join().unwrap())
        });
        same_bits("first thread", &a, &alone_a);
        same_bits("second thread", &b, &alone_b);
    }
}

#[test]
fn tickets_outlive_their_gpu() {
    let Some(shared) = gpu() else { return };
    let values = random(1, 5000, 1.0);
    let want: Vec<f32> = values.iter().map(|v| v.max(0.0)).collect();
    // Waits after the last handle to the device and its queue is dropped, for work in flight and
    // for finished work.
    for finished in [false, true] {
        let gpu = adapter().unwrap();
        let (batch, mut ticket) = relu_of(&gpu, &values);
        batch.submit().unwrap();
        if finished {
            gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
        }
        drop(gpu);
        same_bits("waited for", &ticket.wait(TIMEOUT).unwrap(), &want);
    }
    // Submits after the last handle is dropped.
    let gpu = adapter().unwrap();
    let (batch, mut ticket) = relu_of(&gpu, &values);
    drop(gpu);
    batch.submit().unwrap();
    same_bits("submitted later", &ticket.wait(TIMEOUT).unwrap(), &want);
    // Never submitted.
    let gpu = adapter().unwrap();
    let (batch, mut ticket) = relu_of(&gpu, &values);
    drop((gpu, batch));
    assert!(matches!(ticket.wait(TIMEOUT), Err(Error::NotSubmitted)));
    drop(shared);
}
