//! Models, their updates and their saved states.

use crate::common::*;
use xent::loss::{CrossEntropy, Mse, Targets};
use xent::nn::{Linear, Loss, Model, Sequential, Training};
use xent::optim::{Group, Optimization, Optimizer, Parameters, Schedule, Sgd};
use xent::state::State;
use xent::{Error, Gpu, Layout, Tensor, cpu};

fn state_of(gpu: &Gpu, model: &Model) -> State {
    let mut batch = gpu.batch();
    let mut state = model.parameters().state(&mut batch).unwrap();
    batch.submit().unwrap();
    state.wait(TIMEOUT).unwrap()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Two heads on a trunk, compared with a step computed by hand with the reference.
#[test]
fn a_step_of_two_heads_is_what_the_reference_says() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let (n, inputs, hidden) = (7, 3, 5);
        let trunk = Sequential::new().linear(inputs, hidden).relu();
        let classes = Sequential::new().layer(Linear::new(hidden, 4).named(""));
        let value = Sequential::new().layer(Linear::new(hidden, 1).named("out")).sigmoid();
        let model = Model::with_heads(&gpu, &trunk, &[("cls", &classes), ("reg", &value)], 3).unwrap();
        let names: Vec<_> = model.parameters().names().map(str::to_owned).collect();
        assert_eq!(
            names,
            ["trunk.0.weight", "trunk.0.bias", "cls.weight", "cls.bias", "reg.out.weight", "reg.out.bias"]
        );
        let before = state_of(&gpu, &model);
        let p = |name: &str| wide(before.get(name).unwrap().1);
        let (x, index, y) = (random(1, n * inputs, 2.0), labels(2, n, 4), unit(3, n));

        // By hand, in f64.
        let (wx, wy) = (wide(&x), wide(&y));
        let product = |layout, a: (&[f64], [usize; 2]), b: (&[f64], [usize; 2]), bias: Option<&[f64]>| {
            cpu::matmul(layout, a, b, bias).unwrap()
        };
        let linear = |x: &[f64], weight: &str, bias: &str, inputs: usize, outputs: usize| {
            product(Layout::Nt, (x, [n, inputs]), (&p(weight), [outputs, inputs]), Some(&p(bias)))
        };
        let pre = linear(&wx, "trunk.0.weight", "trunk.0.bias", inputs, hidden);
        let h = cpu::relu(&pre);
        let z = linear(&h, "cls.weight", "cls.bias", hidden, 4);
        let s = cpu::sigmoid(&linear(&h, "reg.out.weight", "reg.out.bias", hidden, 1));
        let ce = cpu::cross_entropy_backward((&z, &[n, 4]), &index, &CrossEntropy::default(), None).unwrap();
        let weight = 0.25;
        let mse = cpu::mse_backward((&s, &[n, 1]), (&wy, &[n, 1]), &Mse::default(), Some(&[weight])).unwrap();
        let dv = cpu::sigmoid_backward(&s, &mse.grad).unwrap();
        let mut dh = product(Layout::Nn, (&ce.grad, [n, 4]), (&p("cls.weight"), [4, hidden]), None);
        let other = product(Layout::Nn, (&dv, [n, 1]), (&p("reg.out.weight"), [1, hidden]), None);
        dh.iter_mut().zip(&other).for_each(|(a, b)| *a += b);
        let dpre = cpu::relu_backward(&h, &dh).unwrap();
        let grads = [
            ("trunk.0.weight", product(Layout::Tn, (&dpre, [n, hidden]), (&wx, [n, inputs]), None)),
            ("trunk.0.bias", cpu::column_sum((&dpre, &[n, hidden])).unwrap()),
            ("cls.weight", product(Layout::Tn, (&ce.grad, [n, 4]), (&h, [n, hidden]), None)),
            ("cls.bias", cpu::column_sum((&ce.grad, &[n, 4])).unwrap()),
            ("reg.out.weight", product(Layout::Tn, (&dv, [n, 1]), (&h, [n, hidden]), None)),
            ("reg.out.bias", cpu::column_sum((&dv, &[n, 1])).unwrap()),
        ];

        let options = Optimization { sgd: Sgd::new().lr(0.5), ..Optimization::default() };
        let losses = vec![Loss::cross_entropy(), Loss::mse().weighted(weight)];
        let mut training = Training::new(model, losses, options).unwrap();
        let tx = Tensor::from_slice(&gpu, [n, inputs], &x).unwrap();
        let ty = Targets::new(&gpu, [n], &index, 4).unwrap();
        let tv = Tensor::from_slice(&gpu, [n, 1], &y).unwrap();
        let [ce_loss, mse_loss] = eval(&gpu, |b| {
            let out = training.step(b, &tx, &[(&ty).into(), (&tv).into()])?;
            Ok([out.losses[0].clone(), out.losses[1].clone()])
        });
        close("cross-entropy", &ce_loss, &ce.loss, 1e-6, 0.0);
        close("mse", &mse_loss, &mse.loss, 1e-6, 0.0);
        let after = state_of(&gpu, training.model());
        for (name, grad) in grads {
            let want: Vec<f64> = p(name).iter().zip(&grad).map(|(value, g)| value - 0.5 * g).collect();
            close(name, after.get(name).unwrap().1, &want, 1e-6, 1e-7);
        }
    }
}

