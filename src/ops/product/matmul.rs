//! Matrix products in the layouts that training needs.

use std::ops::Range;

use crate::engine::kernel::{Binding, Kernel, kernel, params, read4, update4};
use crate::error::Result;
use crate::plan::product::{Layout, ProductSpec};
use crate::plan::summands::Summands;
use crate::record::Recorder;
use crate::tensor::{Element, Float, Format, Real, Tensor, expect_shape, size32};

use crate::ops::{no_alias, shape_error};
use crate::plan::tile::{Sizes, Tile};

params! {
    struct Params {
        /// The numbers of rows, columns and summands of this dispatch.
        m: u32,
        n: u32,
        k: u32,
        /// The number of elements from one stored row to the next.
        a_stride: u32,
        b_stride: u32,
        c_stride: u32,
        /// The number of summands in a part, a multiple of a tile's depth; at least k if there is
        /// only one part.
        split: u32,
        /// The number of summands in a run, a multiple of a tile's depth. (The rounding error of a
        /// sum grows with the length of its runs.)
        run: u32,
    }
}

const BINDINGS: &[Binding] = &[read4("a"), read4("b"), read4("bias"), read4("gate"), read4("runs"), update4("c")];

pub(crate) static TILED: Kernel = kernel!("matmul", Params::FIELDS, BINDINGS);

pub(crate) static SIMD: Kernel = kernel!("matmul_simd", Params::FIELDS, BINDINGS);

pub(crate) static SUBGROUP: Kernel = kernel!("matmul_subgroup", Params::FIELDS, BINDINGS);

/// The rectifier that results of a product pass through before they are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rectifier<'a> {
    None,
    Forward,
    /// The backward pass of a rectifier that had this output.
    Backward(&'a Tensor<f32>),
}

/// How the sums of a product are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sums {
    /// Into parts: sections, or shorter parts if a GPU would have too little to do. Their length
    /// depends on all sizes.
    Auto,
    /// Into sections, which depend on the number of summands alone; `at_once` of them are in memory
    /// at a time.
    Sections { at_once: u32 },
}

impl Sums {
    /// For a linear layer's logits, whose bits must not depend on which tokens and classes are in
    /// memory. A section takes as much memory as the logits; several sections take as much again
    /// for rounding errors.
    pub(crate) const OF_LOGITS: Self = Self::Sections { at_once: 1 };
}

/// The treatment of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// They are multiplied like other factors.
    Count,
    /// Summands are skipped if their tile of `a` is 0, whatever the tile of `b` contains.
    AreLeftOut,
}

impl Zeros {
    /// For gradients that are 0 below a threshold.
    pub(crate) fn below(threshold: f64) -> Self {
        if threshold > 0.0 { Self::AreLeftOut } else { Self::Count }
    }
}

/// A validated product.
#[derive(Clone, Debug)]
pub(crate) struct Product<'a> {
    pub(crate) spec: ProductSpec,
    pub(crate) a: &'a Tensor<Real>,
    pub(crate) b: &'a Tensor<Real>,
    pub(crate) bias: Option<&'a Tensor<Real>>,
    pub(crate) rectifier: Rectifier<'a>,
    /// The range of summands to add.
    pub(crate) k: Range<u32>,
    pub(crate) summands: Summands,
    pub(crate) out: &'a Tensor<f32>,
}

