//! A training step: forward, losses, backward, update, in one recording.

use crate::error::{Error, Result};
use crate::ops::{LossGrad, Targets};
use crate::optim::{Optimization, Optimizer, UpdateReport};
use crate::options::{Bce, BceWithLogits, CrossEntropy, Mse, narrow};
use crate::recorder::Recorder;
use crate::state::{LoadOptions, State, StateReadback};
use crate::tensor::{Shape, Tensor};

use super::model::Model;

/// The loss of a head, and its weight in the sum of all.
#[derive(Clone, Debug)]
pub struct Loss {
    kind: Kind,
    weight: f64,
}

#[derive(Clone, Debug)]
enum Kind {
    CrossEntropy(CrossEntropy),
    Bce(Bce),
    BceWithLogits(BceWithLogits),
    Mse(Mse),
}

impl Loss {
    /// Cross-entropy of logits with its default options.
    #[must_use]
    pub fn cross_entropy() -> Self {
        CrossEntropy::default().into()
    }

    /// Binary cross-entropy of probabilities with its default options.
    #[must_use]
    pub fn bce() -> Self {
        Bce::default().into()
    }

    /// Binary cross-entropy of logits with its default options.
    #[must_use]
    pub fn bce_with_logits() -> Self {
        BceWithLogits::default().into()
    }

    /// Squared error with its default options.
    #[must_use]
    pub fn mse() -> Self {
        Mse::default().into()
    }

    /// The same loss with another weight in the sum; 1 by default.
    #[must_use]
    pub fn weighted(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    fn record(
        &self,
        rec: &mut Recorder<'_>,
        output: &Tensor<f32>,
        targets: Targets<'_>,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<LossGrad> {
        let floats = || match targets {
            Targets::Probabilities(targets) => Ok(targets),
            Targets::Index(_) | Targets::IndexU32(_) => Err(Error::Value {
                op: "Training::step",
                what: "the targets of this loss",
                expected: "a Tensor<f32>".to_owned(),
                got: "class indices".to_owned(),
            }),
        };
        match &self.kind {
            Kind::CrossEntropy(options) => rec.cross_entropy_backward(output, targets, options, upstream),
            Kind::Bce(options) => rec.bce_backward(output, floats()?, options, upstream),
            Kind::BceWithLogits(options) => rec.bce_with_logits_backward(output, floats()?, options, upstream),
            Kind::Mse(options) => rec.mse_backward(output, floats()?, options, upstream),
        }
    }
}

impl From<CrossEntropy> for Loss {
    fn from(options: CrossEntropy) -> Self {
        Self { kind: Kind::CrossEntropy(options), weight: 1.0 }
    }
}

impl From<Bce> for Loss {
    fn from(options: Bce) -> Self {
        Self { kind: Kind::Bce(options), weight: 1.0 }
    }
}

impl From<BceWithLogits> for Loss {
    fn from(options: BceWithLogits) -> Self {
        Self { kind: Kind::BceWithLogits(options), weight: 1.0 }
    }
}

impl From<Mse> for Loss {
    fn from(options: Mse) -> Self {
        Self { kind: Kind::Mse(options), weight: 1.0 }
    }
}

/// What the names of the optimiser's tensors begin with in a checkpoint.
const OPTIMIZER: &str = "optimizer.";

/// What a training step gives.
#[derive(Clone, Debug)]
pub struct StepOutputs {
    /// The loss of each head, without its weight.
    pub losses: Vec<Tensor<f32>>,
    /// What the heads gave before the update.
    pub outputs: Vec<Tensor<f32>>,
    /// What the update found, if there was one and it looked.
    pub report: Option<UpdateReport>,
}

/// A model with its losses and its optimiser.
#[derive(Debug)]
pub struct Training {
    model: Model,
    losses: Vec<Loss>,
    optimizer: Optimizer,
    /// For each head what its gradient is multiplied with, if it is not 1.
    upstreams: Vec<Option<Tensor<f32>>>,
}

impl Training {
    /// A training of a model with a loss for each of its heads.
    ///
    /// Gradients are those of the sum of the losses, each times its weight, times the loss scale, and divided by the passes that an
    /// update accumulates: so that the update is that of their mean.
    ///
    /// # Errors
    /// [`Error::Value`] unless there is one loss for each head, and for a weight that is not finite; the errors of
    /// [`Optimizer::new`].
    pub fn new(model: Model, losses: Vec<Loss>, options: Optimization) -> Result<Self> {
        let op = "Training::new";
        if losses.len() != model.heads() {
            let (expected, got) = (format!("{}, one for each head", model.heads()), losses.len().to_string());
            return Err(Error::Value { op, what: "the number of losses", expected, got });
        }
        if let Some(name) = model.parameters().names().find(|name| name.starts_with(OPTIMIZER)) {
            let expected = format!("outside {OPTIMIZER:?}, which a checkpoint needs");
            return Err(Error::Value { op, what: "a parameter's name", expected, got: format!("{name:?}") });
        }
        let optimizer = Optimizer::new(model.parameters(), options)?;
        let mut training = Self { model, losses, optimizer, upstreams: Vec::new() };
        training.upstreams = training.weigh()?;
        Ok(training)
    }