#[test]
fn pytorchs_initialisation_is_seeded_and_within_its_bounds() {
    let Some(gpu) = gpu() else { return };
    let network = Sequential::new().linear(100, 50).relu().linear(50, 3);
    let states = [7, 7, 8].map(|seed| state_of(&gpu, &Model::new(&gpu, &network, seed).unwrap()));
    assert_eq!(states[0], states[1]);
    assert_ne!(states[0], states[2]);
    assert_eq!(states[0].names().collect::<Vec<_>>(), ["0.bias", "0.weight", "2.bias", "2.weight"]);
    for (name, bound) in [("0.weight", 0.1), ("0.bias", 0.1), ("2.weight", 1.0 / 50f32.sqrt())] {
        let values = states[0].get(name).unwrap().1;
        let largest = values.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        assert!(largest <= bound && largest > 0.8 * bound, "{name}: {largest} of {bound}");
    }
}

#[test]
fn groups_schedules_and_accumulation() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let initial: Vec<f32> = random(1, 300, 1.0);
        let parts: Vec<_> = ["a", "b", "c"].into_iter().zip(initial.chunks(100)).collect();
        let named: Vec<_> = parts.iter().map(|(name, values)| (*name, [100].into(), *values)).collect();
        let parameters = Parameters::new(&gpu, &named).unwrap();
        let sgd = Sgd::new().lr(0.1).momentum(0.9).weight_decay(0.3).dampening(0.2);
        let group = Group { names: vec!["b".into()], lr: Some(0.7), weight_decay: Some(0.0) };
        let schedule = Schedule::Step { every: 2, factor: 0.5 };
        let options =
            Optimization { sgd: sgd.clone(), groups: vec![group], schedule, accumulate: 2, ..Optimization::default() };
        let mut optimizer = Optimizer::new(&parameters, options).unwrap();
        let mut want: Vec<Vec<f64>> = initial.chunks(100).map(wide).collect();
        let mut velocities = vec![Vec::new(); 3];
        for update in 0..5 {
            let grads: Vec<Vec<f32>> = (0..2).map(|pass| random(10 + 2 * update + pass, 300, 1.0)).collect();
            for grad in &grads {
                let mut batch = gpu.batch();
                for ((name, _), grad) in parts.iter().zip(grad.chunks(100)) {
                    batch.upload(&parameters.grad(name).unwrap(), grad).unwrap();
                }
                assert!(optimizer.step(&mut batch, &parameters).unwrap().is_none());
                batch.submit().unwrap();
            }
            let factor = 0.5f64.powi((update / 2) as i32);
            for (i, (values, velocity)) in want.iter_mut().zip(&mut velocities).enumerate() {
                let sum: Vec<f64> = (100 * i..100 * i + 100).map(|k| f64::from(grads[0][k] + grads[1][k])).collect();
                let (lr, weight_decay) = if i == 1 { (0.7, 0.0) } else { (sgd.lr, sgd.weight_decay) };
                let options = sgd.clone().lr(lr * factor).weight_decay(weight_decay);
                cpu::sgd(values, &sum, velocity, &options).unwrap();
            }
        }
        assert_eq!(optimizer.updates(), 5);
        let mut batch = gpu.batch();
        let mut state = parameters.state(&mut batch).unwrap();
        let mut moments = optimizer.state(&mut batch, &parameters).unwrap();
        batch.submit().unwrap();
        let (state, moments) = (state.wait(TIMEOUT).unwrap(), moments.wait(TIMEOUT).unwrap());
        for ((name, _), (want, velocity)) in parts.iter().zip(want.iter().zip(&velocities)) {
            close(name, state.get(name).unwrap().1, want, 2e-6, 1e-6);
            let buffer = moments.get(&format!("momentum_buffer.{name}")).unwrap().1;
            close(&format!("velocity of {name}"), buffer, velocity, 2e-6, 1e-6);
        }
        assert_eq!(moments.note("updates"), Some("5"));
    }
}

#[test]
fn schedules() {
    let step = Schedule::Step { every: 3, factor: 0.1 };
    assert_eq!([0, 2, 3, 5, 6].map(|n| step.factor(n)), [1.0, 1.0, 0.1, 0.1, 0.1f64.powi(2)]);
    let cosine = Schedule::Cosine { warm_up: 4, steps: 104, floor: 0.1 };
    assert_eq!([0, 1, 3, 4].map(|n| cosine.factor(n)), [0.25, 0.5, 1.0, 1.0]);
    assert!((cosine.factor(54) - 0.55).abs() < 1e-15 && (cosine.factor(103) - 0.1).abs() < 1e-3);
    assert_eq!([104, 1_000_000].map(|n| cosine.factor(n)), [0.1, 0.1]);
}

