//! Making shards tables, and tables shards.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::{ShardId, StorageError, Upper};

use crate::record::SchemaRefusal;
use crate::schema::Schema;

use super::error::{
    AlterError, ApplyError, ForgetError, RegisterError, RegisterFault, RegisterFaults, TablesError,
    write_trouble,
};
use super::handle::{Inner, TRIES_MAX, Tables, never};
use super::state::{ForgetRefusal, RegisterRefusal, TxnsState};
use super::store::{Head, SchemaFault};
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
    /// If the time has passed, with the first that has not; if shards are written further than
    /// that, or their schemas do not become these: with all of them. Then nothing was written.
    ///
    /// # Durability
    ///
    /// When this returns, the shards are tables, and closed to others up to the time.
    pub async fn register(
        &self,
        at: &T,
        tables: &[(ShardId, Schema)],
    ) -> Result<Upper<T>, RegisterError<T>> {
        let inner = &self.inner;
        inner.may_write()?;
        let ids: BTreeSet<ShardId> = tables.iter().map(|(table, _)| *table).collect();
        let mut tries = 0..TRIES_MAX;
        let upper = loop {
            let mut heads = inner.heads_of(&ids).await?;
            let (missing, mut faults) = missing_schemas(&heads, tables);
            let register = |state: &TxnsState<T>, heads: &Heads<T>| {
                let uppers = heads.iter().map(|(id, head)| (*id, head.upper.clone()));
                state.register(at, &uppers.collect())
            };
            // Before anything is written, so that nothing is if one is refused.
            let registered = match inner.check(|state| register(state, &heads)).await {
                Ok(_) if faults.is_empty() => {
                    if !missing.is_empty() {
                        inner.add_schemas(missing).await?;
                        heads = inner.heads_of(&ids).await?;
                    }
                    inner.step(|state| register(state, &heads)).await
                }
                Ok(_) => return Err(TablesError::Refused(RegisterFaults::Tables(faults))),
                Err(error) => Err(error),
            };
            match registered {
                Err(TablesError::Refused(RegisterRefusal::StillForgotten(tables)))
                    if faults.is_empty() && tries.next().is_some() =>
                {
                    inner.finish_forgetting(tables).await.map_err(never)?;
                }
                Err(TablesError::Refused(refusal)) => {
                    let refused = match RegisterFaults::from(refusal) {
                        RegisterFaults::Tables(others) => {
                            faults.extend(others);
                            RegisterFaults::Tables(faults)
                        }
                        passed @ RegisterFaults::Passed(_) => passed,
                    };
                    return Err(TablesError::Refused(refused));
                }
                done => break done.map_err(|error| error.map(RegisterFaults::from))?,
            }
        };
        inner.apply_to(ids, at).await.map_err(never)?;
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

/// What the shards say that are to become tables.
type Heads<T> = BTreeMap<ShardId, Head<T>>;

type Faults<T> = BTreeMap<ShardId, RegisterFault<T>>;

/// The schemas that shards have yet to be given, and the shards that do not take them.
fn missing_schemas<T: TableTime>(
    heads: &Heads<T>,
    tables: &[(ShardId, Schema)],
) -> (Vec<(ShardId, Schema)>, Faults<T>) {
    let (mut missing, mut faults) = (Vec::new(), BTreeMap::new());
    let mut latest: BTreeMap<ShardId, &Schema> = BTreeMap::new();
    for (table, schema) in tables {
        let known = heads.get(table).map_or(&[][..], |head| &head.schemas);
        if known.contains(schema) || missing.iter().any(|(id, new)| (id, new) == (table, schema)) {
            continue;
        }
        let before = latest.insert(*table, schema).or(known.last());
        match before.map(|before| (before, before.may_evolve_into(schema))) {
            Some((before, Err(reason))) => {
                let latest = before.clone();
                let refusal = SchemaRefusal { latest, reason };
                faults
                    .entry(*table)
                    .or_insert(RegisterFault::Schema(refusal));
            }
            Some((_, Ok(()))) | None => missing.push((*table, schema.clone())),
        }
    }
    (missing, faults)
}

impl<T: TableTime> Inner<T> {
    async fn heads_of(&self, tables: &BTreeSet<ShardId>) -> Result<Heads<T>, StorageError> {
        let mut heads = Heads::new();
        for (id, head) in self.store.heads(tables.iter().copied().collect()).await? {
            let head = head?;
            self.schemas.note(id, &head.schemas);
            heads.insert(id, head);
        }
        Ok(heads)
    }

    async fn add_schemas(&self, schemas: Vec<(ShardId, Schema)>) -> Result<(), RegisterError<T>> {
        let added = self.store.add_schemas(schemas).await;
        self.heard(added.map_err(|(table, fault)| {
            let refused = |refusal| BTreeMap::from([(table, RegisterFault::Schema(refusal))]);
            schema_trouble(fault, |refusal| RegisterFaults::Tables(refused(refusal)))
        }))
    }

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
