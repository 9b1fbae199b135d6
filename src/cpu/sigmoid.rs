use crate::error::{Result, expect_len};

/// `1 / (1 + exp(-x))`; see [`Recorder::sigmoid`](crate::Recorder::sigmoid).
#[must_use]
pub fn sigmoid<T: Copy + Into<f64>>(x: &[T]) -> Vec<f64> {
    let one = |&x: &T| {
        let x: f64 = x.into();
        let e = (-x.abs()).exp();
        if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
    };
    x.iter().map(one).collect()
}

/// The gradient of [`sigmoid`], computed from its output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slices differ in length.
pub fn sigmoid_backward<T: Copy + Into<f64>>(y: &[T], upstream: &[T]) -> Result<Vec<f64>> {
    expect_len("cpu::sigmoid_backward", "upstream", upstream.len(), y.len())?;
    let one = |(&y, &g): (&T, &T)| {
        let (y, g): (f64, f64) = (y.into(), g.into());
        g * (y * (1.0 - y))
    };
    Ok(y.iter().zip(upstream).map(one).collect())
}
