//! Splits the loss of a linear layer into chunks of tokens and blocks of classes.

use std::fmt;
use std::ops::Range;

use super::summands::Order;
use crate::engine::{Caps, Family, size_class};
use crate::error::{Error, Result, ensure, within};

/// The sizes of a linear layer and its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinearSizes {
    pub(crate) tokens: usize,
    pub(crate) inputs: usize,
    pub(crate) classes: usize,
}

/// How the losses of linear layers split their work, and how much memory they need: see
/// [`Recorder::linear_cross_entropy`](crate::Recorder::linear_cross_entropy).
///
/// # Examples
/// ```
/// use xent::Gpu;
/// use xent::linear::LinearCrossEntropy;
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let plan = gpu.plan_linear_cross_entropy([8192, 512, 128_256], &LinearCrossEntropy::default(), true)?;
/// assert!(plan.scratch_bytes() <= 32 << 20);
/// println!("{plan}");
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearPlan {
    sizes: LinearSizes,
    tokens_at_once: usize,
    /// The number of tokens in a run of a sum over tokens.
    run: u32,
    /// The number of sections of a sum over classes that are in memory at a time.
    sections_at_once: u64,
    scratch_bytes: u64,
    backward: bool,
    update: Option<ClassBlocks>,
}

/// The blocks of classes whose weights are updated as soon as their gradient is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassBlocks {
    pub(crate) classes_at_once: usize,
    /// The number of tokens whose logits of these classes are stored at a time.
    pub(crate) tokens_at_once: usize,
}

impl LinearPlan {
    /// The number of sections of a sum over classes that are always in memory at a time, and the
    /// bytes that more of them may take on a GPU. With few, a product for few tokens has too few
    /// tiles to keep a GPU busy.
    const SECTIONS_AT_ONCE: u64 = 4;
    const BYTES_OF_SECTIONS: u64 = 8 << 20;

    /// The number of tokens in a section of a sum over tokens. Longer sums take memory for the
    /// compensation of rounding errors.
    const TOKENS_PER_SECTION: u32 = 8192;

    /// The default bytes of scratch.
    pub(crate) const DEFAULT_SCRATCH: u64 = 32 << 20;

    /// How error messages name a scratch limit that is too small.
    const SCRATCH: &str = "the scratch for the logits of one token";

    /// The bytes of the statistics of a token's softmax.
    const STATISTICS_BYTES: u64 = 20;

    /// Plans for at most `scratch` bytes of scratch, which holds `copies` tensors of the logits'
    /// size.
    pub(crate) fn new(
        op: &'static str,
        caps: &Caps,
        sizes: LinearSizes,
        (scratch, copies): (u64, u64),
        backward: bool,
    ) -> Result<Self> {
        let LinearSizes { tokens, inputs, classes } = sizes;
        let sections = Self::sections(classes);
        let by_parts = backward && sections > 1;
        let parts = sections.min(Self::SECTIONS_AT_ONCE);
        let logits = |tokens: u64| tokens.saturating_mul(classes as u64).saturating_mul(4);
        let sums = |tokens: u64| tokens.saturating_mul(inputs as u64).saturating_mul(parts.saturating_mul(4));
        let scratch_of = |tokens: u64| copies.saturating_mul(buffer_bytes(caps, logits(tokens)));
        // A size that saturated at u64::MAX must not fit.
        let scratch = scratch.min(u64::MAX - 1);
        let usable = caps.usable_binding();
        let row = (inputs as u64).saturating_mul(4);
        // The losses of all elements are indexed in 32 bits.
        let elements = (tokens as u64).saturating_mul(classes as u64);
        if copies > 1 {
            within(op, "the number of elements", elements, u32::MAX)?;
        }
        within(op, "a storage binding's bytes for a row of the weight", row, usable)?;
        let fits = |tokens: u64| {
            logits(tokens) <= usable
                && tokens.saturating_mul(Self::STATISTICS_BYTES) <= usable
                && scratch_of(tokens) <= scratch
                // The rows of all parts are counted in 32 bits.
                && (!by_parts || tokens.saturating_mul(parts) <= u64::from(u32::MAX))
                && (!by_parts || (sums(tokens) <= caps.max_buffer && sums(tokens) / parts <= usable))
        };
        if !fits(1) {
            let (what, needed, allowed) = if logits(1) > usable {
                ("a storage binding's bytes for the logits of one token", logits(1), usable)
            } else if scratch_of(1) > scratch {
                (Self::SCRATCH, scratch_of(1), scratch)
            } else {
                ("a buffer's bytes for the parts of one token's sums", sums(1), caps.max_buffer)
            };
            return Err(Error::limit(op, what, needed, allowed));
        }
        let run = Self::run(sizes, copies);
        let at_once = largest(tokens, run, fits);
        let more = match caps.family {
            Family::Gpu => {
                let of_section = sums(at_once as u64) / parts.max(1);
                Self::BYTES_OF_SECTIONS.min(caps.max_buffer).checked_div(of_section).unwrap_or(0).min(sections)
            }
            Family::CpuSimd => 0,
        };
        let (scratch_bytes, sections_at_once) = (scratch_of(at_once as u64), parts.max(more).max(1));
        Ok(Self { sizes, tokens_at_once: at_once, run, sections_at_once, scratch_bytes, backward, update: None })
    }

