//! What can be asked of collections, and what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lowwater::{
    AcquireError, CollectionId, Frontiers, Key, LookupError, Parameters, ReadHold, ReadPolicy,
    SetPoliciesError, ShardId, Start, StopReason,
};

use crate::time::ShardTime;

use super::Collections;
use super::description::{CollectionDescription, Kind};
use super::finalizer::{Finalization, FinalizerStats};
use super::ledger::{Ledger, Live};

/// What is known of a collection beside its frontiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionMetadata<I> {
    /// Its shard.
    pub shard: ShardId,
    /// Where the parts of its shard are: `memory`, a folder, `s3://bucket/prefix`; keys and
    /// passwords are never in it. They are below the [shard's own folder](crate::parts) there.
    pub location: Arc<str>,
    /// The incarnation that has the id now.
    pub key: Key,
    /// What it is, with the schema of its rows.
    pub description: Arc<CollectionDescription<I>>,
    /// The shard of the transactions that write it, if it is a table.
    pub txns_shard: Option<ShardId>,
    /// The shard of its remap collection, if it is an ingestion or an export of one.
    pub remap_shard: Option<ShardId>,
    /// The shard of the collection that says how it is doing, if there is one.
    pub status_shard: Option<ShardId>,
}

/// A hold, and where its collection was at an instant when all that were asked for were held.
#[derive(Debug)]
pub struct Held<I: CollectionId, T: ShardTime> {
    /// The hold.
    pub hold: ReadHold<I, T>,
    /// The frontiers of the collection; those of all together are of one instant.
    pub frontiers: Frontiers<T>,
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// True iff there is a collection of this id that was not dropped.
    pub fn exists(&self, id: I) -> bool {
        self.inner.ledger.lock().live(id).is_some()
    }

    /// The collections that were created and not dropped, in order.
    pub fn active(&self) -> Vec<I> {
        let ledger = self.inner.ledger.lock();
        ledger.all_live().map(|(id, _)| id).collect()
    }

    /// What is known of a collection; none if there is none, or it was dropped.
    pub fn metadata(&self, id: I) -> Option<CollectionMetadata<I>> {
        let ledger = self.inner.ledger.lock();
        Some(self.metadata_of(&ledger, ledger.live(id)?))
    }

    /// What is known of all collections that were not dropped.
    pub fn active_metadata(&self) -> BTreeMap<I, CollectionMetadata<I>> {
        let ledger = self.inner.ledger.lock();
        let all = ledger.all_live();
        all.map(|(id, live)| (id, self.metadata_of(&ledger, live)))
            .collect()
    }

    fn metadata_of(&self, ledger: &Ledger<I>, live: &Live<I>) -> CollectionMetadata<I> {
        metadata(ledger, live, self.inner.shards.parts().place())
    }

    /// Shards that are used here and stay where they are, and for whom: owners by committed metadata
    /// that were not created yet, as after a restart, or dropped before their catalogue has said so.
    /// Nobody reads less of them than the others left, when they come back; whoever never does, keeps
    /// them for ever, until metadata no longer list it.
    pub fn awaited(&self) -> BTreeMap<ShardId, Vec<I>> {
        self.inner.ledger.lock().awaited()
    }

    /// The exports of an ingestion that are there now.
    pub fn exports(&self, ingestion: I) -> BTreeSet<I> {
        self.inner.ledger.lock().exports(ingestion).collect()
    }

    /// The frontiers of collections, all of one instant.
    ///
    /// # Errors
    ///
    /// If one does not exist.
    pub async fn frontiers(&self, ids: &[I]) -> Result<Vec<Frontiers<T>>, LookupError<I>> {
        self.inner.client.frontiers(ids).await
    }

    /// The frontiers of all collections that were not dropped, all of one instant.
    ///
    /// # Errors
    ///
    /// If the engine has stopped.
    pub async fn active_frontiers(&self) -> Result<BTreeMap<I, Frontiers<T>>, StopReason> {
        let mut ids = self.active();
        loop {
            match self.inner.client.frontiers(&ids).await {
                Ok(frontiers) => return Ok(ids.into_iter().zip(frontiers).collect()),
                // Gone in the meantime.
                Err(LookupError::UnknownCollection(gone)) => ids.retain(|id| *id != gone),
                Err(LookupError::Stopped(reason)) => return Err(reason),
            }
        }
    }

