//! Matrix products in the layouts that training needs.

use std::ops::Range;

use crate::caps::Caps;
use crate::error::Result;
use crate::kernel::{Binding, Kernel, Variant, params, read4, update4, wgsl};
use crate::options::Layout;
use crate::recorder::{Recorder, Window};
use crate::tensor::{Element, Float, Format, Real, Tensor, WORD_BYTES, size32};

use super::product_plan::{Part, Piece};
use super::tile::{Sizes, Tile};
use super::{no_alias, same_shape, shape_error};

params! {
    struct Params {
        m: u32,
        n: u32,
        k: u32,
        a_stride: u32,
        b_stride: u32,
        c_stride: u32,
        a_base: u32,
        b_base: u32,
        bias_base: u32,
        c_base: u32,
        gate_base: u32,
        split: u32,
    }
}

const BINDINGS: &[Binding] = &[read4("a"), read4("b"), read4("bias"), read4("gate"), update4("c")];

pub(super) const TILED: Kernel = Kernel {
    label: "xent.matmul",
    source: wgsl!["lib/grid", "lib/numerics", "lib/rectifier", "lib/product", "lib/product_loads", "matmul"],
    bindings: BINDINGS,
    params: Params::FIELDS,
    constants: &[
        "WORKGROUP",
        "A_TRANSPOSED",
        "B_TRANSPOSED",
        "BIASED",
        "RESUMED",
        "RECTIFIED",
        "GATED",
        "SPARSE",
        "QUADS",
        "DEPTH_QUADS",
        "ROW_QUADS",
        "COLUMN_QUADS",
    ],
};

const SIMD_CONSTANTS: &[&str] =
    &["WORKGROUP", "A_TRANSPOSED", "B_TRANSPOSED", "BIASED", "RESUMED", "RECTIFIED", "GATED", "SPARSE", "ROWS"];

pub(super) const SIMD: Kernel = Kernel {
    label: "xent.matmul_simd",
    source: wgsl![
        "lib/grid",
        "lib/numerics",
        "lib/rectifier",
        "lib/product",
        "lib/product_loads",
        "lib/simd_product",
        "matmul_simd"
    ],
    bindings: BINDINGS,
    params: Params::FIELDS,
    constants: SIMD_CONSTANTS,
};

pub(super) const SUBGROUP: Kernel = Kernel {
    label: "xent.matmul_subgroup",
    source: wgsl![
        "lib/grid",
        "lib/numerics",
        "lib/rectifier",
        "lib/product",
        "lib/product_loads",
        "lib/simd_product",
        "matmul_subgroup"
    ],
    bindings: BINDINGS,
    params: Params::FIELDS,
    constants: SIMD_CONSTANTS,
};

/// What the results of a product go through before they are stored.
#[derive(Clone, Copy, Debug)]
enum Rectifier<'a> {
    None,
    Forward,
    /// Back through a rectifier that gave this.
    Backward(&'a Tensor<f32>),
}

/// How the sums of a product are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// Whole, or by parts where a GPU had too little to do otherwise: that depends on all sizes.
    Auto,
    /// Each one sum in the order of `k`.
    Whole,
    /// Whole, and onto what the output holds: the sums go on where another product left them.
    Resumed,
    /// By parts of so many summands, a multiple of 16.
    Parts(u32),
}

/// What is done about zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zeros {
    /// They are factors like others.
    Count,
    /// Summands are left out where a tile of `a` is 0, whatever they would be multiplied with.
    AreLeftOut,
}

impl Zeros {
    /// For gradients that count as 0 below a threshold.
    pub(super) fn below(threshold: f64) -> Self {
        if threshold > 0.0 { Self::AreLeftOut } else { Self::Count }
    }
}

/// A validated product.
#[derive(Clone, Copy, Debug)]
struct Product<'a> {
    layout: Layout,
    sizes: Sizes,
    a: &'a Tensor<Real>,
    b: &'a Tensor<Real>,
    bias: Option<&'a Tensor<Real>>,
    rectifier: Rectifier<'a>,
    sums: Sums,
    zeros: Zeros,
    out: &'a Tensor<f32>,
}

impl Product<'_> {
    /// Summands of each part of the sums.
    fn split(&self, caps: &Caps) -> u32 {
        match self.sums {
            Sums::Auto => Tile::new(caps, self.sizes).split(caps, self.sizes),
            Sums::Whole | Sums::Resumed => self.sizes.k.max(1),
            Sums::Parts(summands) => summands.min(self.sizes.k.max(1)),
        }
    }
}

