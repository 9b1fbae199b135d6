//! Sizes whose loops would exceed the driver's budget of turns, and the budget itself.

use crate::common::*;
use xent::linear::{LinearCrossEntropy, LinearLossRequest};
use xent::loss::{CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::metrics::Evaluation;
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Sgd};
use xent::wgpu::util::DeviceExt as _;
use xent::{Caps, Gpu, Layout, Tensor, Weights, cpu, wgpu};

fn sum() -> CrossEntropy {
    CrossEntropy::new().reduction(Reduction::Sum)
}

/// Returns logits, uniform in +-10.
fn logits(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| 20.0 * rng.f32() - 10.0).collect()
}

/// Iterates over each family with each number of classes.
fn rows<'a>(gpu: &Gpu, classes: &'a [usize]) -> impl Iterator<Item = (Gpu, usize)> + use<'a> {
    families(gpu).into_iter().flat_map(move |gpu| classes.iter().map(move |&classes| (gpu.clone(), classes)))
}

/// Two consecutive loops of a bare shader make all the turns that the planner assumes. A driver
/// that ends loops earlier, as llvmpipe does at turn 65 536, would return wrong numbers without an
/// error.
#[test]
fn driver_allows_the_assumed_turns() {
    let Some(gpu) = gpu() else { return };
    let turns = gpu.caps().max_turns;
    let shader = "
        @group(0) @binding(0) var<storage, read> turns: array<u32>;
        @group(0) @binding(1) var<storage, read_write> made: array<u32>;
        @compute @workgroup_size(1)
        fn main() {
            var state = 1u;
            var count = 0u;
            for (var i = 0u; i < turns[0]; i++) { state = state * 1664525u + 1013904223u; count += 1u; }
            for (var i = 0u; i < turns[1]; i++) { state = (state ^ (state >> 7u)) * 22695477u; count += 1u; }
            made[0] = count;
            made[1] = state;
        }";
    let device = gpu.device();
    let pipeline = pipeline_of(device, shader);
    // The end of a loop counts as a turn, unless nothing follows.
    let parts = [turns / 3, turns - turns / 3 - 1];
    let contents = [parts[0].to_le_bytes(), parts[1].to_le_bytes()].concat();
    let usage = wgpu::BufferUsages::STORAGE;
    let input =
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents: &contents, usage });
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let output =
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[&input, &output]
            .map(wgpu::Buffer::as_entire_binding)
            .into_iter()
            .zip(0..)
            .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
            .collect::<Vec<_>>(),
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    let made = Tensor::<u32>::from_buffer(&gpu, output, 0, [2]).unwrap();
    let mut ticket = gpu.record(&mut encoder).read(&made).unwrap();
    gpu.queue().submit([encoder.finish()]);
    let state = (0..parts[0]).fold(1u32, |state, _| state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let state = (0..parts[1]).fold(state, |state, _| (state ^ (state >> 7)).wrapping_mul(22_695_477));
    assert_eq!(ticket.wait(TIMEOUT).unwrap(), [turns - 1, state]);
}

#[test]
fn products_of_many_summands() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for k in [131_069, 262_138, 300_001] {
            let ones = Tensor::from_slice(&gpu, [k], &vec![1.0f32; k]).unwrap();
            let (row, column) = (ones.reshape([1, k]).unwrap(), ones.reshape([k, 1]).unwrap());
            let products = eval(&gpu, |b| {
                Ok([
                    b.matmul(Layout::Nt, &row, &row, None)?,
                    b.matmul(Layout::Nn, &row, &column, None)?,
                    b.matmul(Layout::Tn, &column, &column, None)?,
                    b.column_sum(&column)?,
                ])
            });
            assert!(products.iter().all(|product| *product == [k as f32]), "{k}: {products:?}");
        }
    }
}

