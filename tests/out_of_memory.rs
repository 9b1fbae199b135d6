//! A device that runs out of memory, in a process of its own, whose address space is limited.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use xent::loss::{CrossEntropy, Targets};
use xent::wgpu;
use xent::{Caps, Error, Gpu, Tensor};

const TIMEOUT: Duration = Duration::from_secs(120);

/// Limits the address space of the process to its current size plus `more` bytes; `None` lifts the
/// limit. Without a limit, software adapters promise any amount of memory, and using it kills the
/// process.
fn limit_memory(more: Option<u64>) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
    let limit = more.map_or("unlimited".to_owned(), |more| (pages * 4096 + more).to_string());
    // Only the soft limit, which can be raised again.
    let arguments = [format!("--pid={}", std::process::id()), format!("--as={limit}:")];
    let status = std::process::Command::new("prlimit").args(arguments).status().expect("prlimit");
    assert!(status.success(), "{status}");
}

#[track_caller]
fn out_of_memory<T>(result: xent::Result<T>) {
    match result.err().expect("an error") {
        Error::Gpu { source: wgpu::Error::OutOfMemory { .. }, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn works(gpu: &Gpu) {
    let x = Tensor::from_slice(gpu, [2, 3], &[2.0f32, 1.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
    let y = Targets::new(gpu, [2], &[0, 2], 3).unwrap();
    let mut batch = gpu.batch();
    let loss = batch.cross_entropy(&x, &y, &CrossEntropy::default()).unwrap();
    let mut ticket = batch.read(&loss).unwrap();
    batch.submit().unwrap();
    let loss = ticket.wait(TIMEOUT).unwrap();
    assert!((loss[0] - 0.753_109).abs() < 1e-6, "{loss:?}");
}

#[test]
fn what_memory_there_is_not_is_an_error() {
    let gpu = match Gpu::headless() {
        Ok(gpu) => gpu,
        Err(error) if std::env::var("XENT_GPU").as_deref() != Ok("require") => return eprintln!("SKIPPED: {error}"),
        Err(error) => panic!("{error}"),
    };
    let uncaptured = Arc::new(Mutex::new(Vec::new()));
    let seen = uncaptured.clone();
    gpu.device().on_uncaptured_error(Arc::new(move |error: wgpu::Error| seen.lock().unwrap().push(error.to_string())));
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    works(&gpu);
    if gpu.device().adapter_info().device_type != wgpu::DeviceType::Cpu {
        // A hardware driver knows how much memory it has.
        out_of_memory(Tensor::<f32>::zeros(&gpu, [1 << 22, 1 << 20]));
        return works(&gpu);
    }
    let zeros = vec![0.0f32; 80 << 20];
    limit_memory(Some(600 << 20));
    let before = gpu.counters();
    let lost = match gpu.device().adapter_info().backend {
        // wgpu does not check OpenGL's allocations. It finds out only when it maps a buffer, which
        // loses the device.
        wgpu::Backend::Gl => {
            let mut batch = gpu.batch();
            let mut ticket = batch.read(&Tensor::<f32>::zeros(&gpu, [300 << 20]).unwrap()).unwrap();
            batch.submit().unwrap();
            ticket.wait(TIMEOUT)
        }
        _ => {
            // 16 TiB of elements, as a tensor and as the output of an operation.
            out_of_memory(Tensor::<f32>::zeros(&gpu, [1 << 22, 1 << 20]));
            let column = Tensor::<f32>::zeros(&gpu, [1 << 22, 1]).unwrap();
            let mut batch = gpu.batch();
            out_of_memory(batch.matmul(xent::Layout::Nt, &column, &column, None));
            drop((batch, column));
            // A tensor of several buffers: the failure frees the buffers that were allocated, and
            // the free buffers in the pool.
            let pieces = gpu.with_caps(Caps { max_buffer: 64 << 20, ..gpu.caps().clone() }).unwrap();
            out_of_memory(Tensor::<f32>::zeros(&pieces, [1 << 30]));
            drop(Tensor::<f32>::zeros(&pieces, [100 << 20]).unwrap());
            // wgpu keeps the buffers of cleared tensors until the application polls.
            gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
            drop(Tensor::<f32>::zeros(&gpu, [100 << 20]).unwrap());
            works(&gpu);
            // There is memory for the tensor, but not for wgpu's own copy of the written data,
            // which loses the device.
            out_of_memory(Tensor::from_slice(&gpu, [zeros.len()], &zeros));
            let mut batch = gpu.batch();
            let late = Tensor::<f32>::zeros(&gpu, [4]).and_then(|x| batch.read(&x));
            let _ = batch.submit();
            late.and_then(|mut ticket| ticket.wait(TIMEOUT))
        }
    };
    assert!(matches!(lost, Err(Error::Readback(_) | Error::Gpu { .. })), "{:?}", lost.map(|values| values.len()));
    assert_eq!(gpu.counters().bytes_in_use, before.bytes_in_use, "nothing is held");
    assert!(pollster::block_on(scope.pop()).is_none(), "the application's scope sees none of it");
    assert_eq!(*uncaptured.lock().unwrap(), [""; 0]);
    limit_memory(None);
    works(&Gpu::headless().unwrap());
}
