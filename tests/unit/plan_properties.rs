//! Properties that plans have for all limits and shapes. The numbers come from a string of bytes,
//! which unit tests draw at random and a fuzzer searches.

use crate::engine::{Caps, Family, storage_size};
use crate::error::Error;
use crate::plan::linear::{LinearPlan, LinearSizes};
use crate::plan::{FIXED_TURNS, PerRow, RowPlan, RowSplit, SegmentEnds, grid, most_turns, turn_budget};

/// The bytes of the largest possible tensor.
pub(crate) const LARGEST: u64 = 1 << 46;

/// Plans with more ranges are not checked, because they would need too much memory.
pub(crate) const MOST_RANGES: u64 = 20_000;

/// Checks a plan of the kind, limits and sizes that `bytes` encode. Missing bytes count as 0.
///
/// # Panics
/// If the plan lacks one of the properties.
#[cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "only the fuzzer needs it public"))]
pub fn planner(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let caps = numbers.caps();
    match numbers.index(6) {
        0 => numbers.check_split(&caps),
        1 => numbers.check_linear(&caps),
        2 => numbers.check_rows(&caps),
        3 => numbers.check_sizes(&caps),
        4 => numbers.check_product(&caps),
        _ => numbers.check_strips(&caps),
    }
}

/// Decodes numbers of all magnitudes: a byte with the number of bits, then the bytes that hold
/// these bits.
pub(crate) struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    /// No bytes: every number is the smallest allowed.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Numbers(&[])
    }

    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn any(&mut self) -> u64 {
        let bits = u32::from(self.byte()) % 65;
        let value = (0..bits.div_ceil(8)).fold(0, |value, _| (value << 8) | u64::from(self.byte()));
        value & u64::MAX.checked_shr(64 - bits).unwrap_or(0)
    }

    pub(crate) fn within(&mut self, least: u64, most: u64) -> u64 {
        match (most - least).checked_add(1) {
            Some(count) => least + self.any() % count,
            None => self.any(),
        }
    }

    pub(crate) fn word(&mut self, least: u32) -> u32 {
        u32::try_from(self.within(least.into(), u32::MAX.into())).unwrap_or(least)
    }

    /// An index below `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.size() % count
    }

    fn size(&mut self) -> usize {
        usize::try_from(self.any()).unwrap_or(usize::MAX)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// Caps that [`Gpu::with_caps`](crate::Gpu::with_caps) accepts on a device without limits.
    pub(crate) fn caps(&mut self) -> Caps {
        let family = if self.flag() { Family::Gpu } else { Family::CpuSimd };
        let simd_width = 4 << self.within(0, 4);
        let max_buffer = self.within(Caps::MIN_BUFFER, u64::MAX) & !Caps::SEGMENT_MASK;
        let subgroup_size = if self.flag() { simd_width } else { 0 };
        let enough_tiles = self.word(0);
        Caps {
            family,
            simd_width,
            subgroup_size,
            enough_tiles,
            max_binding: self.within(Caps::MIN_BINDING, max_buffer) & !15,
            max_buffer,
            storage_align: 4 << self.within(0, 10),
            uniform_align: 16 << self.within(0, 8),
            max_groups: self.word(1),
            max_invocations: self.word(64),
            max_bindings: self.word(Caps::MIN_BINDINGS),
            workgroup_memory: self.word(Caps::MIN_WORKGROUP_MEMORY),
            max_turns: self.word(Caps::MIN_TURNS),
        }
    }

    /// A tensor of `rows` rows, possibly in several buffers.
    fn per_row(&mut self, caps: &Caps, rows: u32) -> PerRow {
        let bytes = self.within(0, LARGEST / u64::from(rows.max(1)));
        let step = caps.max_buffer;
        let cut = step < LARGEST && self.flag();
        PerRow { bytes, segment_ends: cut.then(|| SegmentEnds { first: self.within(1, step), step }) }
    }

    fn check_split(&mut self, caps: &Caps) {
        let rows = self.word(0);
        let tensors = self.within(0, 4);
        let per_row: Vec<_> = (0..tensors).map(|_| self.per_row(caps, rows)).collect();
        let split = RowSplit {
            op: "planner",
            rows,
            per_row: &per_row,
            granule: self.word(1),
            groups_per_granule: self.any(),
            turns_per_granule: self.any(),
        };
        check_split(caps, &split);
    }

    fn check_linear(&mut self, caps: &Caps) {
        let sizes = LinearSizes { tokens: self.size(), inputs: self.size(), classes: self.size() };
        let (scratch, copies, flag) = (self.any(), self.within(1, 2), self.flag());
        check_linear(caps, sizes, (scratch, copies), flag);
        check_linear_update(caps, sizes, scratch, flag);
        LinearPlan::usual_tokens(sizes.classes);
    }

    fn check_rows(&mut self, caps: &Caps) {
        let (classes, inner, rows) = (self.word(0), self.word(0), self.word(0));
        let plan = RowPlan::new(caps, classes, inner);
        for plan in [plan, plan.in_parts(caps, classes, rows), RowPlan::streamed(caps, classes, inner)] {
            check_rows(caps, plan, classes, rows);
        }
    }

    fn check_sizes(&mut self, caps: &Caps) {
        let bytes = self.within(0, LARGEST);
        let size = storage_size(bytes, caps.max_buffer);
        assert!(size >= bytes.max(16) && size.is_multiple_of(16), "{bytes} bytes in {size}");
        let waste = (bytes / 4).max(16).next_multiple_of(16);
        assert!(size - bytes <= waste, "{bytes} bytes in {size}");
        let groups = self.within(0, u64::from(caps.max_groups).pow(2));
        check_grid(caps, groups);
    }
}

