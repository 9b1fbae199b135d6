//! Hostile arguments for every call that takes a device: an error or the documented result, and no
//! panic.

use std::time::Duration;

use crate::common::*;
use crate::panics::{HUGE, SHAPES, Watch, hostile_weights};
use xent::data::Feed;
use xent::linear::{LinearBceWithLogits, LinearCrossEntropy, LinearLossRequest, LinearSgd};
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::metrics::{BinaryOutputs, Evaluation};
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Group, Momentum, Optimization, Optimizer, Parameters, Schedule, Sgd};
use xent::state::{LoadOptions, State};
use xent::wgpu;
use xent::{Caps, Error, Gpu, Layout, Tensor, Weights, cpu, f16};

#[test]
fn tensors_and_devices() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let empty = Tensor::<f32>::from_slice(&gpu, [0], &[]).unwrap();
    let x = Tensor::from_slice(&gpu, [4, 2], &[0.5f32; 8]).unwrap();
    // The excluded shape has losses of 16 GiB, which some drivers allocate without an error.
    for shape in SHAPES.into_iter().filter(|shape| *shape != [u32::MAX as usize, 0]) {
        let what = &format!("{shape:?}");
        watch.refuses(what, || Tensor::from_slice(&gpu, shape, &[0.0f32; 5]));
        watch.refuses(what, || Targets::new_ignoring(&gpu, shape, &[0i64; 5], HUGE, 0));
        watch.refuses(what, || Weights::new(shape, &[0.0; 5]));
        watch.refuses(what, || x.reshape(shape));
        watch.refuses(what, || Parameters::new(&gpu, &[("x", shape.into(), &[0.0; 5])]));
        // The shape as an empty tensor, and all operations on it.
        let tensors = [
            watch.tries(what, || empty.reshape(shape)),
            watch.tries(what, || Parameters::new(&gpu, &[("x", shape.into(), &[])]).and_then(|p| p.value("x"))),
            watch.tries(what, || Tensor::<f32>::zeros(&gpu, shape)),
        ];
        for tensor in tensors.into_iter().flatten().flatten() {
            operations(&mut watch, &gpu, &tensor, what);
        }
    }
    for gpu in families(&gpu) {
        operations(&mut watch, &gpu, &x, "what fits");
    }
    let one_group = gpu.with_caps(Caps { max_groups: 1, ..gpu.caps().clone() }).unwrap();
    let rows = Tensor::<f32>::zeros(&one_group, [u32::MAX as usize, 0]).unwrap();
    watch.refuses("a dispatch a row", || one_group.batch().cross_entropy(&rows, &rows, &CrossEntropy::new()));
    watch.gives("rows of nothing", || one_group.batch().softmax(&rows, 1).map(|y| y.len()).ok(), Some(0));
    for dims in [[HUGE, 1], [1 << 40, 1], [1 << 32, 1], [1 << 31, 1 << 31]] {
        watch.refuses("zeros", || Tensor::<f16>::zeros(&gpu, dims));
        watch.refuses("from_slice", || Tensor::<f32>::from_slice(&gpu, dims, &[0.0]));
        watch.refuses("Momentum", || Momentum::new(&gpu, dims));
        watch.refuses("Feed", || Feed::new(&gpu, dims[0], dims[1]));
    }
    // Far more than the memory, but the slice's length is wrong, which is checked first.
    watch.refuses("from_slice", || Tensor::from_slice(&gpu, [1 << 22, 1 << 22], &[0.0f32]));
    #[expect(clippy::reversed_empty_ranges, reason = "such ranges must be refused")]
    for rows in [5..5, 3..2, 0..HUGE, HUGE..HUGE, HUGE..0] {
        watch.refuses("rows", || x.rows(rows.clone()));
    }
    let half = Tensor::from_slice(&gpu, [3], &[f16::ONE; 3]).unwrap().rows(1..2).unwrap();
    watch.refuses("a half word", || half.write(&[f16::ONE]));
    watch.refuses("a half word", || gpu.batch().upload(&half, &[f16::ONE]));
    watch.refuses("a long slice", || x.write(&[0.0; 9]));
    watch.refuses("no slice", || gpu.batch().upload(&x, &[]));
    watch.refuses("probabilities", || Tensor::probabilities(&gpu, [1], &[f32::NAN]));
    watch.refuses("targets", || Targets::new_ignoring(&gpu, [1], &[i64::from(i32::MIN)], HUGE, i64::MAX));
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
    for (offset, shape) in
        [(u64::MAX - 3, &[1][..]), (u64::MAX - 3, &[0]), (64, &[0]), (0, &[HUGE]), (4, &[HUGE / 4, 4])]
    {
        let buffer = gpu.device().create_buffer(&descriptor);
        watch.refuses("from_buffer", || Tensor::<f32>::from_buffer(&gpu, buffer, offset, shape));
    }
    for value in [0, 1, 3, 4097, 1 << 20, u32::MAX] {
        let changes: [fn(&mut Caps, u32); 7] = [
            |c, v| c.max_invocations = v,
            |c, v| c.simd_width = v,
            |c, v| c.storage_align = v,
            |c, v| c.uniform_align = v,
            |c, v| c.max_groups = v,
            |c, v| c.max_binding = v.into(),
            |c, v| c.max_buffer = v.into(),
        ];
        for change in changes {
            let mut caps = gpu.caps().clone();
            change(&mut caps, value);
            watch.tries("workgroup_size", || caps.workgroup_size());
            if let Some(Ok(other)) = watch.tries("with_caps", || gpu.with_caps(caps)) {
                operations(&mut watch, &other, &x, "other caps");
            }
        }
        let mut caps = gpu.caps().clone();
        (caps.enough_tiles, caps.subgroup_size) = (value, value);
        watch.tries("with_caps", || gpu.with_caps(caps).map(drop));
    }
    for sizes in [[HUGE; 3], [0; 3], [HUGE, 0, 0], [0, HUGE, 0], [0, 0, HUGE], [HUGE, 1, 1], [1, HUGE, 1], [1, 1, HUGE]]
    {
        for (scratch, yes) in [(0, true), (u64::MAX, true), (u64::MAX, false), (1 << 20, true)] {
            let (options, bce) =
                (LinearCrossEntropy::new().scratch(scratch), LinearBceWithLogits::new().scratch(scratch));
            for family in families(&gpu) {
                watch.tries("a plan", || {
                    Ok::<_, Error>(family.plan_linear_cross_entropy(sizes, &options, yes)?.to_string())
                });
                watch.tries("a plan", || {
                    Ok::<_, Error>(family.plan_linear_cross_entropy_sgd(sizes, &options, yes)?.to_string())
                });
                watch.tries("a plan", || {
                    Ok::<_, Error>(family.plan_linear_bce_with_logits(sizes, &bce, yes)?.to_string())
                });
            }
        }
    }
    watch.refuses("an adapter", || pollster::block_on(Gpu::request("\0")).map(drop));
    watch.ends();
}

