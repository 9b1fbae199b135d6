//! burn's jobs, on any of its devices.

use burn::nn::loss::{BinaryCrossEntropyLossConfig, CrossEntropyLossConfig};
use burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData, activation::relu};

use crate::{Job, Network, Work};

/// The wgpu device of the same type as xent's adapter.
pub fn wgpu(device_type: xent::wgpu::DeviceType) -> Device {
    use xent::wgpu::DeviceType;
    Device::wgpu(match device_type {
        DeviceType::Cpu => DeviceKind::Cpu,
        DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
        DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
        DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
        DeviceType::Other => DeviceKind::DefaultDevice,
    })
}

pub fn flex() -> Device {
    Device::flex()
}

fn matrix(values: &[f32], rows: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), device)
}

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn labels(labels: &[u32], device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = labels.iter().map(|&y| y as i32).collect();
    Tensor::from_data(TensorData::new(labels.clone(), [labels.len()]), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("32-bit floats")
}

/// A job that computes an operation and waits for the device. Its `result` computes again and reads
/// the values.
fn repeated<const D: usize>(device: &Device, compute: impl FnMut() -> (Option<Tensor<1>>, Tensor<D>) + 'static) -> Job {
    let device = device.clone();
    let compute = std::rc::Rc::new(std::cell::RefCell::new(compute));
    let again = compute.clone();
    Job {
        run: Box::new(move || {
            let out = (compute.borrow_mut())();
            device.sync()?;
            drop(out);
            Ok(())
        }),
        result: Box::new(move || {
            let (loss, tensor) = (again.borrow_mut())();
            let loss = loss.map_or(0.0, |loss| values(loss)[0]);
            Ok((loss, values(tensor)))
        }),
    }
}

pub fn job(device: &Device, work: &Work) -> Job {
    let tracked = device.clone().autodiff();
    match work.clone() {
        Work::CrossEntropy(rows) => {
            let x = matrix(&rows.logits, rows.n, &tracked).require_grad();
            let y = labels(&rows.labels, &tracked);
            let criterion = CrossEntropyLossConfig::new().init(&tracked);
            repeated(device, move || {
                let loss = criterion.forward(x.clone(), y.clone());
                let grads = loss.backward();
                (Some(loss.inner()), x.grad(&grads).expect("a gradient"))
            })
        }
        Work::LinearCrossEntropy(head) => {
            let hidden = matrix(&head.hidden, head.n, &tracked).require_grad();
            let weight = matrix(&head.weight, head.classes, &tracked).require_grad();
            let y = labels(&head.labels, &tracked);
            let criterion = CrossEntropyLossConfig::new().init(&tracked);
            repeated(device, move || {
                let logits = hidden.clone().matmul(weight.clone().transpose());
                let loss = criterion.forward(logits, y.clone());
                let grads = loss.backward();
                let hidden = hidden.grad(&grads).expect("a gradient");
                drop(hidden);
                (Some(loss.inner()), weight.grad(&grads).expect("a gradient"))
            })
        }
        Work::BceWithLogits(vectors) => {
            let x = vector(&vectors.x, &tracked).require_grad();
            let y: Vec<u32> = vectors.y.iter().map(|&y| y as u32).collect();
            let y = labels(&y, &tracked);
            let criterion = BinaryCrossEntropyLossConfig::new().with_logits(true).init(&tracked);
            repeated(device, move || {
                let loss = criterion.forward(x.clone(), y.clone());
                let grads = loss.backward();
                (Some(loss.inner()), x.grad(&grads).expect("a gradient"))
            })
        }
        Work::Matmul(side, matrices) => {
            let (a, b) = (matrix(&matrices.x, side, device), matrix(&matrices.y, side, device));
            repeated(device, move || (None, a.clone().matmul(b.clone())))
        }
        Work::Sgd(vectors) => {
            let (mut x, grad) = (vector(&vectors.x, device), vector(&vectors.y, device));
            repeated(device, move || {
                x = x.clone() - grad.clone().mul_scalar(0.01);
                (None, x.clone())
            })
        }
        Work::Step(network) => step(device, &network),
    }
}

fn step(device: &Device, network: &Network) -> Job {
    let tracked = device.clone().autodiff();
    let [inputs, hidden, outputs] = network.sizes;
    let x = matrix(&network.x, network.batch, &tracked);
    let y = labels(&network.labels, &tracked);
    let criterion = CrossEntropyLossConfig::new().init(&tracked);
    let parameter = |values: &[f32], rows| matrix(values, rows, &tracked).require_grad();
    let mut parameters = [
        parameter(&network.weights[0], inputs),
        parameter(&vec![0.0; hidden], 1),
        parameter(&network.weights[1], hidden),
        parameter(&vec![0.0; outputs], 1),
    ];
    let lr = network.lr;
    repeated(device, move || {
        let [w1, b1, w2, b2] = parameters.clone();
        let logits = relu(x.clone().matmul(w1) + b1).matmul(w2) + b2;
        let loss = criterion.forward(logits, y.clone());
        let grads = loss.backward();
        for parameter in &mut parameters {
            let grad = parameter.grad(&grads).expect("a gradient");
            *parameter = (parameter.clone().inner() - grad.mul_scalar(lr)).autodiff().require_grad();
        }
        (Some(loss.inner()), parameters[2].clone().inner().transpose())
    })
}
