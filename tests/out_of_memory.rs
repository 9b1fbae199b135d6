//! A device without memory, in a process of its own: it limits what it may have.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use xent::wgpu;
use xent::{Caps, Error, Gpu, Tensor};
use xent::loss::{CrossEntropy, Targets};

const TIMEOUT: Duration = Duration::from_secs(120);

/// Lets the process have so many bytes of addresses beside those that it has now, or any number again. Software adapters would
/// otherwise promise any amount of memory and lose the process when it is used.
fn limit_memory(more: Option<u64>) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a Linux");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
    let limit = more.map_or("unlimited".to_owned(), |more| (pages * 4096 + more).to_string());
    // The soft limit alone: it can be raised again.
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
        // A driver of hardware knows what it has.
        out_of_memory(Tensor::<f32>::zeros(&gpu, [1 << 22, 1 << 20]));
        return works(&gpu);
    }
    let zeros = vec![0.0f32; 80 << 20];
    limit_memory(Some(600 << 20));
    let before = gpu.counters();
    let lost = match gpu.device().adapter_info().backend {
        // wgpu does not ask OpenGL whether it had the memory, and finds out when it maps some: that loses the device.
        wgpu::Backend::Gl => {
            let mut batch = gpu.batch();
            let mut ticket = batch.read(&Tensor::<f32>::zeros(&gpu, [300 << 20]).unwrap()).unwrap();
            batch.submit().unwrap();
            ticket.wait(TIMEOUT)
        }
        _ => {
            // 16 TiB of elements, and as an output.
            out_of_memory(Tensor::<f32>::zeros(&gpu, [1 << 22, 1 << 20]));
            let column = Tensor::<f32>::zeros(&gpu, [1 << 22, 1]).unwrap();
            let mut batch = gpu.batch();
            out_of_memory(batch.matmul(xent::Layout::Nt, &column, &column, None));
            drop((batch, column));
            // In pieces: those that could be had are given back, and so is what waits to be used again.
            let pieces = gpu.with_caps(Caps { max_buffer: 64 << 20, ..gpu.caps().clone() }).unwrap();
            out_of_memory(Tensor::<f32>::zeros(&pieces, [1 << 30]));
            drop(Tensor::<f32>::zeros(&pieces, [100 << 20]).unwrap());
            // Until the application polls, wgpu keeps what the device has made zero.
            gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
            drop(Tensor::<f32>::zeros(&gpu, [100 << 20]).unwrap());
            works(&gpu);
            // Memory for the tensor, but not for wgpu's own copy of what is written to it: that loses the device.
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
