//! What the elementwise maps share.

use crate::error::Result;
use crate::kernel::{Binding, Field, Kernel, Variant, params, read4, write4};
use crate::plan::{BLOCK, Cut, Work, turns};
use crate::recorder::Recorder;
use crate::tensor::{Element, Tensor};

use super::same_shape;

params! {
    struct ForwardParams {
        count: u32,
        /// Elements that a workgroup maps.
        block: u32,
    }
}

pub(super) const FORWARD_PARAMS: &[Field] = ForwardParams::FIELDS;
pub(super) const FORWARD_BINDINGS: &[Binding] = &[read4("x"), write4("y")];

params! {
    struct BackwardParams {
        count: u32,
        /// Elements that a workgroup maps.
        block: u32,
    }
}

pub(super) const BACKWARD_PARAMS: &[Field] = BackwardParams::FIELDS;
pub(super) const BACKWARD_BINDINGS: &[Binding] = &[read4("y"), read4("upstream"), write4("grad")];

pub(super) const CONSTANTS: &[&str] = &["WORKGROUP", "QUADS"];

impl Recorder<'_> {
    pub(super) fn map(&mut self, op: &'static str, kernel: &'static Kernel, x: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.own(op, "x", x)?;
        x.count(op)?;
        let y = self.output(op, x.shape().clone())?;
        self.map_into(op, kernel, x, &y)?;
        Ok(y)
    }

    pub(super) fn map_into<T: Element>(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        x: &Tensor<T>,
        y: &Tensor<T>,
    ) -> Result<()> {
        let per_element = [x.per_row(1), y.per_row(1)];
        for range in Cut::by_blocks(op, x.count(op)?, &per_element).ranges(self.gpu().caps())? {
            let (first, len) = (range.start.into(), u64::from(range.end - range.start));
            let (from, to) = (self.window(x, first, len), self.window(y, first, len));
            let params =
                ForwardParams { count: range.end - range.start, block: BLOCK };
            let variant = Variant { vec4: true, ..Variant::new(&turns(self.gpu().caps())) };
            let work = Work::by_blocks(self.gpu().caps(), len.div_ceil(BLOCK.into()));
            self.dispatch(kernel, variant, &params, &[Some(&from), Some(&to)], work)?;
        }
        Ok(())
    }

    pub(super) fn map_backward(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        y: &Tensor<f32>,
        upstream: &Tensor<f32>,
    ) -> Result<Tensor<f32>> {
        self.own(op, "y", y)?;
        self.own(op, "upstream", upstream)?;
        same_shape(op, "upstream", upstream, y)?;
        let per_element = [y.per_row(1), upstream.per_row(1)];
        let ranges = Cut::by_blocks(op, y.count(op)?, &per_element).ranges(self.gpu().caps())?;
        let grad = self.output(op, y.shape().clone())?;
        for range in ranges {
            let (first, len) = (range.start.into(), u64::from(range.end - range.start));
            let (y, g) = (self.window(y, first, len), self.window(upstream, first, len));
            let to = self.window(&grad, first, len);
            let params = BackwardParams {
                count: range.end - range.start,
                block: BLOCK,
            };
            let variant = Variant { vec4: true, ..Variant::new(&turns(self.gpu().caps())) };
            let slots = [Some(&y), Some(&g), Some(&to)];
            let work = Work::by_blocks(self.gpu().caps(), len.div_ceil(BLOCK.into()));
            self.dispatch(kernel, variant, &params, &slots, work)?;
        }
        Ok(grad)
    }
}
