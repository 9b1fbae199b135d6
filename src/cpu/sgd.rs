use crate::error::{Result, expect_len};
use crate::ops::update::Sgd;

/// One step of stochastic gradient descent on `values`; see
/// [`Recorder::sgd`](crate::Recorder::sgd).
///
/// `velocity` is empty before the first step with momentum, which fills it.
///
/// # Errors
/// [`Error::Value`](crate::Error::Value) from [`Sgd::validate`];
/// [`Error::Shape`](crate::Error::Shape) if the slices differ in length.
#[expect(clippy::indexing_slicing, reason = "with momentum, the velocity was checked to be as long as the values")]
pub fn sgd<T: Copy + Into<f64>>(values: &mut [f64], grads: &[T], velocity: &mut Vec<f64>, options: &Sgd) -> Result<()> {
    let op = "cpu::sgd";
    options.validate()?;
    expect_len(op, "grads", grads.len(), values.len())?;
    let Sgd { lr, momentum, dampening, weight_decay, .. } = *options;
    let first_step = velocity.is_empty();
    if momentum != 0.0 && first_step {
        velocity.resize(values.len(), 0.0);
    }
    if momentum != 0.0 {
        expect_len(op, "velocity", velocity.len(), values.len())?;
    }
    for (i, (value, &grad)) in values.iter_mut().zip(grads).enumerate() {
        let grad: f64 = grad.into();
        let mut g = if options.maximize { -grad } else { grad };
        if weight_decay != 0.0 {
            g += weight_decay * *value;
        }
        if momentum != 0.0 {
            velocity[i] = if first_step { g } else { momentum * velocity[i] + (1.0 - dampening) * g };
            g = if options.nesterov { g + momentum * velocity[i] } else { velocity[i] };
        }
        *value -= lr * g;
    }
    Ok(())
}
