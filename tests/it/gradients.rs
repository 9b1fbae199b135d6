//! The reference against itself: every backward pass against central differences of its forward
//! pass, in f64.

use crate::common::{labels, random, unit};
use xent::loss::{Bce, BceWithLogits, CrossEntropy, Mse, Nll, Reduction};
use xent::optim::Sgd;
use xent::{Layout, Result, cpu};

/// Checks `grad` at `x` against central differences of the sum of `weights * f(x)`.
#[track_caller]
fn check(what: &str, x: &[f32], weights: &[f64], grad: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) {
    let x: Vec<f64> = x.iter().copied().map(f64::from).collect();
    assert_eq!(grad.len(), x.len(), "{what}: length");
    let weighted = |x: &[f64]| -> f64 {
        let y = f(x);
        assert_eq!(y.len(), weights.len(), "{what}: outputs");
        y.iter().zip(weights).map(|(y, w)| y * w).sum()
    };
    for i in 0..x.len() {
        let h = 1e-6;
        let mut up = x.clone();
        up[i] += h;
        let mut down = x.clone();
        down[i] -= h;
        let slope = (weighted(&up) - weighted(&down)) / (2.0 * h);
        let error = (slope - grad[i]).abs();
        assert!(error <= 1e-8 + 1e-7 * slope.abs(), "{what}: element {i}: gradient {}, slope {slope}", grad[i]);
    }
}

const REDUCTIONS: [Reduction; 4] = [Reduction::None, Reduction::Mean, Reduction::MeanByCount, Reduction::Sum];

fn upstream(reduction: Reduction, len: usize) -> Vec<f64> {
    let len = if reduction == Reduction::None { len } else { 1 };
    random(9, len, 2.0).into_iter().map(f64::from).collect()
}

#[test]
fn row_losses() -> Result<()> {
    for shape in [&[5][..], &[4, 6], &[2, 3, 2, 2]] {
        let class_dim = usize::from(shape.len() > 1);
        let classes = shape[class_dim];
        let len: usize = shape.iter().product();
        let rows = len / classes;
        let x = random(1, len, 3.0);
        let mut targets = labels(2, rows, classes);
        if rows > 1 {
            targets[1] = 77;
        }
        let targets = || cpu::Targets::from(&targets).ignoring(77);
        for reduction in REDUCTIONS {
            let g = upstream(reduction, rows);
            let ce = CrossEntropy::new().reduction(reduction);
            let grad = cpu::cross_entropy_backward((&x, shape), targets(), &ce, Some(&g))?.grad;
            check("cross_entropy", &x, &g, &grad, |x| cpu::cross_entropy((x, shape), targets(), &ce).unwrap());
            let weight: Option<xent::Weights> = Some(unit(6, classes).into());
            let probabilities = unit(8, len);
            for label_smoothing in [0.0, 0.3] {
                let ce = ce.clone().weight(weight.clone()).label_smoothing(label_smoothing);
                let grad = cpu::cross_entropy_backward((&x, shape), targets(), &ce, Some(&g))?.grad;
                check("weighted", &x, &g, &grad, |x| cpu::cross_entropy((x, shape), targets(), &ce).unwrap());
                let grad = cpu::cross_entropy_backward((&x, shape), &probabilities, &ce, Some(&g))?.grad;
                check("soft", &x, &g, &grad, |x| cpu::cross_entropy((x, shape), &probabilities, &ce).unwrap());
            }
            let rows_shape: Vec<usize> =
                shape.iter().enumerate().filter(|(d, _)| *d != class_dim).map(|(_, &size)| size).collect();
            let position_weight = Some(xent::Weights::new(rows_shape, &random(10, rows, 1.0)).unwrap());
            for beyond in [
                ce.clone().position_weight(position_weight.clone()),
                ce.clone().logit_scale(0.7),
                ce.clone().softcap(2.0).logit_scale(1.3),
                ce.clone().z_loss(0.3),
                ce.clone()
                    .weight(weight.clone())
                    .position_weight(position_weight.clone())
                    .label_smoothing(0.2)
                    .softcap(4.0)
                    .z_loss(0.1),
            ] {
                let grad = cpu::cross_entropy_backward((&x, shape), targets(), &beyond, Some(&g))?.grad;
                check("beyond", &x, &g, &grad, |x| cpu::cross_entropy((x, shape), targets(), &beyond).unwrap());
                let grad = cpu::cross_entropy_backward((&x, shape), &probabilities, &beyond, Some(&g))?.grad;
                check("beyond soft", &x, &g, &grad, |x| {
                    cpu::cross_entropy((x, shape), &probabilities, &beyond).unwrap()
                });
            }
            let nll = Nll::new().weight(weight).position_weight(position_weight).reduction(reduction);
            let grad = cpu::nll_backward((&x, shape), targets(), &nll, Some(&g))?.grad;
            check("nll", &x, &g, &grad, |x| cpu::nll((x, shape), targets(), &nll).unwrap());
        }
        let g: Vec<f32> = random(4, len, 1.0);
        let weights: Vec<f64> = g.iter().copied().map(f64::from).collect();
        let wide: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let y = cpu::log_softmax((&wide, shape), class_dim)?;
        let grad = cpu::log_softmax_backward((&y, shape), &weights, class_dim)?;
        check("log_softmax", &x, &weights, &grad, |x| cpu::log_softmax((x, shape), class_dim).unwrap());
        let y = cpu::softmax((&wide, shape), class_dim)?;
        let grad = cpu::softmax_backward((&y, shape), &weights, class_dim)?;
        check("softmax", &x, &weights, &grad, |x| cpu::softmax((x, shape), class_dim).unwrap());
    }
    Ok(())
}

