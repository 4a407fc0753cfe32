//! Signals that ask the program to stop.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};

use crate::minute::Minute;

/// A signal that asks the program to stop: from a terminal, or from whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGTERM`.
    Terminate,
}

/// The program was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Stopped by {}", .by.name())]
pub struct Asked {
    /// By what.
    pub by: Signal,
}

/// Is told the minute that was reached, again and again, and says whether to go on.
pub type Progress<'a> = dyn FnMut(Minute) -> Result<(), Asked> + 'a;

/// Whether the program was asked to stop. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Signals {
    is_heard: bool,
    /// The number of the first signal; 0 if there was none.
    first: Arc<AtomicU8>,
}

impl Signal {
    const ALL: [Self; 2] = [Self::Interrupt, Self::Terminate];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// What a program ends with that it has stopped, by the custom of shells.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        128 + self.number()
    }

    fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl Signals {
    /// Signals do what they do to any program.
    #[must_use]
    pub fn ignored() -> Self {
        Self {
            is_heard: false,
            first: Arc::default(),
        }
    }

    /// From the time on that somebody [listens](Self::listen), signals ask to stop.
    #[must_use]
    pub fn heard() -> Self {
        Self {
            is_heard: true,
            ..Self::ignored()
        }
    }

    /// Hears signals from now on, if they are to be heard: the first one asks to stop in good order,
    /// the second one ends the program at once.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn listen(&self) -> io::Result<()> {
        if !self.is_heard {
            return Ok(());
        }
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (mut interrupts, mut terminations) = {
            let _inside = runtime.enter();
            let interrupts = signal(SignalKind::interrupt())?;
            (interrupts, signal(SignalKind::terminate())?)
        };
        let first = Arc::clone(&self.first);
        let listen = async move {
            loop {
                let by = select! {
                    _ = interrupts.recv() => Signal::Interrupt,
                    _ = terminations.recv() => Signal::Terminate,
                };
                if first.swap(by.number(), Ordering::Relaxed) != 0 {
                    process::exit(by.exit_code().into());
                }
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || runtime.block_on(listen)).map(drop)
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// When the program was asked to stop.
    pub fn check(&self) -> Result<(), Asked> {
        let first = self.first.load(Ordering::Relaxed);
        let mut all = Signal::ALL.into_iter();
        match all.find(|signal| signal.number() == first) {
            Some(by) => Err(Asked { by }),
            None => Ok(()),
        }
    }
}
