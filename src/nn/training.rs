//! A training step: forward pass, losses, backward pass and update in one recording.

use crate::engine::Gpu;
use crate::error::{Error, Result, ensure};
use crate::ops::loss::Reduction;
use crate::ops::loss::{Denominator, LossOutput, Targets};
use crate::optim::{Optimization, Optimizer, UpdateReport, WindowMean};
use crate::record::{Readback, Recorder};
use crate::state::{LoadOptions, State};
use crate::tensor::{Shape, Tensor, narrow};

use super::loss::Loss;
use super::model::Model;

/// The prefix of the optimiser's tensors in a checkpoint.
const OPTIMIZER: &str = "optimizer.";

/// The key of the note with the loss scale.
const LOSS_SCALE: &str = "loss_scale";

/// The outputs of a training step.
#[derive(Clone, Debug)]
pub struct StepOutputs {
    /// The loss of each head on this mini-batch, without its weight.
    pub losses: Vec<Tensor<f32>>,
    /// The loss of each head over the passes of the window so far, combined as [`WindowMean`]
    /// says. After the last pass of a window, it is the loss whose gradient the update takes.
    /// (An unreduced loss counts as its sum.) Without accumulation, these are the `losses`.
    pub window_losses: Vec<Tensor<f32>>,
    /// The outputs of the heads before the update.
    pub outputs: Vec<Tensor<f32>>,
    /// The report of the update, if there was one with norm clipping or the guard.
    pub report: Option<UpdateReport>,
}

/// A model with its losses and its optimiser.
#[derive(Debug)]
pub struct Training {
    model: Model,
    losses: Vec<Loss>,
    mode: Mode,
    optimizer: Optimizer,
    /// The factor of each head's gradient, if it is not 1.
    upstreams: Upstreams,
}

type Upstreams = Vec<Option<Tensor<f32>>>;

/// How steps become updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Every step is an update.
    Single,
    /// The undivided losses of the passes are added up, and so are the denominators of their means.
    Tokens,
    /// The losses of the passes are added up as they are, and the passes are counted.
    Passes,
}

impl Training {
    /// Creates a training of a model, with one loss for each of its heads.
    ///
    /// The gradients are those of the weighted sum of the losses, times the loss scale. If an
    /// update takes several passes ([`Optimization::accumulate`]), a loss with [`Reduction::Mean`]
    /// or [`Reduction::MeanByCount`] becomes the mean over all rows or elements that its passes
    /// count, as if they were one batch; a loss with [`Reduction::Sum`] or [`Reduction::None`] is
    /// added up. With [`WindowMean::Passes`], the update takes the gradient of the mean of the
    /// passes' losses instead, whatever their reductions.
    ///
    /// # Cost
    /// If an update takes several passes, each head needs its own gradient of the whole model, in
    /// memory and in time, because each gradient has its own denominator. With one head, or with
    /// [`WindowMean::Passes`], there is one gradient.
    ///
    /// # Errors
    /// [`Error::Value`] unless there is one loss for each head, and for a weight that is not
    /// finite; the errors of [`Optimizer::new`].
    pub fn new(model: Model, losses: Vec<Loss>, options: Optimization) -> Result<Self> {
        let op = "Training::new";
        ensure!(
            losses.len() == model.heads(),
            Error::value(op, "the number of losses", format!("{}, one for each head", model.heads()), losses.len())
        );
        if let Some(name) = model.parameters().names().find(|name| name.starts_with(OPTIMIZER)) {
            let expected = format!("outside {OPTIMIZER:?}, which a checkpoint needs");
            return Err(Error::value(op, "a parameter's name", expected, format!("{name:?}")));
        }
        let mode = match options.window_mean {
            _ if options.accumulate <= 1 => Mode::Single,
            WindowMean::Tokens => Mode::Tokens,
            WindowMean::Passes => Mode::Passes,
        };
        let totals = match mode {
            Mode::Single => 0,
            Mode::Tokens => losses.len(),
            Mode::Passes => 1,
        };
        let optimizer = Optimizer::with_window(model.parameters(), options, totals, losses.len())?;
        let mut training = Self { model, losses, mode, optimizer, upstreams: Vec::new() };
        training.upstreams = training.weigh(training.optimizer.options().loss_scale)?;
        Ok(training)
    }

    /// Returns the factor of each head's gradient.
    fn weigh(&self, loss_scale: f64) -> Result<Upstreams> {
        let upstream = |loss: &Loss| match narrow(loss.weight * loss_scale) {
            1.0 => Ok(None),
            weight if weight.is_normal() || loss.weight == 0.0 => {
                let gpu = self.model.parameters().values().gpu();
                Ok(Some(Tensor::from_slice(gpu, Shape::default(), &[weight])?))
            }
            _ if !narrow(loss.weight).is_normal() => Err(Error::value(
                "Training",
                "a loss's weight",
                "0, or from 1.2e-38 to 3.4e38 in magnitude",
                format!("{:e}", loss.weight),
            )),
            weight => {
                let expected =
                    format!("from 1.2e-38 to 3.4e38 when multiplied with a loss's weight of {}", loss.weight);
                let got = format!("{loss_scale:e}, which gives {weight:e}");
                Err(Error::value("Training", "loss_scale", expected, got))
            }
        };
        self.losses.iter().map(upstream).collect()
    }