pub(crate) fn check_grid(caps: &Caps, groups: u64) {
    let [x, y, z] = grid(groups, caps);
    assert!(x <= caps.max_groups && (1..=caps.max_groups).contains(&y) && z == 1, "{x} x {y} x {z}");
    assert!(u64::from(x) * u64::from(y) >= groups, "{x} x {y} for {groups}");
    assert!(u64::from(x) * u64::from(y) - groups < u64::from(y), "{x} x {y} for {groups}");
}

/// Checks that the error is a limit, and that the need exceeds it.
pub(crate) fn check_error(what: &str, error: &Error) {
    let Error::Limit { needed, allowed, .. } = error else { panic!("{what}: {error}") };
    assert!(needed > allowed, "{what}: {error}");
}

fn check_split(caps: &Caps, split: &RowSplit<'_>) {
    let usable = caps.usable_binding();
    let granule = u64::from(split.granule);
    let widest = split.per_row.iter().map(|tensor| u128::from(tensor.bytes)).max().unwrap_or(0);
    let fits = |rows: u64| {
        let granules = u128::from(rows.div_ceil(granule));
        let groups = granules * u128::from(split.groups_per_granule);
        let turns = granules * u128::from(split.turns_per_granule);
        u128::from(rows) * widest <= u128::from(usable)
            && groups <= u128::from(caps.max_groups).pow(2)
            && turns <= u128::from(most_turns(caps))
    };
    let pieces = |tensor: &PerRow| match &tensor.segment_ends {
        Some(ends) => u64::from(split.rows) * tensor.bytes / ends.step,
        None => 0,
    };
    let by_memory: u64 = split.per_row.iter().map(pieces).sum();
    if by_memory > MOST_RANGES
        || (fits(granule)
            && u64::from(split.rows) / granule > MOST_RANGES
            && !fits(u64::from(split.rows) / MOST_RANGES))
    {
        return;
    }
    let ranges = match split.ranges(caps) {
        Ok(ranges) => ranges,
        Err(error) => {
            assert!(!fits(granule), "{split:?}: {error}");
            return check_error("a split", &error);
        }
    };
    let mut next = 0;
    for range in ranges {
        assert!(range.start == next && range.end > range.start, "{range:?} after {next} of {split:?}");
        assert!(range.end == split.rows || range.end.is_multiple_of(split.granule), "{range:?} of {split:?}");
        let rows = u64::from(range.end - range.start);
        assert!(fits(rows) || rows < granule, "{range:?} of {split:?}");
        check_grid(caps, rows.div_ceil(granule) * split.groups_per_granule);
        for tensor in split.per_row {
            // The binding starts at an aligned offset, up to one alignment before the range.
            let furthest = u64::from(caps.storage_align) - 2;
            let window = (furthest + rows * tensor.bytes).next_multiple_of(4);
            assert!(window <= caps.max_binding, "{window} bytes of {tensor:?} for {range:?} of {split:?}");
            let Some(SegmentEnds { first, step }) = tensor.segment_ends else { continue };
            let (start, end) = (u64::from(range.start) * tensor.bytes, u64::from(range.end) * tensor.bytes);
            let at = if start < first { first } else { first + ((start - first) / step + 1) * step };
            assert!(at >= end || rows <= granule, "{range:?} is cut at {at} of {tensor:?}");
        }
        next = range.end;
    }
    assert_eq!(next, split.rows, "{split:?}");
}

