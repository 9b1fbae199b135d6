//! The dispatches of a product.

use crate::engine::WORD_BYTES;
use crate::error::Result;
use crate::ops::product::matmul::{Params, Product, Rectifier, SIMD, SUBGROUP, Sums, TILED};
use crate::ops::product::sum_parts::SumOfParts;
use crate::plan::product::{Layout, Piece, ProductSpec};
use crate::plan::summands::Summands;
use crate::plan::tile::{ProductKernel, Tile};
use crate::record::{Launch, Recorder, Window};
use crate::tensor::{Element, Tensor};
use std::ops::Range;

/// The most bytes of partial results in memory at a time.
const PARTS_BYTES: u64 = 64 << 20;

/// The window over rows of a matrix with `columns` columns, from column `first` of the first row
/// on.
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

impl Recorder<'_> {
    pub(crate) fn product(&mut self, product: &Product<'_>, sums: Sums) -> Result<()> {
        let (caps, sizes, out) = (self.gpu().caps(), product.spec.sizes, product.out);
        let bytes = out.len() as u64 * WORD_BYTES;
        let (summands_per_part, at_once) = match sums {
            Sums::Auto => (Tile::new(caps, sizes).summands_per_part(caps, sizes), PARTS_BYTES / bytes.max(1)),
            Sums::Sections { at_once } => (Summands::SECTION.min(sizes.k.max(1)), at_once.into()),
        };
        let parts = sizes.k.div_ceil(summands_per_part).max(1);
        if parts == 1 {
            return self.product_pieces(product, summands_per_part, &mut None);
        }
        // The bias is added to the first part.
        let mut summed = SumOfParts::new(out, parts, at_once);
        for batch in summed.batches(self.gpu().caps()) {
            let scratch = self.output("matmul", [batch.len(), out.len()])?;
            let k = batch.start * summands_per_part..sizes.k.min(batch.end.saturating_mul(summands_per_part));
            let bias = product.bias.filter(|_| batch.start == 0);
            let rows = [batch.len() * sizes.m as usize, sizes.n as usize];
            let of_parts = scratch.reshape(rows)?;
            let summands = Summands::whole(k.end - k.start);
            let batch_product = Product { k, summands, bias, out: &of_parts, ..product.clone() };
            self.product_pieces(&batch_product, summands_per_part, &mut None)?;
            self.sum_parts(&mut summed, &scratch, batch)?;
        }
        Ok(())
    }

    pub(crate) fn product_pieces(
        &mut self,
        product: &Product<'_>,
        summands_per_part: u32,
        runs: &mut Option<Tensor<f32>>,
    ) -> Result<()> {
        let Product { spec, a, b, k, summands, out, .. } = product;
        if out.is_empty() {
            return Ok(());
        }
        let spec = ProductSpec { placed: [*a, *b, &out.real()].map(Tensor::placed), ..*spec };
        let pieces = spec.dispatches(self.gpu().caps(), k, summands_per_part, *summands)?;
        if runs.is_none() && pieces.iter().any(|piece| piece.unfinished) {
            *runs = Some(self.output("matmul", [spec.sizes.m as usize, spec.sizes.n as usize])?);
        }
        pieces.iter().try_for_each(|piece| self.product_piece(product, piece, runs.as_ref()))
    }

    fn product_piece(&mut self, product: &Product<'_>, piece: &Piece, runs: Option<&Tensor<f32>>) -> Result<()> {
        let Product { spec, a, b, bias, rectifier, summands, out, .. } = product;
        let ProductSpec { layout, sizes, sparse, .. } = *spec;
        let Piece { m, n, k, part, summands_per_part, begun, unfinished, resumed, last, work } = piece;
        // The rows of the stored matrix, its number of columns, and the first column of the piece.
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
        // The bias is added once: to the first part, with its last summands.
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
            split: *summands_per_part,
            run: summands.run,
        };
        // The size of the piece along a factor's quads: a cut in this direction can split quads.
        let along = match layout {
            Layout::Tn => params.m,
            Layout::Nn | Layout::Nt => params.k,
        };
        let quads = [a_columns, b_columns, a_first, b_first, along].iter().all(|x| x.is_multiple_of(4));
        let tile = Tile::new(self.gpu().caps(), sizes);
        // The factors are loaded in quads if no quad straddles two rows; the other bindings are
        // checked separately.
        let whole_rows = [sizes.n, n.start].iter().all(|x| x.is_multiple_of(4));
        let aligned = [&bias, &gate, &earlier, &c].into_iter().flatten().all(|window| window.quads);
        let by_quad = whole_rows && aligned;
        let kernel = match tile.kernel {
            ProductKernel::Tiled => &TILED,
            ProductKernel::Simd => &SIMD,
            ProductKernel::Subgroup => &SUBGROUP,
        };
        let launch = Launch::new("matmul", kernel)
            .by_quad(quads)
            .constant("WORKGROUP", tile.workgroup)
            .constant("A_TRANSPOSED", layout == Layout::Tn)
            .constant("B_TRANSPOSED", layout == Layout::Nt)
            .constant("BIASED", bias.is_some())
            .constant("RUNS", params.k.min(*summands_per_part) > summands.run)
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
        let launch = tile.constants().fold(launch, |launch, (name, value)| launch.constant(name, value));
        let launch =
            if by_quad { launch } else { ["bias", "gate", "runs", "c"].into_iter().fold(launch, Launch::by_scalar) };
        self.launch(launch, &params, *work)
    }
}
