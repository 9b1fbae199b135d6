//! Bad input returns a typed error that names the operation, the expected and the given value.
//! Nothing is recorded, and nothing panics.

use crate::common::*;
use xent::loss::{Bce, CrossEntropy, Grad, LossRequest, Mse, Reduction, Targets};
use xent::optim::{Momentum, Parameters, Sgd};
use xent::wgpu;
use xent::{Caps, Error, Family, Gpu, Layout, Result, Tensor, Weights, cpu};

#[track_caller]
fn says<T>(result: Result<T, Error>, message: &str) {
    let error = result.err().unwrap_or_else(|| panic!("no error; expected {message:?}"));
    assert_eq!(error.to_string(), message);
}

/// All tests of this module, for the test that watches for panics.
pub(crate) const REJECTIONS: [(&str, fn()); 6] = [
    ("shapes", shapes),
    ("values", values),
    ("tensors that do not go together", tensors_that_do_not_go_together),
    ("callers' buffers", callers_buffers),
    ("caps", caps),
    ("no such adapter", an_adapter_that_does_not_exist_lists_those_that_do),
];

#[test]
fn shapes() {
    let Some(gpu) = gpu() else { return };
    let tensor = |shape: &[usize]| Tensor::from_slice(&gpu, shape, &vec![0.5f32; shape.iter().product()]).unwrap();
    let x = tensor(&[4, 3]);
    let scalar = tensor(&[]);
    let y = Targets::new(&gpu, [4], &[0, 1, 2, 0], 3).unwrap();
    let y5 = Targets::new(&gpu, [5], &[0, 1, 2, 0, 1], 3).unwrap();
    let mut b = gpu.batch();
    let ce = CrossEntropy::default();
    says(
        b.cross_entropy(&x, &y5, &ce),
        "cross_entropy: targets must have shape [4] for logits of shape [4, 3], got shape [5]",
    );
    says(b.cross_entropy(&scalar, &y, &ce), "cross_entropy: logits must have 1 or more dimensions, got shape []");
    says(
        b.cross_entropy_with(&x, &y, &ce, LossRequest::new().grad(Grad::New).upstream(Some(&tensor(&[4])))),
        "cross_entropy: upstream must have shape [], got shape [4]",
    );
    let none = ce.reduction(Reduction::None);
    says(
        b.cross_entropy_with(&x, &y, &none, LossRequest::new().grad(Grad::New).upstream(Some(&tensor(&[3])))),
        "cross_entropy: upstream must have shape [] or [4], got shape [3]",
    );
    let weighted = CrossEntropy::new().weight(Weights::from([1.0, 2.0]));
    says(b.cross_entropy(&x, &y, &weighted), "cross_entropy: weight must have shape [3], got shape [2]");
    says(
        cpu::cross_entropy((&[0.0f32; 12], &[4, 3]), &[0i64; 4], &weighted),
        "cpu::cross_entropy: weight must have 3 elements, got 2",
    );
    says(
        b.cross_entropy(&x, &tensor(&[4, 2]), &CrossEntropy::default()),
        "cross_entropy: targets must have shape [4, 3], got shape [4, 2]",
    );
    let narrow = Bce::new().weight(Weights::from([1.0, 2.0]));
    says(b.bce(&x, &x, &narrow), "bce: weight must have a shape that broadcasts to [4, 3], got shape [2]");
    let deep = xent::loss::BceWithLogits::new().pos_weight(Weights::new([1, 4, 3], &[1.0; 12]).unwrap());
    says(
        b.bce_with_logits(&x, &x, &deep),
        "bce_with_logits: pos_weight must have a shape that broadcasts to [4, 3], got shape [1, 4, 3]",
    );
    says(
        cpu::bce((&[0.5f32; 12], &[4, 3]), (&[0.5; 12], &[4, 3]), &narrow),
        "cpu::bce: weight must have a shape that broadcasts to [4, 3], got shape [2]",
    );
    // `weight` fits and would be expanded first; `pos_weight` does not fit.
    let deep = xent::loss::BceWithLogits::new()
        .weight(Weights::new([2, 1, 4], &[1.0; 8]).unwrap())
        .pos_weight(Weights::from(vec![1.0; 5]));
    let (cube, before) = (tensor(&[2, 3, 4]), gpu.counters().dispatches);
    says(
        b.bce_with_logits(&cube, &cube, &deep),
        "bce_with_logits: pos_weight must have a shape that broadcasts to [2, 3, 4], got shape [5]",
    );
    assert_eq!(gpu.counters().dispatches, before, "nothing is recorded");
    says(
        cpu::cross_entropy((&[0.0f32; 0], &[usize::MAX, 0]), &[0.0f32; 0], &CrossEntropy::default()),
        &format!("cpu::cross_entropy: the number of rows without classes needs {}, the limit is 16777216", usize::MAX),
    );
    says(
        b.bce(&x, &tensor(&[3, 4]), &Bce::default()),
        "bce: targets must have the input's shape [4, 3] (or, with the option `broadcast`, one that broadcasts with it), got shape [3, 4]",
    );
    says(
        b.mse_with(&x, &x, &Mse::default(), LossRequest::new().grad(Grad::New).upstream(Some(&tensor(&[4, 3])))),
        "mse: upstream must have shape [], got shape [4, 3]",
    );
    says(
        b.matmul(Layout::Nn, &x, &x, None),
        "matmul: b must have shape [3, n] for a of shape [4, 3], got shape [4, 3]",
    );
    says(
        b.matmul(Layout::Nt, &x, &tensor(&[5, 4]), None),
        "matmul: b must have shape [n, 3] for a of shape [4, 3], got shape [5, 4]",
    );
    says(b.matmul(Layout::Nn, &scalar, &x, None), "matmul: a must have 2 dimensions, got shape []");
    says(b.matmul(Layout::Nt, &x, &x, Some(&tensor(&[3]))), "matmul: bias must have shape [4], got shape [3]");
    says(
        b.matmul_into(Layout::Nt, &x, &x, None, &tensor(&[4, 3])),
        "matmul: out must have shape [4, 4], got shape [4, 3]",
    );
    says(b.column_sum(&scalar), "column_sum: input must have 2 dimensions, got shape []");
    says(b.relu_backward(&x, &scalar), "relu_backward: upstream must have shape [4, 3], got shape []");
    says(b.log_softmax(&scalar, 1), "log_softmax: logits must have a dimension 1, got shape []");
    says(b.softmax(&x, 2), "softmax: logits must have a dimension 2, got shape [4, 3]");
    says(cpu::softmax((&[0.5f32; 12], &[4, 3]), 2), "cpu::softmax: the shape must have a dimension 2, got [4, 3]");
    says(b.sgd(&x, &scalar, None, &Sgd::default()), "sgd: grads must have shape [4, 3], got shape []");
    says(
        Tensor::from_slice(&gpu, [2, 2], &[1.0f32]),
        "from_slice: the slice must have 4 elements for shape [2, 2], got 1",
    );
    says(x.reshape([5]), "reshape: the new shape must have the 12 elements of [4, 3], got [5]");
    says(x.rows(3..5), "rows: the range must have ends within 0..4, got 3..5");
    says(scalar.rows(0..1), "rows: the range must have a tensor with a first dimension, got 0..1");
}

