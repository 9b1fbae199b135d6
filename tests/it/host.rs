//! The host side: the caller's encoders and buffers, tickets, counters, determinism.

use std::time::Duration;

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, Targets};
use xent::optim::{Momentum, Sgd};
use xent::wgpu;
use xent::{Error, Gpu, Layout, Tensor, cpu};

#[test]
fn scratch_of_a_recording_is_not_handed_out_before_it_is_submitted() {
    let Some(gpu) = gpu() else { return };
    let device = gpu.device();
    let encoder = || device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let x = Tensor::from_slice(&gpu, [4000], &random(1, 4000, 1.0)).unwrap();
    let y = Tensor::from_slice(&gpu, [4000], &random(2, 4000, 1.0)).unwrap();
    // The same kernels and the same scratch, but other parameters.
    let z = x.rows(0..3003).unwrap();
    let w = y.rows(0..3003).unwrap();
    let options = xent::loss::Mse::default();
    let [want_x, want_z] = eval(&gpu, |b| Ok([b.mse(&x, &y, &options)?, b.mse(&z, &w, &options)?]));

    // Recorded in one order and submitted in the other, with results dropped in between.
    let (mut first, mut second) = (encoder(), encoder());
    let mut recorder = gpu.record(&mut first);
    let loss = recorder.mse(&x, &y, &options).unwrap();
    let mut first_ticket = recorder.read(&loss).unwrap();
    drop((recorder, loss));
    let mut recorder = gpu.record(&mut second);
    let loss = recorder.mse(&z, &w, &options).unwrap();
    let mut second_ticket = recorder.read(&loss).unwrap();
    drop((recorder, loss));
    gpu.queue().submit([second.finish()]);
    gpu.queue().submit([first.finish()]);
    same_bits("first", &first_ticket.wait(TIMEOUT).unwrap(), &want_x);
    same_bits("second", &second_ticket.wait(TIMEOUT).unwrap(), &want_z);
}

#[test]
fn inputs_that_are_dropped_before_the_submission_are_not_overwritten() {
    let Some(gpu) = gpu() else { return };
    let data = random(1, 5000, 1.0);
    // The next uploads must not land in the dropped input's buffer, because uploads run before the
    // submitted work.
    let upload_more = || -> Vec<_> {
        (2..12).map(|seed| Tensor::from_slice(&gpu, [5000], &random(seed, 5000, 1.0)).unwrap()).collect()
    };
    let want: Vec<f32> = data.iter().map(|x| x.max(0.0)).collect();

    let mut batch = gpu.batch();
    let y = batch.relu(&Tensor::from_slice(&gpu, [5000], &data).unwrap()).unwrap();
    let mut ticket = batch.read(&y).unwrap();
    drop(y);
    let more = upload_more();
    batch.submit().unwrap();
    same_bits("batch", &ticket.wait(TIMEOUT).unwrap(), &want);
    drop(more);

    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut recorder = gpu.record(&mut encoder);
    let y = recorder.relu(&Tensor::from_slice(&gpu, [5000], &data).unwrap()).unwrap();
    let mut ticket = recorder.read(&y).unwrap();
    drop((recorder, y));
    let more = upload_more();
    gpu.queue().submit([encoder.finish()]);
    same_bits("the caller's encoder", &ticket.wait(TIMEOUT).unwrap(), &want);
    drop(more);
}

#[test]
fn tickets_can_be_awaited_dropped_and_outlive_their_batch() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&gpu, [3], &[1.0, -2.0, 3.0f32]).unwrap();
    let mut batch = gpu.batch();
    let y = batch.relu(&x).unwrap();
    drop(batch.read(&y).unwrap());
    let ticket = batch.read(&y).unwrap();
    let raw = batch.read(&x).unwrap();
    batch.submit().unwrap();
    drop(raw);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(pollster::block_on(ticket).unwrap(), [1.0, 0.0, 3.0]);

    let mut batch = gpu.batch();
    let mut ticket = batch.read(&x).unwrap();
    drop(batch);
    assert!(matches!(ticket.wait(TIMEOUT), Err(Error::NotSubmitted)));
    assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Taken)));

    let mut batch = gpu.batch();
    let mut ticket = batch.read(&x).unwrap();
    batch.submit().unwrap();
    assert_eq!(ticket.wait(TIMEOUT).unwrap(), [1.0, -2.0, 3.0]);
    assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Taken)));
}

