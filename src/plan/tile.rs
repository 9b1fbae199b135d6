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
    /// The number of depths, and so of summands, in one step: an iteration of the main loop.
    depths_per_step: u32,
    /// The turns of a step, with those of its inner loops.
    turns_per_step: u64,
    /// The turns of the search for nonzero elements of `a` at the depths of a step.
    search_turns_per_step: u64,
    /// Of [`ProductKernel::Tiled`].
    tiled: Option<TiledSizes>,
}

/// The sizes of a workgroup of [`ProductKernel::Tiled`] and of its tile.
#[derive(Clone, Copy, Debug)]
struct TiledSizes {
    /// The number of rows, and of columns.
    side: u32,
    /// The constants `ROW_QUADS` and `COLUMN_QUADS`.
    row_quads: u32,
    column_quads: u32,
}

impl TiledSizes {
    const LARGE: Self = Self { side: 128, row_quads: 2, column_quads: 2 };
    const MEDIUM: Self = Self { side: 64, row_quads: 1, column_quads: 2 };
    const SMALL: Self = Self { side: 32, row_quads: 1, column_quads: 1 };

    /// The constant `DEPTH_QUADS`.
    const DEPTH_QUADS: u32 = 4;

    /// The number of threads. Each loads 4 quads of a tile of `a` or `b`.
    fn workgroup(self) -> u32 {
        2 * Self::DEPTH_QUADS * (self.side / 4)
    }

    /// The bytes of one tile of each factor.
    fn memory(self) -> u32 {
        2 * self.side * 4 * Self::DEPTH_QUADS * 4
    }
}

impl Tile {
    /// The tile for a product. On a GPU, the largest tile size with enough tiles to keep all
    /// multiprocessors busy, because larger tiles read less.
    pub(crate) fn new(caps: &Caps, sizes: Sizes) -> Self {
        match caps.family {
            Family::Gpu => {
                let tiles = |side| u64::from(sizes.m.div_ceil(side)) * u64::from(sizes.n.div_ceil(side));
                let fits = |tiled: &TiledSizes| {
                    tiled.workgroup() <= caps.max_invocations
                        && tiled.memory() <= caps.workgroup_memory
                        && tiles(tiled.side) >= caps.enough_tiles.into()
                };
                let larger = [TiledSizes::LARGE, TiledSizes::MEDIUM].into_iter().find(fits);
                let tiled = larger.unwrap_or(TiledSizes::SMALL);
                let (workgroup, side) = (tiled.workgroup(), tiled.side);
                Self {
                    kernel: ProductKernel::Tiled,
                    workgroup,
                    rows: side,
                    columns: side,
                    depths_per_step: 4 * TiledSizes::DEPTH_QUADS,
                    turns_per_step: 1,
                    // The loop itself, 2 turns over the tile, and the reduction over threads.
                    search_turns_per_step: 1 + (2 + 1) + u64::from(workgroup / 16 + 1) + (16 + 1),
                    tiled: Some(tiled),
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
                    depths_per_step: 4,
                    turns_per_step: 1,
                    search_turns_per_step: 1,
                    tiled: None,
                }
            }
        }
    }

    /// The constants of this kernel alone.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let of_tiled = |TiledSizes { side, row_quads, column_quads }| {
            let depth_quads = ("DEPTH_QUADS", TiledSizes::DEPTH_QUADS);
            [("TILE_QUADS", side / 4), depth_quads, ("ROW_QUADS", row_quads), ("COLUMN_QUADS", column_quads)]
        };
        let rows = if self.tiled.is_none() { Some(("ROWS", self.rows)) } else { None };
        self.tiled.map(of_tiled).into_iter().flatten().chain(rows)
    }

    /// The number of workgroups for a result of `m` x `n`.
    pub(crate) fn groups(&self, m: u32, n: u32) -> u64 {
        u64::from(m.div_ceil(self.rows)) * u64::from(n.div_ceil(self.columns))
    }

    /// The turns of an invocation for this many summands, in runs of `run`.
    pub(crate) fn turns(&self, summands: u32, run: u32, sparse: bool) -> u64 {
        let search = if sparse { self.search_turns_per_step } else { 0 };
        // Each run ends with one more search and two comparisons.
        let runs = u64::from(summands.div_ceil(run));
        u64::from(summands.div_ceil(self.depths_per_step)) * (self.turns_per_step + search) + runs * (2 + search)
    }

    /// The number of summands of a part: a section, or fewer if a product has too few tiles to keep
    /// a GPU busy.
    pub(crate) fn summands_per_part(&self, caps: &Caps, Sizes { m, n, k }: Sizes) -> u32 {
        // If there are fewer workgroups than this, parts raise their number to at most twice this.
        const FEW_GROUPS: u64 = 64;
        // Writing, reading and adding partial results must not cost more than the summands.
        const LEAST_SUMMANDS: u32 = 256;
        const MOST_PARTS: u64 = 64;
        let groups = self.groups(m, n);
        let parts = u64::from(k / LEAST_SUMMANDS).min(2 * FEW_GROUPS / groups.max(1)).min(MOST_PARTS);
        let summands = match caps.family {
            Family::Gpu if groups < FEW_GROUPS && parts > 1 => {
                u64::from(k).div_ceil(parts).next_multiple_of(Summands::RUN.into())
            }
            _ => k.max(1).into(),
        };
        // A number that exceeds u32 is larger than a section.
        u32::try_from(summands).map_or(Summands::SECTION, |summands| summands.min(Summands::SECTION))
    }
}

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) m: u32,
    pub(crate) n: u32,
    pub(crate) k: u32,
}
