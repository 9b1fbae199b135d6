//! Splits rows into ranges, one dispatch each.

use std::ops::Range;

use super::{BLOCK, TURNS, most_groups, most_turns};
use crate::engine::Caps;
use crate::error::{Result, within};

/// The most ranges of a plan: far more than any useful plan has, and few enough to keep in a list.
const MOST_RANGES: u64 = 1 << 22;

/// The limits of the ranges that `rows` are split into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSplit<'a> {
    pub(crate) op: &'static str,
    pub(crate) rows: u32,
    /// The tensors of which a dispatch binds only its own rows.
    pub(crate) per_row: &'a [PerRow],
    /// Ranges start at multiples of this many rows.
    pub(crate) granule: u32,
    /// The number of workgroups for a granule of rows.
    pub(crate) groups_per_granule: u64,
    /// The turns of one invocation for a granule of rows; 0 if the number of turns does not depend
    /// on the number of rows.
    pub(crate) turns_per_granule: u64,
}

/// The position of a tensor in its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// In bytes.
    pub(crate) offset: u64,
    /// Bytes per element.
    pub(crate) element: u64,
    /// The size of the buffers that the memory consists of, if there are several.
    pub(crate) segment: Option<u64>,
}

impl Placed {
    /// The tensor for a [`RowSplit`], with this many elements per row.
    pub(crate) fn per_row(self, elements: u64) -> PerRow {
        let segment_ends =
            self.segment.map(|segment| SegmentEnds { first: segment - self.offset % segment, step: segment });
        PerRow { bytes: elements * self.element, segment_ends }
    }
}

/// A tensor of which a dispatch binds only its own rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerRow {
    /// Bytes per row.
    pub(crate) bytes: u64,
    /// The positions at which the buffers of the tensor end; `None` for a single buffer.
    pub(crate) segment_ends: Option<SegmentEnds>,
}

/// The positions at which buffers end, in bytes from the start of the first row: `first`, and every
/// `step` after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentEnds {
    pub(crate) first: u64,
    pub(crate) step: u64,
}

impl PerRow {
    /// A tensor in a single buffer, with this many bytes per row.
    pub(crate) fn of(bytes: u64) -> Self {
        Self { bytes, segment_ends: None }
    }

    /// The end of the longest range from `start` (a multiple of `granule`) that lies in one buffer.
    /// A granule that straddles two buffers is a range of its own.
    fn end(&self, start: u64, granule: u64) -> u64 {
        let (Some(SegmentEnds { first, step }), 1..) = (self.segment_ends, self.bytes) else { return u64::MAX };
        let bytes = self.bytes * granule;
        let position = start * self.bytes;
        let cut = first + (position + 1).saturating_sub(first).div_ceil(step) * step;
        match cut / bytes * granule {
            before if before > start => before,
            _ => cut.div_ceil(bytes) * granule,
        }
    }
}

impl<'a> RowSplit<'a> {
    /// One workgroup per granule of rows.
    pub(crate) fn new(op: &'static str, rows: u32, per_row: &'a [PerRow], granule: u32) -> Self {
        Self { op, rows, per_row, granule, groups_per_granule: 1, turns_per_granule: 0 }
    }

    /// One workgroup per block of [`BLOCK`] elements.
    pub(crate) fn by_blocks(op: &'static str, count: u32, per_element: &'a [PerRow]) -> Self {
        Self::new(op, count, per_element, BLOCK)
    }

    /// Consecutive ranges that make up `0..rows`. Each fits a binding, the grid and the loop
    /// budget, and lies in a single buffer if possible.
    ///
    /// # Errors
    /// [`Error::Limit`] if a single granule does not fit, or if there would be more than
    /// `MOST_RANGES` ranges.
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
        within(self.op, "a storage binding's bytes for the smallest piece of a tensor", widest, usable)?;
        within(self.op, "workgroups in a dispatch", self.groups_per_granule, grid)?;
        within(self.op, TURNS, self.turns_per_granule, most_turns(caps))?;
        let rows = u64::from(self.rows);
        let step = by_bytes.min(by_groups).min(by_turns).saturating_mul(granule);
        within(self.op, "dispatches", rows.div_ceil(step), MOST_RANGES)?;
        let end = |start: u64| {
            let in_one_piece = self.per_row.iter().map(|tensor| tensor.end(start, granule)).min().unwrap_or(u64::MAX);
            rows.min(start.saturating_add(step)).min(in_one_piece)
        };
        let starts = std::iter::successors(Some(0), |&start| Some(end(start)));
        #[expect(clippy::cast_possible_truncation, reason = "at most `rows`, a u32")]
        Ok(starts.take_while(|&start| start < rows).map(|start| start as u32..end(start) as u32).collect())
    }
}
