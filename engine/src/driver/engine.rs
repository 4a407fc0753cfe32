//! The engine: the owner thread's loop, by itself or by hand.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use lowwater_queue::{Directory, Owner, Receiver, Sequence, Sleep, channel};
use mio::{Events, Poll, Token, Waker};

use crate::client::Client;
use crate::command::StopReason;
use crate::effect::Effect;
use crate::frontier::Time;
use crate::hold::Token as HoldToken;
use crate::id::CollectionId;
use crate::input::{HoldChange, Input};
use crate::link::{Line, Link};
use crate::message::{Answer, Message};
use crate::state::State;
use crate::storage::Storage;

use super::ages::Ages;
use super::bell::{Bell, Doorbell};
use super::board::Board;
use super::journal::Journal;
use super::replies::Replies;
use super::stats::Stats;
use super::worker::Worker;

/// What may be chosen about an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many entries of the queue a turn takes at most. What is left is taken in the next one,
    /// and effects are seen in between. At least 1.
    pub turn_inputs_max: usize,
    /// How long the owner thread looks for something to do before it sleeps. 0 spares the CPU;
    /// some tens of microseconds spare the wake-up where commands follow each other.
    pub spin: Duration,
    /// The least time between two writes of a shard's since. What is wished in between is kept, and
    /// the last of it written when the time is over. The empty since is never delayed.
    pub downgrade_interval: Duration,
    /// How long [`Client::stop`](crate::Client::stop) waits for storage to make durable what is
    /// left.
    pub stop_within: Duration,
    /// What the owner thread is called; the I/O thread is called so with `-io` behind it.
    pub thread_name: String,
}

impl Default for Config {
    /// 4,096 inputs a turn, no spinning, 1 s between writes of a shard, 5 s to stop.
    fn default() -> Self {
        Config {
            turn_inputs_max: 4_096,
            spin: Duration::ZERO,
            downgrade_interval: Duration::from_secs(1),
            stop_within: Duration::from_secs(5),
            thread_name: String::from("lowwater"),
        }
    }
}

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
    journal: Journal<I, T>,
    worker: Worker<T>,
    stats: Stats,
    ages: Ages,
    doorbell: Option<Doorbell>,
    stopping: Option<Stopping>,
}

/// Somebody wants the engine to stop.
struct Stopping {
    deadline: Duration,
    replies: Vec<Answer<(), StopReason>>,
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
        let line = Arc::new(Line {
            queue: sender,
            stopped: OnceLock::new(),
        });
        let worker = Worker::spawn(&config.thread_name, Arc::clone(&line), storage)?;
        let owner = Owner::new(Arc::clone(&line));
        let link = Arc::new(Link {
            table: Arc::clone(owner.table()),
            directory: Directory::new(),
            tickets: Sequence::new(),
        });
        let engine = Engine {
            started,
            receiver,
            state: State::new(config.downgrade_interval),
            board: Board::new(owner, Arc::clone(&link)),
            effects: Vec::new(),
            replies: Replies::new(Arc::clone(&line)),
            line,
            journal: Journal::new(),
            worker,
            stats: Stats::new(),
            ages: Ages::default(),
            doorbell: None,
            stopping: None,
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
        Ok(EngineThread { thread })
    }

    /// Runs the engine on this thread until it is stopped.
    ///
    /// # Errors
    ///
    /// The thread could not be made to sleep. A panic of the engine, or in what it was given to
    /// call, is not passed on: it reaches callers as [`StopReason::Panicked`], and is logged.
    pub fn run(self) -> io::Result<Result<(), StopReason>> {
        let poll = self.poll()?;
        Ok(self.run_with(poll))
    }

    fn poll(&self) -> io::Result<Poll> {
        let poll = Poll::new()?;
        self.line
            .queue
            .wake()
            .install_waker(Waker::new(poll.registry(), Token(0))?);
        Ok(poll)
    }