#[test]
fn elementwise_losses() -> Result<()> {
    // Away from 0 and 1, where binary cross-entropy is clamped.
    let p: Vec<f32> = unit(1, 12).iter().map(|p| 0.05 + 0.9 * p).collect();
    let (x, y) = (random(2, 12, 4.0), unit(3, 12));
    let wide: Vec<f64> = y.iter().copied().map(f64::from).collect();
    for reduction in REDUCTIONS {
        let g = upstream(reduction, 12);
        let bce = Bce::new().reduction(reduction);
        let grad = cpu::bce_backward((&p, &[p.len()]), (&y, &[p.len()]), &bce, Some(&g))?.grad;
        check("bce", &p, &g, &grad, |p| cpu::bce((p, &[p.len()]), (&wide, &[p.len()]), &bce).unwrap());
        let logits = BceWithLogits::new().reduction(reduction);
        let grad = cpu::bce_with_logits_backward((&x, &[x.len()]), (&y, &[x.len()]), &logits, Some(&g))?.grad;
        check("bce_with_logits", &x, &g, &grad, |x| {
            cpu::bce_with_logits((x, &[x.len()]), (&wide, &[x.len()]), &logits).unwrap()
        });
        let weight: Option<xent::Weights> = Some(xent::Weights::new([3, 1], &unit(6, 3)).unwrap());
        let pos_weight: Option<xent::Weights> = Some(unit(7, 4).into());
        let weighted = BceWithLogits::new().weight(weight).pos_weight(pos_weight).reduction(reduction);
        let grad = cpu::bce_with_logits_backward((&x, &[3, 4]), (&y, &[3, 4]), &weighted, Some(&g))?.grad;
        check("weighted", &x, &g, &grad, |x| cpu::bce_with_logits((x, &[3, 4]), (&wide, &[3, 4]), &weighted).unwrap());
        let mse = Mse::new().reduction(reduction);
        let grad = cpu::mse_backward((&x, &[x.len()]), (&y, &[y.len()]), &mse, Some(&g))?.grad;
        check("mse", &x, &g, &grad, |x| cpu::mse((x, &[x.len()]), (&wide, &[wide.len()]), &mse).unwrap());
        let weight = Some(unit(6, x.len()).into());
        let weighted = mse.clone().weight(weight);
        let shapes = (&[x.len()][..], &[wide.len()][..]);
        let grad = cpu::mse_backward((&x, shapes.0), (&y, shapes.1), &weighted, Some(&g))?.grad;
        check("weighted mse", &x, &g, &grad, |x| cpu::mse((x, shapes.0), (&wide, shapes.1), &weighted).unwrap());
        // [3, 1] and [4] broadcast to [3, 4].
        let (few, few_targets) = (&x[..3], &y[..4]);
        let mse = mse.broadcast(true);
        let grad = cpu::mse_backward((few, &[3, 1]), (few_targets, &[4]), &mse, Some(&g))?.grad;
        check("broadcast mse", few, &g, &grad, |x| cpu::mse((x, &[3, 1]), (&wide[..4], &[4]), &mse).unwrap());
    }
    Ok(())
}

