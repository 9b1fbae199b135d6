//! Compiling ahead, and the driver's cache in a file.

use std::fs;

use crate::common::*;
use xent::loss::{CrossEntropy, Grad, Targets};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Optimization, Schedule, Sgd, WindowMean};
use xent::{Caps, Error, Family, Gpu, Layout, Tensor, wgpu};

#[test]
fn warm_kernels_are_not_recompiled() {
    let Some(shared) = gpu() else { return };
    // A device that has compiled nothing.
    let gpu = adapter().unwrap();
    // The length of rows held in registers is a constant of the kernel.
    let [classes, other] = [29, 30];
    let x = Tensor::from_slice(&gpu, [7, classes], &random(1, 7 * classes, 1.0)).unwrap();
    let y = Targets::new(&gpu, [7], &labels(2, 7, classes), classes).unwrap();
    let options = CrossEntropy::new().softcap(None).z_loss(0.5);
    let counters = gpu.counters();
    gpu.warm_up(|rec| rec.cross_entropy_with(&x, &y, &options, Grad::New).map(drop)).unwrap();
    let warm = gpu.counters();
    assert!(warm.kernels_compiled > counters.kernels_compiled);
    assert_eq!(warm.submissions, counters.submissions);
    let [loss, grad] = eval(&gpu, |b| {
        b.cross_entropy_with(&x, &y, &options, Grad::New).and_then(|out| Ok([out.loss.clone(), out.gradient()?]))
    });
    assert_eq!(gpu.counters().kernels_compiled, warm.kernels_compiled);
    assert!(loss[0] > 0.0 && grad.iter().all(|g| g.is_finite()));
    // Another length is another variant of the kernel.
    drop(shared);
    let x = Tensor::from_slice(&gpu, [7, other], &random(1, 7 * other, 1.0)).unwrap();
    let y = Targets::new(&gpu, [7], &labels(2, 7, other), other).unwrap();
    gpu.warm_up(|rec| rec.cross_entropy_with(&x, &y, &options, Grad::New).map(drop)).unwrap();
    assert!(gpu.counters().kernels_compiled > warm.kernels_compiled);
    // An error of the recording is returned.
    let error = gpu.warm_up(|rec| rec.matmul(Layout::Nn, &x, &x, None).map(drop)).unwrap_err();
    assert!(matches!(error, Error::Shape { op: "matmul", .. }), "{error}");
}

/// Warming up, also between the passes of a window, compiles everything and changes nothing.
#[test]
fn a_warm_training_compiles_nothing_and_stays_as_it_is() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    let [n, inputs, classes] = [5, 6, 4];
    let x = Tensor::from_slice(&gpu, [n, inputs], &random(1, n * inputs, 1.0)).unwrap();
    let y = Targets::new(&gpu, [n], &labels(2, n, classes), classes).unwrap();
    let target = Tensor::from_slice(&gpu, [n, 1], &unit(3, n)).unwrap();
    for (accumulate, window_mean) in [(1, WindowMean::Tokens), (3, WindowMean::Tokens), (2, WindowMean::Passes)] {
        let start = || {
            let head = |outputs| Sequential::new().linear(8, outputs);
            let trunk = Sequential::new().linear(inputs, 8).relu();
            let model = Model::with_heads(&gpu, &trunk, &[("a", &head(classes)), ("b", &head(1))], 1).unwrap();
            let sgd = Sgd::new().lr(0.1).momentum(0.9);
            let schedule = Schedule::Cosine { warm_up: 1, steps: 9, floor: 0.1 };
            let options = Optimization { sgd, accumulate, window_mean, schedule, ..Optimization::default() };
            let options = Optimization { clip_norm: Some(0.5), skip_non_finite: true, ..options };
            Training::new(model, vec![Loss::cross_entropy(), Loss::mse()], options).unwrap()
        };
        let steps = |training: &mut Training| {
            let mut batch = gpu.batch();
            training.step(&mut batch, &x, &[(&y).into(), (&target).into()]).unwrap();
            batch.submit().unwrap();
        };
        let end = |training: &Training| {
            let mut batch = gpu.batch();
            let mut state = training.checkpoint(&mut batch).unwrap();
            batch.submit().unwrap();
            format!("{:?}", state.wait(TIMEOUT).unwrap())
        };
        let mut warm = start();
        let (submissions, before) = (gpu.counters().submissions, end(&warm));
        warm.warm_up(&gpu, &x, &[(&y).into(), (&target).into()]).unwrap();
        assert_eq!(gpu.counters().submissions, submissions + 1, "of the checkpoint alone");
        assert_eq!(end(&warm), before);
        let compiled = gpu.counters().kernels_compiled;
        for _ in 0..4 {
            steps(&mut warm);
        }
        assert_eq!(gpu.counters().kernels_compiled, compiled, "{accumulate} passes");
        // Warmed up in the middle of its windows.
        let mut other = start();
        for step in 0..4 {
            steps(&mut other);
            if step == 1 {
                other.warm_up(&gpu, &x, &[(&y).into(), (&target).into()]).unwrap();
            }
        }
        assert_eq!(end(&warm), end(&other), "{accumulate} passes");
        let error = other.warm_up(&gpu, &x, &[(&y).into()]).unwrap_err();
        assert!(matches!(error, Error::Value { op: "Training::step", .. }), "{error}");
        assert_eq!(end(&warm), end(&other));
    }
    drop(shared);
}

