//! Properties that plans of products and strips have for all sizes and all positions in memory.

use std::collections::BTreeSet;
use std::ops::Range;

use super::properties::{LARGEST, MOST_RANGES, Numbers, check_error, check_grid};
use crate::engine::{Caps, WORD_BYTES};

use super::product::{Layout, Piece, ProductSpec};
use super::strips::Classes;
use super::strips::Strip;
use super::summands::Summands;
use super::tile::{Sizes, Tile};
use super::{Placed, most_groups, most_turns, turn_budget};

impl Numbers<'_> {
    /// The position of a tensor of words or halves, possibly in several buffers.
    fn placed(&mut self, caps: &Caps, element: u64) -> Placed {
        let cut = caps.max_buffer < LARGEST && self.flag();
        let offset = self.within(0, LARGEST / WORD_BYTES) * element;
        Placed { offset, element, segment: cut.then_some(caps.max_buffer) }
    }

    pub(crate) fn check_product(&mut self, caps: &Caps) {
        let layout = [Layout::Nn, Layout::Nt, Layout::Tn][self.index(3)];
        let [m, n, k] = std::array::from_fn(|_| self.word(0));
        let sizes = Sizes { m, n, k };
        let halves = self.flag();
        let element = if halves { WORD_BYTES / 2 } else { WORD_BYTES };
        let placed = [element, element, WORD_BYTES].map(|element| self.placed(caps, element));
        let split = match self.index(3) {
            0 => k.max(1),
            1 => Tile::new(caps, sizes).summands_per_part(caps, sizes),
            _ => self.word(1).min(k.max(1)),
        };
        let run = 16 << self.index(4);
        // Either a sum of its own, or a share of a sum that other products complete.
        let running = self.flag() && split == k.max(1);
        let before = if running { self.word(0) % (u32::MAX - k).max(1) } else { 0 };
        let all = if running { before + k + self.word(0) % (u32::MAX - k - before).max(1) } else { k };
        let first = if running { self.word(0) % k.max(1) } else { 0 };
        let (k_range, summands) = (first..k, Summands { before, all: all - first, run });
        let exist = [(m, k), (k, n), (m, n)].iter().all(|&(rows, columns)| exists(&[rows, columns]));
        if exist && m > 0 && n > 0 {
            let sparse = self.flag();
            check_product(caps, ProductSpec { layout, sizes, placed, sparse }, &k_range, (split, summands));
        }
    }

    pub(crate) fn check_strips(&mut self, caps: &Caps) {
        let [outer, classes, inner] = std::array::from_fn(|_| self.word(0));
        let whole = Classes { outer, classes, inner };
        let elements = [WORD_BYTES, WORD_BYTES / 2].map(|element| self.placed(caps, element));
        let tensors: Vec<_> = (0..self.within(1, 3)).map(|_| elements[self.index(2)]).collect();
        let (bytes, groups) = (self.within(0, 5) * WORD_BYTES, 1 << self.within(0, 6));
        if exists(&[outer, classes, inner]) && u64::from(outer) * u64::from(inner) <= u32::MAX.into() {
            check_strips(caps, whole, &tensors, bytes, groups);
        }
    }
}

/// Whether a tensor with these dimensions can exist.
fn exists(dims: &[u32]) -> bool {
    let elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim.max(1).into()));
    elements.is_some_and(|elements| elements <= LARGEST / WORD_BYTES)
}

/// An upper bound of the number of ranges that `rows` are split into.
fn most_ranges(caps: &Caps, rows: u64, tensors: &[(Placed, u64)], groups: u64) -> u64 {
    let by_tensor = |(placed, row): &(Placed, u64)| {
        let bytes = u128::from(rows) * u128::from(placed.element) * u128::from(*row);
        2 * bytes / u128::from(caps.usable_binding()) + 2 * bytes / u128::from(placed.segment.unwrap_or(u64::MAX))
    };
    let by_groups = 2 * u128::from(rows) * u128::from(groups) / u128::from(caps.max_groups).pow(2);
    let all = tensors.iter().map(by_tensor).sum::<u128>() + by_groups + 2;
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// Checks that `rows` fit a binding wherever they start.
fn check_window(caps: &Caps, rows: u64, columns: u64, element: u64) {
    let furthest = u64::from(caps.storage_align) - element;
    let bytes = u128::from(furthest) + u128::from(rows) * u128::from(columns) * u128::from(element);
    assert!(bytes.next_multiple_of(4) <= caps.max_binding.into(), "{rows} x {columns} in a binding");
}

/// Checks that the ranges, in any order and with repetitions, make up all of `0..size`. Returns the
/// number of different ranges.
fn check_cover<'a>(ranges: impl Iterator<Item = &'a Range<u32>>, size: u32) -> usize {
    let ranges: BTreeSet<_> = ranges.map(|range| (range.start, range.end)).collect();
    let end = ranges.iter().fold(0, |next, &(start, end)| {
        assert!(start == next && (end > start || size == 0), "{start}..{end} after {next}");
        end
    });
    assert_eq!(end, size);
    ranges.len()
}