impl<'a> Product<'a> {
    /// A product of all summands, without a rectifier.
    fn new(
        layout: Layout,
        sizes: Sizes,
        [a, b]: [&'a Tensor<Real>; 2],
        bias: Option<&'a Tensor<Real>>,
        zeros: Zeros,
        out: &'a Tensor<f32>,
    ) -> Self {
        let spec = ProductSpec {
            layout,
            sizes,
            placed: [a, b, &out.real()].map(Tensor::placed),
            sparse: zeros == Zeros::AreLeftOut,
        };
        let (k, summands) = (0..sizes.k, Summands::whole(sizes.k));
        Self { spec, a, b, bias, rectifier: Rectifier::None, k, summands, out }
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

/// Checks that the tensors of a product fit each other. Returns its sizes.
fn check_product(
    rec: &Recorder<'_>,
    layout: Layout,
    [a, b]: [&Tensor<Real>; 2],
    bias: Option<&Tensor<Real>>,
    out: &Tensor<Real>,
) -> Result<Sizes> {
    let op = "matmul";
    let sizes = layout.sizes(op, a, b)?;
    rec.check_device(op, "out", out)?;
    for (what, tensor) in [("a", Some(a)), ("b", Some(b)), ("bias", bias)] {
        let Some(tensor) = tensor else { continue };
        rec.check_device(op, what, tensor)?;
        no_alias(op, ("out", out), (what, tensor))?;
    }
    let [m, n] = [sizes.m, sizes.n].map(|size| size as usize);
    expect_shape(op, "out", out.shape(), &[m, n].into())?;
    bias.map_or(Ok(()), |bias| expect_shape(op, "bias", bias.shape(), &[n].into()))?;
    Ok(sizes)
}

/// Matrix products.
impl Recorder<'_> {
    /// `c = op(a) op(b) + bias`, with matrices stored as `layout` says.
    ///
    /// # Shapes
    /// See [`Layout`]; `bias` is `[n]` and is added to every row; the result is `[m, n]`. For
    /// `k = 0` it is the bias, or 0.
    ///
    /// Halves are summed in `f32`, and the sums are rounded once.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) with the name of the matrix that does not fit;
    /// [`Error::ForeignTensor`](crate::Error::ForeignTensor); a row of a matrix larger than a
    /// binding.
    ///
    /// # Cost
    /// `2 m n k` floating-point operations; for halves also the result in `f32` until the recording
    /// is submitted, and a pass over it. Each element of the result is summed in a fixed order: 64
    /// summands form a run, runs form a section of 4096 summands (fewer on a GPU if the result is
    /// small and `k` is large), and sections are added up with their rounding errors. Sections take
    /// up to 64 MiB of scratch, or as much as one result if that is more.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::{Gpu, Layout, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let input = Tensor::from_slice(&gpu, [1, 2], &[1.0, 2.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0f32])?;
    /// let bias = Tensor::from_slice(&gpu, [3], &[0.5, 0.5, 0.5f32])?;
    /// let mut batch = gpu.batch();
    /// let output = batch.matmul(Layout::Nt, &input, &weight, Some(&bias))?;
    /// let mut output = batch.read(&output)?;
    /// batch.submit()?;
    /// assert_eq!(output.wait(Duration::from_secs(10))?, [1.5, 2.5, 3.5]);
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

    /// [`matmul`](Self::matmul) into an existing tensor, such as a gradient of
    /// [`Parameters`](crate::optim::Parameters).
    ///
    /// # Errors
    /// As [`matmul`](Self::matmul), and [`Error::Aliasing`](crate::Error::Aliasing) if `out` shares
    /// its buffer with an argument.
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
        let exact = match out.format() {
            Format::Word => out.typed(),
            _ => self.output("matmul", out.shape().clone())?,
        };
        let product = Product::new(layout, sizes, [&a, &b], bias.as_ref(), Zeros::Count, &exact);
        self.product(&product, Sums::Auto)?;
        if out.format() == Format::Word { Ok(()) } else { self.cast_into(&exact, &out) }
    }

    /// [`matmul_into`](Self::matmul_into) with the caller's choice of how sums are split and zeros
    /// treated.
    pub(crate) fn matmul_sums(
        &mut self,
        layout: Layout,
        [a, b]: [&Tensor<Real>; 2],
        bias: Option<&Tensor<Real>>,
        (sums, zeros): (Sums, Zeros),
        out: &Tensor<f32>,
    ) -> Result<()> {
        let sizes = check_product(self, layout, [a, b], bias, &out.real())?;
        self.product(&Product::new(layout, sizes, [a, b], bias, zeros, out), sums)
    }

    /// Adds the summands `k` of a product to sums in progress, whose position `summands` describes.
    /// The sum of a run that does not end here is in `runs`, which has the shape of `out`.
    pub(crate) fn matmul_summands(
        &mut self,
        (layout, zeros): (Layout, Zeros),
        [a, b]: [&Tensor<Real>; 2],
        (k, summands): (Range<u32>, Summands),
        (out, runs): (&Tensor<f32>, &mut Option<Tensor<f32>>),
    ) -> Result<()> {
        let sizes = check_product(self, layout, [a, b], None, &out.real())?;
        let product = Product { k, summands, ..Product::new(layout, sizes, [a, b], None, zeros, out) };
        self.product_pieces(&product, u32::MAX, runs)
    }

    /// [`matmul`](Self::matmul) with a rectifier, fused. (A rectifier needs complete sums; in the
    /// layout `Nt` they are never split to fit bindings.)
    pub(crate) fn rectified(
        &mut self,
        layout: Layout,
        [a, b]: [&Tensor<f32>; 2],
        bias: Option<&Tensor<f32>>,
        rectifier: Rectifier<'_>,
    ) -> Result<Tensor<f32>> {
        let sizes = layout.sizes("matmul", a, b)?;
        if Tile::new(self.gpu().caps(), sizes).summands_per_part(self.gpu().caps(), sizes) < sizes.k {
            // The rectifier needs the sum of all parts.
            let out = self.matmul(layout, a, b, bias)?;
            return match rectifier {
                Rectifier::None => Ok(out),
                Rectifier::Forward => self.relu(&out),
                Rectifier::Backward(y) => self.relu_backward(y, &out),
            };
        }
        let out = self.output("matmul", [sizes.m as usize, sizes.n as usize])?;
        if let Rectifier::Backward(y) = rectifier {
            self.check_device("relu_backward", "y", y)?;
            expect_shape("relu_backward", "upstream", out.shape(), y.shape())?;
        }
        let (a, b, bias) = (a.real(), b.real(), bias.map(Tensor::real));
        let sizes = check_product(self, layout, [&a, &b], bias.as_ref(), &out.real())?;
        let product = Product::new(layout, sizes, [&a, &b], bias.as_ref(), Zeros::Count, &out);
        self.product(&Product { rectifier, ..product }, Sums::Auto)?;
        Ok(out)
    }
}
