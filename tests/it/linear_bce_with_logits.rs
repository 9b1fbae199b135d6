//! Binary cross-entropy of a linear layer: every option against the reference, for every split of
//! the tokens.

use crate::common::*;
use xent::linear::{LinearBceWithLogits, LinearLossRequest};
use xent::loss::{BceWithLogits, Grad, Reduction};
use xent::{Error, Tensor, Weights, cpu};

#[test]
fn every_option_agrees_with_the_reference_and_results_do_not_depend_on_chunking() {
    let Some(gpu) = gpu() else { return };
    let mut chosen = one_in(11);
    for sizes @ [tokens, inputs, classes] in [[70, 9, 33], [5, 4, 300], [3, 0, 5], [0, 4, 5], [1, 3, 1]] {
        let hidden = random(1, tokens * inputs, 2.0);
        let weight = random(2, classes * inputs, 2.0);
        let bias = random(3, classes, 2.0);
        let targets: Vec<f32> =
            unit(4, tokens * classes).iter().map(|&y| if y < 0.7 { y.round() } else { y }).collect();
        let wide: Vec<f64> = targets.iter().map(|&y| y.into()).collect();
        let by_class = || Some(Weights::new([classes], &unit(5, classes)).unwrap());
        let by_token = || Some(Weights::new([tokens, 1], &unit(6, tokens)).unwrap());
        for (loss, upstream) in [
            (BceWithLogits::default(), false),
            (BceWithLogits::new().pos_weight(by_class()).reduction(Reduction::Sum), true),
            (BceWithLogits::new().weight(by_class()).pos_weight(by_token()), false),
            (BceWithLogits::new().weight(by_token()).reduction(Reduction::None), true),
        ] {
            let upstream = upstream.then(|| match loss.reduction {
                Reduction::None => (vec![tokens, classes], random(7, tokens * classes, 1.0)),
                Reduction::Mean | Reduction::MeanByCount | Reduction::Sum => (vec![], vec![0.7]),
            });
            let wide_upstream: Option<Vec<f64>> = upstream.as_ref().map(|(_, g)| g.iter().map(|&g| g.into()).collect());
            let shapes = ((&hidden[..], [tokens, inputs]), (&weight[..], [classes, inputs]));
            let want =
                cpu::linear_bce_with_logits(shapes.0, shapes.1, Some(&bias), &wide, &loss, wide_upstream.as_deref())
                    .unwrap();
            for gpu in families(&gpu).into_iter().filter(|_| chosen()) {
                let x = Tensor::from_slice(&gpu, [tokens, inputs], &hidden).unwrap();
                let w = Tensor::from_slice(&gpu, [classes, inputs], &weight).unwrap();
                let v = Tensor::from_slice(&gpu, [classes], &bias).unwrap();
                let y = Tensor::from_slice(&gpu, [tokens, classes], &targets).unwrap();
                let g = upstream.as_ref().map(|(shape, g)| Tensor::from_slice(&gpu, &shape[..], g).unwrap());
                let mut whole: Option<[Vec<f32>; 5]> = None;
                // All tokens at once, a few, one.
                for scratch in [32 << 20, 8 << 10, 8 * classes.next_power_of_two().max(4) as u64] {
                    let what = format!("{sizes:?} {:?} {loss:?} {scratch}", gpu.caps().family);
                    let options = LinearBceWithLogits::new().loss(loss.clone()).scratch(scratch);
                    let out = eval(&gpu, |b| {
                        let backward = LinearLossRequest::gradients().upstream(g.as_ref());
                        let out = b.linear_bce_with_logits_with(&x, &w, Some(&v), &y, &options, backward)?;
                        let alone = b.linear_bce_with_logits(&x, &w, Some(&v), &y, &options)?;
                        Ok([
                            out.loss,
                            alone,
                            out.hidden_grad.unwrap(),
                            out.weight_grad.unwrap(),
                            out.bias_grad.unwrap(),
                        ])
                    });
                    same_bits(&format!("loss alone {what}"), &out[1], &out[0]);
                    close(&format!("loss {what}"), &out[0], &want.loss, 2e-6, 2e-6);
                    close(&format!("hidden {what}"), &out[2], &want.hidden, 4e-6, 2e-6);
                    close(&format!("weight {what}"), &out[3], &want.weight, 4e-6, 4e-6);
                    close(&format!("bias {what}"), &out[4], &want.bias, 4e-6, 4e-6);
                    if let Some(whole) = &whole {
                        whole.iter().zip(&out).for_each(|(a, b)| same_bits(&what, a, b));
                    }
                    whole = Some(out);
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(gpu) = gpu() else { return };
    let on = |shape: [usize; 2]| Tensor::<f32>::zeros(&gpu, shape).unwrap();
    let (hidden, weight) = (on([4, 3]), on([5, 3]));
    let options = LinearBceWithLogits::default();
    let mut batch = gpu.batch();
    let before = gpu.counters().dispatches;
    let mut fail = |weight: &Tensor<f32>, targets: &Tensor<f32>, options: &LinearBceWithLogits| {
        batch.linear_bce_with_logits(&hidden, weight, None, targets, options).unwrap_err().to_string()
    };
    assert_eq!(
        fail(&weight, &on([4, 6]), &options),
        "linear_bce_with_logits: targets must have shape [4, 5], got shape [4, 6]"
    );
    assert_eq!(
        fail(&on([5, 2]), &on([4, 5]), &options),
        "linear_bce_with_logits: weight must have shape [V, 3] for hidden of shape [4, 3], got shape [5, 2]"
    );
    let none = options.scratch(16);
    assert!(fail(&weight, &on([4, 5]), &none).contains("the scratch for the logits of one token"));
    let mut batch = gpu.batch();
    let options = LinearBceWithLogits::default();
    let targets = on([4, 5]);
    let backward = LinearLossRequest::gradients().weight_grad(Grad::Into(&weight));
    let error = batch.linear_bce_with_logits_with(&hidden, &weight, None, &targets, &options, backward);
    assert!(matches!(error, Err(Error::Aliasing { .. })));
    // A gradient would overwrite the loss's weights, which later tokens need.
    let by_class = Tensor::zeros(&gpu, [5]).unwrap();
    let loss = BceWithLogits::new().pos_weight(Weights::from(&by_class));
    let (bias, options) = (Tensor::zeros(&gpu, [5]).unwrap(), LinearBceWithLogits::from(loss));
    let backward = LinearLossRequest::gradients().bias_grad(Grad::Into(&by_class));
    let error = batch.linear_bce_with_logits_with(&hidden, &weight, Some(&bias), &targets, &options, backward);
    assert!(matches!(error, Err(Error::Aliasing { output: "bias_grad", other: "pos_weight", .. })));
    for sizes in [[usize::MAX, 1, 1], [1, usize::MAX, 10_000], [1, 1, usize::MAX], [usize::MAX; 3]] {
        for gpu in families(&gpu) {
            let _ = gpu.plan_linear_bce_with_logits(sizes, &options, true);
        }
    }
    assert_eq!(gpu.counters().dispatches, before, "nothing was recorded");
}
