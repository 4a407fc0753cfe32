//! Changing what collections are.

use std::sync::Arc;

use bytes::Bytes;
use lowwater::{CollectionId, StopReason, StorageError, StorageErrorKind};

use crate::consensus::Fenced;
use crate::log::Log;
use crate::record::{DataRecord, SchemaRefusal};
use crate::schema::Schema;
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble};

use super::description::{CollectionDescription, Kind, KindName};
use super::{Collections, ReadOnly};

/// Why collections were not changed: none of them was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AlterError<I> {
    /// There is no such collection, or it was dropped.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// It is of another kind.
    #[error("{collection} is not a {wanted} but a {found}")]
    WrongKind {
        /// Which collection.
        collection: I,
        /// What it would have to be.
        wanted: KindName,
        /// What it is.
        found: KindName,
    },
    /// It has another schema than the one that is to be evolved: somebody else was faster.
    #[error("the table {collection} has another schema: {found}")]
    OtherSchema {
        /// Which table.
        collection: I,
        /// Its schema.
        found: Schema,
    },
    /// The schema does not evolve the latest one of the shard.
    #[error(transparent)]
    Schema(#[from] SchemaRefusal),
    /// Schemas are written by the controller that is in charge.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
    /// The controller has stopped, as it does when another one has taken over.
    #[error(transparent)]
    Stopped(#[from] StopReason),
    /// Trouble.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Changes what the embedder knows of an ingestion.
    ///
    /// # Errors
    ///
    /// If it does not exist, or is none.
    pub fn alter_ingestion(&self, id: I, details: Bytes) -> Result<(), AlterError<I>> {
        self.runs()?;
        let mut ledger = self.inner.ledger.lock();
        let live = ledger.live(id).ok_or(AlterError::UnknownCollection(id))?;
        let mut description = CollectionDescription::clone(&live.description);
        is_kind(id, &description, KindName::Ingestion)?;
        description.details = details;
        ledger.describe(id, Arc::new(description));
        Ok(())
    }

    /// Changes how several ingestions get to what they read: all of them, or none.
    ///
    /// # Errors
    ///
    /// If one does not exist, or is no ingestion.
    pub fn alter_connections(&self, connections: Vec<(I, Bytes)>) -> Result<(), AlterError<I>> {
        self.runs()?;
        let mut ledger = self.inner.ledger.lock();
        let mut altered = Vec::with_capacity(connections.len());
        for (id, to) in connections {
            let live = ledger.live(id).ok_or(AlterError::UnknownCollection(id))?;
            let mut description = CollectionDescription::clone(&live.description);
            is_kind(id, &description, KindName::Ingestion)?;
            if let Kind::Ingestion { connection, .. } = &mut description.kind {
                *connection = to;
            }
            altered.push((id, Arc::new(description)));
        }
        for (id, description) in altered {
            ledger.describe(id, description);
        }
        Ok(())
    }

    /// Makes `next` the latest schema of a table's shard, if `expected` is the table's. The table
    /// keeps the one that it has; a version of it with the new one is another collection, that
    /// [shares](super::Allotment::Shared) its shard. To ask again does no harm.
    ///
    /// # Errors
    ///
    /// If it does not exist, is no table, has another schema, or `next` adds other than nullable
    /// columns.
    ///
    /// # Durability
    ///
    /// When this returns, the shard's schema has survived a crash.
    pub async fn alter_table_schema(
        &self,
        id: I,
        expected: &Schema,
        next: &Schema,
    ) -> Result<(), AlterError<I>> {
        self.runs()?;
        let driving = self.inner.driving()?;
        let shard = {
            let ledger = self.inner.ledger.lock();
            let live = ledger.live(id).ok_or(AlterError::UnknownCollection(id))?;
            is_kind(id, &live.description, KindName::Table)?;
            if live.description.schema != *expected {
                let (collection, found) = (id, live.description.schema.clone());
                return Err(AlterError::OtherSchema { collection, found });
            }
            live.shard
        };
        let mut log = Log::<DataRecord<T>>::new(shard);
        // Of a table that was never written the first one is not there yet either.
        for schema in [expected, next] {
            let register = |record: &DataRecord<T>| record.register_schema(schema);
            let registered = driving.transactor.carry_out(&mut log, register).await;
            registered.map_err(|error| match error {
                CommandError::Refused(refusal) => AlterError::Schema(refusal),
                CommandError::Fenced(fenced) => fenced_out(fenced),
                CommandError::Log(error) => {
                    StorageError::new(StorageErrorKind::GiveUp, error).into()
                }
                CommandError::Store(StoreTrouble(error)) => StorageError::from(error).into(),
            })?;
        }
        Ok(())
    }

    /// An error, if the engine has stopped.
    fn runs(&self) -> Result<(), StopReason> {
        self.inner.client.stopped().map_or(Ok(()), Err)
    }
}

fn fenced_out<I>(fenced: Fenced) -> AlterError<I> {
    match fenced.by {
        Some(fence) => StopReason::Fenced { by: fence.epoch }.into(),
        None => StorageError::new(StorageErrorKind::GiveUp, fenced).into(),
    }
}

fn is_kind<I>(
    id: I,
    description: &CollectionDescription<I>,
    wanted: KindName,
) -> Result<(), AlterError<I>> {
    let found = description.kind.name();
    if found == wanted {
        Ok(())
    } else {
        Err(wrong_kind(id, found, wanted))
    }
}

fn wrong_kind<I>(collection: I, found: KindName, wanted: KindName) -> AlterError<I> {
    AlterError::WrongKind {
        collection,
        wanted,
        found,
    }
}
