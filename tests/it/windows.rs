//! Updates with the gradients of several passes.

use crate::common::*;
use xent::loss::{CrossEntropy, Denominator, Mse, Reduction, Targets};
use xent::nn::{Loss, Model, Sequential, StepOutputs, Training};
use xent::optim::{Optimization, Optimizer, Parameters, Sgd, WindowMean};
use xent::state::State;
use xent::{Error, Gpu, Layout, Tensor, Weights, cpu};

/// The rows of the data that a pass gets.
type Rows = std::ops::Range<usize>;

/// The targets of ten rows; five of them count, four of these among the first seven.
const TARGETS: [i64; 10] = [1, -100, 0, 2, -100, -100, 1, -100, 2, -100];

/// A wide first pass with four tokens, and a second with one.
const UNEVEN: [Rows; 2] = [0..7, 7..10];

struct Data {
    x: Tensor<f32>,
    y: Targets,
    values: Tensor<f32>,
}

impl Data {
    fn new(gpu: &Gpu) -> Self {
        Self {
            x: Tensor::from_slice(gpu, [10, 4], &random(1, 40, 2.0)).unwrap(),
            y: Targets::new(gpu, [10], &TARGETS, 3).unwrap(),
            values: Tensor::from_slice(gpu, [10, 1], &random(2, 10, 3.0)).unwrap(),
        }
    }

    /// Submits a pass. Returns its losses and the losses of the window so far.
    fn pass(&self, gpu: &Gpu, training: &mut Training, rows: Rows) -> [Vec<f32>; 2] {
        let (x, y) = (self.x.rows(rows.clone()).unwrap(), self.y.rows(rows.clone()).unwrap());
        let values = self.values.rows(rows).unwrap();
        let targets = [(&y).into(), (&values).into()];
        let mut batch = gpu.batch();
        let out = training.step(&mut batch, &x, &targets[..training.model().heads()]).unwrap();
        let StepOutputs { losses, window_losses, .. } = out;
        let mut tickets = [losses, window_losses]
            .map(|losses| losses.iter().map(|loss| batch.read(loss).unwrap()).collect::<Vec<_>>());
        batch.submit().unwrap();
        tickets.each_mut().map(|tickets| tickets.iter_mut().flat_map(|ticket| ticket.wait(TIMEOUT).unwrap()).collect())
    }
}

fn one_head(gpu: &Gpu, loss: Loss, options: Optimization) -> Training {
    let model = Model::new(gpu, &Sequential::new().linear(4, 5).relu().linear(5, 3), 1).unwrap();
    Training::new(model, vec![loss], options).unwrap()
}

fn two_heads(gpu: &Gpu, losses: Vec<Loss>, options: Optimization) -> Training {
    let (trunk, classes) = (Sequential::new().linear(4, 5).relu(), Sequential::new().linear(5, 3));
    let value = Sequential::new().linear(5, 1);
    let model = Model::with_heads(gpu, &trunk, &[("classes", &classes), ("value", &value)], 1).unwrap();
    Training::new(model, losses, options).unwrap()
}

fn checkpoint(gpu: &Gpu, training: &Training) -> State {
    let mut batch = gpu.batch();
    let mut state = training.checkpoint(&mut batch).unwrap();
    batch.submit().unwrap();
    state.wait(TIMEOUT).unwrap()
}

/// The parameters alone.
fn values(gpu: &Gpu, training: &Training) -> Vec<(String, Vec<f32>)> {
    let state = checkpoint(gpu, training);
    let own = state.names().filter(|name| !name.starts_with("optimizer."));
    own.map(|name| (name.to_owned(), state.get(name).unwrap().1.to_vec())).collect()
}

#[track_caller]
fn near(what: &str, got: &[(String, Vec<f32>)], want: &[(String, Vec<f32>)]) {
    for ((name, got), (_, want)) in got.iter().zip(want) {
        let want: Vec<f64> = want.iter().copied().map(f64::from).collect();
        close(&format!("{what}: {name}"), got, &want, 1e-6, 1e-6);
    }
}

fn plain() -> Optimization {
    Optimization { sgd: Sgd::new().lr(1.0), ..Optimization::default() }
}