    /// Changes the loss scale from the next step on, for example to lower it after a skipped
    /// update. A [`checkpoint`](Self::checkpoint) includes it.
    ///
    /// # Errors
    /// [`Error::Value`] for a loss scale that is not from 1.2e-38 to 8.5e37, for one whose product
    /// with the weight of a loss is out of range, and between the passes of a window, whose
    /// gradients share one scale. Nothing changes then.
    pub fn set_loss_scale(&mut self, loss_scale: f64) -> Result<()> {
        self.optimizer.check_loss_scale(loss_scale)?;
        let upstreams = self.weigh(loss_scale)?;
        self.optimizer.set_loss_scale(loss_scale)?;
        self.upstreams = upstreams;
        Ok(())
    }

    /// Records an update with the passes of the open window: see [`Optimizer::flush`].
    ///
    /// # Errors
    /// As [`Optimizer::flush`].
    pub fn flush(&mut self, rec: &mut Recorder<'_>) -> Result<Option<UpdateReport>> {
        self.optimizer.flush(rec, self.model.parameters())
    }

    /// Drops the passes since the last update: see [`Optimizer::discard`].
    pub fn discard(&mut self) {
        self.optimizer.discard();
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the model when the training is over.
    #[must_use]
    pub fn into_model(self) -> Model {
        self.model
    }

    /// Sets the learning rate from the next update on: see [`Optimizer::set_lr`].
    ///
    /// # Errors
    /// As [`Optimizer::set_lr`].
    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        self.optimizer.set_lr(lr)
    }