#[test]
fn maps_and_products() -> Result<()> {
    let (x, g) = (random(2, 12, 4.0), random(5, 12, 1.0));
    let weights: Vec<f64> = g.iter().copied().map(f64::from).collect();
    let y = cpu::relu(&x);
    check("relu", &x, &weights, &cpu::relu_backward(&y, &weights)?, cpu::relu);
    let y = cpu::sigmoid(&x);
    check("sigmoid", &x, &weights, &cpu::sigmoid_backward(&y, &weights)?, cpu::sigmoid);

    // A layer: output = input * weight^T + bias. Its three gradients are two products, in the other
    // two layouts, and a column sum.
    let (rows, inputs, outputs) = (4, 3, 5);
    let [input, weight, bias] =
        [random(6, rows * inputs, 1.0), random(7, outputs * inputs, 1.0), random(8, outputs, 1.0)];
    let g = random(9, rows * outputs, 1.0);
    let weights: Vec<f64> = g.iter().copied().map(f64::from).collect();
    let wide = |v: &[f32]| v.iter().copied().map(f64::from).collect::<Vec<f64>>();
    let (wi, ww, wb) = (wide(&input), wide(&weight), wide(&bias));
    let layer = |i: &[f64], w: &[f64], b: &[f64]| {
        cpu::matmul(Layout::Nt, (i, &[rows, inputs]), (w, &[outputs, inputs]), Some(b)).unwrap()
    };
    let grad = cpu::matmul(Layout::Nn, (&weights[..], &[rows, outputs]), (&ww[..], &[outputs, inputs]), None)?;
    check("input", &input, &weights, &grad, |x| layer(x, &ww, &wb));
    let grad = cpu::matmul(Layout::Tn, (&weights[..], &[rows, outputs]), (&wi[..], &[rows, inputs]), None)?;
    check("weight", &weight, &weights, &grad, |x| layer(&wi, x, &wb));
    let grad = cpu::column_sum((&weights, &[rows, outputs]))?;
    check("bias", &bias, &weights, &grad, |x| layer(&wi, &ww, x));
    Ok(())
}

/// Two steps of `torch.optim.SGD` worked out by hand: value 1, gradients 0.5 and -0.25, lr 0.1.
#[test]
fn sgd_follows_its_definition() -> Result<()> {
    let base = Sgd::new().lr(0.1);
    for (options, want) in [
        (base.clone(), [0.95, 0.975]),
        (base.clone().maximize(true), [1.05, 1.025]),
        // g = 0.5 + 0.5 * 1 = 1; then -0.25 + 0.5 * 0.9 = 0.2.
        (base.clone().weight_decay(0.5), [0.9, 0.88]),
        // v = 0.5; then 0.5 * 0.5 - 0.25 = 0.
        (base.clone().momentum(0.5), [0.95, 0.95]),
        // v = 0.5, not dampened; then 0.25 + 0.5 * -0.25 = 0.125.
        (base.clone().momentum(0.5).dampening(0.5), [0.95, 0.9375]),
        // v = 0.5, step 0.5 + 0.25; then v = 0, step -0.25.
        (base.momentum(0.5).nesterov(true), [0.925, 0.95]),
    ] {
        let (mut value, mut velocity) = (vec![1.0], Vec::new());
        for (grad, want) in [0.5, -0.25].into_iter().zip(want) {
            cpu::sgd(&mut value, &[grad], &mut velocity, &options)?;
            assert!((value[0] - want).abs() < 1e-7, "{options:?}: {} instead of {want}", value[0]);
        }
    }
    Ok(())
}
