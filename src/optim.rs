//! Updating a model: groups of parameters, schedules, clipping, accumulation, and a guard against numbers that are not finite.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ops::{ClipFactor, Gradient, SgdStep, unstarted};
use crate::options::{Sgd, narrow};
use crate::parameters::{Parameters, Part, Parts};
use crate::recorder::Recorder;
use crate::state::{LoadOptions, State, StateReadback, Wanted};
use crate::tensor::{Shape, Tensor};

/// How a model is updated. The defaults are plain [`Sgd`] with its defaults.
#[derive(Clone, Debug)]
pub struct Optimization {
    /// The options of all parameters that no group names.
    pub sgd: Sgd,
    /// Parameters with a learning rate or a weight decay of their own.
    pub groups: Vec<Group>,
    /// What every learning rate is multiplied with, from update to update.
    pub schedule: Schedule,
    /// The largest absolute value of a gradient: larger ones are cut to it, first of all.
    pub clip_value: Option<f64>,
    /// The largest norm of all gradients together: with a larger one, all are multiplied with `clip_norm / (norm + 1e-6)`.
    pub clip_norm: Option<f64>,
    /// Of how many backward passes an update takes the sum of the gradients, at least 1.
    pub accumulate: u32,
    /// What the losses were multiplied with; gradients are divided by it before everything else.
    pub loss_scale: f64,
    /// Leave everything as it is if a gradient is NaN or infinite.
    pub skip_non_finite: bool,
}

impl Default for Optimization {
    fn default() -> Self {
        Self {
            sgd: Sgd::default(),
            groups: Vec::new(),
            schedule: Schedule::Constant,
            clip_value: None,
            clip_norm: None,
            accumulate: 1,
            loss_scale: 1.0,
            skip_non_finite: false,
        }
    }
}

/// Parameters with options of their own, as PyTorch's parameter groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The parameters' names.
    pub names: Vec<String>,
    /// Their learning rate; that of the others if there is none.
    pub lr: Option<f64>,
    /// Their weight decay; that of the others if there is none.
    pub weight_decay: Option<f64>,
}

/// What learning rates are multiplied with at update `n`, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Schedule {
    /// 1.
    #[default]
    Constant,
    /// `factor` to the power `n / every`, rounded down (PyTorch's `StepLR`).
    Step {
        /// Updates between two changes, at least 1.
        every: u64,
        /// What the learning rate is multiplied with at each.
        factor: f64,
    },
    /// Linear from 0, excluded, to 1 over `warm_up` updates, then half a cosine down to `floor` at update `steps`.
    Cosine {
        /// Updates of the warm-up.
        warm_up: u64,
        /// Updates in all.
        steps: u64,
        /// The factor at the end and after it.
        floor: f64,
    },
}

