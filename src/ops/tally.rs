//! Counts of rows by what a classifier made of them, and the total of their losses, which go on from record to record.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernel::{Kernel, Variant, count, params, read, update, wgsl, write};
use crate::plan::{BLOCK, Cut, Work};
use crate::recorder::{Recorder, Window};
use crate::tensor::{Tensor, size32};

use super::reduce::{partials, partials_of};

params! {
    struct Params {
        /// Rows of this dispatch, and where the first of them lies among all.
        count: u32,
        first: u32,
        /// Rows of a block: what a workgroup counts.
        block: u32,
        classes: u32,
        /// 1: there is a confusion matrix.
        matrix: u32,
        /// Cells that this dispatch adds to.
        first_cell: u32,
        end_cell: u32,
        /// 0: one weight for all rows; 1: one for each.
        weights_stride: u32,
        ignore_index: i32,
    }
}

pub(super) const ROWS: Kernel = Kernel {
    label: "xent.row_tally",
    source: wgsl![
        "lib/grid",
        "lib/numerics",
        "lib/lanes",
        "lib/sum",
        "lib/sum_across",
        "lib/partials",
        "lib/tally",
        "row_tally"
    ],
    bindings: &[
        read("targets", "i32"),
        read("predictions", "i32"),
        read("row_ranks", "u32"),
        read("losses", "f32"),
        read("weights", "f32"),
        count("cells"),
        write("partials", "u32"),
    ],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "SUBGROUP"],
};

pub(super) const BINARY: Kernel = Kernel {
    label: "xent.binary_tally",
    source: wgsl![
        "lib/grid",
        "lib/numerics",
        "lib/lanes",
        "lib/sum",
        "lib/sum_across",
        "lib/partials",
        "lib/tally",
        "binary_tally"
    ],
    bindings: &[
        read("targets", "f32"),
        read("predictions", "f32"),
        read("weights", "f32"),
        count("cells"),
        write("partials", "u32"),
    ],
    params: Params::FIELDS,
    constants: &["WORKGROUP", "SUBGROUP", "PROBABILITIES"],
};

params! {
    struct TotalParams {
        /// From 1.
        record: u32,
        kind: u32,
    }
}

pub(super) const TOTAL: Kernel = Kernel {
    label: "xent.running_total",
    source: wgsl!["lib/grid", "lib/sum", "running_total"],
    bindings: &[read("partial", "u32"), update("totals", "u32")],
    params: TotalParams::FIELDS,
    constants: &["WORKGROUP"],
};

/// Words of a cell.
const WORDS: usize = 4;

/// Counts on the GPU; `shaders/lib/tally.wgsl` says which.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) classes: usize,
    /// Whether there is a confusion matrix.
    pub(crate) matrix: bool,
    pub(crate) words: Tensor<u32>,
    /// The loss in two numbers; the record, from 1, of the first bad data, its position and its kind.
    pub(crate) totals: Tensor<u32>,
}

impl Cells {
    /// All 0. There are few enough classes to count the cells.
    pub(crate) fn new(gpu: &Gpu, classes: usize, matrix: bool) -> Result<Self> {
        let of_matrix = if matrix { classes * (classes + 2) } else { 0 };
        let words = Tensor::zeros(gpu, [classes + 3 + of_matrix, WORDS])?;
        Ok(Self { classes, matrix, words, totals: Tensor::zeros(gpu, [5])? })
    }

    /// Sets all to 0.
    pub(crate) fn clear(&self, op: &'static str, gpu: &Gpu) -> Result<()> {
        gpu.clear(op, self.words.storage())?;
        gpu.clear(op, self.totals.storage())
    }

    fn count(&self) -> u32 {
        size32(self.words.len() / WORDS)
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// Rows of logits.
    Rows {
        targets: &'a Tensor<i32>,
        ignore_index: i32,
        predicted: &'a Tensor<i32>,
        row_ranks: &'a Tensor<u32>,
        losses: &'a Tensor<f32>,
    },
    /// Logits or probabilities of the second of two classes.
    Binary { targets: &'a Tensor<f32>, outputs: &'a Tensor<f32>, probabilities: bool },
}

impl Rows<'_> {
    /// What the kernel reads, as far as it has one element for each row; the losses and the ranks may be absent.
    fn inputs(&self) -> [Option<Tensor<u32>>; 4] {
        match *self {
            Self::Rows { targets, predicted, row_ranks, losses, .. } => {
                [Some(targets.retyped()), Some(predicted.retyped()), Some(row_ranks.clone()), Some(losses.retyped())]
            }
            Self::Binary { targets, outputs, .. } => [Some(targets.retyped()), Some(outputs.retyped()), None, None],
        }
    }
}

