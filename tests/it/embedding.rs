//! xent inside an application, with the application's passes, buffers, device, error handling and
//! executor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, Targets};
use xent::wgpu;
use xent::{Error, Gpu, Tensor, cpu};

const ROWS: usize = 24;
const CLASSES: usize = 10;
const ALL: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// An application with a device, a pipeline of its own, and one buffer for all of its data.
struct Application {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    buffer: wgpu::Buffer,
    uncaptured: Arc<Mutex<Vec<String>>>,
    lost: Arc<AtomicU64>,
}

impl Application {
    fn new() -> Self {
        let made = adapter().unwrap();
        let (device, queue) = (made.device().clone(), made.queue().clone());
        drop(made);
        let (uncaptured, lost) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicU64>::default());
        let (seen, times) = (uncaptured.clone(), lost.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| seen.lock().unwrap().push(error.to_string())));
        device.set_device_lost_callback(move |_, _| {
            times.fetch_add(1, Ordering::Relaxed);
        });
        let pipeline = pipeline_of(
            &device,
            "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
            @compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3u) {
                if id.x < arrayLength(&x) { x[id.x] = 3.0 * x[id.x] - 1.0; }
            }",
        );
        let descriptor = wgpu::BufferDescriptor { label: None, size: 1 << 16, usage: ALL, mapped_at_creation: false };
        let buffer = device.create_buffer(&descriptor);
        Self { device, queue, pipeline, buffer, uncaptured, lost }
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// The application's own pass: `x = 3 x - 1` in a part of a buffer.
    fn pass(&self, encoder: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer, offset: u64, bytes: u64) {
        let binding = wgpu::BufferBinding { buffer, offset, size: std::num::NonZero::new(bytes) };
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(binding) }],
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(u32::try_from(bytes.div_ceil(32)).unwrap(), 1, 1);
    }

    /// Makes an invalid call that is the application's own mistake.
    fn mistake(&self) {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("the application's mistake"),
            size: 4,
            usage,
            mapped_at_creation: false,
        };
        let _ = self.device.create_buffer(&descriptor);
    }

    fn uncaptured(&self) -> Vec<String> {
        std::mem::take(&mut *self.uncaptured.lock().unwrap())
    }

    /// Polls from a thread of its own, as a window's event loop does, while `f` runs.
    fn polling<T>(&self, f: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    self.device.poll(wgpu::PollType::Poll).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let result = f();
            stop.store(true, Ordering::Relaxed);
            result
        })
    }
}

#[test]
fn between_the_applications_own_passes_in_one_submission() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpu = Gpu::new(app.device.clone(), app.queue.clone()).unwrap();
    let (values, labels) = (random(1, ROWS * CLASSES, 2.0), labels(2, ROWS, CLASSES));
    let bytes = (ROWS * CLASSES * 4) as u64;
    // One buffer holds logits, gradient and loss at offsets that the application chooses; xent
    // takes any multiple of 4.
    let (logits_at, loss_at, grad_at) = (256, 4444, 8192);
    for shift in [0, 4, 12] {
        let part =
            |offset, shape: &[usize]| Tensor::<f32>::from_buffer(&gpu, app.buffer.clone(), offset, shape).unwrap();
        let logits = part(logits_at, &[ROWS, CLASSES]);
        let targets = Targets::new(&gpu, [ROWS], &labels, CLASSES).unwrap();
        app.queue.write_buffer(&app.buffer, logits_at, bytemuck::cast_slice(&values));
        let submissions = gpu.counters().submissions;

        let mut encoder = app.encoder();
        app.pass(&mut encoder, &app.buffer, logits_at, bytes);
        let mut recorder = gpu.record(&mut encoder);
        let out = recorder.cross_entropy_with(&logits, &targets, &CrossEntropy::default(), Grad::New).unwrap();
        recorder.finish().unwrap();
        // The application changes the gradient in its tensor, and copies it to its own buffer.
        app.pass(&mut encoder, out.gradient().unwrap().buffer(), out.gradient().unwrap().offset(), bytes);
        encoder.copy_buffer_to_buffer(
            out.gradient().unwrap().buffer(),
            out.gradient().unwrap().offset(),
            &app.buffer,
            grad_at + shift,
            bytes,
        );
        encoder.copy_buffer_to_buffer(out.loss.buffer(), out.loss.offset(), &app.buffer, loss_at, 4);
        let mut recorder = gpu.record(&mut encoder);
        let mut used = recorder.read(&part(grad_at + shift, &[ROWS, CLASSES])).unwrap();
        // The application's copy is an operand like any other, misaligned or not.
        let active = recorder.relu(&part(grad_at + shift, &[ROWS * CLASSES])).unwrap();
        let (mut active, mut loss) = (recorder.read(&active).unwrap(), recorder.read(&part(loss_at, &[])).unwrap());
        drop(recorder);
        app.queue.submit([encoder.finish()]);
        assert_eq!(gpu.counters().submissions, submissions, "the only submission is the application's");

        let made: Vec<f32> = values.iter().map(|x| 3.0 * x - 1.0).collect();
        let options = CrossEntropy::default();
        let want = cpu::cross_entropy_backward((&made, &[ROWS, CLASSES]), &labels, &options, None).unwrap();
        let want_used: Vec<f64> = want.grad.iter().map(|g| 3.0 * g - 1.0).collect();
        let used = used.wait(TIMEOUT).unwrap();
        close("loss", &loss.wait(TIMEOUT).unwrap(), &want.loss, 2e-6, 1e-6);
        close("what the application made of the gradient", &used, &want_used, 2e-6, 1e-6);
        let positive: Vec<f32> = used.iter().map(|x| x.max(0.0)).collect();
        same_bits("relu of it", &active.wait(TIMEOUT).unwrap(), &positive);
    }
    assert_eq!(app.uncaptured(), [""; 0]);
}