/// Updates values of 0 with `grads` and a learning rate of 1. Returns the new values, which are
/// minus the gradients after clipping; the norm; and 1 if the update was skipped.
fn update(gpu: &Gpu, grads: &[f32], options: Optimization) -> (Vec<f32>, f32, u32) {
    let parameters = Parameters::new(gpu, &[("p", [grads.len()].into(), &vec![0.0; grads.len()])]).unwrap();
    let mut optimizer = Optimizer::new(&parameters, options).unwrap();
    let mut batch = gpu.batch();
    batch.upload(&parameters.grad("p").unwrap(), grads).unwrap();
    let report = optimizer.step(&mut batch, &parameters).unwrap().unwrap();
    let mut values = batch.read(&parameters.value("p").unwrap()).unwrap();
    let (mut norm, mut skipped) = (batch.read(&report.norm).unwrap(), batch.read(&report.skipped).unwrap());
    batch.submit().unwrap();
    (values.wait(TIMEOUT).unwrap(), norm.wait(TIMEOUT).unwrap()[0], skipped.wait(TIMEOUT).unwrap()[0])
}

#[test]
fn clipping_and_the_loss_scale() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for len in [1, 3, 5000] {
            let grads = random(1, len, 4.0);
            for (clip_value, clip_norm, loss_scale) in [
                (None, Some(0.5), 1.0),
                (Some(1.0), Some(0.5), 1.0),
                (Some(0.25), Some(1e9), 8.0),
                (None, Some(3.0), 0.125),
            ] {
                let sgd = Sgd::new().lr(1.0);
                let options = Optimization { sgd, clip_value, clip_norm, loss_scale, ..Optimization::default() };
                let (values, norm, skipped) = update(&gpu, &grads, options);
                let limit: f64 = clip_value.unwrap_or(f64::INFINITY);
                let settled: Vec<f64> =
                    grads.iter().map(|&g| (f64::from(g) / loss_scale).clamp(-limit, limit)).collect();
                let want = settled.iter().map(|g| g * g).sum::<f64>().sqrt();
                close("norm", &[norm], &[want], 1e-6, 0.0);
                let factor = (clip_norm.unwrap() / (want + 1e-6)).min(1.0);
                let want: Vec<f64> = settled.iter().map(|g| -g * factor).collect();
                close(&format!("{len} {clip_value:?} {clip_norm:?} {loss_scale}"), &values, &want, 2e-6, 0.0);
                assert_eq!(skipped, 0);
            }
        }
    }
}

/// Squares that overflow, and squares that vanish, alone and with others.
#[test]
fn norms_of_huge_and_tiny_gradients() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let mixed: Vec<f32> = (0..3000).map(|i| [1e19, 1e-3, 3e-21][i % 3]).collect();
        let usual: Vec<f32> = (0..3000).map(|i| if i == 1700 { 1e-15 } else { 8e-16 }).collect();
        for grads in [
            vec![1e19; 128],
            vec![1e-23; 128],
            vec![3e37; 50],
            vec![1e-37; 5000],
            vec![2e38; 4],
            vec![f32::MAX; 3],
            vec![3e38; 1000],
            mixed,
            usual,
        ] {
            let options = Optimization { sgd: Sgd::new().lr(1.0), clip_norm: Some(2.0), ..Optimization::default() };
            let (values, norm, skipped) = update(&gpu, &grads, options);
            let want = grads.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            // A norm that exceeds `f32` is infinite.
            let fits = want <= f64::from(f32::MAX);
            close("norm", &[norm], &[if fits { want } else { f64::INFINITY }], 1e-6, 0.0);
            let factor = (2.0 / (want + 1e-6)).min(1.0);
            // Gradients far below the others may vanish.
            let want: Vec<f64> = grads.iter().map(|&g| -f64::from(g) * factor).collect();
            close("values", &values, &want, 2e-6, 1e-37);
            assert_eq!(skipped, 0);
        }
        let (values, ..) = update(
            &gpu,
            &[1e19; 128],
            Optimization { sgd: Sgd::new().lr(1.0), clip_norm: Some(2.0), ..Optimization::default() },
        );
        close("each", &values, &[-0.176_776_695; 128], 1e-6, 0.0);
        // The bound is so far below the norm that the factor is subnormal.
        for (grad, bound) in [(1e19, 1e-24), (3e25, 1e-18), (1e30, 1e-10), (1e-2, 2e-36)] {
            let sgd = Sgd::new().lr(1.0);
            let options = Optimization { sgd, clip_norm: Some(bound), ..Optimization::default() };
            let (values, ..) = update(&gpu, &[grad; 128], options);
            let norm = f64::from(grad) * 128f64.sqrt();
            close("tiny bound", &values, &[-f64::from(grad) * bound / (norm + 1e-6); 128], 1e-6, 0.0);
        }
    }
}

