//! How threads share rows, and the turns that their loops make.

use std::ops::Range;

use super::{Cut, Work, most_turns};
use crate::engine::{Caps, Family};
use crate::error::Result;

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
