//! Learning rates and loss scales that change during training.

use super::runs::check_lr;
use super::{Optimization, Optimizer};
use crate::error::{Error, Result};

impl Optimizer {
    /// Sets the learning rate from the next update on, of all parameters except those of a group
    /// with its own rate; for example to lower it when a loss stagnates. The schedule still
    /// multiplies it. A [`state`](Self::state) includes the current rates, as in PyTorch.
    ///
    /// # Errors
    /// [`Error::Value`] unless the rate is at least 0 and finite; nothing changes then.
    ///
    /// # Examples
    /// ```
    /// use xent::Gpu;
    /// use xent::optim::{Optimization, Optimizer, Parameters, Sgd};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let parameters = Parameters::new(&gpu, &[("weight", [2].into(), &[1.0, 2.0])])?;
    /// let options = Optimization { sgd: Sgd::new().lr(0.1), ..Optimization::default() };
    /// let mut optimizer = Optimizer::new(&parameters, options)?;
    /// optimizer.set_lr(0.01)?;
    /// assert_eq!(optimizer.options().sgd.lr, 0.01);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        check_lr("Optimizer::set_lr", lr)?;
        self.options.sgd.lr = lr;
        self.set_rates();
        Ok(())
    }

    /// Copies the learning rates from the options to the runs of parameters.
    pub(super) fn set_rates(&mut self) {
        let lr = self.options.sgd.lr;
        for run in &mut self.runs {
            let group = run.group.and_then(|group| self.options.groups.get(group));
            run.sgd.lr = group.and_then(|group| group.lr).unwrap_or(lr);
        }
    }

    /// [`set_lr`](Self::set_lr) for a group, by its index in [`Optimization::groups`]. From then on
    /// the group has its own rate.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such group, or as [`set_lr`](Self::set_lr); nothing changes
    /// then.
    pub fn set_group_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        check_lr("Optimizer::set_group_lr", lr)?;
        let count = self.options.groups.len();
        let Some(own) = self.options.groups.get_mut(group) else {
            let expected = format!("below {count}, the number of groups");
            return Err(Error::value("Optimizer::set_group_lr", "the group", expected, group));
        };
        own.lr = Some(lr);
        self.set_rates();
        Ok(())
    }

    /// Checks a loss scale without setting it.
    pub(crate) fn check_loss_scale(&self, loss_scale: f64) -> Result<()> {
        Optimization { loss_scale, ..self.options.clone() }.validate()
    }

    /// Sets a checked loss scale from the next pass on.
    pub(crate) fn set_loss_scale(&mut self, loss_scale: f64) -> Result<()> {
        if self.window.passes > 0 && loss_scale.to_bits() != self.options.loss_scale.to_bits() {
            let expected = "0 where the loss scale changes: flush or discard them";
            let (what, got) = ("the passes since the last update", self.window.passes);
            return Err(Error::value("Training::set_loss_scale", what, expected, got));
        }
        self.options.loss_scale = loss_scale;
        Ok(())
    }

    /// Sets the loss scale of a loaded checkpoint, even in an open window, whose passes have it.
    pub(crate) fn load_loss_scale(&mut self, loss_scale: f64) {
        self.options.loss_scale = loss_scale;
    }
}
