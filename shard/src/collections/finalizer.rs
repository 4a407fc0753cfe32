//! Gives shards up in the background that nobody owns any more.

mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, StorageError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use crate::id::{Epoch, ReaderId};

use queue::Queue;

/// How shards are finalized; may be changed at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finalization {
    /// Whether they are. What is given up in the meantime is kept in mind.
    pub enabled: bool,
    /// How many at a time; at least 1.
    pub shards_at_once: usize,
    /// How long one try may take; the next one goes on where it was.
    pub try_max: Duration,
    /// How long to wait before the second try; twice as long before each next one.
    pub retry_min: Duration,
    /// The longest wait between two tries.
    pub retry_max: Duration,
}

impl Default for Finalization {
    /// Eight at a time, 10 s for a try, between tries 0.1 s and up to 10 s.
    fn default() -> Self {
        Finalization {
            enabled: true,
            shards_at_once: 8,
            try_max: Duration::from_secs(10),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(10),
        }
    }
}

/// Why a shard is not finalized yet.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unfinalized {
    /// Collections own it, whatever a list says. It is not tried again.
    #[error("collections own the shard: {0}")]
    Owned(String),
    /// A collection is just being created on it.
    #[error("a collection is being created on the shard")]
    Creating,
    /// Collections that were dropped are still there, kept by holds or dependents.
    #[error("dropped collections are still held: {0}")]
    Held(HeldBy),
    /// These others keep it readable.
    #[error("others can still read the shard: {0:?}")]
    Readers(Vec<ReaderId>),
    /// It has transactions that are not applied, or is still a table.
    #[error("the shard belongs to a table that was not forgotten")]
    Table,
    /// Another controller is in charge: this one finalizes nothing any more.
    #[error("a controller with epoch {by} is in charge")]
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
    /// The try took too long.
    #[error("the try took too long")]
    TooLong,
    /// Trouble.
    #[error(transparent)]
    Trouble(#[from] StorageError),
}

/// Dropped collections that are still there, and who keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldBy {
    /// The collections, for people.
    pub collections: String,
    /// What depends on them, for people; empty where nothing does, or before it was looked. The owner
    /// of the engine walks all collections for it, so it is looked now and then, and may be a while
    /// old.
    pub dependents: String,
    /// How many holds they have, looked at with the dependents.
    pub holds: u64,
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.collections)?;
        if self.holds > 0 {
            write!(f, ", by {} holds", self.holds)?;
        }
        if !self.dependents.is_empty() {
            write!(f, ", by what depends on them: {}", self.dependents)?;
        }
        Ok(())
    }
}

/// What the finalizer has done, and what it has before it.
#[derive(Clone, Debug, Default)]
pub struct FinalizerStats {
    /// How many shards are to be finalized.
    pub outstanding: usize,
    /// How many shards are given up by transactions that have been prepared, and are not known to
    /// have committed.
    pub pending_commit: usize,
    /// How many tries were begun.
    pub started: u64,
    /// How many shards are tombstones.
    pub succeeded: u64,
    /// How many tries came to nothing.
    pub failed: u64,
    /// Shards that could not be finalized when it was tried last, and why.
    pub blocked: BTreeMap<ShardId, Unfinalized>,
    /// Who has taken over, if anybody has.
    pub fenced_by: Option<Epoch>,
}

/// What becomes of a shard, some time.
pub(super) type Finalizing = Pin<Box<dyn Future<Output = Result<(), Unfinalized>> + Send>>;

/// Finalizes one shard.
pub(super) trait Finalize: Send + Sync + 'static {
    /// Goes on from wherever an earlier try was left. Is there only when the tombstone is durable.
    /// To drop the future does no harm.
    fn finalize(&self, shard: ShardId) -> Finalizing;
}

/// Gives shards up in the background. The task ends when this is dropped.
pub(super) struct Finalizer {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Finalizer {
    pub(super) fn spawn(
        runtime: &Handle,
        finalize: Arc<dyn Finalize>,
        settings: Finalization,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(settings)),
            changed: Notify::new(),
        });
        let work = Work {
            shared: Arc::clone(&shared),
            finalize,
            tries: JoinSet::new(),
            running: BTreeMap::new(),
        };
        let task = runtime.spawn(work.run()).abort_handle();
        Finalizer { shared, task }
    }

    pub(super) fn set(&self, settings: Finalization) {
        self.shared.queue.lock().set(settings);
        self.shared.changed.notify_one();
    }

    /// Begins to finalize these, unless that has been done.
    pub(super) fn give_up(&self, shards: impl IntoIterator<Item = ShardId>) {
        self.shared.queue.lock().add(shards, Instant::now());
        self.shared.changed.notify_one();
    }

    /// These are needed after all. What has been begun cannot be undone: but none of them was, if
    /// somebody owned it.
    pub(super) fn keep(&self, shards: impl IntoIterator<Item = ShardId>) {
        self.shared.queue.lock().remove(shards);
    }

    /// The shards that are tombstones, and that metadata may still list.
    pub(super) fn finalized(&self) -> BTreeSet<ShardId> {
        self.shared.queue.lock().finalized.clone()
    }

    /// Committed metadata do not list these any more: they need not be handed back again.
    pub(super) fn forget(&self, shards: &BTreeSet<ShardId>) {
        let mut queue = self.shared.queue.lock();
        queue.finalized.retain(|shard| !shards.contains(shard));
    }

    /// Begins nothing any more, and gives up what is under way.
    pub(super) fn stop(&self) {
        self.task.abort();
    }

    pub(super) fn stats(&self) -> FinalizerStats {
        self.shared.queue.lock().stats()
    }
}

impl Drop for Finalizer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Finalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finalizer").finish_non_exhaustive()
    }
}

struct Work {
    shared: Arc<Shared>,
    finalize: Arc<dyn Finalize>,
    tries: JoinSet<Result<(), Unfinalized>>,
    running: BTreeMap<Id, ShardId>,
}

impl Work {
    async fn run(mut self) {
        loop {
            let (due, next) = self.shared.queue.lock().take_due(Instant::now());
            due.into_iter()
                .for_each(|(shard, max)| self.try_one(shard, max));
            let next_at = next.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                Some(over) = self.tries.join_next_with_id() => self.over(over),
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep_until(next_at), if next.is_some() => {}
            }
        }
    }

    fn try_one(&mut self, shard: ShardId, max: Duration) {
        let trying = self.finalize.finalize(shard);
        let trying = tokio::time::timeout(max, trying);
        let trying = async move { trying.await.unwrap_or(Err(Unfinalized::TooLong)) };
        let id = self.tries.spawn(trying).id();
        self.running.insert(id, shard);
    }

    fn over(&mut self, over: Result<(Id, Result<(), Unfinalized>), tokio::task::JoinError>) {
        let (id, outcome) = match over {
            Ok(over) => over,
            Err(error) => {
                let trouble =
                    StorageError::new(lowwater::StorageErrorKind::Retry, error.to_string());
                (error.id(), Err(trouble.into()))
            }
        };
        if let Some(shard) = self.running.remove(&id) {
            if let Err(reason) = &outcome {
                tracing::debug!(%shard, %reason, "a shard was not finalized");
            }
            let mut queue = self.shared.queue.lock();
            queue.over(shard, outcome, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
