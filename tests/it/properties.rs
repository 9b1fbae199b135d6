//! Random combinations of options, at random sizes and limits, against the reference.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::common::*;
use crate::cross_entropy::REDUCTIONS;
use crate::linear_cross_entropy::{Case, agrees};
use xent::linear::LinearCrossEntropy;
use xent::loss::{CrossEntropy, Reduction};
use xent::{Caps, Gpu, Weights};

/// Returns a runner of the same cases every time; an eighth of them unless the sweeps run in full.
/// `XENT_SEED` and `PROPTEST_CASES` set another seed and number of cases.
fn runner(cases: u32) -> TestRunner {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = RngSeed::Fixed(number("XENT_SEED").unwrap_or(1));
    let cases = if sweeps_in_full() { cases } else { cases.div_ceil(8) };
    let cases = number("PROPTEST_CASES").map_or(cases, |cases| cases as u32);
    TestRunner::new(Config {
        cases,
        rng_seed: seed,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..Config::default()
    })
}

/// Checks a number of cases on both families, with the device's limits and the smallest limits.
pub(crate) fn on_all<S: Strategy>(gpu: &Gpu, cases: u32, strategy: &S, check: impl Fn(&Gpu, S::Value))
where
    S::Value: Clone,
{
    let devices = devices(gpu);
    let check = |case: S::Value| {
        devices.iter().for_each(|gpu| check(gpu, case.clone()));
        Ok(())
    };
    runner(cases).run(strategy, check).unwrap();
}

/// Returns weights of one sign, some of them 0.
fn some_weights(seed: u64, len: usize) -> Weights {
    let mut weights = unit(seed, len);
    weights.iter_mut().for_each(|w| *w += 0.1);
    weights.iter_mut().skip(2).step_by(4).for_each(|w| *w = 0.0);
    Weights::new([len], &weights).unwrap()
}

prop_compose! {
    fn options(tokens: usize, classes: usize)(
        weight in any::<bool>(),
        position_weight in any::<bool>(),
        reduction in prop::sample::select(&REDUCTIONS[..]),
        label_smoothing in prop_oneof![Just(0.0), 0.0..=1.0],
        logit_scale in prop_oneof![Just(1.0), 0.1..3.0],
        softcap in prop_oneof![Just(None), (2.0..30.0).prop_map(Some)],
        z_loss in prop_oneof![Just(0.0), 0.0..0.1],
    ) -> CrossEntropy {
        CrossEntropy::new().weight(weight.then(|| some_weights(21, classes))).position_weight(position_weight.then(|| some_weights(22, tokens))).reduction(reduction).label_smoothing(label_smoothing).logit_scale(logit_scale).softcap(softcap).z_loss(z_loss)
    }
}

/// Only a few numbers of classes, because some compile kernels of their own; any number of tokens
/// and inputs.
fn linear_cases() -> impl Strategy<Value = ([usize; 3], CrossEntropy, (bool, bool), u64)> {
    let classes = prop::sample::select(vec![2usize, 33, 77, 301, 1030]);
    (1usize..90, 1usize..70, classes).prop_flat_map(|sizes| {
        let [tokens, inputs, classes] = sizes.into();
        (Just([tokens, inputs, classes]), options(tokens, classes), any::<(bool, bool)>(), any::<u64>())
    })
}

#[test]
fn linear_cross_entropy() {
    let Some(gpu) = gpu() else { return };
    let small =
        |gpu: &Gpu| gpu.with_caps(Caps { max_binding: Caps::MIN_BINDING, max_buffer: 40 << 10, ..gpu.caps().clone() });
    let devices = families(&gpu).map(|gpu| [small(&gpu).unwrap(), gpu]);
    let run = |(sizes, loss, which, seed): ([usize; 3], CrossEntropy, (bool, bool), u64)| {
        let case = Case::exact(sizes, seed);
        let [tokens, inputs, classes] = sizes;
        let upstream = (loss.reduction == Reduction::None).then(|| random(9, tokens, 1.0));
        let want = case.reference(&loss, which, upstream.as_deref());
        for [narrow, wide] in &devices {
            let at_once = 1 + seed % 40;
            let scratch = (at_once * 4 * classes as u64).next_multiple_of(16) * 5 / 4 + 64;
            let few = LinearCrossEntropy::new().loss(loss.clone()).scratch(scratch);
            let got = case.run(narrow, &few, which, upstream.as_deref());
            let whole = case.run(wide, &loss.clone().into(), which, upstream.as_deref());
            for (i, (got, whole)) in got.iter().zip(&whole).enumerate() {
                same_bits(&format!("output {i} in chunks of {at_once}"), got, whole);
            }
            let [got, hidden, weight, bias, lse, entropy] = whole;
            agrees("loss", &got, &want.loss, 4);
            agrees("hidden", &hidden, &want.hidden, classes);
            agrees("weight", &weight, &want.weight, tokens.max(inputs));
            if which.0 {
                agrees("bias", &bias, &want.bias, tokens);
            }
            agrees("log-sum-exp", &lse, &want.statistics.log_sum_exp, 4);
            agrees("entropy", &entropy, &want.statistics.entropy, 4);
        }
        Ok(())
    };
    runner(32).run(&linear_cases(), run).unwrap();
}