/// Records every operation with `x` as each of its operands; submits nothing.
fn operations(watch: &mut Watch, gpu: &Gpu, x: &Tensor<f32>, what: &str) {
    let mut b = gpu.batch();
    let y = Tensor::<i32>::zeros(gpu, [4]).unwrap();
    let m = Tensor::<f32>::zeros(gpu, [4, 2]).unwrap();
    for dim in [0, 1, 2, 7, HUGE] {
        watch.tries(what, || b.softmax(x, dim).is_ok() | b.log_softmax(x, dim).is_ok());
        watch.tries(what, || b.softmax_backward(x, x, dim).is_ok() | b.log_softmax_backward(x, &m, dim).is_ok());
    }
    for (p, q) in [(x, x), (x, &m), (&m, x)] {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            watch
                .tries(what, || b.matmul(layout, p, q, Some(x)).is_ok() | b.matmul_into(layout, p, q, None, x).is_ok());
        }
        watch.tries(what, || {
            b.relu_backward(p, q).is_ok() | b.sigmoid_backward(p, q).is_ok() | b.accumulate(p, q).is_ok()
        });
        watch.tries(what, || b.sgd(p, q, Some(&mut Momentum::resume(x.clone())), &Sgd::new().momentum(1.0)));
        for weight in hostile_weights().into_iter().chain([Some(x.into())]) {
            for reduction in [Reduction::None, Reduction::Mean] {
                let bce = BceWithLogits::new().weight(weight.clone()).pos_weight(weight.clone()).reduction(reduction);
                watch
                    .tries(what, || b.bce_with_logits_with(p, q, &bce, LossRequest::new().grad(Grad::New).upstream(x)));
                watch.tries(what, || b.bce(p, q, &Bce::new().weight(weight.clone()).reduction(reduction)));
                watch.tries(what, || {
                    b.mse_with(p, q, &Mse::new().weight(weight.clone()).broadcast(true).reduction(reduction), Grad::New)
                });
                let ce = CrossEntropy::new().weight(weight.clone()).reduction(reduction).z_loss(1.0);
                watch.tries(what, || {
                    b.cross_entropy_with(p, &y, &ce, LossRequest::new().grad(Grad::New).upstream(x)).is_ok()
                });
                watch.tries(what, || b.cross_entropy_with(p, q, &ce, Grad::InPlace).map(|out| out.loss).is_ok());
                let nll = Nll::new().weight(weight.clone()).position_weight(weight.clone()).reduction(reduction);
                let y = Targets::from(&y).ignoring(i64::MAX);
                watch.tries(what, || b.nll_with(p, &y, &nll, LossRequest::new().grad(Grad::New).upstream(x)).is_ok());
                let loss = LinearCrossEntropy::new().loss(ce);
                watch.tries(what, || b.linear_cross_entropy(p, q, Some(x), x, &loss).is_ok());
                watch.tries(what, || {
                    b.linear_cross_entropy_sgd(p, q, None, &y, &loss, LinearSgd::new(Sgd::default())).is_ok()
                });
                let grads =
                    LinearLossRequest::gradients().weight_grad(Grad::Into(x)).bias_grad(Grad::Into(x)).upstream(x);
                watch.tries(what, || b.linear_bce_with_logits_with(p, q, None, x, &bce.into(), grads).is_ok());
            }
        }
    }
    watch.tries(what, || {
        b.relu(x).is_ok() | b.sigmoid(x).is_ok() | b.cast::<f32, f16>(x).is_ok() | b.column_sum(x).is_ok()
    });
    watch.tries(what, || b.column_sum_into(&m, x).is_ok() | b.read(x).is_ok() | b.upload(x, &[0.0]).is_ok());
    watch.tries(what, || {
        Evaluation::binary(gpu).map(|mut e| {
            let binary = e.record_binary(&mut b, BinaryOutputs::Probabilities(x), &m, None).is_ok();
            let weighted = e.record_binary(&mut b, BinaryOutputs::Logits(x), x, Some(&m)).is_ok();
            binary | weighted | e.record(&mut b, x, &y, None).is_ok() | e.record(&mut b, x, &y, Some(&m)).is_ok()
        })
    });
    watch.tries(what, || drop(b));
}