/// The rates of groups, and of parameters without a rate from a group.
#[test]
fn learning_rates_change_between_updates() {
    let Some(gpu) = gpu() else { return };
    let parts: [(&str, xent::Shape, &[f32]); 3] =
        [("a", [1].into(), &[0.0]), ("b", [1].into(), &[0.0]), ("c", [1].into(), &[0.0])];
    let parameters = Parameters::new(&gpu, &parts).unwrap();
    let group = |name: &str, lr| Group { names: vec![name.to_owned()], lr, ..Group::default() };
    let groups = vec![group("b", Some(10.0)), group("c", None)];
    let sgd = Sgd::new().lr(1.0);
    let options =
        Optimization { sgd, groups, schedule: Schedule::Step { every: 2, factor: 0.5 }, ..Default::default() };
    let mut optimizer = Optimizer::new(&parameters, options).unwrap();
    let step = |optimizer: &mut Optimizer| {
        let mut batch = gpu.batch();
        for name in ["a", "b", "c"] {
            batch.upload(&parameters.grad(name).unwrap(), &[-1.0]).unwrap();
        }
        optimizer.step(&mut batch, &parameters).unwrap();
        let mut tickets = ["a", "b", "c"].map(|name| batch.read(&parameters.value(name).unwrap()).unwrap());
        batch.submit().unwrap();
        tickets.each_mut().map(|ticket| ticket.wait(TIMEOUT).unwrap()[0])
    };
    assert_eq!(step(&mut optimizer), [1.0, 10.0, 1.0]);
    optimizer.set_lr(4.0).unwrap();
    assert_eq!(step(&mut optimizer), [5.0, 20.0, 5.0]);
    // The schedule halves all rates from here on.
    optimizer.set_group_lr(1, 8.0).unwrap();
    optimizer.set_lr(2.0).unwrap();
    assert_eq!(step(&mut optimizer), [6.0, 25.0, 9.0]);
    for bad in [f64::NAN, f64::INFINITY, -1.0] {
        assert!(matches!(optimizer.set_lr(bad), Err(Error::Value { what: "lr", .. })), "{bad}");
        assert!(matches!(optimizer.set_group_lr(0, bad), Err(Error::Value { what: "lr", .. })), "{bad}");
    }
    assert!(matches!(optimizer.set_group_lr(2, 1.0), Err(Error::Value { what: "the group", .. })));
    assert_eq!(step(&mut optimizer), [7.0, 30.0, 13.0]);
}

/// An error names the loss scale that the caller passed.
#[test]
fn a_loss_scale_that_vanishes_is_named() {
    let Some(gpu) = gpu() else { return };
    let model = || Model::new(&gpu, &Sequential::new().linear(2, 2), 1).unwrap();
    let of = |loss_scale| Optimization { loss_scale, accumulate: 16, ..Optimization::default() };
    let mut training = Training::new(model(), vec![Loss::cross_entropy()], of(1.0)).unwrap();
    // The inverse of the second is subnormal.
    for scale in [1e-38, 1e38] {
        let error = Training::new(model(), vec![Loss::cross_entropy()], of(scale)).unwrap_err();
        let message = format!("Optimizer::new: loss_scale must be from 1.2e-38 to 8.5e37, got {scale:e}");
        assert_eq!(error.to_string(), message);
        assert!(matches!(training.set_loss_scale(scale), Err(Error::Value { what: "loss_scale", .. })));
    }
    training.set_loss_scale(8.5e37).unwrap();
}