/// The token mean over a window equals the mean of one batch of all its tokens, with all kinds of
/// updates.
#[test]
fn a_window_is_one_batch() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let data = Data::new(&gpu);
        let weighted = CrossEntropy::new().weight(Weights::new([3], &[0.5, 2.0, 1.25]).unwrap()).label_smoothing(0.1);
        let momentum = Sgd::new().lr(1.0).momentum(0.9).weight_decay(0.1);
        let all = Optimization {
            sgd: momentum.clone(),
            clip_norm: Some(0.05),
            loss_scale: 64.0,
            skip_non_finite: true,
            ..plain()
        };
        let cases: [(&str, Loss, Optimization); 6] = [
            ("plain", Loss::cross_entropy(), plain()),
            ("weighted", Loss::from(weighted).weighted(0.75), plain()),
            ("scaled", Loss::cross_entropy(), Optimization { loss_scale: 256.0, ..plain() }),
            ("clipped by norm", Loss::cross_entropy(), Optimization { clip_norm: Some(0.05), ..plain() }),
            ("clipped by value", Loss::cross_entropy(), Optimization { clip_value: Some(0.02), ..plain() }),
            ("all", Loss::cross_entropy(), all),
        ];
        for (what, loss, options) in cases {
            let mut whole = one_head(&gpu, loss.clone(), options.clone());
            let mut parts = one_head(&gpu, loss, Optimization { accumulate: 2, ..options });
            for _ in 0..2 {
                let [want, of_window] = data.pass(&gpu, &mut whole, 0..10);
                assert_eq!(want, of_window, "{what}: a batch of its own is its window");
                let first = data.pass(&gpu, &mut parts, UNEVEN[0].clone());
                assert_eq!(first[0], first[1], "{what}: the first pass is the window so far");
                let second = data.pass(&gpu, &mut parts, UNEVEN[1].clone());
                close(what, &second[1], &[want[0].into()], 1e-6, 0.0);
                if what == "plain" {
                    let mean = (4.0 * f64::from(first[0][0]) + f64::from(second[0][0])) / 5.0;
                    close("by hand", &second[1], &[mean], 1e-6, 0.0);
                }
            }
            assert_eq!(parts.optimizer().updates(), 2);
            near(what, &values(&gpu, &parts), &values(&gpu, &whole));
        }

        // The mean of the passes' means differs, and is available, too.
        let train = |options, passes: &[Rows]| {
            let mut training = one_head(&gpu, Loss::cross_entropy(), options);
            let losses: Vec<_> = passes.iter().map(|rows| data.pass(&gpu, &mut training, rows.clone())).collect();
            (values(&gpu, &training), losses)
        };
        let (before, _) = train(plain(), &[]);
        let (tokens, _) = train(Optimization { accumulate: 2, ..plain() }, &UNEVEN);
        let options = Optimization { accumulate: 2, window_mean: WindowMean::Passes, ..plain() };
        let (passes, losses) = train(options, &UNEVEN);
        let alone = UNEVEN.map(|rows| train(plain(), &[rows]).0);
        let mut farthest = 0.0f32;
        for (i, (name, got)) in passes.iter().enumerate() {
            let [a, b] = alone.each_ref().map(|alone| &alone[i].1);
            let want: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) + f64::from(b)) / 2.0).collect();
            close(name, got, &want, 1e-6, 1e-6);
            assert_ne!(*got, before[i].1);
            farthest = got.iter().zip(&tokens[i].1).fold(farthest, |most, (a, b)| most.max((a - b).abs()));
        }
        assert!(farthest > 0.1, "{farthest}");
        let mean = (f64::from(losses[0][0][0]) + f64::from(losses[1][0][0])) / 2.0;
        close("the mean of the passes' losses", &losses[1][1], &[mean], 1e-6, 0.0);
    }
}

