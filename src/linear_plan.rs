//! How a linear layer's loss is cut: pure integers.

use std::fmt;
use std::ops::Range;

use crate::caps::{Caps, Family};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::options::{LinearBceWithLogits, LinearCrossEntropy};
use crate::pool::size_class;

/// The sizes of a linear layer and its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinearSizes {
    pub(crate) tokens: usize,
    pub(crate) inputs: usize,
    pub(crate) classes: usize,
}

/// How [`Recorder::linear_cross_entropy`](crate::Recorder::linear_cross_entropy) and its like go about their work, and what they need for
/// that.
///
/// # Examples
/// ```
/// use xent::{Gpu, LinearCrossEntropy};
/// # if let Ok(gpu) = Gpu::headless() {
/// let plan = gpu.plan_linear_cross_entropy([8192, 512, 128_256], &LinearCrossEntropy::default(), true)?;
/// assert!(plan.scratch_bytes() <= 32 << 20);
/// println!("{plan}");
/// # }
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearPlan {
    sizes: LinearSizes,
    tokens_at_once: usize,
    /// Of each part of a sum over the classes, where they are summed by parts.
    summands: Option<u32>,
    scratch_bytes: u64,
    backward: bool,
    update: Option<Blocks>,
}

/// How the classes are cut whose weights are updated as soon as their gradient is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) classes_at_once: usize,
    /// Whose logits of these classes are stored at a time.
    pub(crate) tokens_at_once: usize,
}

impl Gpu {
    /// What [`linear_cross_entropy`](crate::Recorder::linear_cross_entropy) would do for sizes `[N, D, V]`, with gradients if `backward`.
    ///
    /// # Errors
    /// [`Error::Limit`] if the scratch that is allowed, a binding or a buffer of this device cannot hold the logits of a single token.
    pub fn plan_linear_cross_entropy(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearCrossEntropy,
        backward: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        LinearPlan::new("plan_linear_cross_entropy", self.caps(), sizes, (options.scratch, 1), backward)
    }

    /// What [`linear_cross_entropy_sgd`](crate::Recorder::linear_cross_entropy_sgd) would do for sizes `[N, D, V]`, with probabilities as
    /// targets if `by_probabilities`.
    ///
    /// # Errors
    /// [`Error::Limit`] if half of the scratch that is allowed, a binding or a buffer of this device cannot hold the logits of a single
    /// token, or a row of the weight.
    pub fn plan_linear_cross_entropy_sgd(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearCrossEntropy,
        by_probabilities: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        let op = "plan_linear_cross_entropy_sgd";
        LinearPlan::with_update(op, self.caps(), sizes, options.scratch, by_probabilities)
    }

    /// What [`linear_bce_with_logits`](crate::Recorder::linear_bce_with_logits) would do for sizes `[N, D, V]`, with gradients if
    /// `backward`.
    ///
    /// # Errors
    /// [`Error::Limit`] if the scratch that is allowed, a binding or a buffer of this device cannot hold the logits of a single token and
    /// their losses.
    pub fn plan_linear_bce_with_logits(
        &self,
        [tokens, inputs, classes]: [usize; 3],
        options: &LinearBceWithLogits,
        backward: bool,
    ) -> Result<LinearPlan> {
        let sizes = LinearSizes { tokens, inputs, classes };
        LinearPlan::new("plan_linear_bce_with_logits", self.caps(), sizes, (options.scratch, 2), backward)
    }
}

impl LinearPlan {
    /// Summands of a part on a GPU: few tokens give it too few tiles otherwise. It depends on nothing that the scratch decides.
    const PART: u32 = 8192;

    /// The statistics of a token's softmax.
    const STATISTICS_BYTES: u64 = 20;

