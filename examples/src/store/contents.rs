//! What a store has of the collections.

use lowwater::{Since, StorageError, StorageErrorKind, Upper};
use lowwater_shard::{Inspection, SnapshotError};
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::minute::Minute;
use crate::past::Past;
use crate::row::Rows;

use super::patience::patiently;
use super::{CONTROLLER, Places, Store, StoreError, Writers, decode};

/// What a store has of the collections, in the shards that they were given.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    pub(super) store: &'a Store,
    pub(super) places: Places,
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
    #[must_use]
    pub fn contents(&self, places: Places) -> Contents<'_> {
        Contents {
            store: self,
            places,
        }
    }
}

impl Contents<'_> {
    /// Where they are.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The rows of `relation` as of a time, or why they cannot be read; waits for nothing to be
    /// written.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else.
    pub fn read(&self, relation: Relation, as_of: Minute) -> Result<Reading, StoreError> {
        let as_of = Antichain::from_elem(as_of);
        let shard = self.places.shard(relation);
        let read = async || match self.store.shards.try_snapshot(shard, &as_of).await {
            Ok(updates) => Ok(Ok(updates)),
            Err(
                SnapshotError::TooEarly { since, upper } | SnapshotError::NotYet { since, upper },
            ) => Ok(Err(Window { since, upper })),
            Err(error) => Err(unread(error)),
        };
        match self.store.runtime.block_on(patiently(read))? {
            Ok(updates) => {
                let updates = decode(relation, &updates)?.into_iter();
                let mut rows: Rows = updates.map(|(row, _, count)| (row, count)).collect();
                rows.sort_unstable();
                Ok(Reading::Rows(rows))
            }
            Err(window) => Ok(Reading::Refused(window)),
        }
    }

    /// From when on `relation` can be read, and how far it is written.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn window(&self, relation: Relation) -> Result<Window, StoreError> {
        let Inspection { since, upper, .. } = self.inspect(relation)?;
        Ok(Window { since, upper })
    }

    /// From when on controllers keep `relation` readable, whoever else still reads it.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn kept_from(&self, relation: Relation) -> Result<Since<Minute>, StoreError> {
        let mut inspected = self.inspect(relation)?;
        let kept = inspected.critical.remove(&CONTROLLER);
        Ok(kept.map_or(inspected.since, |critical| critical.since))
    }

    fn inspect(&self, relation: Relation) -> Result<Inspection<Minute>, StoreError> {
        let shard = self.places.shard(relation);
        let inspected = patiently(async || self.store.shards.inspect(shard).await);
        Ok(self.store.runtime.block_on(inspected)?)
    }

    /// Where every collection was left, and what the tables have from `since` on, which somebody
    /// must hold.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else in it.
    pub fn past(
        &self,
        writers: &Writers<'_>,
        since: impl Fn(Relation) -> Minute,
    ) -> Result<Past, StoreError> {
        let mut past = Past::none();
        for relation in Relation::ALL {
            let upper = writers.upper(relation);
            let updates = if relation.is_view() || *upper == Antichain::from_elem(0) {
                Vec::new()
            } else {
                let (shard, since) = (self.places.shard(relation), Since::at(since(relation)));
                let loaded = patiently(async || {
                    let loaded = self.store.shards.history(shard, &since).await;
                    loaded.map_err(unread)
                });
                decode(relation, &self.store.runtime.block_on(loaded)?)?
            };
            past.put(relation, upper.clone(), updates);
        }
        Ok(past)
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
