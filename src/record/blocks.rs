//! Kernels that go through elements by blocks, a workgroup each.

use bytemuck::Pod;

use super::launch::Launch;
use super::recorder::Recorder;
use crate::engine::kernel::Kernel;
use crate::error::Result;
use crate::plan::{BLOCK, Cut, Work};
use crate::tensor::{Element, Real, Tensor};

/// Elements that a kernel goes through by blocks, a workgroup each: as many dispatches as the tensors' bindings and memory take.
#[derive(Debug)]
#[must_use]
pub(crate) struct Blocks {
    op: &'static str,
    launch: Launch,
    count: u32,
    block: u32,
    tensors: Vec<(&'static str, Tensor<Real>, Span)>,
    /// Elements before these, for `params.first`.
    before: u32,
    /// There is a dispatch even if there are no elements.
    always: bool,
}

/// What of a tensor belongs to some of the elements.
#[derive(Clone, Copy, Debug)]
enum Span {
    /// So many of its elements for each.
    PerElement(u32),
    /// So many for each block.
    PerBlock(u32),
    Whole,
}

impl Blocks {
    pub(crate) fn new(op: &'static str, kernel: &'static Kernel, count: u32) -> Self {
        let launch = Launch::new(kernel).by_quad(kernel.bindings.iter().any(|binding| binding.quads));
        Self { op, launch, count, block: BLOCK, tensors: Vec::new(), before: 0, always: false }
    }

    /// Blocks of so many elements.
    pub(crate) fn of(self, block: u32) -> Self {
        Self { block, ..self }
    }

    /// The elements after so many others.
    pub(crate) fn after(self, before: u32) -> Self {
        Self { before, ..self }
    }

    /// A dispatch even if there are no elements.
    pub(crate) fn at_least_once(self) -> Self {
        Self { always: true, ..self }
    }

    pub(crate) fn constant(self, name: &'static str, value: impl Into<u32>) -> Self {
        Self { launch: self.launch.constant(name, value), ..self }
    }

    /// As [`Launch::by_scalar`].
    pub(crate) fn by_scalar(self, name: &'static str) -> Self {
        Self { launch: self.launch.by_scalar(name), ..self }
    }

    /// As [`Launch::in_place`].
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

    /// A binding that the kernel does without.
    pub(crate) fn bind_nothing(self, name: &'static str) -> Self {
        Self { launch: self.launch.bind(name, None), ..self }
    }

    /// A tensor with an element for each of those that are counted.
    pub(crate) fn each<'t, T: Element>(self, name: &'static str, tensor: impl Into<Option<&'t Tensor<T>>>) -> Self {
        self.with(name, tensor, Span::PerElement(1))
    }

    /// A tensor with so many elements for each.
    pub(crate) fn several<T: Element>(self, name: &'static str, tensor: &Tensor<T>, each: u32) -> Self {
        self.with(name, tensor, Span::PerElement(each))
    }

    /// A tensor with so many elements for each block.
    pub(crate) fn per_block<T: Element>(self, name: &'static str, tensor: &Tensor<T>, each: u32) -> Self {
        self.with(name, tensor, Span::PerBlock(each))
    }

    /// A tensor that every dispatch sees as a whole.
    pub(crate) fn whole<'t, T: Element>(self, name: &'static str, tensor: impl Into<Option<&'t Tensor<T>>>) -> Self {
        self.with(name, tensor, Span::Whole)
    }

    /// Records the dispatches. Shaders find in `params.count` the elements of a dispatch, in `params.first` those before it, and in
    /// `params.block` those of a block.
    pub(crate) fn run<P: Pod>(&self, rec: &mut Recorder<'_>, params: &P) -> Result<()> {
        self.run_with(rec, |_| *params)
    }

    /// [`run`](Self::run) with parameters that depend on `params.first`.
    pub(crate) fn run_with<P: Pod>(&self, rec: &mut Recorder<'_>, params: impl Fn(u32) -> P) -> Result<()> {
        let Self { op, ref launch, count, block, ref tensors, always, .. } = *self;
        let per_row = tensors.iter().filter_map(|(_, tensor, span)| match *span {
            Span::PerElement(each) => Some(tensor.per_row(each.into())),
            Span::PerBlock(_) | Span::Whole => None,
        });
        let per_row = per_row.collect::<Vec<_>>();
        let cut = Cut { granule: block, ..Cut::by_blocks(op, count, &per_row) };
        let mut ranges = cut.ranges(rec.gpu().caps())?;
        if ranges.is_empty() && always {
            ranges.push(0..0);
        }
        for range in ranges {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let groups = len.div_ceil(block.into());
            let first_of_all = self.before + range.start;
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
            let work = Work::by_blocks(rec.gpu().caps(), groups.max(1));
            rec.launch(&launch, &params(first_of_all), work)?;
        }
        Ok(())
    }
}
