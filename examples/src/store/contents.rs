//! What a store has of the collections.

use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use lowwater_shard::tables::{Access, ReadRefusal, Tables, TablesError};
use lowwater_shard::{Inspection, SnapshotError, Updates};
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::minute::Minute;
use crate::row::Rows;

use super::patience::patiently;
use super::{CONTROLLER, Places, Store, StoreError, decode};

/// What a store has of the collections, in the shards that they were given.
///
/// They are read without an engine, and nothing is written for it.
#[derive(Debug)]
pub struct Contents<'a> {
    store: &'a Store,
    places: &'a Places,
    tables: Tables<Minute>,
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
    /// What the store has in these places.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else in it.
    pub fn contents<'a>(&'a self, places: &'a Places) -> Result<Contents<'a>, StoreError> {
        let opened = patiently(async || {
            let (runtime, records) = (self.runtime.handle(), Arc::clone(self.shards.store()));
            let (parts, txns) = (self.shards.parts().clone(), places.txns());
            let opened = Tables::open(runtime, records, parts, txns, Access::ReadOnly).await;
            opened.map_err(trouble)
        });
        Ok(Contents {
            store: self,
            places,
            tables: self.runtime.block_on(opened)?,
        })
    }

    /// From when on controllers keep `relation` readable, whoever else still reads it.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn kept_from(
        &self,
        relation: Relation,
        places: &Places,
    ) -> Result<Since<Minute>, StoreError> {
        let mut inspected = self.inspect(places.shard(relation))?;
        let kept = inspected.critical.remove(&CONTROLLER);
        Ok(kept.map_or(inspected.since, |critical| critical.since))
    }

    fn inspect(&self, shard: ShardId) -> Result<Inspection<Minute>, StoreError> {
        let inspected = patiently(async || self.shards.inspect(shard).await);
        Ok(self.runtime.block_on(inspected)?)
    }
}

impl Contents<'_> {
    /// The rows of `relation` as of a time, or why they cannot be read; waits for nothing to be
    /// written.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else.
    pub fn read(&self, relation: Relation, as_of: Minute) -> Result<Reading, StoreError> {
        let read = patiently(async || match relation.is_table() {
            true => self.read_table(relation, as_of).await,
            false => self.read_shard(relation, as_of).await,
        });
        Ok(match self.store.runtime.block_on(read)? {
            Ok(updates) => Reading::Rows(rows(relation, &updates)?),
            Err(window) => Reading::Refused(window),
        })
    }

    async fn read_shard(&self, relation: Relation, as_of: Minute) -> Read {
        let (shard, as_of) = (self.places.shard(relation), Antichain::from_elem(as_of));
        match self.store.shards.try_snapshot(shard, &as_of).await {
            Ok(updates) => Ok(Ok(updates)),
            Err(
                SnapshotError::TooEarly { since, upper } | SnapshotError::NotYet { since, upper },
            ) => Ok(Err(Window { since, upper })),
            Err(error) => Err(unread(error)),
        }
    }

    async fn read_table(&self, relation: Relation, as_of: Minute) -> Read {
        let shard = self.places.shard(relation);
        let upper = self.tables.fetch_upper().await?;
        if !upper.is_complete_at(&as_of) {
            let since = self.store.shards.inspect(shard).await?.since;
            return Ok(Err(Window { since, upper }));
        }
        match self.tables.snapshot(shard, &as_of).await {
            Ok(updates) => Ok(Ok(updates)),
            Err(TablesError::Refused(ReadRefusal::TooEarly { since, .. })) => {
                Ok(Err(Window { since, upper }))
            }
            Err(TablesError::Storage(error)) => Err(error),
            Err(error @ (TablesError::Fenced(_) | TablesError::ReadOnly)) => {
                Err(StorageError::new(StorageErrorKind::GiveUp, error))
            }
        }
    }

    /// From when on `relation` can be read, and how far it is written.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn window(&self, relation: Relation) -> Result<Window, StoreError> {
        let Inspection { since, upper, .. } = self.store.inspect(self.places.shard(relation))?;
        if !relation.is_table() {
            return Ok(Window { since, upper });
        }
        let fetched = patiently(async || self.tables.fetch_upper().await);
        let upper = self.store.runtime.block_on(fetched)?;
        Ok(Window { since, upper })
    }
}

/// What was read, or from when to when something can be.
type Read = Result<Result<Updates<Minute>, Window>, StorageError>;

/// Rows of `relation` in ascending order.
pub(crate) fn rows(relation: Relation, updates: &Updates<Minute>) -> Result<Rows, StoreError> {
    let updates = decode(relation, updates)?.into_iter();
    let mut rows: Rows = updates.map(|(row, _, count)| (row, count)).collect();
    rows.sort_unstable();
    Ok(rows)
}

fn trouble(error: TablesError<std::convert::Infallible>) -> StorageError {
    match error {
        TablesError::Storage(error) => error,
        other @ (TablesError::Refused(_) | TablesError::Fenced(_) | TablesError::ReadOnly) => {
            StorageError::new(StorageErrorKind::GiveUp, other)
        }
    }
}

/// Why something was not read that is there, or should be.
pub(crate) fn unread(error: SnapshotError<Minute>) -> StorageError {
    match error {
        SnapshotError::Storage(error) => error,
        SnapshotError::EmptyFrontier
        | SnapshotError::TooEarly { .. }
        | SnapshotError::NotYet { .. } => StorageError::new(StorageErrorKind::GiveUp, error),
    }
}
