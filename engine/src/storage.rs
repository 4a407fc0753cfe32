//! What the engine wants from durable storage: one trait, carried out off the owner thread.

mod memory;

use std::fmt;
use std::sync::Arc;

use crate::frontier::{Since, Upper};
use crate::id::{Epoch, Key, ShardId};

pub use memory::MemoryStorage;

/// Durable shards behind the engine.
///
/// The engine calls it on a thread of its own, the I/O thread, one request after the other. A
/// request is answered through itself, at once or later, from any thread, in any order; one that is
/// dropped unanswered counts as failed and is asked again, so nothing waits for ever.
pub trait Storage<T>: Send + 'static {
    /// Opens shards, for as many as possible at once: registers this controller's critical handle
    /// where it is absent, and finds out where the shards are. From then on it reports their uppers
    /// through [`StorageReports`], those that advance later too.
    ///
    /// A shard may be open already, for another collection that has it too.
    fn open(&mut self, request: OpenShards<T>);

    /// Makes sinces durable, in one write for all of them where the backend can.
    ///
    /// A shard's since never goes back: a request that is behind or incomparable with it leaves it
    /// where it is, and is answered with where that is.
    fn downgrade(&mut self, request: DowngradeSinces<T>);

    /// These were opened for collections that were then refused, and no collection has them: what
    /// keeps them readable for this engine may go. Opened again, they are asked for anew.
    fn let_go(&mut self, shards: Vec<ShardId>) {
        drop(shards);
    }
}

/// Where a shard was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedShard<T> {
    /// The since that this controller's own critical handle holds; empty for a tombstone.
    pub since: Since<T>,
    /// How far the shard is written.
    pub upper: Upper<T>,
}

/// A wish to make a since durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinceWish<T> {
    /// The incarnation of the collection that wishes.
    pub key: Key,
    /// Its shard.
    pub shard: ShardId,
    /// What is to become durable.
    pub since: Since<T>,
}

/// Trouble with storage.
#[derive(Clone, Debug)]
pub struct StorageError {
    kind: StorageErrorKind,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

/// What to do about trouble with storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// It may pass: ask again later.
    Retry,
    /// The storage has to be opened anew before it can answer.
    Reopen,
    /// It will not get better by itself.
    GiveUp,
    /// Another controller is in charge of the storage: stop. An engine that hears of it does.
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
}

