use crate::error::{Result, expect_len};

/// `max(x, 0)`; NaN stays NaN. See [`Recorder::relu`](crate::Recorder::relu).
#[must_use]
pub fn relu<T: Copy + Into<f64>>(x: &[T]) -> Vec<f64> {
    let one = |&x: &T| {
        let x: f64 = x.into();
        if x > 0.0 || x.is_nan() { x } else { 0.0 }
    };
    x.iter().map(one).collect()
}

/// The gradient of [`relu`], computed from its output.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the slices differ in length.
pub fn relu_backward<T: Copy + Into<f64>>(y: &[T], upstream: &[T]) -> Result<Vec<f64>> {
    expect_len("cpu::relu_backward", "upstream", upstream.len(), y.len())?;
    let one = |(&y, &g): (&T, &T)| {
        let y: f64 = y.into();
        if y > 0.0 || y.is_nan() { g.into() } else { 0.0 }
    };
    Ok(y.iter().zip(upstream).map(one).collect())
}
