//! Cross-entropy of a linear layer's outputs, fused with the update of the layer.

use std::ops::Range;

use crate::error::Result;
use crate::ops::linear::LinearCrossEntropy;
use crate::ops::loss::CrossEntropy;
use crate::ops::update::Sgd;
use crate::options::options;
use crate::plan::linear::{ClassBlocks, LinearPlan, LinearSizes};
use crate::plan::product::Layout;
use crate::plan::summands::Order;
use crate::record::Recorder;
use crate::tensor::{Tensor, size32};

use crate::ops::linear::layer::Layer;
use crate::ops::linear::running_product::RunningProduct;
use crate::ops::loss::cross_entropy::KERNEL;
use crate::ops::loss::request::GradientPlace;
use crate::ops::loss::row_loss::{RowLoss, RowStatistics, RowsCallState, RowsOutput};
use crate::ops::loss::{Statistics, Targets};
use crate::ops::no_alias;
use crate::ops::product::matmul::{Sums, Zeros};
use crate::ops::update::gradient::Gradient;
use crate::ops::update::sgd::{Momentum, SgdStep};

/// How [`Recorder::linear_cross_entropy_sgd`] updates the layer, and which further results
/// it computes.
#[derive(Debug)]
#[non_exhaustive]
pub struct LinearSgd<'a> {
    /// The options of the step, as for [`Recorder::sgd`].
    pub sgd: Sgd,
    /// The weight's momentum, if the step uses momentum.
    pub weight_momentum: Option<&'a mut Momentum>,
    /// The bias's momentum, if there is a bias and the step uses momentum.
    pub bias_momentum: Option<&'a mut Momentum>,
    /// The upstream gradient: a scalar, or one value per loss; 1 if `None`.
    pub upstream: Option<&'a Tensor<f32>>,
    /// Whether to compute the [`Statistics`]: one more pass over the logits of a few tokens at a
    /// time, but no further matrix product.
    pub statistics: bool,
}

impl<'a> LinearSgd<'a> {
    /// A step without momentum.
    #[must_use]
    pub fn new(sgd: Sgd) -> Self {
        Self { sgd, weight_momentum: None, bias_momentum: None, upstream: None, statistics: false }
    }

    options!(@setters
        /// Sets the momentum of the weight.
        weight_momentum? &'a mut Momentum,
        /// Sets the momentum of the bias.
        bias_momentum? &'a mut Momentum,
        /// Sets the upstream gradient.
        upstream? &'a Tensor<f32>,
    );

    /// Requests the statistics.
    #[must_use]
    pub fn statistics(self) -> Self {
        Self { statistics: true, ..self }
    }
}

/// The results of [`Recorder::linear_cross_entropy_sgd`].
#[derive(Clone, Debug)]
pub struct LinearSgdResult {
    /// The loss before the update, as [`Recorder::cross_entropy`] returns it.
    pub loss: Tensor<f32>,
    /// The gradient with respect to the hidden states, `[N, D]`, from the layer before its update.
    pub hidden_grad: Tensor<f32>,
    /// The statistics, if requested.
    pub statistics: Option<Statistics>,
}

/// The tensors and settings of a step.
struct Step<'a> {
    layer: Layer,
    weight: &'a Tensor<f32>,
    storing: RowLoss<'a>,
    blocks: ClassBlocks,
    zeros: Zeros,
    /// Scratch for the logits of some tokens.
    logits: Tensor<f32>,
    hidden_grad: Tensor<f32>,
    bias_grad: Option<Tensor<f32>>,
    /// Scratch for hidden states in which ignored tokens are 0, if tokens can be ignored.
    counted: Option<Tensor<f32>>,
}

impl Step<'_> {
    /// The chunks of tokens for a block of classes; one empty chunk if there are no tokens.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (tokens, at_once) = (self.layer.sizes.tokens, self.blocks.tokens_at_once);
        (0..tokens.max(1)).step_by(at_once).map(move |start| start..tokens.min(start + at_once))
    }
}

