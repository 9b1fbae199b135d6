//! Rows of tensors cut into ranges, each of which is one dispatch.

use std::ops::Range;

use super::{BLOCK, TURNS, most_groups, most_turns};
use crate::engine::Caps;
use crate::error::{Error, Result};

/// Dispatches that rows are cut into: far more than any that are of use, and few enough to list.
const MOST_RANGES: u64 = 1 << 22;

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
