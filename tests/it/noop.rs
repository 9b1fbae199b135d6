//! Every operation recorded and validated on wgpu's `noop` backend, which needs no driver at all.

use xent::loss::{BceWithLogits, CrossEntropy, Grad, LossRequest, Mse, Nll, Reduction, Targets};
use xent::metrics::{BinaryOutputs, Evaluation};
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Momentum, Optimization, Optimizer, Parameters, Schedule, Sgd};
use xent::wgpu;
use xent::{Batch, Caps, Family, Gpu, Layout, Result, Tensor};

fn noop() -> Gpu {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Gpu::new(device, queue).unwrap()
}

fn record_everything(gpu: &Gpu, batch: &mut Batch) -> Result<()> {
    let x = Tensor::from_slice(gpu, [600, 20], &vec![0.1; 12_000])?;
    let y = Targets::new(gpu, [600], &vec![3u8; 600], 20)?;
    let p = Tensor::from_slice(gpu, [12_000], &vec![0.5; 12_000])?;
    let w = Tensor::from_slice(gpu, [7, 20], &vec![0.1; 140])?;
    for reduction in [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum] {
        let ce = CrossEntropy::new().reduction(reduction);
        let nll = Nll::new().reduction(reduction);
        batch.cross_entropy(&x, &y, &ce)?;
        batch.cross_entropy_with(&x, &y, &ce, Grad::New)?;
        batch.cross_entropy_with(&x, &y, &ce, Grad::InPlace)?;
        batch.nll(&x, &y, &nll)?;
        let out = batch.nll_with(&x, &y, &nll, Grad::New)?;
        drop(batch.read(&out.loss)?);
        macro_rules! record {
            ($($(#[$doc:meta])* $name:ident, $with:ident, $backward:ident: $Options:ident, $inputs:expr, $targets:expr;)*) => {
                $(
                    batch.$name(&p, &p, &xent::loss::$Options::new().reduction(reduction))?;
                    batch.$with(&p, &p, &xent::loss::$Options::new().reduction(reduction), Grad::New)?;
                )*
            };
        }
        xent::elementwise_losses!(record);
    }
    let position_weight = Some(vec![0.5; 600].into());
    let ce = CrossEntropy::new().position_weight(position_weight).softcap(5.0).z_loss(0.1);
    for grad in [Grad::No, Grad::New, Grad::InPlace] {
        let request = LossRequest::new().grad(grad).statistics();
        batch.cross_entropy_with(&x, &y, &ce, request)?;
        let q = Tensor::probabilities(gpu, [600, 20], &vec![0.05; 12_000])?;
        batch.cross_entropy_with(&x, &q, &ce, request)?;
    }
    let row_weights = Tensor::from_slice(gpu, [600], &[0.5; 600])?;
    Evaluation::new(gpu, 20)?.with_confusion()?.record(batch, &x, &y, Some(&row_weights))?;
    Evaluation::binary(gpu)?.record_binary(batch, BinaryOutputs::Probabilities(&p), &p, None)?;
    let (column, row) = (x.reshape([12_000, 1])?.rows(0..30)?, x.reshape([12_000])?.rows(0..40)?);
    batch.mse_with(&column, &row, &Mse::new().broadcast(true), Grad::New)?;
    let log_probs = batch.log_softmax(&x, 1)?;
    batch.log_softmax_backward(&log_probs, &x, 1)?;
    let probabilities = batch.softmax(&x, 1)?;
    batch.softmax_backward(&probabilities, &x, 1)?;
    let weight = Some(xent::Weights::new([12_000], &[1.0; 12_000])?);
    let weighted = BceWithLogits::new().weight(weight.clone()).pos_weight(weight);
    batch.bce_with_logits_with(&p, &p, &weighted, Grad::New)?;
    let relu = batch.relu(&x)?;
    batch.relu_backward(&relu, &x)?;
    let sigmoid = batch.sigmoid(&x)?;
    batch.sigmoid_backward(&sigmoid, &x)?;
    let bias = Tensor::from_slice(gpu, [7], &[0.0; 7])?;
    let c = batch.matmul(Layout::Nt, &x, &w, Some(&bias))?;
    batch.matmul(Layout::Nn, &c, &w, None)?;
    let parameters = Parameters::new(gpu, &[("w", [7, 20].into(), &[0.0; 140]), ("b", [7].into(), &[0.0; 7])])?;
    batch.matmul_into(Layout::Tn, &c, &x, None, &parameters.grad("w")?)?;
    batch.column_sum_into(&c, &parameters.grad("b")?)?;
    batch.column_sum(&c)?;
    let mut momentum = Momentum::new(gpu, parameters.values().shape().clone())?;
    for (momentum_factor, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let options = Sgd::new().momentum(momentum_factor).nesterov(nesterov);
        batch.sgd(parameters.values(), parameters.grads(), Some(&mut momentum), &options)?;
    }
    let total = Tensor::zeros(gpu, [600, 20])?;
    batch.upload(&total, &vec![1.0; 12_000])?;
    batch.accumulate(&x, &total)?;
    let model = Model::new(gpu, &Sequential::new().linear(20, 30).relu().linear(30, 20).sigmoid(), 0)?;
    let sgd = Sgd::new().momentum(0.9);
    let options =
        Optimization { sgd, clip_norm: Some(1.0), skip_non_finite: true, accumulate: 2, ..Default::default() };
    let mut training = Training::new(model, vec![Loss::cross_entropy()], options)?;
    training.step(batch, &x, &[(&y).into()])?;
    training.step(batch, &x, &[(&y).into()])?;
    let schedule = Schedule::Cosine { warm_up: 1, steps: 3, floor: 0.0 };
    let options = Optimization { schedule, skip_non_finite: true, accumulate: 3, ..Default::default() };
    let mut optimizer = Optimizer::new(&parameters, options)?;
    optimizer.step_mean(batch, &parameters, 7)?;
    optimizer.step_mean(batch, &parameters, &Tensor::from_slice(gpu, [], &[1.0f32])?)?;
    optimizer.flush(batch, &parameters)?;
    Ok(())
}

#[test]
fn everything_records_and_validates() {
    let gpu = noop();
    let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
    for family in [Family::Gpu, Family::CpuSimd] {
        for max_binding in [gpu.caps().max_binding, Caps::MIN_BINDING] {
            let gpu = gpu.with_caps(Caps { family, max_binding, ..gpu.caps().clone() }).unwrap();
            let mut batch = gpu.batch();
            record_everything(&gpu, &mut batch).unwrap();
            batch.submit().unwrap();
        }
    }
    let error = pollster::block_on(scope.pop());
    assert!(error.is_none(), "{error:?}");
}

#[test]
fn a_second_round_creates_only_what_unread_tickets_kept() {
    let gpu = noop();
    let round = || {
        let mut batch = gpu.batch();
        record_everything(&gpu, &mut batch).unwrap();
        batch.submit().unwrap();
    };
    round();
    // Tickets that are dropped unread keep their staging buffers from reuse. Wait until the buffers
    // of the first round are mapped.
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let before = gpu.counters().buffers_created;
    round();
    let staging_of_dropped_tickets = 4;
    assert_eq!(gpu.counters().buffers_created, before + staging_of_dropped_tickets);
}
