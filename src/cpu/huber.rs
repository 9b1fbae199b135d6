use super::elementwise::{Element, Reference};
use crate::ops::loss::Huber;

impl Reference for Huber {
    fn element(&self, Element { x, y, weight, .. }: Element) -> (f64, f64) {
        let (d, delta) = (x - y, self.delta);
        if d.abs() > delta {
            (weight * (delta * (d.abs() - 0.5 * delta)), weight * d.signum() * delta)
        } else {
            (weight * (0.5 * d * d), weight * d)
        }
    }
}
