use super::{LossGrad, broadcast_index, count, expect_len, product, reduce, results, shape_error, upstream_factor};
use crate::error::Result;
use crate::options::{Mse, Reduction};

/// A slice and its shape.
type Shaped<'a, T> = (&'a [T], &'a [usize]);

/// Squared error of an input and targets, each with its shape; see
/// [`Recorder::mse`](crate::Recorder::mse).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if a slice does not have the size of its shape, or the
/// shapes do not fit each other; [`Error::Value`](crate::Error::Value) for weights that are on the
/// GPU; [`Error::Limit`](crate::Error::Limit) for a common shape of 2^32 elements or more.
pub fn mse<T: Copy + Into<f64>>(input: Shaped<'_, T>, targets: Shaped<'_, T>, options: &Mse) -> Result<Vec<f64>> {
    Ok(mse_backward(input, targets, options, None)?.loss)
}

/// [`mse`] and its gradient with respect to `input`.
///
/// # Errors
/// Same as [`mse`], and if `upstream` has neither one element nor one per loss.
#[expect(
    clippy::indexing_slicing,
    reason = "each slice has the size of its shape, and both shapes broadcast to the common one"
)]
pub fn mse_backward<T: Copy + Into<f64>>(
    (input, input_shape): Shaped<'_, T>,
    (targets, targets_shape): Shaped<'_, T>,
    options: &Mse,
    upstream: Option<&[f64]>,
) -> Result<LossGrad> {
    let op = "cpu::mse";
    expect_len(op, "the input", input.len(), product(input_shape))?;
    expect_len(op, "targets", targets.len(), product(targets_shape))?;
    let common = if options.broadcast {
        common_shape(input_shape, targets_shape)
    } else {
        (input_shape == targets_shape).then(|| input_shape.to_vec())
    };
    let Some(shape) = common else {
        let expected = options.expected_targets(&input_shape.into());
        return Err(shape_error(op, "targets", expected, format!("shape {targets_shape:?}")));
    };
    let weight = options.weight.as_ref();
    if let Some(weight) = weight.filter(|weight| weight.shape()[..] != *input_shape) {
        return Err(shape_error(op, "weight", format!("shape {input_shape:?}"), format!("shape {}", weight.shape())));
    }
    let weight = weight.map(|weight| weight.host(op, "weight")).transpose()?;
    let len = product(&shape);
    let mean = match (weight, options.reduction) {
        (Some(values), Reduction::Mean) => values.iter().copied().map(f64::from).sum(),
        _ => count(len),
    };
    let factor = upstream_factor(op, upstream, len, options.reduction, mean)?;
    let mut losses = results(op, len, input.len())?;
    let mut grad = vec![0.0; input.len()];
    for i in 0..len {
        let at = broadcast_index(i, input_shape, &shape);
        let (x, y): (f64, f64) = (input[at].into(), targets[broadcast_index(i, targets_shape, &shape)].into());
        let weight = weight.map_or(1.0, |values| f64::from(values[at]));
        losses.push(weight * ((x - y) * (x - y)));
        grad[at] += factor(i) * (weight * (2.0 * (x - y)));
    }
    Ok(LossGrad { loss: reduce(losses, options.reduction, mean), grad })
}

/// The shape that two shapes broadcast to, if they fit each other.
fn common_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let mut shape = long.to_vec();
    for (dim, &other) in shape.iter_mut().rev().zip(short.iter().rev()) {
        match (*dim, other) {
            (1, _) => *dim = other,
            (_, 1) => {}
            (x, y) if x == y => {}
            _ => return None,
        }
    }
    Some(shape)
}
