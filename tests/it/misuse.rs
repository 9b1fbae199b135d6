//! Tensors that must not be used together, buffers that cannot be tensors, targets that are not
//! classes: each returns an error that says so, or the right result.

use proptest::prelude::*;

use crate::common::*;
use crate::properties::on_all;
use xent::linear::{LinearCrossEntropy, LinearLossRequest, LinearSgd};
use xent::loss::{BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::metrics::Evaluation;
use xent::nn::{Model, Sequential};
use xent::optim::{Momentum, Optimization, Optimizer, Parameters, Sgd};
use xent::wgpu::{self, BufferUsages};
use xent::{Batch, Error, Gpu, Layout, Result, Tensor, Weights, cpu, f16};

const USAGE: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);
fn none() -> CrossEntropy {
    CrossEntropy::new().reduction(Reduction::None)
}

fn buffer(gpu: &Gpu, size: u64, usage: BufferUsages) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

/// An operation on two tensors in the caller's memory, which writes the second.
type Write = fn(&mut Batch, &Tensor<f32>, &Tensor<f32>) -> Result<()>;

/// Returns operations with the shapes of their two tensors.
fn writes() -> Vec<(&'static str, [usize; 2], [usize; 2], Write)> {
    vec![
        ("matmul", [8, 8], [8, 8], |b, x, out| b.matmul_into(Layout::Nt, x, x, None, out)),
        ("matmul", [8, 8], [8, 8], |b, x, out| {
            let bias = x.reshape([64])?.rows(0..8)?;
            let own = Tensor::from_slice(b.gpu(), [8, 8], &random(7, 64, 1.0))?;
            b.matmul_into(Layout::Nn, &own, &own, Some(&bias), out)
        }),
        ("column_sum", [16, 8], [1, 8], |b, x, out| b.column_sum_into(x, &out.reshape([8])?)),
        ("accumulate", [8, 8], [8, 8], |b, x, out| b.accumulate(x, out)),
        ("sgd", [8, 8], [8, 8], |b, x, out| b.sgd(out, x, None, &Sgd::new().lr(0.5))),
        ("sgd", [8, 8], [8, 8], |b, x, out| {
            let values = Tensor::from_slice(b.gpu(), [8, 8], &random(8, 64, 1.0))?;
            let mut momentum = Momentum::resume(out.clone());
            b.sgd(&values, x, Some(&mut momentum), &Sgd::new().momentum(0.9))
        }),
        ("cross_entropy", [8, 8], [8, 8], |b, x, out| {
            b.cross_entropy_with(out, x, &CrossEntropy::default(), Grad::InPlace).map(|out| out.loss).map(drop)
        }),
        ("cross_entropy", [1, 8], [8, 8], |b, x, out| {
            let y = Targets::new(b.gpu(), [8], &[0u8; 8], 8)?;
            let weight = Some((&x.reshape([8])?).into());
            b.cross_entropy_with(out, &y, &none().weight(weight), Grad::InPlace).map(|out| out.loss).map(drop)
        }),
        ("linear_cross_entropy", [8, 8], [8, 8], |b, x, out| {
            let y = Targets::new(b.gpu(), [8], &[1u8; 8], 8)?;
            let backward = LinearLossRequest::gradients().weight_grad(Grad::Into(out));
            b.linear_cross_entropy_with(x, x, None, &y, &LinearCrossEntropy::default(), backward).map(drop)
        }),
        ("linear_cross_entropy_sgd", [8, 8], [8, 8], |b, x, out| {
            let y = Targets::new(b.gpu(), [8], &[1u8; 8], 8)?;
            let sgd = Sgd::new().lr(0.5);
            let options = LinearCrossEntropy::default();
            b.linear_cross_entropy_sgd(x, out, None, &y, &options, LinearSgd::new(sgd.clone())).map(drop)
        }),
    ]
}

