//! The task that applies what came through the channels, and ticks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::time;

use super::collections::{Changes, Collections, Policy};
use super::hold::HoldChange;
use super::lock;
use crate::sample::nanosecond_histogram;

/// How many changes of holds are merged and applied under one lock at most, and before the next
/// tick. More would keep the lock for longer; with less the changes would pile up where ticks follow
/// one another.
pub const HOLD_CHANGES_MAX: usize = 4096;

/// What is asked of the background. A dropped `answer` says that it was not done.
pub enum Command {
    /// Move uppers.
    ReportUppers {
        /// Collections and their new uppers.
        uppers: Vec<(u64, u64)>,
        /// Told when it is visible.
        answer: oneshot::Sender<()>,
    },
    /// Change policies.
    SetPolicies {
        /// Collections and their new policies.
        policies: Vec<(u64, Policy)>,
        /// Told when it is visible.
        answer: oneshot::Sender<()>,
    },
    /// Apply the changes of holds that were sent before this.
    Settle {
        /// Told when that is visible.
        answer: oneshot::Sender<()>,
    },
    /// Drop collections.
    DropCollections {
        /// Which.
        ids: Vec<u64>,
        /// Told when it is visible.
        answer: oneshot::Sender<()>,
    },
}

/// The task, before it runs. Whoever turns it by hand does its work on a thread of choice.
pub struct Background {
    collections: Arc<Mutex<Collections>>,
    hold_changes: mpsc::UnboundedReceiver<HoldChange>,
    commands: mpsc::UnboundedReceiver<Command>,
    received: Vec<HoldChange>,
    /// Advances the uppers of so many collections by one, so often, when there is one.
    ticks: Option<Ticks>,
}

struct Ticks {
    every: Duration,
    next: time::Instant,
    uppers: Vec<(u64, u64)>,
    /// How long each tick took, in nanoseconds.
    took: Histogram<u64>,
}

impl Background {
    pub(super) fn new(
        collections: Arc<Mutex<Collections>>,
        hold_changes: mpsc::UnboundedReceiver<HoldChange>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            collections,
            hold_changes,
            commands,
            received: Vec::new(),
            ticks: None,
        }
    }

    /// Runs on a thread of its own until every client and hold is gone.
    pub fn spawn(self) -> Running {
        self.spawn_ticking(None)
    }

    /// Runs on a thread of its own, and advances `uppers` by one at each tick of `every`. A tick
    /// that is missed because the one before it took too long is not made up for.
    ///
    /// # Panics
    ///
    /// When the system has no thread to give.
    pub fn spawn_ticking(mut self, ticking: Option<(Duration, Vec<(u64, u64)>)>) -> Running {
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime without I/O needs nothing of the system");
            runtime.block_on(async {
                self.ticks = ticking.map(|(every, uppers)| {
                    let took = nanosecond_histogram();
                    Ticks {
                        every,
                        next: time::Instant::now() + every,
                        uppers,
                        took,
                    }
                });
                tokio::select! { () = self.run() => {}, _ = stopped => {} }
                self.turn();
                self.ticks
                    .map_or_else(nanosecond_histogram, |ticks| ticks.took)
            })
        };
        let thread = thread::Builder::new()
            .name("baseline".into())
            .spawn(run)
            .expect("the system has a thread to give");
        Running {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Applies everything that has come in so far, on the calling thread.
    pub fn turn(&mut self) {
        // A command sent after a hold change may rest on it, so holds go first.
        self.drain_hold_changes();
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
    }

    async fn run(&mut self) {
        loop {
            // The timers of the runtime are late when there is much to receive, so we look ourselves.
            if let Some(ticks) = &mut self.ticks
                && ticks.next <= time::Instant::now()
            {
                ticks.tick(&self.collections);
            }
            tokio::select! {
                received = self.hold_changes.recv_many(&mut self.received, HOLD_CHANGES_MAX) => {
                    if received == 0 {
                        break;
                    }
                    self.apply_hold_changes();
                }
                Some(command) = self.commands.recv() => self.obey(command),
                () = next_tick(&self.ticks) => {}
            }
        }
    }

    /// Applies what is there, but no more: a busy producer would keep us here for ever.
    fn drain_hold_changes(&mut self) {
        for _ in 0..self.hold_changes.len() {
            let Ok(change) = self.hold_changes.try_recv() else {
                break;
            };
            self.received.push(change);
            if self.received.len() == HOLD_CHANGES_MAX {
                self.apply_hold_changes();
            }
        }
        self.apply_hold_changes();
    }

    fn apply_hold_changes(&mut self) {
        if self.received.is_empty() {
            return;
        }
        let mut changes: Changes = BTreeMap::new();
        for (id, mut change) in self.received.drain(..) {
            change.drain_into(changes.entry(id).or_default());
        }
        changes.retain(|_, change| !change.is_empty());
        lock(&self.collections).apply(changes);
    }

    fn obey(&mut self, command: Command) {
        let answer = match command {
            Command::ReportUppers { uppers, answer } => {
                lock(&self.collections).report_uppers(&uppers);
                answer
            }
            Command::SetPolicies { policies, answer } => {
                lock(&self.collections).set_policies(&policies);
                answer
            }
            Command::DropCollections { ids, answer } => {
                lock(&self.collections).drop_collections(&ids);
                answer
            }
            Command::Settle { answer } => {
                self.drain_hold_changes();
                answer
            }
        };
        // Whoever no longer waits does not mind.
        answer.send(()).ok();
    }
}

impl Ticks {
    fn tick(&mut self, collections: &Mutex<Collections>) {
        for (_, upper) in &mut self.uppers {
            *upper += 1;
        }
        let start = Instant::now();
        lock(collections).report_uppers(&self.uppers);
        self.took
            .saturating_record(start.elapsed().as_nanos() as u64);
        // What was missed is missed.
        self.next = (self.next + self.every).max(time::Instant::now());
    }
}

/// Never, when there are no ticks.
async fn next_tick(ticks: &Option<Ticks>) {
    match ticks {
        Some(ticks) => time::sleep_until(ticks.next).await,
        None => std::future::pending().await,
    }
}

/// A background that runs. Dropping it stops it, after it has applied what was sent before.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Histogram<u64>>>,
}

impl Running {
    /// Stops it, and says how long each of its ticks took, in nanoseconds.
    ///
    /// # Panics
    ///
    /// When the background panicked.
    pub fn stop(mut self) -> Histogram<u64> {
        drop(self.stop.take());
        let thread = self
            .thread
            .take()
            .expect("only `stop` and `drop` take it, and both consume");
        thread.join().expect("the background does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed by the thread itself; a drop must not panic.
            drop(thread.join());
        }
    }
}
