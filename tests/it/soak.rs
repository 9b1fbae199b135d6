//! A long training: its memory and its number of objects stay constant, and its losses equal those
//! of short trainings.
//!
//! It runs in a process of its own, because memory is counted per process. It takes 2000 steps, or
//! `XENT_SOAK_STEPS`.

use std::hint::black_box;
use std::process::{Command, Stdio};

use crate::common::*;
use xent::loss::Targets;
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Schedule, Sgd};
use xent::state::State;
use xent::{Gpu, Tensor, wgpu};

const STEPS: &str = "XENT_SOAK_STEPS";
/// Set for the process that does the work.
const INNER: &str = "XENT_SOAK_INNER";
/// The number of steps between two readbacks of the loss.
const LOOK: u64 = 25;
/// The number of bytes by which the process's memory may grow from the first quarter to the last,
/// because allocators keep free memory, and a driver's threads start at any time. A leak of 7 bytes
/// a step exceeds it after 200 000 steps, a leak of 700 bytes after 2000.
const SLACK: u64 = 1 << 20;
/// The number of steps of a short training.
const SHORT: u64 = 1000;
const ROWS: usize = 16;
const INPUTS: usize = 12;
const CLASSES: usize = 5;

#[test]
fn a_long_training_takes_no_more_in_its_last_quarter_than_in_its_first() {
    if std::env::var_os(INNER).is_some() {
        return soak();
    }
    // The test's own name: its module's path within the binary.
    let name = "soak::a_long_training_takes_no_more_in_its_last_quarter_than_in_its_first";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INNER, "1")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The memory and objects in use while the device is idle.
