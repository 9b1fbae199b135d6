//! The order of additions in matrix products.

use std::ops::Range;

/// Which summands a product adds, and in what order: within a run, in order of `k`; then the runs,
/// in order. Several products can add consecutive summands of the same sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summands {
    /// The number of summands of earlier products.
    pub(crate) before: u32,
    /// The number of summands of all products.
    pub(crate) all: u32,
    /// The number of summands in a run: a multiple of 16.
    pub(crate) run: u32,
}

impl Summands {
    /// The length of a run in a single product. The rounding error grows with the square root of
    /// the length of a run plus the square root of the number of runs.
    pub(crate) const RUN: u32 = 64;

    /// The length of a section, whose runs are added up in a single `f32`.
    pub(crate) const SECTION: u32 = 4096;

    /// All summands, in one product.
    pub(crate) fn whole(all: u32) -> Self {
        Self { before: 0, all, run: Self::RUN }
    }

    /// Splits the summands `k`, numbered over all products, into dispatches of at most `most`
    /// summands. A dispatch has either whole runs or some summands of a single run.
    pub(super) fn steps(self, k: Range<u32>, most: u32) -> impl Iterator<Item = Range<u32>> {
        let Range { start, end } = k;
        let next = move |start: u32| {
            let whole = end - end % self.run;
            match start % self.run {
                _ if start >= end => None,
                // The rest of an unfinished run.
                begun @ 1.. => Some(start..end.min(start.saturating_add(self.run - begun))),
                0 if end - start > most => Some(start..start + most),
                // Whole runs; the last one may be shorter.
                0 if end == self.all || whole == start => Some(start..end),
                0 => Some(start..whole),
            }
        };
        let first = next(start);
        // A product without summands still has to write 0.
        let none = (start == end).then_some(start..end);
        std::iter::successors(first, move |step| next(step.end)).chain(none)
    }
}

/// The order of additions: summands are added into runs, runs into sections, and sections into the
/// total, with compensation of rounding errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) all: u32,
    /// A multiple of 16.
    pub(crate) run: u32,
    /// A multiple of a run.
    pub(crate) section: u32,
}

impl Order {
    /// The order in a single product; `all` remains to be set.
    pub(crate) const OF_A_PRODUCT: Self = Self { all: 0, run: Summands::RUN, section: Summands::SECTION };

    pub(crate) fn sections(self) -> u32 {
        self.all.div_ceil(self.section).max(1)
    }
}