fn check_product(caps: &Caps, spec: ProductSpec, summed: &Range<u32>, (split, summands): (u32, Summands)) {
    let ProductSpec { layout, sizes, placed: [a, b, c], sparse } = spec;
    let Sizes { m, n, k } = sizes;
    let (by_m, by_k) = match layout {
        Layout::Tn => (vec![(c, n.into())], vec![(a, m.into()), (b, n.into())]),
        Layout::Nn => (vec![(c, n.into()), (a, k.into())], vec![(b, n.into())]),
        Layout::Nt => (vec![(c, n.into()), (a, k.into())], vec![]),
    };
    let by_n = if layout == Layout::Nt { vec![(b, k.into())] } else { vec![] };
    let tile = Tile::new(caps, sizes);
    let parts = (summed.end - summed.start).div_ceil(split).max(1);
    let by_turns = tile.turns(k, summands.run, sparse) / (most_turns(caps) / 2).max(1);
    let many = [
        most_ranges(caps, m.into(), &by_m, n.div_ceil(tile.columns).into()),
        most_ranges(caps, n.into(), &by_n, 1),
        2 * (most_ranges(caps, k.into(), &by_k, 0) + by_turns + u64::from(parts)),
    ];
    if many.into_iter().fold(1, u64::saturating_mul) > MOST_RANGES {
        return;
    }
    let what = || format!("{spec:?} {summed:?} by {split}, {summands:?}");
    let pieces = match spec.dispatches(caps, summed, split, summands) {
        Ok(pieces) => pieces,
        Err(error) => {
            let usable = caps.usable_binding();
            let rows = by_m.iter().chain(&by_n).chain(&by_k).all(|(placed, row)| placed.element * row <= usable);
            let grid = u64::from(n.div_ceil(tile.columns)) <= most_groups(caps);
            assert!(!rows || !grid, "{}: {error}", what());
            return check_error(&what(), &error);
        }
    };
    let rectangles =
        check_cover(pieces.iter().map(|piece| &piece.m), m) * check_cover(pieces.iter().map(|piece| &piece.n), n);
    // The next summand of each rectangle of the result.
    let mut sums = std::collections::BTreeMap::new();
    for piece in &pieces {
        let rectangle = (piece.m.start, piece.m.end, piece.n.start, piece.n.end);
        let next = sums.entry(rectangle).or_insert(summed.start);
        let all = piece.k.start == *next && (piece.k.end > *next || summed.is_empty());
        assert!(all, "{piece:?} after {next} of {}", what());
        *next = piece.k.end;
        check_piece(caps, (&spec, &tile), (summed, split, summands), piece, &what);
    }
    assert!(sums.len() == rectangles && sums.values().all(|&end| end == summed.end), "{}", what());
}

fn check_piece(
    caps: &Caps,
    (ProductSpec { layout, sizes, placed, sparse }, tile): (&ProductSpec, &Tile),
    (summed, split, summands): (&Range<u32>, u32, Summands),
    piece: &Piece,
    what: &dyn Fn() -> String,
) {
    let Sizes { m, n, k } = *sizes;
    let size = |range: &Range<u32>| u64::from(range.end - range.start);
    let (parts, of_all) = (piece.parts(), size(summed).div_ceil(split.into()).max(1));
    let groups = tile.groups(piece.m.end - piece.m.start, piece.n.end - piece.n.start) * u64::from(parts);
    assert_eq!(piece.work.groups, groups, "{piece:?} {}", what());
    check_grid(caps, groups);
    // Summands are counted within their part, or within the sum that other products complete.
    let part = summed.start + piece.part * split;
    let (first, last) = (piece.k.start - part + summands.before, piece.k.end - part + summands.before);
    let all = if of_all > 1 { (summed.end - summed.start).min(split) } else { summands.all };
    let run = summands.run;
    if parts > 1 {
        assert!(piece.k == *summed && piece.last && !piece.begun && !piece.unfinished, "{piece:?} {}", what());
    } else {
        assert!(piece.k.start >= part && size(&(part..piece.k.end)) <= split.into(), "{piece:?} {}", what());
        assert_eq!(piece.begun, !first.is_multiple_of(run), "{piece:?} {}", what());
        let end = if of_all > 1 { summed.end.min(part.saturating_add(split)) - part } else { all };
        assert_eq!(piece.last, last == end, "{piece:?} {}", what());
        assert_eq!(piece.unfinished, !last.is_multiple_of(run) && last != end, "{piece:?} {}", what());
        assert_eq!(piece.resumed, first >= run && !piece.unfinished, "{piece:?} {}", what());
        let runs = last.div_ceil(run).saturating_sub(first / run);
        assert!(!(piece.begun || piece.unfinished) || runs <= 1, "{piece:?} {}", what());
    }
    let turns = tile.turns((piece.k.end - piece.k.start).min(split), run, *sparse);
    assert!(turns <= piece.work.turns && piece.work.turns <= turn_budget(caps), "{piece:?} {}", what());
    let (a_rows, a_columns) = if *layout == Layout::Tn { (&piece.k, m) } else { (&piece.m, k) };
    let (b_rows, b_columns) = if *layout == Layout::Nt { (&piece.n, k) } else { (&piece.k, n) };
    check_window(caps, size(a_rows), a_columns.into(), placed[0].element);
    check_window(caps, size(b_rows), b_columns.into(), placed[1].element);
    if parts == 1 {
        check_window(caps, size(&piece.m), n.into(), WORD_BYTES);
    } else {
        // Partial results start at the beginning of their buffer.
        assert!(u64::from(parts) * u64::from(m) * u64::from(n) * WORD_BYTES <= caps.max_binding, "{}", what());
    }
}