/// The same buffer as input and output, overlapping or far apart: a dispatch must not read and
/// write one buffer, so the call is refused before anything is recorded.
#[test]
fn outputs_that_share_a_buffer() {
    let Some(gpu) = gpu() else { return };
    let all = random(3, 512, 1.0);
    for gpu in devices(&gpu) {
        let shared = buffer(&gpu, 2048, USAGE);
        gpu.queue().write_buffer(&shared, 0, bytemuck::cast_slice(&all));
        for (name, shape, out_shape, write) in writes() {
            for (from, to) in [(0, 0), (64, 65), (65, 64), (0, 256), (380, 3)] {
                let over = |at: u64, shape: [usize; 2]| {
                    Tensor::<f32>::from_buffer(&gpu, shared.clone(), 4 * at, shape).unwrap()
                };
                let (x, out) = (over(from, shape), over(to, out_shape));
                let mut batch = gpu.batch();
                let before = gpu.counters().dispatches;
                match write(&mut batch, &x, &out) {
                    Err(Error::Aliasing { op, .. }) => assert!(op.starts_with(name), "{op}"),
                    other => panic!("{name}, {from} and {to}: {other:?}"),
                }
                assert_eq!(gpu.counters().dispatches, before, "{name}: something was recorded");
                let mut after = batch.read(&out).unwrap();
                batch.submit().unwrap();
                let at = to as usize;
                same_bits(name, &after.wait(TIMEOUT).unwrap(), &all[at..at + out.len()]);
            }
        }
    }
}

/// Inputs may overlap in any way.
#[test]
fn inputs_that_share_a_buffer() {
    let Some(gpu) = gpu() else { return };
    let all = unit(3, 512);
    let check = |gpu: &Gpu, (from, to): (u64, u64)| {
        let shared = buffer(gpu, 2048, USAGE);
        gpu.queue().write_buffer(&shared, 0, bytemuck::cast_slice(&all));
        let [a, b] = [from, to].map(|at| Tensor::<f32>::from_buffer(gpu, shared.clone(), 4 * at, [15, 15]).unwrap());
        let own = |at: u64| Tensor::from_slice(gpu, [15, 15], &all[at as usize..at as usize + 225]).unwrap();
        let results = |a: &Tensor<f32>, b: &Tensor<f32>| {
            eval(gpu, |r| {
                let weight = Some(Weights::from(b));
                let bce = BceWithLogits::new().weight(weight);
                let ce = r.cross_entropy_with(a, b, &none(), Grad::New)?;
                Ok([
                    ce.loss.clone(),
                    ce.gradient()?,
                    r.bce_with_logits_with(a, b, &bce, Grad::New)?.gradient()?,
                    r.mse(a, b, &Mse::default())?,
                    r.matmul(Layout::Tn, a, b, None)?,
                    r.softmax_backward(a, b, 0)?,
                    r.relu_backward(b, a)?,
                ])
            })
        };
        for (got, want) in results(&a, &b).iter().zip(&results(&own(from), &own(to))) {
            same_bits("overlapping inputs", got, want);
        }
    };
    on_all(&gpu, 16, &(0u64..280, 0u64..280), check);
}

