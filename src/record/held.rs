//! Memory that is kept until the work that uses it is submitted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Storage;

/// What a recorder keeps until its work is submitted.
#[derive(Debug)]
pub(super) struct Held {
    recorder: u64,
    others: Vec<Arc<Storage>>,
    /// Its own outputs by their buffers' sizes, each once: one that nobody else has any more can be written again by what is recorded
    /// next.
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

    pub(super) fn hold(&mut self, storage: &Arc<Storage>) {
        if !storage.is_output_of(self.recorder) {
            self.others.push(storage.clone());
        }
    }

    /// A new output.
    pub(super) fn keep(&mut self, storage: Storage) -> Arc<Storage> {
        let output = Arc::new(storage.output_of(self.recorder));
        self.outputs.entry(output.size()).or_default().push(output.clone());
        output
    }

    /// An output of this size class that only the recorder has.
    pub(super) fn free_output(&self, size: u64) -> Option<Arc<Storage>> {
        // The latest: those are scratch, and a search of thousands would take longer than it saves.
        const MOST: usize = 32;
        let outputs = self.outputs.get(&size)?;
        outputs.iter().rev().take(MOST).find(|output| Arc::strong_count(output) == 1).cloned()
    }
}
