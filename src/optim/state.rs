//! The state that an optimiser needs to continue.

use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::record::{Readback, Recorder};
use crate::state::{LoadOptions, State, StateTickets, Wanted};
use crate::tensor::Tensor;

use super::Optimizer;
use super::runs::check_lr;

/// The prefix of the velocities in a state.
const MOMENTUM: &str = "momentum_buffer.";

/// The prefix of a window's gradient sums; the number of the sum follows.
const ACCUMULATED: &str = "accumulated_grad.";

/// The prefix of the rounding errors of the gradient sums, if a window has many passes.
const ACCUMULATED_LOW: &str = "accumulated_grad_low.";

/// The tensor of the window's losses and denominators.
const WINDOW: &str = "window_sums";

/// Keys of notes: the number of updates; the number of skipped updates, if they do not advance the
/// schedule; the number of passes since the last update; and for each of the window's losses,
/// whether it is divided.
const UPDATES: &str = "updates";
const SKIPPED: &str = "skipped_updates";
const PASSES: &str = "passes";
const DIVIDED: &str = "window_divided";

/// The key of the note with an open window's `WindowMean`.
const WINDOW_MEAN: &str = "window_mean";

/// Keys of notes: the learning rate, and the prefix of the groups' own learning rates; the number
/// of the group follows the prefix.
const LR: &str = "lr";
const GROUP_LR: &str = "group_lr.";

/// The notes of a state, parsed.
struct Notes {
    updates: u64,
    skipped: u32,
    passes: u32,
    divided: Vec<bool>,
    /// The learning rate and the groups' own rates, if the state has them.
    rates: Option<(f64, Vec<Option<f64>>)>,
}