impl Layout {
    fn sizes<T: Element>(self, op: &'static str, a: &Tensor<T>, b: &Tensor<T>) -> Result<Sizes> {
        let dims = |what, tensor: &Tensor<T>| match tensor.shape()[..] {
            [rows, columns] => Ok((size32(rows), size32(columns))),
            _ => Err(shape_error(op, what, "2 dimensions", tensor.shape())),
        };
        let (a_dims, b_dims) = (dims("a", a)?, dims("b", b)?);
        let (m, a_k) = if self == Self::Tn { (a_dims.1, a_dims.0) } else { a_dims };
        let (b_k, n) = if self == Self::Nt { (b_dims.1, b_dims.0) } else { b_dims };
        if a_k != b_k {
            let expected = match self {
                Self::Nt => format!("shape [n, {a_k}] for a of shape {}", a.shape()),
                Self::Nn | Self::Tn => format!("shape [{a_k}, n] for a of shape {}", a.shape()),
            };
            return Err(shape_error(op, "b", expected, b.shape()));
        }
        Ok(Sizes { m, n, k: a_k })
    }
}

/// Rows of a matrix, as a binding.
fn rows_of<T: Element>(rec: &Recorder<'_>, tensor: &Tensor<T>, rows: &Range<u32>, columns: u32) -> Option<Window> {
    let len = u64::from(rows.end - rows.start) * u64::from(columns);
    (len > 0).then(|| rec.window(tensor, u64::from(rows.start) * u64::from(columns), len))
}

/// The sizes of a product whose tensors fit each other.
fn check_product(
    rec: &Recorder<'_>,
    layout: Layout,
    [a, b]: [&Tensor<Real>; 2],
    bias: Option<&Tensor<Real>>,
    out: &Tensor<Real>,
) -> Result<Sizes> {
    let op = "matmul";
    let sizes = layout.sizes(op, a, b)?;
    for (what, tensor) in [("a", Some(a)), ("b", Some(b)), ("bias", bias), ("out", Some(out))] {
        let Some(tensor) = tensor else { continue };
        rec.own(op, what, tensor)?;
        if what != "out" {
            no_alias(op, ("out", out), (what, tensor))?;
        }
    }
    let fits = |what, tensor: &Tensor<Real>, dims: &[u32]| {
        let same = tensor.shape().iter().copied().eq(dims.iter().map(|&d| d as usize));
        if same { Ok(()) } else { Err(shape_error(op, what, format!("shape {dims:?}"), tensor.shape())) }
    };
    fits("out", out, &[sizes.m, sizes.n])?;
    bias.map_or(Ok(()), |bias| fits("bias", bias, &[sizes.n]))?;
    Ok(sizes)
}

