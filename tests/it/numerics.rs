//! The elementary functions of `shaders/lib/numerics.wgsl` against f64, over their whole range, on
//! the shared device.

use std::fmt::Write as _;

use crate::common::{gpu, pipeline_of, say};
use xent::Gpu;
use xent::wgpu::{self, util::DeviceExt as _};

const NUMERICS: &str = include_str!("../../shaders/lib/numerics.wgsl");

/// A function of one argument: its name in WGSL, its definition in f64, the error bound in ulp, and
/// the range of the samples.
struct Function {
    name: &'static str,
    exact: fn(f64) -> f64,
    bound: f64,
    from: f32,
    to: f32,
    /// The smallest magnitude of a result that may not be flushed to 0.
    flush: f64,
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn exp_minus_abs(x: f64) -> f64 {
    (-x.abs()).exp()
}

fn lifted_exp(x: f64) -> f64 {
    80f64.exp2() * x.exp()
}

fn lifted_exp_minus_abs(x: f64) -> f64 {
    126f64.exp2() * exp_minus_abs(x)
}

const FUNCTIONS: &[Function] = &[
    Function { name: "exp_minus_abs", exact: exp_minus_abs, bound: 2.0, from: -104.5, to: 104.5, flush: 0.0 },
    Function { name: "lifted_exp", exact: lifted_exp, bound: 2.0, from: -142.6, to: 30.0, flush: 0.0 },
    Function {
        name: "lifted_exp_minus_abs",
        exact: lifted_exp_minus_abs,
        bound: 2.0,
        from: -173.9,
        to: 173.9,
        flush: 0.0,
    },
    // By definition 0 below 2^-126.
    Function { name: "exp_nonpositive", exact: f64::exp, bound: 2.0, from: -104.5, to: 0.0, flush: 1.1754944e-38 },
    Function { name: "log_f32", exact: f64::ln, bound: 2.0, from: 0.0, to: f32::MAX, flush: 0.0 },
    Function { name: "log1p_f32", exact: f64::ln_1p, bound: 2.0, from: -1.0, to: f32::MAX, flush: 0.0 },
    Function { name: "sigmoid_f32", exact: sigmoid, bound: 3.0, from: -104.5, to: 104.5, flush: 0.0 },
    Function { name: "softplus_f32", exact: softplus, bound: 3.0, from: -104.5, to: f32::MAX, flush: 0.0 },
    Function { name: "tanh_f32", exact: f64::tanh, bound: 3.0, from: f32::MIN, to: f32::MAX, flush: 0.0 },
];

/// Floats in the order of their values, as integers.
fn order(x: f32) -> i64 {
    let bits = i64::from(x.to_bits() & 0x7fff_ffff);
    if x.is_sign_negative() { -bits } else { bits }
}

fn unorder(i: i64) -> f32 {
    let x = f32::from_bits(i.unsigned_abs() as u32);
    if i < 0 { -x } else { x }
}

/// Returns two million floats evenly spaced in the order of floats (every binade, subnormals, too),
/// and as many evenly spaced in value where the functions bend.
fn samples(from: f32, to: f32) -> Vec<f32> {
    let (low, high) = (order(from), order(to));
    let step = ((high - low) / 2_000_000).max(1);
    let mut xs: Vec<f32> = (low..=high).step_by(step as usize).map(unorder).collect();
    let (near_low, near_high) = (from.max(-105.0), to.min(105.0));
    let width = (f64::from(near_high) - f64::from(near_low)) / 2_000_000.0;
    xs.extend((0..=2_000_000).map(|i| (f64::from(near_low) + width * f64::from(i)) as f32));
    xs.extend([from, to]);
    xs.retain(|x| (from..=to).contains(x));
    xs
}

/// Returns the error in units in the last place of `f32` at `want`.
pub(crate) fn ulps(got: f32, want: f64) -> f64 {
    let exponent = want.abs().log2().floor().clamp(-126.0, 127.0);
    (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
}

/// Evaluates a WGSL expression, which may call the functions of `numerics.wgsl`, for every `x`.
pub(crate) fn evaluate(gpu: &Gpu, expression: &str, xs: &[f32]) -> Vec<f32> {
    let device = gpu.device();
    let source = format!(
        "{NUMERICS}
        @group(0) @binding(0) var<storage, read> input: array<f32>;
        @group(0) @binding(1) var<storage, read_write> output: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {{
            for (var i = id.x; i < arrayLength(&input); i += n.x * 64u) {{
                let x = input[i];
                output[i] = {expression};
            }}
        }}"
    );
    let pipeline = pipeline_of(device, &source);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let input = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(xs),
        usage,
    });
    let output = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: input.size(),
        usage,
        mapped_at_creation: false,
    });
    let entries = [&input, &output].map(wgpu::Buffer::as_entire_binding);
    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[0, 1].map(|i: usize| wgpu::BindGroupEntry { binding: i as u32, resource: entries[i].clone() }),
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &bind_group, &[]);
    pass.dispatch_workgroups(1024, 1, 1);
    drop(pass);
    let tensor = xent::Tensor::<f32>::from_buffer(gpu, output, 0, [xs.len()]).unwrap();
    let mut recorder = gpu.record(&mut encoder);
    let mut ticket = recorder.read(&tensor).unwrap();
    drop(recorder);
    gpu.queue().submit([encoder.finish()]);
    ticket.wait(crate::common::TIMEOUT).unwrap()
}

