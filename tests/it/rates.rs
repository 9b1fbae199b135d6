//! Learning rates: schedules that skipped updates do not advance, and rates in saved states.

use crate::common::*;
use xent::nn::{Loss, Model, Sequential, Training};
use xent::optim::{Group, Optimization, Optimizer, Parameters, Schedule, Sgd};
use xent::state::State;
use xent::{Error, Gpu};

const LR: f64 = 0.3;
const GROUP_LR: f64 = 7.0;

/// Two parameters, one of them with its own rate, and their optimiser.
struct Probe {
    gpu: Gpu,
    parameters: Parameters,
    optimizer: Optimizer,
}

impl Probe {
    fn new(gpu: &Gpu, schedule: Schedule, schedule_counts_skipped: bool) -> Self {
        let parameters = Parameters::new(gpu, &[("a", [1].into(), &[0.0]), ("b", [1].into(), &[0.0])]).unwrap();
        let groups = vec![Group { names: vec!["b".into()], lr: Some(GROUP_LR), weight_decay: None }];
        let sgd = Sgd::new().lr(LR);
        let options = Optimization {
            sgd,
            groups,
            schedule,
            schedule_counts_skipped,
            skip_non_finite: true,
            ..Default::default()
        };
        let optimizer = Optimizer::new(&parameters, options).unwrap();
        Self { gpu: gpu.clone(), parameters, optimizer }
    }

    /// Records an update of values 0 with gradients -1, so that the new values are the rates.
    /// Returns the rates, or `None` if the update was skipped.
    fn update(&mut self, bad: bool) -> Option<[f32; 2]> {
        let mut batch = self.gpu.batch();
        for name in ["a", "b"] {
            batch.upload(&self.parameters.value(name).unwrap(), &[0.0]).unwrap();
            batch.upload(&self.parameters.grad(name).unwrap(), &[if bad { f32::NAN } else { -1.0 }]).unwrap();
        }
        let report = self.optimizer.step(&mut batch, &self.parameters).unwrap().expect("there is a guard");
        let mut skipped = batch.read(&report.skipped).unwrap();
        let mut values = ["a", "b"].map(|name| batch.read(&self.parameters.value(name).unwrap()).unwrap());
        batch.submit().unwrap();
        let rates = values.each_mut().map(|value| value.wait(TIMEOUT).unwrap()[0]);
        (skipped.wait(TIMEOUT).unwrap() == [0]).then_some(rates)
    }

    fn state(&self) -> State {
        let mut batch = self.gpu.batch();
        let mut state = self.optimizer.state(&mut batch, &self.parameters).unwrap();
        batch.submit().unwrap();
        state.wait(TIMEOUT).unwrap()
    }

    /// Continues as if `updates` updates had been recorded, and `skipped` of them skipped.
    fn jump(&mut self, updates: u64, skipped: u32) {
        let mut state = self.state();
        state.set_note("updates", updates.to_string());
        state.set_note("skipped_updates", skipped.to_string());
        self.optimizer.load(&state, &self.parameters).unwrap();
    }

    #[track_caller]
    fn expect(&mut self, schedule: Schedule, n: u64) {
        let factor = schedule.factor(n);
        let got = self.update(false).expect("it is not skipped");
        close(&format!("{schedule:?} at {n}"), &got, &[LR * factor, GROUP_LR * factor], 6e-7, 1e-37);
    }
}

const SCHEDULES: [Schedule; 6] = [
    Schedule::Step { every: 2, factor: 0.5 },
    Schedule::Step { every: 1, factor: 0.987 },
    Schedule::Step { every: 1_000_000_000_000, factor: 0.1 },
    Schedule::Cosine { warm_up: 4, steps: 13, floor: 0.1 },
    Schedule::Cosine { warm_up: 0, steps: 10, floor: 0.0 },
    Schedule::Cosine { warm_up: 3, steps: 1_000_003, floor: 0.0 },
];

