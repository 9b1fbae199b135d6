//! A Vulkan driver that refuses to create a device, or loses it by itself. No wgpu call can provoke
//! this, so a library between wgpu and the loader (`data/faulty_vulkan.c`, compiled here) returns
//! the errors. This program runs itself again with that library in place of the loader.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xent::wgpu;
use xent::{Error, Gpu, Readback, Tensor};

const TIMEOUT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    // `cargo test -- FILTER` selects this program by its name, like other tests.
    let (options, filters): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with('-'));
    if options.iter().any(|option| option == "--list") {
        return ExitCode::SUCCESS;
    }
    if !filters.is_empty() && !filters.iter().any(|filter| "driver_faults".contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    if let Some(fault) = std::env::var_os("XENT_FAULT") {
        with_faults(Path::new(&fault));
        return ExitCode::SUCCESS;
    }
    let loader = ["x86_64-linux-gnu", "aarch64-linux-gnu", ".", "../lib64"]
        .map(|folder| format!("/usr/lib/{folder}/libvulkan.so.1"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(loader) = loader.filter(|_| pollster::block_on(Gpu::request("vulkan")).is_ok()) else {
        println!("SKIPPED: the faults of a Vulkan driver, because there is none");
        return ExitCode::from(u8::from(std::env::var("XENT_GPU").is_ok_and(|policy| policy == "require")));
    };
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/faulty_vulkan.c");
    let library = folder.path().join("libvulkan.so.1");
    // With the loader's soname, and never unloaded: every wgpu instance must get this library, not
    // the real loader, which this library loads.
    let named = ["-Wl,-soname,libvulkan.so.1", "-Wl,-z,nodelete"];
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1"]).args(named).arg("-o").args([&library, &source]).arg("-ldl");
    let compiled = compile.status();
    assert!(compiled.expect("a C compiler, which Rust links with").success());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.env("LD_LIBRARY_PATH", folder.path()).env("XENT_VULKAN", loader).env("XENT_ADAPTER", "vulkan");
    let status = child.env("XENT_FAULT", folder.path().join("fault")).status().unwrap();
    println!("driver_faults: {status}");
    ExitCode::from(u8::from(!status.success()))
}

fn recorded(gpu: &Gpu) -> (xent::Batch, Readback<Vec<f32>>) {
    let x = Tensor::from_slice(gpu, [3], &[1.0f32, -2.0, 3.0]).unwrap();
    let mut batch = gpu.batch();
    let y = batch.relu(&x).unwrap();
    let ticket = batch.read(&y).unwrap();
    (batch, ticket)
}

fn works(gpu: &Gpu) {
    let (batch, mut ticket) = recorded(gpu);
    batch.submit().unwrap();
    assert_eq!(ticket.wait(TIMEOUT).unwrap(), [1.0, 0.0, 3.0]);
}

fn with_faults(file: &Path) {
    let fault = |what: &str| std::fs::write(file, what).unwrap();
    fault("");
    works(&Gpu::headless().unwrap());

    fault("create");
    let refused = Gpu::headless();
    assert!(matches!(refused, Err(Error::RequestDevice { .. })), "{refused:?}");
    fault("");
    works(&Gpu::headless().unwrap());

    // The device is lost during a submission, and during a wait.
    for what in ["submit", "wait"] {
        let gpu = Gpu::headless().unwrap();
        let uncaptured = Arc::new(Mutex::new(Vec::new()));
        let lost = Arc::new(Mutex::new(0));
        let (seen, times) = (uncaptured.clone(), lost.clone());
        gpu.device().on_uncaptured_error(Arc::new(move |e: wgpu::Error| seen.lock().unwrap().push(e.to_string())));
        gpu.device().set_device_lost_callback(move |_, _| *times.lock().unwrap() += 1);
        works(&gpu);
        let (batch, mut ticket) = recorded(&gpu);
        let (late, mut late_ticket) = recorded(&gpu);
        if what == "wait" {
            batch.submit().unwrap();
            fault(what);
        } else {
            fault(what);
            let _ = batch.submit();
        }
        let outcome = ticket.wait(TIMEOUT);
        assert!(matches!(outcome, Err(Error::Readback(_))), "{what}: {outcome:?}");
        assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Taken)), "{what}");
        assert_eq!(*lost.lock().unwrap(), 1, "{what}: the application is told");
        // Work that is submitted afterwards.
        let _ = late.submit();
        let outcome = late_ticket.wait(TIMEOUT);
        assert!(matches!(outcome, Err(Error::Readback(_))), "{what}: {outcome:?}");
        assert_eq!(*uncaptured.lock().unwrap(), [""; 0], "{what}");
        fault("");
        works(&Gpu::headless().unwrap());
    }
}
