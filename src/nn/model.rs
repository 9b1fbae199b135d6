//! A network on the GPU: a trunk with heads.

use crate::engine::Gpu;
use crate::error::{Error, Result, ensure};
use crate::ops::Rectifier;
use crate::parameters::Parameters;
use crate::plan::product::Layout;
use crate::record::Recorder;
use crate::tensor::{Tensor, expect_shape};

use super::layers::{Placed, Placing, Sequential};

/// A network with its parameters: a trunk and at least one head. Each head has one output.
#[derive(Debug)]
pub struct Model {
    parameters: Parameters,
    trunk: Vec<Placed>,
    heads: Vec<Vec<Placed>>,
}

/// The outputs of all layers in a forward pass, which the backward pass needs. The output of a
/// linear layer is already rectified if a ReLU follows.
#[derive(Clone, Debug)]
pub struct Activations {
    /// The input, then the output of each layer.
    trunk: Vec<Tensor<f32>>,
    heads: Vec<Vec<Tensor<f32>>>,
    outputs: Vec<Tensor<f32>>,
}

impl Activations {
    /// The outputs of the heads, in their order.
    #[must_use]
    pub fn outputs(&self) -> &[Tensor<f32>] {
        &self.outputs
    }
}

impl Model {
    /// Creates a model of one stack of layers; the last layer's output is the model's. The seed
    /// determines the initial values that are not given.
    ///
    /// # Errors
    /// [`Error::Shape`] if a layer does not fit the one before it, or given values do not fit their
    /// layer; the errors of [`Parameters::new`].
    pub fn new(gpu: &Gpu, layers: &Sequential, seed: u64) -> Result<Self> {
        Self::build(gpu, ("", layers), &[("", &Sequential::new())], seed)
    }

    /// Creates a model of a trunk and heads. The names of the trunk's parameters begin with
    /// `trunk`, the names of a head's parameters with the name of the head.
    ///
    /// # Errors
    /// As [`Model::new`]; [`Error::Value`] if there are no heads.
    pub fn with_heads(gpu: &Gpu, trunk: &Sequential, heads: &[(&str, &Sequential)], seed: u64) -> Result<Self> {
        Self::build(gpu, ("trunk", trunk), heads, seed)
    }

    fn build(gpu: &Gpu, trunk: (&str, &Sequential), heads: &[(&str, &Sequential)], seed: u64) -> Result<Self> {
        ensure!(!heads.is_empty(), Error::value("Model::with_heads", "the number of heads", "at least 1", "0"));
        let mut initial = Vec::new();
        let mut placing = Placing { rng: &mut fastrand::Rng::with_seed(seed), parameters: &mut initial };
        let (trunk, width) = trunk.1.place(trunk.0, None, &mut placing)?;
        let place = |(name, head): &(&str, &Sequential)| Ok(head.place(name, width, &mut placing)?.0);
        let heads = heads.iter().map(place).collect::<Result<_>>()?;
        let named: Vec<_> = initial.iter().map(|p| (p.name.as_str(), p.shape.clone(), &p.values[..])).collect();
        Ok(Self { parameters: Parameters::new(gpu, &named)?, trunk, heads })
    }

