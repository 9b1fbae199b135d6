//! The planner: splits work into dispatches. Pure integers, no wgpu objects.
//!
//! A tensor can be larger than a binding, a dispatch larger than the largest grid, and a loop
//! longer than a driver allows. The planner splits all three, and the split never changes a result:
//! the arithmetic of a row, of a block of a reduction, and of an element of a product is the same
//! for every split.
//!
//! # Glossary
//! | word | meaning |
//! |---|---|
//! | row | the elements along the class dimension, with all other indices fixed |
//! | quad | 4 elements of consecutive classes; contiguous if `inner` is 1, and then loaded as one `vec4` |
//! | block | of a reduction: the elements that one workgroup sums, [`BLOCK`], [`loss_block`] or [`sum_block`]; of a row: 4 quads; of a linear layer's loss: consecutive classes whose weights are updated together |
//! | chunk | of a linear layer's loss: consecutive tokens whose logits are in memory at the same time |
//! | lane | one of the threads of a workgroup that share a row (or a part of it) |
//! | span | neighbouring lanes that load consecutive quads of a row |
//! | run | consecutive blocks of a lane, quads of a thread, summands of a product, or rows of a sum of columns, that are added up before the sum joins the total |
//! | depth | the index of a summand in a product, along `k` |
//! | section | consecutive runs of a product that are summed in one `f32` |
//! | part | of a row: the elements that one of several workgroups processes; of a product: the summands of one partial result |
//! | partial result | of a reduction: the compensated sums of a block, and its first position of bad data (an element out of range, or an invalid target); of a product: the sums of a part |
//! | row state | the softmax statistics of a row and the sum of its coefficients, stored for later dispatches |
//! | strip | rows of a tensor that can be bound at once: all rows of some `outer` indices, or a range of `inner` of one `outer` index |
//! | slice | the rows or elements of a loss that one call of `rows_slice` or `elements_slice` records |
//! | segment | one of the buffers of memory that is larger than the largest buffer |
//! | window | of a tensor: the range that one dispatch binds; of an optimiser: the passes of an update |
//! | range | consecutive rows or elements that one dispatch works on |
//! | granule | ranges start at multiples of this many rows or elements |
//! | tile | the rectangle of a product's result that one workgroup computes |
//! | piece | the ranges of `m`, `n` and `k` of a product that one dispatch computes |
//! | sweep | one pass of a kernel's loops over the blocks of a row |
//! | turn | one iteration of a loop in a kernel; what drivers limit |
//! | lifted | multiplied by a power of two, so that the number is not subnormal |
//! | surplus | of a thread or workgroup: beyond the last row or block; it stores nothing |

pub(crate) mod linear;
pub(crate) mod product;
#[cfg(any(test, fuzzing))]
#[path = "../../tests/unit/product_properties.rs"]
mod product_properties;
#[cfg(any(test, fuzzing))]
#[path = "../../tests/unit/plan_properties.rs"]
pub(crate) mod properties;
mod row_split;
mod rows;
pub(crate) mod strips;
pub(crate) mod summands;
#[cfg(test)]
#[path = "../../tests/unit/plan.rs"]
mod tests;
pub(crate) mod tile;

use crate::engine::{Caps, Family};

#[cfg(any(test, fuzzing))]
pub(crate) use row_split::SegmentEnds;
pub(crate) use row_split::{PerRow, Placed, RowSplit};
pub(crate) use rows::{RowPlan, Sweep};

/// The number of elements, or of partial results, that one workgroup of an elementwise kernel or a
/// reduction processes.
pub(crate) const BLOCK: u32 = 1024;

/// The largest block: the smallest binding holds its elements at any alignment.
const LARGE_BLOCK: u32 = 3 * BLOCK;

/// The number of elements that one workgroup of an elementwise loss processes, out of `count`. On a
/// GPU, adding up the losses of the threads costs as much as several elements per thread, so blocks
/// are larger if there are enough of them to keep the device busy.
pub(crate) fn loss_block(caps: &Caps, count: u32) -> u32 {
    const ENOUGH_BLOCKS: u32 = 1024;
    if caps.family == Family::Gpu && count / LARGE_BLOCK >= ENOUGH_BLOCKS { LARGE_BLOCK } else { BLOCK }
}

/// The number of values that one workgroup of a sum adds up, out of `count`. Few values are a single
/// block, because several blocks need another dispatch.
pub(crate) fn sum_block(count: u32) -> u32 {
    if count <= LARGE_BLOCK { LARGE_BLOCK } else { BLOCK }
}

/// The number of rows that one thread of a column sum adds in order.
pub(crate) const COLUMN_BLOCK: u32 = 64;

/// The constant QUADS of `shaders/lib/turns.wgsl`.
pub(crate) fn quads_per_run(caps: &Caps) -> u32 {
    // A run must not be longer than a block.
    (BLOCK / (4 * caps.workgroup_size())).clamp(1, 4)
}

/// The name of the loop budget in errors.
pub(crate) const TURNS: &str = "turns of an invocation's loops in a dispatch";

/// An upper bound on the turns that do not depend on sizes: those of reduction trees, of storing the
/// rows of a product, and the comparisons that end outer loops. Drivers that count turns also count
/// the comparison that ends a loop.
pub(crate) const FIXED_TURNS: u64 = 96;

/// The size of a dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Workgroups.
    pub(crate) groups: u64,
    /// An upper bound on the turns that one invocation makes, over all its loops.
    pub(crate) turns: u64,
}

impl Work {
    /// `turns` excludes the [`FIXED_TURNS`], which are added here.
    pub(crate) fn new(groups: u64, turns: u64) -> Self {
        Self { groups, turns: turns.saturating_add(FIXED_TURNS) }
    }

    /// One workgroup for each block of elements.
    pub(crate) fn by_blocks(caps: &Caps, groups: u64, block: u32) -> Self {
        Self::new(groups, block.div_ceil(caps.workgroup_size()).into())
    }
}

/// The most turns of a planned dispatch: three quarters of what the device allows. The rest is a
/// margin, because drivers rewrite loops before they count turns. (llvmpipe counts 27 turns for a
/// shader with 26.)
pub(crate) fn turn_budget(caps: &Caps) -> u64 {
    u64::from(caps.max_turns) / 4 * 3
}

/// The part of [`turn_budget`] that is available to loops whose length depends on sizes.
pub(crate) fn most_turns(caps: &Caps) -> u64 {
    turn_budget(caps).saturating_sub(FIXED_TURNS)
}

/// The number of workgroups of the largest grid.
pub(crate) fn most_groups(caps: &Caps) -> u64 {
    u64::from(caps.max_groups).pow(2)
}

/// A two-dimensional grid of at least `groups` workgroups. Kernels ignore surplus workgroups.
pub(crate) fn grid(groups: u64, caps: &Caps) -> [u32; 3] {
    let most = u64::from(caps.max_groups);
    let y = groups.div_ceil(most).max(1);
    let x = groups.div_ceil(y);
    // `Recorder::launch` rejects more than `max_groups` squared.
    #[expect(clippy::cast_possible_truncation, reason = "both are at most `max_groups`")]
    [x as u32, y as u32, 1]
}
