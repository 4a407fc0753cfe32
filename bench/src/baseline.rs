//! The same job the usual way, as the yardstick.
//!
//! All collections live in one `Arc<Mutex<BTreeMap>>`. Taking a hold locks it and counts; giving one
//! back, moving and cloning one send a change through an unbounded channel to a background task,
//! which merges what has come in, locks, and applies it. Commands come through a second channel and
//! are answered through a oneshot. Reading locks.
//!
//! It is as good as this design can be made without turning into another one: the background takes
//! up to [`background::HOLD_CHANGES_MAX`] changes under one lock, changes are merged per collection,
//! each collection is visited once per pass, nothing allocates that need not, and there is no
//! logging. Where a bench asks for less work of it (it has no shards, no subscribers, no sealed
//! collections, and totally ordered times only), it is the baseline that gains.

pub mod background;
pub mod collections;
pub mod hold;
pub mod parquet;

use std::sync::{Arc, Mutex, MutexGuard};

use timely::progress::Antichain;
use tokio::sync::{mpsc, oneshot};

use background::{Background, Command};
use collections::{Collections, Description, Frontiers, Policy, Refused};
use hold::{Hold, HoldChange};

/// A handle on the collections, as cheap to clone as two channels and an `Arc`.
#[derive(Clone)]
pub struct Baseline {
    collections: Arc<Mutex<Collections>>,
    hold_changes: mpsc::UnboundedSender<HoldChange>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Baseline {
    /// A baseline without collections, and the background task that serves it.
    pub fn new() -> (Self, Background) {
        let collections = Arc::new(Mutex::new(Collections::default()));
        let (hold_changes, hold_changes_received) = mpsc::unbounded_channel();
        let (commands, commands_received) = mpsc::unbounded_channel();
        let background = Background::new(
            Arc::clone(&collections),
            hold_changes_received,
            commands_received,
        );
        (
            Self {
                collections,
                hold_changes,
                commands,
            },
            background,
        )
    }

    /// Creates a batch of collections, all or nothing, on the calling thread.
    ///
    /// # Errors
    ///
    /// When an id exists already, or a dependency does not, or does not come before its dependent.
    pub fn create(&self, batch: Vec<Description>) -> Result<(), Refused> {
        self.lock().create(batch)
    }

    /// Takes a hold at the implied capability.
    ///
    /// # Errors
    ///
    /// When there is no such collection, or it was dropped.
    pub fn acquire(&self, id: u64) -> Result<Hold, Refused> {
        let since = self.lock().acquire(id)?;
        Ok(Hold::new(id, since, self.hold_changes.clone()))
    }

    /// Takes a hold at a time of choice.
    ///
    /// # Errors
    ///
    /// When there is no such collection, or its since is past `time`.
    pub fn acquire_at(&self, id: u64, time: u64) -> Result<Hold, Refused> {
        let since = self.lock().acquire_at(id, time)?;
        Ok(Hold::new(id, since, self.hold_changes.clone()))
    }

    /// Asks the background for new uppers.
    pub fn report_uppers(&self, uppers: Vec<(u64, u64)>) -> oneshot::Receiver<()> {
        self.ask(|answer| Command::ReportUppers { uppers, answer })
    }

    /// Asks the background for new policies.
    pub fn set_policies(&self, policies: Vec<(u64, Policy)>) -> oneshot::Receiver<()> {
        self.ask(|answer| Command::SetPolicies { policies, answer })
    }

    /// Asks the background to drop collections.
    pub fn drop_collections(&self, ids: Vec<u64>) -> oneshot::Receiver<()> {
        self.ask(|answer| Command::DropCollections { ids, answer })
    }

    /// Asks the background to apply the changes of holds that were sent before.
    pub fn settle(&self) -> oneshot::Receiver<()> {
        self.ask(|answer| Command::Settle { answer })
    }

    /// What everybody may know of a collection.
    pub fn frontiers(&self, id: u64) -> Option<Frontiers> {
        self.lock().frontiers(id)
    }

    /// The since of a collection that is known to exist.
    ///
    /// # Panics
    ///
    /// When there is no such collection.
    pub fn since(&self, id: u64) -> Antichain<u64> {
        self.frontiers(id)
            .expect("the caller knows that the collection exists")
            .since
    }

    /// A command that cannot be sent is dropped with its answer, and the caller sees that.
    fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        drop(self.commands.send(command(answer)));
        answered
    }

    fn lock(&self) -> MutexGuard<'_, Collections> {
        lock(&self.collections)
    }
}

fn lock(collections: &Mutex<Collections>) -> MutexGuard<'_, Collections> {
    collections
        .lock()
        .expect("nobody panics while holding the lock")
}