#[test]
fn options() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let x = Tensor::from_slice(&gpu, [2, 2], &[0.5f32; 4]).unwrap();
    let mut b = gpu.batch();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX, -f64::MIN_POSITIVE] {
        let default = CrossEntropy::default;
        for ce in
            [default().label_smoothing(bad), default().logit_scale(bad), default().softcap(bad), default().z_loss(bad)]
        {
            watch.refuses("cross_entropy", || b.cross_entropy(&x, &x, &ce));
            watch.refuses("cpu::cross_entropy", || cpu::cross_entropy((&[0.5f32; 4], &[2, 2]), &[0.5f32; 4], &ce));
        }
        let linear = LinearCrossEntropy::new().gradient_threshold(bad);
        watch.refuses("linear_cross_entropy", || b.linear_cross_entropy(&x, &x, None, &x, &linear));
        let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[0.0; 2])]).unwrap();
        let default = Optimization::default;
        for options in [
            Optimization { clip_value: Some(bad), ..default() },
            Optimization { clip_norm: Some(bad), ..default() },
            Optimization { loss_scale: bad, ..default() },
            Optimization { accumulate: 0, ..default() },
            Optimization { schedule: Schedule::Step { every: 0, factor: 1.0 }, ..default() },
            Optimization { schedule: Schedule::Step { every: 1, factor: bad }, ..default() },
            Optimization { schedule: Schedule::Cosine { warm_up: 0, steps: 1, floor: bad }, ..default() },
            Optimization { schedule: Schedule::Cosine { warm_up: u64::MAX, steps: u64::MAX, floor: 0.0 }, ..default() },
            Optimization { groups: vec![Group { names: vec!["v".into()], ..Group::default() }], ..default() },
            Optimization { groups: vec![Group { names: vec!["w".into(); 2], ..Group::default() }], ..default() },
        ] {
            watch.refuses("Optimizer", || Optimizer::new(&parameters, options));
        }
        let network = Sequential::new().linear(2, 1);
        let loss = Loss::mse().weighted(bad);
        let model = || Model::new(&gpu, &network, 0);
        if !bad.is_finite() {
            watch.refuses("a loss's weight", || Training::new(model()?, vec![loss], Optimization::default()));
            let vanishing = Loss::mse().weighted(1e-50);
            watch.refuses("a weight that vanishes", || Training::new(model()?, vec![vanishing], default()));
        }
        watch.refuses("loss_scale", || Training::new(model()?, vec![Loss::mse()], default())?.set_loss_scale(bad));
    }
    for scratch in [0, 1] {
        let linear = LinearCrossEntropy::new().scratch(scratch);
        watch.refuses("scratch", || b.linear_cross_entropy(&x, &x, None, &x, &linear));
        let bce = LinearBceWithLogits::new().scratch(scratch);
        watch.refuses("scratch", || b.linear_bce_with_logits(&x, &x, None, &x, &bce));
    }
    for (inputs, outputs) in [(HUGE, HUGE), (0, HUGE), (HUGE, 0), (HUGE, 1), (1 << 16, 1 << 16)] {
        watch.refuses("a layer", || Model::new(&gpu, &Sequential::new().linear(inputs, outputs), 0));
    }
    let linear = || Linear::new(2, 1);
    for layer in [
        linear().with_values(&[], &[]),
        linear().with_values(&[0.0; 2], &[]),
        linear().without_bias().with_values(&[0.0; 2], &[0.0]),
    ] {
        watch.refuses("values", || Model::new(&gpu, &Sequential::new().layer(layer), 0));
    }
    let (two, one) = (Sequential::new().linear(2, 3).linear(2, 1), Sequential::new().layer(linear().named("a")));
    watch.refuses("widths", || Model::new(&gpu, &two, 0));
    watch.refuses("names", || Model::with_heads(&gpu, &Sequential::new(), &[("h", &one), ("h", &one)], 0));
    watch.refuses("no heads", || Model::with_heads(&gpu, &one, &[], 0));
    let model =
        Model::with_heads(&gpu, &Sequential::new().relu(), &[("a", &one), ("b", &Sequential::new())], 0).unwrap();
    let (line, vector) = (x.reshape([1, 4]).unwrap(), x.reshape([4]).unwrap());
    watch.refuses("inputs", || model.forward(&mut b, &line));
    watch.refuses("inputs", || model.forward(&mut b, &vector));
    let there = model.forward(&mut b, &x).unwrap();
    watch.refuses("gradients", || model.backward(&mut b, &there, &[]));
    watch.refuses("gradients", || model.backward(&mut b, &there, &[x.clone(), x.clone()]));
    let plain = Model::new(&gpu, &Sequential::new(), 0).unwrap();
    watch.refuses("another's", || plain.backward(&mut b, &there, std::slice::from_ref(&x)));
    watch.refuses("losses", || Training::new(plain, vec![], Optimization::default()));
    let mut training = Training::new(model, vec![Loss::mse(), Loss::bce()], Optimization::default()).unwrap();
    watch.refuses("targets", || training.step(&mut b, &x, &[]));
    let classes = Tensor::<i32>::zeros(&gpu, [2]).unwrap();
    watch.refuses("targets", || training.step(&mut b, &x, &[(&classes).into(), (&x).into()]));
    for classes in [0, HUGE, 1 << 31] {
        watch.refuses("Evaluation", || Evaluation::new(&gpu, classes));
    }
    watch.refuses("a matrix", || Evaluation::new(&gpu, (1 << 14) + 1).and_then(Evaluation::with_confusion));
    watch.ends();
}