#[test]
fn functions_are_accurate_over_their_whole_range() {
    let Some(gpu) = gpu() else { return };
    let mut report = format!("largest error in ulp on {}:\n", gpu.describe());
    let mut failures = Vec::new();
    for f in FUNCTIONS {
        let xs = samples(f.from, f.to);
        let got = evaluate(&gpu, &format!("{}(x)", f.name), &xs);
        let (mut worst, mut at, mut flushed) = (0.0, 0.0, 0);
        for (&x, &y) in xs.iter().zip(&got) {
            let want = (f.exact)(f64::from(x));
            let overflow = (want as f32).is_infinite();
            if overflow && y.is_infinite() && y.is_sign_positive() == want.is_sign_positive() {
                continue;
            }
            if y == 0.0 && want.abs() < f.flush {
                flushed += 1;
                continue;
            }
            let error = ulps(y, want);
            // NaN is always wrong here.
            if error.is_nan() || error > worst {
                (worst, at) = (if error.is_nan() { f64::INFINITY } else { error }, x);
            }
        }
        let count = xs.len();
        writeln!(report, "  {:16} {worst:.3} at {at:e} ({count} arguments, {flushed} flushed)", f.name).unwrap();
        if worst > f.bound {
            failures.push(f.name);
        }
    }
    say(&report);
    assert!(failures.is_empty(), "{failures:?} are not accurate enough\n{report}");
}

#[test]
fn special_values_are_exact() {
    let Some(gpu) = gpu() else { return };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let negative_nan = f32::from_bits(0xffc0_0001);
    #[rustfmt::skip]
    let cases: &[(&str, &[(f32, f32)])] = &[
        ("exp_minus_abs", &[(0.0, 1.0), (-0.0, 1.0), (inf, 0.0), (-inf, 0.0), (200.0, 0.0), (-200.0, 0.0), (f32::MAX, 0.0), (f32::MIN, 0.0), (1e-45, 1.0)]),
        ("lifted_exp", &[(0.0, 80f32.exp2()), (-0.0, 80f32.exp2()), (-inf, 0.0), (f32::MIN, 0.0), (-143.0, 0.0), (-1e-45, 80f32.exp2())]),
        ("exp_nonpositive", &[(0.0, 1.0), (-0.0, 1.0), (-inf, 0.0), (f32::MIN, 0.0), (-1e-45, 1.0)]),
        ("log_f32", &[(1.0, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-inf, nan), (-1.0, nan), (-1e-45, nan), (nan, nan), (negative_nan, nan)]),
        ("log1p_f32", &[(0.0, 0.0), (-1.0, -inf), (-1.5, nan), (inf, inf), (-inf, nan), (nan, nan), (negative_nan, nan), (1e-45, 1e-45),
            (-1e-45, -1e-45), (1e-30, 1e-30)]),
        ("sigmoid_f32", &[(0.0, 0.5), (inf, 1.0), (-inf, 0.0), (nan, nan), (negative_nan, nan), (f32::MAX, 1.0), (f32::MIN, 0.0)]),
        ("softplus_f32", &[(inf, inf), (-inf, 0.0), (nan, nan), (negative_nan, nan), (f32::MAX, f32::MAX), (f32::MIN, 0.0)]),
    ];
    for (name, pairs) in cases {
        let xs: Vec<f32> = pairs.iter().map(|p| p.0).collect();
        for ((x, want), got) in pairs.iter().zip(evaluate(&gpu, &format!("{name}(x)"), &xs)) {
            assert!(
                got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{name}({x:e}) = {got:e}, want {want:e} on {}",
                gpu.describe()
            );
        }
    }
}