fn check_strips(caps: &Caps, whole: Classes, tensors: &[Placed], bytes: u64, groups: u64) {
    let Classes { outer, classes, inner } = whole;
    let what = || format!("{whole:?} {tensors:?}, {bytes} bytes and {groups} groups a row");
    let (part, width) = (whole.elements_per_outer(), u64::from(inner));
    let row = Placed { offset: 0, element: 1, segment: None };
    let by_outer: Vec<_> = tensors.iter().map(|&placed| (placed, part)).chain([(row, bytes * width)]).collect();
    let outer_ranges = most_ranges(caps, outer.into(), &by_outer, groups * width);
    let by_inner: Vec<_> = tensors
        .iter()
        .map(|&placed| (Placed { segment: None, ..placed }, classes.into()))
        .chain([(row, bytes)])
        .collect();
    let inner_ranges = most_ranges(caps, width, &by_inner, groups).saturating_mul(outer.into());
    if outer_ranges.max(inner_ranges) > MOST_RANGES {
        return;
    }
    let strips = match Strip::all("planner", caps, whole, tensors, bytes, groups) {
        Ok(strips) => strips,
        Err(error) => {
            let fits = |rows: u64| {
                let row = tensors.iter().map(|placed| placed.element * u64::from(classes)).chain([bytes]).max();
                rows * row.unwrap_or(0) <= caps.usable_binding() && rows * groups <= most_groups(caps)
            };
            let apart = |placed: &Placed| placed.offset | (width * placed.element);
            let words = tensors.iter().all(|placed| apart(placed).is_multiple_of(WORD_BYTES));
            let smallest = if tensors.iter().any(|placed| placed.element < WORD_BYTES) { 2 } else { 1 };
            assert!(!(fits(width) || (width > 1 && words && fits(smallest))), "{}: {error}", what());
            return check_error(&what(), &error);
        }
    };
    let mut next = 0;
    for strip in &strips {
        let Classes { outer, classes: own, inner } = strip.dims();
        let rows = u64::from(outer) * u64::from(inner);
        assert!(strip.first_row() == next && rows > 0 && own == classes, "{strip:?} after {next} of {}", what());
        next += rows;
        check_window(caps, rows, bytes, 1);
        check_grid(caps, rows * groups);
        for placed in tensors {
            check_window(caps, rows, classes.into(), placed.element);
            check_copies(strip, whole, placed);
        }
    }
    assert_eq!(next, u64::from(whole.rows()), "{}", what());
}

/// Checks that the strip's rows are copied class after class, in whole words, from their positions
/// in the tensor.
fn check_copies(strip: &Strip, whole: Classes, placed: &Placed) {
    let inner = u64::from(whole.inner);
    let (part, within) = (strip.first_row() / inner, strip.first_row() % inner);
    let total = u64::from(whole.outer) * whole.elements_per_outer() * placed.element;
    let mut gathered = 0;
    for (class, (from, to, bytes)) in (0..).zip(strip.copies(placed.element).take(100)) {
        let words = [placed.offset + from, to, bytes].iter().all(|position| position.is_multiple_of(WORD_BYTES));
        let there = part * whole.elements_per_outer() + class * inner + within;
        assert!(from == there * placed.element && from + bytes <= total, "{from} of {bytes} bytes: {strip:?}");
        assert!(to == gathered && (words || bytes == 0), "{from} to {to}, {bytes} bytes: {strip:?}");
        gathered += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Family;

    /// A product of few results and many summands has many parts. They share one dispatch only if
    /// the grid holds their workgroups.
    #[test]
    fn parts_of_sums_keep_to_the_grid() {
        let sizes = Sizes { m: 32, n: 32, k: 1 << 16 };
        let placed = [Placed { offset: 0, element: WORD_BYTES, segment: None }; 3];
        for (max_groups, dispatches) in [(65535, 1), (8, 1), (7, 64)] {
            let large =
                Caps { family: Family::Gpu, max_binding: 1 << 30, max_buffer: 1 << 40, ..Numbers::none().caps() };
            let caps = Caps { max_groups, max_turns: 65535, ..large };
            let split = Tile::new(&caps, sizes).summands_per_part(&caps, sizes);
            let spec = ProductSpec { layout: Layout::Nt, sizes, placed, sparse: false };
            let (all, summands) = (0..sizes.k, Summands::whole(sizes.k));
            check_product(&caps, spec, &all, (split, summands));
            assert_eq!(spec.dispatches(&caps, &all, split, summands).unwrap().len(), dispatches);
        }
    }
}