/// Which record it is, from 1, and what the host calls data that is wrong in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) record: u32,
    pub(crate) kind: u32,
}

impl Recorder<'_> {
    /// Counts rows, with weights of their number or all alike, and adds their losses to the total.
    pub(crate) fn tally(
        &mut self,
        op: &'static str,
        cells: &Cells,
        rows: Rows<'_>,
        weights: Option<&Tensor<f32>>,
        recorded: Recorded,
    ) -> Result<()> {
        let inputs = rows.inputs();
        let all = inputs.iter().flatten().next().map_or(Ok(0), |targets| targets.count(op))?;
        let per_row: Vec<_> =
            inputs.iter().flatten().map(|t| t.per_row(1)).chain(weights.map(|weights| weights.per_row(1))).collect();
        let to_partials = partials(self, op, all, 1)?;
        let of_cells = [cells.words.per_row(WORDS as u64)];
        let by_cells = Cut { granule: 1, groups_per_granule: 0, ..Cut::by_blocks(op, cells.count(), &of_cells) };
        let caps = self.gpu().caps().clone();
        for range in Cut::by_blocks(op, all, &per_row).ranges(&caps)? {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let groups = len.div_ceil(BLOCK.into());
            let [targets, predictions, row_ranks, losses] =
                inputs.each_ref().map(|input| input.as_ref().map(|input| self.window(input, first, len)));
            let weights_window = match weights {
                Some(weights) => self.window(weights, first, len),
                None => self.whole(&self.gpu().one()),
            };
            let to = partials_of(self, &to_partials, range.start, groups, 1);
            for within in by_cells.ranges(&caps)? {
                let (first_cell, some) = (u64::from(within.start), u64::from(within.end - within.start));
                let window = self.window(&cells.words, first_cell * WORDS as u64, some * WORDS as u64);
                let params = Params {
                    count: range.end - range.start,
                    first: range.start,
                    block: BLOCK,
                    classes: size32(cells.classes),
                    matrix: u32::from(cells.matrix),
                    first_cell: within.start,
                    end_cell: within.end,
                    weights_stride: u32::from(weights.is_some()),
                    ignore_index: match rows {
                        Rows::Rows { ignore_index, .. } => ignore_index,
                        Rows::Binary { .. } => 0,
                    },
                };
                // Other cells of the same rows: their losses are summed once.
                let to = (within.start == 0).then_some(&to);
                let (inputs, rest) =
                    ([targets.as_ref(), predictions.as_ref()], [Some(&weights_window), Some(&window), to]);
                let [workgroup, subgroup] = caps.threads();
                let work = Work::by_blocks(&caps, groups);
                match rows {
                    Rows::Rows { .. } => {
                        let slots = [&inputs[..], &[row_ranks.as_ref(), losses.as_ref()], &rest].concat();
                        self.dispatch(&ROWS, Variant::new(&[workgroup, subgroup]), &params, &slots, work)?;
                    }
                    Rows::Binary { probabilities, .. } => {
                        let variant = Variant::new(&[workgroup, subgroup, u32::from(probabilities)]);
                        self.dispatch(&BINARY, variant, &params, &[&inputs[..], &rest].concat(), work)?;
                    }
                }
            }
        }
        let partial = self.sum_of_partials(op, to_partials, 1)?;
        if partial.is_empty() {
            return Ok(());
        }
        let (from, to) = (self.whole(&partial), self.whole(&cells.totals));
        let Recorded { record, kind } = recorded;
        let params = TotalParams { record, kind };
        let variant = Variant::new(&[caps.workgroup_size()]);
        self.dispatch(&TOTAL, variant, &params, &[Some(&from), Some(&to)], Work::new(1, 0))
    }
}