impl Schedule {
    /// The factor at update `n`.
    ///
    /// # Examples
    /// ```
    /// use xent::Schedule;
    /// let schedule = Schedule::Cosine { warm_up: 2, steps: 12, floor: 0.0 };
    /// assert_eq!([0, 1, 2, 12].map(|n| schedule.factor(n)), [0.5, 1.0, 1.0, 0.0]);
    /// assert!((schedule.factor(7) - 0.5).abs() < 1e-15);
    /// ```
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no training has 2^53 updates")]
    pub fn factor(&self, n: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::Step { every, factor } => factor.powf((n / every.max(1)) as f64),
            Self::Cosine { warm_up, .. } if n < warm_up => (n + 1) as f64 / warm_up as f64,
            Self::Cosine { steps, floor, .. } if n >= steps => floor,
            Self::Cosine { warm_up, steps, floor } => {
                let progress = (n - warm_up) as f64 / (steps - warm_up) as f64;
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

/// What an update found, on the GPU; there only if norm clipping or the guard is on.
#[derive(Clone, Debug)]
pub struct UpdateReport {
    /// A scalar: the norm of all gradients, clipped by value if they are, before it is clipped itself.
    pub norm: Tensor<f32>,
    /// A scalar: 1 if the update was skipped, else 0.
    pub skipped: Tensor<u32>,
}

/// Parameters that lie side by side and are of the same group, or of none.
#[derive(Debug)]
struct Run {
    range: Range<usize>,
    group: Option<usize>,
    sgd: Sgd,
}

/// Updates the parameters of a model, update after update.
///
/// What is counted (updates, passes of an accumulated update) is counted when it is recorded: submit every recording, or go on from
/// a saved state.
///
/// # Examples
/// ```
/// use xent::{Gpu, Group, Optimization, Optimizer, Parameters, Sgd};
/// # if let Ok(gpu) = Gpu::headless() {
/// let parameters = Parameters::new(&gpu, &[("weight", [2].into(), &[1.0, 2.0]), ("bias", [1].into(), &[0.5])])?;
/// let undecayed = Group { names: vec!["bias".into()], weight_decay: Some(0.0), ..Group::default() };
/// let sgd = Sgd { lr: 0.1, weight_decay: 0.01, momentum: 0.9, ..Sgd::default() };
/// let options = Optimization { sgd, groups: vec![undecayed], clip_norm: Some(1.0), ..Optimization::default() };
/// let mut optimizer = Optimizer::new(&parameters, options)?;
/// let mut batch = gpu.batch();
/// // ... a backward pass that writes parameters.grads() ...
/// optimizer.step(&mut batch, &parameters)?;
/// batch.submit()?;
/// # }
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    options: Optimization,
    /// The parameters that it was made for.
    parameters: Arc<Parts>,
    runs: Vec<Run>,
    /// With momentum.
    velocity: Option<Tensor<f32>>,
    /// The sum of the gradients of passes that are not updated with yet.
    total: Option<Tensor<f32>>,
    passes: u32,
    updates: u64,
}

impl Optimizer {
    /// An optimiser that has not updated anything yet.
    ///
    /// # Errors
    /// [`Error::Value`] as [`Sgd::validate`] for each group, for a bound or a loss scale that is not above 0, for `accumulate` 0, for
    /// a schedule whose numbers do not fit, for a group's name that is no parameter's or that two groups have.
    pub fn new(parameters: &Parameters, options: Optimization) -> Result<Self> {
        validate(&options)?;
        let runs = runs(parameters, &options)?;
        let flat = parameters.values();
        let velocity = match options.sgd.momentum == 0.0 {
            true => None,
            false => Some(unstarted(flat.gpu(), flat.shape().clone())?),
        };
        let total = match options.accumulate {
            1 => None,
            _ => Some(Tensor::zeros(flat.gpu(), flat.shape().clone())?),
        };
        let parameters = Arc::clone(parameters.parts());
        Ok(Self { options, parameters, runs, velocity, total, passes: 0, updates: 0 })
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Optimization {
        &self.options
    }

    /// Sets the learning rate from the next update on, of all parameters but those of a group with a rate of its own: to lower it when a loss
    /// stays where it is, say. The schedule goes on multiplying it. It is an option and not part of a state: set it again after a load.
    ///
    /// # Errors
    /// [`Error::Value`] unless it is at least 0 and finite; nothing changes then.
    ///
    /// # Examples
    /// ```
    /// use xent::{Gpu, Optimization, Optimizer, Parameters, Sgd};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let parameters = Parameters::new(&gpu, &[("weight", [2].into(), &[1.0, 2.0])])?;
    /// let options = Optimization { sgd: Sgd { lr: 0.1, ..Sgd::default() }, ..Optimization::default() };
    /// let mut optimizer = Optimizer::new(&parameters, options)?;
    /// optimizer.set_lr(0.01)?;
    /// assert_eq!(optimizer.options().sgd.lr, 0.01);
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        check_lr(lr)?;
        self.options.sgd.lr = lr;
        for run in &mut self.runs {
            let group = run.group.and_then(|group| self.options.groups.get(group));
            run.sgd.lr = group.and_then(|group| group.lr).unwrap_or(lr);
        }
        Ok(())
    }

    /// [`set_lr`](Self::set_lr) of a group, by its place in [`Optimization::groups`]: from here on it has a rate of its own.
    ///
    /// # Errors
    /// [`Error::Value`] if there is no such group, or as [`set_lr`](Self::set_lr); nothing changes then.
    pub fn set_group_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        check_lr(lr)?;
        let count = self.options.groups.len();
        let Some(own) = self.options.groups.get_mut(group) else {
            let (expected, got) = (format!("below {count}, the number of groups"), group.to_string());
            return Err(Error::Value { op: "Optimizer::set_group_lr", what: "the group", expected, got });
        };
        own.lr = Some(lr);
        self.runs.iter_mut().filter(|run| run.group == Some(group)).for_each(|run| run.sgd.lr = lr);
        Ok(())
    }

    /// Sets the loss scale, from the next update on.
    pub(crate) fn set_loss_scale(&mut self, loss_scale: f64) -> Result<()> {
        validate(&Optimization { loss_scale, ..self.options.clone() })?;
        self.options.loss_scale = loss_scale;
        Ok(())
    }

    /// How many updates were recorded, skipped ones included.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Records what follows a backward pass: an update, or, while gradients are accumulated, their sum. The update's report is there
    /// if norm clipping or the guard is on.
    ///
    /// # Errors
    /// [`Error::ForeignTensor`], [`Error::Shape`] if these are not the parameters that the optimiser was made for.
    ///
    /// # Cost
    /// One dispatch for parameters that lie side by side and have the same options, 12 bytes a parameter, 20 with momentum;
    /// clipping by norm and the guard read the gradients once more; accumulation moves 12 bytes a parameter.
    pub fn step(&mut self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<Option<UpdateReport>> {
        let (values, grads) = (parameters.values(), parameters.grads());
        rec.own("Optimizer::step", "the parameters", values)?;
        for own in [&self.velocity, &self.total].into_iter().flatten() {
            rec.own("Optimizer::step", "the optimizer", own)?;
        }
        self.check(parameters)?;
        if values.is_empty() {
            return Ok(None);
        }
        if let Some(total) = &self.total {
            if self.passes == 0 {
                rec.copy(grads, total)?;
            } else {
                rec.accumulate(grads, total)?;
            }
            self.passes += 1;
            if self.passes < self.options.accumulate {
                return Ok(None);
            }
            self.passes = 0;
        }
        let grads = self.total.as_ref().unwrap_or(grads);
        let Optimization { clip_value, clip_norm, loss_scale, skip_non_finite: guard, .. } = self.options;
        let gradient = Gradient { loss_scale, clip_value, clip_norm, guard };
        let clip = match clip_norm.is_some() || guard {
            true => Some(rec.clip_factor(grads, gradient)?),
            false => None,
        };
        let rate = self.options.schedule.factor(self.updates);
        for Run { range, sgd, .. } in &self.runs {
            let part = |tensor: &Tensor<f32>| tensor.part(range.start, Shape::from([range.len()]));
            let velocity = self.velocity.as_ref().map(part);
            rec.sgd_step(&SgdStep {
                values: &part(values),
                grads: &part(grads),
                velocity: velocity.as_ref(),
                options: &Sgd { lr: sgd.lr * rate, ..sgd.clone() },
                gradient,
                factor: clip.as_ref().map(|clip| &clip.factor),
            })?;
        }
        self.updates = self.updates.saturating_add(1);
        Ok(clip.map(|ClipFactor { norm, skipped, .. }| UpdateReport { norm, skipped }))
    }
}

impl Optimizer {
    /// Records a copy of what a training needs to go on from here: with momentum `momentum_buffer.<name>` for each parameter, and the
    /// note `updates`.
    ///
    /// # Errors
    /// [`Error::Value`] between the passes of an accumulated update; [`Error::Shape`] as [`Optimizer::step`]; those of [`Recorder::read`].
    pub fn state(&self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<StateReadback> {
        if self.passes > 0 {
            let (expected, got) = ("0 when a state is taken".to_owned(), self.passes.to_string());
            return Err(Error::Value {
                op: "Optimizer::state",
                what: "the passes since the last update",
                expected,
                got,
            });
        }
        self.check(parameters)?;
        let mut state = StateReadback::new();
        state.set_note(UPDATES, self.updates.to_string());
        if let Some(velocity) = &self.velocity {
            state.read(rec, parameters, velocity, MOMENTUM)?;
        }
        Ok(state)
    }

    /// Goes on from a state. Checked as a whole first: if something does not fit, nothing changes.
    ///
    /// # Errors
    /// [`Error::StateNames`] with all tensors that are missing or superfluous; [`Error::State`] with one that is of another shape or not of
    /// real numbers, or without the note `updates`.
    pub fn load(&mut self, state: &State, parameters: &Parameters) -> Result<()> {
        let (found, _) = state.matching(&self.wanted(parameters, "")?, &LoadOptions::default())?;
        self.take(state, parameters, "", &found)
    }

    /// What a load asks for, its names after `prefix`.
    pub(crate) fn wanted<'a>(&self, parameters: &'a Parameters, prefix: &str) -> Result<Vec<Wanted<'a>>> {
        self.check(parameters)?;
        Ok(match self.velocity {
            Some(_) => parameters.wanted(&format!("{prefix}{MOMENTUM}")),
            None => Vec::new(),
        })
    }

    /// Goes on from tensors that fit, and the note of updates, whose name is after `prefix`.
    pub(crate) fn take(
        &mut self,
        state: &State,
        parameters: &Parameters,
        prefix: &str,
        found: &[Option<&str>],
    ) -> Result<()> {
        let key = format!("{prefix}{UPDATES}");
        let note = state.note(&key).unwrap_or("none");
        let updates = note.parse().map_err(|_| Error::State {
            tensor: key.clone(),
            expected: "a note with a number".to_owned(),
            got: format!("{note:?}"),
        })?;
        if let Some(velocity) = &self.velocity {
            parameters.take(velocity, state, found)?;
        }
        (self.updates, self.passes) = (updates, 0);
        Ok(())
    }

    /// Checks that these are parameters as those that the optimiser was made for.
    fn check(&self, parameters: &Parameters) -> Result<()> {
        let (own, given) = (&self.parameters, parameters.parts());
        if Arc::ptr_eq(own, given) {
            return Ok(());
        }
        let (own, given) = (own.list(), given.list());
        let len = own.len().max(given.len());
        let Some(first) = (0..len).find(|&i| own.get(i) != given.get(i)) else { return Ok(()) };
        let say = |part: Option<&Part>| match part {
            Some(part) => format!("{:?} of shape {} as parameter {first}", part.name, part.shape),
            None => format!("{first} of them"),
        };
        let (expected, got) = (say(own.get(first)), say(given.get(first)));
        Err(Error::Shape { op: "Optimizer", what: "the parameters", expected, got })
    }
}

/// What the names of the velocities begin with in a state.
const MOMENTUM: &str = "momentum_buffer.";

/// The note with the number of updates.
const UPDATES: &str = "updates";

fn check_lr(lr: f64) -> Result<()> {
    match lr >= 0.0 && narrow(lr).is_finite() {
        true => Ok(()),
        false => {
            let (expected, got) = ("at least 0 and finite".to_owned(), lr.to_string());
            Err(Error::Value { op: "Optimizer::set_lr", what: "lr", expected, got })
        }
    }
}

fn validate(options: &Optimization) -> Result<()> {
    let fail = |what, expected: &str, got: String| {
        Err(Error::Value { op: "Optimizer::new", what, expected: expected.to_owned(), got })
    };
    let positive = |value: f64| narrow(value) > 0.0 && narrow(value).is_finite();
    for (what, value) in [("clip_value", options.clip_value), ("clip_norm", options.clip_norm)] {
        if let Some(value) = value.filter(|&value| !positive(value)) {
            return fail(what, "above 0 and finite", value.to_string());
        }
    }
    if !positive(options.loss_scale) || !positive(1.0 / options.loss_scale) {
        return fail("loss_scale", "above 0 and finite", options.loss_scale.to_string());
    }
    if options.accumulate == 0 {
        return fail("accumulate", "at least 1", "0".to_owned());
    }
    match options.schedule {
        Schedule::Step { every: 0, .. } => fail("the schedule's every", "at least 1", "0".to_owned()),
        Schedule::Step { factor, .. } if !positive(factor) => {
            fail("the schedule's factor", "above 0 and finite", factor.to_string())
        }
        Schedule::Cosine { warm_up, steps, .. } if steps <= warm_up => {
            fail("the schedule's steps", "more than its warm-up's", steps.to_string())
        }
        Schedule::Cosine { floor, .. } if !(0.0..=1.0).contains(&floor) => {
            fail("the schedule's floor", "in 0..=1", floor.to_string())
        }
        _ => Ok(()),
    }
}

/// The options of each parameter; neighbours with the same share a run.
fn runs(parameters: &Parameters, options: &Optimization) -> Result<Vec<Run>> {
    options.sgd.validate()?;
    let mut groups: Vec<Option<usize>> = vec![None; parameters.parts().list().len()];
    let names = options.groups.iter().enumerate();
    for (group, name) in names.flat_map(|(i, group)| group.names.iter().map(move |name| (i, name))) {
        let (number, _) = parameters.part(name)?;
        if groups.get_mut(number).and_then(|own| own.replace(group)).is_some() {
            let (expected, got) = ("in one group, once".to_owned(), format!("{name:?} twice"));
            return Err(Error::Value { op: "Optimizer::new", what: "a name", expected, got });
        }
    }
    let mut runs: Vec<Run> = Vec::new();
    for (range, group) in parameters.ranges().zip(groups) {
        let mut sgd = options.sgd.clone();
        let own = group.and_then(|group| options.groups.get(group));
        sgd.lr = own.and_then(|group| group.lr).unwrap_or(sgd.lr);
        sgd.weight_decay = own.and_then(|group| group.weight_decay).unwrap_or(sgd.weight_decay);
        sgd.validate()?;
        match runs.last_mut() {
            Some(last) if last.group == group => last.range.end = range.end,
            _ => runs.push(Run { range, group, sgd }),
        }
    }
    Ok(runs)
}
