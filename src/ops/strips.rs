//! The elements of a strip of rows: where they are, or gathered.

use crate::error::Result;
use crate::plan::strips::{Classes, Strip};
use crate::record::Recorder;
use crate::tensor::{Element, Shape, Tensor};

fn shape_of(strip: &Strip) -> Shape {
    let Classes { outer, classes, inner } = strip.dims();
    [outer, classes, inner].map(|dim| dim as usize).into()
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
        if strip.is_gathered() {
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
        if strip.is_gathered() {
            Ok(self.output_of(op, shape_of(strip), tensor.format())?.retyped())
        } else {
            Ok(tensor.part(strip.start(), shape_of(strip)))
        }
    }

    /// Brings the strip's elements to where they belong, if they are not there.
    pub(super) fn store_strip<T: Element>(
        &mut self,
        from: &Tensor<T>,
        strip: &Strip,
        tensor: &Tensor<T>,
    ) -> Result<()> {
        if strip.is_gathered() {
            for (to, start, bytes) in strip.copies(tensor.format().bytes()) {
                self.copy_between((from, start), (tensor, to), bytes)?;
            }
            self.hold(tensor);
        }
        Ok(())
    }
}
