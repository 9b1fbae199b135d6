//! Where work is cut: pure integers, no wgpu objects.
//!
//! A tensor may be larger than a binding, a grid larger than a dispatch, and a loop longer than a driver lets it be. All are cut here, in
//! a way that never shows in the result: the arithmetic of a row, a block of a reduction or an element of a product does not depend on the
//! cut.

pub(crate) mod linear;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;

use std::ops::Range;

use crate::engine::{Caps, Family};
use crate::error::{Error, Result};

/// Elements (or partial results) that one workgroup of a reduction sums.
pub(crate) const BLOCK: u32 = 1024;

/// Rows that one thread of a column sum adds up in order.
pub(crate) const COLUMN_BLOCK: u32 = 64;

/// The constants WORKGROUP and QUADS of `shaders/lib/turns.wgsl`.
pub(crate) fn turns(caps: &Caps) -> [u32; 2] {
    let workgroup = caps.workgroup_size();
    // Turns are worth their code where there are several in a block.
    [workgroup, (BLOCK / (4 * workgroup)).clamp(1, caps.quads_per_turn)]
}

/// What an error calls the budget of loops.
pub(crate) const TURNS: &str = "turns of an invocation's loops in a dispatch";

/// Dispatches that rows are cut into: far more than any that are of use, and few enough to list.
const MOST_RANGES: u64 = 1 << 22;

/// Turns of a kernel's loops that do not grow with sizes: how threads combine what they have found, and the ends of the outer loops. The end
/// of a loop counts as a turn of it: drivers that count compare once more than a loop goes around.
pub(crate) const FIXED_TURNS: u64 = 96;

/// What a dispatch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) groups: u64,
    /// Turns that one invocation's loops make in all, or more.
    pub(crate) turns: u64,
}

impl Work {
    /// Workgroups whose loops make so many turns besides the fixed ones.
    pub(crate) fn new(groups: u64, turns: u64) -> Self {
        Self { groups, turns: turns.saturating_add(FIXED_TURNS) }
    }

    /// Workgroups that have a block of `BLOCK` elements each.
    pub(crate) fn by_blocks(caps: &Caps, groups: u64) -> Self {
        Self::new(groups, (BLOCK / caps.workgroup_size()).into())
    }
}

/// Turns that a dispatch may make. Drivers rewrite loops before they count: a fourth of the budget is left for that. (llvmpipe counts 27 for what is
/// 26 in a kernel's text.)
pub(crate) fn turn_budget(caps: &Caps) -> u64 {
    u64::from(caps.max_turns) / 4 * 3
}

/// Those of them that are there for loops whose length depends on sizes.
pub(crate) fn most_turns(caps: &Caps) -> u64 {
    turn_budget(caps).saturating_sub(FIXED_TURNS)
}

/// How to cut `rows`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut<'a> {
    pub(crate) op: &'static str,
    pub(crate) rows: u32,
    /// What moves with the rows.
    pub(crate) per_row: &'a [PerRow],
    /// A cut falls on a multiple of this many rows.
    pub(crate) granule: u32,
    /// Workgroups that a granule of rows takes.
    pub(crate) groups_per_granule: u64,
    /// Turns of an invocation's loops for a granule of rows; 0 if other invocations have the other rows.
    pub(crate) turns_per_granule: u64,
}

/// Where a tensor lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// The bytes before it.
    pub(crate) offset: u64,
    /// The bytes of an element.
    pub(crate) element: u64,
    /// The bytes after which its memory is cut, again and again.
    pub(crate) segment: Option<u64>,
}

impl Placed {
    /// What moves with the rows of a [`Cut`], so many elements a row.
    pub(crate) fn per_row(self, elements: u64) -> PerRow {
        let cuts = self.segment.map(|segment| Cuts { first: segment - self.offset % segment, step: segment });
        PerRow { bytes: elements * self.element, cuts }
    }
}

