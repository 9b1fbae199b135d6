//! Keeps memory alive at least until the work that uses it is submitted (for the caller's encoder:
//! until it is done).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Storage;

/// The memory that a recorder keeps alive, at least until its work is submitted (for the caller's
/// encoder: until it is done).
#[derive(Debug)]
pub(super) struct Held {
    recorder: u64,
    others: Vec<Arc<Storage>>,
    /// The recorder's own outputs, each once, by size class. An output that nobody else holds any
    /// more can be reused by later operations of the same recording.
    outputs: HashMap<u64, Vec<Arc<Storage>>>,
}

impl Held {
    pub(super) fn new() -> Self {
        static RECORDERS: AtomicU64 = AtomicU64::new(1);
        let recorder = RECORDERS.fetch_add(1, Ordering::Relaxed);
        Self { recorder, others: Vec::new(), outputs: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.outputs.is_empty()
    }

    pub(super) fn retain(&mut self, storage: &Arc<Storage>) {
        if !storage.is_output_of(self.recorder) {
            self.others.push(storage.clone());
        }
    }

    /// Registers a new output.
    pub(super) fn register_output(&mut self, storage: Storage) -> Arc<Storage> {
        let output = Arc::new(storage.output_of(self.recorder));
        self.outputs.entry(output.size()).or_default().push(output.clone());
        output
    }

    /// An output of this size class that nobody but the recorder holds.
    pub(super) fn free_output(&self, size: u64) -> Option<Arc<Storage>> {
        // Scratch is among the latest outputs; searching thousands would cost more than it saves.
        const MOST: usize = 32;
        let outputs = self.outputs.get(&size)?;
        outputs.iter().rev().take(MOST).find(|output| Arc::strong_count(output) == 1).cloned()
    }
}
