//! How threads share the rows of a softmax, a loss or a row map.

use std::ops::Range;

use super::{RowSplit, Work, most_turns};
use crate::engine::{Caps, Family};
use crate::error::Result;

/// How threads share rows: the constants of `grid.wgsl`, `lanes.wgsl` and `rows.wgsl` in
/// `shaders/lib/`, which document them.
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
    /// Whether `inner` is 1.
    adjacent: bool,
    /// The number of blocks of each lane.
    blocks: u32,
}

impl RowPlan {
    /// The names of the constants.
    pub(crate) const CONSTANTS: [&str; 10] =
        ["WORKGROUP", "SUBGROUP", "LANES", "PARTS", "SPAN", "HELD", "CLASSES", "WHOLE", "ADJACENT", "RUNS"];

    /// The number of blocks in a run: `RUN` of `shaders/lib/rows.wgsl`.
    const RUN: u32 = 32;

    /// A plan for rows of `classes` elements with stride `inner`.
    ///
    /// A single thread processes a row if rows interleave (then the loads of neighbouring threads
    /// coalesce) or if rows are short. Otherwise threads share a row. The row stays in registers if
    /// it fits, except where several threads share it on a CPU: there registers that live across a
    /// barrier are spilled to memory, so reading the row again is as fast.
    pub(crate) fn new(caps: &Caps, classes: u32, inner: u32) -> Self {
        Self::with_large_workgroups(caps, classes, inner, false)
    }

    /// The same for kernels that compute the softmax of rows of one tensor: more rows stay in
    /// registers.
    pub(crate) fn of_softmax(caps: &Caps, classes: u32, inner: u32) -> Self {
        Self::with_large_workgroups(caps, classes, inner, true)
    }

    fn with_large_workgroups(caps: &Caps, classes: u32, inner: u32, allowed: bool) -> Self {
        // With more blocks per thread, registers spill and compilers take seconds.
        const MOST_HELD: u32 = 2;
        // Rows of up to 32768 elements stay in the registers of a large workgroup where it leaves
        // each thread 128 registers or more: on NVIDIA's GPUs and AMD's RDNA, whose smallest
        // subgroups have 32 threads.
        const LARGE_WORKGROUP: u32 = 512;
        const MOST_HELD_BY_MANY: u32 = 4;
        let [usual, subgroup] = caps.threads();
        let alone = inner > 1 || classes <= 32;
        let span = if alone { 1 } else { usual.min(32) };
        let large = allowed
            && !alone
            && subgroup == 32
            && caps.has_workgroup_of(LARGE_WORKGROUP)
            && (16 * MOST_HELD * usual + 1..=16 * MOST_HELD_BY_MANY * LARGE_WORKGROUP).contains(&classes);
        let (workgroup, most_held) = if large { (LARGE_WORKGROUP, MOST_HELD_BY_MANY) } else { (usual, MOST_HELD) };
        let lanes = match caps.family {
            Family::Gpu if !alone && classes > 1024 => workgroup,
            _ => span,
        };
        let held = classes.div_ceil(16 * lanes);
        let fits = (1..=most_held).contains(&held) && (alone || caps.family == Family::Gpu);
        let (held, held_classes) = if fits { (held, classes) } else { (0, 0) };
        let adjacent = inner == 1;
        Self { workgroup, subgroup, lanes, parts: 1, span, held, classes: held_classes, whole: 1, adjacent, blocks: 0 }
            .with_blocks(classes)
    }

    fn with_blocks(self, classes: u32) -> Self {
        Self { blocks: self.blocks_of(classes), ..self }
    }

    /// The number of blocks of each lane. `classes` is the number of classes of a row, or of those
    /// that are in memory.
    #[expect(clippy::cast_possible_truncation, reason = "at most the number of classes")]
    fn blocks_of(&self, classes: u32) -> u32 {
        u64::from(classes).div_ceil(16 * u64::from(self.lanes) * u64::from(self.parts)) as u32
    }

    /// The same plan without keeping rows in registers, without unrolling, and without separate
    /// code that needs no bounds checks, so that few pipelines serve rows of all lengths.
    pub(crate) fn streamed(caps: &Caps, classes: u32, inner: u32) -> Self {
        Self { held: 0, classes: 0, whole: 0, ..Self::new(caps, classes, inner) }
    }

