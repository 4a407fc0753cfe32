//! The durable shards behind the collections: opened, taken over, read.

mod contents;
mod failure;
mod folder;
mod meter;
mod patience;
mod places;
mod space;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::StorageError;
use lowwater_shard::collections::CONTROLLER;
use lowwater_shard::consensus::embedded::{EmbeddedConsensus, OpenError};
use lowwater_shard::consensus::postgres::{OpenExistingError, PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::{Parts, Settings, Shards, Updates, Upkeep};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};

use crate::catalog::Relation;
use crate::columns;
use crate::location::{Blobs, Location};
use crate::metrics::Figures;
use crate::minute::Minute;
use crate::past::Update;

pub(crate) use contents::{rows, unread};
use meter::Meter;
pub(crate) use patience::{Patience, patiently};

pub use contents::{Contents, Reading, Window};
pub use failure::{StoreError, StoreOpenError};
pub use places::Places;
pub use space::Space;

/// Where the parts are in a folder that has all.
const PARTS: &str = "parts";

/// How long it may take what works in the background to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const END_LOOK: Duration = Duration::from_millis(5);

/// The durable shards behind the collections.
#[derive(Debug)]
pub struct Store {
    shards: Shards<Minute>,
    /// What all that works in the background has, and nobody else.
    shared: Arc<dyn Consensus>,
    records: Meter,
    /// What the records are in, where that is a file of this machine.
    embedded: Option<EmbeddedConsensus>,
    /// Where everything is, if that is one folder.
    folder: Option<PathBuf>,
    /// What is told of the collections that are in it.
    figures: Figures,
    // The last: what uses it goes before.
    runtime: Runtime,
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