#[test]
fn zeros_are_zero_in_new_memory_and_in_used() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    drop(shared);
    let len = 5_000_001;
    for round in 0..3 {
        let x = Tensor::<f32>::zeros(&gpu, [len]).unwrap();
        let [values] = eval(&gpu, |_| Ok([x.clone()]));
        assert!(values.len() == len && values.iter().all(|v| v.to_bits() == 0), "round {round}");
        x.write(&vec![f32::NAN; len]).unwrap();
        eval(&gpu, |_| Ok([x.rows(0..1)?]));
    }
    assert!(gpu.counters().buffers_created < 12, "the memory was used again: {:?}", gpu.counters());
}

#[test]
fn empty_and_scalar_tensors_come_back() {
    let Some(gpu) = gpu() else { return };
    let empty = Tensor::<f32>::from_slice(&gpu, [0, 7], &[]).unwrap();
    let scalar = Tensor::from_slice(&gpu, [], &[4.5f32]).unwrap();
    let [a, b] = eval(&gpu, |_| Ok([empty, scalar]));
    assert!(a.is_empty());
    assert_eq!(b, [4.5]);
}

/// A small network and its training step, as an application would write them.
struct Model {
    x: Tensor<f32>,
    y: Targets,
    parameters: xent::optim::Parameters,
    momentum: Momentum,
}

impl Model {
    fn new(gpu: &Gpu) -> Self {
        let parameters = xent::optim::Parameters::new(
            gpu,
            &[
                ("0.weight", [16, 9].into(), &random(1, 144, 0.5)),
                ("0.bias", [16].into(), &[0.0; 16]),
                ("1.weight", [5, 16].into(), &random(2, 80, 0.5)),
                ("1.bias", [5].into(), &[0.0; 5]),
            ],
        )
        .unwrap();
        let momentum = Momentum::new(gpu, parameters.values().shape().clone()).unwrap();
        let x = Tensor::from_slice(gpu, [33, 9], &random(3, 33 * 9, 1.0)).unwrap();
        let y = Targets::new(gpu, [33], &labels(4, 33, 5), 5).unwrap();
        Self { x, y, parameters, momentum }
    }

    fn step(&mut self, b: &mut xent::Batch) -> xent::Result<Tensor<f32>> {
        let p = &self.parameters;
        let hidden = b.matmul(Layout::Nt, &self.x, &p.value("0.weight")?, Some(&p.value("0.bias")?))?;
        let active = b.relu(&hidden)?;
        let logits = b.matmul(Layout::Nt, &active, &p.value("1.weight")?, Some(&p.value("1.bias")?))?;
        let loss = b.cross_entropy_with(&logits, &self.y, &CrossEntropy::default(), Grad::InPlace)?.loss;
        b.matmul_into(Layout::Tn, &logits, &active, None, &p.grad("1.weight")?)?;
        b.column_sum_into(&logits, &p.grad("1.bias")?)?;
        let upstream = b.matmul(Layout::Nn, &logits, &p.value("1.weight")?, None)?;
        let upstream = b.relu_backward(&active, &upstream)?;
        b.matmul_into(Layout::Tn, &upstream, &self.x, None, &p.grad("0.weight")?)?;
        b.column_sum_into(&upstream, &p.grad("0.bias")?)?;
        let sgd = Sgd::new().lr(0.1).momentum(0.9);
        b.sgd(p.values(), p.grads(), Some(&mut self.momentum), &sgd)?;
        Ok(loss)
    }
}

#[test]
fn a_training_step_is_one_submission_and_creates_no_buffers_after_the_first() {
    let Some(gpu) = gpu() else { return };
    let mut model = Model::new(&gpu);
    let mut losses = Vec::new();
    for step in 0..120 {
        let before = gpu.counters();
        let mut batch = gpu.batch();
        let loss = model.step(&mut batch).unwrap();
        let mut loss = batch.read(&loss).unwrap();
        batch.submit().unwrap();
        let after = gpu.counters();
        assert_eq!(after.submissions, before.submissions + 1, "step {step}");
        if step > 0 {
            assert_eq!(after.buffers_created, before.buffers_created, "step {step}");
        }
        losses.push(loss.wait(TIMEOUT).unwrap()[0]);
    }
    assert!(losses[119] < 0.5 * losses[0], "it learns: {losses:?}");
}