/// A tensor that moves with the rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerRow {
    /// The bytes of a row.
    pub(crate) bytes: u64,
    /// Where its memory is cut.
    pub(crate) cuts: Option<Cuts>,
}

/// Memory that is cut: first so many bytes after the first row's start, and then every `step` bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuts {
    pub(crate) first: u64,
    pub(crate) step: u64,
}

impl PerRow {
    /// So many bytes a row, in one piece.
    pub(crate) fn of(bytes: u64) -> Self {
        Self { bytes, cuts: None }
    }

    /// Where the next range should end that starts at `start`, a multiple of `granule` rows: before the granule whose memory is cut
    /// in its midst, or after it if it is the first.
    fn end(&self, start: u64, granule: u64) -> u64 {
        let (Some(Cuts { first, step }), 1..) = (self.cuts, self.bytes) else { return u64::MAX };
        let bytes = self.bytes * granule;
        let position = start * self.bytes;
        let cut = first + (position + 1).saturating_sub(first).div_ceil(step) * step;
        match cut / bytes * granule {
            before if before > start => before,
            _ => cut.div_ceil(bytes) * granule,
        }
    }
}

impl<'a> Cut<'a> {
    /// Of elements that are gone through by blocks.
    pub(crate) fn by_blocks(op: &'static str, count: u32, per_element: &'a [PerRow]) -> Self {
        Self { op, rows: count, per_row: per_element, granule: BLOCK, groups_per_granule: 1, turns_per_granule: 0 }
    }

    /// Ranges of rows that fit the bindings and the grid, and lie in one piece of memory as far as possible; together they are
    /// `0..rows`.
    pub(crate) fn ranges(&self, caps: &Caps) -> Result<Vec<Range<u32>>> {
        let granule = u64::from(self.granule);
        let usable = caps.usable_binding();
        let widest = self.per_row.iter().map(|tensor| tensor.bytes).max().unwrap_or(0).saturating_mul(granule);
        let by_bytes = usable.checked_div(widest).unwrap_or(u64::MAX);
        let grid = most_groups(caps);
        let by_groups = grid.checked_div(self.groups_per_granule).unwrap_or(u64::MAX);
        let by_turns = most_turns(caps).checked_div(self.turns_per_granule).unwrap_or(u64::MAX);
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        let limit = |what, needed, allowed| Err(Error::Limit { op: self.op, what, needed, allowed });
        if by_bytes == 0 {
            let what = "a storage binding's bytes for the smallest piece of a tensor";
            return limit(what, widest, usable);
        }
        if by_groups == 0 {
            return limit("workgroups in a dispatch", self.groups_per_granule, grid);
        }
        if by_turns == 0 {
            return limit(TURNS, self.turns_per_granule, most_turns(caps));
        }
        let rows = u64::from(self.rows);
        let step = by_bytes.min(by_groups).min(by_turns).saturating_mul(granule);
        if rows.div_ceil(step) > MOST_RANGES {
            return limit("dispatches", rows.div_ceil(step), MOST_RANGES);
        }
        let end = |start: u64| {
            let in_one_piece = self.per_row.iter().map(|tensor| tensor.end(start, granule)).min().unwrap_or(u64::MAX);
            rows.min(start.saturating_add(step)).min(in_one_piece)
        };
        let starts = std::iter::successors(Some(0), |&start| Some(end(start)));
        // Ends are at most `rows`, a u32.
        #[expect(clippy::cast_possible_truncation, reason = "at most `rows`, a u32")]
        Ok(starts.take_while(|&start| start < rows).map(|start| start as u32..end(start) as u32).collect())
    }
}

/// Workgroups of the largest grid.
pub(crate) fn most_groups(caps: &Caps) -> u64 {
    u64::from(caps.max_groups).pow(2)
}