#[test]
fn a_gradient_that_is_not_finite_skips_the_update() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 1500, 2999] {
                let mut grads = vec![0.5; 3000];
                grads[at] = bad;
                let sgd = Sgd::new().lr(1.0).momentum(0.5).dampening(0.5);
                let guarded = Optimization { sgd, skip_non_finite: true, ..Optimization::default() };
                let (values, norm, skipped) = update(&gpu, &grads, guarded.clone());
                assert!(values.iter().all(|v| v.to_bits() == 0) && !norm.is_finite() && skipped == 1, "{bad} at {at}");
                // Without the guard, the NaN of a gradient reaches the values.
                let clipped =
                    Optimization { skip_non_finite: false, clip_norm: Some(1.0), sgd: Sgd::new().lr(1.0), ..guarded };
                let (values, _, skipped) = update(&gpu, &grads, clipped);
                assert!(values[at].is_nan() && skipped == 0);
            }
        }
        // Gradients that are finite only before the division by the loss scale.
        for (grad, loss_scale) in [(3e38f32, 0.5), (-1e37, 1e-3), (1e19, 1e-30)] {
            for clip_norm in [None, Some(1.0)] {
                let sgd = Sgd::new().lr(1.0);
                let options =
                    Optimization { sgd, clip_norm, loss_scale, skip_non_finite: true, ..Optimization::default() };
                let (values, norm, skipped) = update(&gpu, &[grad, 1e-30], options);
                let what = format!("{grad} with {loss_scale}: {values:?}, {norm}, {skipped}");
                assert!(values.iter().all(|v| v.to_bits() == 0) && !norm.is_finite() && skipped == 1, "{what}");
            }
        }
        // The first update that is not skipped starts the velocity.
        let parameters = Parameters::new(&gpu, &[("p", [2].into(), &[0.0; 2])]).unwrap();
        let sgd = Sgd::new().lr(1.0).momentum(0.5).dampening(0.5);
        let options = Optimization { sgd, skip_non_finite: true, ..Optimization::default() };
        let mut optimizer = Optimizer::new(&parameters, options).unwrap();
        for grads in [[f32::NAN, 1.0], [2.0, 4.0], [f32::INFINITY, 0.0], [1.0, 1.0]] {
            let mut batch = gpu.batch();
            batch.upload(&parameters.grad("p").unwrap(), &grads).unwrap();
            optimizer.step(&mut batch, &parameters).unwrap();
            batch.submit().unwrap();
        }
        let [values] = eval(&gpu, |_| Ok([parameters.value("p")?]));
        // v = 2, 4; then 0.5 v + 0.5 g.
        assert_eq!(values, [-(2.0 + 1.5), -(4.0 + 2.5)]);
    }
}

fn digits_like(gpu: &Gpu, options: Optimization) -> Training {
    let model = Model::new(gpu, &Sequential::new().linear(6, 8).relu().linear(8, 3), 1).unwrap();
    Training::new(model, vec![Loss::cross_entropy()], options).unwrap()
}

fn steps(gpu: &Gpu, training: &mut Training, range: std::ops::Range<u64>) {
    for i in range {
        let x = Tensor::from_slice(gpu, [5, 6], &random(100 + i, 30, 1.0)).unwrap();
        let y = Targets::new(gpu, [5], &labels(200 + i, 5, 3), 3).unwrap();
        let mut batch = gpu.batch();
        training.step(&mut batch, &x, &[(&y).into()]).unwrap();
        batch.submit().unwrap();
    }
}

fn checkpoint(gpu: &Gpu, training: &Training) -> State {
    let mut batch = gpu.batch();
    let mut state = training.checkpoint(&mut batch).unwrap();
    batch.submit().unwrap();
    state.wait(TIMEOUT).unwrap()
}

#[test]
fn a_resumed_training_reaches_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let sgd = Sgd::new().lr(0.1).momentum(0.9).dampening(0.1).weight_decay(0.01);
    let schedule = Schedule::Cosine { warm_up: 3, steps: 20, floor: 0.0 };
    let options =
        Optimization { sgd, schedule, clip_norm: Some(0.5), skip_non_finite: true, ..Optimization::default() };
    let mut whole = digits_like(&gpu, options.clone());
    steps(&gpu, &mut whole, 0..20);
    for stop in [0, 1, 11] {
        let mut first = digits_like(&gpu, options.clone());
        steps(&gpu, &mut first, 0..stop);
        checkpoint(&gpu, &first).save(&path).unwrap();
        let mut second = digits_like(&gpu, options.clone());
        steps(&gpu, &mut second, 40..42);
        second.resume(&State::load(&path).unwrap()).unwrap();
        steps(&gpu, &mut second, stop..20);
        let (a, b) = (checkpoint(&gpu, &whole), checkpoint(&gpu, &second));
        assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
        for name in a.names() {
            same_bits(name, a.get(name).unwrap().1, b.get(name).unwrap().1);
        }
    }
}

#[test]
fn a_state_that_does_not_fit_names_the_tensor_and_changes_nothing() {
    let Some(gpu) = gpu() else { return };
    let mut training = digits_like(&gpu, Optimization::default());
    let good = checkpoint(&gpu, &training);
    let rebuilt = |skip: &str, add: Option<(&str, &[usize])>| {
        let mut state = State::default();
        for name in good.names().filter(|name| *name != skip) {
            let (shape, values) = good.get(name).unwrap();
            state.insert(name, shape.clone(), values.iter().map(|v| v + 1.0).collect()).unwrap();
        }
        state.set_note("optimizer.updates", "0");
        if let Some((name, shape)) = add {
            state.insert(name, shape, vec![1.0; shape.iter().product()]).unwrap();
        }
        state
    };
    for (state, message) in [
        (rebuilt("2.weight", None), "state: the names must be those that are asked for, got 1 missing: [\"2.weight\"]"),
        (
            rebuilt("2.weight", Some(("2.weight", &[8, 3]))),
            "state: \"2.weight\" must have shape [3, 8], got shape [8, 3]",
        ),
        (
            rebuilt("2.bias", Some(("optimizer.momentum_buffer.2.bias", &[3]))),
            "state: the names must be those that are asked for, got 1 missing: [\"2.bias\"]; 1 superfluous: \
             [\"optimizer.momentum_buffer.2.bias\"]",
        ),
    ] {
        assert_eq!(training.resume(&state).unwrap_err().to_string(), message);
        assert_eq!(checkpoint(&gpu, &training), good, "nothing changed");
    }
    training.resume(&rebuilt("", None)).unwrap();
    assert_ne!(checkpoint(&gpu, &training), good);
}

