use super::elementwise::{Element, Reference};
use crate::ops::loss::Mse;

impl Reference for Mse {
    fn element(&self, Element { x, y, weight, .. }: Element) -> (f64, f64) {
        let d = x - y;
        (weight * (d * d), weight * (2.0 * d))
    }
}