    fn run_with(mut self, mut poll: Poll) -> Result<(), StopReason> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.turn_until_stopped(&mut poll)));
        if outcome.is_err() {
            tracing::error!("the owner thread has panicked");
            let _ = self.line.stopped.set(StopReason::Panicked);
        }
        // Dropped here, panicked or not: callers are answered, words closed.
        outcome.map_err(|_| StopReason::Panicked)
    }

    fn turn_until_stopped(&mut self, poll: &mut Poll) {
        let mut events = Events::with_capacity(4);
        loop {
            match self.turn() {
                Turned::More => {}
                Turned::Stopped => return,
                Turned::Idle(next) => self.sleep(poll, &mut events, next),
            }
        }
    }

    /// Sleeps until something is queued or `next` is over.
    fn sleep(&mut self, poll: &mut Poll, events: &mut Events, next: Option<Duration>) {
        if self.spin() {
            return;
        }
        if self.receiver.prepare_to_sleep() == Sleep::Sleep {
            if let Err(error) = poll.poll(events, next)
                && error.kind() != io::ErrorKind::Interrupted
            {
                panic!("the owner thread cannot sleep: {error}");
            }
            self.receiver.woke_up();
        }
    }

    /// Looks for something to do, for as long as is allowed. Says whether there is.
    fn spin(&self) -> bool {
        if self.config.spin.is_zero() {
            return false;
        }
        let until = Instant::now() + self.config.spin;
        loop {
            // Looking at the clock takes as long as a few looks at the queue.
            for _ in 0..32 {
                if self.receiver.depth() > 0 {
                    return true;
                }
                std::hint::spin_loop();
            }
            if Instant::now() >= until {
                return false;
            }
        }
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
            self.stats.turned(inputs, begun.elapsed());
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
    }

    fn take_inputs(&mut self) -> u64 {
        let before = self.receiver.received();
        for _ in 0..self.config.turn_inputs_max.max(1) {
            let Some(message) = self.receiver.pop() else {
                break;
            };
            self.receive(message);
        }
        self.receiver.received() - before
    }

    fn receive(&mut self, message: Message<I, T>) {
        match message {
            Message::Command {
                ticket,
                command,
                reply,
            } => {
                self.replies.expect(ticket, reply);
                self.apply(Input::Command { ticket, command });
            }
            Message::Cancelled(ticket) => {
                self.replies.cancel(ticket);
                self.journal.cancel(ticket);
                self.apply(Input::Cancelled(ticket));
            }
            Message::Moved { key, from, to } => {
                // Counted first: only then do the tokens let go, of what they held until now.
                self.apply(Input::Held(HoldChange {
                    key,
                    acquired: Some(to),
                    released: None,
                }));
                from.into_iter().for_each(|token| self.let_go(token));
            }
            Message::Cloned { key, since } => {
                self.apply(Input::Held(HoldChange {
                    key,
                    acquired: Some(since),
                    released: None,
                }));
            }
            Message::Released { key, since } => {
                self.apply(Input::Held(HoldChange {
                    key,
                    acquired: None,
                    released: Some(since),
                }));
            }
            Message::Freed(freed) => {
                let cell = self.board.reclaim(freed);
                self.apply(Input::CellFreed(cell));
            }
            Message::Storage(report) => self.apply(Input::Storage(report)),
            Message::Stats(reply) => {
                let (collections, waiting) = (self.state.collections(), self.state.waiting());
                let _ = reply.send(Ok(Stats {
                    collections,
                    waiting,
                    ..self.stats.clone()
                }));
            }
            Message::Event {
                ticket,
                from,
                reply,
            } => self.journal.ask(ticket, from, reply),
            Message::Stop(reply) => self.stop(reply),
        }
    }

    /// A token of a hold that has moved.
    fn let_go(&mut self, token: HoldToken<I, T>) {
        match token {
            // Its word or its cell counts one less; if it was the last, we send ourselves a message.
            HoldToken::Pinned(pin) => drop(pin),
            HoldToken::Counted(mut counted) => {
                counted.settled = true;
                let released = Some(counted.since.clone());
                self.apply(Input::Held(HoldChange {
                    key: counted.key,
                    acquired: None,
                    released,
                }));
            }
        }
    }

    fn apply(&mut self, input: Input<I, T>) {
        self.state.apply(input, &mut self.board, &mut self.effects);
    }

    /// Lets the turn take effect, shows it, and then answers: whoever has an answer sees its
    /// outcome.
    fn settle(&mut self) {
        self.state.settle(&mut self.board, &mut self.effects);
        self.board.end_turn();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer(ticket, answer) => self.replies.answer(ticket, answer, &self.board),
                Effect::OpenShards(batch, shards) => self.worker.open(batch, shards),
                Effect::DowngradeSinces(wishes) => self.worker.downgrade(wishes),
                Effect::Event(event) => {
                    tracing::warn!(?event, "event");
                    self.journal.note(event);
                }
            }
        }
        self.effects = effects;
        self.board.answered();
    }

    fn stop(&mut self, reply: Answer<(), StopReason>) {
        match &mut self.stopping {
            Some(stopping) => stopping.replies.push(reply),
            None => {
                tracing::debug!("stopping");
                // From now on clients send nothing more; what they have sent is still obeyed.
                let _ = self.line.stopped.set(StopReason::Stopped);
                let deadline = self.started.elapsed() + self.config.stop_within;
                self.stopping = Some(Stopping {
                    deadline,
                    replies: vec![reply],
                });
                self.apply(Input::Flush);
            }
        }
    }

    fn is_over(&self, now: Duration) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            now >= stopping.deadline || (self.receiver.depth() == 0 && self.state.is_durable())
        })
    }

    /// The end: nothing is accepted any more, and what was is obeyed.
    fn finish(&mut self) {
        self.receiver.close();
        while let Some(message) = self.receiver.pop() {
            self.receive(message);
        }
        self.settle();
        for reply in self
            .stopping
            .take()
            .into_iter()
            .flat_map(|stopping| stopping.replies)
        {
            let _ = reply.send(Ok(()));
        }
        self.stopping = Some(Stopping {
            deadline: Duration::ZERO,
            replies: Vec::new(),
        });
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
        let _ = self.line.stopped.set(reason);
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

/// The thread of an engine that was spawned.
#[derive(Debug)]
pub struct EngineThread {
    thread: thread::JoinHandle<Result<(), StopReason>>,
}

impl EngineThread {
    /// Waits until the engine has stopped.
    ///
    /// # Errors
    ///
    /// It has panicked.
    pub fn join(self) -> Result<(), StopReason> {
        self.thread.join().unwrap_or(Err(StopReason::Panicked))
    }

    /// The owner thread, for its id.
    pub fn thread(&self) -> &thread::Thread {
        self.thread.thread()
    }
}