#[cfg(unix)]
#[test]
fn a_private_file_stays_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    State::default().save(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    State::default().save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn files_that_are_no_whole_states() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.safetensors");
    let mut state = State::default();
    state.insert("w", [2, 2], vec![1.0, -2.0, f32::NAN, 4.0]).unwrap();
    state.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    // Every truncation, and every change of a header byte.
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(matches!(State::load(&path), Err(Error::Format { .. })), "{len} bytes");
    }
    for at in 0..whole.len() - 16 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        // The result may still be a valid file, with another name; loading must not panic.
        let _ = State::from_bytes(&bytes);
    }
    assert!(matches!(State::load(directory.path().join("none")), Err(Error::File { .. })));
    assert!(matches!(state.save(directory.path().join("none/state")), Err(Error::File { .. })));
}

#[test]
fn options_that_make_no_sense() {
    let Some(gpu) = gpu() else { return };
    let parameters = Parameters::new(&gpu, &[("w", [2].into(), &[0.0; 2])]).unwrap();
    let base = Optimization::default();
    let named = |name: &str| Group { names: vec![name.into()], ..Group::default() };
    for (options, message) in [
        (
            Optimization { clip_norm: Some(0.0), ..base.clone() },
            "Optimizer::new: clip_norm must be above 0 and finite, got 0",
        ),
        (
            Optimization { loss_scale: f64::NAN, ..base.clone() },
            "Optimizer::new: loss_scale must be from 1.2e-38 to 8.5e37, got NaN",
        ),
        (Optimization { accumulate: 0, ..base.clone() }, "Optimizer::new: accumulate must be at least 1, got 0"),
        (
            Optimization { groups: vec![named("v")], ..base.clone() },
            "Parameters: a name must be one of [\"w\"], got \"v\"",
        ),
        (
            Optimization { groups: vec![named("w"), named("w")], ..base.clone() },
            "Optimizer::new: a name must be in one group, once, got \"w\" twice",
        ),
        (Optimization { sgd: Sgd::new().lr(-1.0), ..base.clone() }, "sgd: lr must be at least 0 and finite, got -1"),
        (
            Optimization { schedule: Schedule::Cosine { warm_up: 5, steps: 5, floor: 0.0 }, ..base },
            "Optimizer::new: the schedule's steps must be more than its warm-up's, got 5",
        ),
    ] {
        assert_eq!(Optimizer::new(&parameters, options).unwrap_err().to_string(), message);
    }
    let error = Model::new(&gpu, &Sequential::new().linear(2, 3).relu().linear(4, 1), 0).unwrap_err().to_string();
    assert_eq!(error, "Model::new: a layer must have 3 inputs for \"2.weight\", as the layer before it gives, got 4");
    let model = Model::new(&gpu, &Sequential::new().linear(2, 1), 0).unwrap();
    let mut training = Training::new(model, vec![Loss::mse()], Optimization::default()).unwrap();
    let x = Tensor::from_slice(&gpu, [1, 2], &[0.0f32; 2]).unwrap();
    let y = Targets::new(&gpu, [1], &[0], 1).unwrap();
    let error = training.step(&mut gpu.batch(), &x, &[(&y).into()]).unwrap_err().to_string();
    assert_eq!(error, "Training::step: the targets of this loss must be a Tensor<f32>, got class indices");
}

#[test]
fn a_step_is_one_submission_and_creates_no_buffer() {
    let Some(gpu) = gpu() else { return };
    let sgd = Sgd::new().lr(0.1).momentum(0.9);
    let mut training = digits_like(&gpu, Optimization { sgd, clip_norm: Some(1.0), ..Optimization::default() });
    let x = Tensor::from_slice(&gpu, [5, 6], &random(1, 30, 1.0)).unwrap();
    let y = Targets::new(&gpu, [5], &labels(2, 5, 3), 3).unwrap();
    let mut before = gpu.counters();
    for i in 0..20 {
        let mut batch = gpu.batch();
        batch.upload(&x, &random(i, 30, 1.0)).unwrap();
        let out = training.step(&mut batch, &x, &[(&y).into()]).unwrap();
        let mut loss = batch.read(&out.losses[0]).unwrap();
        batch.submit().unwrap();
        assert!(loss.wait(TIMEOUT).unwrap()[0].is_finite());
        let now = gpu.counters();
        assert_eq!(now.submissions, before.submissions + 1);
        if i >= 2 {
            assert_eq!(now.buffers_created, before.buffers_created, "step {i}");
        }
        before = now;
    }
}