/// A gradient in place of logits at offsets in the application's buffer leaves the bytes around
/// them unchanged.
#[test]
fn what_surrounds_a_tensor_in_the_applications_buffer_is_not_touched() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpu = Gpu::new(app.device.clone(), app.queue.clone()).unwrap();
    let labels = labels(2, ROWS, CLASSES);
    let targets = Targets::new(&gpu, [ROWS], &labels, CLASSES).unwrap();
    for gpu in families(&gpu) {
        for offset in [0, 4, 8, 60, 252, 260] {
            let everything = random(offset, 1 << 14, 1.0);
            app.queue.write_buffer(&app.buffer, 0, bytemuck::cast_slice(&everything));
            let x = Tensor::<f32>::from_buffer(&gpu, app.buffer.clone(), offset, [ROWS, CLASSES]).unwrap();
            let mut encoder = app.encoder();
            let mut recorder = gpu.record(&mut encoder);
            recorder
                .cross_entropy_with(&x, &targets, &CrossEntropy::default(), Grad::InPlace)
                .map(|out| out.loss)
                .unwrap();
            let whole = Tensor::<f32>::from_buffer(&gpu, app.buffer.clone(), 0, [1 << 14]).unwrap();
            let mut after = recorder.read(&whole).unwrap();
            drop(recorder);
            app.queue.submit([encoder.finish()]);
            let after = after.wait(TIMEOUT).unwrap();
            let (start, end) = (offset as usize / 4, offset as usize / 4 + ROWS * CLASSES);
            same_bits("before it", &after[..start], &everything[..start]);
            same_bits("after it", &after[end..], &everything[end..]);
            let (logits, options) = (&everything[start..end], CrossEntropy::default());
            let want = cpu::cross_entropy_backward((logits, &[ROWS, CLASSES]), &labels, &options, None).unwrap();
            close("gradient", &after[start..end], &want.grad, 2e-6, 1e-7);
        }
    }
}

/// Two independent users of xent on one device record and submit alternately, also in one encoder,
/// and wait in reverse order.
#[test]
fn a_second_library_on_the_same_device() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpus = [0, 1].map(|_| Gpu::new(app.device.clone(), app.queue.clone()).unwrap());
    let [one, two] = &gpus;
    let values = [random(1, 3000, 1.0), random(2, 3000, 1.0)];
    let relu = |values: &[f32]| values.iter().map(|x| x.max(0.0)).collect::<Vec<f32>>();
    for _ in 0..3 {
        let (first, mut first_ticket) = relu_of(one, &values[0]);
        let (second, mut second_ticket) = relu_of(two, &values[1]);
        let mut encoder = app.encoder();
        let mut shared = Vec::new();
        for (gpu, values) in [(one, &values[1]), (two, &values[0]), (one, &values[0])] {
            let x = Tensor::from_slice(gpu, [3000], values).unwrap();
            let mut recorder = gpu.record(&mut encoder);
            let y = recorder.relu(&x).unwrap();
            shared.push((recorder.read(&y).unwrap(), relu(values)));
        }
        second.submit().unwrap();
        app.queue.submit([encoder.finish()]);
        first.submit().unwrap();
        for (mut ticket, want) in shared.into_iter().rev() {
            same_bits("in one encoder", &ticket.wait(TIMEOUT).unwrap(), &want);
        }
        same_bits("first", &first_ticket.wait(TIMEOUT).unwrap(), &relu(&values[0]));
        same_bits("second", &second_ticket.wait(TIMEOUT).unwrap(), &relu(&values[1]));
    }
    // Each rejects the tensors of the other, but takes their buffers like the application's.
    let x = Tensor::from_slice(one, [3], &[1.0f32, -1.0, 2.0]).unwrap();
    assert!(matches!(two.batch().relu(&x), Err(Error::ForeignTensor { .. })));
    let passed = Tensor::<f32>::from_buffer(two, x.buffer().clone(), x.offset(), [3]).unwrap();
    assert_eq!(eval(two, |b| Ok([b.relu(&passed)?])), [[1.0, 0.0, 2.0]]);
    drop((x, passed));
    // One is dropped, the other still works.
    let [one, two] = gpus;
    drop(one);
    let (batch, mut ticket) = relu_of(&two, &values[0]);
    batch.submit().unwrap();
    same_bits("the one that stays", &ticket.wait(TIMEOUT).unwrap(), &relu(&values[0]));
    assert_eq!(app.uncaptured(), [""; 0]);
}