    /// Sets the learning rate of a group: see [`Optimizer::set_group_lr`].
    ///
    /// # Errors
    /// As [`Optimizer::set_group_lr`].
    pub fn set_group_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        self.optimizer.set_group_lr(group, lr)
    }

    /// The optimiser.
    #[must_use]
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Records a copy of everything that the training needs to continue from here, also between the
    /// passes of a window: the parameters under their names, and the optimiser's state and the loss
    /// scale under `optimizer.` ([`State::split_off`] removes these two, for a file of the model
    /// alone). The caller has to reproduce the random choices of a training, such as the order of
    /// its data. The options must be the same, except for learning rates and the loss scale, which
    /// come from the checkpoint.
    ///
    /// # Errors
    /// The errors of [`Optimizer::state`].
    pub fn checkpoint(&self, rec: &mut Recorder<'_>) -> Result<Readback<State>> {
        let mut tickets = self.model.parameters().tickets(rec)?;
        let mut own = self.optimizer.tickets(rec, self.model.parameters())?;
        own.set_note(LOSS_SCALE, self.optimizer.options().loss_scale.to_string());
        tickets.merge(OPTIMIZER, own);
        Ok(tickets.finish(rec))
    }

    /// Continues from a checkpoint, bit for bit as the original training would have continued. If
    /// anything in the checkpoint does not fit, nothing changes.
    ///
    /// # Errors
    /// [`Error::StateNames`] with all missing and superfluous tensors; [`Error::State`] with a
    /// tensor or a note that does not fit.
    pub fn resume(&mut self, checkpoint: &State) -> Result<()> {
        let parameters = self.model.parameters();
        let mut wanted = parameters.wanted("");
        let own = wanted.len();
        wanted.extend(self.optimizer.wanted(checkpoint, parameters, OPTIMIZER)?);
        let (found, _) = checkpoint.matching(&wanted, &LoadOptions::default())?;
        let (values, others) = found.split_at_checked(own).unwrap_or_default();
        let scale = self.scale_of(checkpoint)?;
        let parameters = self.model.parameters();
        self.optimizer.take(checkpoint, parameters, OPTIMIZER, others)?;
        if let Some((loss_scale, upstreams)) = scale {
            self.optimizer.load_loss_scale(loss_scale);
            self.upstreams = upstreams;
        }
        parameters.take(parameters.values(), checkpoint, values)
    }

    /// Returns the loss scale of a checkpoint, and the factors of the heads' gradients that follow
    /// from it; `None` if the checkpoint has no loss scale.
    fn scale_of(&self, checkpoint: &State) -> Result<Option<(f64, Upstreams)>> {
        let key = format!("{OPTIMIZER}{LOSS_SCALE}");
        let Some(note) = checkpoint.note(&key) else { return Ok(None) };
        let scale = note.parse().ok().filter(|&scale| self.optimizer.check_loss_scale(scale).is_ok());
        let upstreams = scale.and_then(|scale| Some((scale, self.weigh(scale).ok()?)));
        let expected = "a note with a loss scale, from 1.2e-38 to 8.5e37";
        upstreams.ok_or_else(|| Error::state(key, expected, format!("{note:?}"))).map(Some)
    }

    /// Compiles the kernels of [`step`](Self::step) for a mini-batch of this shape, as
    /// [`Gpu::warm_up`] does. Nothing runs on the device, and the training stays as it is. Other
    /// shapes, such as a last, smaller mini-batch, may need further kernels, and so do other
    /// [`Caps`](crate::Caps): `gpu` is the handle that will record the steps.
    ///
    /// # Errors
    /// As [`step`](Self::step) and [`Gpu::warm_up`].
    ///
    /// # Examples
    /// ```
    /// use xent::loss::Targets;
    /// use xent::nn::{Loss, Model, Sequential, Training};
    /// use xent::optim::Optimization;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let model = Model::new(&gpu, &Sequential::new().linear(4, 8).relu().linear(8, 3), 1)?;
    /// let mut training = Training::new(model, vec![Loss::cross_entropy()], Optimization::default())?;
    /// let x = Tensor::zeros(&gpu, [16, 4])?;
    /// let y = Targets::new(&gpu, [16], &[0i64; 16], 3)?;
    /// training.warm_up(&gpu, &x, &[y])?;
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn warm_up(&mut self, gpu: &Gpu, input: &Tensor<f32>, targets: &[Targets]) -> Result<()> {
        let progress = self.optimizer.progress();
        let last = self.optimizer.options().accumulate - 1;
        let result = gpu.warm_up(|rec| {
            // Of a window's passes, the first begins its sums, and the last is followed by the update.
            let passes = if last == 0 { vec![0] } else { vec![0, last] };
            passes.into_iter().try_for_each(|pass| {
                self.optimizer.window.passes = pass;
                self.step(rec, input, targets).map(drop)
            })
        });
        self.optimizer.go_back(progress);
        result
    }

    /// Records a training step on a mini-batch: inputs `[N, ..]`, and targets for each head.
    /// Nothing is submitted; the losses are computed when the recording is submitted.
    ///
    /// # Errors
    /// The errors of the model's layers and of the losses; [`Error::Value`] unless each head has
    /// targets of the kind that its loss takes. Nothing is updated then.
    pub fn step(&mut self, rec: &mut Recorder<'_>, input: &Tensor<f32>, targets: &[Targets]) -> Result<StepOutputs> {
        let (heads, given) = (self.losses.len(), targets.len());
        ensure!(
            given == heads,
            Error::value("Training::step", "the number of targets", format!("{heads}, one for each head"), given)
        );
        let activations = self.model.forward(rec, input)?;
        let heads = self.losses.iter().zip(activations.outputs()).zip(targets).zip(&self.upstreams);
        let mut outs = Vec::with_capacity(self.losses.len());
        for (((loss, output), targets), upstream) in heads {
            let divided = self.mode != Mode::Tokens;
            outs.push(loss.record(rec, output, targets, upstream.as_ref(), divided)?);
        }
        let grads = outs.iter().map(LossOutput::gradient).collect::<Result<Vec<_>>>()?;
        if self.mode == Mode::Tokens && grads.len() > 1 {
            for (head, grad) in grads.iter().enumerate() {
                self.model.backward_of(rec, &activations, head, grad)?;
                self.optimizer.window.add(rec, head, self.model.parameters().grads())?;
            }
        } else {
            self.model.backward(rec, &activations, &grads)?;
            if self.mode != Mode::Single {
                self.optimizer.window.add(rec, 0, self.model.parameters().grads())?;
            }
        }
        // After the backward pass: if that fails, no loss without a gradient enters the window.
        let (losses, window_losses) = self.count(rec, &outs)?.into_iter().map(|[pass, window]| (pass, window)).unzip();
        let parameters = self.model.parameters();
        let report = match self.mode {
            Mode::Single => self.optimizer.step(rec, parameters)?,
            Mode::Tokens | Mode::Passes => self.optimizer.end_pass(rec, parameters)?,
        };
        Ok(StepOutputs { losses, window_losses, outputs: activations.outputs().to_vec(), report })
    }

    /// Adds the losses of a pass to the window. Returns for each head the loss of the pass and the
    /// loss of the window so far.
    fn count(&mut self, rec: &mut Recorder<'_>, outs: &[LossOutput]) -> Result<Vec<[Tensor<f32>; 2]>> {
        let mut all = Vec::with_capacity(outs.len());
        for (number, (loss, out)) in self.losses.iter().zip(outs).enumerate() {
            let reduction = loss.reduction();
            let denominator = match self.mode {
                Mode::Single => {
                    all.push([out.loss.clone(), out.loss.clone()]);
                    continue;
                }
                Mode::Tokens if reduction.is_mean() => Some(out.denominator.clone()),
                Mode::Tokens => None,
                Mode::Passes => Some(Denominator::Count(1)),
            };
            let total = match reduction {
                Reduction::None => rec.total_of(&out.loss)?.with_check(out.loss.check().cloned()),
                Reduction::Mean | Reduction::MeanByCount | Reduction::Sum => out.loss.clone(),
            };
            let [of_pass, of_window] = self.optimizer.window.count(rec, number, Some(&total), denominator.as_ref())?;
            all.push([if reduction == Reduction::None { out.loss.clone() } else { of_pass }, of_window]);
        }
        Ok(all)
    }
}
