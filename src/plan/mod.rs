//! Where work is cut: pure integers, no wgpu objects.
//!
//! A tensor may be larger than a binding, a grid larger than a dispatch, and a loop longer than a driver lets it be. All are cut here, in
//! a way that never shows in the result: the arithmetic of a row, a block of a reduction or an element of a product does not depend on the
//! cut.

mod cut;
pub(crate) mod linear;
pub(crate) mod product;
#[cfg(any(test, fuzzing))]
mod product_properties;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod rows;
pub(crate) mod strips;
pub(crate) mod summands;
#[cfg(test)]
mod tests;
pub(crate) mod tile;

use crate::engine::Caps;

#[cfg(any(test, fuzzing))]
pub(crate) use cut::Cuts;
pub(crate) use cut::{Cut, PerRow, Placed};
pub(crate) use rows::{RowPlan, Sweep};

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
