//! The durable shards behind the collections: opened, taken over, read.

mod failure;
mod folder;
mod history;
mod meter;
mod patience;
mod shard;
mod space;
mod writers;

use std::path::PathBuf;
use std::sync::Arc;

use lowwater::{Since, Upper};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, Fence, Fenced, MemoryConsensus};
use lowwater_shard::{Epoch, Incarnation, Parts, ReaderId, ShardStorage, Transactor, Updates};
use tokio::runtime::{Builder, Runtime};

use crate::catalog::Relation;
use crate::columns;
use crate::location::{Blobs, Location};
use crate::minute::Minute;
use crate::past::Update;
use crate::row::Rows;

use meter::Meter;
use patience::patiently;
use shard::{Shards, Snapshot};

pub use failure::{StoreError, StoreOpenError};
pub use space::Space;
pub use writers::Writers;

/// The name of the controller's critical sinces: the same in all its incarnations.
const CONTROLLER: ReaderId = ReaderId::new(u128::from_be_bytes(*b"controller\0\0\0\0\0\0"));

/// How often the store is taken over once more when another controller was faster.
const TAKE_OVER_TRIES: usize = 10;

/// The durable shards behind the collections.
#[derive(Debug)]
pub struct Store {
    shards: Shards,
    records: Meter,
    /// What the records are in, where that is a file of this machine.
    embedded: Option<EmbeddedConsensus>,
    /// Where everything is, if that is one folder.
    folder: Option<PathBuf>,
    // The last: what uses it goes before.
    runtime: Runtime,
}

/// What came of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The rows as of the time that was asked for.
    Rows(Rows),
    /// It lies before since, or is not yet written.
    Refused(Window),
}

/// From when on a collection can be read, and how far it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// From when on it can be read.
    pub since: Since<Minute>,
    /// How far it is written.
    pub upper: Upper<Minute>,
}

impl Store {
    /// Opens the store at `location`, and makes it where there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(location: &Location) -> Result<Self, StoreOpenError> {
        match location {
            Location::Fresh => Self::in_folder(folder::fresh()?),
            Location::Memory => Self::in_memory(),
            Location::Folder(folder) => Self::in_folder(folder.clone()),
            Location::Postgres { records, blobs } => Self::in_database(records, blobs),
        }
    }

    /// Opens the store at `location` to read it: nothing is made, and nothing is looked after.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open_to_ask(location: &Location) -> Result<Self, StoreOpenError> {
        match location {
            Location::Fresh | Location::Memory => Self::in_memory(),
            Location::Folder(folder) if !folder::has_store(folder) => {
                Err(StoreOpenError::Absent(folder.clone()))
            }
            Location::Folder(folder) => Self::in_folder(folder.clone()),
            Location::Postgres { records, blobs } => Self::in_database(records, blobs),
        }
    }

    fn in_memory() -> Result<Self, StoreOpenError> {
        let records = Arc::new(MemoryConsensus::new());
        Ok(Self::on(runtime()?, records, Parts::memory()))
    }

    fn in_folder(folder: PathBuf) -> Result<Self, StoreOpenError> {
        let opened = EmbeddedConsensus::open(&folder);
        let embedded = opened.map_err(|error| StoreOpenError::Folder {
            folder: folder.clone(),
            error,
        })?;
        let parts = Parts::folder(folder.join("parts")).map_err(StoreOpenError::Parts)?;
        let records = Arc::new(embedded.clone());
        Ok(Self {
            embedded: Some(embedded),
            folder: Some(folder),
            ..Self::on(runtime()?, records, parts)
        })
    }

    fn in_database(records: &PostgresConfig, blobs: &Blobs) -> Result<Self, StoreOpenError> {
        let parts = match blobs {
            Blobs::Folder(folder) => Parts::folder(folder),
            Blobs::S3(url) => Parts::at(url),
        };
        let parts = parts.map_err(StoreOpenError::Parts)?;
        let runtime = runtime()?;
        let opened = runtime.block_on(PostgresConsensus::open(PostgresConfig::clone(records)));
        let records = opened.map_err(StoreOpenError::Database)?;
        Ok(Self::on(runtime, Arc::new(records), parts))
    }

    fn on(runtime: Runtime, records: Arc<dyn Consensus>, parts: Parts) -> Self {
        let records = Meter::new(records);
        // Writers of data are no controllers: they have no fence.
        let transactor = Transactor::new(Arc::new(records.clone()), None);
        Self {
            shards: Shards::new(transactor, parts, runtime.handle().clone()),
            records,
            embedded: None,
            folder: None,
            runtime,
        }
    }

    /// Where everything is, if that is one folder.
    #[must_use]
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// Takes the store over from the controller that had it before, if there was one: whatever
    /// that one still writes to its sinces is refused.
    ///
    /// # Errors
    /// When the store does not answer, or others keep being faster.
    pub fn take_over(&self) -> Result<Fence, StoreError> {
        let incarnation = Incarnation::random();
        self.runtime
            .block_on(patiently_over(&self.records, incarnation))
    }

    /// The storage of an engine, as the controller that has [taken the store over](Self::take_over).
    #[must_use]
    pub fn storage(&self, fence: Fence) -> ShardStorage<Minute> {
        let records = Arc::new(self.records.clone());
        ShardStorage::spawn(self.runtime.handle(), records, CONTROLLER, fence)
    }

    /// The rows of `relation` as of a time, or why they cannot be read; waits for nothing to be
    /// written.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else.
    pub fn read(&self, relation: Relation, as_of: Minute) -> Result<Reading, StoreError> {
        let snapshot = patiently(async || self.shards.snapshot(relation, as_of).await);
        match self.runtime.block_on(snapshot)? {
            Snapshot::Found(updates) => {
                let updates = decode(relation, &updates)?.into_iter();
                let mut rows: Rows = updates.map(|(row, _, count)| (row, count)).collect();
                rows.sort_unstable();
                Ok(Reading::Rows(rows))
            }
            Snapshot::Refused(window) => Ok(Reading::Refused(window)),
        }
    }
}

/// An epoch more than the last one, under a name of our own.
async fn patiently_over(store: &Meter, incarnation: Incarnation) -> Result<Fence, StoreError> {
    let mut refused = Fenced { by: None };
    for _ in 0..TAKE_OVER_TRIES {
        let current = patiently(async || Ok(store.fence().await?)).await?;
        let last = current.map_or(0, |fence| fence.epoch.number());
        let fence = Fence {
            epoch: Epoch::new(last + 1),
            incarnation,
        };
        // To ask again with the same fence does no harm.
        match patiently(async || Ok(store.take_over(fence).await?)).await? {
            Ok(()) => return Ok(fence),
            Err(fenced) => refused = fenced,
        }
    }
    Err(StoreError::Fenced(refused))
}

fn decode(relation: Relation, updates: &Updates<Minute>) -> Result<Vec<Update>, StoreError> {
    let rows = columns::decode(relation, updates.rows())?;
    let stamps = updates.times().iter().zip(updates.diffs());
    let updates = rows.into_iter().zip(stamps);
    Ok(updates.map(|(row, (at, diff))| (row, *at, *diff)).collect())
}

fn runtime() -> Result<Runtime, StoreOpenError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(StoreOpenError::Runtime)
}
