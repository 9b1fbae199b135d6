//! Code shared by the elementwise maps.

use crate::engine::kernel::{Binding, Kernel, read4, write4};
use crate::error::Result;
use crate::record::{BlockLaunch, Recorder};
use crate::tensor::{Element, Tensor, expect_shape};

pub(crate) const FORWARD_BINDINGS: &[Binding] = &[read4("x"), write4("y")];

pub(crate) const BACKWARD_BINDINGS: &[Binding] = &[read4("y"), read4("upstream"), write4("grad")];

impl Recorder<'_> {
    pub(crate) fn map(&mut self, op: &'static str, kernel: &'static Kernel, x: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.check_device(op, "x", x)?;
        x.count(op)?;
        let y = self.output(op, x.shape().clone())?;
        self.map_into(op, kernel, x, &y)?;
        Ok(y)
    }

    pub(crate) fn map_into<T: Element>(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        x: &Tensor<T>,
        y: &Tensor<T>,
    ) -> Result<()> {
        BlockLaunch::new(op, kernel, x.count(op)?).per_element("x", x).per_element("y", y).run(self, &())
    }

    pub(crate) fn map_backward(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        y: &Tensor<f32>,
        upstream: &Tensor<f32>,
    ) -> Result<Tensor<f32>> {
        self.check_device(op, "y", y)?;
        self.check_device(op, "upstream", upstream)?;
        expect_shape(op, "upstream", upstream.shape(), y.shape())?;
        let count = y.count(op)?;
        let grad = self.output(op, y.shape().clone())?;
        BlockLaunch::new(op, kernel, count)
            .per_element("y", y)
            .per_element("upstream", upstream)
            .per_element("grad", &grad)
            .run(self, &())?;
        Ok(grad)
    }
}