/// A tensor of another device as each operand of each operation.
#[test]
fn tensors_of_another_device() {
    let Some(gpu) = gpu() else { return };
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let other = Gpu::new(device, queue).unwrap();
    let square = |gpu: &Gpu| Tensor::from_slice(gpu, [4, 4], &[0.25f32; 16]).unwrap();
    let row = |gpu: &Gpu| Tensor::from_slice(gpu, [4], &[0.25f32; 4]).unwrap();
    let index = |gpu: &Gpu| Tensor::<i32>::from_slice(gpu, [4], &[0; 4]).unwrap();
    let (x, y) = (square(&gpu), index(&gpu));
    let (fx, fv, fy) = (square(&other), row(&other), index(&other));
    let mut b = gpu.batch();
    let (ce, nll, linear) = (CrossEntropy::default(), Nll::default(), LinearCrossEntropy::default());
    let weighted = CrossEntropy::new().weight(Weights::from(&fv));
    let positions = CrossEntropy::new().position_weight(Weights::from(&fv));
    let bce = BceWithLogits::new().pos_weight(Weights::from(&fx));
    let sgd = Sgd::new().momentum(0.9);
    fn backward<'a>(weight: Option<&'a Tensor<f32>>, upstream: Option<&'a Tensor<f32>>) -> LinearLossRequest<'a> {
        LinearLossRequest::gradients().weight_grad(weight.map_or(Grad::New, Grad::Into)).upstream(upstream)
    }
    let update = Sgd::default();
    let before = gpu.counters().dispatches;
    let results = [
        b.cross_entropy(&fx, &y, &ce).map(drop),
        b.cross_entropy(&x, &fy, &ce).map(drop),
        b.cross_entropy(&x, &fx, &ce).map(drop),
        b.cross_entropy(&x, &y, &weighted).map(drop),
        b.cross_entropy(&x, &y, &positions).map(drop),
        b.cross_entropy_with(&x, &y, &none(), LossRequest::new().grad(Grad::New).upstream(&fv)).map(drop),
        b.cross_entropy_with(&fx, &y, &ce, Grad::InPlace).map(|out| out.loss).map(drop),
        b.nll(&x, &fy, &nll).map(drop),
        b.nll_with(&fx, &y, &nll, Grad::New).map(drop),
        b.bce(&x, &fx, &xent::loss::Bce::default()).map(drop),
        b.bce_with_logits(&fx, &x, &BceWithLogits::default()).map(drop),
        b.bce_with_logits(&x, &x, &bce).map(drop),
        b.mse(&x, &fv, &Mse::default()).map(drop),
        b.mse_with(&fv, &x, &Mse::default(), Grad::New).map(drop),
        b.softmax(&fx, 1).map(drop),
        b.softmax_backward(&x, &fx, 1).map(drop),
        b.log_softmax(&fx, 0).map(drop),
        b.log_softmax_backward(&fx, &x, 0).map(drop),
        b.relu(&fx).map(drop),
        b.relu_backward(&x, &fx).map(drop),
        b.sigmoid(&fx).map(drop),
        b.sigmoid_backward(&fx, &x).map(drop),
        b.matmul(Layout::Nn, &fx, &x, None).map(drop),
        b.matmul(Layout::Nn, &x, &x, Some(&fv)).map(drop),
        b.matmul_into(Layout::Nn, &x, &x, None, &fx),
        b.column_sum(&fx).map(drop),
        b.column_sum_into(&x, &fv),
        b.accumulate(&fx, &x),
        b.accumulate(&x, &fx),
        b.sgd(&fx, &x, None, &update),
        b.sgd(&x, &fx, None, &update),
        b.sgd(&x, &square(&gpu), Some(&mut Momentum::resume(fx.clone())), &sgd),
        b.cast::<f32, f16>(&fx).map(drop),
        b.upload(&fx, &[0.0; 16]),
        b.read(&fx).map(drop),
        b.linear_cross_entropy(&fx, &x, None, &y, &linear).map(drop),
        b.linear_cross_entropy(&x, &fx, None, &y, &linear).map(drop),
        b.linear_cross_entropy(&x, &x, Some(&fv), &y, &linear).map(drop),
        b.linear_cross_entropy(&x, &x, None, &fy, &linear).map(drop),
        b.linear_cross_entropy_with(&x, &x, None, &y, &linear, backward(Some(&fx), None)).map(drop),
        b.linear_cross_entropy_with(&x, &x, None, &y, &none().into(), backward(None, Some(&fv))).map(drop),
        b.linear_cross_entropy_sgd(&x, &fx, None, &y, &linear, LinearSgd::new(update.clone())).map(drop),
        b.linear_bce_with_logits(&x, &x, None, &fx, &Default::default()).map(drop),
    ];
    for (i, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::ForeignTensor { .. })), "call {i}: {result:?}");
    }
    assert_eq!(gpu.counters().dispatches, before, "nothing is recorded");
}

/// Objects that keep tensors between steps, on another device than the recording.
#[test]
fn optimizers_and_counters_of_another_device() {
    let Some(gpu) = gpu() else { return };
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let other = Gpu::new(device, queue).unwrap();
    let [mine, theirs] = [&gpu, &other].map(|gpu| Parameters::new(gpu, &[("p", [4].into(), &[1.0; 4])]).unwrap());
    let square = |gpu: &Gpu| Tensor::from_slice(gpu, [4, 4], &[0.25f32; 16]).unwrap();
    let y = Tensor::<i32>::from_slice(&gpu, [4], &[0; 4]).unwrap();
    let (x, foreign) = (square(&gpu), square(&other));
    let model = {
        let (direct, deep) = (Sequential::new(), Sequential::new().linear(4, 4));
        Model::with_heads(&gpu, &Sequential::new().linear(4, 4), &[("direct", &direct), ("deep", &deep)], 0).unwrap()
    };
    let mut b = gpu.batch();
    let activations = model.forward(&mut b, &x).unwrap();
    let before = gpu.counters().dispatches;
    let mut results = Vec::new();
    let momentum = Optimization { sgd: Sgd::new().momentum(0.9), ..Optimization::default() };
    for options in [momentum, Optimization { accumulate: 2, ..Optimization::default() }] {
        results.push(Optimizer::new(&theirs, options).unwrap().step(&mut b, &mine).map(drop));
    }
    let mut optimizer = Optimizer::new(&mine, Optimization::default()).unwrap();
    let scalar = Tensor::from_slice(&other, [], &[1.0f32]).unwrap();
    results.push(optimizer.step_mean(&mut b, &mine, &scalar).map(drop));
    results.push(optimizer.step_mean(&mut b, &theirs, 1).map(drop));
    results.push(optimizer.flush(&mut b, &theirs).map(drop));
    let mut evaluation = Evaluation::new(&other, 4).unwrap();
    results.push(evaluation.record(&mut b, &x, &y, None));
    results.push(evaluation.read(&mut b).map(drop));
    results.push(model.backward(&mut b, &activations, &[foreign, x.clone()]));
    for (i, result) in results.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::ForeignTensor { .. })), "call {i}: {result:?}");
    }
    assert_eq!(gpu.counters().dispatches, before, "nothing is recorded");
}

