use super::elementwise::{Element, Reference};
use crate::ops::loss::BceWithLogits;

impl Reference for BceWithLogits {
    fn element(&self, Element { x, y, weight, pos_weight }: Element) -> (f64, f64) {
        if x.is_nan() || y.is_nan() {
            return (f64::NAN, f64::NAN);
        }
        let (positive, negative) = (pos_weight * y, 1.0 - y);
        // A factor of 0 times an infinite value is 0: at x = +-infinity the loss is its limit.
        let term = |factor: f64, value: f64| if factor == 0.0 && !value.is_nan() { 0.0 } else { factor * value };
        // softplus(u) = max(u, 0) + tail, with the same tail for x and -x.
        let e = (-x.abs()).exp();
        let loss = term(positive, (-x).max(0.0)) + term(negative, x.max(0.0)) + (positive + negative) * e.ln_1p();
        // (v y + 1 - y) sigmoid(x) - v y, in a form in which neither tail cancels.
        let slope = if x >= 0.0 { negative - positive * e } else { negative * e - positive };
        (term(weight, loss), weight * slope / (1.0 + e))
    }
}