#[test]
fn a_deep_networks_first_layer_gets_its_gradient() {
    let Some(gpu) = gpu() else { return };
    let (n, sizes) = (6, [4, 5, 3]);
    let network = Sequential::new().linear(sizes[0], sizes[1]).sigmoid().layer(Linear::new(5, 3).without_bias());
    let model = Model::new(&gpu, &network, 1).unwrap();
    let before = state_of(&gpu, &model);
    let p = |name: &str| wide(before.get(name).unwrap().1);
    let (x, index) = (random(1, n * 4, 2.0), labels(2, n, 3));
    let pre = cpu::matmul(Layout::Nt, (&wide(&x), &[n, 4]), (&p("0.weight"), &[5, 4]), Some(&p("0.bias"))).unwrap();
    let h = cpu::sigmoid(&pre);
    let z = cpu::matmul(Layout::Nt, (&h, &[n, 5]), (&p("2.weight"), &[3, 5]), None).unwrap();
    let dz = cpu::cross_entropy_backward((&z, &[n, 3]), &index, &CrossEntropy::default(), None).unwrap().grad;
    let dh = cpu::matmul(Layout::Nn, (&dz, &[n, 3]), (&p("2.weight"), &[3, 5]), None).unwrap();
    let dpre = cpu::sigmoid_backward(&h, &dh).unwrap();
    let grad = cpu::matmul(Layout::Tn, (&dpre, &[n, 5]), (&wide(&x), &[n, 4]), None).unwrap();
    let sgd = Sgd::new().lr(1.0);
    let mut training =
        Training::new(model, vec![Loss::cross_entropy()], Optimization { sgd, ..Default::default() }).unwrap();
    let tx = Tensor::from_slice(&gpu, [n, 4], &x).unwrap();
    let ty = Targets::new(&gpu, [n], &index, 3).unwrap();
    let _ = eval(&gpu, |b| Ok([training.step(b, &tx, &[(&ty).into()])?.losses[0].clone()]));
    let want: Vec<f64> = p("0.weight").iter().zip(&grad).map(|(value, g)| value - g).collect();
    close("0.weight", state_of(&gpu, training.model()).get("0.weight").unwrap().1, &want, 1e-6, 1e-7);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let Some(gpu) = gpu() else { return };
    let deep = Model::new(&gpu, &Sequential::new().linear(2, 3).relu().linear(3, 1), 0).unwrap();
    let flat = Model::new(&gpu, &Sequential::new().linear(2, 1), 0).unwrap();
    let x = Tensor::from_slice(&gpu, [1, 2], &[0.5, 1.0]).unwrap();
    let mut batch = gpu.batch();
    let activations = flat.forward(&mut batch, &x).unwrap();
    let grads = activations.outputs().to_vec();
    let error = deep.backward(&mut batch, &activations, &grads).unwrap_err().to_string();
    assert_eq!(error, "Model::backward: activations must have the layers of this model, got those of another");
    let mut optimizer = Optimizer::new(flat.parameters(), Optimization::default()).unwrap();
    assert!(matches!(optimizer.step(&mut batch, deep.parameters()), Err(Error::Shape { .. })));
    assert!(matches!(optimizer.state(&mut batch, deep.parameters()), Err(Error::Shape { .. })));
    assert!(matches!(optimizer.load(&State::default(), deep.parameters()), Err(Error::Shape { .. })));
    let huge = Sequential::new().linear(usize::MAX, 2);
    assert!(matches!(Model::new(&gpu, &huge, 0), Err(Error::Limit { .. })));
    let bias = Sequential::new().layer(Linear::new(1, 1).without_bias().with_values(&[1.0], &[5.0]));
    assert!(matches!(Model::new(&gpu, &bias, 0), Err(Error::Shape { .. })));
    let head = Sequential::new().linear(2, 1);
    let named = Model::with_heads(&gpu, &Sequential::new(), &[("optimizer", &head)], 0).unwrap();
    let error = Training::new(named, vec![Loss::mse()], Optimization::default()).unwrap_err();
    assert!(matches!(error, Error::Value { what: "a parameter's name", .. }), "{error}");
}