impl Optimizer {
    /// Records a copy of everything that a training needs to continue from here bit for bit:
    ///
    /// * with momentum, `momentum_buffer.<name>` for each parameter;
    /// * the notes `updates`, `lr`, and `group_lr.<number>` for each group with its own learning
    ///   rate;
    /// * if skipped updates do not advance the schedule, the note `skipped_updates`;
    /// * between the passes of a window, `accumulated_grad.<number>.<name>`, for long windows
    ///   `accumulated_grad_low.<number>.<name>`, `window_sums`, and the notes `passes`,
    ///   `window_mean` and `window_divided`.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Optimizer::step`]; the errors of [`Recorder::read`].
    pub fn state(&self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<Readback<State>> {
        Ok(self.tickets(rec, parameters)?.finish(rec))
    }

    pub(crate) fn tickets(&self, rec: &mut Recorder<'_>, parameters: &Parameters) -> Result<StateTickets> {
        self.check(parameters)?;
        let mut state = StateTickets::default();
        state.set_note(UPDATES, self.updates.to_string());
        state.set_note(LR, self.options.sgd.lr.to_string());
        for (number, lr) in self.options.groups.iter().enumerate().filter_map(|(i, group)| Some((i, group.lr?))) {
            state.set_note(&format!("{GROUP_LR}{number}"), lr.to_string());
        }
        if let Some(schedule) = &self.schedule {
            state.read_note(rec, SKIPPED, &schedule.skips)?;
        }
        if let Some(velocity) = &self.velocity {
            state.read(rec, parameters, velocity, MOMENTUM)?;
        }
        if self.window.passes > 0 {
            state.set_note(PASSES, self.window.passes.to_string());
            state.set_note(WINDOW_MEAN, self.options.window_mean.name().to_owned());
            state.set_note(
                DIVIDED,
                self.window.divided.iter().map(|&divided| char::from(b'0' + u8::from(divided))).collect(),
            );
            for (number, total) in self.window.totals.iter().enumerate() {
                state.read(rec, parameters, total, &format!("{ACCUMULATED}{number}."))?;
            }
            for (number, lows) in self.window.lows.iter().enumerate() {
                state.read(rec, parameters, lows, &format!("{ACCUMULATED_LOW}{number}."))?;
            }
            state.read_tensor(rec, WINDOW, &self.window.sums)?;
        }
        Ok(state)
    }

    /// Continues from a state. The state's learning rates, which can be [set](Self::set_lr)
    /// afterwards, and its open window replace the current ones. The state is checked as a whole
    /// first: if anything does not fit, nothing changes.
    ///
    /// # Errors
    /// [`Error::StateNames`] with all missing and superfluous tensors; [`Error::State`] for a
    /// tensor of another shape or not of real numbers, for a missing note `updates`, and for a note
    /// that is not a number or does not fit the options.
    pub fn load(&mut self, state: &State, parameters: &Parameters) -> Result<()> {
        let (found, _) = state.matching(&self.wanted(state, parameters, "")?, &LoadOptions::default())?;
        self.take(state, parameters, "", &found)
    }

    /// Returns the tensors that loading the state needs, under names that begin with `prefix`.
    pub(crate) fn wanted<'a>(
        &'a self,
        state: &State,
        parameters: &'a Parameters,
        prefix: &str,
    ) -> Result<Vec<Wanted<'a>>> {
        self.check(parameters)?;
        let mut wanted = match self.velocity {
            Some(_) => parameters.wanted(&format!("{prefix}{MOMENTUM}")),
            None => Vec::new(),
        };
        if self.notes(state, prefix)?.passes > 0 {
            for number in 0..self.window.totals.len() {
                wanted.extend(parameters.wanted(&format!("{prefix}{ACCUMULATED}{number}.")));
            }
            for number in 0..self.window.lows.len() {
                wanted.extend(parameters.wanted(&format!("{prefix}{ACCUMULATED_LOW}{number}.")));
            }
            let names = vec![format!("{prefix}{WINDOW}")];
            wanted.push(Wanted { names, shape: self.window.sums.shape(), asked: true });
        }
        Ok(wanted)
    }

    /// Continues from tensors that fit, and from the notes whose keys begin with `prefix`.
    pub(crate) fn take(
        &mut self,
        state: &State,
        parameters: &Parameters,
        prefix: &str,
        found: &[Option<&str>],
    ) -> Result<()> {
        let Notes { updates, skipped, passes, divided, rates } = self.notes(state, prefix)?;
        let open = passes > 0;
        let totals = self.window.totals.iter().chain(&self.window.lows).filter(|_| open);
        let flats: Vec<&Tensor<f32>> = self.velocity.iter().chain(totals).collect();
        let each = parameters.parts().list().len();
        for (i, flat) in flats.into_iter().enumerate() {
            parameters.take(flat, state, found.get(i * each..(i + 1) * each).unwrap_or_default())?;
        }
        if open {
            let sums = &self.window.sums;
            sums.write(&state.require_as::<f32>(&format!("{prefix}{WINDOW}"), sums.shape())?)?;
            self.window.divided = divided;
        }
        if let Some(schedule) = &self.schedule {
            schedule.skips.write(&[skipped])?;
        }
        if let Some((lr, groups)) = rates {
            self.options.sgd.lr = lr;
            self.options.groups.iter_mut().zip(groups).for_each(|(group, lr)| group.lr = lr);
            self.set_rates();
        }
        (self.updates, self.window.passes) = (updates, passes);
        Ok(())
    }

    /// Parses the notes of a state, and checks that they fit the options.
    fn notes(&self, state: &State, prefix: &str) -> Result<Notes> {
        let note = |key: &str| state.note(&format!("{prefix}{key}"));
        let fail = |key: &str, expected: &str| {
            let got = note(key).map_or_else(|| "none".to_owned(), |note| format!("{note:?}"));
            Error::state(format!("{prefix}{key}"), expected, got)
        };
        let small = |key: &str| match note(key).map(str::parse) {
            None => Ok(0),
            Some(number) => number.map_err(|_| fail(key, "a note with a number below 2^32, or none")),
        };
        let rate = |key: &str| {
            let lr = note(key).map(|note| note.parse().ok().filter(|&lr| check_lr("Optimizer::load", lr).is_ok()));
            lr.map(|lr| lr.ok_or_else(|| fail(key, "a note with a learning rate, at least 0 and finite"))).transpose()
        };
        let updates = note(UPDATES).and_then(|note| note.parse().ok());
        let updates = updates.ok_or_else(|| fail(UPDATES, "a note with a number"))?;
        let (skipped, passes) = (small(SKIPPED)?, small(PASSES)?);
        let digits = note(DIVIDED).unwrap_or_default().chars();
        let divided = digits.map(|digit| digit.to_digit(2).map(|divided| divided == 1)).collect::<Option<Vec<bool>>>();
        let divided = divided.unwrap_or_default();
        if passes > 0 && self.window.totals.is_empty() {
            return Err(fail(PASSES, "0, or none, where an update takes one pass"));
        }
        let mean = self.options.window_mean.name();
        if passes > 0 && note(WINDOW_MEAN) != Some(mean) {
            return Err(fail(WINDOW_MEAN, &format!("the note {mean:?}, the window mean of the options")));
        }
        if passes > 0 && divided.len() != self.window.divided.len() {
            return Err(fail(DIVIDED, &format!("a note of {} digits, one for each loss", self.window.divided.len())));
        }
        let groups = (0..self.options.groups.len()).map(|number| rate(&format!("{GROUP_LR}{number}")));
        let groups = groups.collect::<Result<Vec<_>>>()?;
        let rates = rate(LR)?.map(|lr| (lr, groups));
        Ok(Notes { updates, skipped, passes, divided, rates })
    }
}
