//! Rows in strips that are one dispatch each.

use std::ops::Range;

use super::{Cut, PerRow, Placed};
use crate::engine::{Caps, WORD_BYTES};
use crate::error::Result;

/// A tensor's dimensions around its class dimension, which is the first of one and the second of more.
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

    /// Elements of one of the `outer` parts.
    pub(crate) fn part(self) -> u64 {
        u64::from(self.classes) * u64::from(self.inner)
    }
}

/// Some of the rows of a tensor `[outer, classes, inner]`: those of some outer parts, or, where one of them is larger than a binding, some
/// within it. Those are gathered into memory of their own, and what is written there is brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strip {
    whole: Classes,
    outer: Range<u32>,
    within: Option<Range<u32>>,
}

impl Strip {
    /// All the rows of these tensors. `bytes` is what else a row has in a binding, `groups` the workgroups that it takes.
    pub(crate) fn all(
        op: &'static str,
        caps: &Caps,
        whole: Classes,
        tensors: &[Placed],
        bytes: u64,
        groups: u64,
    ) -> Result<Vec<Self>> {
        let Classes { outer: rows, classes, inner } = whole;
        let rows = if whole.rows() == 0 { 0 } else { rows };
        let moving = |elements: u64, rows: u64| {
            let others = tensors.iter().map(move |tensor| tensor.per_row(elements));
            others.chain([PerRow::of(rows * bytes)]).collect::<Vec<_>>()
        };
        let per_row = &moving(whole.part(), inner.into());
        let cut =
            Cut { op, rows, per_row, granule: 1, groups_per_granule: groups * u64::from(inner), turns_per_granule: 0 };
        let no_strips = match cut.ranges(caps) {
            Ok(ranges) => return Ok(ranges.into_iter().map(|outer| Self { whole, outer, within: None }).collect()),
            Err(error) => error,
        };
        // What is copied for a strip begins and ends with a word.
        let words = |tensor: &Placed| {
            let apart = u64::from(inner) * tensor.element;
            [tensor.offset, apart].iter().all(|position| position.is_multiple_of(WORD_BYTES))
        };
        if inner <= 1 || !tensors.iter().all(words) {
            return Err(no_strips);
        }
        let per_row = moving(classes.into(), 1).into_iter().map(|tensor| PerRow::of(tensor.bytes)).collect::<Vec<_>>();
        let strips = |granule: u32| {
            let groups_per_granule = groups * u64::from(granule);
            Cut { op, rows: inner, per_row: &per_row, granule, groups_per_granule, turns_per_granule: 0 }.ranges(caps)
        };
        // Long copies where there is room for them, and a half is never alone.
        let halves = tensors.iter().any(|tensor| tensor.element < WORD_BYTES);
        let strips = strips(64).or_else(|_| strips(if halves { 2 } else { 1 }))?;
        let strips_of =
            |o| strips.iter().map(move |within| Self { whole, outer: o..o + 1, within: Some(within.clone()) });
        Ok((0..rows).flat_map(strips_of).collect())
    }

    /// Whether its rows are gathered into memory of their own.
    pub(crate) fn is_gathered(&self) -> bool {
        self.within.is_some()
    }

    /// Its own dimensions.
    pub(crate) fn dims(&self) -> Classes {
        let inner = self.within.as_ref().map_or(self.whole.inner, |rows| rows.end - rows.start);
        Classes { outer: self.outer.end - self.outer.start, inner, ..self.whole }
    }

    /// The rows before it.
    pub(crate) fn first_row(&self) -> u64 {
        let first = u64::from(self.outer.start) * u64::from(self.whole.inner);
        first + self.within.as_ref().map_or(0, |rows| u64::from(rows.start))
    }

    /// The element that it starts with.
    pub(crate) fn start(&self) -> usize {
        usize::try_from(u64::from(self.outer.start) * self.whole.part()).unwrap_or(usize::MAX)
    }

    /// Where its classes are in the tensor and in memory of its own, in bytes from their starts, and the bytes of each.
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