    /// The number of tokens in a run of a sum over tokens: as many as are in memory at a time with
    /// the default scratch, so that runs end where chunks end; but at least 16, at most 64 (128
    /// above 4096 tokens), and a power of two. This must not depend on the actual scratch, because
    /// the sums must not.
    fn run(LinearSizes { tokens, classes, .. }: LinearSizes, copies: u64) -> u32 {
        const LEAST: u64 = 16;
        let most: u64 = if tokens <= 4096 { 64 } else { 128 };
        let words = copies.saturating_mul(classes as u64);
        // Buffers may be a quarter larger than their contents.
        let usual = Self::DEFAULT_SCRATCH / 5 / words.max(1);
        let run = usual.clamp(LEAST, most);
        1 << run.ilog2()
    }

    /// The number of sections of a sum over classes or inputs.
    fn sections(summands: usize) -> u64 {
        (summands as u64).div_ceil(Order::OF_A_PRODUCT.section.into())
    }

    /// The order of additions in sums over tokens.
    pub(crate) fn over_tokens(&self) -> Order {
        let all = u32::try_from(self.sizes.tokens).unwrap_or(u32::MAX);
        Order { all, run: self.run, section: Self::TOKENS_PER_SECTION }
    }

    /// The order of additions in sums over classes.
    pub(crate) fn over_classes(&self) -> Order {
        let all = u32::try_from(self.sizes.classes).unwrap_or(u32::MAX);
        Order { all, ..Order::OF_A_PRODUCT }
    }

    /// The most bytes besides scratch, gradients and inputs. More than 4096 inputs need two tensors
    /// as large as the logits that are in memory at a time. Gradients need
    ///
    /// * a copy of the hidden states of the tokens whose logits are in memory, with ignored tokens
    ///   set to 0;
    /// * for more than 8192 tokens, two tensors as large as the weight's gradient: the sum over the
    ///   current section of up to 8192 tokens, and the rounding errors of the total;
    /// * one more of these if fewer tokens are in memory at a time than a run of that sum has (16
    ///   to 128 tokens);
    /// * for more than 4096 classes, up to five rows of hidden states for each token whose logits
    ///   are in memory; on a GPU more rows, up to 8 MiB.
    ///
    /// In an update, the tensors for sums over tokens are as large as the gradient of a block of
    /// weights, and the tensors for sums over classes have up to three rows for each token of the
    /// batch.
    #[must_use]
    pub fn sums_bytes(&self) -> u64 {
        let LinearSizes { tokens, inputs, classes } = self.sizes;
        let of_logits = self.sums_of_logits();
        if !self.backward {
            return of_logits;
        }
        let copies = |order: Order, at_once: usize| {
            let sections = if order.all > order.section { 2 } else { 0 };
            let runs = u64::from(at_once < order.all as usize && !at_once.is_multiple_of(order.run as usize));
            sections + runs
        };
        let bytes = |rows: usize, copies: u64| (rows as u64).saturating_mul(inputs as u64).saturating_mul(4 * copies);
        match self.update {
            None => {
                let sections = Self::sections(classes);
                let parts = self.sections_at_once;
                let of_parts = match sections {
                    0 | 1 => 0,
                    // Includes the rounding errors of additions.
                    _ => parts + u64::from(sections > parts),
                };
                let weight = bytes(classes, copies(self.over_tokens(), self.tokens_at_once));
                weight.saturating_add(bytes(self.tokens_at_once, 1 + of_parts)).saturating_add(of_logits)
            }
            Some(ClassBlocks { classes_at_once, tokens_at_once }) => {
                let weight = bytes(classes_at_once, copies(self.over_tokens(), tokens_at_once));
                let hidden = bytes(tokens, copies(self.over_classes(), classes_at_once));
                weight.saturating_add(hidden).saturating_add(bytes(tokens_at_once, 1)).saturating_add(of_logits)
            }
        }
    }

