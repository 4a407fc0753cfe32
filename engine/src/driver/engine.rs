//! The engine: turned by a thread of its own, or by hand.

mod end;
mod event_loop;
mod inbox;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lowwater_queue::{Directory, Owner, Receiver, Sequence, Sleep, channel};

use crate::client::Client;
use crate::command::StopReason;
use crate::effect::Effect;
use crate::frontier::Time;
use crate::id::{CollectionId, Epoch};
use crate::input::Input;
use crate::link::{Line, Link};
use crate::message::{Answer, Message};
use crate::state::State;
use crate::storage::Storage;

use super::ages::Ages;
use super::bell::{Bell, Doorbell};
use super::board::Board;
use super::config::Config;
use super::journal::Journal;
use super::metrics::Gauges;
use super::replies::Replies;
use super::stats::Stats;
use super::thread::EngineThread;
use super::worker::Worker;

use end::Stopping;

/// The engine, before or while it is turned. All state is in here, and one thread owns it.
///
/// [`spawn`](Engine::spawn) gives it a thread; [`run`](Engine::run) makes it the present thread's
/// job, for an affinity or priority of one's own; [`turn`](Engine::turn) lets an embedder turn it
/// inside a loop of its own. Dropped, it stops: everybody who waits is answered, holds hold nothing
/// any more.
pub struct Engine<I: CollectionId, T: Time> {
    config: Config,
    started: Instant,
    receiver: Receiver<Message<I, T>, Bell>,
    line: Arc<Line<I, T>>,
    state: State<I, T>,
    board: Board<I, T>,
    effects: Vec<Effect<I, T>>,
    replies: Replies<I, T>,
    /// Who is to be told when the turn is over.
    syncs: Vec<Answer<(), StopReason>>,
    journal: Journal<I, T>,
    worker: Worker<T>,
    stats: Stats,
    ages: Ages,
    doorbell: Option<Doorbell>,
    stopping: Option<Stopping>,
    /// There is nothing to turn any more.
    has_stopped: bool,
}

/// What a turn leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// More is queued: turn again soon.
    More,
    /// Nothing to do before the doorbell rings, or this much time is over.
    Idle(Option<Duration>),
    /// The engine has stopped. There is nothing to turn any more.
    Stopped,
}

