//! Splits the rows of a tensor into strips that can be bound at once.

use std::ops::Range;

use super::{PerRow, Placed, RowSplit};
use crate::engine::{Caps, WORD_BYTES};
use crate::error::{Result, ensure};

/// A tensor's dimensions before, at and after its class dimension: `[outer, classes, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    pub(crate) outer: u32,
    pub(crate) classes: u32,
    pub(crate) inner: u32,
}

impl Classes {
    pub(crate) fn rows(self) -> u32 {
        self.outer.saturating_mul(self.inner)
    }

    /// The number of elements for each index of `outer`.
    pub(crate) fn elements_per_outer(self) -> u64 {
        u64::from(self.classes) * u64::from(self.inner)
    }
}

/// Some rows of a tensor `[outer, classes, inner]`: all rows of some `outer` indices. If the rows
/// of a single index exceed a binding, a strip is a range of `inner` of one `outer` index; its
/// elements are gathered into scratch memory, and results are scattered from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strip {
    whole: Classes,
    outer: Range<u32>,
    within: Option<Range<u32>>,
}

impl Strip {
    /// Strips that make up all rows. `bytes` is the size of a row's results that the same dispatch
    /// binds, `groups` the number of workgroups per row.
    pub(crate) fn all(
        op: &'static str,
        caps: &Caps,
        whole: Classes,
        tensors: &[Placed],
        bytes: u64,
        groups: u64,
    ) -> Result<Vec<Self>> {
        let Classes { outer, classes, inner } = whole;
        // Without rows there are no strips.
        let outer = if whole.rows() == 0 { 0 } else { outer };
        let per_row_with = |elements: u64, rows: u64| {
            let others = tensors.iter().map(move |tensor| tensor.per_row(elements));
            others.chain([PerRow::of(rows * bytes)]).collect::<Vec<_>>()
        };
        let per_row = &per_row_with(whole.elements_per_outer(), inner.into());
        let split = RowSplit { groups_per_granule: groups * u64::from(inner), ..RowSplit::new(op, outer, per_row, 1) };
        let no_strips = match split.ranges(caps) {
            Ok(ranges) => return Ok(ranges.into_iter().map(|outer| Self { whole, outer, within: None }).collect()),
            Err(error) => error,
        };
        // Copies must start and end at whole words.
        let words = |tensor: &Placed| {
            let apart = u64::from(inner) * tensor.element;
            [tensor.offset, apart].iter().all(|position| position.is_multiple_of(WORD_BYTES))
        };
        ensure!(inner > 1 && tensors.iter().all(words), no_strips);
        let per_row =
            per_row_with(classes.into(), 1).into_iter().map(|tensor| PerRow::of(tensor.bytes)).collect::<Vec<_>>();
        let strips = |granule: u32| {
            let groups_per_granule = groups * u64::from(granule);
            RowSplit { groups_per_granule, ..RowSplit::new(op, inner, &per_row, granule) }.ranges(caps)
        };
        // Prefer long copies. Halves are copied in pairs.
        let halves = tensors.iter().any(|tensor| tensor.element < WORD_BYTES);
        let strips = strips(64).or_else(|_| strips(if halves { 2 } else { 1 }))?;
        let strips_of =
            |o| strips.iter().map(move |within| Self { whole, outer: o..o + 1, within: Some(within.clone()) });
        Ok((0..outer).flat_map(strips_of).collect())
    }

    /// Whether the elements are gathered into scratch memory.
    pub(crate) fn is_gathered(&self) -> bool {
        self.within.is_some()
    }

    /// The dimensions of the strip itself.
    pub(crate) fn dims(&self) -> Classes {
        let inner = self.within.as_ref().map_or(self.whole.inner, |rows| rows.end - rows.start);
        Classes { outer: self.outer.end - self.outer.start, inner, ..self.whole }
    }

    /// The number of rows before the strip.
    pub(crate) fn first_row(&self) -> u64 {
        let first = u64::from(self.outer.start) * u64::from(self.whole.inner);
        first + self.within.as_ref().map_or(0, |rows| u64::from(rows.start))
    }

    /// The index of the first element of the strip's first `outer` index.
    pub(crate) fn start(&self) -> usize {
        usize::try_from(u64::from(self.outer.start) * self.whole.elements_per_outer()).unwrap_or(usize::MAX)
    }

    /// For each class, the bytes to copy: their offset in the tensor, their offset in scratch
    /// memory, and their number. `bytes` is the size of an element.
    pub(crate) fn copies(&self, bytes: u64) -> impl Iterator<Item = (u64, u64, u64)> + use<> {
        let Classes { classes, inner, .. } = self.whole;
        let (start, rows) = (self.start() as u64, self.within.clone().unwrap_or(0..0));
        let width = u64::from(rows.end - rows.start);
        (0..u64::from(classes)).map(move |class| {
            let from = start + class * u64::from(inner) + u64::from(rows.start);
            (from * bytes, class * width * bytes, width * bytes)
        })
    }
}