    /// The scratch may have `scratch` bytes, and holds `copies` tensors of the logits' size.
    pub(crate) fn new(
        op: &'static str,
        caps: &Caps,
        sizes: LinearSizes,
        (scratch, copies): (u64, u64),
        backward: bool,
    ) -> Result<Self> {
        let LinearSizes { tokens, inputs, classes } = sizes;
        let parts = (classes as u64).div_ceil(Self::PART.into());
        let by_parts = backward && caps.family == Family::Gpu && parts > 1;
        let logits = |tokens: u64| tokens.saturating_mul(classes as u64).saturating_mul(4);
        let sums = |tokens: u64| tokens.saturating_mul(inputs as u64).saturating_mul(parts.saturating_mul(4));
        let buffer = |bytes| buffer_bytes(caps, bytes);
        let parts_bytes = |tokens: u64| if by_parts { buffer(sums(tokens)) } else { 0 };
        let scratch_of =
            |tokens: u64| copies.saturating_mul(buffer(logits(tokens))).saturating_add(parts_bytes(tokens));
        // What saturates fits nowhere.
        let scratch = scratch.min(u64::MAX - 1);
        let usable = caps.usable_binding();
        let row = (inputs as u64).saturating_mul(4);
        // The losses of elements, all counted.
        let elements = (tokens as u64).saturating_mul(classes as u64);
        if copies > 1 && elements > u64::from(u32::MAX) {
            let (what, allowed) = ("the number of elements", u64::from(u32::MAX));
            return Err(Error::Limit { op, what, needed: elements, allowed });
        }
        if row > usable {
            let what = "a storage binding's bytes for a row of the weight";
            return Err(Error::Limit { op, what, needed: row, allowed: usable });
        }
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
                ("the scratch for the logits of one token", scratch_of(1), scratch)
            } else if by_parts && parts > u64::from(u32::MAX) {
                ("the parts of one token's sums", parts, u32::MAX.into())
            } else {
                ("a buffer's bytes for the parts of one token's sums", sums(1), caps.max_buffer)
            };
            return Err(Error::Limit { op, what, needed, allowed });
        }
        let at_once = largest(tokens, fits);
        let scratch_bytes = scratch_of(at_once as u64);
        let summands = by_parts.then_some(Self::PART);
        Ok(Self { sizes, tokens_at_once: at_once, summands, scratch_bytes, backward, update: None })
    }

    /// The weights are updated as well: the scratch holds the logits of some tokens, all of them or those of a block of classes, and the
    /// gradient of that block's weights. Class indices are words, probabilities as large as logits.
    pub(crate) fn with_update(
        op: &'static str,
        caps: &Caps,
        sizes: LinearSizes,
        scratch: u64,
        by_probabilities: bool,
    ) -> Result<Self> {
        let LinearSizes { tokens, inputs, classes } = sizes;
        let forward = Self::new(op, caps, sizes, (scratch / 2, 1), false)?;
        let usable = caps.usable_binding();
        let bytes = |rows: u64, row: usize| rows.saturating_mul(row as u64).saturating_mul(4);
        let buffer = |bytes| buffer_bytes(caps, bytes);
        let half = |bytes: u64| bytes <= usable && buffer(bytes) <= scratch / 2;
        if !half(bytes(1, inputs)) {
            let (needed, allowed) = (buffer(bytes(1, inputs)), usable.min(scratch / 2));
            return Err(Error::Limit { op, what: "half of the scratch for a row of the weight", needed, allowed });
        }
        let classes_at_once = largest(classes, |rows| half(bytes(rows, inputs)));
        let read = if by_probabilities { classes } else { 1 };
        let tokens_at_once = largest(tokens, |rows| {
            half(bytes(rows, classes_at_once))
                && bytes(rows, read).max(rows.saturating_mul(Self::STATISTICS_BYTES)) <= usable
        });
        let logits = bytes(forward.tokens_at_once as u64, classes).max(bytes(tokens_at_once as u64, classes_at_once));
        let scratch_bytes = buffer(logits) + buffer(bytes(classes_at_once as u64, inputs));
        let update = Some(Blocks { classes_at_once, tokens_at_once });
        Ok(Self { scratch_bytes, backward: true, update, ..forward })
    }

    /// Blocks of classes, if weights are updated.
    pub(crate) fn update(&self) -> Option<Blocks> {
        self.update
    }

    /// How many tokens' logits, of all classes, are stored at a time.
    #[must_use]
    pub fn tokens_at_once(&self) -> usize {
        self.tokens_at_once
    }

    /// The bytes of scratch memory: that of the logits, of binary losses, of the gradient of the weights that are updated next, and on
    /// GPUs of parts of sums. Halves take 256 bytes for each
    /// input beside that.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }

    /// Floating-point operations of the matrix products.
    #[must_use]
    pub fn operations(&self) -> u64 {
        let LinearSizes { tokens, inputs, classes } = self.sizes;
        let product = [2, tokens as u64, inputs as u64, classes as u64].into_iter().fold(1, u64::saturating_mul);
        let products = match (self.backward, self.update) {
            (false, _) => 1,
            (true, None) => 3,
            // The logits twice.
            (true, Some(_)) => 4,
        };
        product.saturating_mul(products)
    }

    /// Tokens of a chunk of the default scratch.
    pub(crate) fn usual_tokens(classes: usize) -> u32 {
        let tokens = LinearCrossEntropy::DEFAULT_SCRATCH / (classes as u64).saturating_mul(4).max(1);
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }

    /// The tokens, chunk by chunk; an empty chunk if there are none.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (tokens, step) = (self.sizes.tokens, self.tokens_at_once);
        (0..tokens.max(1)).step_by(step).map(move |start| start..start.saturating_add(step).min(tokens))
    }

    pub(crate) fn summands(&self) -> Option<u32> {
        self.summands
    }
}

