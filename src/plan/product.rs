//! Splits a matrix product into dispatches.

use std::ops::Range;

use super::summands::Summands;
use super::tile::{Sizes, Tile};
use super::{PerRow, Placed, RowSplit, TURNS, Work, most_groups, most_turns};
use crate::engine::{Caps, WORD_BYTES};
use crate::error::{Result, within};

/// Which of a product's matrices are stored transposed. All are row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `c = a b`: `a` is `[m, k]`, `b` is `[k, n]`. A layer's gradient with respect to its input:
    /// `upstream * weight`.
    Nn,
    /// `c = a b^T`: `a` is `[m, k]`, `b` is `[n, k]`. A layer forward: `input * weight^T + bias`.
    Nt,
    /// `c = a^T b`: `a` is `[k, m]`, `b` is `[k, n]`. A layer's gradient with respect to its
    /// weight: `upstream^T * input`.
    Tn,
}

/// The ranges of a product that one dispatch computes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    pub(crate) m: Range<u32>,
    pub(crate) n: Range<u32>,
    pub(crate) k: Range<u32>,
    /// The first part whose partial result the piece computes.
    pub(crate) part: u32,
    /// The number of summands of a part.
    pub(crate) summands_per_part: u32,
    /// Whether the piece adds to sums that earlier dispatches have written.
    pub(crate) resumed: bool,
    /// Whether the piece continues a run that an earlier dispatch has begun.
    pub(crate) begun: bool,
    /// Whether the piece leaves its only run to be continued by a later dispatch.
    pub(crate) unfinished: bool,
    /// Whether the piece includes the last summands of its part.
    pub(crate) last: bool,
    pub(crate) work: Work,
}

impl Piece {
    /// The number of parts whose partial results the piece computes.
    pub(crate) fn parts(&self) -> u32 {
        (self.k.end - self.k.start).div_ceil(self.summands_per_part).max(1)
    }
}

/// The properties of a product that determine its plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProductSpec {
    pub(crate) layout: Layout,
    pub(crate) sizes: Sizes,
    /// The positions of `a`, `b` and `c` in memory.
    pub(crate) placed: [Placed; 3],
    /// Whether to skip summands for which a whole tile of `a` is 0.
    pub(crate) sparse: bool,
}

impl ProductSpec {
    /// The dispatches for the summands `k`. Dispatches that write the same elements are in the
    /// order of `k`. Each part of `summands_per_part` summands has its own partial results; the
    /// parts are stored one after the other.
    pub(crate) fn dispatches(
        &self,
        caps: &Caps,
        k: &Range<u32>,
        summands_per_part: u32,
        summands: Summands,
    ) -> Result<Vec<Piece>> {
        let Sizes { m, n, .. } = self.sizes;
        let tile = Tile::new(caps, self.sizes);
        let splits = self.split_ranges(caps, k, summands.run)?;
        let len = k.end - k.start;
        let parts = len.div_ceil(summands_per_part).max(1);
        if parts > 1 {
            let bytes = u128::from(m) * u128::from(n) * u128::from(parts) * u128::from(WORD_BYTES);
            let groups = u128::from(tile.groups(m, n)) * u128::from(parts);
            let turns = tile.turns(summands_per_part, summands.run, self.sparse);
            let in_one_piece = [&splits.m, &splits.n, &splits.k].iter().all(|ranges| ranges.len() == 1);
            let fits = bytes <= caps.max_binding.into() && groups <= most_groups(caps).into();
            if in_one_piece && fits && turns <= most_turns(caps) {
                let work = Work::new(tile.groups(m, n) * u64::from(parts), turns);
                let (m, n, k) = (0..m, 0..n, k.clone());
                return Ok(vec![Piece { m, n, k, summands_per_part, last: true, work, ..Piece::default() }]);
            }
        }
        let mut pieces = Vec::new();
        for part in 0..parts {
            let start = k.start + part * summands_per_part;
            let end = k.end.min(start.saturating_add(summands_per_part));
            let of_part = Summands { all: if parts > 1 { end - start } else { summands.all }, ..summands };
            for (m, n) in splits.m.iter().flat_map(|m| splits.n.iter().map(move |n| (m, n))) {
                let ranges = splits.k.iter().map(|range| range.start.max(start)..range.end.min(end));
                for range in ranges.filter(|range| !range.is_empty() || len == 0) {
                    let counted = range.start - start + summands.before..range.end - start + summands.before;
                    for step in of_part.steps(counted, splits.most_at_once) {
                        let unfinished = step.end % summands.run != 0 && step.end < of_part.all;
                        let groups = tile.groups(m.end - m.start, n.end - n.start);
                        let turns = tile.turns(step.end - step.start, summands.run, self.sparse);
                        pieces.push(Piece {
                            m: m.clone(),
                            n: n.clone(),
                            k: step.start - summands.before + start..step.end - summands.before + start,
                            part,
                            summands_per_part,
                            resumed: step.start >= summands.run && !unfinished,
                            begun: step.start % summands.run != 0,
                            unfinished,
                            last: step.end == of_part.all,
                            work: Work::new(groups, turns),
                        });
                    }
                }
            }
        }
        Ok(pieces)
    }