#[test]
fn from_tasks_of_tokio_with_nothing_but_await() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpu = Gpu::new(app.device.clone(), app.queue.clone()).unwrap();
    let task = |seed: u64, gpu: Gpu| async move {
        let values = random(seed, 2000, 1.0);
        for _ in 0..5 {
            let (batch, ticket) = relu_of(&gpu, &values);
            batch.submit()?;
            let want: Vec<f32> = values.iter().map(|x| x.max(0.0)).collect();
            same_bits("awaited", &ticket.await?, &want);
        }
        xent::Result::Ok(seed)
    };
    let on_one_thread = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let on_two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    app.polling(|| {
        for runtime in [on_one_thread, on_two] {
            runtime.block_on(async {
                let spawn = |seed| tokio::spawn(task(seed, gpu.clone()));
                let tasks: Vec<tokio::task::JoinHandle<xent::Result<u64>>> = (0..4).map(spawn).collect();
                for (seed, task) in (0..4).zip(tasks) {
                    assert_eq!(task.await.unwrap().unwrap(), seed);
                }
            });
        }
    });
}

/// If nobody polls the device, no value arrives, however often the future is polled, and whatever
/// else xent is called for meanwhile.
#[test]
fn a_future_is_pending_until_the_application_polls() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpu = Gpu::new(app.device.clone(), app.queue.clone()).unwrap();
    let (batch, ticket) = relu_of(&gpu, &[1.0, -1.0]);
    let done = Arc::new(AtomicBool::new(false));
    batch.submit().unwrap();
    let callback = done.clone();
    app.queue.on_submitted_work_done(move || callback.store(true, Ordering::Relaxed));
    let mut ticket = std::pin::pin!(ticket);
    let mut context = Context::from_waker(Waker::noop());
    // The device itself is done long before the last of these iterations.
    for _ in 0..50 {
        assert!(ticket.as_mut().poll(&mut context).is_pending(), "nobody has polled");
        let x = Tensor::from_slice(&gpu, [2], &[1.0f32, 2.0]).unwrap();
        let mut recorded = app.encoder();
        drop(gpu.record(&mut recorded).relu(&x).unwrap());
        drop((gpu.batch().relu(&x).unwrap(), x, gpu.counters(), recorded));
        gpu.trim();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!done.load(Ordering::Relaxed), "no callback of the application's ran");
    app.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert!(done.load(Ordering::Relaxed));
    let Poll::Ready(values) = ticket.as_mut().poll(&mut context) else { panic!("the application has polled") };
    assert_eq!(values.unwrap(), [1.0, 0.0]);
}

#[test]
fn the_applications_error_scopes_and_callbacks_are_its_own() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpu = Gpu::new(app.device.clone(), app.queue.clone()).unwrap();
    let use_xent = || {
        let (batch, mut ticket) = relu_of(&gpu, &[1.0, -1.0]);
        batch.submit().unwrap();
        assert_eq!(ticket.wait(TIMEOUT).unwrap(), [1.0, 0.0]);
    };
    let says_mistake = |error: &str| assert!(error.contains("the application's mistake"), "{error}");
    // Outside any scope, the application's handler gets each error once, before and after xent is
    // used.
    app.mistake();
    use_xent();
    app.mistake();
    let heard = app.uncaptured();
    assert_eq!(heard.len(), 2, "{heard:?}");
    heard.iter().for_each(|error| says_mistake(error));
    // The application's scopes get its own errors, before or after xent is used within them, and
    // none of xent's.
    for (before, after) in [(false, false), (true, false), (false, true)] {
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
            .map(|filter| app.device.push_error_scope(filter));
        if before {
            app.mistake();
        }
        use_xent();
        if after {
            app.mistake();
        }
        let [internal, memory, validation] = scopes;
        let got = pollster::block_on(validation.pop());
        assert_eq!(got.is_some(), before || after, "{got:?}");
        got.iter().for_each(|error| says_mistake(&error.to_string()));
        assert!(pollster::block_on(memory.pop()).is_none() && pollster::block_on(internal.pop()).is_none());
    }
    // If wgpu rejects a call of xent's, the error goes to xent, not to the application.
    let scope = app.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage: ALL, mapped_at_creation: true };
    let mapped = Tensor::<f32>::from_buffer(&gpu, app.device.create_buffer(&descriptor), 0, [16]).unwrap();
    let mut batch = gpu.batch();
    batch.relu(&mapped).unwrap();
    let refused = batch.submit();
    assert!(matches!(refused, Err(Error::Gpu { .. })), "{refused:?}");
    assert!(pollster::block_on(scope.pop()).is_none());
    assert_eq!(app.uncaptured(), [""; 0]);
    // The application's callback still runs when the device is lost.
    assert_eq!(app.lost.load(Ordering::Relaxed), 0);
    app.device.destroy();
    let _ = app.device.poll(wgpu::PollType::wait_indefinitely());
    assert_eq!(app.lost.load(Ordering::Relaxed), 1);
}