    /// If there are more inputs than a section has, the logits are sums of several sections. This
    /// is the memory, in bytes, for one section's sums and for the rounding errors of adding
    /// sections.
    fn sums_of_logits(&self) -> u64 {
        let LinearSizes { inputs, classes, .. } = self.sizes;
        if Self::sections(inputs) <= 1 {
            return 0;
        }
        let bytes = |tokens: usize, classes: usize| (tokens as u64).saturating_mul(classes as u64).saturating_mul(8);
        let of_block = self.update.map_or(0, |blocks| bytes(blocks.tokens_at_once, blocks.classes_at_once));
        bytes(self.tokens_at_once, classes).max(of_block)
    }

    /// Plans an update of the weights as well. Half of the scratch holds logits of some tokens: all
    /// classes, or a block of classes. The other half holds the gradient of that block's weights.
    /// The targets and the statistics of these tokens must each fit a binding; targets take a word
    /// per token, or, with `by_probabilities`, a word per token and class.
    pub(crate) fn with_update(
        op: &'static str,
        caps: &Caps,
        sizes: LinearSizes,
        scratch: u64,
        by_probabilities: bool,
    ) -> Result<Self> {
        let LinearSizes { tokens, inputs, classes } = sizes;
        let forward = Self::new(op, caps, sizes, (scratch / 2, 1), false).map_err(|error| match error {
            // `new` got half of the caller's scratch.
            Error::Limit { op, what: Self::SCRATCH, needed, .. } => {
                let what = "the scratch, of which one half holds the logits of a token,";
                Error::limit(op, what, needed.saturating_mul(2), scratch)
            }
            error => error,
        })?;
        let usable = caps.usable_binding();
        let bytes = |rows: u64, row: usize| rows.saturating_mul(row as u64).saturating_mul(4);
        let buffer = |bytes| buffer_bytes(caps, bytes);
        let half = |bytes: u64| bytes <= usable && buffer(bytes) <= scratch / 2;
        let (what, row) = ("half of the scratch for a row of the weight", bytes(1, inputs));
        ensure!(half(row), Error::limit(op, what, buffer(row), usable.min(scratch / 2)));
        let of_classes = Order::OF_A_PRODUCT.run;
        let classes_at_once = largest(classes, of_classes, |rows| half(bytes(rows, inputs)));
        let read = if by_probabilities { classes } else { 1 };
        let tokens_at_once = largest(tokens, forward.run, |rows| {
            half(bytes(rows, classes_at_once))
                && bytes(rows, read).max(rows.saturating_mul(Self::STATISTICS_BYTES)) <= usable
        });
        let logits = bytes(forward.tokens_at_once as u64, classes).max(bytes(tokens_at_once as u64, classes_at_once));
        let scratch_bytes = buffer(logits) + buffer(bytes(classes_at_once as u64, inputs));
        let update = Some(ClassBlocks { classes_at_once, tokens_at_once });
        Ok(Self { scratch_bytes, backward: true, update, ..forward })
    }

    /// The blocks of classes, if weights are updated.
    pub(crate) fn update(&self) -> Option<ClassBlocks> {
        self.update
    }

