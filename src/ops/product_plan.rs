//! The dispatches of a product: pure integers.

use std::ops::Range;

use crate::caps::Caps;
use crate::error::Result;
use crate::options::Layout;
use crate::plan::{Cut, PerRow, Placed, most_groups};
use crate::tensor::WORD_BYTES;

use super::tile::{Sizes, Tile};

/// A part of a product that is one dispatch.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) m: Range<u32>,
    pub(super) n: Range<u32>,
    pub(super) k: Range<u32>,
}

/// A part of the sums of a product: summands `k`, and the rows of its results after those of `index` other parts. A dispatch that
/// has more than `split` of them computes several parts.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) index: u32,
    pub(super) k: Range<u32>,
    pub(super) split: u32,
}

impl Layout {
    /// The dispatches of a product of `a` and `b` into `c`, which is not empty, those that share a part of `c` in the order of `k`. If the sums are cut
    /// into parts of `split` summands, each part has its own results, one after the other.
    pub(super) fn dispatches(
        self,
        caps: &Caps,
        sizes: Sizes,
        placed: [Placed; 3],
        split: u32,
    ) -> Result<Vec<(Piece, Part)>> {
        let Sizes { m, n, k } = sizes;
        let pieces = self.pieces(caps, sizes, placed)?;
        let parts = k.div_ceil(split).max(1);
        let bytes = u128::from(m) * u128::from(n) * u128::from(parts) * u128::from(WORD_BYTES);
        let groups = u128::from(Tile::new(caps, sizes).groups(m, n)) * u128::from(parts);
        let fit = bytes <= caps.max_binding.into() && groups <= most_groups(caps).into();
        if parts == 1 || (pieces.len() == 1 && fit) {
            return Ok(pieces.into_iter().map(|piece| (piece, Part { index: 0, k: 0..k, split })).collect());
        }
        let mut dispatches = Vec::new();
        for index in 0..parts {
            let part = Part { index, k: index * split..k.min((index + 1).saturating_mul(split)), split };
            for Piece { m, n, k } in &pieces {
                let k = k.start.max(part.k.start)..k.end.min(part.k.end);
                if !k.is_empty() {
                    dispatches.push((Piece { m: m.clone(), n: n.clone(), k }, part.clone()));
                }
            }
        }
        Ok(dispatches)
    }

    /// The same without regard to the parts of sums.
    fn pieces(self, caps: &Caps, sizes: Sizes, [a, b, c]: [Placed; 3]) -> Result<Vec<Piece>> {
        let Sizes { m, n, k } = sizes;
        let Tile { rows: tile_m, columns: tile_n, .. } = Tile::new(caps, sizes);
        let groups_in = |size: u32, tile: u32| u64::from(size.div_ceil(tile));
        // Cuts on multiples of 4 leave quads whole.
        let ranges = |rows: u32, per_row: &[PerRow], granule: u32, groups: u64| {
            let cut = Cut { op: "matmul", rows, per_row, granule, groups_per_granule: groups };
            let coarse = cut.ranges(caps);
            if granule > 1 && coarse.is_err() { Cut { granule: 1, ..cut }.ranges(caps) } else { coarse }
        };
        // What a binding holds whole rows of: c moves with m, a with m or k, b with k or n.
        let (a_row, b_row) = (
            a.per_row(if self == Self::Tn { m } else { k }.into()),
            b.per_row(if self == Self::Nt { k } else { n }.into()),
        );
        let by_m = [c.per_row(n.into()), a_row];
        let m_ranges = ranges(m, if self == Self::Tn { &by_m[..1] } else { &by_m }, tile_m, groups_in(n, tile_n))?;
        let n_ranges = match self {
            Self::Nt => ranges(n, &[b_row], 4, 1)?,
            Self::Nn | Self::Tn => std::iter::once(0..n).collect(),
        };
        let k_ranges = match self {
            Self::Nt => vec![],
            Self::Nn => ranges(k, &[b_row], 4, 0)?,
            Self::Tn => ranges(k, &[a_row, b_row], 4, 0)?,
        };
        let k_ranges = if k_ranges.is_empty() { std::iter::once(0..k).collect() } else { k_ranges };
        let mut pieces = Vec::with_capacity(m_ranges.len() * n_ranges.len() * k_ranges.len());
        for m in &m_ranges {
            for n in &n_ranges {
                pieces.extend(k_ranges.iter().map(|k| Piece { m: m.clone(), n: n.clone(), k: k.clone() }));
            }
        }
        Ok(pieces)
    }
}