fn check_rows(caps: &Caps, plan: RowPlan, classes: u32, rows: u32) {
    let [workgroup, subgroup, lanes, parts, span, held, held_classes, ..] = plan.constants();
    assert!(workgroup.is_power_of_two() && workgroup <= caps.max_invocations.max(caps.simd_width), "{plan:?}");
    assert!(lanes > 0 && workgroup.is_multiple_of(lanes) && lanes.is_multiple_of(span), "{plan:?}");
    assert!(subgroup == 0 || workgroup.is_multiple_of(subgroup), "{plan:?}");
    assert!(parts.is_power_of_two() && parts <= 64 && (parts == 1 || lanes == workgroup), "{plan:?}");
    assert!(parts == 1 || classes / parts >= 16 * workgroup, "no part is idle: {plan:?}");
    assert!(held == 0 || (held_classes == classes && 16 * held * lanes >= classes), "{plan:?}");
    let at_once = u64::from(workgroup / lanes);
    check_dispatches(caps, plan, classes, rows);
    let groups = plan.groups(rows);
    assert!(groups / u64::from(parts) * at_once >= u64::from(rows), "{groups} groups for {rows} rows: {plan:?}");
}

/// Checks that sweeps with few and many loops, in one dispatch or several, visit each block once
/// and keep to the budget.
fn check_dispatches(caps: &Caps, plan: RowPlan, classes: u32, rows: u32) {
    for sweep in [plan.sweep(0), plan.softmax_sweep(), plan.sweep(0).with_more_turns(20)] {
        let all = plan.work(rows, &[sweep; 3]);
        assert_eq!(plan.fits(caps, &[sweep; 3]), all.turns <= turn_budget(caps), "{plan:?}");
        let most = u64::from(plan.all_blocks().end) * 25 * 64 / u64::from(caps.max_turns);
        if most > MOST_RANGES {
            continue;
        }
        let dispatches = match plan.dispatches("planner", caps, (rows, classes), sweep) {
            Ok(dispatches) => dispatches,
            Err(error) => panic!("{plan:?}: {error}"),
        };
        let mut next = 0;
        for (blocks, work) in dispatches {
            assert!(blocks.start == next && work.turns <= turn_budget(caps), "{blocks:?}, {work:?}: {plan:?}");
            let turns = u64::from(blocks.end - blocks.start) + FIXED_TURNS;
            assert!(work.turns >= turns && work.groups == plan.groups(rows), "{blocks:?}, {work:?}: {plan:?}");
            next = blocks.end;
        }
        assert_eq!(next, plan.all_blocks().end, "{plan:?}");
    }
}

/// The product of the factors, which saturates.
fn product<const N: usize>(factors: [u64; N]) -> u128 {
    factors.into_iter().fold(1, |product, factor| product.saturating_mul(factor.into()))
}

/// Checks the first 2000 chunks, and that they cover all tokens unless there are more chunks.
fn check_chunks(plan: &LinearPlan, tokens: usize) {
    let mut next = 0;
    for chunk in plan.chunks().take(2000) {
        assert!(chunk.start == next && (chunk.end > next || tokens == 0), "{chunk:?} after {next}: {plan}");
        assert!(chunk.len() <= plan.tokens_at_once(), "{chunk:?}: {plan}");
        next = chunk.end;
    }
    assert!(next == tokens || tokens / plan.tokens_at_once() >= 2000, "{next} of {tokens}: {plan}");
}

fn check_linear(caps: &Caps, sizes: LinearSizes, (scratch, copies): (u64, u64), backward: bool) {
    let LinearSizes { tokens, inputs, classes } = sizes;
    let plan = match LinearPlan::new("planner", caps, sizes, (scratch, copies), backward) {
        Ok(plan) => plan,
        Err(error) => return check_error(&format!("{sizes:?}"), &error),
    };
    let at_once = plan.tokens_at_once() as u64;
    let usable = u128::from(caps.usable_binding());
    let logits = product([at_once, classes as u64, 4]);
    assert!((1..=tokens.max(1) as u64).contains(&at_once), "{plan}");
    assert!(logits <= usable && product([at_once, 20]) <= usable, "{plan}");
    assert!(product([inputs as u64, 4]) <= usable, "{plan}");
    let needed = u128::from(copies) * logits;
    if plan.parts() > 1 {
        let sums = product([at_once, inputs as u64, 4, plan.parts()]);
        assert!(sums <= u128::from(caps.max_buffer) && product([at_once, inputs as u64, 4]) <= usable, "{plan}");
        assert!(sums <= u128::from(plan.sums_bytes()), "{plan}");
    }
    assert!(needed <= u128::from(plan.scratch_bytes()) && plan.scratch_bytes() <= scratch, "{needed} bytes: {plan}");
    check_chunks(&plan, tokens);
}