    /// Sets read policies, all of them or none; of several for one collection the last one wins.
    ///
    /// # Errors
    ///
    /// If one names no collection, with its id, or cannot be used.
    pub async fn set_policies(
        &self,
        policies: Vec<(I, ReadPolicy<T>)>,
    ) -> Result<(), SetPoliciesError<I>> {
        self.inner.client.set_policies(policies).await
    }

    /// Takes holds on collections, each at its own implied capability: all or none, with the
    /// frontiers when all were held.
    ///
    /// # Errors
    ///
    /// Of the first collection that is refused.
    pub async fn acquire(&self, ids: &[I]) -> Result<Vec<Held<I, T>>, AcquireError<I, T>> {
        let holds = self.inner.client.acquire_many(ids)?;
        self.with_frontiers(ids, holds).await
    }

    /// Takes holds on collections, each where it says: all or none, with the frontiers when all were
    /// held.
    ///
    /// # Errors
    ///
    /// Of the first collection that is refused, with from when on it can be read.
    pub async fn acquire_each(
        &self,
        wanted: Vec<(I, Start<T>)>,
    ) -> Result<Vec<Held<I, T>>, AcquireError<I, T>> {
        let ids: Vec<I> = wanted.iter().map(|(id, _)| *id).collect();
        let holds = self.inner.client.acquire_each(wanted).await?;
        self.with_frontiers(&ids, holds).await
    }

    async fn with_frontiers(
        &self,
        ids: &[I],
        holds: Vec<ReadHold<I, T>>,
    ) -> Result<Vec<Held<I, T>>, AcquireError<I, T>> {
        // What is held is there.
        let frontiers = self.inner.client.frontiers(ids).await;
        let frontiers = frontiers.map_err(|error| match error {
            LookupError::UnknownCollection(id) => AcquireError::UnknownCollection(id),
            LookupError::Stopped(reason) => AcquireError::Stopped(reason),
        })?;
        let held = holds.into_iter().zip(frontiers);
        let held = held.map(|(hold, frontiers)| Held { hold, frontiers });
        Ok(held.collect())
    }

    /// Changes how the engine runs, at once.
    ///
    /// # Errors
    ///
    /// If it has stopped.
    pub async fn change(&self, parameters: Parameters) -> Result<(), StopReason> {
        self.inner.client.change(parameters).await
    }

    /// Changes how shards are finalized, or whether they are, at once. What is under way goes on.
    pub fn change_finalization(&self, finalization: Finalization) {
        *self.inner.finalization.lock() = finalization.clone();
        if let Some(driving) = self.inner.driving.get() {
            driving.finalizer.set(finalization);
        }
    }

    /// What was finalized, what is to be, and who blocks it.
    pub fn finalizer_stats(&self) -> FinalizerStats {
        let driving = self.inner.driving.get();
        let stats = driving.map(|driving| driving.finalizer.stats());
        let stats = stats.unwrap_or_default();
        let engine = || match self.inner.client.stopped() {
            Some(StopReason::Fenced { by }) => Some(by),
            Some(StopReason::Stopped | StopReason::Panicked) | None => None,
        };
        FinalizerStats {
            pending_commit: self.inner.ledger.lock().pending,
            fenced_by: stats.fenced_by.or_else(engine),
            ..stats
        }
    }
}

fn metadata<I: CollectionId>(
    ledger: &Ledger<I>,
    live: &Live<I>,
    location: Arc<str>,
) -> CollectionMetadata<I> {
    let description = &live.description;
    let ingestion = match &description.kind {
        Kind::Ingestion { .. } => Some(description),
        Kind::IngestionExport { ingestion } => {
            ledger.live(*ingestion).map(|live| &live.description)
        }
        Kind::Table | Kind::Progress | Kind::Introspection | Kind::Webhook | Kind::Compute => None,
    };
    let remap = match ingestion.map(|ingestion| &ingestion.kind) {
        Some(Kind::Ingestion { remap, .. }) => Some(*remap),
        Some(_) | None => None,
    };
    let is_table = description.kind == Kind::Table;
    CollectionMetadata {
        shard: live.shard,
        location,
        key: live.key,
        description: Arc::clone(description),
        txns_shard: ledger.txns_shard().filter(|_| is_table),
        remap_shard: remap.and_then(|remap| ledger.shard_of(remap)),
        status_shard: description
            .status
            .and_then(|status| ledger.shard_of(status)),
    }
}
