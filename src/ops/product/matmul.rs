//! Matrix products in the layouts that training needs.

use std::ops::Range;

use crate::engine::WORD_BYTES;
use crate::engine::kernel::{Binding, Kernel, kernel, params, read4, update4};
use crate::error::Result;
use crate::plan::product::{Factors, Layout, Piece};
use crate::plan::summands::Summands;
use crate::record::{Launch, Recorder, Window};
use crate::tensor::{Element, Float, Format, Real, Tensor, size32};

use crate::ops::product::sum_parts::SumOfParts;
use crate::ops::{no_alias, same_shape, shape_error};
use crate::plan::tile::{ProductKernel, Sizes, Tile};

params! {
    struct Params {
        /// Rows, columns and summands of this dispatch.
        m: u32,
        n: u32,
        k: u32,
        /// Elements from one stored row to the next.
        a_stride: u32,
        b_stride: u32,
        c_stride: u32,
        /// Summands of a part of the sums, a multiple of a tile's depth; k or more if there are no parts.
        split: u32,
        /// Summands that are added up before they are added to the rest, a multiple of a tile's depth. (Errors of a sum grow with the length of what is added up in one go.)
        run: u32,
    }
}

const BINDINGS: &[Binding] = &[read4("a"), read4("b"), read4("bias"), read4("gate"), read4("runs"), update4("c")];

pub(crate) static TILED: Kernel = kernel!("matmul", Params::FIELDS, BINDINGS);

pub(crate) static SIMD: Kernel = kernel!("matmul_simd", Params::FIELDS, BINDINGS);

pub(crate) static SUBGROUP: Kernel = kernel!("matmul_subgroup", Params::FIELDS, BINDINGS);

/// Bytes of the parts of sums that are in memory at a time.
const PARTS_BYTES: u64 = 64 << 20;

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
pub(crate) enum Sums {
    /// By parts: sections, or shorter ones where a GPU had too little to do otherwise. That depends on all sizes.
    Auto,
    /// By sections: that depends on the number of summands alone. So many of them are in memory at a time.
    Sections { at_once: u32 },
}

impl Sums {
    /// Of a linear layer's logits, which have the same bits whichever tokens and classes are in memory at a time. One section takes as much memory
    /// as they do, and so does what the sums of several lack.
    pub(crate) const OF_LOGITS: Self = Self::Sections { at_once: 1 };
}

/// What is done about zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zeros {
    /// They are factors like others.
    Count,
    /// Summands are left out where a tile of `a` is 0, whatever they would be multiplied with.
    AreLeftOut,
}

impl Zeros {
    /// For gradients that count as 0 below a threshold.
    pub(crate) fn below(threshold: f64) -> Self {
        if threshold > 0.0 { Self::AreLeftOut } else { Self::Count }
    }
}

/// A validated product.
#[derive(Clone, Debug)]
struct Product<'a> {
    factors: Factors,
    a: &'a Tensor<Real>,
    b: &'a Tensor<Real>,
    bias: Option<&'a Tensor<Real>>,
    rectifier: Rectifier<'a>,
    /// The summands that are formed, of those that the factors have.
    k: Range<u32>,
    summands: Summands,
    out: &'a Tensor<f32>,
}