/// Skipped updates advance a schedule only if the options say so. Before the first skipped update,
/// the rates have the host's bits.
#[test]
fn skipped_updates_move_the_schedule_only_if_they_are_to() {
    let Some(gpu) = gpu() else { return };
    for gpu in families(&gpu) {
        for schedule in SCHEDULES {
            for counts_skipped in [false, true] {
                let mut probe = Probe::new(&gpu, schedule, counts_skipped);
                let mut n = 0;
                let mut skipped = 0;
                for update in 0..18 {
                    let bad = [3, 4, 9].contains(&update);
                    let got = probe.update(bad);
                    let Some(got) = got else {
                        assert!(bad);
                        skipped += 1;
                        n += u64::from(counts_skipped);
                        continue;
                    };
                    assert!(!bad);
                    let factor = schedule.factor(n);
                    let want = [LR * factor, GROUP_LR * factor];
                    let what = format!("{schedule:?}, {counts_skipped}, update {update}");
                    close(&what, &got, &want, 6e-7, 0.0);
                    if skipped == 0 || counts_skipped {
                        same_bits(&what, &got, &want.map(|rate| rate as f32));
                    }
                    n += 1;
                }
                assert_eq!(probe.optimizer.updates(), 18);
                let state = probe.state();
                assert_eq!(state.note("skipped_updates"), (!counts_skipped).then_some("3"));
            }
        }
    }
}

/// If the host cannot know the rate, the GPU computes the rate of any update, within ten roundings.
#[test]
fn rates_far_along_a_schedule() {
    let Some(gpu) = gpu() else { return };
    let long = u64::from(u32::MAX);
    for (schedule, at) in [
        (Schedule::Step { every: 1, factor: 0.999_99 }, &[0, 1, 65_535, 65_536, 1_234_567, 8_000_000][..]),
        (Schedule::Step { every: 30, factor: 0.5 }, &[29, 30, 1_000, 3_000]),
        (Schedule::Step { every: 1, factor: 1.000_001 }, &[1, 70_000, 20_000_000]),
        (Schedule::Step { every: 1 << 40, factor: 0.1 }, &[0, 4_000_000_000]),
        (
            Schedule::Cosine { warm_up: 1000, steps: 1_000_000, floor: 0.0 },
            &[0, 998, 999, 1000, 1001, 500_000, 999_990],
        ),
        (Schedule::Cosine { warm_up: 1000, steps: 1_000_000, floor: 0.0 }, &[999_998, 999_999, 1_000_000, 5_000_000]),
        (Schedule::Cosine { warm_up: 0, steps: long, floor: 0.0 }, &[1, 123_456_789, 4_294_000_000, 4_294_967_200]),
        (Schedule::Cosine { warm_up: long - 1, steps: long, floor: 0.5 }, &[5, 4_294_967_200]),
    ] {
        let mut probe = Probe::new(&gpu, schedule, false);
        for &n in at {
            for skipped in [1, 17] {
                probe.jump(n + u64::from(skipped), skipped);
                probe.expect(schedule, n);
            }
        }
    }
    // An update that the GPU cannot count is an error.
    let steps = 1 << 32;
    let mut probe = Probe::new(&gpu, Schedule::Step { every: 2, factor: 0.5 }, false);
    probe.jump(long, 0);
    let error = probe.optimizer.step(&mut gpu.batch(), &probe.parameters).unwrap_err();
    assert!(matches!(error, Error::Limit { op: "Optimizer::step", needed, .. } if needed == long + 1), "{error}");
    let schedule = Schedule::Cosine { warm_up: 0, steps, floor: 0.0 };
    let options = Optimization { schedule, skip_non_finite: true, ..Default::default() };
    let error = Optimizer::new(&probe.parameters, options.clone()).unwrap_err();
    assert!(matches!(error, Error::Value { what: "the schedule's steps", .. }), "{error}");
    Optimizer::new(&probe.parameters, Optimization { schedule_counts_skipped: true, ..options }).unwrap();
}

