//! The table of the elementwise losses.

/// Calls a macro with all elementwise losses: the name of the operation, that of its form with a request, its
/// options, and the ranges of inputs and targets. Operations, references, exports, [`nn::Loss`](crate::nn::Loss),
/// tests and benches are generated from it.
#[doc(hidden)]
#[macro_export]
macro_rules! elementwise_losses {
    ($callback:ident) => {
        $callback! {
            /// Binary cross-entropy of probabilities and targets, both in [0, 1].
            bce, bce_with: Bce, [0.0, 1.0], [0.0, 1.0];
            /// Binary cross-entropy of logits and targets.
            bce_with_logits, bce_with_logits_with: BceWithLogits, [-9.0, 9.0], [0.0, 1.0];
            /// Huber's loss of an input and targets.
            huber, huber_with: Huber, [-9.0, 9.0], [-9.0, 9.0];
            /// Squared error of an input and targets.
            mse, mse_with: Mse, [-9.0, 9.0], [-9.0, 9.0];
        }
    };
}