/// A pass of four tokens and a pass of one, compared with the reference on all five.
#[test]
fn the_token_mean_is_the_references() {
    let Some(gpu) = gpu() else { return };
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
    for gpu in families(&gpu) {
        let data = Data::new(&gpu);
        let model = Model::new(&gpu, &Sequential::new().linear(4, 3), 7).unwrap();
        let options = Optimization { accumulate: 2, loss_scale: 128.0, ..plain() };
        let mut training = Training::new(model, vec![Loss::cross_entropy()], options).unwrap();
        let before = values(&gpu, &training);
        let [bias, weight] = [0, 1].map(|i| wide(&before[i].1));
        let x = wide(&random(1, 40, 2.0));
        let logits = cpu::matmul(Layout::Nt, (&x, &[10, 4]), (&weight, &[3, 4]), Some(&bias)).unwrap();
        let want = cpu::cross_entropy_backward((&logits, &[10, 3]), &TARGETS, &CrossEntropy::default(), None).unwrap();
        let grad = cpu::matmul(Layout::Tn, (&want.grad, &[10, 3]), (&x, &[10, 4]), None).unwrap();
        data.pass(&gpu, &mut training, UNEVEN[0].clone());
        let [_, loss] = data.pass(&gpu, &mut training, UNEVEN[1].clone());
        close("loss", &loss, &want.loss, 1e-6, 0.0);
        let want: Vec<f64> = weight.iter().zip(&grad).map(|(w, g)| w - g).collect();
        close("weight", &values(&gpu, &training)[1].1, &want, 1e-6, 1e-6);
    }
}

/// Each head's loss is divided by its own denominator; sums are added up.
#[test]
fn heads_have_denominators_of_their_own() {
    let Some(gpu) = gpu() else { return };
    let data = Data::new(&gpu);
    let summed = Mse::new().reduction(Reduction::Sum);
    let each = Mse::new().reduction(Reduction::None);
    for (what, value) in [
        ("mean", Loss::mse().weighted(0.5)),
        ("sum", Loss::from(summed).weighted(0.05)),
        ("none", Loss::from(each).weighted(0.05)),
    ] {
        let losses = vec![Loss::cross_entropy(), value];
        let options = Optimization { sgd: Sgd::new().lr(0.5), ..plain() };
        let mut whole = two_heads(&gpu, losses.clone(), options.clone());
        let [want, _] = data.pass(&gpu, &mut whole, 0..10);
        let mut parts = two_heads(&gpu, losses, Optimization { accumulate: 2, ..options });
        data.pass(&gpu, &mut parts, UNEVEN[0].clone());
        let [_, losses] = data.pass(&gpu, &mut parts, UNEVEN[1].clone());
        near(what, &values(&gpu, &parts), &values(&gpu, &whole));
        let value = want[1..].iter().copied().map(f64::from).sum();
        close(what, &losses, &[want[0].into(), value], 1e-6, 0.0);
    }
}

#[test]
fn a_window_is_flushed_or_discarded() {
    let Some(gpu) = gpu() else { return };
    let data = Data::new(&gpu);
    for window_mean in [WindowMean::Tokens, WindowMean::Passes] {
        let new = |accumulate| {
            let sgd = Sgd::new().lr(1.0).momentum(0.5);
            let options = Optimization { sgd, accumulate, window_mean, clip_norm: Some(0.1), ..plain() };
            one_head(&gpu, Loss::cross_entropy(), options)
        };
        let (mut two, mut four) = (new(2), new(4));
        UNEVEN.iter().for_each(|rows| drop(data.pass(&gpu, &mut two, rows.clone())));
        // A discarded pass leaves nothing behind.
        data.pass(&gpu, &mut four, 3..9);
        assert_eq!(four.optimizer().passes(), 1);
        four.discard();
        assert_eq!((four.optimizer().passes(), four.optimizer().updates()), (0, 0));
        UNEVEN.iter().for_each(|rows| drop(data.pass(&gpu, &mut four, rows.clone())));
        assert_eq!((four.optimizer().passes(), four.optimizer().updates()), (2, 0));
        let mut batch = gpu.batch();
        let report = four.flush(&mut batch).unwrap().expect("there is a bound");
        let mut norm = batch.read(&report.norm).unwrap();
        assert!(four.flush(&mut batch).unwrap().is_none(), "there is nothing left");
        batch.submit().unwrap();
        assert!(norm.wait(TIMEOUT).unwrap()[0] > 0.1);
        assert_eq!((four.optimizer().passes(), four.optimizer().updates()), (0, 1));
        for ((name, a), (_, b)) in values(&gpu, &two).iter().zip(&values(&gpu, &four)) {
            same_bits(name, a, b);
        }
        // The next window starts from 0.
        data.pass(&gpu, &mut two, 0..3);
        data.pass(&gpu, &mut four, 0..3);
        two.flush(&mut gpu.batch()).unwrap();
        assert_eq!((two.optimizer().passes(), four.optimizer().passes()), (0, 1));
    }
}