#[test]
fn training_repeats_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let run = || {
            let mut model = Model::new(&gpu);
            for _ in 0..20 {
                let mut batch = gpu.batch();
                model.step(&mut batch).unwrap();
                batch.submit().unwrap();
            }
            let [values, velocity] =
                eval(&gpu, |_| Ok([model.parameters.values().clone(), model.momentum.velocity().clone()]));
            (values, velocity)
        };
        let (a, b) = (run(), run());
        same_bits("parameters", &a.0, &b.0);
        same_bits("velocity", &a.1, &b.1);
    }
}

#[test]
fn profiles_have_a_time_for_every_dispatch() {
    let Some(gpu) = gpu() else { return };
    if !gpu.device().features().contains(xent::wgpu::Features::TIMESTAMP_QUERY) {
        assert!(matches!(gpu.batch().profile(), Err(Error::NoTimestamps)));
        return;
    }
    let x = Tensor::from_slice(&gpu, [300, 300], &random(1, 90_000, 1.0)).unwrap();
    let mut batch = gpu.batch();
    batch.relu(&x).unwrap();
    batch.profile().unwrap();
    let before = gpu.counters().dispatches;
    let product = batch.matmul(Layout::Nn, &x, &x, None).unwrap();
    batch.relu(&product).unwrap();
    let recorded = gpu.counters().dispatches - before;
    let mut times = batch.times().unwrap();
    batch.relu(&product).unwrap();
    // Nothing is timed without a call to `profile`.
    let mut none = batch.times().unwrap();
    let start = std::time::Instant::now();
    batch.submit().unwrap();
    let times = times.wait(TIMEOUT).unwrap();
    let wall = start.elapsed();
    assert!(none.wait(TIMEOUT).unwrap().is_empty());
    let labels: Vec<_> = times.iter().map(|time| time.label).collect();
    assert_eq!(labels.len() as u64, recorded);
    assert!(labels[0].starts_with("xent.matmul") && labels.last() == Some(&"xent.relu"), "{labels:?}");
    let sum: Duration = times.iter().map(|time| time.time).sum();
    assert!(sum > Duration::ZERO && sum <= wall, "{sum:?} of {wall:?}");
}

/// Later work of a recording reuses the memory of dropped outputs, in the order of the recording,
/// but not the memory of outputs that are kept.
#[test]
fn a_recording_uses_dropped_outputs_again() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    drop(shared);
    let values = random(1, 1 << 16, 2.0);
    let x = Tensor::from_slice(&gpu, [values.len()], &values).unwrap();
    let mut batch = gpu.batch();
    let kept = batch.sigmoid(&x).unwrap();
    gpu.reset_peak();
    let before = gpu.counters().bytes_in_use;
    let (mut y, mut first) = (batch.relu(&x).unwrap(), None);
    for i in 0..20 {
        if i == 1 {
            first = Some(batch.read(&y).unwrap());
        }
        y = batch.sigmoid(&y).unwrap();
    }
    let peak = gpu.counters().peak_bytes - before;
    let (mut kept, mut last) = (batch.read(&kept).unwrap(), batch.read(&y).unwrap());
    batch.submit().unwrap();
    let sigmoid = |values: &[f32]| cpu::sigmoid(values).iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let near = |what: &str, got: &[f32], want: &[f32]| {
        let want: Vec<f64> = want.iter().map(|&v| v.into()).collect();
        close(what, got, &want, 1e-6, 0.0);
    };
    near("kept", &kept.wait(TIMEOUT).unwrap(), &sigmoid(&values));
    let mut want: Vec<f32> = values.iter().map(|v| v.max(0.0)).collect();
    want = sigmoid(&want);
    near("read before it was written again", &first.unwrap().wait(TIMEOUT).unwrap(), &want);
    (1..20).for_each(|_| want = sigmoid(&want));
    near("last", &last.wait(TIMEOUT).unwrap(), &want);
    // Two outputs that alternate, and the copy for the one ticket.
    assert!(peak <= 16 << 16, "{peak} bytes");
}
