//! Readback of states from the GPU.

use std::collections::BTreeMap;

use super::State;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::record::{Readback, Recorder};
use crate::tensor::{Shape, Tensor};

/// A ticket for a state.
#[derive(Debug)]
#[must_use = "a ticket does nothing unless it is waited for"]
pub struct StateReadback {
    tickets: Vec<(Vec<Piece>, Readback<f32>)>,
    notes: BTreeMap<String, String>,
    /// Integers that become notes.
    counts: Vec<(String, Readback<u32>)>,
    /// The values of the first tickets, in order, kept in case a wait times out.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "waiting is not available on the web"))]
    arrived: Vec<Vec<f32>>,
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "waiting is not available on the web"))]
    counted: Vec<Vec<u32>>,
    /// Whether a wait has returned the state.
    #[cfg_attr(target_arch = "wasm32", expect(dead_code, reason = "waiting is not available on the web"))]
    given: bool,
}

/// The position of a tensor of the state in the values of a ticket.
#[derive(Debug)]
struct Piece {
    name: String,
    shape: Shape,
    start: usize,
}

impl StateReadback {
    pub(crate) fn new() -> Self {
        Self {
            tickets: Vec::new(),
            notes: BTreeMap::new(),
            counts: Vec::new(),
            arrived: Vec::new(),
            counted: Vec::new(),
            given: false,
        }
    }

    /// Records the readback of a flat tensor with the layout of the parameters' values. Puts
    /// `prefix` before the names. Small neighbours share a ticket.
    pub(crate) fn read(
        &mut self,
        rec: &mut Recorder<'_>,
        parameters: &Parameters,
        flat: &Tensor<f32>,
        prefix: &str,
    ) -> Result<()> {
        for run in parameters.gathered() {
            let ticket = rec.read(&flat.part(run.range.start, [run.range.len()].into()))?;
            let pieces = run.parts.iter().map(|part| Piece {
                name: format!("{prefix}{}", part.name),
                shape: part.shape.clone(),
                start: part.start - run.range.start,
            });
            self.tickets.push((pieces.collect(), ticket));
        }
        Ok(())
    }

    /// Records the readback of a single tensor.
    pub(crate) fn read_tensor(&mut self, rec: &mut Recorder<'_>, name: &str, tensor: &Tensor<f32>) -> Result<()> {
        let piece = Piece { name: name.to_owned(), shape: tensor.shape().clone(), start: 0 };
        self.tickets.push((vec![piece], rec.read(tensor)?));
        Ok(())
    }

    /// Records the readback of an integer, which becomes a note.
    pub(crate) fn read_note(&mut self, rec: &mut Recorder<'_>, key: &str, number: &Tensor<u32>) -> Result<()> {
        self.counts.push((key.to_owned(), rec.read(number)?));
        Ok(())
    }

    pub(crate) fn set_note(&mut self, key: &str, text: String) {
        self.notes.insert(key.to_owned(), text);
    }

    /// Adds the tickets and notes of `other`, with `prefix` before their names.
    pub(crate) fn merge(&mut self, prefix: &str, other: Self) {
        self.notes.extend(other.notes.into_iter().map(|(key, text)| (format!("{prefix}{key}"), text)));
        self.counts.extend(other.counts.into_iter().map(|(key, ticket)| (format!("{prefix}{key}"), ticket)));
        let renamed = |piece: Piece| Piece { name: format!("{prefix}{}", piece.name), ..piece };
        let tickets = other.tickets.into_iter();
        self.tickets.extend(tickets.map(|(pieces, ticket)| (pieces.into_iter().map(renamed).collect(), ticket)));
    }

    /// Returns the state once the recording is submitted and done.
    ///
    /// # Errors
    /// The errors of [`Readback`].
    pub async fn arrive(self) -> Result<State> {
        let mut state = State { notes: self.notes, ..State::default() };
        for (pieces, ticket) in self.tickets {
            unpack(&mut state, pieces, ticket.await?)?;
        }
        for (key, ticket) in self.counts {
            note(&mut state, &key, &ticket.await?);
        }
        Ok(state)
    }

    /// Polls the device until the state arrives, for at most `timeout` in total. Not available on
    /// the web.
    ///
    /// # Errors
    /// As [`Readback::wait`]. After a timeout the ticket stays valid; after any other outcome, a
    /// further wait returns [`Error::Taken`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&mut self, timeout: std::time::Duration) -> Result<State> {
        if self.given {
            return Err(Error::Taken);
        }
        let start = std::time::Instant::now();
        for (_, ticket) in self.tickets.iter_mut().skip(self.arrived.len()) {
            self.arrived.push(ticket.wait(timeout.saturating_sub(start.elapsed()))?);
        }
        for (_, ticket) in self.counts.iter_mut().skip(self.counted.len()) {
            self.counted.push(ticket.wait(timeout.saturating_sub(start.elapsed()))?);
        }
        self.given = true;
        let mut state = State { notes: std::mem::take(&mut self.notes), ..State::default() };
        for ((pieces, _), values) in self.tickets.drain(..).zip(self.arrived.drain(..)) {
            unpack(&mut state, pieces, values)?;
        }
        for ((key, _), count) in self.counts.drain(..).zip(self.counted.drain(..)) {
            note(&mut state, &key, &count);
        }
        Ok(state)
    }
}

/// Adds an integer that has arrived to the notes of a state.
fn note(state: &mut State, key: &str, count: &[u32]) {
    if let Some(count) = count.first() {
        state.set_note(key, count.to_string());
    }
}

/// Adds the tensors of one ticket to a state.
fn unpack(state: &mut State, pieces: Vec<Piece>, mut values: Vec<f32>) -> Result<()> {
    // From last to first, so that a tensor with a ticket of its own is moved, not copied.
    for Piece { name, shape, start } in pieces.into_iter().rev() {
        let len = shape.iter().product();
        let mut own = match start {
            0 => std::mem::take(&mut values),
            _ => values.split_off(start.min(values.len())),
        };
        own.truncate(len);
        own.shrink_to_fit();
        state.insert(&name, shape, own)?;
    }
    Ok(())
}

impl Parameters {
    /// Records the readback of all values.
    ///
    /// # Errors
    /// The errors of [`Recorder::read`].
    pub fn state(&self, rec: &mut Recorder<'_>) -> Result<StateReadback> {
        let mut state = StateReadback::new();
        state.read(rec, self, self.values(), "")?;
        Ok(state)
    }
}