/// Passes before a checkpoint and after it are one window.
#[test]
fn a_window_is_resumed_to_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let data = Data::new(&gpu);
    let rows = |i: usize| [0..7, 7..10, 2..5, 4..10][i % 4].clone();
    let sgd = Sgd::new().lr(0.5).momentum(0.9);
    let options = Optimization { sgd, accumulate: 3, clip_norm: Some(0.2), skip_non_finite: true, ..plain() };
    let bits = |state: &State| -> Vec<(String, Vec<u32>)> {
        let bits = |name| state.get(name).unwrap().1.iter().map(|v| v.to_bits()).collect();
        state.names().map(|name| (name.to_owned(), bits(name))).collect()
    };
    for window_mean in [WindowMean::Tokens, WindowMean::Passes] {
        let new = |loss_scale| {
            let losses = vec![Loss::cross_entropy(), Loss::mse()];
            two_heads(&gpu, losses, Optimization { window_mean, loss_scale, ..options.clone() })
        };
        let mut whole = new(8.0);
        let losses: Vec<_> = (0..8).map(|i| data.pass(&gpu, &mut whole, rows(i))).collect();
        let want = checkpoint(&gpu, &whole);
        assert_eq!((want.note("optimizer.passes"), want.note("optimizer.updates")), (Some("2"), Some("2")));
        for stop in [1, 2, 3, 5] {
            let mut first = new(1.0);
            first.set_loss_scale(8.0).unwrap();
            (0..stop).for_each(|i| drop(data.pass(&gpu, &mut first, rows(i))));
            let file = checkpoint(&gpu, &first).to_bytes().unwrap();
            // The other training is fresh or within a window, and has another loss scale.
            let mut second = new(2.0);
            if stop > 1 {
                data.pass(&gpu, &mut second, 1..4);
            }
            second.resume(&State::from_bytes(&file).unwrap()).unwrap();
            assert_eq!(second.optimizer().passes() as usize, stop % 3);
            assert_eq!(second.optimizer().options().loss_scale, 8.0);
            for (i, want) in losses.iter().enumerate().skip(stop) {
                assert_eq!(data.pass(&gpu, &mut second, rows(i)), *want, "losses of pass {i} after {stop}");
            }
            assert_eq!(bits(&checkpoint(&gpu, &second)), bits(&want), "{window_mean:?} after {stop}");
        }
        // A checkpoint that does not fit changes nothing.
        let mut other = new(8.0);
        let before = checkpoint(&gpu, &other);
        let mut torn = want.clone();
        torn.retain(|name| name != "optimizer.window_sums");
        assert!(matches!(other.resume(&torn), Err(Error::StateNames(_))));
        for (key, text) in [
            ("passes", "-1"),
            ("passes", "two"),
            ("window_divided", "1"),
            ("window_divided", "1x"),
            ("window_mean", "batches"),
            ("loss_scale", "0"),
        ] {
            let mut wrong = want.clone();
            wrong.set_note(&format!("optimizer.{key}"), text);
            let error = other.resume(&wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("\"optimizer.{key}\" must have")) && error.contains(text), "{error}");
        }
        assert_eq!(bits(&checkpoint(&gpu, &other)), bits(&before));
        let mut single = two_heads(&gpu, vec![Loss::cross_entropy(), Loss::mse()], plain());
        let error = single.resume(&want).unwrap_err().to_string();
        assert!(error.contains("\"optimizer.passes\" must have 0, or none"), "{error}");
    }
}

