use super::elementwise::{Element, Reference};
use crate::ops::loss::Bce;

impl Reference for Bce {
    fn out_of_range(&self, Element { x: p, y, .. }: Element) -> Option<(&'static str, f64, &'static str)> {
        let outside = |(_, value): &(&'static str, f64)| !(0.0..=1.0).contains(value);
        let (what, value) = [("a probability", p), ("a target", y)].into_iter().find(outside)?;
        Some((what, value, "in 0..=1"))
    }

    fn element(&self, Element { x: p, y, weight, .. }: Element) -> (f64, f64) {
        let loss = (y - 1.0) * (-p).ln_1p().max(-100.0) - y * p.ln().max(-100.0);
        (weight * loss, weight * (p - y) / ((1.0 - p) * p).max(f64::from(1e-12f32)))
    }
}
