//! Updates of a model: parameter groups, schedules, gradient clipping, gradient accumulation, and a
//! guard against numbers that are not finite.

mod options;
mod rates;
mod runs;
mod schedule;
mod state;
#[cfg(test)]
#[path = "../../tests/unit/optim.rs"]
mod tests;
mod window;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ops::loss::Denominator;
use crate::ops::{Gradient, SgdStep, unstarted};
use crate::parameters::{Part, Parts};
use crate::record::Recorder;
use crate::tensor::{Shape, Tensor};

pub use crate::ops::update::{Momentum, Sgd, UpdateReport};
pub use crate::parameters::Parameters;
pub use options::{Group, Optimization, WindowMean};
use runs::{Run, runs};
use schedule::GpuSchedule;
pub use schedule::Schedule;
use window::Window;

/// Updates the parameters of a model.
///
/// Updates, and the passes of an accumulated update, are counted when they are recorded: submit
/// every recording, or continue from a saved state.
///
/// # Examples
/// ```
/// use xent::Gpu;
/// use xent::optim::{Group, Optimization, Optimizer, Parameters, Sgd};
/// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
/// let parameters = Parameters::new(&gpu, &[("weight", [2].into(), &[1.0, 2.0]), ("bias", [1].into(), &[0.5])])?;
/// let undecayed = Group { names: vec!["bias".into()], weight_decay: Some(0.0), ..Group::default() };
/// let sgd = Sgd::new().lr(0.1).weight_decay(0.01).momentum(0.9);
/// let options = Optimization { sgd, groups: vec![undecayed], clip_norm: Some(1.0), ..Optimization::default() };
/// let mut optimizer = Optimizer::new(&parameters, options)?;
/// let mut batch = gpu.batch();
/// // ... a backward pass that writes parameters.grads() ...
/// optimizer.step(&mut batch, &parameters)?;
/// batch.submit()?;
/// # Ok::<(), xent::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    options: Optimization,
    /// The parameters that the optimiser was created for.
    parameters: Arc<Parts>,
    runs: Vec<Run>,
    /// `Some` with momentum.
    velocity: Option<Tensor<f32>>,
    pub(crate) window: Window,
    /// `Some` if the GPU counts the updates that advance the schedule.
    schedule: Option<GpuSchedule>,
    updates: u64,
}

/// See [`Optimizer::progress`].
#[derive(Debug)]
pub(crate) struct Progress {
    updates: u64,
    passes: u32,
    divided: Vec<bool>,
}

impl Optimizer {
    /// Creates an optimiser that has not updated anything yet.
    ///
    /// # Errors
    /// [`Error::Value`] as [`Sgd::validate`] for each group, for a clipping bound or a loss scale
    /// that is not above 0, for an `accumulate` of 0, for a schedule whose numbers do not fit, and
    /// for a name in a group that no parameter has or that occurs twice.
    pub fn new(parameters: &Parameters, options: Optimization) -> Result<Self> {
        let totals = usize::from(options.accumulate > 1);
        Self::with_window(parameters, options, totals, 1)
    }

    /// Creates an optimiser for `losses` losses, with `totals` sums of gradients.
    pub(crate) fn with_window(
        parameters: &Parameters,
        options: Optimization,
        totals: usize,
        losses: usize,
    ) -> Result<Self> {
        options.validate()?;
        let runs = runs(parameters, &options)?;
        let flat = parameters.values();
        let velocity =
            if options.sgd.momentum == 0.0 { None } else { Some(unstarted(flat.gpu(), flat.shape().clone())?) };
        let window = Window::new(flat.gpu(), flat.shape().clone(), (totals, options.accumulate), losses)?;
        let schedule = if options.counts_on_gpu() { GpuSchedule::new(flat.gpu(), options.schedule)? } else { None };
        let parameters = Arc::clone(parameters.parts());
        Ok(Self { options, parameters, runs, velocity, window, schedule, updates: 0 })
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &Optimization {
        &self.options
    }

    /// The number of updates recorded so far, including skipped ones.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The number of passes since the last update, in the open window.
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.window.passes
    }

