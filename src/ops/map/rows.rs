//! Code shared by the maps of rows.

use crate::engine::kernel::{Binding, Kernel, read, read4, update, write4};
use crate::error::Result;
use crate::plan::RowPlan;
use crate::record::{Launch, Recorder};
use crate::tensor::{Float, Tensor, expect_shape};

use crate::ops::Classes;
use crate::ops::loss::row_parts::Rows;
use crate::plan::strips::Strip;

pub(crate) const FORWARD_BINDINGS: &[Binding] = &[read4("logits"), write4("output"), read("parts", "f32")];

pub(crate) const BACKWARD_BINDINGS: &[Binding] =
    &[read4("output"), read4("upstream"), write4("grad"), update("lanes", "f32")];

/// The number of words of a lane's state between dispatches.
const LANE_WORDS: usize = 4;

impl Recorder<'_> {
    /// Maps the rows along dimension `dim`.
    pub(crate) fn row_map<T: Float>(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        logits: &Tensor<T>,
        dim: usize,
    ) -> Result<Tensor<T>> {
        self.check_device(op, "logits", logits)?;
        let dims = Classes::along(op, "logits", logits.shape(), dim)?;
        let caps = self.gpu().caps();
        let plan = RowPlan::of_softmax(caps, dims.classes, dims.inner).in_parts(caps, dims.classes, dims.rows());
        if logits.is_empty() {
            return self.output(op, logits.shape().clone());
        }
        let strips = Strip::all(op, caps, dims, &[logits.placed()], 0, plan.parts().into())?;
        let output = self.output(op, logits.shape().clone())?;
        for strip in strips {
            let Classes { classes, inner, .. } = strip.dims();
            let rows = strip.dims().rows();
            let (x, y) = (self.strip_of(op, logits, &strip)?, self.room_for_strip(op, &output, &strip)?);
            let (from, to) = (self.whole(&x), self.whole(&y));
            let (softmax, map) = (plan.softmax_sweep(), plan.sweep(1));
            let at_once = plan.parts() == 1 && plan.fits(self.gpu().caps(), &[softmax, map]);
            let (parts, dispatches) = if at_once {
                (None, vec![(plan.all_blocks(), plan.work(rows, &[softmax, map]))])
            } else {
                let logits = Rows { window: &from, rows, classes, inner, logits: 0, logit_scale: 1.0, softcap: 1.0 };
                let parts = self.row_parts(op, plan, &logits)?;
                (Some(parts), plan.dispatches(op, self.gpu().caps(), (rows, classes), map)?)
            };
            for (blocks, work) in dispatches {
                let launch = Launch::new(op, kernel)
                    .rows(&plan, [rows, classes, inner], &blocks)
                    .constant("PART_STATS_STORED", parts.is_some())
                    .bind("logits", from.clone())
                    .bind("output", to.clone())
                    .bind("parts", parts.clone());
                self.launch(launch, &(), work)?;
            }
            self.store_strip(&y, &strip, &output)?;
        }
        Ok(output)
    }

    /// The gradient of a map of rows along dimension `dim`, from its output.
    pub(crate) fn row_map_backward<T: Float>(
        &mut self,
        op: &'static str,
        kernel: &'static Kernel,
        output: &Tensor<T>,
        upstream: &Tensor<T>,
        dim: usize,
    ) -> Result<Tensor<T>> {
        self.check_device(op, "output", output)?;
        self.check_device(op, "upstream", upstream)?;
        let dims = Classes::along(op, "output", output.shape(), dim)?;
        expect_shape(op, "upstream", upstream.shape(), output.shape())?;
        let plan = RowPlan::new(self.gpu().caps(), dims.classes, dims.inner);
        if output.is_empty() {
            return self.output(op, output.shape().clone());
        }
        let strips = Strip::all(op, self.gpu().caps(), dims, &[output.placed(), upstream.placed()], 0, 1)?;
        let grad = self.output(op, output.shape().clone())?;
        for strip in strips {
            let Classes { classes, inner, .. } = strip.dims();
            let rows = strip.dims().rows();
            let (y, g) = (self.strip_of(op, output, &strip)?, self.strip_of(op, upstream, &strip)?);
            let x = self.room_for_strip(op, &grad, &strip)?;
            let (y, g, to) = (self.whole(&y), self.whole(&g), self.whole(&x));
            // The first sum, the second sum, and the gradient
            // (`shaders/lib/row_map_backward.wgsl`).
            let sweeps = [plan.sweep(1); 3];
            let dispatches = if plan.fits(self.gpu().caps(), &sweeps) {
                vec![(0u32, plan.all_blocks(), plan.work(rows, &sweeps))]
            } else {
                let of_sweep = |(sweep, turns)| {
                    let dispatches = plan.dispatches(op, self.gpu().caps(), (rows, classes), turns)?;
                    Ok(dispatches.into_iter().map(move |(blocks, work)| (sweep, blocks, work)))
                };
                let all = (1..).zip(sweeps).map(of_sweep).collect::<Result<Vec<_>>>()?;
                all.into_iter().flatten().collect()
            };
            let lanes = self.lanes(op, plan, rows as usize, LANE_WORDS, dispatches.len() > 1)?;
            for (sweep, blocks, work) in dispatches {
                let written = (sweep == 0 || sweep == 3).then(|| to.clone());
                let launch = Launch::new(op, kernel)
                    .rows(&plan, [rows, classes, inner], &blocks)
                    .constant("SWEEP", sweep)
                    .bind("output", y.clone())
                    .bind("upstream", g.clone())
                    .bind("grad", written)
                    .bind("lanes", lanes.clone());
                self.launch(launch, &(), work)?;
            }
            self.store_strip(&x, &strip, &grad)?;
        }
        Ok(grad)
    }
}