#[test]
fn counts_and_times_that_overflow() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[1.0; 2])]).unwrap();
    let mut optimizer = Optimizer::new(&parameters, Optimization::default()).unwrap();
    let mut last = State::default();
    last.set_note("updates", u64::MAX.to_string());
    optimizer.load(&last, &parameters).unwrap();
    watch.gives(
        "updates",
        || optimizer.step(&mut gpu.batch(), &parameters).map(|_| optimizer.updates()).ok(),
        Some(u64::MAX),
    );
    let mut two = Parameters::new(&gpu, &[("w", [2].into(), &[1.0; 2]), ("", [0, 5].into(), &[])]).unwrap();
    for (alias, name) in [("w", "w"), ("", "w"), ("x", "none"), ("__metadata__", "w")] {
        watch.refuses("tie", || two.tie(alias, name));
    }
    watch.gives("tie to what has no elements", || two.tie("x", "").is_ok(), true);
    for only in [None, Some(vec![]), Some(vec!["w".to_owned(); 3]), Some(vec!["x".to_owned()])] {
        let options = LoadOptions { only, allow_missing: true, allow_superfluous: true };
        watch.gives("load_with", || two.load_with(&last, &options).is_ok(), true);
    }
    watch.refuses("load_with", || {
        two.load_with(&last, &LoadOptions { only: Some(vec!["none".to_owned()]), ..LoadOptions::default() })
    });
    for note in ["-1", "18446744073709551616", "", "1.5"] {
        last.set_note("updates", note);
        watch.refuses("updates", || optimizer.load(&last, &parameters));
    }
    last.set_note("updates", "0");
    for (key, notes) in [
        ("passes", ["-1", "4294967296", "x"]),
        ("skipped_updates", ["-1", "4294967296", ""]),
        ("lr", ["-1", "inf", ""]),
    ] {
        for note in notes {
            let mut hostile = last.clone();
            hostile.set_note(key, note);
            watch.refuses(key, || optimizer.load(&hostile, &parameters));
        }
    }
    last.set_note("passes", u32::MAX.to_string());
    watch.refuses("a window that there is no room for", || optimizer.load(&last, &parameters));
    let scalars =
        [0.0f32, f32::NAN, f32::INFINITY, -1.0, f32::MIN_POSITIVE].map(|v| Tensor::from_slice(&gpu, [], &[v]));
    let counts = [0, u32::MAX].map(xent::loss::Denominator::Count);
    for denominator in scalars.iter().map(|scalar| scalar.as_ref().unwrap().into()).chain(counts) {
        watch.gives("step_mean", || optimizer.step_mean(&mut gpu.batch(), &parameters, denominator).is_ok(), true);
    }
    watch.gives("flush nothing", || optimizer.flush(&mut gpu.batch(), &parameters).unwrap().is_none(), true);
    watch.refuses("no scalar", || optimizer.step_mean(&mut gpu.batch(), &parameters, parameters.values()));

    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2)] {
        let mut b = gpu.batch();
        let mut evaluation = Evaluation::new(&gpu, 2).unwrap();
        let (x, y) = (Tensor::<f32>::zeros(&gpu, [3, 2]).unwrap(), Tensor::<i32>::zeros(&gpu, [3]).unwrap());
        evaluation.record(&mut b, &x, &y, None).unwrap();
        let mut scores = evaluation.read(&mut b).unwrap();
        let mut state = parameters.state(&mut b).unwrap();
        let mut values = b.read(parameters.values()).unwrap();
        let mut times = b.times().unwrap();
        let mut dropped = gpu.batch().read(parameters.values()).unwrap();
        b.submit().unwrap();
        watch.gives(
            "scores",
            || scores.wait(timeout).map(|s| (s.counted(), s.top_k_accuracy(HUGE))).ok(),
            Some((3, 1.0)),
        );
        watch.gives("a state", || state.wait(timeout).is_ok_and(|s| s.get("w").is_some()), true);
        watch.gives("values", || values.wait(timeout).map(|v| v.len()).ok(), Some(64));
        watch.gives("times", || times.wait(timeout).map(|t| t.len()).ok(), Some(0));
        watch.refuses("dropped", || dropped.wait(timeout));
        // A ticket returns its values only once.
        watch.refuses("scores again", || scores.wait(timeout));
        watch.refuses("a state again", || state.wait(timeout));
        watch.refuses("values again", || values.wait(timeout));
        watch.refuses("times again", || times.wait(timeout));
    }
    watch.ends();
}