/// The number of skipped updates is part of a state.
#[test]
fn a_schedule_is_resumed_to_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let schedule = Schedule::Cosine { warm_up: 2, steps: 15, floor: 0.01 };
    for counts_skipped in [false, true] {
        let bad = |i: usize| i == 1 || i == 6;
        let mut whole = Probe::new(&gpu, schedule, counts_skipped);
        let want: Vec<_> = (0..12).map(|i| whole.update(bad(i))).collect();
        for stop in [0, 1, 2, 5, 8] {
            let mut first = Probe::new(&gpu, schedule, counts_skipped);
            for i in 0..stop {
                first.update(bad(i));
            }
            let state = State::from_bytes(&first.state().to_bytes().unwrap()).unwrap();
            let mut second = Probe::new(&gpu, schedule, counts_skipped);
            for _ in 0..3 {
                second.update(true);
            }
            second.optimizer.load(&state, &second.parameters).unwrap();
            for (i, want) in want.iter().enumerate().skip(stop) {
                assert_eq!(second.update(bad(i)), *want, "update {i} after {stop}");
            }
        }
    }
}

/// Rates that were set are part of a state, as in PyTorch, and can be set again after a load.
#[test]
fn rates_that_were_set_are_saved() {
    let Some(gpu) = gpu() else { return };
    let schedule = Schedule::Step { every: 3, factor: 0.5 };
    let mut first = Probe::new(&gpu, schedule, false);
    let (lr, group_lr) = (1.0 / 3.0, 1e-7 / 3.0);
    first.optimizer.set_lr(lr).unwrap();
    first.optimizer.set_group_lr(0, group_lr).unwrap();
    first.update(false);
    let state = State::from_bytes(&first.state().to_bytes().unwrap()).unwrap();
    let mut second = Probe::new(&gpu, schedule, false);
    second.optimizer.load(&state, &second.parameters).unwrap();
    let options = second.optimizer.options();
    assert_eq!((options.sgd.lr, options.groups[0].lr), (lr, Some(group_lr)), "every bit of them");
    for _ in 0..4 {
        assert_eq!(first.update(false), second.update(false));
    }
    second.optimizer.set_lr(0.25).unwrap();
    assert_eq!(second.update(false).unwrap()[0], 0.125);

    // A state without rates keeps the current rates; a state with an invalid rate is rejected as a
    // whole.
    let mut bare = State::default();
    bare.set_note("updates", "0");
    second.optimizer.load(&bare, &second.parameters).unwrap();
    assert_eq!(second.optimizer.options().sgd.lr, 0.25);
    for (key, text) in [("lr", "fast"), ("lr", "-1"), ("lr", "NaN"), ("group_lr.0", "inf"), ("skipped_updates", "x")] {
        let mut wrong = state.clone();
        wrong.set_note(key, text);
        let error = second.optimizer.load(&wrong, &second.parameters).unwrap_err().to_string();
        assert!(error.contains(&format!("{key:?}")) && error.contains(text), "{error}");
        assert_eq!((second.optimizer.options().sgd.lr, second.optimizer.updates()), (0.25, 0));
    }

    let new = || {
        let model = Model::new(&gpu, &Sequential::new().linear(2, 1), 3).unwrap();
        Training::new(model, vec![Loss::mse()], Optimization::default()).unwrap()
    };
    let mut training = new();
    training.set_lr(0.5).unwrap();
    let mut batch = gpu.batch();
    let mut checkpoint = training.checkpoint(&mut batch).unwrap();
    batch.submit().unwrap();
    let mut resumed = new();
    resumed.resume(&checkpoint.wait(TIMEOUT).unwrap()).unwrap();
    assert_eq!(resumed.optimizer().options().sgd.lr, 0.5);
}
