//! Counts of rows by a classifier's outcome, and the total of their losses, accumulated over
//! records.

use crate::engine::Gpu;
use crate::engine::kernel::{Kernel, count, kernel, params, read, update, write};
use crate::error::Result;
use crate::plan::{BLOCK, RowSplit, Work};
use crate::record::{BlockLaunch, Launch, Recorder};
use crate::tensor::{Tensor, size32};

use crate::ops::reduce::blocks::{partials, words};

params! {
    struct Params {
        classes: u32,
        /// 1: there is a confusion matrix.
        matrix: u32,
        /// The cells that this dispatch adds to.
        first_cell: u32,
        end_cell: u32,
        /// 0: one weight for all rows; 1: one per row.
        weights_stride: u32,
        ignored: i32,
    }
}

pub(crate) static ROWS: Kernel = kernel!(
    "row_tally",
    Params::FIELDS,
    &[
        read("targets", "i32"),
        read("predictions", "i32"),
        read("row_ranks", "u32"),
        read("losses", "f32"),
        read("weights", "f32"),
        count("cells"),
        write("partials", "u32"),
    ]
);

pub(crate) static BINARY: Kernel = kernel!(
    "binary_tally",
    Params::FIELDS,
    &[
        read("targets", "f32"),
        read("predictions", "f32"),
        read("weights", "f32"),
        count("cells"),
        write("partials", "u32"),
    ]
);

params! {
    struct TotalParams {
        /// The number of the record, from 1.
        record: u32,
        kind: u32,
    }
}

pub(crate) static TOTAL: Kernel =
    kernel!("running_total", TotalParams::FIELDS, &[read("partial", "u32"), update("totals", "u32")]);

/// The number of words of a cell.
const WORDS: usize = 4;

/// Counts on the GPU, described in `shaders/lib/tally.wgsl`.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) classes: usize,
    /// Whether there is a confusion matrix.
    pub(crate) matrix: bool,
    pub(crate) words: Tensor<u32>,
    /// The total loss as a compensated sum; the record (from 1), position and kind of the first bad
    /// data.
    pub(crate) totals: Tensor<u32>,
}

impl Cells {
    /// Creates cells that are all 0. The caller bounds `classes` so that the number of cells fits
    /// `u32`.
    pub(crate) fn new(gpu: &Gpu, classes: usize, matrix: bool) -> Result<Self> {
        let of_matrix = if matrix { classes * (classes + 2) } else { 0 };
        let words = Tensor::zeros(gpu, [classes + 3 + of_matrix, WORDS])?;
        Ok(Self { classes, matrix, words, totals: Tensor::zeros(gpu, [5])? })
    }

    /// Sets all cells and totals to 0.
    pub(crate) fn clear(&self, op: &'static str, gpu: &Gpu) -> Result<()> {
        gpu.clear(op, self.words.storage())?;
        gpu.clear(op, self.totals.storage())
    }

    fn count(&self) -> u32 {
        size32(self.words.len() / WORDS)
    }
}

/// The rows to count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// Rows of logits.
    Rows {
        targets: &'a Tensor<i32>,
        ignored: i32,
        predicted: &'a Tensor<i32>,
        row_ranks: &'a Tensor<u32>,
        losses: &'a Tensor<f32>,
    },
    /// Logits or probabilities of the second of two classes.
    Binary { targets: &'a Tensor<f32>, outputs: &'a Tensor<f32>, probabilities: bool },
}

impl Rows<'_> {
    fn count(&self, op: &'static str) -> Result<u32> {
        match self {
            Self::Rows { targets, .. } => targets.count(op),
            Self::Binary { targets, .. } => targets.count(op),
        }
    }

    fn ignored(&self) -> i32 {
        match *self {
            Self::Rows { ignored, .. } => ignored,
            Self::Binary { .. } => 0,
        }
    }
}

/// The number of a record, from 1, and the kind by which the host names bad data in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) record: u32,
    pub(crate) kind: u32,
}

impl Recorder<'_> {
    /// Counts rows, with one weight per row or all weights 1, and adds their losses to the total.
    pub(crate) fn tally(
        &mut self,
        op: &'static str,
        cells: &Cells,
        rows: Rows<'_>,
        weights: Option<&Tensor<f32>>,
        recorded: Recorded,
    ) -> Result<()> {
        let all = rows.count(op)?;
        let to_partials = partials(self, op, (all, BLOCK), 1)?;
        let of_cells = [cells.words.per_row(WORDS as u64)];
        let by_cells =
            RowSplit { granule: 1, groups_per_granule: 0, ..RowSplit::by_blocks(op, cells.count(), &of_cells) };
        let one = self.gpu().one();
        for within in by_cells.ranges(self.gpu().caps())? {
            let [first, len] = [within.start, within.end - within.start].map(|cells| cells as usize);
            let some = cells.words.rows(first..first + len)?;
            let blocks = match rows {
                Rows::Rows { targets, predicted, row_ranks, losses, .. } => BlockLaunch::new(op, &ROWS, all)
                    .per_element("targets", targets)
                    .per_element("predictions", predicted)
                    .per_element("row_ranks", row_ranks)
                    .per_element("losses", losses),
                Rows::Binary { targets, outputs, probabilities } => BlockLaunch::new(op, &BINARY, all)
                    .constant("PROBABILITIES", probabilities)
                    .per_element("targets", targets)
                    .per_element("predictions", outputs),
            };
            let blocks = match weights {
                Some(weights) => blocks.per_element("weights", weights),
                None => blocks.whole("weights", &one),
            };
            // Further ranges of cells count the same rows, whose losses are summed only once.
            let blocks = match within.start {
                0 => blocks.per_block("partials", &to_partials, words(1)),
                _ => blocks.bind_nothing("partials"),
            };
            let params = Params {
                classes: size32(cells.classes),
                matrix: u32::from(cells.matrix),
                first_cell: within.start,
                end_cell: within.end,
                weights_stride: u32::from(weights.is_some()),
                ignored: rows.ignored(),
            };
            blocks.whole("cells", &some).run(self, &params)?;
        }
        let partial = self.sum_of_partials(op, to_partials, 1)?;
        if partial.is_empty() {
            return Ok(());
        }
        let Recorded { record, kind } = recorded;
        let launch =
            Launch::new(op, &TOTAL).bind("partial", self.whole(&partial)).bind("totals", self.whole(&cells.totals));
        self.launch(launch, &TotalParams { record, kind }, Work::new(1, 0))
    }
}