/// A buffer can be a tensor, at any multiple of 4, if it has the usages and the bytes. Results are
/// then the same as for a tensor of xent's.
#[test]
fn callers_buffers_of_any_kind() {
    let Some(gpu) = gpu() else { return };
    let usages = [
        BufferUsages::STORAGE,
        BufferUsages::COPY_SRC,
        BufferUsages::COPY_DST,
        BufferUsages::UNIFORM,
        BufferUsages::VERTEX,
    ];
    let usage = prop_oneof![2 => Just(0b111u8), 1 => 1u8..32];
    let offset = prop_oneof![2 => (0u64..300).prop_map(|n| 4 * n), 1 => 0u64..2000, 1 => any::<u64>()];
    let cases = (usage, 1u64..1000, offset, 0usize..600, any::<bool>());
    let check = |gpu: &Gpu, (bits, words, offset, len, halves): (u8, u64, u64, usize, bool)| {
        let usage = usages.iter().enumerate().filter(|(i, _)| (bits >> i) & 1 == 1).map(|(_, usage)| *usage).collect();
        let buffer = buffer(gpu, 4 * words, usage);
        let bytes = if halves { 2 * len as u64 } else { 4 * len as u64 }.next_multiple_of(4).max(4);
        let fits = usage.contains(USAGE)
            && offset.is_multiple_of(4)
            && offset.checked_add(bytes).is_some_and(|end| end <= 4 * words);
        let made = if halves { made::<f16>(gpu, &buffer, offset, len) } else { made::<f32>(gpu, &buffer, offset, len) };
        match made {
            Ok(values) => assert!(fits && values.len() == len, "{usage:?} {words} {offset} {len} was taken"),
            Err(Error::Buffer { op: "from_buffer", .. }) => {
                assert!(!fits, "{usage:?} {words} {offset} {len} was refused");
            }
            Err(other) => panic!("{other}"),
        }
    };
    on_all(&gpu, 120, &cases, check);
}

/// Computes a softmax of a tensor in the buffer, and compares it with the softmax of a tensor in
/// its own buffer.
fn made<T: xent::Float + From<f16>>(gpu: &Gpu, buffer: &wgpu::Buffer, offset: u64, len: usize) -> Result<Vec<f32>> {
    let tensor = Tensor::<T>::from_buffer(gpu, buffer.clone(), offset, [len])?;
    let values: Vec<T> = random(5, len, 2.0).iter().map(|&v| f16::from_f32(v).into()).collect();
    let own = Tensor::from_slice(gpu, [len], &values)?;
    let mut bytes = bytemuck::cast_slice::<T, u8>(&values).to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    gpu.queue().write_buffer(buffer, offset, &bytes);
    let [got, want] = eval(gpu, |b| {
        let (x, y) = (b.softmax(&tensor, 0)?, b.softmax(&own, 0)?);
        Ok([b.cast::<T, f32>(&x)?, b.cast::<T, f32>(&y)?])
    });
    same_bits(&format!("{len} at {offset}"), &got, &want);
    Ok(got)
}

