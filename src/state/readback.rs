//! Readback of states from the GPU.

use std::collections::BTreeMap;

use super::State;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::record::{Readback, Recorder};
use crate::tensor::{Shape, Tensor};

/// The tickets of a state.
#[derive(Debug, Default)]
pub(crate) struct StateTickets {
    tensors: Vec<(Vec<Piece>, Readback<Vec<f32>>)>,
    notes: BTreeMap<String, String>,
    /// Integers that become notes.
    counts: Vec<(String, Readback<u32>)>,
}

/// The position of a tensor of the state in the values of a ticket.
#[derive(Debug)]
struct Piece {
    name: String,
    shape: Shape,
    start: usize,
}

impl StateTickets {
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
            self.tensors.push((pieces.collect(), ticket));
        }
        Ok(())
    }

    /// Records the readback of a single tensor.
    pub(crate) fn read_tensor(&mut self, rec: &mut Recorder<'_>, name: &str, tensor: &Tensor<f32>) -> Result<()> {
        let piece = Piece { name: name.to_owned(), shape: tensor.shape().clone(), start: 0 };
        self.tensors.push((vec![piece], rec.read(tensor)?));
        Ok(())
    }

    /// Records the readback of an integer, which becomes a note.
    pub(crate) fn read_note(&mut self, rec: &mut Recorder<'_>, key: &str, number: &Tensor<u32>) -> Result<()> {
        self.counts.push((key.to_owned(), rec.read(number)?.scalar()));
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
        let tensors = other.tensors.into_iter();
        self.tensors.extend(tensors.map(|(pieces, ticket)| (pieces.into_iter().map(renamed).collect(), ticket)));
    }

    /// Returns a ticket for the state.
    pub(crate) fn finish(self, rec: &Recorder<'_>) -> Readback<State> {
        let Self { tensors, notes, counts } = self;
        let device = rec.gpu().device();
        let (pieces, tensors): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        let (keys, counts): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
        Readback::all(device, tensors).and(Readback::all(device, counts)).map(move |(tensors, counts)| {
            let mut state = State { notes, ..State::default() };
            for (pieces, values) in pieces.into_iter().zip(tensors) {
                unpack(&mut state, pieces, values)?;
            }
            keys.iter().zip(counts).for_each(|(key, count)| state.set_note(key, count.to_string()));
            Ok(state)
        })
    }
}

/// Adds the tensors of one ticket to a state.
fn unpack(state: &mut State, pieces: Vec<Piece>, mut values: Vec<f32>) -> Result<()> {
    // From last to first, so that the values of a ticket with one tensor are moved, not copied.
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
    pub fn state(&self, rec: &mut Recorder<'_>) -> Result<Readback<State>> {
        Ok(self.tickets(rec)?.finish(rec))
    }

    pub(crate) fn tickets(&self, rec: &mut Recorder<'_>) -> Result<StateTickets> {
        let mut tickets = StateTickets::default();
        tickets.read(rec, self, self.values(), "")?;
        Ok(tickets)
    }
}
