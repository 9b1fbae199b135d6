//! Sums of columns: the gradient of a bias.

use std::ops::Range;

use crate::engine::WORD_BYTES;
use crate::engine::kernel::{Kernel, kernel, params, read4, update4};
use crate::error::Result;
use crate::plan::{COLUMN_BLOCK, RowSplit, Work};
use crate::record::{Launch, Recorder};
use crate::tensor::{Tensor, expect_shape, size32};

use crate::ops::{no_alias, shape_error};

params! {
    struct Params {
        /// The rows of this dispatch are first .. first + rows, counted from the first row of its
        /// first block; they may start or end within a block. Without rows, the sums of that block
        /// are 0.
        first: u32,
        rows: u32,
        columns: u32,
        /// The columns of this dispatch.
        first_column: u32,
        end_column: u32,
        /// The number of rows in a block, and the end of all rows, counted like `first`.
        block: u32,
        last: u32,
    }
}

pub(crate) static KERNEL: Kernel =
    kernel!("column_sum", Params::FIELDS, &[read4("input"), update4("sums"), update4("lows")]);

/// The number of rows in a run. Rounding errors within a run are not kept.
const RUN: u32 = 8;

/// Sums of columns.
impl Recorder<'_> {
    /// Sums each column of `[rows, columns]` into `[columns]`: the gradient of a bias that is added
    /// to every row.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless the input has two dimensions;
    /// [`Error::ForeignTensor`](crate::Error::ForeignTensor).
    ///
    /// # Cost
    /// One read. Columns are summed in a fixed order: in runs of 8 rows, runs into blocks of 64
    /// rows with the rounding errors kept until the block is summed, and the sums of blocks
    /// likewise.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let x = Tensor::from_slice(&gpu, [2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0f32])?;
    /// let mut batch = gpu.batch();
    /// let y = batch.column_sum(&x)?;
    /// let mut y = batch.read(&y)?;
    /// batch.submit()?;
    /// assert_eq!(y.wait(Duration::from_secs(10))?, [11.0, 22.0, 33.0]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn column_sum(&mut self, input: &Tensor<f32>) -> Result<Tensor<f32>> {
        let columns = input.shape().get(1).copied().unwrap_or(0);
        let out = self.output("column_sum", [columns])?;
        self.column_sum_into(input, &out)?;
        Ok(out)
    }

    /// [`column_sum`](Self::column_sum) into an existing tensor, such as a gradient of
    /// [`Parameters`](crate::optim::Parameters).
    ///
    /// # Errors
    /// As [`column_sum`](Self::column_sum), and [`Error::Aliasing`](crate::Error::Aliasing) if
    /// `out` shares its buffer with the input.
    pub fn column_sum_into(&mut self, input: &Tensor<f32>, out: &Tensor<f32>) -> Result<()> {
        let op = "column_sum";
        self.check_device(op, "input", input)?;
        self.check_device(op, "out", out)?;
        let [rows, columns] = input.shape()[..] else {
            return Err(shape_error(op, "input", "2 dimensions", input.shape()));
        };
        expect_shape(op, "out", out.shape(), &[columns].into())?;
        no_alias(op, ("out", out), ("input", input))?;
        if out.is_empty() {
            return Ok(());
        }
        let usable = self.gpu().caps().usable_binding();
        let run = rows.min(RUN as usize).max(1) as u64;
        if (columns as u64).saturating_mul(run * WORD_BYTES) > usable {
            return self.column_sum_by_strips(input, [rows, columns], out, usable);
        }
        let mut rows = size32(rows);
        let mut input = input.clone();
        while rows > COLUMN_BLOCK {
            let blocks = rows.div_ceil(COLUMN_BLOCK);
            let sums = self.output(op, [blocks as usize, columns])?;
            self.column_sum_level(&input, (0..rows, rows), COLUMN_BLOCK, (&sums, None))?;
            (input, rows) = (sums, blocks);
        }
        self.column_sum_level(&input, (0..rows, rows), COLUMN_BLOCK, (out, None))
    }

    /// Sums columns if a run of whole rows exceeds a binding: gathers some columns at a time first.
    fn column_sum_by_strips(
        &mut self,
        input: &Tensor<f32>,
        [rows, columns]: [usize; 2],
        out: &Tensor<f32>,
        usable: u64,
    ) -> Result<()> {
        const LEAST: u64 = 64;
        let at_once = (usable / WORD_BYTES / (rows as u64).max(1)).max(LEAST) / LEAST * LEAST;
        let at_once = usize::try_from(at_once).unwrap_or(usize::MAX);
        self.hold(input);
        for start in (0..columns).step_by(at_once) {
            let width = at_once.min(columns - start);
            let strip: Tensor<f32> = self.output("column_sum", [rows, width])?;
            for row in 0..rows {
                let (from, to) = ((row * columns + start) as u64, (row * width) as u64);
                let bytes = width as u64 * WORD_BYTES;
                self.copy_between((input, from * WORD_BYTES), (&strip, to * WORD_BYTES), bytes)?;
            }
            self.column_sum_into(&strip, &out.rows(start..start + width)?)?;
        }
        Ok(())
    }

    /// Sums columns in the order of the rows. The input holds the rows `rows` out of `all`. The
    /// sums of earlier rows are in `out`, and their rounding errors in `lows`.
    pub(crate) fn column_sum_resumed(
        &mut self,
        input: &Tensor<f32>,
        (rows, all): (Range<u32>, u32),
        (out, lows): (&Tensor<f32>, &Tensor<f32>),
    ) -> Result<()> {
        if out.is_empty() { Ok(()) } else { self.column_sum_level(input, (rows, all), u32::MAX, (out, Some(lows))) }
    }

    /// Sums blocks of rows. The input holds the rows `rows` out of `all`, starting in the first
    /// block. Without rows the sums are 0.
    fn column_sum_level(
        &mut self,
        input: &Tensor<f32>,
        (rows, all): (Range<u32>, u32),
        block: u32,
        (sums, lows): (&Tensor<f32>, Option<&Tensor<f32>>),
    ) -> Result<()> {
        let [_, columns] = input.shape()[..] else {
            return Err(shape_error("column_sum", "input", "2 dimensions", input.shape()));
        };
        let columns = size32(columns);
        // Small workgroups, because a matrix of a few thousand rows has few threads.
        let workgroup = self.gpu().caps().workgroup_size().min(64);
        let long = block == u32::MAX;
        let run = if long { 1 } else { RUN };
        let mut lows = lows.cloned();
        // First as many columns as a grid has workgroups for, then as many of their rows as
        // possible.
        let columns_per_thread = if columns.is_multiple_of(4) { 4 } else { 1 };
        let columns_per_group = columns_per_thread * workgroup;
        let by_columns = RowSplit::new("column_sum", columns, &[], columns_per_group);
        for columns_range in by_columns.ranges(self.gpu().caps())? {
            let per_block = u64::from((columns_range.end - columns_range.start).div_ceil(columns_per_group));
            let (len, per_row) = (rows.end - rows.start, [input.per_row(columns.into())]);
            let split = RowSplit {
                groups_per_granule: per_block,
                // Each block has its own threads, unless there is only one long block.
                turns_per_granule: u64::from(long),
                ..RowSplit::new("column_sum", len, &per_row, run.min(len).max(1))
            };
            let mut ranges = split.ranges(self.gpu().caps())?;
            if ranges.is_empty() {
                ranges.push(0..0);
            }
            if ranges.len() > 1 && lows.is_none() {
                lows = Some(self.output("column_sum", sums.shape().clone())?);
            }
            for range in ranges {
                let len = u64::from(range.end - range.start) * u64::from(columns);
                let first_block = (rows.start + range.start) / block;
                let blocks = ((rows.start + range.end).div_ceil(block) - first_block).max(1);
                let from = (len > 0).then(|| self.window(input, u64::from(range.start) * u64::from(columns), len));
                let sums_first = u64::from(first_block) * u64::from(columns);
                let sums_len = u64::from(blocks) * u64::from(columns);
                let to = self.window(sums, sums_first, sums_len);
                let low = lows.as_ref().map(|lows| self.window(lows, sums_first, sums_len));
                let params = Params {
                    first: (rows.start + range.start) % block,
                    rows: range.end - range.start,
                    columns,
                    first_column: columns_range.start,
                    end_column: columns_range.end,
                    block,
                    last: all - first_block * block,
                };
                let groups = u64::from(blocks) * per_block;
                // Whole runs, and the rows of an incomplete run.
                let turns = block.min(range.end - range.start).div_ceil(run) + if long { 0 } else { run };
                let work = Work::new(groups, turns.into());
                let launch = Launch::new("column_sum", &KERNEL)
                    .by_quad(columns_per_thread == 4)
                    .constant("COLUMNS", columns_per_thread)
                    .constant("WORKGROUP", workgroup)
                    .constant("RUN", run)
                    .constant("LONG", long)
                    .bind("input", from)
                    .bind("sums", to)
                    .bind("lows", low);
                self.launch(launch, &params, work)?;
            }
        }
        Ok(())
    }
}