/// A grid of at least `groups` workgroups, folded into two dimensions. Kernels ignore the surplus.
pub(crate) fn grid(groups: u64, caps: &Caps) -> [u32; 3] {
    let most = u64::from(caps.max_groups);
    let y = groups.div_ceil(most).max(1);
    let x = groups.div_ceil(y);
    // `Cut` keeps `groups` at most `max_groups` squared.
    #[expect(clippy::cast_possible_truncation, reason = "both are at most `max_groups`")]
    [x as u32, y as u32, 1]
}

/// How the threads of a workgroup share rows: the constants of `shaders/lib/rows.wgsl`, where they are explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPlan {
    workgroup: u32,
    subgroup: u32,
    lanes: u32,
    parts: u32,
    span: u32,
    held: u32,
    classes: u32,
    whole: u32,
    /// Blocks of a lane.
    blocks: u32,
}

impl RowPlan {
    /// The names of the constants.
    pub(crate) const CONSTANTS: [&str; 9] =
        ["WORKGROUP", "SUBGROUP", "LANES", "PARTS", "SPAN", "HELD", "CLASSES", "WHOLE", "RUNS"];

    /// Blocks that are summed before they are added to the rest: `RUN` of `shaders/lib/rows.wgsl`.
    const RUN: u32 = 32;

    /// For rows of `classes` elements that lie `inner` apart.
    ///
    /// One thread has a row to itself where neighbouring rows interleave (their loads coalesce) or the row is short. Else, on a
    /// GPU, a workgroup shares it, and holds it in registers if it fits there. On a CPU, registers that outlive a barrier are
    /// memory, and a row in a cache is as near.
    pub(crate) fn new(caps: &Caps, classes: u32, inner: u32) -> Self {
        // More than two blocks a thread leave too few registers for the rest, or take a compiler seconds.
        const MOST_HELD: u32 = 2;
        let [workgroup, subgroup] = caps.threads();
        let alone = inner > 1 || classes <= 32;
        let span = if alone { 1 } else { workgroup.min(32) };
        let lanes = match caps.family {
            Family::Gpu if !alone && classes > 1024 => workgroup,
            _ => span,
        };
        let held = classes.div_ceil(16 * lanes);
        let fits = (1..=MOST_HELD).contains(&held) && (alone || caps.family == Family::Gpu);
        let (held, held_classes) = if fits { (held, classes) } else { (0, 0) };
        Self { workgroup, subgroup, lanes, parts: 1, span, held, classes: held_classes, whole: 1, blocks: 0 }
            .with_blocks(classes)
    }

    fn with_blocks(self, classes: u32) -> Self {
        Self { blocks: self.blocks_of(classes), ..self }
    }

    /// Blocks of a lane that has a part of so many classes.
    #[expect(clippy::cast_possible_truncation, reason = "fewer than there are classes")]
    fn blocks_of(&self, classes: u32) -> u32 {
        u64::from(classes).div_ceil(16 * u64::from(self.lanes) * u64::from(self.parts)) as u32
    }

    /// The same with as little code as possible: one compiled kernel for rows of all lengths that the same threads share.
    pub(crate) fn streamed(caps: &Caps, classes: u32, inner: u32) -> Self {
        Self { held: 0, classes: 0, whole: 0, ..Self::new(caps, classes, inner) }
    }

    /// The same with several workgroups a row, if so few rows as long as these would leave a GPU idle: each finds the statistics of a
    /// part of a row, and then each merges those of all parts and goes through its own once more. Not if a workgroup holds the row.
    pub(crate) fn in_parts(self, caps: &Caps, classes: u32, rows: u32) -> Self {
        const MOST_PARTS: u32 = 64;
        // A few for each of a large GPU's processors.
        const ENOUGH_GROUPS: u32 = 512;
        let wanted = ENOUGH_GROUPS.checked_div(rows).unwrap_or(0);
        // A block a thread at least.
        let parts = wanted.min(classes / (16 * self.workgroup)).min(MOST_PARTS).min(self.workgroup);
        // The statistics of the parts take a binding.
        let short = caps.max_bindings < Caps::ENOUGH_BINDINGS;
        if short || caps.family != Family::Gpu || self.lanes < self.workgroup || self.held > 0 || parts < 2 {
            return self;
        }
        Self { parts: 1 << parts.ilog2(), ..self }.with_blocks(classes)
    }