/// The bytes of the buffer that the pool hands out for so many, up to the largest buffer.
fn buffer_bytes(caps: &Caps, bytes: u64) -> u64 {
    size_class(bytes.clamp(16, caps.max_buffer)).min(caps.max_buffer)
}

/// The largest number that fits, at least 1 and up to all of them; whole tiles if it is fewer.
fn largest(all: usize, fits: impl Fn(u64) -> bool) -> usize {
    const TILE: u64 = 64;
    let (mut at_once, mut too_many) = (1, (all as u64).max(1).saturating_add(1));
    while too_many - at_once > 1 {
        let middle = at_once + (too_many - at_once) / 2;
        if fits(middle) { at_once = middle } else { too_many = middle }
    }
    if at_once < all as u64 && at_once > TILE {
        at_once -= at_once % TILE;
    }
    usize::try_from(at_once).unwrap_or(usize::MAX)
}

impl fmt::Display for LinearPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinearSizes { tokens, inputs, classes } = self.sizes;
        let direction = if self.backward { "forward and backward" } else { "forward" };
        let chunks = tokens.div_ceil(self.tokens_at_once.max(1)).max(1);
        let mib = |bytes: u64| bytes.div_ceil(1 << 10);
        write!(
            f,
            "linear layer and loss {tokens} x {inputs} x {classes}, {direction}: {chunks} chunks of {} tokens, {} KiB of scratch",
            self.tokens_at_once,
            mib(self.scratch_bytes)
        )?;
        if let Some(Blocks { classes_at_once, tokens_at_once }) = self.update {
            let blocks = classes.div_ceil(classes_at_once.max(1)).max(1);
            write!(f, ", updates of {blocks} blocks of {classes_at_once} classes by {tokens_at_once} tokens")?;
        }
        if let Some(summands) = self.summands {
            write!(f, ", sums over the classes by parts of {summands}")?;
        }
        write!(f, ", {} operations", self.operations())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(family: Family, max_binding: u64) -> Caps {
        Caps {
            family,
            simd_width: 8,
            quads_per_turn: 4,
            subgroup_size: 0,
            enough_tiles: 128,
            max_binding,
            max_buffer: 1 << 31,
            storage_align: 256,
            uniform_align: 256,
            max_groups: 65535,
            max_invocations: 256,
        }
    }

    /// Every token is in one chunk, chunks fit the scratch and a binding, and one more token would not.
    #[test]
    fn chunks_are_as_large_as_they_may_be() {
        for family in [Family::Gpu, Family::CpuSimd] {
            for backward in [false, true] {
                for tokens in [0, 1, 63, 64, 65, 1000, 8192] {
                    for (inputs, classes) in [(0, 5), (7, 0), (1, 1), (64, 1000), (512, 128_256)] {
                        for scratch in [16 << 10, 1 << 20, 32 << 20] {
                            let caps = caps(family, 1 << 20);
                            let sizes = LinearSizes { tokens, inputs, classes };
                            let plan = match LinearPlan::new("test", &caps, sizes, (scratch, 1), backward) {
                                Ok(plan) => plan,
                                Err(error) => {
                                    assert!(classes as u64 * 4 + 16 > scratch, "{sizes:?} {scratch}: {error}");
                                    continue;
                                }
                            };
                            assert!(plan.scratch_bytes() <= scratch, "{plan}");
                            assert!(plan.tokens_at_once() * classes * 4 <= 1 << 20, "{plan}");
                            let covered: Vec<_> = plan.chunks().flatten().collect();
                            assert_eq!(covered, (0..tokens).collect::<Vec<_>>(), "{plan}");
                            let more = plan.tokens_at_once() + 64;
                            if plan.tokens_at_once() < tokens {
                                let bytes = (more * classes * 4) as u64;
                                let parts = (more * inputs * 4 * classes.div_ceil(8192)) as u64;
                                assert!(bytes > (1 << 20) - 256 || (bytes + parts) * 5 / 4 > scratch, "{plan}");
                            }
                        }
                    }
                }
            }
        }
    }
}