/// A batch of 200 000 rows in one step.
#[test]
fn a_step_of_many_rows() {
    let Some(gpu) = gpu() else { return };
    let n = 200_000;
    let x: Vec<f32> =
        (0..n).flat_map(|i| [if i % 2 == 1 { 1.0 } else { -0.5 }, if i < n / 2 { 0.25 } else { -1.0 }]).collect();
    let labels: Vec<i64> = (0..n as i64).map(|i| i % 2).collect();
    for gpu in families(&gpu) {
        let layers = Sequential::new().layer(Linear::new(2, 2).with_values(&[0.0; 4], &[0.0; 2]));
        let model = Model::new(&gpu, &layers, 1).unwrap();
        let optimization = Optimization { sgd: Sgd::new().lr(1.0), ..Optimization::default() };
        let mut training = Training::new(model, vec![Loss::cross_entropy()], optimization).unwrap();
        let x = Tensor::from_slice(&gpu, [n, 2], &x).unwrap();
        let y = Targets::new(&gpu, [n], &labels, 2).unwrap();
        let [weight] = eval(&gpu, |b| {
            training.step(b, &x, &[(&y).into()])?;
            Ok([training.model().parameters().value("0.weight")?])
        });
        // Each class has half of the rows; x0 is 1 in one class and -1/2 in the other: (1 + 1/2) /
        // 4.
        let expected = [-0.375, 0.0, 0.375, 0.0];
        close("weight", &weight, &expected, 1e-6, 1e-7);
    }
}

#[test]
fn smoothed_losses_of_long_rows() {
    let Some(gpu) = gpu() else { return };
    let smoothed = sum().label_smoothing(0.5);
    for (gpu, classes) in rows(&gpu, &[102_273, 152_459]) {
        let x = Tensor::<f32>::zeros(&gpu, [1, classes]).unwrap();
        let y = Targets::new(&gpu, [1], &[classes as i64 - 1], classes).unwrap();
        let [grad, with_statistics, entropy] = eval(&gpu, |b| {
            let grad = b.cross_entropy_with(&x, &y, &smoothed, Grad::New)?.gradient()?;
            let request = LossRequest::new().grad(Grad::New).statistics();
            let out = b.cross_entropy_with(&x, &y, &smoothed, request)?;
            Ok([grad, out.gradient()?, out.statistics.expect("asked for").entropy])
        });
        let each = 1.0 / classes as f64;
        let mut expected = vec![0.5 * each; classes];
        *expected.last_mut().unwrap() = 0.5 * each - 0.5;
        close(&format!("{classes}"), &grad, &expected, 1e-6, 1e-12);
        same_bits("with statistics", &grad, &with_statistics);
        close("entropy", &entropy, &[(classes as f64).ln()], 1e-6, 0.0);
    }
    for (gpu, classes) in rows(&gpu, &[2_200_000]) {
        let smoothed = sum().label_smoothing(0.1);
        let values = logits(1, classes);
        let x = Tensor::from_slice(&gpu, [1, classes], &values).unwrap();
        let y = Targets::new(&gpu, [1], &[77i64], classes).unwrap();
        let [loss] = eval(&gpu, |b| Ok([b.cross_entropy(&x, &y, &smoothed)?]));
        let want = cpu::cross_entropy((&values, &[1, classes]), &[77i64], &smoothed).unwrap();
        close("loss", &loss, &want, 1e-6, 0.0);
    }
}

#[test]
fn statistics_of_a_long_row() {
    let Some(gpu) = gpu() else { return };
    for (gpu, classes) in rows(&gpu, &[400_000]) {
        let mut values = logits(2, classes);
        values[classes - 2] = 11.0;
        let x = Tensor::from_slice(&gpu, [1, classes], &values).unwrap();
        let y = Targets::new(&gpu, [1], &[5i64], classes).unwrap();
        let request = LossRequest::new().statistics();
        let mut batch = gpu.batch();
        let out = batch.cross_entropy_with(&x, &y, &sum(), request).unwrap().statistics.unwrap();
        let mut predicted = batch.read(&out.predicted).unwrap();
        let mut entropy = batch.read(&out.entropy).unwrap();
        batch.submit().unwrap();
        let want = cpu::cross_entropy_statistics((&values, &[1, classes]), &[5i64], &sum()).unwrap();
        assert_eq!(predicted.wait(TIMEOUT).unwrap(), [classes as i32 - 2]);
        close("entropy", &entropy.wait(TIMEOUT).unwrap(), &want.entropy, 1e-6, 0.0);
    }
}