/// Matrix products.
impl Recorder<'_> {
    /// `c = op(a) op(b) + bias`, with the stored layouts that `layout` says.
    ///
    /// # Shapes
    /// See [`Layout`]; `bias` is `[n]` and is added to every row; the result is `[m, n]`. With `k` = 0 it is the bias, or 0.
    ///
    /// Halves are summed in `f32`, and the sums rounded once.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) naming the matrix that does not fit; [`Error::ForeignTensor`](crate::Error::ForeignTensor); a row of a matrix larger than a binding.
    ///
    /// # Cost
    /// `2 m n k` floating-point operations; for halves also the result in `f32` until the recording is submitted, and a pass over it. Every element of the result is one `f32` sum over `k` in its order; on a GPU, if the
    /// result is small and `k` large, such sums of parts of `k`, added in their order.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Layout, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let input = Tensor::from_slice(&gpu, [1, 2], &[1.0, 2.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0f32])?;
    /// let bias = Tensor::from_slice(&gpu, [3], &[0.5, 0.5, 0.5f32])?;
    /// let mut batch = gpu.batch();
    /// let output = batch.matmul(Layout::Nt, &input, &weight, Some(&bias))?;
    /// let mut output = batch.read(&output)?;
    /// batch.submit()?;
    /// assert_eq!(output.wait(Duration::from_secs(10))?, [1.5, 2.5, 3.5]);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn matmul<T: Float>(
        &mut self,
        layout: Layout,
        a: &Tensor<T>,
        b: &Tensor<T>,
        bias: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let Sizes { m, n, .. } = layout.sizes("matmul", a, b)?;
        let out = self.output("matmul", [m as usize, n as usize])?;
        self.matmul_into(layout, a, b, bias, &out)?;
        Ok(out)
    }

    /// [`matmul`](Self::matmul) into an existing tensor, such as a gradient of [`Parameters`](crate::Parameters).
    ///
    /// # Errors
    /// As [`matmul`](Self::matmul), and [`Error::Aliasing`](crate::Error::Aliasing) if `out` shares its buffer with an argument.
    pub fn matmul_into<T: Float>(
        &mut self,
        layout: Layout,
        a: &Tensor<T>,
        b: &Tensor<T>,
        bias: Option<&Tensor<T>>,
        out: &Tensor<T>,
    ) -> Result<()> {
        let (a, b, bias, out) = (a.real(), b.real(), bias.map(Tensor::real), out.real());
        let sizes = check_product(self, layout, [&a, &b], bias.as_ref(), &out)?;
        let (bias, rectifier) = (bias.as_ref(), Rectifier::None);
        let (sums, zeros) = (Sums::Auto, Zeros::Count);
        if out.format() == Format::Word {
            let out = &out.typed();
            return self.product(&Product { layout, sizes, a: &a, b: &b, bias, rectifier, sums, zeros, out });
        }
        let exact = &self.output("matmul", out.shape().clone())?;
        self.product(&Product { layout, sizes, a: &a, b: &b, bias, rectifier, sums, zeros, out: exact })?;
        self.cast_into(exact, &out)
    }

    /// [`matmul_into`](Self::matmul_into) with sums that are formed in a way that the caller settles.
    pub(super) fn matmul_sums(
        &mut self,
        layout: Layout,
        [a, b]: [&Tensor<Real>; 2],
        bias: Option<&Tensor<Real>>,
        (sums, zeros): (Sums, Zeros),
        out: &Tensor<f32>,
    ) -> Result<()> {
        let sizes = check_product(self, layout, [a, b], bias, &out.real())?;
        self.product(&Product { layout, sizes, a, b, bias, rectifier: Rectifier::None, sums, zeros, out })
    }

    /// [`relu`](Self::relu) of `x weight^T + bias`, at once. (That is the layout whose sums are never cut: a rectifier takes whole ones.)
    pub(crate) fn linear_relu(
        &mut self,
        x: &Tensor<f32>,
        weight: &Tensor<f32>,
        bias: Option<&Tensor<f32>>,
    ) -> Result<Tensor<f32>> {
        self.rectified(Layout::Nt, [x, weight], bias, Rectifier::Forward)
    }

    /// [`relu_backward`](Self::relu_backward) of a product, at once: `y` is what the rectifier gave.
    pub(crate) fn matmul_relu_backward(
        &mut self,
        layout: Layout,
        a: &Tensor<f32>,
        b: &Tensor<f32>,
        y: &Tensor<f32>,
    ) -> Result<Tensor<f32>> {
        self.rectified(layout, [a, b], None, Rectifier::Backward(y))
    }

    fn rectified(
        &mut self,
        layout: Layout,
        [a, b]: [&Tensor<f32>; 2],
        bias: Option<&Tensor<f32>>,
        rectifier: Rectifier<'_>,
    ) -> Result<Tensor<f32>> {
        let sizes = layout.sizes("matmul", a, b)?;
        if Tile::new(self.gpu().caps(), sizes).split(self.gpu().caps(), sizes) < sizes.k {
            // Only the sum of the parts is what the rectifier takes.
            let out = self.matmul(layout, a, b, bias)?;
            return match rectifier {
                Rectifier::None => Ok(out),
                Rectifier::Forward => self.relu(&out),
                Rectifier::Backward(y) => self.relu_backward(y, &out),
            };
        }
        let out = self.output("matmul", [sizes.m as usize, sizes.n as usize])?;
        if let Rectifier::Backward(y) = rectifier {
            self.own("relu_backward", "y", y)?;
            same_shape("relu_backward", "upstream", &out, y)?;
        }
        let (a, b, bias) = (a.real(), b.real(), bias.map(Tensor::real));
        let sizes = check_product(self, layout, [&a, &b], bias.as_ref(), &out.real())?;
        let (bias, sums, zeros) = (bias.as_ref(), Sums::Auto, Zeros::Count);
        self.product(&Product { layout, sizes, a: &a, b: &b, bias, rectifier, sums, zeros, out: &out })?;
        Ok(out)
    }

    fn product(&mut self, product: &Product<'_>) -> Result<()> {
        let Product { layout, sizes, a, b, out, .. } = *product;
        if out.is_empty() {
            return Ok(());
        }
        let caps = self.gpu().caps();
        let split = product.split(caps);
        let dispatches = layout.dispatches(caps, sizes, [a, b, &out.real()].map(Tensor::placed), split)?;
        let parts = sizes.k.div_ceil(split).max(1);
        let scratch = (parts > 1).then(|| self.output("matmul", [parts as usize, out.len()])).transpose()?;
        let product = Product { out: scratch.as_ref().unwrap_or(out), ..*product };
        for (piece, part) in &dispatches {
            self.product_piece(&product, piece, part)?;
        }
        scratch.map_or(Ok(()), |scratch| self.add_parts(&scratch, out))
    }

    /// The sums of the parts of a product's sums, in their order.
    fn add_parts(&mut self, parts: &Tensor<f32>, out: &Tensor<f32>) -> Result<()> {
        let flat = out.reshape([out.len()])?;
        if out.len() as u64 * WORD_BYTES <= self.gpu().caps().usable_binding() {
            return self.column_sum_into(parts, &flat);
        }
        // The same additions, one part after the other.
        self.fill_zero(&flat)?;
        for start in (0..parts.len()).step_by(out.len()) {
            self.accumulate(&parts.part(start, flat.shape().clone()), &flat)?;
        }
        Ok(())
    }

    fn product_piece(&mut self, product: &Product<'_>, piece: &Piece, part: &Part) -> Result<()> {
        let Product { layout, sizes, a, b, bias, rectifier, sums, zeros, out } = *product;
        let Piece { m, n, k } = piece;
        // A stored matrix's rows, its columns in all, and the first column that counts.
        let (a_rows, a_columns, a_first) = match layout {
            Layout::Tn => (k, sizes.m, m.start),
            Layout::Nn | Layout::Nt => (m, sizes.k, k.start),
        };
        let (b_rows, b_columns, b_first) = match layout {
            Layout::Nt => (n, sizes.k, k.start),
            Layout::Nn | Layout::Tn => (k, sizes.n, n.start),
        };
        let a = rows_of(self, a, a_rows, a_columns);
        let b = rows_of(self, b, b_rows, b_columns);
        let parts = (k.end - k.start).div_ceil(part.split).max(1);
        let c_first = part.index * sizes.m + m.start;
        let c = rows_of(self, out, &(c_first..c_first + (m.end - m.start) * parts), sizes.n);
        // The bias belongs to the first part, and to its last summands.
        let bias = bias.filter(|_| part.index == 0 && k.end == part.k.end).map(|bias| self.whole(bias));
        let gate = match rectifier {
            Rectifier::Backward(y) => rows_of(self, y, m, sizes.n),
            Rectifier::None | Rectifier::Forward => None,
        };
        let base = |window: &Option<Window>| window.as_ref().map_or(0, |w| w.base);
        let params = Params {
            m: m.end - m.start,
            n: n.end - n.start,
            k: k.end - k.start,
            a_stride: a_columns,
            b_stride: b_columns,
            c_stride: sizes.n,
            a_base: base(&a) + a_first,
            b_base: base(&b) + b_first,
            bias_base: base(&bias) + n.start,
            c_base: base(&c) + n.start,
            gate_base: base(&gate) + n.start,
            split: part.split,
        };
        let resumed = k.start > part.k.start || sums == Sums::Resumed;
        let rectified = matches!(rectifier, Rectifier::Forward);
        let sparse = zeros == Zeros::AreLeftOut;
        let choices =
            [layout == Layout::Tn, layout == Layout::Nt, bias.is_some(), resumed, rectified, gate.is_some(), sparse];
        // What a cut leaves of the rows or depths that quads of a factor go along; the other layouts' are never cut.
        let along = match layout {
            Layout::Tn => params.m,
            Layout::Nn => params.k,
            Layout::Nt => 0,
        };
        let quads = [a_columns, b_columns, a_first, b_first, along].iter().all(|x| x.is_multiple_of(4));
        let tile = Tile::new(self.gpu().caps(), sizes);
        let groups = tile.groups(params.m, params.n) * u64::from(parts);
        let workgroup = std::iter::once(tile.workgroup);
        let constants = workgroup.chain(choices.map(u32::from)).chain(tile.constants.iter().copied()).collect();
        // The matrices are gone through by quad if all their quads lie in one row, and the result's on their own.
        let whole_rows = [sizes.n, n.start].iter().all(|x| x.is_multiple_of(4));
        let slots = [a.as_ref(), b.as_ref(), bias.as_ref(), gate.as_ref(), c.as_ref()];
        let aligned = slots[2..].iter().flatten().all(|window| window.quads);
        let variant = Variant {
            vec4: quads,
            by_element: if whole_rows && aligned { 0 } else { 0b11100 },
            constants,
            ..Variant::default()
        };
        self.dispatch(tile.kernel, variant, &params, &slots, groups)
    }
}
