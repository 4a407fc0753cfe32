//! Making shards tables, and tables shards.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::{ShardId, StorageError, Upper};

use crate::record::SchemaRefusal;
use crate::schema::Schema;

use super::error::{
    AlterError, ApplyError, ForgetError, RegisterError, RegisterFault, TablesError, write_trouble,
};
use super::handle::{Inner, TRIES_MAX, Tables, never};
use super::state::{ForgetRefusal, RegisterRefusal};
use super::store::SchemaFault;
use super::time::TableTime;

impl<T: TableTime> Tables<T> {
    /// Makes shards tables from a time on; says how far all tables are written then. Those that are
    /// tables stay so.
    ///
    /// Until now others could write to such a shard itself; from now on only transactions may. To
    /// register again finishes what a crash has left unfinished.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not; if a shard is written further than
    /// that, or its schema does not become this one.
    ///
    /// # Durability
    ///
    /// When this returns, the shards are tables, and closed to others up to the time.
    pub async fn register(
        &self,
        at: &T,
        tables: &[(ShardId, Schema)],
    ) -> Result<Upper<T>, RegisterError<T>> {
        self.inner.may_write()?;
        let added = self.inner.store.add_schemas(tables.to_vec()).await;
        let added = added.map_err(|(table, fault)| {
            schema_trouble(fault, |refusal| schema_refused(table, refusal))
        });
        self.inner.heard(added)?;
        let ids: BTreeSet<ShardId> = tables.iter().map(|(table, _)| *table).collect();
        let mut tries = 0..TRIES_MAX;
        let upper = loop {
            let shards = ids.iter().copied().collect();
            let mut uppers = BTreeMap::new();
            for (id, head) in self.inner.store.heads(shards).await? {
                let head = head?;
                self.inner.schemas.note(id, &head.schemas);
                uppers.insert(id, head.upper);
            }
            match self.inner.step(|state| state.register(at, &uppers)).await {
                Err(TablesError::Refused(RegisterRefusal::StillForgotten(tables)))
                    if tries.next().is_some() =>
                {
                    self.inner.finish_forgetting(tables).await.map_err(never)?;
                }
                done => break done.map_err(|error| error.map(RegisterFault::from))?,
            }
        };
        self.inner.apply_to(ids, at).await.map_err(never)?;
        Ok(upper)
    }

    /// Makes tables ordinary shards, after a time; says how far the other tables are written then.
    /// Applies before what was committed to them. Those that are no tables stay so.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not.
    ///
    /// # Durability
    ///
    /// When this returns, the shards are no tables any more, everything that was committed to them
    /// is in them, and they are written past the time. If a crash comes between, the rest is done
    /// by whoever applies next.
    pub async fn forget(&self, at: &T, tables: &[ShardId]) -> Result<Upper<T>, ForgetError<T>> {
        let ids: BTreeSet<ShardId> = tables.iter().copied().collect();
        let mut tries = 0..TRIES_MAX;
        let upper = loop {
            self.inner.apply_to(ids.clone(), at).await.map_err(never)?;
            match self.inner.step(|state| state.forget(at, &ids)).await {
                Err(TablesError::Refused(ForgetRefusal::Unapplied(_)))
                    if tries.next().is_some() => {}
                done => break done?,
            }
        };
        ids.iter().for_each(|id| self.inner.schemas.forget(*id));
        self.inner.apply_to(ids, at).await.map_err(never)?;
        Ok(upper)
    }

    /// Which of these nothing was ever written to, and since when those are tables; none if they are
    /// none.
    pub(crate) async fn blank(
        &self,
        shards: BTreeSet<ShardId>,
    ) -> Result<BTreeMap<ShardId, Option<T>>, StorageError> {
        // The state before the shards: what is no longer in the one is in the others.
        let mut found = BTreeMap::new();
        self.with_state(|state| {
            let unwritten = shards.iter().filter(|shard| !state.has_writes(**shard));
            for shard in unwritten {
                found.insert(*shard, state.registered_at(*shard).cloned());
            }
        })
        .await;
        let shards = found.keys().copied().collect();
        for (shard, head) in self.inner.store.heads(shards).await? {
            let head = head?;
            self.inner.schemas.note(shard, &head.schemas);
            if !head.is_blank {
                found.remove(&shard);
            }
        }
        Ok(found)
    }

    /// Gives a table a new version of its schema: transactions can write rows of it from now on.
    ///
    /// # Errors
    ///
    /// If it does not evolve the latest one.
    pub async fn alter(&self, table: ShardId, schema: &Schema) -> Result<(), AlterError> {
        self.inner.may_write()?;
        let added = self.inner.store.add_schemas(vec![(table, schema.clone())]);
        let added = added.await;
        let added = added.map_err(|(_, fault)| schema_trouble(fault, |refusal| refusal));
        self.inner.heard(added)
    }
}

impl<T: TableTime> Inner<T> {
    /// Writes the own shards of forgotten tables past where they were forgotten.
    async fn finish_forgetting(&self, tables: BTreeSet<ShardId>) -> Result<(), ApplyError> {
        let latest = self.cache.lock().await.state.latest_unapplied().cloned();
        match latest {
            Some(latest) => self.apply_to(tables, &latest).await,
            None => Ok(()),
        }
    }
}

fn schema_trouble<T: TableTime, R>(
    fault: SchemaFault<T>,
    refused: impl FnOnce(SchemaRefusal) -> R,
) -> TablesError<R> {
    match fault {
        SchemaFault::Refused(refusal) => TablesError::Refused(refused(refusal)),
        SchemaFault::Write(fault) => write_trouble(fault),
    }
}

fn schema_refused<T>(table: ShardId, refusal: SchemaRefusal) -> RegisterFault<T> {
    RegisterFault::Schema { table, refusal }
}
