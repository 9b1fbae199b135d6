//! The table of the elementwise losses.

/// Calls a macro with one entry for each elementwise loss: the operation, its form with a request,
/// the reference's gradient function, the type of the options, and the ranges of inputs and of
/// targets in tests, which tell probabilities (both from 0), logits (targets from 0) and
/// differences apart. The macros generate modules, operations, references, exports,
/// [`nn::Loss`](crate::nn::Loss), tests and benches.
#[doc(hidden)]
#[macro_export]
macro_rules! elementwise_losses {
    ($callback:ident) => {
        $callback! {
            /// Binary cross-entropy of probabilities and targets, both in [0, 1].
            bce, bce_with, bce_backward: Bce, [0.0, 1.0], [0.0, 1.0];
            /// Binary cross-entropy of logits and targets.
            bce_with_logits, bce_with_logits_with, bce_with_logits_backward: BceWithLogits, [-9.0, 9.0], [0.0, 1.0];
            /// Huber's loss of an input and targets.
            huber, huber_with, huber_backward: Huber, [-9.0, 9.0], [-9.0, 9.0];
            /// Squared error of an input and targets.
            mse, mse_with, mse_backward: Mse, [-9.0, 9.0], [-9.0, 9.0];
        }
    };
}