impl StorageError {
    /// Trouble whose remedy is `kind`.
    pub fn new(
        kind: StorageErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        StorageError {
            kind,
            source: Arc::from(source.into()),
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// Who is in charge of the storage, if it is another controller.
    pub(crate) fn fenced_by(&self) -> Option<Epoch> {
        match self.kind {
            StorageErrorKind::Fenced { by } => Some(by),
            StorageErrorKind::Retry | StorageErrorKind::Reopen | StorageErrorKind::GiveUp => None,
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            StorageErrorKind::Retry => f.write_str("storage failed for now")?,
            StorageErrorKind::Reopen => f.write_str("storage must be opened anew")?,
            StorageErrorKind::GiveUp => f.write_str("storage failed for good")?,
            StorageErrorKind::Fenced { by } => write!(f, "epoch {by} is in charge of storage")?,
        }
        write!(f, ": {}", self.source)
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// What opening one shard came to.
pub type OpenOutcome<T> = (ShardId, Result<OpenedShard<T>, StorageError>);

/// What one wish came to: the durable since that its shard has now.
pub type DowngradeOutcome<T> = (SinceWish<T>, Result<Since<T>, StorageError>);

/// What storage has to say to the engine.
#[derive(Debug)]
pub enum StorageReport<T> {
    /// The shards of a batch were opened, or not.
    Opened {
        /// The batch that the engine asked to open.
        batch: u64,
        /// One for each shard.
        outcomes: Vec<OpenOutcome<T>>,
    },
    /// Wishes were made durable, or not.
    Downgraded(Vec<DowngradeOutcome<T>>),
    /// Shards were written by somebody.
    UppersAdvanced(Vec<(ShardId, Upper<T>)>),
    /// Another controller is in charge of the storage, of this epoch.
    Fenced(Epoch),
    /// Leases have lapsed by which this engine kept shards readable, and from when on these can be
    /// read now. What is held before that is held no more.
    Lapsed(Vec<(ShardId, Since<T>)>),
}

/// Where storage reports to. Reports for an engine that has stopped go nowhere.
#[derive(Clone)]
pub struct StorageReports<T>(Arc<dyn Fn(StorageReport<T>) + Send + Sync>);

impl<T> StorageReports<T> {
    /// Reports go to `receive`, which must not block.
    pub fn new(receive: impl Fn(StorageReport<T>) + Send + Sync + 'static) -> Self {
        StorageReports(Arc::new(receive))
    }

    /// Says how far shards are written; those of nobody are ignored.
    pub fn uppers_advanced(&self, uppers: Vec<(ShardId, Upper<T>)>) {
        if !uppers.is_empty() {
            (self.0)(StorageReport::UppersAdvanced(uppers));
        }
    }

    /// Says that leases have lapsed by which shards were kept readable, and from when on these can be
    /// read now: for storage that holds by leases. Holds before that are
    /// [revoked](crate::HoldLost::Revoked). Empty: nothing can be read, the shard is a tombstone.
    pub fn lapsed(&self, sinces: Vec<(ShardId, Since<T>)>) {
        if !sinces.is_empty() {
            (self.0)(StorageReport::Lapsed(sinces));
        }
    }

    /// Says that another controller is in charge: for storage that hears of it without having been
    /// asked for anything. The engine stops.
    pub fn fenced(&self, by: Epoch) {
        (self.0)(StorageReport::Fenced(by));
    }
}

impl<T> fmt::Debug for StorageReports<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageReports(..)")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request was dropped without an answer")]
struct Unanswered;

fn unanswered() -> StorageError {
    StorageError::new(StorageErrorKind::Retry, Unanswered)
}

/// A request to open shards.
#[must_use = "a request that is dropped counts as failed"]
#[derive(Debug)]
pub struct OpenShards<T> {
    batch: u64,
    shards: Vec<ShardId>,
    reports: StorageReports<T>,
}

impl<T> OpenShards<T> {
    /// A request of the batch numbered `batch`, answered to `reports`.
    pub fn new(batch: u64, shards: Vec<ShardId>, reports: StorageReports<T>) -> Self {
        OpenShards {
            batch,
            shards,
            reports,
        }
    }

    /// Which shards.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }

    /// Where later advances of these shards' uppers are reported.
    pub fn reports(&self) -> &StorageReports<T> {
        &self.reports
    }

    /// Answers, with one outcome for each shard.
    pub fn answer(mut self, outcomes: Vec<OpenOutcome<T>>) {
        self.shards.clear();
        (self.reports.0)(StorageReport::Opened {
            batch: self.batch,
            outcomes,
        });
    }
}

impl<T> Drop for OpenShards<T> {
    fn drop(&mut self) {
        if !self.shards.is_empty() {
            let shards = std::mem::take(&mut self.shards);
            let outcomes = shards
                .into_iter()
                .map(|shard| (shard, Err(unanswered())))
                .collect();
            (self.reports.0)(StorageReport::Opened {
                batch: self.batch,
                outcomes,
            });
        }
    }
}

/// A request to make sinces durable.
#[must_use = "a request that is dropped counts as failed"]
#[derive(Debug)]
pub struct DowngradeSinces<T> {
    wishes: Vec<SinceWish<T>>,
    reports: StorageReports<T>,
}

impl<T> DowngradeSinces<T> {
    /// A request for `wishes`, answered to `reports`.
    pub fn new(wishes: Vec<SinceWish<T>>, reports: StorageReports<T>) -> Self {
        DowngradeSinces { wishes, reports }
    }

    /// What is to become durable; no shard occurs twice.
    pub fn wishes(&self) -> &[SinceWish<T>] {
        &self.wishes
    }

    /// Answers each wish with what `outcome` says of it: the durable since that its shard has now.
    pub fn answer(
        mut self,
        mut outcome: impl FnMut(&SinceWish<T>) -> Result<Since<T>, StorageError>,
    ) {
        // Taken only when all is said: should `outcome` panic, the wishes count as failed.
        let said: Vec<_> = self.wishes.iter().map(&mut outcome).collect();
        let wishes = std::mem::take(&mut self.wishes);
        (self.reports.0)(StorageReport::Downgraded(
            wishes.into_iter().zip(said).collect(),
        ));
    }
}

impl<T> Drop for DowngradeSinces<T> {
    fn drop(&mut self) {
        if !self.wishes.is_empty() {
            let wishes = std::mem::take(&mut self.wishes);
            let outcomes = wishes
                .into_iter()
                .map(|wish| (wish, Err(unanswered())))
                .collect();
            (self.reports.0)(StorageReport::Downgraded(outcomes));
        }
    }
}