/// A pass without tokens changes nothing, and a window without tokens acts like a batch without
/// tokens.
#[test]
fn windows_and_passes_of_nothing() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let data = Data::new(&gpu);
        let unguarded = Optimization { accumulate: 2, ..plain() };
        let guarded = Optimization { skip_non_finite: true, clip_norm: Some(10.0), ..unguarded.clone() };
        // Rows 4 and 5 are ignored, as are 7 and 9.
        let [mut training, _] = [guarded, unguarded].map(|options| {
            let mut training = one_head(&gpu, Loss::cross_entropy(), options);
            let before = values(&gpu, &training);
            data.pass(&gpu, &mut training, 4..6);
            let [pass, window] = data.pass(&gpu, &mut training, 7..8);
            assert!(pass[0].is_nan() && window[0].is_nan());
            assert_eq!((training.optimizer().updates(), values(&gpu, &training)), (1, before));
            training
        });
        // A pass without tokens does not affect the other pass.
        let mut alone = one_head(&gpu, Loss::cross_entropy(), plain());
        let [want, _] = data.pass(&gpu, &mut alone, 0..4);
        data.pass(&gpu, &mut training, 4..6);
        let [_, window] = data.pass(&gpu, &mut training, 0..4);
        assert_eq!(window, want);
        near("one pass counts", &values(&gpu, &training), &values(&gpu, &alone));
        // A pass with NaN makes its own window NaN, and no other.
        let spoiled = Tensor::from_slice(&gpu, [3, 4], &[f32::NAN; 12]).unwrap();
        let now = values(&gpu, &training);
        let mut batch = gpu.batch();
        training.step(&mut batch, &spoiled, &[(&data.y.rows(0..3).unwrap()).into()]).unwrap();
        batch.submit().unwrap();
        data.pass(&gpu, &mut training, 0..7);
        assert_eq!(values(&gpu, &training), now);
        data.pass(&gpu, &mut training, 0..2);
        data.pass(&gpu, &mut training, 2..4);
        data.pass(&gpu, &mut alone, 0..4);
        near("after it", &values(&gpu, &training), &values(&gpu, &alone));
    }
}

fn updated(gpu: &Gpu, parameters: &Parameters) -> Vec<f32> {
    let [values] = eval(gpu, |_| Ok([parameters.value("p")?]));
    values
}

/// An optimiser that is driven by hand: plain sums, and means over the caller's denominators.
#[test]
fn optimizers_take_sums_and_means() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu).into_iter().chain(tiny(&gpu)) {
        let len = 9001;
        let parameters = Parameters::new(&gpu, &[("p", [len].into(), &vec![0.0; len])]).unwrap();
        let grads = [random(1, len, 1.0), random(2, len, 1.0)];
        let record = |batch: &mut xent::Batch, i: usize| {
            batch.upload(&parameters.grad("p").unwrap(), &grads[i]).unwrap();
        };
        let mut optimizer = Optimizer::new(&parameters, Optimization { accumulate: 2, ..plain() }).unwrap();
        let mut batch = gpu.batch();
        record(&mut batch, 0);
        optimizer.step_mean(&mut batch, &parameters, 3).unwrap();
        // A window cannot mix sums and means, and denominators must be scalars.
        let refused = optimizer.step(&mut batch, &parameters).unwrap_err().to_string();
        let message = "Optimizer::step: what a pass is divided by must be a denominator, as for those before it in the window, got nothing";
        assert_eq!(refused, message);
        let vector = Tensor::from_slice(&gpu, [1], &[2.0f32]).unwrap();
        assert!(matches!(optimizer.step_mean(&mut batch, &parameters, &vector), Err(Error::Shape { .. })));
        record(&mut batch, 1);
        let scalar = Tensor::from_slice(&gpu, [], &[2.0f32]).unwrap();
        optimizer.step_mean(&mut batch, &parameters, &scalar).unwrap();
        batch.submit().unwrap();
        let want: Vec<f64> = grads[0].iter().zip(&grads[1]).map(|(&a, &b)| -f64::from(a + b) / 5.0).collect();
        close("mean", &updated(&gpu, &parameters), &want, 1e-6, 0.0);

        let mut batch = gpu.batch();
        batch.upload(&parameters.value("p").unwrap(), &vec![0.0; len]).unwrap();
        record(&mut batch, 0);
        optimizer.step(&mut batch, &parameters).unwrap();
        let refused = optimizer.step_mean(&mut batch, &parameters, 1).unwrap_err();
        assert!(matches!(refused, Error::Value { what: "what a pass is divided by", .. }));
        record(&mut batch, 1);
        optimizer.step(&mut batch, &parameters).unwrap();
        batch.submit().unwrap();
        let want: Vec<f32> = grads[0].iter().zip(&grads[1]).map(|(&a, &b)| -(a + b)).collect();
        same_bits("sum", &updated(&gpu, &parameters), &want);

        // One pass with a denominator leaves the caller's gradients unchanged.
        let mut single = Optimizer::new(&parameters, plain()).unwrap();
        let mut batch = gpu.batch();
        batch.upload(&parameters.value("p").unwrap(), &vec![0.0; len]).unwrap();
        record(&mut batch, 0);
        single.step_mean(&mut batch, &parameters, 4).unwrap();
        batch.submit().unwrap();
        let want: Vec<f32> = grads[0].iter().map(|g| -g / 4.0).collect();
        same_bits("single", &updated(&gpu, &parameters), &want);
        let [kept] = eval(&gpu, |_| Ok([parameters.grad("p")?]));
        same_bits("gradients", &kept, &grads[0]);
    }
}