fn check_linear_update(caps: &Caps, sizes: LinearSizes, scratch: u64, by_probabilities: bool) {
    let LinearSizes { tokens, inputs, classes } = sizes;
    let plan = match LinearPlan::with_update("planner", caps, sizes, scratch, by_probabilities) {
        Ok(plan) => plan,
        Err(error) => return check_error(&format!("{sizes:?}"), &error),
    };
    let Some(blocks) = plan.update() else { panic!("no blocks: {plan}") };
    let usable = u128::from(caps.usable_binding());
    let (rows, block) = (blocks.tokens_at_once as u64, blocks.classes_at_once as u64);
    assert!((1..=tokens.max(1) as u64).contains(&rows) && (1..=classes.max(1) as u64).contains(&block), "{plan}");
    let read = if by_probabilities { classes as u64 } else { 1 };
    for bytes in
        [product([rows, block, 4]), product([block, inputs as u64, 4]), product([rows, read, 4]), product([rows, 20])]
    {
        assert!(bytes <= usable, "{bytes} bytes: {plan}");
    }
    let logits = product([rows, block, 4]).max(product([plan.tokens_at_once() as u64, classes as u64, 4]));
    let needed = logits + product([block, inputs as u64, 4]);
    assert!(needed <= u128::from(plan.scratch_bytes()) && plan.scratch_bytes() <= scratch, "{needed} bytes: {plan}");
    check_chunks(&plan, tokens);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs found by a fuzzer: the bytes of a token's logits, and those of a granule of rows,
    /// exceeded 2^64.
    const FOUND: [&[u8]; 3] = [
        &[
            0x08, 0x00, 0x0f, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x14, 0x02, 0xff, 0x80, 0x01, 0x05, 0x11,
            0xff, 0x02, 0x00, 0x00, 0x80, 0x7a, 0x02,
        ],
        &[
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00, 0x07, 0xeb, 0xff, 0xff, 0xff,
            0xff, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xfc, 0x00, 0x04, 0x0d, 0xeb,
            0x08,
        ],
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x05, 0x00, 0x00, 0x01, 0x4d, 0xb2, 0xb2, 0x00, 0x00,
            0xfc, 0x00, 0xea, 0xd5, 0xff, 0xb1, 0xf5, 0xba, 0x0c, 0x0c, 0x2c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00, 0xff, 0xff, 0xf6, 0x0c, 0x30, 0x0c, 0x0c, 0x0c, 0x0c, 0x0c,
            0x00, 0x0c, 0x0c, 0x09, 0x00, 0x00, 0x0c, 0x0c, 0x0c, 0x0a, 0x0b, 0xff, 0x2d,
        ],
    ];

    #[test]
    fn fuzzer_regressions() {
        FOUND.into_iter().for_each(planner);
    }

    #[test]
    fn sizes_past_any_memory_are_planned_or_refused() {
        let huge = [0, 1, 1 << 32, 1 << 62, usize::MAX];
        let most = !Caps::SEGMENT_MASK;
        for family in [Family::Gpu, Family::CpuSimd] {
            for max_binding in [Caps::MIN_BINDING, most & !15] {
                let caps = Caps { family, max_binding, max_buffer: most, ..Numbers::none().caps() };
                for sizes in (0..125).map(|i| [i % 5, i / 5 % 5, i / 25].map(|which| huge[which])) {
                    let [tokens, inputs, classes] = sizes;
                    let sizes = LinearSizes { tokens, inputs, classes };
                    for scratch in [32 << 20, u64::MAX] {
                        check_linear(&caps, sizes, (scratch, 1), true);
                        check_linear(&caps, sizes, (scratch, 2), false);
                        check_linear_update(&caps, sizes, scratch, false);
                        check_linear_update(&caps, sizes, scratch, true);
                    }
                }
            }
        }
    }

    /// The sums of one token exceed a buffer, although its logits fit the binding and the scratch.
    #[test]
    fn errors_name_the_limit_that_is_too_small() {
        let caps = Caps { family: Family::Gpu, max_binding: 1 << 20, max_buffer: 1 << 20, ..Numbers::none().caps() };
        let sizes = LinearSizes { tokens: 10, inputs: 100_000, classes: 250_000 };
        let error = LinearPlan::new("test", &caps, sizes, (32 << 20, 1), true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "test: a buffer's bytes for the parts of one token's sums needs 1600000, the limit is 1048576"
        );
    }

    #[test]
    fn invariants_hold_for_random_input() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let bytes: Vec<u8> = (0..rng.usize(0..160)).map(|_| rng.u8(..)).collect();
            planner(&bytes);
        }
    }
}
