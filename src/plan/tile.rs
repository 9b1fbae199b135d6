//! The tile of the result that a workgroup of a product computes.

use super::summands::Summands;
use crate::engine::{Caps, Family};

/// The kernels for products, in `ops::product`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProductKernel {
    Tiled,
    Simd,
    Subgroup,
}

/// A kernel, and the tile that one of its workgroups computes.
pub(crate) struct Tile {
    pub(crate) kernel: ProductKernel,
    pub(crate) workgroup: u32,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    /// The number of depths, and so of summands, in one turn of the main loop.
    depths_per_turn: u32,
    /// The turns that add `depths_per_turn` summands.
    turns_per_depth: u64,
    /// The turns that search `depths_per_turn` columns of `a`'s tile for nonzero elements.
    search_per_depth: u64,
    /// The constants of this kernel alone.
    pub(crate) constants: Vec<(&'static str, u32)>,
}

impl Tile {
    /// The tile for a product. On a GPU, the largest tile size with enough tiles to keep all
    /// multiprocessors busy, because larger tiles read less.
    pub(crate) fn new(caps: &Caps, sizes: Sizes) -> Self {
        match caps.family {
            Family::Gpu => {
                let tiles = |side| u64::from(sizes.m.div_ceil(side)) * u64::from(sizes.n.div_ceil(side));
                let fits = |&(side, threads, [depth_quads, ..]): &(u32, u32, [u32; 3])| {
                    // One tile of each factor is in workgroup memory.
                    let memory = 2 * side * 4 * depth_quads * 4;
                    threads <= caps.max_invocations
                        && memory <= caps.workgroup_memory
                        && tiles(side) >= caps.enough_tiles.into()
                };
                let large = [(128, 256, [4, 2, 2]), (64, 128, [4, 1, 2])];
                let (side, workgroup, rest) = large.into_iter().find(fits).unwrap_or((32, 64, [2, 1, 1]));
                let [depth_quads, row_quads, column_quads] = rest;
                let depth = 4 * depth_quads;
                Self {
                    kernel: ProductKernel::Tiled,
                    workgroup,
                    rows: side,
                    columns: side,
                    depths_per_turn: depth,
                    // Loading a tile of a factor takes up to 2 turns.
                    turns_per_depth: 1 + 2 * (2 + 1) + u64::from(depth) + 1,
                    // The loop itself, 2 turns over the tile, and the reduction over threads.
                    search_per_depth: 1 + (2 + 1) + u64::from(workgroup / 16 + 1) + (16 + 1),
                    constants: [
                        ("TILE_QUADS", side / 4),
                        ("DEPTH_QUADS", depth_quads),
                        ("ROW_QUADS", row_quads),
                        ("COLUMN_QUADS", column_quads),
                    ]
                    .to_vec(),
                }
            }
            Family::CpuSimd => {
                let rows = if sizes.m <= 16 { 8 } else { 32 };
                Self {
                    kernel: if caps.subgroup_size == caps.simd_width {
                        ProductKernel::Subgroup
                    } else {
                        ProductKernel::Simd
                    },
                    workgroup: caps.simd_width,
                    rows,
                    columns: caps.simd_width * 4,
                    depths_per_turn: 4,
                    turns_per_depth: 1,
                    search_per_depth: 1,
                    constants: vec![("ROWS", rows)],
                }
            }
        }
    }

    /// The number of workgroups for a result of `m` x `n`.
    pub(crate) fn groups(&self, m: u32, n: u32) -> u64 {
        u64::from(m.div_ceil(self.rows)) * u64::from(n.div_ceil(self.columns))
    }

    /// The turns of an invocation for this many summands, in runs of `run`.
    pub(crate) fn turns(&self, summands: u32, run: u32, sparse: bool) -> u64 {
        let search = if sparse { self.search_per_depth } else { 0 };
        // Each run ends with one more search and two comparisons.
        let runs = u64::from(summands.div_ceil(run));
        u64::from(summands.div_ceil(self.depths_per_turn)) * (self.turns_per_depth + search) + runs * (2 + search)
    }

    /// The number of summands of a part: a section, or fewer if a product has too few tiles to keep
    /// a GPU busy.
    pub(crate) fn split(&self, caps: &Caps, Sizes { m, n, k }: Sizes) -> u32 {
        const FEW: u64 = 64;
        // Writing, reading and adding partial results must not cost more than the summands.
        const LEAST: u32 = 256;
        const MOST_PARTS: u64 = 64;
        let groups = self.groups(m, n);
        let parts = u64::from(k / LEAST).min(2 * FEW / groups.max(1)).min(MOST_PARTS);
        let split = match caps.family {
            Family::Gpu if groups < FEW && parts > 1 => {
                u64::from(k).div_ceil(parts).next_multiple_of(Summands::RUN.into())
            }
            _ => k.max(1).into(),
        };
        // A split that exceeds u32 is longer than a section.
        u32::try_from(split).map_or(Summands::SECTION, |split| split.min(Summands::SECTION))
    }
}

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
}