/// Denominators of 2^24 and 64 times 1: a sum in `f32` would stay at 2^24.
#[test]
fn denominators_are_exact_beyond_24_bits() {
    let Some(gpu) = gpu() else { return };
    let parameters = Parameters::new(&gpu, &[("p", [1].into(), &[0.0])]).unwrap();
    let one = Tensor::from_slice(&gpu, [], &[1.0f32]).unwrap();
    for more in [Denominator::Count(1), Denominator::Scalar(one)] {
        let mut optimizer = Optimizer::new(&parameters, Optimization { accumulate: 65, ..plain() }).unwrap();
        let total = (1u32 << 24) + 64;
        let mut batch = gpu.batch();
        batch.upload(&parameters.value("p").unwrap(), &[0.0]).unwrap();
        batch.upload(&parameters.grad("p").unwrap(), &[total as f32]).unwrap();
        optimizer.step_mean(&mut batch, &parameters, 1 << 24).unwrap();
        batch.upload(&parameters.grad("p").unwrap(), &[0.0]).unwrap();
        (0..64).for_each(|_| drop(optimizer.step_mean(&mut batch, &parameters, &more).unwrap()));
        batch.submit().unwrap();
        assert_eq!(updated(&gpu, &parameters), [-1.0]);
    }
    // A count has more bits than an `f32`: 2^24 + 1, and 1.
    let mut optimizer = Optimizer::new(&parameters, Optimization { accumulate: 2, ..plain() }).unwrap();
    let mut batch = gpu.batch();
    batch.upload(&parameters.value("p").unwrap(), &[0.0]).unwrap();
    batch.upload(&parameters.grad("p").unwrap(), &[((1u32 << 23) + 1) as f32]).unwrap();
    optimizer.step_mean(&mut batch, &parameters, (1 << 24) + 1).unwrap();
    optimizer.step_mean(&mut batch, &parameters, 1).unwrap();
    batch.submit().unwrap();
    assert_eq!(updated(&gpu, &parameters), [-1.0]);
}

#[test]
fn a_window_has_one_loss_scale() {
    let Some(gpu) = gpu() else { return };
    let data = Data::new(&gpu);
    let mut training = one_head(&gpu, Loss::cross_entropy(), Optimization { accumulate: 2, ..plain() });
    data.pass(&gpu, &mut training, 0..4);
    let error = training.set_loss_scale(16.0).unwrap_err().to_string();
    let message = "Training::set_loss_scale: the passes since the last update must be 0 where the loss scale changes: flush or discard \
                   them, got 1";
    assert_eq!(error, message);
    training.set_loss_scale(1.0).unwrap();
    training.discard();
    training.set_loss_scale(16.0).unwrap();
    assert_eq!(training.optimizer().options().loss_scale, 16.0);
}

