//! The order in which sums of products are formed.

use std::ops::Range;

/// How the summands of a product are added up: run by run, each from its first summand on. They may be some of the sums' summands, and
/// other products have the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summands {
    /// Summands of earlier products.
    pub(crate) before: u32,
    /// Those of all products.
    pub(crate) all: u32,
    /// Those of a run: a multiple of 16.
    pub(crate) run: u32,
}

impl Summands {
    /// Of a run of a product by itself. Errors of a sum of `n` numbers that is a sum of runs grow with the square roots of a run's length and of
    /// the number of runs.
    pub(crate) const RUN: u32 = 64;

    /// Of a section, whose sum of runs is in one number.
    pub(crate) const SECTION: u32 = 4096;

    /// All summands of sums, in one product.
    pub(crate) fn whole(all: u32) -> Self {
        Self { before: 0, all, run: Self::RUN }
    }

    /// The summands of a product, at most so many whole runs at once, and cut where one dispatch cannot have parts of two runs. `k` is counted
    /// like `before`.
    pub(super) fn steps(self, k: Range<u32>, most: u32) -> impl Iterator<Item = Range<u32>> {
        let Range { start, end } = k;
        let next = move |start: u32| {
            let whole = end - end % self.run;
            match start % self.run {
                _ if start >= end => None,
                // The rest of a run that was begun.
                begun @ 1.. => Some(start..end.min(start.saturating_add(self.run - begun))),
                0 if end - start > most => Some(start..start + most),
                // Whole runs, and the last.
                0 if end == self.all || whole == start => Some(start..end),
                0 => Some(start..whole),
            }
        };
        let first = next(start);
        // No summands are a product as well: 0.
        let none = (start == end).then_some(start..end);
        std::iter::successors(first, move |step| next(step.end)).chain(none)
    }
}

/// In which order sums are formed: summands by runs, runs by sections, and sections with what additions round off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) all: u32,
    /// A multiple of 16.
    pub(crate) run: u32,
    /// A multiple of a run.
    pub(crate) section: u32,
}

impl Order {
    /// That of a product by itself, but for the number of summands.
    pub(crate) const OF_A_PRODUCT: Self = Self { all: 0, run: Summands::RUN, section: Summands::SECTION };

    pub(crate) fn sections(self) -> u32 {
        self.all.div_ceil(self.section).max(1)
    }
}