    /// The number of tokens whose logits, of all classes, are stored at a time.
    #[must_use]
    pub fn tokens_at_once(&self) -> usize {
        self.tokens_at_once
    }

    /// The bytes of scratch memory, for logits, binary losses, and the gradient of the weights that
    /// are updated next. If hidden states are 16-bit, the gradients of 64 tokens' hidden states are
    /// also in memory in `f32`: another 256 bytes per input. See also
    /// [`sums_bytes`](Self::sums_bytes).
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }

    /// The floating-point operations of the matrix products.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let LinearSizes { tokens, inputs, classes } = self.sizes;
        let product = [2, tokens as u64, inputs as u64, classes as u64].into_iter().fold(1, u64::saturating_mul);
        let products = match (self.backward, self.update) {
            (false, _) => 1,
            (true, None) => 3,
            // The logits are computed twice.
            (true, Some(_)) => 4,
        };
        product.saturating_mul(products)
    }

    /// The number of tokens in a chunk with the default scratch.
    pub(crate) fn usual_tokens(classes: usize) -> u32 {
        let tokens = Self::DEFAULT_SCRATCH / (classes as u64).saturating_mul(4).max(1);
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// The range of tokens of each chunk; one empty range if there are no tokens.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (tokens, step) = (self.sizes.tokens, self.tokens_at_once);
        (0..tokens.max(1)).step_by(step).map(move |start| start..start.saturating_add(step).min(tokens))
    }

    /// The number of sections of a sum over classes that are in memory at a time.
    pub(crate) fn sections_at_once(&self) -> u32 {
        u32::try_from(self.sections_at_once).unwrap_or(u32::MAX)
    }

    /// The number of parts of a sum over classes, for the checks of plans.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn parts(&self) -> u64 {
        if self.backward && self.update.is_none() { self.sections_at_once } else { 1 }
    }
}

/// The size of the pool's buffer for `bytes` bytes, at most that of the largest buffer.
fn buffer_bytes(caps: &Caps, bytes: u64) -> u64 {
    size_class(bytes.clamp(16, caps.max_buffer)).min(caps.max_buffer)
}

/// The largest number from 1 to `all` that fits. A number below `all` is rounded down to whole
/// tiles and runs, or, if that would be 0, to whole runs; a number below one run stays as it is.
fn largest(all: usize, run: u32, fits: impl Fn(u64) -> bool) -> usize {
    const TILE: u64 = 64;
    let (mut at_once, mut too_many) = (1, (all as u64).max(1).saturating_add(1));
    while too_many - at_once > 1 {
        let middle = at_once + (too_many - at_once) / 2;
        if fits(middle) { at_once = middle } else { too_many = middle }
    }
    let run = u64::from(run);
    let unit = if at_once >= run.max(TILE) { run.max(TILE) } else { run };
    if at_once < all as u64 && at_once > unit {
        at_once -= at_once % unit;
    }
    usize::try_from(at_once).unwrap_or(usize::MAX)
}

impl fmt::Display for LinearPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinearSizes { tokens, inputs, classes } = self.sizes;
        let direction = if self.backward { "forward and backward" } else { "forward" };
        let chunks = tokens.div_ceil(self.tokens_at_once.max(1)).max(1);
        let kib = |bytes: u64| bytes.div_ceil(1 << 10);
        write!(
            f,
            "linear layer and loss {tokens} x {inputs} x {classes}, {direction}: {chunks} chunks of {} tokens, {} KiB of scratch",
            self.tokens_at_once,
            kib(self.scratch_bytes)
        )?;
        if let Some(ClassBlocks { classes_at_once, tokens_at_once }) = self.update {
            let blocks = classes.div_ceil(classes_at_once.max(1)).max(1);
            write!(f, ", updates of {blocks} blocks of {classes_at_once} classes by {tokens_at_once} tokens")?;
        }
        if self.sums_bytes() > 0 {
            write!(f, ", {} KiB for sums", kib(self.sums_bytes()))?;
        }
        write!(f, ", {} operations", self.operations())
    }
}