/// A window of two equal passes acts like one of them, whatever its mean divides by.
#[test]
fn equal_passes_are_one_pass_of_every_mean() {
    let Some(gpu) = gpu() else { return };
    let weights = |n: usize| Some(Weights::new([n, 1], &unit(3, n)).unwrap());
    let rows = Some(Weights::new([10], &unit(4, 10)).unwrap());
    for gpu in families(&gpu) {
        let data = Data::new(&gpu);
        for reduction in [Reduction::Mean, Reduction::MeanByCount] {
            let classes = CrossEntropy::new().position_weight(rows.clone()).reduction(reduction);
            let value = Mse::new().weight(weights(10)).reduction(reduction);
            let losses = || vec![Loss::from(classes.clone()), Loss::from(value.clone()).weighted(0.5)];
            let mut single = two_heads(&gpu, losses(), plain());
            let mut window = two_heads(&gpu, losses(), Optimization { accumulate: 2, ..plain() });
            let [want, _] = data.pass(&gpu, &mut single, 0..10);
            data.pass(&gpu, &mut window, 0..10);
            let [of_pass, of_window] = data.pass(&gpu, &mut window, 0..10);
            let want: Vec<f64> = want.iter().copied().map(f64::from).collect();
            close("loss of the pass", &of_pass, &want, 1e-6, 0.0);
            close("loss of the window", &of_window, &want, 1e-6, 0.0);
            near(&format!("{reduction:?}"), &values(&gpu, &window), &values(&gpu, &single));
        }
    }
}

/// A window of thousands of passes keeps the rounding errors of its sums, also in a checkpoint.
#[test]
fn long_windows_keep_their_digits() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        let start = [("p", xent::Shape::from([5]), &[0.0; 5][..])];
        let options = |accumulate| Optimization { accumulate, ..plain() };
        let grads = [0.1, -0.1, 1.7, 3e-9, f32::INFINITY];
        let run = |passes: u32, stop: u32, mean: bool| {
            let mut parameters = Parameters::new(&gpu, &start).unwrap();
            let mut optimizer = Optimizer::new(&parameters, options(passes)).unwrap();
            let mut batch = gpu.batch();
            batch.upload(&parameters.grad("p").unwrap(), &grads).unwrap();
            for pass in 0..passes {
                if mean {
                    optimizer.step_mean(&mut batch, &parameters, 1).unwrap()
                } else {
                    optimizer.step(&mut batch, &parameters).unwrap()
                };
                if pass % 500 == 499 || pass == stop {
                    std::mem::replace(&mut batch, gpu.batch()).submit().unwrap();
                }
                if pass == stop {
                    let mut batch = gpu.batch();
                    let mut state = optimizer.state(&mut batch, &parameters).unwrap();
                    batch.submit().unwrap();
                    let state = state.wait(TIMEOUT).unwrap();
                    parameters = Parameters::new(&gpu, &start).unwrap();
                    parameters.grad("p").unwrap().write(&grads).unwrap();
                    optimizer = Optimizer::new(&parameters, options(passes)).unwrap();
                    optimizer.load(&state, &parameters).unwrap();
                }
            }
            let mut values = batch.read(&parameters.value("p").unwrap()).unwrap();
            batch.submit().unwrap();
            values.wait(TIMEOUT).unwrap()
        };
        let never = u32::MAX;
        let sums = run(4096, never, false);
        let want: Vec<f64> = grads.iter().map(|&g| -4096.0 * f64::from(g)).collect();
        close("sum", &sums, &want, 1.2e-7, 0.0);
        same_bits("resumed", &run(4096, 700, false), &sums);
        same_bits("resumed after the first pass", &run(300, 0, false), &run(300, never, false));
        let means: Vec<f64> = grads.iter().map(|&g| -f64::from(g)).collect();
        close("mean", &run(3000, never, true), &means, 2.4e-7, 0.0);
    }
}
