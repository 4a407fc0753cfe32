//! A thread that carries out what it is told, and is waited for when nobody can tell it more.

use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use parking_lot::Mutex;

/// How long it may take to carry out what is left and to close a file. More than a thread waits for
/// other processes; only a disk that no longer answers takes longer.
const END_WITHIN: Duration = Duration::from_secs(20);

/// A thread that takes messages. When this is dropped the thread takes those that are left and ends,
/// and is waited for: what it has opened is closed then.
pub(super) struct Worker<M> {
    name: &'static str,
    /// None while it is dropped.
    messages: Option<Sender<M>>,
    /// Nothing comes; it is closed when the thread has dropped all that it had.
    ended: Mutex<Receiver<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl<M> fmt::Debug for Worker<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<M: Send + 'static> Worker<M> {
    pub(super) fn spawn(
        name: &'static str,
        work: impl FnOnce(Receiver<M>) + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, receiver) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Dropped last, also by a panic.
                let _alive = alive;
                work(receiver);
            })?;
        Ok(Worker {
            name,
            messages: Some(messages),
            ended: Mutex::new(ended),
            thread: Some(thread),
        })
    }

    /// Where the thread has panicked, the message is dropped here, and who waits for its answer hears
    /// of it.
    pub(super) fn tell(&self, message: M) {
        if let Some(messages) = &self.messages {
            drop(messages.send(message));
        }
    }
}

impl<M> Drop for Worker<M> {
    fn drop(&mut self) {
        self.messages = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // An answer may wake somebody who drops the last handle: on this thread, which ends right
        // after that.
        if thread.thread().id() == thread::current().id() {
            return;
        }
        match self.ended.get_mut().recv_timeout(END_WITHIN) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!(thread = self.name, "it does not end; its file stays open");
            }
            // A panic of its was printed.
            Err(RecvTimeoutError::Disconnected) => drop(thread.join()),
            Ok(never) => match never {},
        }
    }
}