#[test]
fn gradients_of_long_rows() {
    let Some(gpu) = gpu() else { return };
    for (gpu, classes) in rows(&gpu, &[1_200_000]) {
        let capped = sum().softcap(8.0);
        let values = logits(3, classes);
        let x = Tensor::from_slice(&gpu, [1, classes], &values).unwrap();
        let y = Targets::new(&gpu, [1], &[classes as i64 / 2], classes).unwrap();
        let [grad] = eval(&gpu, |b| Ok([b.cross_entropy_with(&x, &y, &capped, Grad::New)?.gradient()?]));
        let index = [classes as i64 / 2];
        let want = cpu::cross_entropy_backward((&values, &[1, classes]), &index, &capped, None).unwrap();
        close("capped", &grad, &want.grad, 1e-5, 1e-12);
    }
}

/// A row of nine million classes, through every operation on rows.
#[test]
fn the_longest_rows() {
    let Some(gpu) = gpu() else { return };
    let classes = if sweeps_in_full() { 9_000_000 } else { 2_500_000 };
    let values = logits(4, classes);
    let target = [classes as i64 - 3];
    for gpu in families(&gpu) {
        let x = Tensor::from_slice(&gpu, [1, classes], &values).unwrap();
        let y = Targets::new(&gpu, [1], &target, classes).unwrap();
        let smoothed = sum().label_smoothing(0.1);
        let [loss, smooth_grad, softmax, log_probs, nll, nll_grad, nll_alone] = eval(&gpu, |b| {
            let log_probs = b.log_softmax(&x, 1)?;
            let nll = b.nll_with(&log_probs, &y, &Nll::default(), Grad::New)?;
            Ok([
                b.cross_entropy(&x, &y, &sum())?,
                b.cross_entropy_with(&x, &y, &smoothed, Grad::New)?.gradient()?,
                b.softmax(&x, 1)?,
                log_probs.clone(),
                nll.loss.clone(),
                nll.gradient()?,
                b.nll(&log_probs, &y, &Nll::default())?,
            ])
        });
        let shape = [1, classes];
        let want = cpu::log_softmax((&values, &shape), 1).unwrap();
        let of_target = want[target[0] as usize];
        close("loss", &loss, &[-of_target], 1e-6, 0.0);
        close("log-softmax", &log_probs, &want, 1e-6, 0.0);
        close("nll", &nll, &[-of_target], 1e-6, 0.0);
        same_bits("nll alone", &nll_alone, &nll);
        assert_eq!(nll_grad[target[0] as usize], -1.0);
        assert_eq!(nll_grad.iter().filter(|&&g| g != 0.0).count(), 1);
        close("softmax", &softmax, &want.iter().map(|y| y.exp()).collect::<Vec<_>>(), 2e-6, 1e-12);
        let want = cpu::cross_entropy_backward((&values, &shape), &target, &smoothed, None).unwrap();
        close("smoothed", &smooth_grad, &want.grad, 1e-5, 1e-13);
        let upstream: Vec<f32> = values.iter().map(|v| v * 0.125 + 1.0).collect();
        let g = Tensor::from_slice(&gpu, [1, classes], &upstream).unwrap();
        let y = Tensor::from_slice(&gpu, [1, classes], &softmax).unwrap();
        let [back] = eval(&gpu, |b| Ok([b.softmax_backward(&y, &g, 1)?]));
        let want = cpu::softmax_backward((&softmax, &shape), &upstream, 1).unwrap();
        close("softmax backward", &back, &want, 1e-4, 1e-11);
    }
}