    /// The same plan with several workgroups per row, if there are too few rows to keep a GPU busy.
    /// One dispatch computes the statistics of each part; in the next, every workgroup merges them
    /// and processes its part. Rows that this plan keeps in registers are split only if they are
    /// long and very few.
    pub(crate) fn in_parts(self, caps: &Caps, classes: u32, rows: u32) -> Self {
        const MOST_PARTS: u32 = 64;
        // A few workgroups for each multiprocessor of a large GPU.
        const ENOUGH_GROUPS: u32 = 512;
        // Fewer rows than this leave more than half of the multiprocessors of a large GPU idle.
        const FEW_ROWS: u32 = 64;
        if self.held > 0 && self.workgroup > caps.workgroup_size() && rows < FEW_ROWS {
            let [workgroup, _] = caps.threads();
            let streamed = Self { workgroup, lanes: workgroup, held: 0, classes: 0, ..self }.with_blocks(classes);
            let split = streamed.in_parts(caps, classes, rows);
            return if split.parts > 1 { split } else { self };
        }
        let wanted = ENOUGH_GROUPS.checked_div(rows).unwrap_or(0);
        // At least one block per thread.
        let parts = wanted.min(classes / (16 * self.workgroup)).min(MOST_PARTS).min(self.workgroup);
        // The statistics of the parts need a binding of their own.
        let too_few_bindings = caps.max_bindings < Caps::ENOUGH_BINDINGS;
        if too_few_bindings || caps.family != Family::Gpu || self.lanes < self.workgroup || self.held > 0 || parts < 2 {
            return self;
        }
        Self { parts: 1 << parts.ilog2(), ..self }.with_blocks(classes)
    }

    /// The number of workgroups that share a row.
    pub(crate) fn parts(&self) -> u32 {
        self.parts
    }

    /// The values of the constants.
    pub(crate) fn constants(&self) -> [u32; 10] {
        let Self { workgroup, subgroup, lanes, parts, span, held, classes, whole, adjacent, blocks } = *self;
        let runs = u32::from(blocks > Self::RUN);
        [workgroup, subgroup, lanes, parts, span, held, classes, whole, adjacent.into(), runs]
    }

    /// The number of lanes of a row, over all its parts.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes as usize * self.parts as usize
    }

    /// A sweep with this many loops over the quads of each block. If `whole` is 1, these loops are
    /// unrolled.
    pub(crate) fn sweep(&self, loops_over_quads: u64) -> Sweep {
        Sweep { turns_per_block: 1 + if self.whole == 1 { 0 } else { Sweep::QUADS * loops_over_quads } }
    }

    /// The sweep that computes the softmax statistics of a row.
    pub(crate) fn softmax_sweep(&self) -> Sweep {
        self.sweep(2)
    }

    /// Whether one dispatch can make all these sweeps over all blocks within the loop budget.
    pub(crate) fn fits(&self, caps: &Caps, sweeps: &[Sweep]) -> bool {
        self.turns(sweeps, self.blocks) <= most_turns(caps)
    }

    fn turns(&self, sweeps: &[Sweep], blocks: u32) -> u64 {
        sweeps.iter().map(|sweep| sweep.turns(blocks)).sum()
    }

    /// The work of a dispatch that makes all these sweeps over all blocks.
    pub(crate) fn work(&self, rows: u32, sweeps: &[Sweep]) -> Work {
        Work::new(self.groups(rows), self.turns(sweeps, self.blocks))
    }

    /// The dispatches of one sweep; for each, the range of blocks that it processes in every lane,
    /// and its work. `classes` is the number of classes of a row, or of those that are in memory.
    pub(crate) fn dispatches(
        &self,
        op: &'static str,
        caps: &Caps,
        (rows, classes): (u32, u32),
        sweep: Sweep,
    ) -> Result<Vec<(Range<u32>, Work)>> {
        let turns_per_granule = sweep.turns(Self::RUN);
        let by_runs = RowSplit::new(op, self.blocks_of(classes), &[], Self::RUN);
        let split = RowSplit { groups_per_granule: 0, turns_per_granule, ..by_runs };
        let mut ranges = split.ranges(caps)?;
        if ranges.is_empty() {
            ranges.push(0..0);
        }
        let work = |range: &Range<u32>| Work::new(self.groups(rows), sweep.turns(range.end - range.start));
        Ok(ranges.into_iter().map(|range| (range.clone(), work(&range))).collect())
    }

    /// All blocks of a lane.
    pub(crate) fn all_blocks(&self) -> Range<u32> {
        0..self.blocks
    }

    /// The number of workgroups for this many rows.
    pub(crate) fn groups(&self, rows: u32) -> u64 {
        u64::from(rows).div_ceil(u64::from(self.workgroup / self.lanes)) * u64::from(self.parts)
    }
}

/// One pass of a kernel's loops over the blocks of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    turns_per_block: u64,
}

impl Sweep {
    /// The turns of a loop over the 4 quads of a block, with the comparison that ends it.
    pub(crate) const QUADS: u64 = 5;

    /// The turns of a run besides those of its blocks: its own turn, and the comparisons that end
    /// the loop over blocks inside the row and the loop over the other blocks.
    const RUN: u64 = 3;

    /// The same sweep with this many more turns in each block.
    pub(crate) fn with_more_turns(self, turns: u64) -> Self {
        Self { turns_per_block: self.turns_per_block + turns }
    }

    /// The turns for this many blocks, in runs.
    fn turns(self, blocks: u32) -> u64 {
        u64::from(blocks) * self.turns_per_block + u64::from(blocks.div_ceil(RowPlan::RUN)) * Self::RUN
    }
}
