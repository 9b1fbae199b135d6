//! Shares tensors between Burn and xent on Burn's own device, without a copy through the host: Burn
//! computes logits, xent computes the loss and the gradient from Burn's buffer, and Burn continues
//! with the gradient in a tensor of its own.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml --example burn_tensors`

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use burn::backend::Wgpu;
use burn::backend::wgpu::{AutoCompiler, CubeBackend, WgpuResource};
use burn::tensor::{Device, Distribution, Tensor};
use cubecl_wgpu::WgpuServer;
use xent::{Gpu, cpu, wgpu};
use xent::loss::{CrossEntropy, Grad};

const ROWS: usize = 64;
const CLASSES: usize = 1000;

/// Calls `use_it` with the buffer of a Burn tensor, after submitting Burn's pending work on it.
/// Burn keeps the tensor in this buffer during the call.
fn with_buffer<T>(tensor: &Tensor<2>, use_it: impl FnOnce(&WgpuResource) -> Result<T>) -> Result<T> {
    let fused = tensor.clone().try_into_primitive::<Wgpu>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let client = fused.client.clone();
    let primitive = client.resolve_tensor_float::<CubeBackend>(fused);
    ensure!(primitive.is_contiguous(), "xent's tensors are row-major");
    let managed = primitive
        .client
        .get_resource::<WgpuServer<AutoCompiler>>(primitive.handle.clone())
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    primitive.client.flush().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    use_it(managed.resource())
}

fn main() -> Result<()> {
    let (device, setup) = Device::wgpu_options().init_with_setup().context("Burn's device")?;
    let gpu = Gpu::new(setup.device, setup.queue)?;
    println!("adapter: {}", gpu.describe());

    let scores = Tensor::<2>::random([ROWS, CLASSES], Distribution::Normal(0.0, 1.0), &device);
    let logits = scores * 3.0 - 1.0;
    let grad = Tensor::<2>::zeros([ROWS, CLASSES], &device) + 0.0;
    let labels: Vec<u32> = (0..ROWS).map(|row| (row * 7919 % CLASSES) as u32).collect();
    let targets = xent::loss::Targets::new(&gpu, [ROWS], &labels, CLASSES)?;

    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut loss = with_buffer(&logits, |logits| {
        with_buffer(&grad, |grad| {
            let x = xent::Tensor::<f32>::from_buffer(&gpu, logits.buffer.clone(), logits.offset, [ROWS, CLASSES])?;
            let mut recorder = gpu.record(&mut encoder);
            let out = recorder.cross_entropy_with(&x, &targets, &CrossEntropy::default(), Grad::New)?;
            let ticket = recorder.read(&out.loss)?;
            recorder.finish()?;
            // Burn keeps several tensors in one buffer, but a kernel's output needs a buffer of its
            // own: copy it on the device.
            let (from, bytes) = (out.gradient()?, (ROWS * CLASSES * 4) as u64);
            encoder.copy_buffer_to_buffer(from.buffer(), from.offset(), &grad.buffer, grad.offset, bytes);
            gpu.queue().submit([encoder.finish()]);
            Ok(ticket)
        })
    })?;
    // Burn continues on the same queue.
    let used = grad * 2.0;

    let host = logits.into_data().try_to_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let used = used.into_data().try_to_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
    let want = cpu::cross_entropy_backward((&host, &[ROWS, CLASSES]), &labels, &CrossEntropy::default(), None)?;
    let loss = loss.wait(Duration::from_secs(60))?[0];
    let worst = used.iter().zip(&want.grad).map(|(&got, want)| (f64::from(got) - 2.0 * want).abs()).fold(0.0, f64::max);
    println!("loss {loss:.6}, reference {:.6}; worst difference of a doubled gradient {worst:e}", want.loss[0]);
    ensure!((f64::from(loss) - want.loss[0]).abs() < 1e-5 && worst < 1e-7, "they differ");
    Ok(())
}