#[test]
fn states_merge_under_prefixes_and_refuse_before_they_change() {
    let state = |value: f32, note: &str| {
        let mut state = State::default();
        state.insert("w", [1], vec![value]).unwrap();
        state.set_note("updates", note);
        state
    };
    let mut all = State::default();
    all.merge("g.", state(1.0, "7")).unwrap();
    all.merge("d.", state(2.0, "0")).unwrap();
    assert!(all.merge("d.", state(3.0, "9")).is_err() && all.insert("d.w", [2], vec![5.0, 6.0]).is_err());
    assert!(all.insert("__metadata__", [1], vec![1.0]).is_err());
    let mut note = State::default();
    note.set_note("updates", "8");
    assert!(all.merge("d.", note).is_err());
    assert_eq!(all.split_off("d."), state(2.0, "0"));
    assert_eq!(all.split_off("g."), state(1.0, "7"));
    assert_eq!(all, State::default());
}

#[test]
fn infinite_gradients_are_clipped_as_pytorch_clips_them() {
    let Some(gpu) = gpu() else { return };
    let sgd = Sgd::new().lr(1.0);
    let both =
        Optimization { sgd: sgd.clone(), clip_value: Some(1.0), clip_norm: Some(1.0), ..Optimization::default() };
    let (values, norm, _) = update(&gpu, &[f32::INFINITY, 1.0], both);
    close("both", &values, &[-(0.5f64.sqrt()), -(0.5f64.sqrt())], 2e-6, 0.0);
    close("norm", &[norm], &[2f64.sqrt()], 1e-6, 0.0);
    let by_norm = Optimization { sgd, clip_norm: Some(1.0), ..Optimization::default() };
    let (values, norm, _) = update(&gpu, &[f32::INFINITY, 1.0], by_norm);
    assert!(values[0].is_nan() && values[1] == 0.0 && norm == f32::INFINITY, "{values:?}");
}

#[test]
fn accumulated_and_scaled_steps_are_one_step_on_all_rows() {
    let Some(gpu) = gpu() else { return };
    let (x, index) = (random(1, 24, 2.0), labels(2, 8, 2));
    let tx = Tensor::from_slice(&gpu, [8, 3], &x).unwrap();
    let ty = Targets::new(&gpu, [8], &index, 2).unwrap();
    let train = |options: Optimization, parts: usize, rescale: Option<f64>| {
        let sgd = Sgd::new().lr(0.5);
        let model = Model::new(&gpu, &Sequential::new().linear(3, 2), 1).unwrap();
        let losses = vec![Loss::cross_entropy().weighted(0.75)];
        let mut training = Training::new(model, losses, Optimization { sgd, ..options }).unwrap();
        if let Some(scale) = rescale {
            training.set_loss_scale(scale).unwrap();
        }
        let rows = 8 / parts;
        for part in 0..parts {
            let range = part * rows..(part + 1) * rows;
            let (x, y) = (tx.rows(range.clone()).unwrap(), ty.rows(range).unwrap());
            let mut batch = gpu.batch();
            training.step(&mut batch, &x, &[(&y).into()]).unwrap();
            batch.submit().unwrap();
        }
        assert_eq!(training.optimizer().updates(), 1);
        state_of(&gpu, training.model())
    };
    let plain = train(Optimization::default(), 1, None);
    for (what, state) in [
        ("accumulated", train(Optimization { accumulate: 4, ..Default::default() }, 4, None)),
        ("scaled", train(Optimization { loss_scale: 256.0, ..Default::default() }, 1, None)),
        ("both", train(Optimization { accumulate: 2, loss_scale: 0.25, ..Default::default() }, 2, None)),
        ("scaled later", train(Optimization { loss_scale: 1e30, ..Default::default() }, 1, Some(64.0))),
    ] {
        for name in plain.names() {
            close(what, state.get(name).unwrap().1, &wide(plain.get(name).unwrap().1), 1e-6, 1e-7);
        }
    }
}

#[test]
fn heads_without_layers_leave_the_callers_gradients_alone() {
    let Some(gpu) = gpu() else { return };
    let bare = Sequential::new();
    let model = Model::with_heads(&gpu, &Sequential::new().linear(2, 3), &[("a", &bare), ("b", &bare)], 1).unwrap();
    let (x, [a, b]) = (random(1, 8, 1.0), [random(2, 12, 1.0), random(3, 12, 1.0)]);
    let tx = Tensor::from_slice(&gpu, [4, 2], &x).unwrap();
    let grads = [&a, &b].map(|grad| Tensor::from_slice(&gpu, [4, 3], grad).unwrap());
    let [weight, after_a, after_b] = eval(&gpu, |batch| {
        let activations = model.forward(batch, &tx)?;
        model.backward(batch, &activations, &grads)?;
        Ok([model.parameters().grad("trunk.0.weight")?, grads[0].clone(), grads[1].clone()])
    });
    let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from(a + b)).collect();
    let want = cpu::matmul(Layout::Tn, (&sum, &[4, 3]), (&wide(&x), &[4, 2]), None).unwrap();
    close("weight", &weight, &want, 1e-6, 1e-6);
    same_bits("a", &after_a, &a);
    same_bits("b", &after_b, &b);
}