#[test]
fn threads_compile_at_the_same_time() {
    let Some(shared) = gpu() else { return };
    let gpu = adapter().unwrap();
    let x = Tensor::from_slice(&gpu, [50, 50], &random(1, 2500, 1.0)).unwrap();
    let compiled = gpu.counters().kernels_compiled;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| gpu.warm_up(|rec| rec.softmax(&x, 0).map(drop)).unwrap());
        }
    });
    // Four warm-ups of the same kernel compile it once.
    assert_eq!(gpu.counters().kernels_compiled, compiled + 1);
    drop(shared);
}

#[test]
#[expect(unsafe_code, reason = "this test upholds the safety contract")]
fn the_drivers_cache_is_kept_in_a_file() {
    let Some(shared) = gpu() else { return };
    let fresh = || adapter().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kernels.cache");
    let relu = |gpu: &Gpu| {
        let x = Tensor::from_slice(gpu, [3], &[-1.0, 0.0, 2.0f32]).unwrap();
        assert_eq!(eval(gpu, |b| Ok([b.relu(&x)?])), [[0.0, 0.0, 2.0]]);
    };
    let gpu = fresh();
    assert!(!gpu.save_pipeline_cache(&path).unwrap(), "without a cache there is nothing to save");
    // SAFETY: the file does not exist.
    let has = unsafe { gpu.load_pipeline_cache(&path) }.unwrap();
    assert_eq!(has, gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE));
    relu(&gpu);
    assert_eq!(gpu.save_pipeline_cache(&path).unwrap(), has);
    if has {
        assert!(fs::metadata(&path).unwrap().len() > 0);
        let gpu = fresh();
        // SAFETY: the file was saved by `save_pipeline_cache`.
        assert!(unsafe { gpu.load_pipeline_cache(&path) }.unwrap());
        relu(&gpu);
        // wgpu checks its own header before the driver sees any data.
        fs::write(&path, b"something else").unwrap();
        let gpu = fresh();
        // SAFETY: no driver's cache begins with these bytes, so wgpu does not pass them on.
        assert!(unsafe { gpu.load_pipeline_cache(&path) }.unwrap());
        relu(&gpu);
        // SAFETY: a directory cannot be read as a file.
        let error = unsafe { fresh().load_pipeline_cache(directory.path()) }.unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
        let error = gpu.save_pipeline_cache(directory.path().join("no/such/place")).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error}");
    }
    drop(shared);
}

#[test]
fn tuned_choices_are_choices_of_the_device() {
    let Some(gpu) = gpu() else { return };
    // Choices that tuning tries, besides the defaults of all other tests.
    let x = Tensor::from_slice(&gpu, [70, 70], &random(1, 4900, 1.0)).unwrap();
    let product = |caps: Caps| {
        let gpu = gpu.with_caps(caps).unwrap();
        eval(&gpu, |b| Ok([b.matmul(Layout::Nt, &x, &x, None)?])).concat()
    };
    let caps = gpu.caps().clone();
    let want = product(Caps { family: Family::CpuSimd, ..caps.clone() });
    for simd_width in [4, 16] {
        let got = product(Caps { family: Family::CpuSimd, simd_width, ..caps.clone() });
        close("simd", &got, &want.iter().map(|&v| v.into()).collect::<Vec<_>>(), 1e-5, 1e-5);
    }
    for enough_tiles in [1, 512] {
        let got = product(Caps { family: Family::Gpu, enough_tiles, ..caps.clone() });
        close("gpu", &got, &want.iter().map(|&v| v.into()).collect::<Vec<_>>(), 1e-5, 1e-5);
    }
}