/// Long rows with the smallest and the largest budget of turns: every option of a row loss, and all
/// other operations on rows. (Rows that fit the smallest bindings are in `limits`.)
#[test]
fn short_loops_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let (n, classes) = (3, 30_011);
    let (values, q) = (logits(7, n * classes), unit(8, n * classes));
    let weight = Some(Weights::new([classes], &unit(9, classes)).unwrap());
    let index = [5, classes as i64 - 1, 12_345];
    let cases = [
        (CrossEntropy::default(), false),
        (CrossEntropy::new().weight(weight.clone()).label_smoothing(0.1).z_loss(0.1), false),
        (CrossEntropy::new().softcap(5.0).logit_scale(0.5), false),
        (CrossEntropy::new().weight(weight).reduction(Reduction::Sum), true),
    ];
    let run = |gpu: &Gpu, (options, soft): &(CrossEntropy, bool), statistics| {
        let x = Tensor::from_slice(gpu, [n, classes], &values).unwrap();
        let y = Targets::new(gpu, [n], &index, classes).unwrap();
        let q = Tensor::from_slice(gpu, [n, classes], &q).unwrap();
        let targets: Targets = if *soft { (&q).into() } else { (&y).into() };
        let mut outputs = eval(gpu, |b| {
            let request = LossRequest::new().grad(Grad::New);
            let request = if statistics { request.statistics() } else { request };
            let out = b.cross_entropy_with(&x, &targets, options, request)?;
            let statistics = out.statistics.as_ref();
            let entropy = statistics.map_or_else(|| out.loss.clone(), |statistics| statistics.entropy.clone());
            let loss = b.cross_entropy(&x, &targets, options)?;
            Ok([out.loss.clone(), out.gradient()?, entropy, loss])
        })
        .to_vec();
        outputs.extend(eval(gpu, |b| Ok([b.cross_entropy_with(&x, targets, options, Grad::InPlace)?.loss, x.clone()])));
        outputs
    };
    let maps = |gpu: &Gpu| {
        let x = Tensor::from_slice(gpu, [n, classes], &values).unwrap();
        let g = Tensor::from_slice(gpu, [n, classes], &q).unwrap();
        let narrow = Tensor::from_slice(gpu, [n, 1], &unit(3, n)).unwrap();
        eval(gpu, |b| {
            let (softmax, log_softmax) = (b.softmax(&x, 1)?, b.log_softmax(&x, 1)?);
            let along = b.softmax(&x.reshape([classes, n])?, 0)?;
            Ok([
                b.softmax_backward(&softmax, &g, 1)?,
                b.log_softmax_backward(&log_softmax, &g, 1)?,
                b.mse_with(&narrow, &g, &Mse::new().broadcast(true), Grad::New)?.gradient()?,
                softmax,
                log_softmax,
                along,
            ])
        })
    };
    let (mut family_chosen, mut chosen) = (one_in(2), one_in(31));
    for gpu in families(&gpu).into_iter().filter(|_| family_chosen()) {
        let short = gpu.with_caps(Caps { max_turns: Caps::MIN_TURNS, ..gpu.caps().clone() }).unwrap();
        for (i, case) in cases.iter().enumerate().filter(|_| chosen()) {
            for statistics in [false, true] {
                let [long, short] = [&gpu, &short].map(|gpu| run(gpu, case, statistics));
                let what = |k| format!("case {i}, statistics {statistics}, output {k}, {:?}", gpu.caps().family);
                long.iter().zip(&short).enumerate().for_each(|(k, (a, b))| same_bits(&what(k), a, b));
            }
        }
        let [long, short] = [&gpu, &short].map(maps);
        long.iter().zip(&short).for_each(|(a, b)| same_bits("maps", a, b));
    }
}

