//! Results are bit-identical every time: amid other work, in reused memory, from several threads,
//! and whether dispatches are split or not.

use crate::common::*;
use crate::every_op::{ops, run};
use xent::{Caps, Error, Family, Gpu, Tensor};

/// How often each operation is repeated: `XENT_RUNS` times, or 10, or 4 of a sample.
fn runs() -> usize {
    std::env::var("XENT_RUNS")
        .map_or(if sweeps_in_full() { 10 } else { 4 }, |runs| runs.parse().expect("XENT_RUNS is a number"))
}

/// Poisons the buffers that the next operations get with NaN: more buffers of each size class (four
/// per power of two) than any operation takes.
fn poison(gpu: &Gpu) {
    gpu.trim();
    let mut held = Vec::new();
    for power in 4..19u32 {
        for quarters in 5..=8usize {
            let words = (1usize << power) * quarters / 8 / 4;
            let values = vec![f32::NAN; words.max(1)];
            for _ in 0..24.min((4 << 20) / (4 * values.len())) {
                held.push(Tensor::from_slice(gpu, [values.len()], &values).unwrap());
            }
        }
    }
}

#[test]
fn every_operation_repeats_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    // Also with the largest tiles of products, and with so few threads that several workgroups
    // share a long row.
    let other = Caps { family: Family::Gpu, enough_tiles: 1, max_invocations: 64, ..gpu.caps().clone() };
    let other = gpu.with_caps(other).unwrap();
    for gpu in families(&gpu).into_iter().chain([other]) {
        for (name, record) in ops(5) {
            let first = run(&gpu, record).unwrap();
            assert!(first.iter().any(|&byte| byte != 0), "{name}");
            for time in 1..runs() {
                if time == runs() / 2 {
                    poison(&gpu);
                }
                assert!(run(&gpu, record).unwrap() == first, "{name}, run {time}, {:?}", gpu.caps().family);
            }
        }
    }
}

/// No operation reads memory that it has not written: buffers hold NaN, and other work is in the
/// queue before and after.
#[test]
fn stale_buffer_contents_do_not_matter() {
    let Some(gpu) = gpu() else { return };
    for gpu in devices(&gpu) {
        for (name, record) in ops(1) {
            gpu.trim();
            let created = || gpu.counters().buffers_created;
            let before = created();
            let clean = run(&gpu, record).unwrap();
            let takes = created() - before;
            poison(&gpu);
            let before = created();
            let others: Vec<_> = ops(1).into_iter().map(|(_, other)| other).take(3).collect();
            assert!(run(&gpu, record).unwrap() == clean, "{name} on NaN, {:?}", gpu.caps());
            // The run used poisoned buffers. Uploads and readbacks have buffers of other kinds.
            let fresh = created() - before;
            assert!(fresh < takes, "{name} took {fresh} of {takes} buffers fresh, {:?}", gpu.caps());
            others.into_iter().for_each(|other| drop(run(&gpu, other).unwrap()));
            assert!(run(&gpu, record).unwrap() == clean, "{name} after others, {:?}", gpu.caps());
        }
    }
}

/// With fewer bindings, an operation has the same bits, or returns an error that they are too few.
#[test]
fn few_bindings_make_no_difference_where_they_are_enough() {
    let Some(gpu) = gpu() else { return };
    let few = gpu.with_caps(Caps { max_bindings: 6, ..gpu.caps().clone() }).unwrap();
    let mut enough = 0;
    let ops = ops(2);
    for &(name, record) in &ops {
        match run(&few, record) {
            Ok(bits) => {
                assert!(bits == run(&gpu, record).unwrap(), "{name}");
                enough += 1;
            }
            Err(error) => assert!(
                matches!(error, Error::Limit { what: "storage bindings in a shader", needed: 7.., allowed: 6, .. }),
                "{name}: {error}"
            ),
        }
    }
    assert!(enough > ops.len() / 2 || !sweeps_in_full(), "{enough} of {}", ops.len());
}

#[test]
fn threading_and_splitting_do_not_change_bits() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let cut =
            |max_binding, max_groups| gpu.with_caps(Caps { max_binding, max_groups, ..gpu.caps().clone() }).unwrap();
        let cuts = [cut(Caps::MIN_BINDING, 16), cut(40_000, 60_000), cut(1 << 18, 3000)];
        let ops = ops(3);
        let want: Vec<_> = ops.iter().map(|&(_, record)| run(&gpu, record).unwrap()).collect();
        // All threads run at once, each with its own handle to the one device.
        std::thread::scope(|scope| {
            for (number, gpu) in cuts.iter().chain([&gpu, &gpu]).enumerate() {
                let (ops, want) = (&ops, &want);
                scope.spawn(move || {
                    for turn in 0..ops.len() {
                        // Each thread begins with another operation.
                        let i = (turn + 3 * number) % ops.len();
                        let (name, record) = ops[i];
                        assert!(run(gpu, record).unwrap() == want[i], "{name} in thread {number}, {:?}", gpu.caps());
                    }
                });
            }
        });
    }
}
