//! What wakes the owner thread.

use std::io::{self, Read, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use lowwater_queue::Wake;
use mio::event::Source;
use mio::unix::pipe;
use mio::{Interest, Registry, Token};

/// Rung by whoever puts something into the queue while the owner sleeps.
#[derive(Debug)]
pub(crate) struct Bell {
    /// There is none until the owner sleeps for the first time.
    ring: OnceLock<Ring>,
    started: Instant,
    /// When it was last rung, in nanoseconds since `started`.
    rung_at: AtomicCell<u64>,
}

#[derive(Debug)]
enum Ring {
    /// The engine sleeps in a poll of its own.
    Waker(mio::Waker),
    /// The embedder sleeps in a poll where the other end is registered.
    Pipe(pipe::Sender),
}

impl Bell {
    pub(crate) fn new(started: Instant) -> Self {
        Bell {
            ring: OnceLock::new(),
            started,
            rung_at: AtomicCell::new(0),
        }
    }

    /// Wakes the poll that this waker belongs to.
    pub(crate) fn install_waker(&self, waker: mio::Waker) {
        self.install(Ring::Waker(waker));
    }

    /// Makes the other end of a pipe readable.
    pub(crate) fn install_pipe(&self, sender: pipe::Sender) {
        self.install(Ring::Pipe(sender));
    }

    /// When the owner was last woken: an oldest entry that came into an empty queue is that old.
    pub(crate) fn rung_at(&self) -> Instant {
        self.started + Duration::from_nanos(self.rung_at.load())
    }

    fn install(&self, ring: Ring) {
        assert!(self.ring.set(ring).is_ok(), "an engine sleeps in one place");
    }
}

impl Wake for Bell {
    fn wake(&self) {
        // A clock read beside a syscall, so that no other send needs one.
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.rung_at.store(now);
        match self.ring.get() {
            Some(Ring::Waker(waker)) => {
                if let Err(error) = waker.wake() {
                    tracing::error!(%error, "the owner thread could not be woken");
                }
            }
            // A full pipe is readable already.
            Some(Ring::Pipe(sender)) => {
                let mut sender = sender;
                if let Err(error) = sender.write(&[1])
                    && error.kind() != io::ErrorKind::WouldBlock
                {
                    tracing::error!(%error, "the owner thread could not be woken");
                }
            }
            None => {}
        }
    }
}

/// Readable whenever the engine has something to do: for the [`mio::Poll`] of an embedder that
/// turns the engine by hand.
#[derive(Debug)]
pub struct Doorbell(pipe::Receiver);

impl Doorbell {
    pub(super) fn new(receiver: pipe::Receiver) -> Self {
        Doorbell(receiver)
    }

    /// Takes note that it was rung.
    pub(super) fn silence(&mut self) {
        let mut rings = [0; 64];
        while matches!(self.0.read(&mut rings), Ok(read) if read == rings.len()) {}
    }
}

impl Source for Doorbell {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.0.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.0.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }
}