impl<'a> Product<'a> {
    /// All summands, and no rectifier.
    fn new(
        layout: Layout,
        sizes: Sizes,
        [a, b]: [&'a Tensor<Real>; 2],
        bias: Option<&'a Tensor<Real>>,
        zeros: Zeros,
        out: &'a Tensor<f32>,
    ) -> Self {
        let factors = Factors {
            layout,
            sizes,
            placed: [a, b, &out.real()].map(Tensor::placed),
            sparse: zeros == Zeros::AreLeftOut,
        };
        let (k, summands) = (0..sizes.k, Summands::whole(sizes.k));
        Self { factors, a, b, bias, rectifier: Rectifier::None, k, summands, out }
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

/// Rows of a matrix from a column on, as a binding.
fn rows_of<T: Element>(
    rec: &Recorder<'_>,
    tensor: &Tensor<T>,
    rows: &Range<u32>,
    (columns, first): (u32, u32),
) -> Option<Window> {
    let [start, end] = [rows.start, rows.end].map(|row| u64::from(row) * u64::from(columns));
    let start = start + u64::from(first);
    (end > start).then(|| rec.window(tensor, start, end - start))
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
        rec.check_device(op, what, tensor)?;
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
    /// `2 m n k` floating-point operations; for halves also the result in `f32` until the recording is submitted, and a pass over it. An
    /// element of the result is summed in a fixed order: 64 summands are added up to a run, runs to a section of 4096 summands (or fewer: on a GPU, if the
    /// result is small and `k` large), and sections with what the additions round off. Sections take up to 64 MiB of scratch, or one
    /// result's.
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
        let exact = match out.format() {
            Format::Word => out.typed(),
            _ => self.output("matmul", out.shape().clone())?,
        };
        let product = Product::new(layout, sizes, [&a, &b], bias.as_ref(), Zeros::Count, &exact);
        self.product(&product, Sums::Auto)?;
        if out.format() == Format::Word { Ok(()) } else { self.cast_into(&exact, &out) }
    }

    /// [`matmul_into`](Self::matmul_into) with sums that are formed in a way that the caller settles.
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

    /// Adds the summands `k` of a product to sums of which `summands` says how far they are. What a run has that does not end here is in
    /// `runs`, which is like `out`.
    pub(crate) fn matmul_summands(
        &mut self,
        layout: Layout,
        [a, b]: [&Tensor<Real>; 2],
        (k, summands, zeros): (Range<u32>, Summands, Zeros),
        (out, runs): (&Tensor<f32>, &mut Option<Tensor<f32>>),
    ) -> Result<()> {
        let sizes = check_product(self, layout, [a, b], None, &out.real())?;
        let product = Product { k, summands, ..Product::new(layout, sizes, [a, b], None, zeros, out) };
        self.product_pieces(&product, u32::MAX, runs)
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
            self.check_device("relu_backward", "y", y)?;
            same_shape("relu_backward", "upstream", &out, y)?;
        }
        let (a, b, bias) = (a.real(), b.real(), bias.map(Tensor::real));
        let sizes = check_product(self, layout, [&a, &b], bias.as_ref(), &out.real())?;
        let product = Product::new(layout, sizes, [&a, &b], bias.as_ref(), Zeros::Count, &out);
        self.product(&Product { rectifier, ..product }, Sums::Auto)?;
        Ok(out)
    }

    fn product(&mut self, product: &Product<'_>, sums: Sums) -> Result<()> {
        let (caps, sizes, out) = (self.gpu().caps(), product.factors.sizes, product.out);
        let (split, at_once) = match sums {
            Sums::Auto => (Tile::new(caps, sizes).split(caps, sizes), PARTS_BYTES / bytes_at_least_one(out)),
            Sums::Sections { at_once } => (Summands::SECTION.min(sizes.k.max(1)), at_once.into()),
        };
        let parts = sizes.k.div_ceil(split).max(1);
        if parts == 1 {
            return self.product_pieces(product, split, &mut None);
        }
        // The first part has the bias.
        let mut summed = SumOfParts::new(out, parts, at_once);
        for batch in summed.batches(self.gpu().caps()) {
            let scratch = self.output("matmul", [batch.len(), out.len()])?;
            let k = batch.start * split..sizes.k.min(batch.end.saturating_mul(split));
            let bias = product.bias.filter(|_| batch.start == 0);
            let rows = [batch.len() * sizes.m as usize, sizes.n as usize];
            let of_parts = scratch.reshape(rows)?;
            let summands = Summands::whole(k.end - k.start);
            let batch_product = Product { k, summands, bias, out: &of_parts, ..product.clone() };
            self.product_pieces(&batch_product, split, &mut None)?;
            self.sum_parts(&mut summed, &scratch, batch)?;
        }
        Ok(())
    }

    fn product_pieces(&mut self, product: &Product<'_>, split: u32, runs: &mut Option<Tensor<f32>>) -> Result<()> {
        let Product { factors, a, b, k, summands, out, .. } = product;
        if out.is_empty() {
            return Ok(());
        }
        let factors = Factors { placed: [*a, *b, &out.real()].map(Tensor::placed), ..*factors };
        let pieces = factors.dispatches(self.gpu().caps(), k, split, *summands)?;
        if runs.is_none() && pieces.iter().any(|piece| piece.unfinished) {
            *runs = Some(self.output("matmul", [factors.sizes.m as usize, factors.sizes.n as usize])?);
        }
        pieces.iter().try_for_each(|piece| self.product_piece(product, piece, runs.as_ref()))
    }

    fn product_piece(&mut self, product: &Product<'_>, piece: &Piece, runs: Option<&Tensor<f32>>) -> Result<()> {
        let Product { factors, a, b, bias, rectifier, summands, out, .. } = product;
        let Factors { layout, sizes, sparse, .. } = *factors;
        let Piece { m, n, k, part, split, begun, unfinished, resumed, last, work } = piece;
        // A stored matrix's rows, its columns in all, and the first column that counts.
        let (a_rows, a_columns, a_first) = match layout {
            Layout::Tn => (k, sizes.m, m.start),
            Layout::Nn | Layout::Nt => (m, sizes.k, k.start),
        };
        let (b_rows, b_columns, b_first) = match layout {
            Layout::Nt => (n, sizes.k, k.start),
            Layout::Nn | Layout::Tn => (k, sizes.n, n.start),
        };
        let a = rows_of(self, a, a_rows, (a_columns, a_first));
        let b = rows_of(self, b, b_rows, (b_columns, b_first));
        let c_first = part * sizes.m + m.start;
        let c_rows = c_first..c_first + (m.end - m.start) * piece.parts();
        let (out, first) = match runs.filter(|_| *unfinished) {
            Some(runs) => (runs, m),
            None => (*out, &c_rows),
        };
        let c = rows_of(self, out, first, (sizes.n, n.start));
        let earlier =
            runs.filter(|_| *begun && !unfinished).and_then(|runs| rows_of(self, runs, m, (sizes.n, n.start)));
        // The bias belongs to the first part, and to its last summands.
        let bias = bias
            .filter(|_| *part == 0 && *last)
            .map(|bias| self.window(bias, n.start.into(), (n.end - n.start).into()));
        let gate = match rectifier {
            Rectifier::Backward(y) if *last => rows_of(self, y, m, (sizes.n, n.start)),
            _ => None,
        };
        let params = Params {
            m: m.end - m.start,
            n: n.end - n.start,
            k: k.end - k.start,
            a_stride: a_columns,
            b_stride: b_columns,
            c_stride: sizes.n,
            split: *split,
            run: summands.run,
        };
        // What a cut leaves of the rows or depths that quads of a factor go along.
        let along = match layout {
            Layout::Tn => params.m,
            Layout::Nn | Layout::Nt => params.k,
        };
        let quads = [a_columns, b_columns, a_first, b_first, along].iter().all(|x| x.is_multiple_of(4));
        let tile = Tile::new(self.gpu().caps(), sizes);
        // The matrices are gone through by quad if all their quads lie in one row, and the result's on their own.
        let whole_rows = [sizes.n, n.start].iter().all(|x| x.is_multiple_of(4));
        let aligned = [&bias, &gate, &earlier, &c].into_iter().flatten().all(|window| window.quads);
        let by_quad = whole_rows && aligned;
        let kernel = match tile.kernel {
            ProductKernel::Tiled => &TILED,
            ProductKernel::Simd => &SIMD,
            ProductKernel::Subgroup => &SUBGROUP,
        };
        let launch = Launch::new(kernel)
            .by_quad(quads)
            .constant("WORKGROUP", tile.workgroup)
            .constant("A_TRANSPOSED", layout == Layout::Tn)
            .constant("B_TRANSPOSED", layout == Layout::Nt)
            .constant("BIASED", bias.is_some())
            .constant("RUNS", params.k.min(*split) > summands.run)
            .constant("RESUMED", *resumed)
            .constant("BEGUN", if *begun { 1 + u32::from(*unfinished) } else { 0 })
            .constant("RECTIFIED", *last && matches!(rectifier, Rectifier::Forward))
            .constant("GATED", gate.is_some())
            .constant("SPARSE", sparse)
            .bind("a", a)
            .bind("b", b)
            .bind("bias", bias)
            .bind("gate", gate)
            .bind("runs", earlier)
            .bind("c", c);
        let launch = tile.constants.iter().fold(launch, |launch, &(name, value)| launch.constant(name, value));
        let launch =
            if by_quad { launch } else { ["bias", "gate", "runs", "c"].into_iter().fold(launch, Launch::by_scalar) };
        self.launch(&launch, &params, *work)
    }
}

/// The bytes of a result, of which there is at least one.
fn bytes_at_least_one(out: &Tensor<f32>) -> u64 {
    (out.len() as u64 * WORD_BYTES).max(1)
}