    /// The ranges of `m`, `n` and `k` that fit bindings, grids and the loop budget.
    fn split_ranges(&self, caps: &Caps, k: &Range<u32>, run: u32) -> Result<SplitRanges> {
        let Self { layout, sizes, placed: [a, b, c], sparse } = *self;
        let Sizes { m, n, k: all_k } = sizes;
        let tile = Tile::new(caps, sizes);
        let groups_in = |size: u32, tile: u32| u64::from(size.div_ceil(tile));
        // The coarsest granule that fits; multiples of 4 do not split quads.
        let coarsest = |split: RowSplit<'_>, granules: &[u32]| {
            let mut ranges = split.ranges(caps);
            for &granule in granules {
                if ranges.is_err() {
                    ranges = RowSplit { granule, ..split }.ranges(caps);
                }
            }
            ranges
        };
        // Bindings hold whole stored rows: `c` is indexed by `m`, `a` by `m` or `k`, `b` by `k` or
        // `n`.
        let (a_row, b_row) = (
            a.per_row(if layout == Layout::Tn { m } else { all_k }.into()),
            b.per_row(if layout == Layout::Nt { all_k } else { n }.into()),
        );
        let by_m = [c.per_row(n.into()), a_row];
        let by_m = if layout == Layout::Tn { &by_m[..1] } else { &by_m };
        let m_ranges = coarsest(row_split(m, by_m, tile.rows, groups_in(n, tile.columns)), &[1])?;
        let n_ranges = match layout {
            Layout::Nt => coarsest(row_split(n, &[b_row], 4, 1), &[1])?,
            Layout::Nn | Layout::Tn => std::iter::once(0..n).collect(),
        };
        let by_k: &[PerRow] = match layout {
            Layout::Nt => &[],
            Layout::Nn => &[b_row],
            Layout::Tn => &[a_row, b_row],
        };
        // Stored rows are numbered from the first row of the matrix, not from the first summand.
        let ranges = coarsest(row_split(k.end, by_k, run, 0), &[4, 1])?;
        let inside = |range: &Range<u32>| range.start.max(k.start)..range.end;
        let mut k_ranges: Vec<_> = ranges.iter().map(inside).filter(|range| !range.is_empty()).collect();
        if k_ranges.is_empty() {
            k_ranges.push(k.clone());
        }
        let turns = tile.turns(run, run, sparse);
        within("matmul", TURNS, turns, most_turns(caps))?;
        let runs = most_turns(caps) / turns;
        let most_at_once = u32::try_from(runs.saturating_mul(run.into())).unwrap_or(u32::MAX / run * run);
        Ok(SplitRanges { m: m_ranges, n: n_ranges, k: k_ranges, most_at_once })
    }
}

fn row_split(rows: u32, per_row: &[PerRow], granule: u32, groups_per_granule: u64) -> RowSplit<'_> {
    RowSplit { groups_per_granule, ..RowSplit::new("matmul", rows, per_row, granule) }
}

struct SplitRanges {
    m: Vec<Range<u32>>,
    n: Vec<Range<u32>>,
    k: Vec<Range<u32>>,
    /// The number of summands, in whole runs, that fit the loop budget of a dispatch.
    most_at_once: u32,
}
