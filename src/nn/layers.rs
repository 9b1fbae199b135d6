//! Layers as descriptions, without anything on the GPU.

use crate::error::{Error, Result, try_with_capacity, within};
use crate::tensor::Shape;

/// A linear layer: `y = x W^T + b` with a weight `[outputs, inputs]` and a bias `[outputs]`.
///
/// Its values are either given or PyTorch's initialisation: weight and bias uniform within
/// `1 / sqrt(inputs)` of 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    inputs: usize,
    outputs: usize,
    bias: bool,
    name: Option<String>,
    values: Option<(Vec<f32>, Vec<f32>)>,
}

impl Linear {
    /// Creates a layer with a bias.
    #[must_use]
    pub fn new(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, bias: true, name: None, values: None }
    }

    /// Removes the bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// Names the layer; the names of its parameters begin with that name. The default name is the
    /// layer's index in its [`Sequential`], as in PyTorch. An empty name adds no prefix.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Sets the values, row-major; `bias` is empty if the layer has none.
    #[must_use]
    pub fn with_values(self, weight: &[f32], bias: &[f32]) -> Self {
        Self { values: Some((weight.to_vec(), bias.to_vec())), ..self }
    }
}

/// A layer of a [`Sequential`].
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// `y = x W^T + b`.
    Linear(Linear),
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl From<Linear> for Layer {
    fn from(linear: Linear) -> Self {
        Self::Linear(linear)
    }
}

/// A sequence of layers.
///
/// # Examples
/// ```
/// use xent::nn::{Linear, Sequential};
/// // PyTorch's Sequential(Linear(64, 128), ReLU(), Linear(128, 10)). The parameters are
/// // 0.weight, 0.bias, 2.weight and 2.bias.
/// let network = Sequential::new().linear(64, 128).relu().linear(128, 10);
/// // The parameters are linear.weight and linear.bias.
/// let regression = Sequential::new().layer(Linear::new(1, 1).named("linear")).sigmoid();
/// # let _ = (network, regression);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequential {
    layers: Vec<Layer>,
}

impl Sequential {
    /// Creates an empty sequence: the output is the input.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a layer.
    #[must_use]
    pub fn layer(mut self, layer: impl Into<Layer>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// Appends a linear layer with a bias.
    #[must_use]
    pub fn linear(self, inputs: usize, outputs: usize) -> Self {
        self.layer(Linear::new(inputs, outputs))
    }

    /// Appends a ReLU.
    #[must_use]
    pub fn relu(self) -> Self {
        self.layer(Layer::Relu)
    }

    /// Appends a sigmoid.
    #[must_use]
    pub fn sigmoid(self) -> Self {
        self.layer(Layer::Sigmoid)
    }
}

/// A parameter that is not on the GPU yet.
#[derive(Debug)]
pub(super) struct Initial {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) values: Vec<f32>,
}

/// A layer with the names of its parameters.
#[derive(Clone, Debug)]
pub(super) enum Placed {
    Linear { weight: String, bias: Option<String> },
    Relu,
    Sigmoid,
}

/// The random numbers and the parameters so far, while layers are placed one by one.
pub(super) struct Placing<'a> {
    pub(super) rng: &'a mut fastrand::Rng,
    pub(super) parameters: &'a mut Vec<Initial>,
}

impl Sequential {
    /// Places the layers after a layer with `width` outputs (`None` if unknown). Returns the placed
    /// layers and the width after them.
    pub(super) fn place(
        &self,
        prefix: &str,
        mut width: Option<usize>,
        placing: &mut Placing<'_>,
    ) -> Result<(Vec<Placed>, Option<usize>)> {
        let mut placed = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            placed.push(match layer {
                Layer::Relu => Placed::Relu,
                Layer::Sigmoid => Placed::Sigmoid,
                Layer::Linear(linear) => {
                    let name = linear.name.clone().unwrap_or_else(|| i.to_string());
                    let full = |leaf: &str| {
                        let parts = [prefix, &name, leaf];
                        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
                    };
                    if let Some(width) = width.filter(|&width| width != linear.inputs) {
                        let expected = format!("{width} inputs for {:?}, as the layer before it gives", full("weight"));
                        return Err(Error::shape("Model::new", "a layer", expected, linear.inputs));
                    }
                    width = Some(linear.outputs);
                    linear.place(full("weight"), full("bias"), placing)?
                }
            });
        }
        Ok((placed, width))
    }
}

impl Linear {
    fn place(&self, weight: String, bias: String, placing: &mut Placing<'_>) -> Result<Placed> {
        let op = "Model::new";
        let elements = (self.outputs as u64).saturating_mul(self.inputs as u64).max(self.outputs as u64);
        within(op, "a layer's parameters", elements, u32::MAX)?;
        if let Some((_, values)) = self.values.as_ref().filter(|(_, values)| !self.bias && !values.is_empty()) {
            return Err(Error::shape(op, "the values", format!("no bias for {weight:?}"), values.len()));
        }
        #[expect(clippy::cast_precision_loss, reason = "the bound of random numbers may be rounded")]
        let bound = if self.inputs == 0 { 0.0 } else { 1.0 / (self.inputs as f32).sqrt() };
        let mut draw = |len: usize| {
            let mut values = try_with_capacity(op, len)?;
            values.extend((0..len).map(|_| (2.0 * placing.rng.f32() - 1.0) * bound));
            Ok(values)
        };
        let biases = if self.bias { self.outputs } else { 0 };
        // `Parameters::new` checks the number of given values.
        let (weights, biases) = match &self.values {
            Some(values) => values.clone(),
            None => (draw(self.outputs * self.inputs)?, draw(biases)?),
        };
        let shape = [self.outputs, self.inputs].into();
        placing.parameters.push(Initial { name: weight.clone(), shape, values: weights });
        if self.bias {
            placing.parameters.push(Initial { name: bias.clone(), shape: [self.outputs].into(), values: biases });
        }
        Ok(Placed::Linear { weight, bias: self.bias.then_some(bias) })
    }
}