/// Infinite gradients stay infinite in long sums.
#[test]
fn infinite_summands_of_many_tokens() {
    let Some(gpu) = gpu() else { return };
    let (n, classes) = (9000, 3);
    let loss = CrossEntropy::new().reduction(Reduction::None);
    let options = LinearCrossEntropy::new().loss(loss).scratch(1 << 14);
    let mut upstream = vec![1.0f32; n];
    upstream[4000] = f32::INFINITY;
    for gpu in families(&gpu) {
        let x = Tensor::from_slice(&gpu, [n, 1], &vec![0.5f32; n]).unwrap();
        let w = Tensor::from_slice(&gpu, [classes, 1], &[0.1f32, 0.2, 0.3]).unwrap();
        let bias = Tensor::<f32>::zeros(&gpu, [classes]).unwrap();
        let y = Targets::new(&gpu, [n], &vec![1u8; n], classes).unwrap();
        let upstream = Tensor::from_slice(&gpu, [n], &upstream).unwrap();
        let [weight, bias] = eval(&gpu, |b| {
            let request = LinearLossRequest::gradients().upstream(&upstream);
            let grads = b.linear_cross_entropy_with(&x, &w, Some(&bias), &y, &options, request)?;
            Ok([grads.weight_grad.unwrap(), grads.bias_grad.unwrap()])
        });
        assert_eq!([weight, bias], [[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]].map(|v| v.map(|v| v * f32::INFINITY).to_vec()));
    }
}

/// Ranks among thousands of classes, with many rows per workgroup.
#[test]
fn an_evaluation_of_many_classes() {
    let Some(gpu) = gpu() else { return };
    let (n, classes) = (1100, 2000);
    let values = logits(5, n * classes);
    let index = labels(6, n, classes);
    for gpu in families(&gpu) {
        let x = Tensor::from_slice(&gpu, [n, classes], &values).unwrap();
        let y = Targets::new(&gpu, [n], &index, classes).unwrap();
        let mut evaluation = Evaluation::new(&gpu, classes).unwrap();
        let mut batch = gpu.batch();
        evaluation.record(&mut batch, &x, &y, None).unwrap();
        let mut scores = evaluation.read(&mut batch).unwrap();
        batch.submit().unwrap();
        let scores = scores.wait(TIMEOUT).unwrap();
        for k in [1, 10, 100, 1000, 1900] {
            let right = values.chunks(classes).zip(&index).filter(|(row, t)| {
                let t = **t as usize;
                let above = |(c, &x): (usize, &f32)| x > row[t] || (x == row[t] && c > t);
                row.iter().enumerate().filter(|&other| above(other)).count() < k
            });
            assert_eq!(scores.top_k_accuracy(k), right.count() as f64 / n as f64, "top {k}");
        }
    }
}

/// The gradients of a linear layer: sums over 100 000 tokens, a few at a time.
#[test]
fn a_layer_of_many_tokens() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(2);
    let (n, inputs, classes) = (100_000, 2, 3);
    // Nearly equal rows, so that all additions to a long sum round in the same direction.
    let hidden: Vec<f32> = random(1, n * inputs, 1e-3).iter().map(|v| 1.1 + v).collect();
    let weight = [0.3, -0.2, 0.1, 0.4, -0.5, 0.2f32];
    let index: Vec<i64> = (0..n as i64).map(|i| i % 2).collect();
    let options = LinearCrossEntropy::new().loss(sum());
    let want =
        cpu::linear_cross_entropy((&hidden, &[n, inputs]), (&weight, &[classes, inputs]), None, &index, &options, None);
    let want = want.unwrap();
    for gpu in families(&gpu) {
        let mut bits = Vec::new();
        for scratch in [1 << 10, 1 << 16, 1 << 20, 32 << 20].into_iter().filter(|_| chosen()) {
            let options = options.clone().scratch(scratch);
            let x = Tensor::from_slice(&gpu, [n, inputs], &hidden).unwrap();
            let w = Tensor::from_slice(&gpu, [classes, inputs], &weight).unwrap();
            let y = Targets::new(&gpu, [n], &index, classes).unwrap();
            let [loss, grad] = eval(&gpu, |b| {
                let request = LinearLossRequest::gradients();
                let out = b.linear_cross_entropy_with(&x, &w, None, &y, &options, request)?;
                Ok([out.loss, out.weight_grad.unwrap()])
            });
            close("loss", &loss, &want.loss, 2e-7, 0.0);
            close("weight", &grad, &want.weight, 5e-7, 0.0);
            bits.push(grad);
        }
        bits.windows(2).for_each(|pair| same_bits("by chunks", &pair[0], &pair[1]));
    }
}