    /// Workgroups that share a row.
    pub(crate) fn parts(&self) -> u32 {
        self.parts
    }

    /// The values of the constants.
    pub(crate) fn constants(&self) -> [u32; 9] {
        let Self { workgroup, subgroup, lanes, parts, span, held, classes, whole, blocks } = *self;
        let runs = u32::from(blocks > Self::RUN);
        [workgroup, subgroup, lanes, parts, span, held, classes, whole, runs]
    }

    /// Lanes of a row, in all its parts.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes as usize * self.parts as usize
    }

    /// The turns of a sweep that goes through a block's quads in so many loops that are written out where blocks lie inside the row.
    pub(crate) fn sweep(&self, loops_over_quads: u64) -> Sweep {
        Sweep { turns_per_block: 1 + if self.whole == 1 { 0 } else { Sweep::QUADS * loops_over_quads } }
    }

    /// The sweep that finds a row's softmax statistics.
    pub(crate) fn softmax_sweep(&self) -> Sweep {
        self.sweep(2)
    }

    /// Whether a dispatch has turns for all these sweeps over all blocks.
    pub(crate) fn fits(&self, caps: &Caps, sweeps: &[Sweep]) -> bool {
        self.turns(sweeps, self.blocks) <= most_turns(caps)
    }

    fn turns(&self, sweeps: &[Sweep], blocks: u32) -> u64 {
        sweeps.iter().map(|sweep| sweep.turns(blocks)).sum()
    }

    /// The work of all these sweeps over all blocks of rows.
    pub(crate) fn work(&self, rows: u32, sweeps: &[Sweep]) -> Work {
        Work::new(self.groups(rows), self.turns(sweeps, self.blocks))
    }

    /// The dispatches of one sweep over rows of so many classes, or of rows that are some of them: which of a lane's blocks each goes
    /// through, and its work.
    pub(crate) fn dispatches(
        &self,
        op: &'static str,
        caps: &Caps,
        (rows, classes): (u32, u32),
        sweep: Sweep,
    ) -> Result<Vec<(Range<u32>, Work)>> {
        let cut = Cut {
            op,
            rows: self.blocks_of(classes),
            per_row: &[],
            granule: Self::RUN,
            groups_per_granule: 0,
            turns_per_granule: sweep.turns(Self::RUN),
        };
        let mut ranges = cut.ranges(caps)?;
        if ranges.is_empty() {
            ranges.push(0..0);
        }
        let work = |range: &Range<u32>| Work::new(self.groups(rows), sweep.turns(range.end - range.start));
        Ok(ranges.into_iter().map(|range| (range.clone(), work(&range))).collect())
    }

    /// All blocks, for a dispatch that goes through them in all its sweeps.
    pub(crate) fn all_blocks(&self) -> Range<u32> {
        0..self.blocks
    }

    /// Workgroups for so many rows.
    pub(crate) fn groups(&self, rows: u32) -> u64 {
        u64::from(rows).div_ceil(u64::from(self.workgroup / self.lanes)) * u64::from(self.parts)
    }
}

/// A sweep over a row's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    turns_per_block: u64,
}

impl Sweep {
    /// Turns of a loop over the four quads of a block.
    pub(crate) const QUADS: u64 = 5;

    /// Turns for a run, besides those for its blocks: one, and the ends of a loop over its whole blocks and one over the others.
    const RUN: u64 = 3;

    /// The same with another loop in each block, of so many turns.
    pub(crate) fn and(self, turns: u64) -> Self {
        Self { turns_per_block: self.turns_per_block + turns }
    }