impl<I: CollectionId, T: Time> Engine<I, T> {
    /// An engine that keeps its shards in `storage`, and its first client. Begins the I/O thread.
    ///
    /// # Errors
    ///
    /// The I/O thread could not be spawned, or [`Config::thread_name`] is none that a thread can
    /// have.
    pub fn new(
        config: Config,
        storage: impl Storage<T>,
    ) -> io::Result<(Engine<I, T>, Client<I, T>)> {
        if config.thread_name.contains('\0') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a thread's name contains NUL",
            ));
        }
        let started = Instant::now();
        let (sender, receiver) = channel(Bell::new(started));
        let line = Arc::new(Line::new(sender, Gauges::new(started)));
        let worker = Worker::spawn(&config.thread_name, Arc::clone(&line), storage)?;
        let owner = Owner::new(Arc::clone(&line));
        let link = Arc::new(Link {
            table: Arc::clone(owner.table()),
            directory: Directory::new(),
            tickets: Sequence::new(),
        });
        line.leads_to(&link);
        let engine = Engine {
            started,
            receiver,
            state: State::new(config.downgrade_interval),
            board: Board::new(owner, Arc::clone(&link)),
            effects: Vec::new(),
            replies: Replies::new(Arc::clone(&line)),
            syncs: Vec::new(),
            line,
            journal: Journal::new(),
            worker,
            stats: Stats::new(),
            ages: Ages::default(),
            doorbell: None,
            stopping: None,
            has_stopped: false,
            config,
        };
        Ok((engine, Client::new(link)))
    }

    /// Gives the engine a thread of its own.
    ///
    /// # Errors
    ///
    /// The thread could not be spawned, or not be made to sleep.
    pub fn spawn(self) -> io::Result<EngineThread> {
        let poll = self.poll()?;
        let builder = thread::Builder::new().name(self.config.thread_name.clone());
        let thread = builder.spawn(move || self.run_with(poll))?;
        Ok(EngineThread::new(thread))
    }

    /// Runs the engine on this thread until it is stopped.
    ///
    /// # Errors
    ///
    /// The thread could not be made to sleep. The outcome of its own says whether the engine
    /// stopped of itself. A panic of the engine, or in what it was given to call, is not passed on:
    /// it reaches callers as [`StopReason::Panicked`], and is logged.
    pub fn run(self) -> io::Result<Result<(), StopReason>> {
        let poll = self.poll()?;
        Ok(self.run_with(poll))
    }

    /// What becomes readable whenever there is something to do, for the [`mio::Poll`] of an
    /// embedder that turns the engine by hand. Registered once, for [`Interest::READABLE`].
    ///
    /// [`Interest::READABLE`]: mio::Interest::READABLE
    ///
    /// # Errors
    ///
    /// There is no pipe to be had.
    ///
    /// # Panics
    ///
    /// If the engine was run before: it sleeps in one place.
    pub fn doorbell(&mut self) -> io::Result<&mut Doorbell> {
        if self.doorbell.is_none() {
            let (sender, receiver) = mio::unix::pipe::new()?;
            self.line.queue.wake().install_pipe(sender);
            self.doorbell = Some(Doorbell::new(receiver));
        }
        Ok(self.doorbell.as_mut().expect("it was just installed"))
    }

    /// One turn: takes what is queued, up to [`Config::turn_inputs_max`], changes the state,
    /// carries out the effects. Never blocks.
    ///
    /// # Panics
    ///
    /// Where the engine has made a mistake; drop it then.
    pub fn turn(&mut self) -> Turned {
        if self.has_stopped {
            return Turned::Stopped;
        }
        let begun = Instant::now();
        if let Some(doorbell) = &mut self.doorbell {
            self.receiver.woke_up();
            doorbell.silence();
        }
        self.look_at_queue(begun);
        let inputs = self.take_inputs();
        let now = begun.duration_since(self.started);
        let due = self.state.next_tick().is_some_and(|tick| tick <= now);
        if inputs > 0 || due {
            self.apply(Input::Tick(now));
            self.settle();
            tracing::trace!(inputs, "turned");
            self.measure(inputs, begun.elapsed());
        }
        if self.line.fenced_by().is_some() {
            self.end();
            return Turned::Stopped;
        }
        if self.is_over(now) {
            self.finish();
            return Turned::Stopped;
        }
        self.turned()
    }

    fn look_at_queue(&mut self, now: Instant) {
        let depth = self.receiver.depth();
        let received = self.receiver.received();
        let age = if depth == 0 {
            Duration::ZERO
        } else {
            let came_after = self.ages.oldest_came_after(received);
            let rung_at = self.line.queue.wake().rung_at();
            // Rung after the last look: the queue was empty until then.
            let came_after = came_after.map_or(rung_at, |came_after| came_after.max(rung_at));
            now.saturating_duration_since(came_after)
        };
        self.ages.mark(received + depth as u64, now);
        self.stats.queue_found(depth, age);
        self.line.gauges.turn_begun(now, age);
    }

    /// Figures of a turn that had something to do.
    fn measure(&mut self, inputs: u64, took: Duration) {
        self.stats.turned(inputs, took);
        self.line.gauges.turned(inputs, took);
    }

    fn apply(&mut self, input: Input<I, T>) {
        self.state.apply(input, &mut self.board, &mut self.effects);
    }

    /// Lets the turn take effect, shows it, and then answers: whoever has an answer sees its
    /// outcome.
    fn settle(&mut self) {
        self.state.settle(&mut self.board, &mut self.effects);
        self.board.end_turn();
        let (collections, waiting) = (self.state.collections(), self.state.waiting());
        let gauges = &self.line.gauges;
        gauges.found(collections, waiting, self.state.downgrades());
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer(ticket, answer) => self.replies.answer(ticket, answer, &self.board),
                Effect::OpenShards(batch, shards) => self.worker.open(batch, shards),
                Effect::LetGo(shards) => self.worker.let_go(shards),
                Effect::DowngradeSinces(wishes) => self.worker.downgrade(wishes),
                Effect::Event(event) => {
                    tracing::warn!(?event, "event");
                    self.line.gauges.noted_event();
                    self.journal.note(event);
                }
                Effect::Fenced(by) => self.fenced(by),
            }
        }
        self.effects = effects;
        self.board.answered();
        for reply in self.syncs.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// Another controller is in charge: takes no more requests, and gives no more holds.
    fn fenced(&mut self, by: Epoch) {
        tracing::error!(%by, "another controller has taken over");
        self.line.stop(StopReason::Fenced { by });
        self.board.close_all();
    }

    fn turned(&mut self) -> Turned {
        let asleep = match &self.doorbell {
            Some(_) => self.receiver.prepare_to_sleep() == Sleep::Sleep,
            None => self.receiver.depth() == 0,
        };
        if !asleep {
            return Turned::More;
        }
        let deadline = self.stopping.as_ref().map(|stopping| stopping.deadline);
        let next = [self.state.next_tick(), deadline]
            .into_iter()
            .flatten()
            .min();
        Turned::Idle(next.map(|next| next.saturating_sub(self.started.elapsed())))
    }
}

impl<I: CollectionId, T: Time> Drop for Engine<I, T> {
    /// Stops, without waiting for storage. What is queued is dropped: its callers hear that the
    /// engine has stopped.
    fn drop(&mut self) {
        let reason = if thread::panicking() {
            StopReason::Panicked
        } else {
            StopReason::Stopped
        };
        self.line.stop(reason);
        // Before callers hear of it: whoever does gets no hold any more.
        self.board.close_all();
    }
}

impl<I: CollectionId, T: Time> fmt::Debug for Engine<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
