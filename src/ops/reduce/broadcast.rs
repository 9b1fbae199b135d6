//! Broadcasting by NumPy's rules: of weights over a tensor, of two tensors to one shape, and the
//! sums for its gradient.

use std::ops::Range;

use crate::engine::WORD_BYTES;
use crate::engine::kernel::{Kernel, kernel, params, read, read4, update, write};
use crate::error::{Result, within};
use crate::plan::{BLOCK, RowPlan, RowSplit, Work};
use crate::record::{Launch, Recorder};
use crate::tensor::{Shape, Tensor, Weights, size32};

use crate::ops::{Classes, shape_error};
use crate::plan::strips::Strip;

params! {
    struct Params {
        /// The first output row of the dispatch, counted from the first copy of its first input
        /// row.
        first: u32,
        size: u32,
    }
}

pub(crate) static EXPAND: Kernel = kernel!("expand", Params::FIELDS, &[read("input", "f32"), write("output", "f32")]);

pub(crate) static SUM: Kernel =
    kernel!("sum_rows", &[], &[read4("input"), write("output", "f32"), update("lanes", "f32")]);

/// The number of words of a lane's state between dispatches.
const LANE_WORDS: usize = 2;

/// The shape that two shapes broadcast to, if any.
pub(crate) fn broadcast_shape(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let common = |dims: (usize, usize)| match dims {
        (1, size) | (size, 1) => Some(size),
        (x, y) => (x == y).then_some(x),
    };
    padded(a, rank).into_iter().zip(padded(b, rank)).map(common).collect::<Option<Vec<_>>>().map(Shape::from)
}

/// The dimensions of a shape, padded in front with 1 to `rank` dimensions.
fn padded(shape: &Shape, rank: usize) -> Vec<usize> {
    std::iter::repeat_n(1, rank.saturating_sub(shape.len())).chain(shape.iter().copied()).collect()
}

/// Weights in the form that kernels index: element `i` of the whole tensor has weight
/// `(i / inner) % size`.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) tensor: Tensor<f32>,
    pub(crate) inner: u32,
    pub(crate) size: u32,
    /// Whether each element has its own weight; a dispatch then binds only the weights of its
    /// elements.
    pub(crate) each: bool,
}

/// How to bring weights into the form of [`Broadcast`]: the dimensions to repeat, and how often.
#[derive(Debug)]
pub(crate) struct BroadcastPlan {
    op: &'static str,
    tensor: Tensor<f32>,
    dims: Vec<usize>,
    repeat: Vec<(usize, usize)>,
    inner: u32,
    size: u32,
    each: bool,
}

