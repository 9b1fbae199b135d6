//! Weights that are broadcast over a tensor by NumPy's rules.

use crate::error::{Error, Result};
use crate::kernel::{Kernel, Variant, params, read, wgsl, write};
use crate::plan::{BLOCK, Cut};
use crate::recorder::{Recorder, Window};
use crate::tensor::{Shape, Tensor};
use crate::weights::Weights;

use super::shape_error;

params! {
    struct Params { count: u32, block: u32, size: u32, inner: u32, input_base: u32, output_base: u32 }
}

pub(super) const EXPAND: Kernel = Kernel {
    label: "xent.expand",
    source: wgsl!["lib/grid", "expand"],
    bindings: &[read("input", "f32"), write("output", "f32")],
    params: Params::FIELDS,
    constants: &["WORKGROUP"],
};

/// Weights in a form that kernels index: element `i` of the whole tensor has weight `(i / inner) % size`.
#[derive(Debug)]
pub(super) struct Broadcast {
    tensor: Tensor<f32>,
    pub(super) inner: u32,
    pub(super) size: u32,
    /// One weight for each element: its binding moves with the elements'.
    each: bool,
}

impl Broadcast {
    /// The binding for elements `first .. first + len`, and where in the weights' own count they begin.
    pub(super) fn window(&self, rec: &Recorder<'_>, first: u64, len: u64) -> (Window, u32) {
        match self.each {
            true => (rec.window(&self.tensor, first, len), 0),
            // Tensors have less than 2^32 elements.
            false => (rec.whole(&self.tensor), u32::try_from(first).unwrap_or(u32::MAX)),
        }
    }
}

impl Recorder<'_> {
    /// Checks that weights can be broadcast to `shape` and brings them into a form that kernels index.
    pub(super) fn broadcast(
        &mut self,
        op: &'static str,
        what: &'static str,
        weights: &Weights,
        shape: &Shape,
    ) -> Result<Broadcast> {
        let own = weights.shape();
        let missing = shape.len().saturating_sub(own.len());
        let mut dims: Vec<usize> = std::iter::repeat_n(1, missing).chain(own.iter().copied()).collect();
        if dims.len() != shape.len() || dims.iter().zip(&shape[..]).any(|(&dim, &full)| dim != 1 && dim != full) {
            return Err(shape_error(op, what, format!("a shape that broadcasts to {shape}"), own));
        }
        let mut tensor = weights.on(self.gpu())?;
        self.own(op, what, &tensor)?;
        if shape.contains(&0) {
            return Ok(Broadcast { tensor: self.gpu().one(), inner: 1, size: 1, each: false });
        }
        // The dimensions that weights differ along must be neighbours: repeat those in between.
        loop {
            let varies = |d: usize| dims[d] > 1;
            let first = (0..dims.len()).find(|&d| varies(d));
            let last = (0..dims.len()).rfind(|&d| varies(d));
            let (Some(first), Some(last)) = (first, last) else {
                return Ok(Broadcast { tensor, inner: 1, size: 1, each: false });
            };
            let Some(gap) = (first..last).find(|&d| dims[d] != shape[d]) else {
                let product = |dims: &[usize]| u32::try_from(dims.iter().product::<usize>()).unwrap_or(u32::MAX);
                let (size, inner) = (product(&shape[first..=last]), product(&shape[last + 1..]));
                let each = size == product(shape);
                let (needed, caps) = (u64::from(size) * 4, self.gpu().caps());
                let allowed = caps.max_binding - u64::from(caps.storage_align);
                // Those that do not move with the elements are bound whole.
                if !each && needed > allowed {
                    let what = "a storage binding's bytes for weights that repeat";
                    return Err(Error::Limit { op, what, needed, allowed });
                }
                return Ok(Broadcast { each, tensor, inner, size });
            };
            tensor = self.expand(op, &tensor, &dims, gap, shape[gap])?;
            dims[gap] = shape[gap];
        }
    }

    /// Repeats dimension `d` of a tensor of shape `dims`, where it is 1, `size` times.
    fn expand(
        &mut self,
        op: &'static str,
        input: &Tensor<f32>,
        dims: &[usize],
        d: usize,
        size: usize,
    ) -> Result<Tensor<f32>> {
        let inner: usize = dims[d + 1..].iter().product();
        let count = input.len() * size;
        let output = self.output(op, [count])?;
        // Pieces of whole outer parts, so that each finds its input from its own beginning.
        let part = (size * inner) as u64;
        let parts = u32::try_from(dims[..d].iter().product::<usize>()).unwrap_or(u32::MAX);
        let cut = Cut {
            op,
            rows: parts,
            row_bytes: &[part * 4],
            granule: 1,
            groups_per_granule: part.div_ceil(BLOCK.into()),
        };
        for range in cut.ranges(self.gpu().caps())? {
            let (first, len) = (u64::from(range.start), u64::from(range.end - range.start));
            let from = self.window(input, first * inner as u64, len * inner as u64);
            let to = self.window(&output, first * part, len * part);
            let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            let params = Params {
                count: narrow(len * part),
                block: BLOCK,
                size: narrow(size as u64),
                inner: narrow(inner as u64),
                input_base: from.base,
                output_base: to.base,
            };
            let variant = Variant::new(&[self.gpu().caps().workgroup_size()]);
            let groups = (len * part).div_ceil(BLOCK.into());
            self.dispatch(&EXPAND, variant, &params, &[Some(&from), Some(&to)], groups)?;
        }
        Ok(output)
    }
}