    /// The parameters and their gradients.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The number of heads, each with one output.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads.len()
    }

    /// Records the forward pass of inputs `[N, inputs]`.
    ///
    /// # Errors
    /// The errors of [`matmul`](Recorder::matmul) if the input does not fit the first layer.
    pub fn forward(&self, rec: &mut Recorder<'_>, input: &Tensor<f32>) -> Result<Activations> {
        let trunk = self.run(rec, &self.trunk, input)?;
        let shared = trunk.last().unwrap_or(input);
        let heads = self.heads.iter().map(|head| self.run(rec, head, shared)).collect::<Result<Vec<_>>>()?;
        let outputs = heads.iter().map(|head| head.last().unwrap_or(shared).clone()).collect();
        Ok(Activations { trunk, heads, outputs })
    }

    /// Returns the input, then the output of each layer.
    fn run(&self, rec: &mut Recorder<'_>, layers: &[Placed], input: &Tensor<f32>) -> Result<Vec<Tensor<f32>>> {
        let mut values = vec![input.clone()];
        let mut x = input.clone();
        for (i, layer) in layers.iter().enumerate() {
            x = match layer {
                // The linear layer before it has applied the ReLU.
                Placed::Relu if matches!(before(layers, i), Some(Placed::Linear { .. })) => x,
                Placed::Relu => rec.relu(&x)?,
                Placed::Sigmoid => rec.sigmoid(&x)?,
                Placed::Linear { weight, bias } => {
                    let bias = bias.as_ref().map(|bias| self.parameters.value(bias)).transpose()?;
                    let weight = self.parameters.value(weight)?;
                    let rectifier = match layers.get(i + 1) {
                        Some(Placed::Relu) => Rectifier::Forward,
                        _ => Rectifier::None,
                    };
                    rec.rectified(Layout::Nt, [&x, &weight], bias.as_ref(), rectifier)?
                }
            };
            values.push(x.clone());
        }
        Ok(values)
    }

    /// Records the backward pass, which overwrites the gradients of the parameters. `grads` are the
    /// gradients with respect to the outputs, in their order.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one gradient for each output, with the shape of that
    /// output, and the activations come from this model.
    pub fn backward(&self, rec: &mut Recorder<'_>, activations: &Activations, grads: &[Tensor<f32>]) -> Result<()> {
        let op = "Model::backward";
        if grads.len() != self.heads.len() {
            let expected = format!("{} tensors, one for each output", self.heads.len());
            return Err(Error::shape(op, "grads", expected, grads.len()));
        }
        let layers = |values: &[Tensor<f32>], layers: &[Placed]| values.len() == layers.len() + 1;
        let own = layers(&activations.trunk, &self.trunk)
            && activations.heads.len() == self.heads.len()
            && activations.heads.iter().zip(&self.heads).all(|(values, head)| layers(values, head));
        ensure!(own, Error::shape(op, "activations", "the layers of this model", "those of another"));
        for (grad, output) in grads.iter().zip(&activations.outputs) {
            rec.check_device(op, "grads", grad)?;
            expect_shape(op, "grads", grad.shape(), output.shape())?;
        }
        // The input needs no gradient.
        let needed = has_parameters(&self.trunk);
        let mut total: Option<Tensor<f32>> = None;
        for ((head, values), grad) in self.heads.iter().zip(&activations.heads).zip(grads) {
            let Some(grad) = self.pull(rec, head, values, grad, needed)? else { continue };
            match &total {
                // A head without layers returns the caller's gradient, which must not change.
                None if self.heads.len() > 1 && head.is_empty() => {
                    let copy = rec.output(op, grad.shape().clone())?;
                    rec.copy(&grad, &copy)?;
                    total = Some(copy);
                }
                None => total = Some(grad),
                Some(total) => rec.accumulate(&grad, total)?,
            }
        }
        if let Some(total) = total {
            self.pull(rec, &self.trunk, &activations.trunk, &total, false)?;
        }
        Ok(())
    }

    /// Records the backward pass of one head alone. The parameters of the other heads get a
    /// gradient of 0. `grad` is the gradient with respect to the output of `head`; the activations
    /// must come from this model.
    pub(crate) fn backward_of(
        &self,
        rec: &mut Recorder<'_>,
        activations: &Activations,
        head: usize,
        grad: &Tensor<f32>,
    ) -> Result<()> {
        rec.fill_zero(self.parameters.grads())?;
        let (Some(layers), Some(values)) = (self.heads.get(head), activations.heads.get(head)) else { return Ok(()) };
        match self.pull(rec, layers, values, grad, has_parameters(&self.trunk))? {
            Some(grad) => self.pull(rec, &self.trunk, &activations.trunk, &grad, false).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Records the backward pass of layers. Returns the gradient with respect to their input if it
    /// is needed.
    fn pull(
        &self,
        rec: &mut Recorder<'_>,
        layers: &[Placed],
        values: &[Tensor<f32>],
        grad: &Tensor<f32>,
        input_needed: bool,
    ) -> Result<Option<Tensor<f32>>> {
        let mut grad = grad.clone();
        let around = values.iter().zip(values.iter().skip(1));
        for ((i, layer), (input, output)) in layers.iter().enumerate().zip(around).rev() {
            grad = match layer {
                // The linear layer after it has included the ReLU in its product.
                Placed::Relu if matches!(layers.get(i + 1), Some(Placed::Linear { .. })) => grad,
                Placed::Relu => rec.relu_backward(output, &grad)?,
                Placed::Sigmoid => rec.sigmoid_backward(output, &grad)?,
                Placed::Linear { weight, bias } => {
                    rec.matmul_into(Layout::Tn, &grad, input, None, &self.parameters.grad(weight)?)?;
                    if let Some(bias) = bias {
                        rec.column_sum_into(&grad, &self.parameters.grad(bias)?)?;
                    }
                    if !input_needed && !has_parameters(layers.get(..i).unwrap_or_default()) {
                        return Ok(None);
                    }
                    let weight = self.parameters.value(weight)?;
                    let rectifier = match before(layers, i) {
                        Some(Placed::Relu) => Rectifier::Backward(input),
                        _ => Rectifier::None,
                    };
                    rec.rectified(Layout::Nn, [&grad, &weight], None, rectifier)?
                }
            };
        }
        Ok(input_needed.then_some(grad))
    }
}

/// The layer before layer `i`.
fn before(layers: &[Placed], i: usize) -> Option<&Placed> {
    layers.get(i.checked_sub(1)?)
}

fn has_parameters(layers: &[Placed]) -> bool {
    layers.iter().any(|layer| matches!(layer, Placed::Linear { .. }))
}
