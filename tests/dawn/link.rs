//! The pipes to the Node process that runs Dawn: requests out, replies in.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

type Callback = Box<dyn FnOnce(Value, Vec<u8>) + Send>;

/// Callbacks of pending replies; `None` once the process has ended.
type Waiting = Arc<Mutex<Option<HashMap<u64, Callback>>>>;

/// A running `server.mjs`.
pub(super) struct Link {
    /// Headers and payloads for the writer thread. The thread that reads replies must never block
    /// on a full pipe.
    requests: Sender<(String, Vec<u8>)>,
    waiting: Waiting,
    next: AtomicU64,
    process: Mutex<Child>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    pub(super) fn start() -> Arc<Self> {
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dawn/server.mjs");
        // Descriptor 3 is the pipe; what Dawn prints goes to standard error.
        let mut process = Command::new("sh")
            .args(["-c", "exec node \"$0\" 3>&1 1>&2", server])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node runs Dawn: `npm install --prefix tests/dawn`");
        let (mut stdin, stdout) = (process.stdin.take().expect("a pipe"), process.stdout.take().expect("a pipe"));
        let (requests, outgoing) = channel::<(String, Vec<u8>)>();
        std::thread::spawn(move || {
            for (header, payload) in outgoing {
                // A process that has ended wrote the reason to its standard error.
                let _ = send(&mut stdin, &header, &payload);
            }
        });
        let waiting = Waiting::new(Mutex::new(Some(HashMap::new())));
        let replies = waiting.clone();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some((reply, payload)) = receive(&mut stdout) {
                let callback = reply["reply"].as_u64().and_then(|id| lock(&replies).as_mut()?.remove(&id));
                callback.expect("a reply to a request")(reply, payload);
            }
            // No more replies: drop the pending callbacks.
            lock(&replies).take();
        });
        Arc::new(Self { requests, waiting, next: AtomicU64::new(1), process: Mutex::new(process) })
    }

    /// A new, unique number.
    pub(super) fn id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request without a reply.
    pub(super) fn tell(&self, request: &Value, payload: &[u8]) {
        self.requests.send((request.to_string(), payload.to_vec())).expect("the thread that writes");
    }

    /// Sends a request; `callback` gets the reply, on another thread.
    pub(super) fn tell_and(&self, mut request: Value, callback: impl FnOnce(Value, Vec<u8>) + Send + 'static) {
        let reply = self.id();
        request["reply"] = json!(reply);
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.insert(reply, Box::new(callback));
        }
        self.tell(&request, &[]);
    }

    /// Sends a request and waits for its reply.
    pub(super) fn ask(&self, request: Value) -> Value {
        let (sender, receiver) = channel();
        self.tell_and(request, move |reply, _| {
            let _ = sender.send(reply);
        });
        receiver.recv().expect("Dawn's process lives")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = lock(&self.process).kill();
        let _ = lock(&self.process).wait();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(pipe: &mut impl Write, header: &str, payload: &[u8]) -> std::io::Result<()> {
    let length = |bytes: usize| u32::try_from(bytes).map(u32::to_le_bytes).map_err(std::io::Error::other);
    pipe.write_all(&length(header.len())?)?;
    pipe.write_all(&length(payload.len())?)?;
    pipe.write_all(header.as_bytes())?;
    pipe.write_all(payload)?;
    pipe.flush()
}

fn receive(pipe: &mut impl Read) -> Option<(Value, Vec<u8>)> {
    let mut length = || {
        let mut bytes = [0; 4];
        pipe.read_exact(&mut bytes).ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (mut header, mut payload) = (vec![0; length()?], vec![0; length()?]);
    pipe.read_exact(&mut header).ok()?;
    pipe.read_exact(&mut payload).ok()?;
    Some((serde_json::from_slice(&header).ok()?, payload))
}