    /// What the gradient of each head is multiplied with.
    fn weigh(&self) -> Result<Vec<Option<Tensor<f32>>>> {
        let Optimization { loss_scale, accumulate, .. } = *self.optimizer.options();
        let upstream = |loss: &Loss| match narrow(loss.weight * (loss_scale / f64::from(accumulate))) {
            1.0 => Ok(None),
            weight if weight.is_normal() || loss.weight == 0.0 => {
                let gpu = self.model.parameters().values().gpu();
                Ok(Some(Tensor::from_slice(gpu, Shape::default(), &[weight])?))
            }
            _ if !narrow(loss.weight).is_normal() => {
                let (expected, got) = ("a number that f32 has, and 0 only as 0".to_owned(), loss.weight.to_string());
                Err(Error::Value { op: "Training", what: "a loss's weight", expected, got })
            }
            weight => {
                let expected =
                    format!("one that f32 has, times a loss's weight of {} and over {accumulate} passes", loss.weight);
                let got = format!("{loss_scale}, which gives {weight:e}");
                Err(Error::Value { op: "Training", what: "loss_scale", expected, got })
            }
        };
        self.losses.iter().map(upstream).collect()
    }

    /// Changes the loss scale from the next step on: lower after an update that was skipped, say.
    ///
    /// # Errors
    /// [`Error::Value`] unless it is above 0 and finite.
    pub fn set_loss_scale(&mut self, loss_scale: f64) -> Result<()> {
        self.optimizer.set_loss_scale(loss_scale)?;
        self.upstreams = self.weigh()?;
        Ok(())
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, when the training is over.
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

    /// Sets that of a group: see [`Optimizer::set_group_lr`].
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

    /// Records a copy of everything that the training needs to go on from here: the parameters under their names, and the optimiser's
    /// state under `optimizer.` ([`State::split_off`] takes it out, for a file of the model alone). What is random in a training (the
    /// order of its data) is the caller's to repeat; options have to be the same.
    ///
    /// # Errors
    /// Those of [`Optimizer::state`].
    pub fn checkpoint(&self, rec: &mut Recorder<'_>) -> Result<StateReadback> {
        let mut state = self.model.parameters().state(rec)?;
        state.merge(OPTIMIZER, self.optimizer.state(rec, self.model.parameters())?);
        Ok(state)
    }

    /// Goes on from a checkpoint, to the same bits that the training it was taken from would have reached. If something in it does not
    /// fit, nothing changes.
    ///
    /// # Errors
    /// [`Error::StateNames`] with all tensors that are missing or superfluous; [`Error::State`] with one that does not fit.
    pub fn resume(&mut self, checkpoint: &State) -> Result<()> {
        let parameters = self.model.parameters();
        let mut wanted = parameters.wanted("");
        let own = wanted.len();
        wanted.extend(self.optimizer.wanted(parameters, OPTIMIZER)?);
        let (found, _) = checkpoint.matching(&wanted, &LoadOptions::default())?;
        let (values, velocities) = found.split_at_checked(own).unwrap_or_default();
        self.optimizer.take(checkpoint, parameters, OPTIMIZER, velocities)?;
        parameters.take(parameters.values(), checkpoint, values)
    }

    /// Records a training step on a mini-batch: inputs `[N, ..]`, and targets for each head. Everything is recorded, nothing
    /// submitted: the losses are there once the recording is.
    ///
    /// # Errors
    /// Those of the model's layers and of the losses; [`Error::Value`] unless there are targets for each head, of the kind that its
    /// loss takes. Nothing is updated then.
    pub fn step(
        &mut self,
        rec: &mut Recorder<'_>,
        input: &Tensor<f32>,
        targets: &[Targets<'_>],
    ) -> Result<StepOutputs> {
        if targets.len() != self.losses.len() {
            let (expected, got) = (format!("{}, one for each head", self.losses.len()), targets.len().to_string());
            return Err(Error::Value { op: "Training::step", what: "the number of targets", expected, got });
        }
        let activations = self.model.forward(rec, input)?;
        let (mut losses, mut grads) = (Vec::new(), Vec::new());
        for (((loss, output), &targets), upstream) in
            self.losses.iter().zip(activations.outputs()).zip(targets).zip(&self.upstreams)
        {
            let out = loss.record(rec, output, targets, upstream.as_ref())?;
            losses.push(out.loss);
            grads.push(out.grad);
        }
        self.model.backward(rec, &activations, &grads)?;
        let report = self.optimizer.step(rec, self.model.parameters())?;
        Ok(StepOutputs { losses, outputs: activations.outputs().to_vec(), report })
    }
}
