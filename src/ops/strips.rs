//! Rows in strips that are one dispatch each.

use std::ops::Range;

use crate::engine::Caps;
use crate::error::Result;
use crate::plan::{Cut, PerRow, Placed};
use crate::record::Recorder;
use crate::tensor::{Element, Shape, Tensor, WORD_BYTES};

use super::Classes;

/// Some of the rows of a tensor `[outer, classes, inner]`: those of some outer parts, or, where one of them is larger than a binding, some
/// within it. Those are gathered into memory of their own, and what is written there is brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strip {
    whole: Classes,
    outer: Range<u32>,
    within: Option<Range<u32>>,
}

impl Strip {
    /// All the rows of these tensors. `bytes` is what else a row has in a binding, `groups` the workgroups that it takes.
    pub(super) fn all(
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

    /// Its own dimensions.
    pub(super) fn dims(&self) -> Classes {
        let inner = self.within.as_ref().map_or(self.whole.inner, |rows| rows.end - rows.start);
        Classes { outer: self.outer.end - self.outer.start, inner, ..self.whole }
    }

    /// The rows before it.
    pub(super) fn first_row(&self) -> u64 {
        let first = u64::from(self.outer.start) * u64::from(self.whole.inner);
        first + self.within.as_ref().map_or(0, |rows| u64::from(rows.start))
    }

    /// The element that it starts with.
    fn start(&self) -> usize {
        usize::try_from(u64::from(self.outer.start) * self.whole.part()).unwrap_or(usize::MAX)
    }

    fn shape(&self) -> Shape {
        let Classes { outer, classes, inner } = self.dims();
        [outer, classes, inner].map(|dim| dim as usize).into()
    }

    /// Where its classes are in the tensor and in memory of its own, in bytes from their starts, and the bytes of each.
    pub(super) fn copies(&self, bytes: u64) -> impl Iterator<Item = (u64, u64, u64)> + use<> {
        let Classes { classes, inner, .. } = self.whole;
        let (start, rows) = (self.start() as u64, self.within.clone().unwrap_or(0..0));
        let width = u64::from(rows.end - rows.start);
        (0..u64::from(classes)).map(move |class| {
            let from = start + class * u64::from(inner) + u64::from(rows.start);
            (from * bytes, class * width * bytes, width * bytes)
        })
    }
}

impl Recorder<'_> {
    /// The strip's elements of a tensor.
    pub(super) fn strip_of<T: Element>(
        &mut self,
        op: &'static str,
        tensor: &Tensor<T>,
        strip: &Strip,
    ) -> Result<Tensor<T>> {
        let copy = self.room_for_strip(op, tensor, strip)?;
        if strip.within.is_some() {
            for (from, to, bytes) in strip.copies(tensor.format().bytes()) {
                self.copy_between((tensor, from), (&copy, to), bytes)?;
            }
            self.hold(tensor);
        }
        Ok(copy)
    }

    /// Where the strip's elements of a tensor are written; [`store_strip`](Self::store_strip) takes them there.
    pub(super) fn room_for_strip<T: Element>(
        &mut self,
        op: &'static str,
        tensor: &Tensor<T>,
        strip: &Strip,
    ) -> Result<Tensor<T>> {
        match strip.within {
            Some(_) => Ok(self.output_of(op, strip.shape(), tensor.format())?.retyped()),
            None => Ok(tensor.part(strip.start(), strip.shape())),
        }
    }

    /// Brings the strip's elements to where they belong, if they are not there.
    pub(super) fn store_strip<T: Element>(
        &mut self,
        from: &Tensor<T>,
        strip: &Strip,
        tensor: &Tensor<T>,
    ) -> Result<()> {
        if strip.within.is_some() {
            for (to, start, bytes) in strip.copies(tensor.format().bytes()) {
                self.copy_between((from, start), (tensor, to), bytes)?;
            }
            self.hold(tensor);
        }
        Ok(())
    }
}