#[test]
fn values() {
    let Some(gpu) = gpu() else { return };
    says(
        Targets::new(&gpu, [3], &[0i64, 5, -1], 5),
        "targets: a target must be in 0..5 or the ignored -100, got 5 at position 1",
    );
    says(
        Targets::new(&gpu, [1], &[i64::MAX], 5),
        "targets: a target must be in 0..5 or the ignored -100, got 9223372036854775807 at position 0",
    );
    let logits = Tensor::from_slice(&gpu, [1, 2], &[0.0f32; 2]).unwrap();
    let y = Targets::new(&gpu, [1], &[0], 2).unwrap();
    for label_smoothing in [-0.1, 1.5, f64::NAN] {
        let options = CrossEntropy::new().label_smoothing(label_smoothing);
        let message = format!("must be in 0..=1, got {label_smoothing}");
        let gpu_says = gpu.batch().cross_entropy(&logits, &y, &options).unwrap_err().to_string();
        assert_eq!(gpu_says, format!("cross_entropy: label_smoothing {message}"));
        assert!(cpu::cross_entropy((&[0.0f32; 2], &[1, 2]), &[0], &options).is_err());
    }
    let tiny = [
        ("label_smoothing", CrossEntropy::new().label_smoothing(1e-40)),
        ("logit_scale", CrossEntropy::new().logit_scale(1e-40)),
        ("softcap", CrossEntropy::new().softcap(1e-40)),
        ("z_loss", CrossEntropy::new().z_loss(1e-40)),
    ];
    for (what, options) in tiny {
        let or_zero = if ["label_smoothing", "z_loss"].contains(&what) { ", or 0" } else { "" };
        let message = format!("cross_entropy: {what} must be at least 1.2e-38{or_zero}, got 1e-40");
        says(gpu.batch().cross_entropy(&logits, &y, &options), &message);
        assert!(cpu::cross_entropy((&[0.0f32; 2], &[1, 2]), &[0], &options).is_err());
    }
    let shared = CrossEntropy::new().label_smoothing(2e-38);
    says(
        gpu.batch().cross_entropy(&logits, &y, &shared),
        "cross_entropy: label_smoothing must be at least 1.2e-38 for each of 2 classes, or 0, got 2e-38",
    );
    assert!(cpu::cross_entropy((&[0.0f32; 2], &[1, 2]), &[0], &shared).is_err());
    let ignoring = Targets::from(&logits).ignoring(1);
    says(
        gpu.batch().cross_entropy(&logits, &ignoring, &CrossEntropy::new()),
        "cross_entropy: the ignored index must be below 0 with probabilities, got 1",
    );
    let on_gpu = CrossEntropy::new().weight(Weights::from(&logits));
    says(
        cpu::cross_entropy((&[0.0f32; 2], &[1, 2]), &[0], &on_gpu),
        "cpu::cross_entropy: weight must be host values, got a tensor on the GPU",
    );
    let x = Tensor::from_slice(&gpu, [2], &[0.0f32; 2]).unwrap();
    let g = Tensor::from_slice(&gpu, [2], &[0.0f32; 2]).unwrap();
    let mut b = gpu.batch();
    for (options, message) in [
        (Sgd::new().lr(-1.0), "sgd: lr must be at least 0 and finite, got -1"),
        (Sgd::new().momentum(-0.5), "sgd: momentum must be at least 0 and finite, got -0.5"),
        (Sgd::new().weight_decay(-0.5), "sgd: weight_decay must be at least 0 and finite, got -0.5"),
        (Sgd::new().nesterov(true), "sgd: momentum must be above 0 with nesterov, got 0"),
        (Sgd::new().nesterov(true).momentum(0.9).dampening(0.1), "sgd: dampening must be 0 with nesterov, got 0.1"),
        (Sgd::new().momentum(0.9), "sgd: momentum must be 0 without a Momentum for the values, got 0.9"),
    ] {
        says(b.sgd(&x, &g, None, &options), message);
    }
    says(
        cpu::cross_entropy((&[0.0f32; 4], &[2, 2]), &[0, 2], &CrossEntropy::default()),
        "cpu::cross_entropy: a target must be in 0..2 or the ignored -100, got 2 at position 1",
    );
    says(
        cpu::bce((&[0.5f32, 1.5], &[2]), (&[0.0, 0.0], &[2]), &Bce::default()),
        "cpu::bce: a probability must be in 0..=1, got 1.5 at position 1",
    );
    let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[0.0; 2])]).unwrap();
    says(parameters.value("v"), "Parameters: a name must be one of [\"w\"], got \"v\"");
    says(
        Parameters::new(&gpu, &[("w", [3].into(), &[0.0; 2])]),
        "Parameters::new: a parameter's values must have the elements of [3] for \"w\", got 2",
    );
}

