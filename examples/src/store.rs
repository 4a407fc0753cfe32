//! The durable shards behind the collections: opened, taken over, read.

mod failure;
mod folder;
mod history;
mod meter;
mod patience;
mod space;
mod writers;

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::{Since, StorageError, StorageErrorKind, Upper};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, Fence, Fenced, MemoryConsensus};
use lowwater_shard::{
    Epoch, Incarnation, Parts, ReaderId, Settings, ShardStorage, Shards, SnapshotError, Updates,
    Upkeep,
};
use timely::progress::Antichain;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::catalog::Relation;
use crate::columns;
use crate::location::{Blobs, Location};
use crate::minute::Minute;
use crate::past::Update;
use crate::row::Rows;

use meter::Meter;
use patience::patiently;

pub use failure::{StoreError, StoreOpenError};
pub use space::Space;
pub use writers::Writers;

/// The name of the controller's critical sinces: the same in all its incarnations.
const CONTROLLER: ReaderId = ReaderId::new(u128::from_be_bytes(*b"controller\0\0\0\0\0\0"));

/// How often the store is taken over once more when another controller was faster.
const TAKE_OVER_TRIES: usize = 10;

/// How long it may take what works in the background to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const END_LOOK: Duration = Duration::from_millis(5);

/// The durable shards behind the collections.
#[derive(Debug)]
pub struct Store {
    shards: Shards<Minute>,
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
        let settings = Settings::default();
        match location {
            Location::Fresh => Self::in_folder(folder::fresh()?, settings),
            Location::Memory => Self::in_memory(settings),
            Location::Folder(folder) => Self::in_folder(folder.clone(), settings),
            Location::Postgres { records, blobs } => Self::in_database(records, blobs, settings),
        }
    }

    /// Opens the store at `location` to read it: nothing is made, and nothing is looked after.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open_to_ask(location: &Location) -> Result<Self, StoreOpenError> {
        let settings = by_hand();
        match location {
            Location::Fresh | Location::Memory => Self::in_memory(settings),
            Location::Folder(folder) if !folder::has_store(folder) => {
                Err(StoreOpenError::Absent(folder.clone()))
            }
            Location::Folder(folder) => Self::in_folder(folder.clone(), settings),
            Location::Postgres { records, blobs } => Self::in_database(records, blobs, settings),
        }
    }

    fn in_memory(settings: Settings) -> Result<Self, StoreOpenError> {
        let records = Arc::new(MemoryConsensus::new());
        Ok(Self::on(runtime()?, records, Parts::memory(), settings))
    }

    fn in_folder(folder: PathBuf, settings: Settings) -> Result<Self, StoreOpenError> {
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
            ..Self::on(runtime()?, records, parts, settings)
        })
    }

    fn in_database(
        records: &PostgresConfig,
        blobs: &Blobs,
        settings: Settings,
    ) -> Result<Self, StoreOpenError> {
        let parts = match blobs {
            Blobs::Folder(folder) => Parts::folder(folder),
            Blobs::S3(url) => Parts::at(url),
        };
        let parts = parts.map_err(StoreOpenError::Parts)?;
        let runtime = runtime()?;
        let opened = runtime.block_on(PostgresConsensus::open(PostgresConfig::clone(records)));
        let records = opened.map_err(StoreOpenError::Database)?;
        Ok(Self::on(runtime, Arc::new(records), parts, settings))
    }

    fn on(runtime: Runtime, records: Arc<dyn Consensus>, parts: Parts, settings: Settings) -> Self {
        let records = Meter::new(records);
        let store = Arc::new(records.clone());
        Self {
            shards: Shards::new(runtime.handle(), store, parts, settings),
            records,
            embedded: None,
            folder: None,
            runtime,
        }
    }

    /// From now on nobody looks after the shards but for what is asked for; waits until what goes
    /// on in the background has ended.
    fn end_upkeep(&mut self) {
        let ending: Weak<dyn Consensus> = Arc::downgrade(self.shards.store());
        let (runtime, store) = (self.runtime.handle(), Arc::new(self.records.clone()));
        let parts = self.shards.parts().clone();
        self.shards = Shards::new(runtime, store, parts, by_hand());
        let ended = async {
            while ending.strong_count() > 0 {
                sleep(END_LOOK).await;
            }
        };
        // What is still at it then does no harm: it may leave something for the next run to sweep.
        drop(runtime.block_on(async { timeout(END_WITHIN, ended).await }));
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
        self.shards.storage(CONTROLLER, fence)
    }

    /// The rows of `relation` as of a time, or why they cannot be read; waits for nothing to be
    /// written.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else.
    pub fn read(&self, relation: Relation, as_of: Minute) -> Result<Reading, StoreError> {
        let as_of = Antichain::from_elem(as_of);
        let read = async || match self.shards.try_snapshot(relation.shard(), &as_of).await {
            Ok(updates) => Ok(Ok(updates)),
            Err(
                SnapshotError::TooEarly { since, upper } | SnapshotError::NotYet { since, upper },
            ) => Ok(Err(Window { since, upper })),
            Err(error) => Err(unread(error)),
        };
        match self.runtime.block_on(patiently(read))? {
            Ok(updates) => {
                let updates = decode(relation, &updates)?.into_iter();
                let mut rows: Rows = updates.map(|(row, _, count)| (row, count)).collect();
                rows.sort_unstable();
                Ok(Reading::Rows(rows))
            }
            Err(window) => Ok(Reading::Refused(window)),
        }
    }
}

/// Nothing is done but what is asked for, and what nobody refers to is swept at once.
fn by_hand() -> Settings {
    Settings {
        upkeep: Upkeep::ByHand,
        part_grace: Duration::ZERO,
        ..Settings::default()
    }
}

/// Why something was not read that is there, or should be.
fn unread(error: SnapshotError<Minute>) -> StorageError {
    match error {
        SnapshotError::Storage(error) => error,
        SnapshotError::EmptyFrontier
        | SnapshotError::TooEarly { .. }
        | SnapshotError::NotYet { .. } => StorageError::new(StorageErrorKind::GiveUp, error),
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