    /// Records what follows a backward pass: an update or, during gradient accumulation, the
    /// addition of the gradients to their sum. An update takes the sum of the gradients of its
    /// passes. Returns the report of the update if norm clipping or the guard is on.
    ///
    /// # Errors
    /// [`Error::ForeignTensor`]; [`Error::Shape`] if the optimiser was created for other
    /// parameters; [`Error::Value`] after [`step_mean`](Self::step_mean) in the same window.
    /// Nothing is recorded then.
    ///
    /// # Cost
    /// One dispatch for each run of neighbouring parameters with the same options, 12 bytes a
    /// parameter, 20 with momentum. Norm clipping and the guard read the gradients once more.
    /// Accumulation moves 12 bytes a parameter.
    pub fn step(&mut self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<Option<UpdateReport>> {
        let op = "Optimizer::step";
        self.check_step(op, rec, parameters)?;
        self.window.check(op, false)?;
        if parameters.values().is_empty() {
            return Ok(None);
        }
        if self.options.accumulate == 1 && self.window.passes == 0 {
            return self.update(rec, parameters, parameters.grads());
        }
        self.window.count(rec, 0, None, None)?;
        self.window.add(rec, 0, parameters.grads())?;
        self.end_pass(rec, parameters)
    }

    /// [`step`](Self::step) for gradients of summed losses. The update takes the gradient of the
    /// mean over the whole window: the sum of the passes' gradients, divided by the sum of their
    /// denominators.
    ///
    /// ```text
    /// g = (sum over the passes of grads) / (sum over the passes of denominator)
    /// ```
    ///
    /// The denominator may only be known on the GPU, such as the number of targets that are not
    /// ignored: losses return their [`Denominator`], also with
    /// [`Reduction::Sum`](crate::loss::Reduction::Sum). The division comes before everything else,
    /// including the loss scale and clipping. Sums of denominators are accurate to 2^-40, so counts
    /// far beyond 2^24 are exact.
    ///
    /// # Edge cases
    /// A gradient of 0 stays 0 if the denominator is 0: a window in which every target is ignored
    /// moves the parameters only by weight decay and momentum, like one batch of such targets (in
    /// PyTorch, too). Any other gradient becomes an infinity, and the guard skips the update.
    ///
    /// # Errors
    /// As [`step`](Self::step); [`Error::Value`] after [`step`](Self::step) in the same window;
    /// [`Error::Shape`] for a denominator that is not a scalar.
    ///
    /// # Cost
    /// That of [`step`](Self::step) with accumulation, and 8 bytes a parameter for each update.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::loss::{CrossEntropy, Grad, Reduction, Targets};
    /// use xent::optim::{Optimization, Optimizer, Parameters, Sgd};
    /// use xent::{Gpu, Layout, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let parameters = Parameters::new(&gpu, &[("weight", [2, 1].into(), &[0.0, 0.0])])?;
    /// let sgd = Sgd::new().lr(1.0);
    /// let mut optimizer = Optimizer::new(&parameters, Optimization { sgd, accumulate: 2, ..Optimization::default() })?;
    /// let sum = CrossEntropy::new().reduction(Reduction::Sum);
    /// let mut batch = gpu.batch();
    /// // One pass with three tokens, of which two count, and one pass with one token.
    /// for targets in [&[0, -100, 0][..], &[1]] {
    ///     let n = targets.len();
    ///     let x = Tensor::from_slice(&gpu, [n, 1], &vec![1.0; n])?;
    ///     let y = Targets::new(&gpu, [n], targets, 2)?;
    ///     let logits = batch.matmul(Layout::Nt, &x, &parameters.value("weight")?, None)?;
    ///     let out = batch.cross_entropy_with(&logits, &y, &sum, Grad::New)?;
    ///     batch.matmul_into(Layout::Tn, &out.gradient()?, &x, None, &parameters.grad("weight")?)?;
    ///     optimizer.step_mean(&mut batch, &parameters, &out.denominator)?;
    /// }
    /// let mut weight = batch.read(&parameters.value("weight")?)?;
    /// batch.submit()?;
    /// // The gradient is the sum of -1/2, -1/2 and 1/2, divided by 3.
    /// assert!((weight.wait(Duration::from_secs(10))?[0] - 1.0 / 6.0).abs() < 1e-6);
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn step_mean(
        &mut self,
        rec: &mut Recorder<'_>,
        parameters: &Parameters,
        denominator: impl Into<Denominator>,
    ) -> Result<Option<UpdateReport>> {
        let (op, denominator) = ("Optimizer::step_mean", denominator.into());
        self.check_step(op, rec, parameters)?;
        rec.check_denominator(op, &denominator)?;
        self.window.check(op, true)?;
        if parameters.values().is_empty() {
            return Ok(None);
        }
        self.window.reserve(rec.gpu(), 1)?;
        self.window.count(rec, 0, None, Some(&denominator))?;
        self.window.add(rec, 0, parameters.grads())?;
        self.end_pass(rec, parameters)
    }

    /// Records an update with the passes of the open window, which may be fewer than
    /// [`Optimization::accumulate`], for example at the end of an epoch. Records nothing if the
    /// window has no [`passes`](Self::passes).
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn flush(&mut self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<Option<UpdateReport>> {
        self.check_step("Optimizer::flush", rec, parameters)?;
        if self.window.passes == 0 {
            return Ok(None);
        }
        let gradient = self.window.gradient(rec)?;
        let report = match &gradient {
            Some(gradient) => self.update(rec, parameters, gradient)?,
            None => None,
        };
        self.window.passes = 0;
        Ok(report)
    }

    /// Discards the passes since the last update. The next pass begins a new window.
    pub fn discard(&mut self) {
        self.window.passes = 0;
    }

    /// What recording a step changes on the host.
    pub(crate) fn progress(&self) -> Progress {
        Progress { updates: self.updates, passes: self.window.passes, divided: self.window.divided.clone() }
    }

    /// Forgets the steps recorded since [`progress`](Self::progress).
    pub(crate) fn go_back(&mut self, Progress { updates, passes, divided }: Progress) {
        (self.updates, self.window.passes, self.window.divided) = (updates, passes, divided);
    }

    /// Ends a pass. After the last pass of a window, records the update.
    pub(crate) fn end_pass(&mut self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<Option<UpdateReport>> {
        self.window.passes = self.window.passes.saturating_add(1);
        if self.window.passes < self.options.accumulate { Ok(None) } else { self.flush(rec, parameters) }
    }

    /// Checks that everything belongs to one device, that the optimiser was created for these
    /// parameters, and that the schedule can count one more update.
    fn check_step(&self, op: &'static str, rec: &Recorder<'_>, parameters: &Parameters) -> Result<()> {
        rec.check_device(op, "the parameters", parameters.values())?;
        rec.check_device(op, "the optimizer", &self.window.sums)?;
        if let Some(schedule) = &self.schedule {
            schedule.check(self.updates)?;
        }
        self.check(parameters)
    }

    /// Records an update.
    fn update(
        &mut self,
        rec: &mut Recorder<'_>,
        parameters: &Parameters,
        grads: &Tensor<f32>,
    ) -> Result<Option<UpdateReport>> {
        let values = parameters.values();
        if values.is_empty() {
            return Ok(None);
        }
        let Optimization { clip_value, clip_norm, loss_scale, skip_non_finite: guard, .. } = self.options;
        let gradient = Gradient { loss_scale, clip_value, clip_norm, guard };
        let clip = if clip_norm.is_some() || guard { Some(rec.clip_factor(grads, gradient)?) } else { None };
        if let (Some(schedule), Some((factor, report))) = (&self.schedule, &clip) {
            schedule.record(rec, self.updates, &report.skipped, factor)?;
        }
        let rate = self.options.schedule.factor(self.updates);
        for Run { range, sgd, .. } in &self.runs {
            let part = |tensor: &Tensor<f32>| tensor.part(range.start, Shape::from([range.len()]));
            let velocity = self.velocity.as_ref().map(part);
            rec.sgd_step(&SgdStep {
                values: &part(values),
                grads: &part(grads),
                velocity: velocity.as_ref(),
                options: &sgd.clone().lr(sgd.lr * rate),
                gradient,
                factor: clip.as_ref().map(|(factor, _)| factor),
                base_lr: self.schedule.as_ref().map(|_| sgd.lr),
            })?;
        }
        self.updates = self.updates.saturating_add(1);
        Ok(clip.map(|(_, report)| report))
    }

    /// Checks that these parameters have the names, shapes and positions of the parameters that the
    /// optimiser was created for.
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
        Err(Error::shape("Optimizer", "the parameters", say(own.get(first)), say(given.get(first))))
    }
}