#[test]
fn tensors_that_do_not_go_together() {
    let Some(gpu) = gpu() else { return };
    let x = Tensor::from_slice(&gpu, [4, 4], &[0.5f32; 16]).unwrap();
    let other = adapter().unwrap();
    let foreign = Tensor::from_slice(&other, [4, 4], &[0.5f32; 16]).unwrap();
    let mut b = gpu.batch();
    says(b.relu(&foreign), "relu: x must belong to this Gpu, got a tensor made by another Gpu");
    says(
        b.matmul(Layout::Nn, &x, &foreign, None),
        "matmul: b must belong to this Gpu, got a tensor made by another Gpu",
    );
    says(b.read(&foreign), "read: the tensor must belong to this Gpu, got a tensor made by another Gpu");
    let y = Tensor::from_slice(&other, [4], &[0; 4]).unwrap();
    says(
        b.cross_entropy(&x, &y, &CrossEntropy::default()),
        "cross_entropy: targets must belong to this Gpu, got a tensor made by another Gpu",
    );

    let alias = "is written, so it must have a buffer of its own, but it shares one with";
    says(b.matmul_into(Layout::Nn, &x, &x, None, &x), &format!("matmul: out {alias} a"));
    says(b.sgd(&x, &x, None, &Sgd::default()), &format!("sgd: values {alias} grads"));
    let mut momentum = Momentum::resume(x.clone());
    let options = Sgd::new().momentum(0.9);
    let g = Tensor::from_slice(&gpu, [4, 4], &[0.5f32; 16]).unwrap();
    says(b.sgd(&x, &g, Some(&mut momentum), &options), &format!("sgd: velocity {alias} values"));
    let columns = x.reshape([16]).unwrap().rows(0..4).unwrap();
    says(b.column_sum_into(&x, &columns), &format!("column_sum: out {alias} input"));
    let y = Tensor::from_slice(&gpu, [4], &[0; 4]).unwrap();
    let weighted = CrossEntropy::new().position_weight(Weights::from(&columns));
    says(
        b.cross_entropy_with(&x, &y, &weighted, Grad::InPlace).map(|out| out.loss),
        &format!("cross_entropy: logits {alias} position_weight"),
    );
    let none = CrossEntropy::new().reduction(Reduction::None);
    says(
        b.cross_entropy_with(&x, &y, &none, LossRequest::new().grad(Grad::InPlace).upstream(&columns))
            .map(|out| out.loss),
        &format!("cross_entropy: logits {alias} upstream"),
    );
}

