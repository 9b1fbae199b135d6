//! Launches kernels that process elements in blocks.

use bytemuck::Pod;

use super::launch::Launch;
use super::recorder::Recorder;
use crate::engine::kernel::Kernel;
use crate::error::Result;
use crate::plan::{BLOCK, RowSplit, Work};
use crate::tensor::{Element, Real, Tensor};

/// A launch over elements, in blocks of one workgroup each. It is split into several dispatches if
/// a tensor exceeds a binding or spans several buffers, or if there are more blocks than the grid
/// has workgroups.
#[derive(Debug)]
#[must_use]
pub(crate) struct BlockLaunch {
    op: &'static str,
    launch: Launch,
    count: u32,
    block: u32,
    tensors: Vec<(&'static str, Tensor<Real>, Span)>,
    /// The index of the first element.
    first: u32,
    /// Dispatches even if there are no elements.
    always: bool,
}

/// The part of a tensor that a dispatch binds.
#[derive(Clone, Copy, Debug)]
enum Span {
    /// This many values for each element of the dispatch.
    PerElement(u32),
    /// This many values for each block of the dispatch.
    PerBlock(u32),
    Whole,
}

impl BlockLaunch {
    pub(crate) fn new(op: &'static str, kernel: &'static Kernel, count: u32) -> Self {
        let launch = Launch::new(op, kernel).by_quad(kernel.bindings.iter().any(|binding| binding.quads));
        Self { op, launch, count, block: BLOCK, tensors: Vec::new(), first: 0, always: false }
    }

    /// Sets the number of elements in a block.
    pub(crate) fn block_size(self, block: u32) -> Self {
        Self { block, ..self }
    }

    /// Sets the index of the first element.
    pub(crate) fn first(self, first: u32) -> Self {
        Self { first, ..self }
    }

    /// Dispatches even if there are no elements.
    pub(crate) fn at_least_once(self) -> Self {
        Self { always: true, ..self }
    }

    pub(crate) fn constant(self, name: &'static str, value: impl Into<u32>) -> Self {
        Self { launch: self.launch.constant(name, value), ..self }
    }

    /// See [`Launch::by_scalar`].
    pub(crate) fn by_scalar(self, name: &'static str) -> Self {
        Self { launch: self.launch.by_scalar(name), ..self }
    }

    /// See [`Launch::in_place`].
    pub(crate) fn in_place(self, in_place: bool) -> Self {
        Self { launch: self.launch.in_place(in_place), ..self }
    }

    fn with<'t, T: Element>(
        mut self,
        name: &'static str,
        tensor: impl Into<Option<&'t Tensor<T>>>,
        span: Span,
    ) -> Self {
        match tensor.into() {
            Some(tensor) => self.tensors.push((name, tensor.retyped(), span)),
            None => self.launch = self.launch.bind(name, None),
        }
        self
    }

    /// Leaves a binding absent.
    pub(crate) fn bind_nothing(self, name: &'static str) -> Self {
        Self { launch: self.launch.bind(name, None), ..self }
    }

    /// Binds a tensor with one value per element.
    pub(crate) fn per_element<'t, T: Element>(
        self,
        name: &'static str,
        tensor: impl Into<Option<&'t Tensor<T>>>,
    ) -> Self {
        self.with(name, tensor, Span::PerElement(1))
    }

    /// Binds a tensor with `each` values per element.
    pub(crate) fn per_element_n<T: Element>(self, name: &'static str, tensor: &Tensor<T>, each: u32) -> Self {
        self.with(name, tensor, Span::PerElement(each))
    }

    /// Binds a tensor with `each` values per block.
    pub(crate) fn per_block<T: Element>(self, name: &'static str, tensor: &Tensor<T>, each: u32) -> Self {
        self.with(name, tensor, Span::PerBlock(each))
    }

    /// Binds a whole tensor to every dispatch.
    pub(crate) fn whole<'t, T: Element>(self, name: &'static str, tensor: impl Into<Option<&'t Tensor<T>>>) -> Self {
        self.with(name, tensor, Span::Whole)
    }

    /// Records the dispatches. A shader reads the number of elements of its dispatch from
    /// `params.count`, the index of the first from `params.first`, and the size of a block from
    /// `params.block`.
    pub(crate) fn run<P: Pod>(&self, rec: &mut Recorder<'_>, params: &P) -> Result<()> {
        self.run_with(rec, |_| *params)
    }

    /// Like [`run`](Self::run), with parameters that depend on the index of the first element.
    pub(crate) fn run_with<P: Pod>(&self, rec: &mut Recorder<'_>, params: impl Fn(u32) -> P) -> Result<()> {
        let Self { op, ref launch, count, block, ref tensors, always, .. } = *self;
        let per_row = tensors.iter().filter_map(|(_, tensor, span)| match *span {
            Span::PerElement(each) => Some(tensor.per_row(each.into())),
            Span::PerBlock(_) | Span::Whole => None,
        });
        let per_row = per_row.collect::<Vec<_>>();
        let split = RowSplit { granule: block, ..RowSplit::by_blocks(op, count, &per_row) };
        let mut ranges = split.ranges(rec.gpu().caps())?;
        if ranges.is_empty() && always {
            ranges.push(0..0);
        }
        for range in ranges {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let groups = len.div_ceil(block.into());
            let first_of_all = self.first + range.start;
            let common = [("count", range.end - range.start), ("first", first_of_all), ("block", block)];
            let mut launch =
                common.into_iter().fold(launch.clone(), |launch, (name, value)| launch.common(name, value));
            for (name, tensor, span) in tensors {
                let window = |start: u64, each: u32, len: u64| {
                    (len > 0).then(|| rec.window(tensor, start * u64::from(each), len * u64::from(each)))
                };
                let window = match *span {
                    Span::PerElement(each) => window(first, each, len),
                    Span::PerBlock(each) => window(first / u64::from(block), each, groups),
                    Span::Whole => (!tensor.is_empty()).then(|| rec.whole(tensor)),
                };
                launch = launch.bind(name, window);
            }
            let work = Work::by_blocks(rec.gpu().caps(), groups.max(1), block);
            rec.launch(launch, &params(first_of_all), work)?;
        }
        Ok(())
    }
}