/// The tickets of a failed submission do not return the earlier contents of their memory.
#[test]
fn a_submission_that_fails() {
    let Some(gpu) = gpu() else { return };
    let mut watch = Watch::new();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
    let buffer = gpu.device().create_buffer(&descriptor);
    let x = Tensor::<f32>::from_buffer(&gpu, buffer.clone(), 0, [16]).unwrap();
    let y = Tensor::from_slice(&gpu, [16], &[1.0f32; 16]).unwrap();
    let mut b = gpu.batch();
    let mut tickets = [x.clone(), b.relu(&x).unwrap(), y.clone()].map(|tensor| b.read(&tensor).unwrap());
    b.upload(&y, &[2.0; 16]).unwrap();
    buffer.destroy();
    watch.refuses("submit", || b.submit());
    for ticket in &mut tickets {
        let outcome = || matches!(ticket.wait(TIMEOUT), Err(Error::NotSubmitted));
        watch.gives("a ticket", outcome, true);
    }
    watch.refuses("write", || x.write(&[0.0; 16]));
    watch.refuses("an operation", || gpu.batch().relu(&x));
    let [y] = eval(&gpu, |_| Ok([y]));
    watch.gives("what was not submitted", || y, vec![1.0; 16]);
    watch.ends();
}

/// A caller's device may have any limits.
#[test]
fn a_device_with_odd_limits() {
    let Some(shared) = gpu() else { return };
    let (_instance, adapter) = adapter_of(&shared);
    let mut watch = Watch::new();
    for align in [8192, 1 << 20, 1 << 31] {
        for storage in [true, false] {
            let (device, queue) = device_like(&shared, &adapter, |limits| {
                if storage {
                    limits.min_storage_buffer_offset_alignment = align;
                } else {
                    limits.min_uniform_buffer_offset_alignment = align;
                }
            });
            watch.refuses(&format!("bindings at multiples of {align}"), || Gpu::new(device, queue));
        }
    }
    watch.ends();
}