#[derive(Clone, Debug, PartialEq)]
struct Usage {
    /// The engine's counters.
    engine: [(&'static str, u64); 3],
    /// The number of live wgpu objects of each kind.
    objects: Vec<(&'static str, usize)>,
    /// The number of allocations of device memory, and their bytes, if the backend counts them.
    device: Option<(usize, u64)>,
}

impl Usage {
    fn now(gpu: &Gpu, instance: Option<&wgpu::Instance>) -> Self {
        let counters = gpu.counters();
        let report = instance.and_then(wgpu::Instance::generate_report);
        let objects = report.iter().map(|report| report.hub_report()).flat_map(|hub| {
            [
                ("buffers", &hub.buffers),
                ("bind groups", &hub.bind_groups),
                ("bind group layouts", &hub.bind_group_layouts),
                ("pipeline layouts", &hub.pipeline_layouts),
                ("pipelines", &hub.compute_pipelines),
                ("shader modules", &hub.shader_modules),
                ("encoders", &hub.command_encoders),
                ("command buffers", &hub.command_buffers),
                ("passes", &hub.compute_passes),
                ("query sets", &hub.query_sets),
                ("devices", &hub.devices),
            ]
            .map(|(kind, objects)| (kind, objects.num_kept_from_user))
        });
        let device = gpu.device().generate_allocator_report();
        Self {
            engine: [
                ("bytes in use", counters.bytes_in_use),
                ("buffers created", counters.buffers_created),
                ("kernels compiled", counters.kernels_compiled),
            ],
            objects: objects.collect(),
            device: device.map(|device| (device.allocations.len(), device.total_allocated_bytes)),
        }
    }
}

/// Returns the resident bytes of this process.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? << 10)
}

/// Returns a device like the shared one, without other handles to it, and the instance that counts
/// its objects (`None` if the device is not wgpu's).
fn another(like: &Gpu) -> (Gpu, Option<wgpu::Instance>) {
    if like.device().adapter_info().backend == wgpu::Backend::BrowserWebGpu {
        return (adapter().unwrap(), None);
    }
    let (instance, adapter) = adapter_of(like);
    let (device, queue) = device_like(like, &adapter, |_| ());
    (Gpu::new(device, queue).unwrap(), Some(instance))
}

fn network(gpu: &Gpu) -> Training {
    let network = Sequential::new().linear(INPUTS, 24).relu().linear(24, CLASSES);
    let options = Optimization {
        sgd: Sgd::new().lr(0.05).momentum(0.9).weight_decay(1e-4),
        schedule: Schedule::Step { every: 50_000, factor: 0.5 },
        clip_norm: Some(1.0),
        skip_non_finite: true,
        ..Optimization::default()
    };
    Training::new(Model::new(gpu, &network, 1).unwrap(), vec![Loss::cross_entropy()], options).unwrap()
}

/// Runs one step on a fresh mini-batch. If `look`, waits for the device and returns the loss.
fn step(gpu: &Gpu, training: &mut Training, k: u64, look: bool) -> Option<f32> {
    let values = random(k, ROWS * INPUTS, 1.0);
    // The class is the index of the largest of the first inputs; every tenth row has a random
    // class.
    let mut classes = labels(!k, ROWS, 10 * CLASSES);
    for (class, row) in classes.iter_mut().zip(values.chunks(INPUTS)) {
        if *class >= CLASSES as i64 {
            *class = (0..CLASSES).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as i64;
        }
    }
    let x = Tensor::zeros(gpu, [ROWS, INPUTS]).unwrap();
    let y = Targets::new(gpu, [ROWS], &classes, CLASSES).unwrap();
    let mut batch = gpu.batch();
    batch.upload(&x, &values).unwrap();
    let out = training.step(&mut batch, &x, &[(&y).into()]).unwrap();
    let ticket = look.then(|| batch.read(&out.losses[0]).unwrap());
    batch.submit().unwrap();
    ticket.map(|mut ticket| ticket.wait(TIMEOUT).unwrap()[0])
}

fn checkpoint(gpu: &Gpu, training: &Training) -> State {
    let mut batch = gpu.batch();
    let mut state = training.checkpoint(&mut batch).unwrap();
    batch.submit().unwrap();
    state.wait(TIMEOUT).unwrap()
}

/// Runs the steps of `range`. Returns the loss of every `LOOK`th step, and calls `after` after each
/// of these.
fn train(
    gpu: &Gpu,
    training: &mut Training,
    range: std::ops::Range<u64>,
    mut after: impl FnMut(u64, &Training),
) -> Vec<f32> {
    // Written now, so that the vector's own pages do not count as growth later.
    let mut losses = vec![f32::NAN; usize::try_from((range.end - range.start) / LOOK).unwrap()];
    for (loss, end) in losses.iter_mut().zip((range.start + LOOK..).step_by(LOOK as usize)) {
        (end - LOOK..end - 1).for_each(|k| assert_eq!(step(gpu, training, k, false), None));
        *loss = step(gpu, training, end - 1, true).unwrap();
        after(end, training);
    }
    losses
}

fn soak() {
    let Some(shared) = gpu() else { return };
    let steps: u64 = std::env::var(STEPS).map_or(2 * SHORT, |steps| steps.parse().expect(STEPS));
    assert!(steps >= 2 * SHORT && steps.is_multiple_of(4 * LOOK), "{STEPS}: 2000 or more, a multiple of 100");
    let (gpu, instance) = another(&shared);
    let mut training = network(&gpu);

    // An upload's memory is free again after the device's copy, so the number of uploads in flight
    // between two readbacks depends on the device's speed. Therefore allocate memory for the
    // largest possible number before anything is counted.
    let x = Tensor::zeros(&gpu, [ROWS, INPUTS]).unwrap();
    let mut batch = gpu.batch();
    (0..LOOK).for_each(|_| batch.upload(&x, &[0.0; ROWS * INPUTS]).unwrap());
    let mut ticket = batch.read(&x).unwrap();
    batch.submit().unwrap();
    ticket.wait(TIMEOUT).unwrap();
    drop((x, ticket));

    let (mut first, mut middle, mut memory) = (None, None, vec![None; usize::try_from(steps / LOOK).unwrap()]);
    let losses = train(&gpu, &mut training, 0..steps, |end, training| {
        // The first checkpoint makes the memory of a checkpoint count from the start.
        if end == LOOK || end == steps - SHORT {
            middle = Some(checkpoint(&gpu, training));
        }
        if end == LOOK {
            fill_holes();
        }
        let usage = Usage::now(&gpu, instance.as_ref());
        memory[(end / LOOK) as usize - 1] = resident();
        let first = first.get_or_insert_with(|| usage.clone());
        // The usage does not depend on time, because the device has finished all work.
        assert_eq!(usage, *first, "after step {end}, against step {LOOK}");
    });
    say(&format!("soak: {steps} steps, from step {LOOK} to the end {:?}", first.unwrap()));
    flat(&memory, steps);

    let quarter = losses.len() / 4;
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (early, late) = (mean(&losses[..4]), mean(&losses[3 * quarter..]));
    say(&format!("soak: a loss of {early} at first, {late} in the last quarter"));
    assert!(late < 0.8 * early, "it learns");

    // New devices must reach the same losses: the first from a fresh start, the last from a
    // checkpoint.
    let short = usize::try_from(SHORT / LOOK).unwrap();
    let (fresh, _instance) = another(&shared);
    same_bits("the first losses", &train(&fresh, &mut network(&fresh), 0..SHORT, |_, _| ()), &losses[..short]);
    let (fresh, _instance) = another(&shared);
    let mut resumed = network(&fresh);
    resumed.resume(&middle.unwrap()).unwrap();
    let last = train(&fresh, &mut resumed, steps - SHORT..steps, |_, _| ());
    same_bits("the last losses", &last, &losses[losses.len() - short..]);
    assert_eq!(checkpoint(&fresh, &resumed), checkpoint(&gpu, &training));
}

/// Leaks all memory that the allocator keeps free. Compilers leave tens of megabytes of resident
/// free memory, which a leak would fill before the process grew.
fn fill_holes() {
    for size in [1 << 14, 1 << 11, 1 << 8, 1 << 5] {
        let before = resident();
        while resident().zip(before).is_some_and(|(now, before)| now < before + SLACK / 2) {
            (0..(1 << 16) / size).for_each(|_| _ = black_box(black_box(vec![1u8; size]).leak()));
        }
    }
}

/// Checks that the process's median memory in the last quarter is at most `SLACK` above that in the
/// first quarter.
fn flat(memory: &[Option<u64>], steps: u64) {
    let Some(memory) = memory.iter().copied().collect::<Option<Vec<u64>>>() else {
        assert_ne!(std::env::consts::OS, "linux", "it says how large a process is");
        return say("soak: the process's memory is not looked at, which is done on Linux only");
    };
    let middle = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    let eighths: Vec<u64> = memory.chunks_exact(memory.len() / 8).map(|eighth| middle(eighth) >> 10).collect();
    say(&format!("soak: resident KiB, the middle value of each eighth: {eighths:?}"));
    let quarter = memory.len() / 4;
    let (first, last) = (middle(&memory[..quarter]), middle(&memory[3 * quarter..]));
    assert!(last <= first + SLACK, "{steps} steps: {first} resident bytes in the first quarter, {last} in the last");
}
