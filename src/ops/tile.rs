//! The tiles of a product, and when its sums are cut.

use crate::caps::{Caps, Family};
use crate::kernel::Kernel;
use crate::plan::COLUMN_BLOCK;

use super::matmul::{SIMD, SUBGROUP, TILED};

/// A kernel and what it computes in a workgroup.
pub(super) struct Tile {
    pub(super) kernel: &'static Kernel,
    pub(super) workgroup: u32,
    pub(super) rows: u32,
    pub(super) columns: u32,
    /// The kernel's last constants.
    pub(super) constants: Vec<u32>,
}

impl Tile {
    /// The tile for a product. On a GPU the largest of which there are enough for its processors: larger ones read less.
    pub(super) fn new(caps: &Caps, sizes: Sizes) -> Self {
        match caps.family {
            Family::Gpu => {
                let tiles = |side| u64::from(sizes.m.div_ceil(side)) * u64::from(sizes.n.div_ceil(side));
                let fits = |&(side, threads, ..): &(u32, u32, [u32; 3])| {
                    threads <= caps.max_invocations && tiles(side) >= caps.enough_tiles.into()
                };
                let large = [(128, 256, [4, 2, 2]), (64, 128, [4, 1, 2])];
                let (side, workgroup, rest) = large.into_iter().find(fits).unwrap_or((32, 64, [2, 1, 1]));
                let constants = std::iter::once(side / 4).chain(rest).collect();
                Self { kernel: &TILED, workgroup, rows: side, columns: side, constants }
            }
            Family::CpuSimd => {
                let rows = if sizes.m <= 16 { 8 } else { 32 };
                Self {
                    kernel: if caps.subgroup_size == caps.simd_width { &SUBGROUP } else { &SIMD },
                    workgroup: caps.simd_width,
                    rows,
                    columns: caps.simd_width * 4,
                    constants: vec![rows],
                }
            }
        }
    }

    /// Workgroups of a product.
    pub(super) fn groups(&self, m: u32, n: u32) -> u64 {
        u64::from(m.div_ceil(self.rows)) * u64::from(n.div_ceil(self.columns))
    }

    /// Summands of each part of the sums, where a product is cut along them because it has too few tiles for a GPU; else all.
    pub(super) fn split(&self, caps: &Caps, Sizes { m, n, k }: Sizes) -> u32 {
        const FEW: u64 = 64;
        // A part's sums are written, read and added: that must not cost more than its summands.
        const LEAST: u32 = 256;
        let groups = self.groups(m, n);
        let parts = u64::from(k / LEAST).min(2 * FEW / groups.max(1)).min(COLUMN_BLOCK.into());
        match caps.family {
            // The parts are at most k.
            #[expect(clippy::cast_possible_truncation, reason = "at most k")]
            Family::Gpu if groups < FEW && parts > 1 => k.div_ceil(parts as u32).next_multiple_of(16),
            _ => k.max(1),
        }
    }
}

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) m: u32,
    pub(super) n: u32,
    pub(super) k: u32,
}
