//! Devices that are lost at every point of a recording's life. Each test has its own devices,
//! because it destroys them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::*;
use xent::wgpu;
use xent::{Error, Gpu, Readback, Result, Tensor};

const VALUES: [f32; 4] = [1.0, -2.0, 3.0, 4.0];
const WANT: [f32; 4] = [1.0, 0.0, 3.0, 4.0];

/// Returns a new device, and the errors that reach its handler of uncaptured errors.
fn own() -> (Gpu, Arc<Mutex<Vec<String>>>) {
    let gpu = adapter().unwrap();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = errors.clone();
    gpu.device().on_uncaptured_error(Arc::new(move |error: wgpu::Error| seen.lock().unwrap().push(error.to_string())));
    (gpu, errors)
}

/// Returns the values, or `None` after one of the errors that a lost device may cause. A second
/// wait must return [`Error::Taken`].
#[track_caller]
fn values_or_lost(mut ticket: Readback<Vec<f32>>) -> Option<Vec<f32>> {
    let outcome = ticket.wait(TIMEOUT);
    assert!(matches!(ticket.wait(TIMEOUT), Err(Error::Taken)));
    match outcome {
        Ok(values) => {
            assert_eq!(values, WANT);
            Some(values)
        }
        Err(Error::Readback(_) | Error::MapRange(_) | Error::NotSubmitted) => None,
        Err(other) => panic!("{other:?}"),
    }
}

/// Checks that recording or submitting returns no errors other than wgpu's.
#[track_caller]
fn done_or_gpu_error<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Gpu { .. } | Error::MapRange(_)) => None,
        Err(other) => panic!("{other:?}"),
    }
}

#[track_caller]
fn a_new_one_works() {
    let gpu = adapter().unwrap();
    let (batch, mut ticket) = relu_of(&gpu, &VALUES);
    batch.submit().unwrap();
    assert_eq!(ticket.wait(TIMEOUT).unwrap(), WANT);
}

#[test]
fn before_recording() {
    let Some(_shared) = gpu() else { return };
    // Before the device is used, and with free buffers in the pool.
    for used in [false, true] {
        let (gpu, errors) = own();
        let x = Tensor::from_slice(&gpu, [4], &VALUES).unwrap();
        if used {
            let (mut batch, mut ticket) = relu_of(&gpu, &VALUES);
            batch.upload(&x, &VALUES).unwrap();
            batch.submit().unwrap();
            assert_eq!(ticket.wait(TIMEOUT).unwrap(), WANT);
        }
        gpu.device().destroy();
        if used {
            // Only now are the device's resources freed.
            let _ = gpu.device().poll(wgpu::PollType::wait_indefinitely());
        }
        done_or_gpu_error(Tensor::from_slice(&gpu, [4], &VALUES));
        done_or_gpu_error(x.write(&VALUES));
        let mut batch = gpu.batch();
        done_or_gpu_error(batch.upload(&x, &VALUES));
        let ticket = done_or_gpu_error(batch.relu(&x)).and_then(|y| done_or_gpu_error(batch.read(&y)));
        done_or_gpu_error(batch.submit());
        assert!(ticket.and_then(values_or_lost).is_none(), "no values from a lost device");
        done_or_gpu_error(Gpu::new(gpu.device().clone(), gpu.queue().clone()));
        assert_eq!(*errors.lock().unwrap(), [""; 0], "nothing of ours is uncaptured");
    }
    a_new_one_works();
}

#[test]
fn between_recording_and_submission() {
    let Some(_shared) = gpu() else { return };
    let (gpu, errors) = own();
    let (batch, ticket) = relu_of(&gpu, &VALUES);
    let (unsubmitted, dropped) = relu_of(&gpu, &VALUES);
    gpu.device().destroy();
    done_or_gpu_error(batch.submit());
    assert!(values_or_lost(ticket).is_none());
    drop(unsubmitted);
    assert!(values_or_lost(dropped).is_none());
    assert_eq!(*errors.lock().unwrap(), [""; 0]);
    a_new_one_works();
}

/// With xent in its encoder and submission, the application sees the same errors as without xent.
#[test]
fn between_recording_and_the_callers_submission() {
    let Some(_shared) = gpu() else { return };
    for lost_first in [true, false] {
        let uncaptured = |with_xent: bool| {
            let (gpu, errors) = own();
            let x = Tensor::from_slice(&gpu, [4], &VALUES).unwrap();
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            if lost_first {
                gpu.device().destroy();
            }
            encoder.clear_buffer(x.buffer(), 0, Some(16));
            let ticket = with_xent.then(|| {
                let mut recorder = gpu.record(&mut encoder);
                let y = done_or_gpu_error(recorder.relu(&x))?;
                let ticket = done_or_gpu_error(recorder.read(&y))?;
                done_or_gpu_error(recorder.finish());
                Some(ticket)
            });
            gpu.device().destroy();
            gpu.queue().submit([encoder.finish()]);
            assert!(ticket.flatten().and_then(values_or_lost).is_none());
            Arc::try_unwrap(errors).map_or_else(|errors| errors.lock().unwrap().clone(), |e| e.into_inner().unwrap())
        };
        assert_eq!(uncaptured(true), uncaptured(false), "lost first: {lost_first}");
    }
    a_new_one_works();
}

#[test]
fn after_submission_and_during_readback() {
    let Some(_shared) = gpu() else { return };
    for polled in [0, 1, 2] {
        let (gpu, errors) = own();
        let (batch, ticket) = relu_of(&gpu, &VALUES);
        batch.submit().unwrap();
        let poll = || drop(gpu.device().poll(wgpu::PollType::wait_indefinitely()));
        // Lost while the work runs; after the readback is mapped; after it is mapped, with a poll
        // that frees the memory.
        if polled >= 1 {
            poll();
        }
        gpu.device().destroy();
        if polled >= 2 {
            poll();
        }
        // Values that had arrived are still valid; later waits fail.
        assert_eq!(values_or_lost(ticket).is_some(), polled == 1, "lost after {polled} polls");
        assert_eq!(*errors.lock().unwrap(), [""; 0]);
    }
    a_new_one_works();
}

#[test]
fn while_it_is_awaited() {
    let Some(_shared) = gpu() else { return };
    for submitted in [true, false] {
        let (gpu, errors) = own();
        let (batch, ticket) = relu_of(&gpu, &VALUES);
        let mut batch = Some(batch);
        if submitted {
            batch.take().into_iter().for_each(|batch| batch.submit().unwrap());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let host = std::thread::spawn({
            let (device, stop) = (gpu.device().clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = device.poll(wgpu::PollType::Poll);
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        });
        gpu.device().destroy();
        let late = std::thread::spawn(move || batch.map(|batch| done_or_gpu_error(batch.submit())));
        match pollster::block_on(ticket) {
            Ok(values) => assert!(submitted && values == WANT, "{values:?}"),
            Err(Error::Readback(_) | Error::MapRange(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
        late.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        host.join().unwrap();
        assert_eq!(*errors.lock().unwrap(), [""; 0]);
    }
    a_new_one_works();
}
