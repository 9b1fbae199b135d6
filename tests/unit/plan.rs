//! Tests of cuts, grids and chunks.

use super::linear::{LinearPlan, LinearSizes};
use super::*;
use crate::engine::Family;
use crate::error::Error;

fn caps(max_binding: u64, max_groups: u32) -> Caps {
    Caps {
        family: Family::CpuSimd,
        simd_width: 8,
        subgroup_size: 0,
        enough_tiles: 128,
        max_binding,
        max_buffer: 1 << 30,
        storage_align: 256,
        uniform_align: 256,
        max_groups,
        max_invocations: 256,
        max_bindings: 8,
        workgroup_memory: 16384,
        max_turns: 65535,
    }
}

#[test]
fn ranges_cover_every_row_once_and_fit() {
    for (rows, row_bytes, granule, binding, groups) in [
        (1, 4, 1, 16384, 1),
        (999, 40, 1, 16384, 65535),
        (999, 4000, 1, 16384, 65535),
        (70_000, 4, 1024, 16384, 2),
        (10, 16128, 1, 16384, 65535),
        (u32::MAX, 4, 1, 1 << 27, 65535),
        (5000, 8, 1024, 16384, 3),
        (70_000, 4, 1024, 1 << 20, 2),
        (100_000, 4, 1, 1 << 27, 7),
    ] {
        let caps = caps(binding, groups);
        let per_row = [PerRow::of(row_bytes), PerRow::of(4)];
        let split = RowSplit::new("t", rows, &per_row, granule);
        let mut next = 0;
        for range in split.ranges(&caps).unwrap() {
            assert_eq!(range.start, next, "no gap, no overlap");
            assert!(range.start % granule == 0, "cut on a granule: {range:?}");
            let len = u64::from(range.end - range.start);
            assert!(len * row_bytes + 256 <= binding, "{range:?} fits {binding} bytes");
            let [x, y, _] = grid(len.div_ceil(granule.into()), &caps);
            assert!(x <= groups && y <= groups, "grid {x} x {y}");
            next = range.end;
        }
        assert_eq!(next, rows);
    }
}

/// Compares with literal numbers, because all other tests use `turn_budget` itself.
#[test]
fn a_quarter_of_max_turns_is_kept_as_margin() {
    for (max_turns, budget) in [(65535, 49_149), (8192, 6144), (Caps::MIN_TURNS, 960)] {
        let caps = Caps { max_turns, ..caps(16384, 65535) };
        assert_eq!((turn_budget(&caps), most_turns(&caps)), (budget, budget - 96));
    }
}

#[test]
fn zero_rows_give_no_ranges_and_an_oversized_row_is_an_error() {
    let per_row = [PerRow::of(1 << 40)];
    let split = RowSplit::new("t", 1, &per_row, 1);
    assert!(
        matches!(split.ranges(&caps(16384, 1)), Err(Error::Limit { needed, allowed: 16128, .. }) if needed == 1 << 40)
    );
    let split = RowSplit { rows: 0, ..split };
    assert_eq!(split.ranges(&caps(16384, 1)).unwrap(), []);
}

#[test]
fn large_dispatches_use_a_2d_grid() {
    for (groups, most) in [(0, 5), (1, 5), (5, 5), (6, 5), (25, 5), (65_536, 65_535), (4_294_836_225, 65_535)] {
        let [x, y, z] = grid(groups, &caps(16384, most));
        assert!(x <= most && y <= most && z == 1, "{x} x {y}");
        assert!(u64::from(x) * u64::from(y) >= groups, "{x} x {y} covers {groups}");
        assert!(u64::from(x) * u64::from(y) < groups.max(1) + u64::from(y), "{x} x {y} has little surplus");
    }
}

#[test]
fn ranges_do_not_straddle_segments() {
    let segment_ends = |first, step| Some(SegmentEnds { first, step });
    for (rows, granule, tensors) in [
        (100, 1, vec![PerRow { bytes: 12, segment_ends: segment_ends(256, 256) }]),
        (
            100,
            1,
            vec![
                PerRow { bytes: 16, segment_ends: segment_ends(64, 256) },
                PerRow { bytes: 4, segment_ends: segment_ends(4, 256) },
            ],
        ),
        (50, 1, vec![PerRow { bytes: 1000, segment_ends: segment_ends(16, 256) }]),
        (
            5000,
            64,
            vec![
                PerRow { bytes: 4, segment_ends: segment_ends(100, 512) },
                PerRow { bytes: 2, segment_ends: segment_ends(256, 256) },
            ],
        ),
        (
            5000,
            64,
            vec![PerRow { bytes: 4, segment_ends: None }, PerRow { bytes: 0, segment_ends: segment_ends(4, 256) }],
        ),
    ] {
        let split = RowSplit::new("t", rows, &tensors, granule);
        let mut next = 0;
        for range in split.ranges(&caps(16384, 65535)).unwrap() {
            assert_eq!(range.start, next, "no gap, no overlap");
            assert!(range.start % granule == 0 && range.end > range.start, "{range:?}");
            next = range.end;
            for PerRow { bytes, segment_ends } in &tensors {
                let Some(SegmentEnds { first, step }) = segment_ends else { continue };
                let within = |&cut: &u64| u64::from(range.start) * bytes < cut && cut < u64::from(range.end) * bytes;
                let inside = (0..1000).map(|i| first + i * step).any(|cut| within(&cut));
                assert!(!inside || range.end - range.start <= granule, "{range:?} of {bytes} is cut");
            }
        }
        assert_eq!(next, rows);
    }
}

/// Every token is in exactly one chunk, chunks fit the scratch and a binding, and chunks with 64
/// more tokens would not.
#[test]
fn chunks_are_maximal() {
    for family in [Family::Gpu, Family::CpuSimd] {
        for backward in [false, true] {
            for tokens in [0, 1, 63, 64, 65, 1000, 8192] {
                for (inputs, classes) in [(0, 5), (7, 0), (1, 1), (64, 1000), (512, 128_256)] {
                    for scratch in [16 << 10, 1 << 20, 32 << 20] {
                        let caps = Caps { family, max_buffer: 1 << 31, ..caps(1 << 20, 65535) };
                        let sizes = LinearSizes { tokens, inputs, classes };
                        let plan = match LinearPlan::new("test", &caps, sizes, (scratch, 1), backward) {
                            Ok(plan) => plan,
                            Err(error) => {
                                assert!(classes as u64 * 4 + 16 > scratch, "{sizes:?} {scratch}: {error}");
                                continue;
                            }
                        };
                        assert!(plan.scratch_bytes() <= scratch, "{plan}");
                        assert!(plan.tokens_at_once() * classes * 4 <= 1 << 20, "{plan}");
                        let covered: Vec<_> = plan.chunks().flatten().collect();
                        assert_eq!(covered, (0..tokens).collect::<Vec<_>>(), "{plan}");
                        let more = plan.tokens_at_once() + 64;
                        if plan.tokens_at_once() < tokens {
                            let bytes = (more * classes * 4) as u64;
                            assert!(bytes > (1 << 20) - 256 || bytes * 5 / 4 > scratch, "{plan}");
                        }
                    }
                }
            }
        }
    }
}