/// Targets that are not classes: the host rejects them with the position of the first; on the GPU
/// their rows are NaN, and a readback reports the position.
#[test]
fn targets_that_are_no_class() {
    let Some(gpu) = gpu() else { return };
    let classes = prop::sample::select(vec![1usize, 5, 40]);
    let bad = prop::sample::select(vec![-1i32, i32::MIN, i32::MAX, -99, 1 << 30, 40, 41]);
    let cases = (classes, 1usize..1300, bad, any::<u64>());
    on_all(&gpu, 24, &cases, check_targets);
}

fn check_targets(gpu: &Gpu, (classes, rows, bad, seed): (usize, usize, i32, u64)) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut index: Vec<i32> = (0..rows).map(|_| rng.i32(0..classes as i32)).collect();
    let good = index.clone();
    let mut wrong = vec![false; rows];
    for _ in 0..rng.usize(1..4) {
        let row = rng.usize(0..rows);
        (index[row], wrong[row]) = (bad, true);
    }
    let first = wrong.iter().position(|wrong| *wrong).unwrap();

    let before = gpu.counters();
    match Targets::new(gpu, [rows], &index, classes) {
        Err(Error::Value { op: "targets", got, .. }) => {
            assert!(got.ends_with(&format!("at position {first}")), "{got}, not {first}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(gpu.counters(), before, "nothing was made");
    let logits = random(seed, rows * classes, 2.0);
    let reference = cpu::cross_entropy((&logits, &[rows, classes]), &index, &none());
    assert!(matches!(reference, Err(Error::Value { .. })));

    let want = cpu::cross_entropy_backward((&logits, &[rows, classes]), &good, &none(), None).unwrap();
    let picked = cpu::nll((&logits, &[rows, classes]), &good, &Nll::new().reduction(Reduction::None));
    let x = Tensor::from_slice(gpu, [rows, classes], &logits).unwrap();
    let y = Tensor::<i32>::from_slice(gpu, [rows], &index).unwrap();
    // As a word, -1 is `u32::MAX`, which stands for the ignored index, because no word can be -100.
    let word = |&target: &i32| if target == -1 { u32::MAX - 1 } else { target.cast_unsigned() };
    let words: Vec<u32> = index.iter().map(word).collect();
    let unsigned = Tensor::<u32>::from_slice(gpu, [rows], &words).unwrap();
    // A layer whose outputs are its inputs, the logits.
    let unit: Vec<f32> = (0..classes * classes).map(|i| f32::from(u8::from(i % (classes + 1) == 0))).collect();
    let weight = Tensor::from_slice(gpu, [classes, classes], &unit).unwrap();
    let nll = Nll::new().reduction(Reduction::None);
    let mut batch = gpu.batch();
    let by = |batch: &mut Batch, targets: Targets| batch.cross_entropy_with(&x, targets, &none(), Grad::New).unwrap();
    let (signed, unsigned) = (by(&mut batch, (&y).into()), by(&mut batch, (&unsigned).into()));
    let linear = batch.linear_cross_entropy(&x, &weight, None, &y, &none().into()).unwrap();
    let nll = batch.nll(&x, &y, &nll).unwrap();
    let mean = batch.cross_entropy(&x, &y, &CrossEntropy::default()).unwrap();
    let losses = [(&signed.loss, &want.loss), (&unsigned.loss, &want.loss), (&linear, &want.loss)];
    let losses = losses.into_iter().chain([(&nll, picked.as_ref().unwrap())]);
    let mut tickets: Vec<_> = losses
        .map(|(loss, want)| {
            // A view of the result's buffer without its check, to see the poison itself.
            let bare = Tensor::<f32>::from_buffer(gpu, loss.buffer().clone(), loss.offset(), [rows]).unwrap();
            (batch.read(loss).unwrap(), batch.read(&bare).unwrap(), want)
        })
        .collect();
    let (mut grad, mut mean) = (batch.read(&signed.gradient().unwrap()).unwrap(), batch.read(&mean).unwrap());
    batch.submit().unwrap();
    for (checked, bare, want) in &mut tickets {
        let error = checked.wait(TIMEOUT).unwrap_err();
        assert!(matches!(error, Error::Data { position, .. } if position as usize == first), "{error}, not {first}");
        let want: Vec<f64> = want.iter().zip(&wrong).map(|(want, bad)| if *bad { f64::NAN } else { *want }).collect();
        close("loss", &bare.wait(TIMEOUT).unwrap(), &want, 1e-5, 1e-5);
    }
    for ticket in [&mut grad, &mut mean] {
        assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Data { .. })));
    }
}