    /// The turns for so many blocks, gone through by runs.
    fn turns(self, blocks: u32) -> u64 {
        u64::from(blocks) * self.turns_per_block + u64::from(blocks.div_ceil(RowPlan::RUN)) * Self::RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(max_binding: u64, max_groups: u32) -> Caps {
        Caps {
            family: Family::CpuSimd,
            simd_width: 8,
            quads_per_turn: 4,
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
            let cut = Cut {
                op: "t",
                rows,
                per_row: &[PerRow::of(row_bytes), PerRow::of(4)],
                granule,
                groups_per_granule: 1,
                turns_per_granule: 0,
            };
            let mut next = 0;
            for range in cut.ranges(&caps).unwrap() {
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

    /// In numbers, because everything else is compared with the function.
    #[test]
    fn a_fourth_of_the_turns_is_left() {
        for (max_turns, budget) in [(65535, 49_149), (8192, 6144), (Caps::MIN_TURNS, 960)] {
            let caps = Caps { max_turns, ..caps(16384, 65535) };
            assert_eq!((turn_budget(&caps), most_turns(&caps)), (budget, budget - 96));
        }
    }

    #[test]
    fn no_rows_are_no_ranges_and_a_row_too_large_is_an_error() {
        let cut = Cut {
            op: "t",
            rows: 1,
            per_row: &[PerRow::of(1 << 40)],
            granule: 1,
            groups_per_granule: 1,
            turns_per_granule: 0,
        };
        assert!(
            matches!(cut.ranges(&caps(16384, 1)), Err(Error::Limit { needed, allowed: 16128, .. }) if needed == 1 << 40)
        );
        let cut = Cut { rows: 0, ..cut };
        assert_eq!(cut.ranges(&caps(16384, 1)).unwrap(), []);
    }

    #[test]
    fn grids_fold_and_cover() {
        for (groups, most) in [(0, 5), (1, 5), (5, 5), (6, 5), (25, 5), (65_536, 65_535), (4_294_836_225, 65_535)] {
            let [x, y, z] = grid(groups, &caps(16384, most));
            assert!(x <= most && y <= most && z == 1, "{x} x {y}");
            assert!(u64::from(x) * u64::from(y) >= groups, "{x} x {y} covers {groups}");
            assert!(u64::from(x) * u64::from(y) < groups.max(1) + u64::from(y), "{x} x {y} has little surplus");
        }
    }

    #[test]
    fn ranges_end_where_memory_is_cut() {
        let cuts = |first, step| Some(Cuts { first, step });
        for (rows, granule, tensors) in [
            (100, 1, vec![PerRow { bytes: 12, cuts: cuts(256, 256) }]),
            (100, 1, vec![PerRow { bytes: 16, cuts: cuts(64, 256) }, PerRow { bytes: 4, cuts: cuts(4, 256) }]),
            (50, 1, vec![PerRow { bytes: 1000, cuts: cuts(16, 256) }]),
            (5000, 64, vec![PerRow { bytes: 4, cuts: cuts(100, 512) }, PerRow { bytes: 2, cuts: cuts(256, 256) }]),
            (5000, 64, vec![PerRow { bytes: 4, cuts: None }, PerRow { bytes: 0, cuts: cuts(4, 256) }]),
        ] {
            let cut = Cut { op: "t", rows, per_row: &tensors, granule, groups_per_granule: 1, turns_per_granule: 0 };
            let mut next = 0;
            for range in cut.ranges(&caps(16384, 65535)).unwrap() {
                assert_eq!(range.start, next, "no gap, no overlap");
                assert!(range.start % granule == 0 && range.end > range.start, "{range:?}");
                next = range.end;
                for PerRow { bytes, cuts } in &tensors {
                    let Some(Cuts { first, step }) = cuts else { continue };
                    let within =
                        |&cut: &u64| u64::from(range.start) * bytes < cut && cut < u64::from(range.end) * bytes;
                    let inside = (0..1000).map(|i| first + i * step).any(|cut| within(&cut));
                    assert!(!inside || range.end - range.start <= granule, "{range:?} of {bytes} is cut");
                }
            }
            assert_eq!(next, rows);
        }
    }
}