/// Cross-entropy of a linear layer, fused with an update.
impl Recorder<'_> {
    /// [`linear_cross_entropy`](Self::linear_cross_entropy) with its gradients, and a step of
    /// [`sgd`](Self::sgd) for weight and bias. The weight's gradient, as large as the weight, never
    /// exists as a whole: the gradient of a block of classes is applied before the gradient of the
    /// next block is computed. Therefore the logits are computed twice.
    ///
    /// The loss and the gradient of the hidden states are those of the layer before the update. On
    /// software adapters all results equal those of
    /// [`linear_cross_entropy_with`](Self::linear_cross_entropy_with) and [`sgd`](Self::sgd) bit
    /// for bit; on GPUs those operations may hold rows in registers, and this one does not, so the
    /// last bits differ. The results do not depend on how tokens and classes are split.
    ///
    /// # Shapes
    /// As [`linear_cross_entropy`](Self::linear_cross_entropy). Momenta have the shapes of weight
    /// and bias.
    ///
    /// # Edge cases
    /// A target that is not a class makes the loss, and with it the whole layer, NaN; reading the
    /// loss returns [`Error::Data`](crate::Error::Data). A step with weight decay or momentum
    /// changes the weights of all classes, whatever their gradients.
    ///
    /// # Errors
    /// As [`linear_cross_entropy_with`](Self::linear_cross_entropy_with),
    /// [`Gpu::plan_linear_cross_entropy_sgd`](crate::Gpu::plan_linear_cross_entropy_sgd) and
    /// [`sgd`](Self::sgd); [`Error::Aliasing`](crate::Error::Aliasing) if weight or bias share
    /// their buffer with another tensor that is read, or overlap each other. On an error nothing is
    /// recorded (except as stated for [`Recorder`]).
    ///
    /// # Cost
    /// `8 N D V` floating-point operations, while gradients alone take `6 N D V`; `4 V D` bytes
    /// less memory.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use xent::linear::{LinearCrossEntropy, LinearSgd};
    /// use xent::loss::Targets;
    /// use xent::optim::Sgd;
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let hidden = Tensor::from_slice(&gpu, [1, 2], &[1.0, 2.0f32])?;
    /// let weight = Tensor::from_slice(&gpu, [2, 2], &[1.0, 0.0, 1.0, 0.0f32])?;
    /// let targets = Targets::new(&gpu, [1], &[0], 2)?;
    /// let sgd = Sgd::new().lr(0.5);
    /// let (options, update) = (LinearCrossEntropy::default(), LinearSgd::new(sgd));
    /// let mut batch = gpu.batch();
    /// batch.linear_cross_entropy_sgd(&hidden, &weight, None, &targets, &options, update)?;
    /// let mut weight = batch.read(&weight)?;
    /// batch.submit()?;
    /// assert_eq!(weight.wait(Duration::from_secs(10))?, [1.25, 0.5, 0.75, -0.5]);
    /// # Ok::<(), xent::Error>(())
    /// ```
    ///
    /// The definitions are those of the two operations.
    pub fn linear_cross_entropy_sgd<'a>(
        &mut self,
        hidden: &'a Tensor<f32>,
        weight: &'a Tensor<f32>,
        bias: Option<&'a Tensor<f32>>,
        targets: impl Into<Targets>,
        options: &LinearCrossEntropy,
        update: LinearSgd<'a>,
    ) -> Result<LinearSgdResult> {
        let (op, targets) = ("linear_cross_entropy_sgd", &targets.into());
        let layer = Layer::new(self, op, hidden, weight, bias)?;
        options.validate(op)?;
        let by_probabilities = targets.probabilities().is_some();
        let plan = LinearPlan::with_update(op, self.gpu().caps(), layer.sizes, options.scratch, by_probabilities)?;
        let LinearSgd { ref sgd, weight_momentum, bias_momentum, upstream, statistics } = update;
        for written in [Some(("weight", weight)), bias.map(|bias| ("bias", bias))].into_iter().flatten() {
            self.check_written(op, &layer, written, targets, &options.loss, upstream)?;
        }
        // No dispatch writes one of weight and bias and binds the other, so they may share a buffer
        // (like the tensors of `Parameters`).
        if let Some(bias) = bias.filter(|bias| weight.overlaps(bias)) {
            no_alias(op, ("weight", weight), ("bias", bias))?;
        }
        let velocity = self.velocity_of(op, ["the weight's velocity", "weight"], weight, weight_momentum, sgd)?;
        let bias_momentum = bias_momentum.filter(|_| bias.is_some());
        let of_bias = |bias| self.velocity_of(op, ["the bias's velocity", "bias"], bias, bias_momentum, sgd);
        let bias_velocity = bias.map(of_bias).transpose()?.flatten();
        for velocity in velocity.iter().chain(&bias_velocity) {
            self.check_written(op, &layer, ("velocity", velocity), targets, &options.loss, upstream)?;
            no_alias(op, ("velocity", velocity), ("weight", weight))?;
            bias.map_or(Ok(()), |bias| no_alias(op, ("velocity", velocity), ("bias", bias)))?;
        }
        if let (Some(velocity), Some(other)) = (&velocity, &bias_velocity)
            && velocity.overlaps(other)
        {
            no_alias(op, ("velocity", velocity), ("the bias's velocity", other))?;
        }
        let call = |gradient, statistics| RowLoss {
            op,
            kernel: &KERNEL,
            shape: [layer.sizes.tokens, layer.sizes.classes].into(),
            targets,
            options: options.loss.clone(),
            divided: true,
            upstream,
            gradient,
            statistics,
            threshold: options.gradient_threshold,
            most_rows_for_plan: u32::MAX,
        };
        let loading = call(GradientPlace::InPlace, RowStatistics::LoadState);
        let wanted = call(GradientPlace::None, RowStatistics::Write);
        // Fails before anything is recorded.
        let wanted_inputs = statistics.then(|| wanted.validate(self)).transpose()?;
        let begun = self.begin_rows(&loading)?;
        let also = wanted_inputs.map(|inputs| self.begin_validated_rows(&wanted, inputs)).transpose()?;
        let (storing, blocks) = (call(GradientPlace::None, RowStatistics::StoreState), plan.update());
        let LinearSizes { classes, inputs, .. } = layer.sizes;
        let blocks = blocks.unwrap_or(ClassBlocks { classes_at_once: 1, tokens_at_once: 1 });
        let room = (plan.tokens_at_once() * classes).max(blocks.tokens_at_once * blocks.classes_at_once);
        let logits = self.output(op, [room])?;
        let step = Step {
            weight,
            storing,
            blocks,
            zeros: Zeros::below(options.gradient_threshold),
            logits,
            hidden_grad: self.output(op, hidden.shape().clone())?,
            bias_grad: bias.map(|bias| self.output(op, bias.shape().clone())).transpose()?,
            counted: begun.inputs.may_ignore().then(|| self.output(op, [blocks.tokens_at_once, inputs])).transpose()?,
            layer,
        };
        // Compute the losses of all tokens, and store the softmax statistics that their gradients
        // need.
        for tokens in plan.chunks().filter(|tokens| !tokens.is_empty()) {
            let logits = self.logits_of(&step, tokens.clone(), 0..classes)?;
            self.rows_of_tokens(&step.storing, &begun, tokens.clone(), 0, &logits)?;
            if let Some(also) = &also {
                self.rows_of_tokens(&wanted, also, tokens, 0, &logits)?;
            }
        }
        let all: Tensor<f32> = self.output(op, [blocks.classes_at_once, inputs])?;
        // One for each chunk of tokens.
        let mut hidden_grads = Vec::new();
        for chunk in step.chunks() {
            let to = step.hidden_grad.rows(chunk)?;
            hidden_grads.push(RunningProduct::new(self, op, (Layout::Nn, step.zeros), plan.over_classes(), &to)?);
        }
        for start in (0..classes).step_by(blocks.classes_at_once) {
            let block = start..classes.min(start + blocks.classes_at_once);
            let grads = all.rows(0..block.len())?;
            self.gradients_of_block(
                &step,
                (&loading, &begun),
                block.clone(),
                &grads,
                (plan.over_tokens(), &mut hidden_grads),
            )?;
            let velocity = velocity.as_ref().map(|velocity| velocity.rows(block.clone())).transpose()?;
            let (values, velocity) = (&weight.rows(block)?, velocity.as_ref());
            let gradient = Gradient::AS_IT_IS;
            self.sgd_step(&SgdStep {
                values,
                grads: &grads,
                velocity,
                options: sgd,
                gradient,
                factor: None,
                base_lr: None,
            })?;
        }
        if classes == 0 {
            self.fill_zero(&step.hidden_grad)?;
        }
        if let (Some(values), Some(grads)) = (bias, &step.bias_grad) {
            let (velocity, gradient) = (bias_velocity.as_ref(), Gradient::AS_IT_IS);
            self.sgd_step(&SgdStep { values, grads, velocity, options: sgd, gradient, factor: None, base_lr: None })?;
        }
        let RowsOutput { loss, check, .. } = self.end_rows(&loading, begun)?;
        let statistics = match also {
            Some(also) => self.end_rows(&wanted, also)?.statistics,
            None => None,
        };
        Ok(LinearSgdResult { loss, hidden_grad: step.hidden_grad.with_check(check), statistics })
    }

    /// Checks that a tensor to update shares no buffer with the tensors that are read, except the
    /// layer's own.
    fn check_written(
        &self,
        op: &'static str,
        layer: &Layer,
        written: (&'static str, &Tensor<f32>),
        targets: &Targets,
        loss: &CrossEntropy,
        upstream: Option<&Tensor<f32>>,
    ) -> Result<()> {
        no_alias(op, written, ("hidden", &layer.hidden))?;
        upstream.map_or(Ok(()), |upstream| no_alias(op, written, ("upstream", upstream)))?;
        targets.no_alias(op, written)?;
        let weights = [("the loss's weight", &loss.weight), ("position_weight", &loss.position_weight)];
        for (what, weights) in weights {
            weights.as_ref().map_or(Ok(()), |weights| no_alias(op, written, (what, &weights.on(self.gpu())?)))?;
        }
        Ok(())
    }

    /// Computes the gradients of a block's weights and biases, and adds the block's contribution to
    /// the gradients of the hidden states.
    fn gradients_of_block(
        &mut self,
        step: &Step<'_>,
        (loading, begun): (&RowLoss<'_>, &RowsCallState),
        block: Range<usize>,
        grads: &Tensor<f32>,
        (over_tokens, hidden_grads): (Order, &mut [RunningProduct]),
    ) -> Result<()> {
        let Step { layer, weight, zeros, bias_grad, counted, .. } = step;
        let op = loading.op;
        let weight = weight.rows(block.clone())?.real();
        let mut weight_grad = RunningProduct::new(self, op, (Layout::Tn, *zeros), over_tokens, grads)?;
        let lows = self.output(op, [block.len()])?;
        let classes = size32(block.start)..size32(block.end);
        for (chunk, hidden_grad) in step.chunks().zip(hidden_grads) {
            let logits = self.logits_of(step, chunk.clone(), block.clone())?;
            if !chunk.is_empty() {
                self.rows_of_tokens(loading, begun, chunk.clone(), block.start, &logits)?;
            }
            hidden_grad.add(self, [&logits.real(), &weight], classes.clone())?;
            let rows = size32(chunk.start)..size32(chunk.end);
            let hidden = layer.hidden.rows(chunk.clone())?;
            let hidden = match counted {
                Some(to) => self.counted_rows(op, &hidden, &begun.inputs, chunk, to)?,
                None => hidden,
            };
            weight_grad.add(self, [&logits.real(), &hidden], rows.clone())?;
            if let Some(bias_grad) = bias_grad {
                let to = (&bias_grad.rows(block.clone())?, &lows);
                self.column_sum_resumed(&logits, (rows, over_tokens.all), to)?;
            }
        }
        Ok(())
    }

    /// Computes the logits of some tokens and classes.
    fn logits_of(&mut self, step: &Step<'_>, tokens: Range<usize>, classes: Range<usize>) -> Result<Tensor<f32>> {
        let Layer { hidden, weight, bias, .. } = &step.layer;
        let logits = step.logits.part(0, [tokens.len(), classes.len()].into());
        let bias = bias.as_ref().map(|bias| bias.rows(classes.clone())).transpose()?;
        let factors = [&hidden.rows(tokens)?, &weight.rows(classes)?];
        self.matmul_sums(Layout::Nt, factors, bias.as_ref(), (Sums::OF_LOGITS, Zeros::Count), &logits)?;
        Ok(logits)
    }
}