#[test]
fn a_buffer_of_another_device_is_refused_where_it_is_used() {
    let Some(shared) = gpu() else { return };
    let (_instance, adapter) = adapter_of(&shared);
    let [(device, queue), (other, _)] = [(); 2].map(|()| device_like(&shared, &adapter, |_| ()));
    let gpu = Gpu::new(device, queue).unwrap();
    let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage: ALL, mapped_at_creation: false };
    let foreign = Tensor::<f32>::from_buffer(&gpu, other.create_buffer(&descriptor), 0, [4]).unwrap();
    let refused = gpu.batch().relu(&foreign);
    assert!(matches!(refused, Err(Error::Gpu { .. })), "{refused:?}");
    let (batch, mut ticket) = relu_of(&gpu, &[1.0, -1.0]);
    batch.submit().unwrap();
    assert_eq!(ticket.wait(TIMEOUT).unwrap(), [1.0, 0.0]);
}

/// wgpu rejects the whole encoder: the application gets the reason, and no ticket returns the
/// values of an earlier readback.
#[test]
fn a_mistake_in_the_applications_encoder_gives_no_numbers() {
    let Some(_shared) = gpu() else { return };
    let app = Application::new();
    let gpu = Gpu::new(app.device.clone(), app.queue.clone()).unwrap();
    let x = Tensor::from_slice(&gpu, [2], &[1.0f32, -1.0]).unwrap();
    for before in [true, false, true] {
        // Leaves numbers in the memory that the next readback uses.
        let (batch, mut ticket) = relu_of(&gpu, &[7.0, 8.0]);
        batch.submit().unwrap();
        assert_eq!(ticket.wait(TIMEOUT).unwrap(), [7.0, 8.0]);

        let mut encoder = app.encoder();
        let mistake = |encoder: &mut wgpu::CommandEncoder| encoder.clear_buffer(&app.buffer, 2, Some(1));
        if before {
            mistake(&mut encoder);
        }
        let mut recorder = gpu.record(&mut encoder);
        let y = recorder.relu(&x).unwrap();
        let mut ticket = recorder.read(&y).unwrap();
        recorder.finish().unwrap();
        if !before {
            mistake(&mut encoder);
        }
        let scope = app.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let commands = encoder.finish();
        assert!(pollster::block_on(scope.pop()).is_some(), "the application's own scope hears of its mistake");
        app.queue.submit([commands]);
        let heard = app.uncaptured();
        assert_eq!(heard.len(), 1, "of the submission, as without xent: {heard:?}");
        let outcome = ticket.wait(TIMEOUT);
        assert!(matches!(outcome, Err(Error::NotSubmitted)), "{outcome:?}");
    }
    let (batch, mut ticket) = relu_of(&gpu, &[3.0, -4.0]);
    batch.submit().unwrap();
    assert_eq!(ticket.wait(TIMEOUT).unwrap(), [3.0, 0.0]);
    assert_eq!(app.uncaptured(), [""; 0]);
}

/// Waits that time out while other threads wait and submit: wgpu panics if a thread's wait times
/// out while another thread's poll empties the queue.
#[test]
fn short_waits_of_several_threads() {
    let Some(gpu) = gpu() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gpu = &gpu;
            scope.spawn(move || {
                for turn in 0..400 {
                    let value = (4 * turn + thread) as f32;
                    let (batch, mut ticket) = relu_of(gpu, &[value, -1.0]);
                    batch.submit().unwrap();
                    let start = std::time::Instant::now();
                    let values = loop {
                        match ticket.wait(Duration::from_micros(20)) {
                            Err(Error::Timeout(_)) if start.elapsed() < TIMEOUT => {}
                            values => break values.unwrap(),
                        }
                    };
                    assert_eq!(values, [value, 0.0]);
                }
            });
        }
    });
}
