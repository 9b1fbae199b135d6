//! Gathers and scatters the elements of strips of rows.

use crate::error::Result;
use crate::plan::strips::{Classes, Strip};
use crate::record::Recorder;
use crate::tensor::{Element, Shape, Tensor};

fn shape_of(strip: &Strip) -> Shape {
    let Classes { outer, classes, inner } = strip.dims();
    [outer, classes, inner].map(|dim| dim as usize).into()
}

impl Recorder<'_> {
    /// Returns the elements of a strip: a view of the tensor, or a gathered copy.
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

    /// Returns a destination for the elements of a strip: a view of the tensor, or scratch memory
    /// that [`store_strip`](Self::store_strip) scatters.
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

    /// Scatters the elements of a strip into the tensor, unless they are a view of it.
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