    /// Opens the store at `location` to read it: nothing is made, neither a folder nor tables, and
    /// nothing is looked after but for what is asked for.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open_to_ask(location: &Location) -> Result<Self, StoreOpenError> {
        Self::open_existing(location, by_hand())
    }

    /// Opens the store at `location`, where another controller has made it, to take it over: from
    /// then on it is looked after.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open_to_take_over(location: &Location) -> Result<Self, StoreOpenError> {
        Self::open_existing(location, Settings::default())
    }

    fn open_existing(location: &Location, settings: Settings) -> Result<Self, StoreOpenError> {
        match location {
            Location::Fresh | Location::Memory => Self::in_memory(settings),
            Location::Folder(folder) => Self::in_existing_folder(folder.clone(), settings),
            Location::Postgres { records, blobs } => {
                Self::in_existing_database(records, blobs, settings)
            }
        }
    }

    fn in_memory(settings: Settings) -> Result<Self, StoreOpenError> {
        let records = Arc::new(MemoryConsensus::new());
        Ok(Self::on(runtime()?, records, Parts::memory(), settings))
    }

    fn in_folder(folder: PathBuf, settings: Settings) -> Result<Self, StoreOpenError> {
        let embedded = EmbeddedConsensus::open(&folder);
        let embedded = embedded.map_err(|error| unusable(&folder, error))?;
        let parts = Parts::folder(folder.join(PARTS)).map_err(StoreOpenError::Parts)?;
        Self::beside(folder, embedded, parts, settings)
    }

    fn in_existing_folder(folder: PathBuf, settings: Settings) -> Result<Self, StoreOpenError> {
        let embedded = match EmbeddedConsensus::open_existing(&folder) {
            Err(OpenError::Absent) => return Err(StoreOpenError::Absent(folder)),
            opened => opened.map_err(|error| unusable(&folder, error))?,
        };
        let parts = Parts::existing_folder(folder.join(PARTS)).map_err(StoreOpenError::Parts)?;
        Self::beside(folder, embedded, parts, settings)
    }

    fn beside(
        folder: PathBuf,
        embedded: EmbeddedConsensus,
        parts: Parts,
        settings: Settings,
    ) -> Result<Self, StoreOpenError> {
        let records = Arc::new(embedded.clone());
        Ok(Self {
            embedded: Some(embedded),
            folder: Some(folder),
            ..Self::on(runtime()?, records, parts, settings)
        })
    }

    fn in_database(
        config: &PostgresConfig,
        blobs: &Blobs,
        settings: Settings,
    ) -> Result<Self, StoreOpenError> {
        let runtime = runtime()?;
        // The database is found first, and its tables are made last: whatever is misspelt, nothing is
        // left behind.
        let there = existing(&runtime, config)?;
        let parts = match blobs {
            Blobs::Folder(folder) => Parts::folder(folder),
            Blobs::S3(url) => Parts::at(url),
        };
        let parts = parts.map_err(StoreOpenError::Parts)?;
        let records = match there {
            Some(records) => records,
            None => {
                let opened = patiently(async || {
                    let opened = PostgresConsensus::open(config.clone()).await;
                    opened.map_err(StorageError::from)
                });
                runtime.block_on(opened).map_err(StoreOpenError::Database)?
            }
        };
        Ok(Self::on(runtime, Arc::new(records), parts, settings))
    }

    fn in_existing_database(
        config: &PostgresConfig,
        blobs: &Blobs,
        settings: Settings,
    ) -> Result<Self, StoreOpenError> {
        let runtime = runtime()?;
        let records = existing(&runtime, config)?.ok_or(StoreOpenError::NoTables)?;
        let parts = match blobs {
            Blobs::Folder(folder) => Parts::existing_folder(folder),
            Blobs::S3(url) => Parts::at(url),
        };
        let parts = parts.map_err(StoreOpenError::Parts)?;
        Ok(Self::on(runtime, Arc::new(records), parts, settings))
    }

    fn on(runtime: Runtime, records: Arc<dyn Consensus>, parts: Parts, settings: Settings) -> Self {
        let records = Meter::new(records);
        let shared: Arc<dyn Consensus> = Arc::new(records.clone());
        let store = Arc::clone(&shared);
        Self {
            shards: Shards::new(runtime.handle(), store, parts, settings),
            shared,
            records,
            embedded: None,
            folder: None,
            figures: Figures::default(),
            runtime,
        }
    }

    /// From now on nobody looks after the shards but for what is asked for; waits until what goes
    /// on in the background has ended, leases are given back.
    pub fn end_upkeep(&mut self) {
        let ending: Weak<dyn Consensus> = Arc::downgrade(&self.shared);
        self.shared = Arc::new(self.records.clone());
        let (store, parts) = (Arc::clone(&self.shared), self.shards.parts().clone());
        self.shards = Shards::new(self.runtime.handle(), store, parts, by_hand());
        let ended = async {
            while ending.strong_count() > 0 {
                sleep(END_LOOK).await;
            }
        };
        // What is still at it then does no harm: it may leave something for the next run to sweep.
        drop(
            self.runtime
                .block_on(async { timeout(END_WITHIN, ended).await }),
        );
    }

    /// Where everything is, if that is one folder.
    #[must_use]
    pub fn folder(&self) -> Option<&PathBuf> {
        self.folder.as_ref()
    }

    /// The shards, whatever they are for.
    #[must_use]
    pub fn shards(&self) -> &Shards<Minute> {
        &self.shards
    }

    /// What is told of the collections that are in it.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Where its work is done.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
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

pub(crate) fn decode(
    relation: Relation,
    updates: &Updates<Minute>,
) -> Result<Vec<Update>, StoreError> {
    let rows = columns::decode(relation, updates.rows())?;
    let stamps = updates.times().iter().zip(updates.diffs());
    let updates = rows.into_iter().zip(stamps);
    Ok(updates.map(|(row, (at, diff))| (row, *at, *diff)).collect())
}

fn unusable(folder: &Path, error: OpenError) -> StoreOpenError {
    StoreOpenError::Folder {
        folder: folder.to_owned(),
        error,
    }
}

/// The records in a database, if it has any; one that does not answer is waited for.
fn existing(
    runtime: &Runtime,
    config: &PostgresConfig,
) -> Result<Option<PostgresConsensus>, StoreOpenError> {
    let opened = patiently(
        async || match PostgresConsensus::open_existing(config.clone()).await {
            Ok(records) => Ok(Some(records)),
            Err(OpenExistingError::Absent) => Ok(None),
            Err(OpenExistingError::Trouble(error)) => Err(error.into()),
        },
    );
    runtime.block_on(opened).map_err(StoreOpenError::Database)
}

fn runtime() -> Result<Runtime, StoreOpenError> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(StoreOpenError::Runtime)
}