#[test]
fn callers_buffers() {
    let Some(gpu) = gpu() else { return };
    let buffer = |size, usage| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let all = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let make = |buffer: wgpu::Buffer, offset, shape: &[usize]| Tensor::<f32>::from_buffer(&gpu, buffer, offset, shape);
    assert!(make(buffer(64, all), 4, &[15]).is_ok());
    says(
        make(buffer(64, all), 4, &[16]),
        "from_buffer: the buffer must have 64 bytes from offset 4 on, got 64 bytes in all",
    );
    says(make(buffer(64, all), 2, &[1]), "from_buffer: the buffer must have an offset that is a multiple of 4, got 2");
    says(
        make(buffer(64, wgpu::BufferUsages::STORAGE), 0, &[1]),
        "from_buffer: the buffer must have the usages BufferUsages(COPY_SRC | COPY_DST | STORAGE), got BufferUsages(STORAGE)",
    );
    says(
        make(buffer(64, all), 0, &[1 << 20, 1 << 20]),
        "from_buffer: the buffer must have 4398046511104 bytes from offset 0 on, got 64 bytes in all",
    );
    says(
        make(buffer(64, all), 0, &[1 << 23, 1 << 23]),
        "from_buffer: the number of elements needs 70368744177664, the limit is 17592186044416",
    );
    says(
        make(buffer(64, all), 0, &[usize::MAX, 2]),
        "from_buffer: a dimension needs 18446744073709551615, the limit is 4294967295",
    );
}

#[test]
fn caps() {
    let Some(gpu) = gpu() else { return };
    let with = |change: fn(&mut Caps)| {
        let mut caps = gpu.caps().clone();
        change(&mut caps);
        gpu.with_caps(caps)
    };
    assert!(with(|c| c.family = Family::Gpu).is_ok());
    for (what, result) in [
        ("max_binding", with(|c| c.max_binding = 100)),
        ("max_binding", with(|c| c.max_binding = u64::MAX)),
        ("max_buffer", with(|c| c.max_buffer = u64::MAX)),
        ("max_buffer", with(|c| c.max_buffer = 20_000)),
        ("max_groups", with(|c| c.max_groups = 0)),
        ("max_invocations", with(|c| c.max_invocations = 1)),
        ("max_turns", with(|c| c.max_turns = Caps::MIN_TURNS - 1)),
        ("max_turns", with(|c| c.max_turns += 1)),
        ("simd_width", with(|c| c.simd_width = 7)),
        ("simd_width", with(|c| c.simd_width = 1)),
        ("storage_align", with(|c| c.storage_align = 3)),
        ("uniform_align", with(|c| c.uniform_align = 1 << 20)),
    ] {
        let error = result.err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(matches!(&error, Error::Value { op: "with_caps", what: w, .. } if *w == what), "{error}");
    }
}

#[test]
fn an_adapter_that_does_not_exist_lists_those_that_do() {
    let Some(gpu) = gpu() else { return };
    let error = pollster::block_on(Gpu::request("no such adapter")).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("no adapter matches \"no such adapter\"; available: "), "{message}");
    assert!(message.contains(&gpu.device().adapter_info().name), "{message}");
}