impl Recorder<'_> {
    /// Checks that weights broadcast to `shape`, and plans how. Records nothing.
    pub(crate) fn plan_broadcast(
        &self,
        op: &'static str,
        what: &'static str,
        weights: &Weights,
        shape: &Shape,
    ) -> Result<BroadcastPlan> {
        let own = weights.shape();
        let dims = padded(own, shape.len());
        if dims.len() != shape.len() || dims.iter().zip(&shape[..]).any(|(&dim, &full)| dim != 1 && dim != full) {
            return Err(shape_error(op, what, format!("a shape that broadcasts to {shape}"), own));
        }
        let tensor = weights.on(self.gpu())?;
        self.check_device(op, what, &tensor)?;
        let mut plan = BroadcastPlan { op, tensor, dims, repeat: Vec::new(), inner: 1, size: 1, each: false };
        if shape.contains(&0) {
            plan.tensor = self.gpu().one();
            return Ok(plan);
        }
        let first = plan.dims.iter().position(|&dim| dim > 1);
        let last = plan.dims.iter().rposition(|&dim| dim > 1);
        let (Some(first), Some(last)) = (first, last) else { return Ok(plan) };
        let repeated = |dims: Range<usize>| {
            let pairs = plan.dims.iter().zip(shape.iter()).enumerate().take(dims.end).skip(dims.start);
            pairs.filter(|(_, (dim, full))| dim != full).map(|(d, (_, &full))| (d, full)).collect()
        };
        let product = |dims: Range<usize>| size32(shape.iter().take(dims.end).skip(dims.start).product());
        // The dimensions along which weights differ must be neighbours: repeat the dimensions in
        // between.
        let (between, all) = (repeated(first..last), repeated(0..shape.len()));
        plan.repeat = between;
        (plan.size, plan.inner) = (product(first..last + 1), product(last + 1..shape.len()));
        plan.each = plan.size == product(0..shape.len());
        let (needed, caps) = (u64::from(plan.size) * 4, self.gpu().caps());
        let allowed = caps.usable_binding();
        // Weights without a value per element are bound whole; if they exceed a binding, expand
        // them to one per element.
        if !plan.each && needed > allowed {
            plan.repeat = all;
            (plan.size, plan.inner, plan.each) = (product(0..shape.len()), 1, true);
        }
        Ok(plan)
    }

    /// Brings weights into the form that kernels index.
    pub(crate) fn broadcast(&mut self, plan: BroadcastPlan) -> Result<Broadcast> {
        let BroadcastPlan { op, mut tensor, mut dims, repeat, inner, size, each } = plan;
        for (d, size) in repeat {
            tensor = self.expand(op, &tensor, &mut dims, d, size)?;
        }
        Ok(Broadcast { tensor, inner, size, each })
    }

    /// Repeats a tensor to `shape`, to which its own shape broadcasts.
    pub(crate) fn broadcast_to(
        &mut self,
        op: &'static str,
        tensor: &Tensor<f32>,
        shape: &Shape,
    ) -> Result<Tensor<f32>> {
        if shape.contains(&0) {
            return self.output(op, shape.clone());
        }
        let mut dims = padded(tensor.shape(), shape.len());
        let mut tensor = tensor.clone();
        for (d, &size) in shape.iter().enumerate() {
            if dims.get(d) != Some(&size) {
                tensor = self.expand(op, &tensor, &mut dims, d, size)?;
            }
        }
        tensor.reshape(shape.clone())
    }

    /// Sums a tensor over the dimensions along which `shape` was broadcast to the tensor's shape.
    pub(crate) fn sum_to(&mut self, op: &'static str, tensor: Tensor<f32>, shape: &Shape) -> Result<Tensor<f32>> {
        let dims = padded(shape, tensor.shape().len());
        let mut tensor = tensor;
        for (d, &dim) in dims.iter().enumerate() {
            if tensor.shape().get(d) != Some(&dim) {
                tensor = self.sum_dimension(op, &tensor, d)?;
            }
        }
        tensor.reshape(shape.clone())
    }

    /// Sums over dimension `d`, which stays with size 1.
    fn sum_dimension(&mut self, op: &'static str, input: &Tensor<f32>, d: usize) -> Result<Tensor<f32>> {
        let dims = Classes::along(op, "input", input.shape(), d)?;
        let mut shape = input.shape().to_vec();
        if let Some(dim) = shape.get_mut(d) {
            *dim = 1;
        }
        if dims.outer == 1 {
            let columns = [dims.classes as usize, dims.inner as usize];
            return self.column_sum(&input.reshape(columns)?)?.reshape(shape);
        }
        let output: Tensor<f32> = self.output(op, shape)?;
        self.sum_rows_into(op, input, dims, &output)?;
        Ok(output)
    }

    /// Sums each row of `input` into an element of `output`.
    pub(crate) fn sum_rows_into(
        &mut self,
        op: &'static str,
        input: &Tensor<f32>,
        dims: Classes,
        output: &Tensor<f32>,
    ) -> Result<()> {
        let plan = RowPlan::streamed(self.gpu().caps(), dims.classes, dims.inner);
        let strips = Strip::all(op, self.gpu().caps(), dims, &[input.placed()], 4, 1)?;
        for strip in strips.into_iter().filter(|_| !output.is_empty()) {
            let Classes { classes, inner, .. } = strip.dims();
            let rows = strip.dims().rows();
            let x = self.strip_of(op, input, &strip)?;
            // Rows without classes have no input; their sums are 0.
            let from = (!x.is_empty()).then(|| self.whole(&x));
            let to = self.window(output, strip.first_row(), rows.into());
            let dispatches = plan.dispatches(op, self.gpu().caps(), (rows, classes), plan.sweep(1))?;
            let lanes = self.lanes(op, plan, rows as usize, LANE_WORDS, dispatches.len() > 1)?;
            for (blocks, work) in dispatches {
                let launch = Launch::new(op, &SUM)
                    .rows(&plan, [rows, classes, inner], &blocks)
                    .bind("input", from.clone())
                    .bind("output", to.clone())
                    .bind("lanes", lanes.clone());
                self.launch(launch, &(), work)?;
            }
        }
        Ok(())
    }

    /// Repeats dimension `d`, of size 1, of a tensor of shape `dims` `size` times, and updates
    /// `dims`.
    fn expand(
        &mut self,
        op: &'static str,
        input: &Tensor<f32>,
        dims: &mut [usize],
        d: usize,
        size: usize,
    ) -> Result<Tensor<f32>> {
        let Some((before, [dim, after @ ..])) = dims.split_at_mut_checked(d) else {
            return Err(shape_error(op, "a factor", format!("a dimension {d}"), input.shape()));
        };
        *dim = size;
        let inner = size32(after.iter().product());
        let (size, needed) = (size32(size), (input.len() as u64).saturating_mul(size as u64));
        within(op, "the number of elements", needed, u32::MAX)?;
        let output = self.output(op, [input.len() * size as usize])?;
        // A row spans the dimensions after `d`; the output has `size` copies of each input row.
        let rows = size32(before.iter().product()).saturating_mul(size);
        let row_groups = u64::from(inner.div_ceil(BLOCK));
        let bytes = u64::from(inner) * WORD_BYTES;
        if bytes > self.gpu().caps().usable_binding() {
            for row in 0..rows {
                self.copy_between((input, u64::from(row / size) * bytes), (&output, u64::from(row) * bytes), bytes)?;
            }
            self.hold(input);
            return Ok(output);
        }
        let per_row = [output.per_row(inner.into())];
        let split = RowSplit { groups_per_granule: row_groups, ..RowSplit::new(op, rows, &per_row, 1) };
        for range in split.ranges(self.gpu().caps())? {
            let row = u64::from(inner);
            let (first, last) = (range.start / size, (range.end - 1) / size);
            let from = self.window(input, u64::from(first) * row, u64::from(last - first + 1) * row);
            let len = u64::from(range.end - range.start) * row;
            let to = self.window(&output, u64::from(range.start) * row, len);
            let launch = Launch::new(op, &EXPAND)
                .common("count", (range.end - range.start) * inner)
                .common("block", BLOCK)
                .common("inner", inner)
                .bind("input", from)
                .bind("output", to);
            let work = Work::by_blocks(self.gpu().caps(), len.div_ceil(BLOCK.into()), BLOCK);
            self.launch(launch, &Params { first: range.start % size, size }, work)?;
        }
        Ok(output)
    }
}
