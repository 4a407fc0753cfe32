//! Shards in memory that can be stopped after every durable step.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use parking_lot::Mutex;
use timely::PartialOrder;
use timely::progress::Antichain;
use tokio::sync::watch;

use crate::consensus::{Fence, Fenced};
use crate::id::ReaderId;
use crate::record::SchemaRefusal;
use crate::schema::Schema;
use crate::updates::Updates;

use super::store::{
    Contents, Head, Heads, Later, SchemaFault, TableAppend, TableStore, WriteFault,
};
use super::time::TableTime;

/// Shards in memory. Clones that are [made](MemoryTables::as_controller) for controllers share them.
#[derive(Clone, Debug)]
pub(super) struct MemoryTables<T> {
    shared: Arc<Mutex<Shared<T>>>,
    written: watch::Sender<u64>,
    fence: Option<Fence>,
}

#[derive(Debug)]
struct Shared<T> {
    shards: BTreeMap<ShardId, Shard<T>>,
    fence: Option<Fence>,
    /// How many durable steps there are before everything fails.
    steps_left: usize,
    steps: usize,
    reads: usize,
    compactions: usize,
}

#[derive(Clone, Debug)]
struct Shard<T> {
    batches: Vec<(Upper<T>, Upper<T>, Updates<T>)>,
    upper: Upper<T>,
    since: Since<T>,
    schemas: Vec<Schema>,
}

#[derive(Debug, thiserror::Error)]
#[error("the process has crashed")]
struct Crashed;

fn crashed() -> StorageError {
    StorageError::new(StorageErrorKind::Retry, Crashed)
}

impl<T: TableTime> MemoryTables<T> {
    pub(super) fn new() -> Self {
        MemoryTables {
            shared: Arc::new(Mutex::new(Shared {
                shards: BTreeMap::new(),
                fence: None,
                steps_left: usize::MAX,
                steps: 0,
                reads: 0,
                compactions: 0,
            })),
            written: watch::Sender::new(0),
            fence: None,
        }
    }

    /// The same shards, written by a controller that has taken over.
    pub(super) fn as_controller(&self, fence: Fence) -> Self {
        self.shared.lock().fence = Some(fence);
        MemoryTables {
            fence: Some(fence),
            ..self.clone()
        }
    }

    pub(super) fn crash_after(&self, steps: usize) {
        self.shared.lock().steps_left = steps;
    }

    pub(super) fn steps(&self) -> usize {
        self.shared.lock().steps
    }

    pub(super) fn reads(&self) -> usize {
        self.shared.lock().reads
    }

    /// How often the txns shard was looked at, whether it is worth merging.
    pub(super) fn compactions(&self) -> usize {
        self.shared.lock().compactions
    }

    /// What somebody does who does not know of transactions.
    pub(super) fn write_directly(&self, shard: ShardId, upper: Upper<T>) {
        self.shared.lock().shard(shard).upper = upper;
        self.written.send_modify(|writes| *writes += 1);
    }

    pub(super) fn since(&self, shard: ShardId) -> Since<T> {
        self.shared.lock().shard(shard).since.clone()
    }

    pub(super) fn schemas(&self, shard: ShardId) -> Vec<Schema> {
        self.shared.lock().shard(shard).schemas.clone()
    }

    pub(super) fn upper(&self, shard: ShardId) -> Upper<T> {
        self.shared.lock().shard(shard).upper.clone()
    }

    /// Merges the batches of a shard into one, at its since.
    pub(super) fn merge(&self, shard: ShardId) {
        let mut shared = self.shared.lock();
        let shard = shared.shard(shard);
        if shard.upper.is_minimum() {
            return;
        }
        let since = shard.since.clone();
        let mut merged = shard.all();
        merged.advance(&since);
        let merged = merged.consolidate();
        shard.batches = vec![(Upper::minimum(), shard.upper.clone(), merged)];
    }

    pub(super) fn downgrade_to(&self, shard: ShardId, since: Since<T>) {
        self.shared.lock().shard(shard).since = since;
    }
}

impl<T: TableTime> Shared<T> {
    fn shard(&mut self, id: ShardId) -> &mut Shard<T> {
        self.shards.entry(id).or_insert_with(|| Shard {
            batches: Vec::new(),
            upper: Upper::minimum(),
            since: Since::minimum(),
            schemas: Vec::new(),
        })
    }

    fn alive(&self) -> Result<(), StorageError> {
        if self.steps_left == 0 {
            Err(crashed())
        } else {
            Ok(())
        }
    }

    fn step(&mut self, fence: Option<Fence>) -> Result<(), WriteFault<T>> {
        self.alive().map_err(WriteFault::Storage)?;
        if self.fence != fence {
            return Err(WriteFault::Fenced(Fenced { by: self.fence }));
        }
        self.steps_left -= 1;
        self.steps += 1;
        Ok(())
    }

    fn add_schema(
        &mut self,
        fence: Option<Fence>,
        shard: ShardId,
        schema: Schema,
    ) -> Result<(), SchemaFault<T>> {
        if self.shard(shard).schemas.contains(&schema) {
            return Ok(());
        }
        if let Some(latest) = self.shard(shard).schemas.last() {
            latest.may_evolve_into(&schema).map_err(|reason| {
                let latest = latest.clone();
                SchemaFault::Refused(SchemaRefusal { latest, reason })
            })?;
        }
        self.step(fence).map_err(SchemaFault::Write)?;
        self.shard(shard).schemas.push(schema);
        Ok(())
    }
}

impl<T: TableTime> Shard<T> {
    fn all(&self) -> Updates<T> {
        let nothing = Schema::new(vec![]).unwrap();
        let schema = self.schemas.last().unwrap_or(&nothing);
        Updates::concat(self.beyond(0), schema).unwrap()
    }

    fn beyond(&self, first: usize) -> Vec<Updates<T>> {
        let batches = self.batches[first..].iter();
        batches.map(|(_, _, updates)| updates.clone()).collect()
    }
}

impl<T: TableTime> TableStore<T> for MemoryTables<T> {
    fn heads(&self, shards: Vec<ShardId>) -> Later<'_, Result<Heads<T>, StorageError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut shared = self.shared.lock();
            shared.alive()?;
            let head = |id| {
                let shard = shared.shard(id);
                let (upper, schemas) = (shard.upper.clone(), shard.schemas.clone());
                let is_blank = shard.batches.iter().all(|(_, _, batch)| batch.is_empty());
                (
                    id,
                    Ok(Head {
                        upper,
                        schemas,
                        is_blank,
                    }),
                )
            };
            Ok(shards.into_iter().map(head).collect())
        })
    }

    fn read(&self, shard: ShardId, from: Upper<T>) -> Later<'_, Result<Contents<T>, StorageError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut shared = self.shared.lock();
            shared.alive()?;
            shared.reads += 1;
            let shard = shared.shard(shard);
            let cut = shard
                .batches
                .iter()
                .position(|(lower, _, _)| *lower == from);
            let cut = cut.or((shard.upper == from).then_some(shard.batches.len()));
            let lower = if cut.is_some() {
                from
            } else {
                Upper::minimum()
            };
            Ok(Contents {
                lower,
                upper: shard.upper.clone(),
                since: shard.since.clone(),
                updates: shard.beyond(cut.unwrap_or(0)),
                schemas: shard.schemas.clone(),
            })
        })
    }

    fn wait_past(
        &self,
        shard: ShardId,
        frontier: Antichain<T>,
    ) -> Later<'_, Result<(), StorageError>> {
        Box::pin(async move {
            let past = |_: &u64| self.shared.lock().shard(shard).upper.is_past(&frontier);
            let mut written = self.written.subscribe();
            written.wait_for(past).await.expect("we have the sender");
            self.shared.lock().alive()
        })
    }

    fn append(&self, appends: Vec<TableAppend<T>>) -> Later<'_, Vec<Result<(), WriteFault<T>>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut shared = self.shared.lock();
            let append = |append: TableAppend<T>| {
                append.updates.check(&append.schema).unwrap();
                let shard = shared.shard(append.shard);
                if shard.upper != append.lower {
                    return Err(WriteFault::Elsewhere(shard.upper.clone()));
                }
                shared.step(self.fence)?;
                let shard = shared.shard(append.shard);
                if !shard.schemas.contains(&append.schema) {
                    shard.schemas.push(append.schema);
                }
                let times = append.updates.times();
                assert!(
                    times
                        .iter()
                        .all(|at| append.lower.frontier().less_equal(at))
                );
                assert!(times.iter().all(|at| append.upper.is_complete_at(at)));
                shard.upper = append.upper.clone();
                shard
                    .batches
                    .push((append.lower, append.upper, append.updates));
                Ok(())
            };
            let outcomes = appends.into_iter().map(append).collect();
            self.written.send_modify(|writes| *writes += 1);
            outcomes
        })
    }

    fn add_schemas(
        &self,
        schemas: Vec<(ShardId, Schema)>,
    ) -> Later<'_, Result<(), (ShardId, SchemaFault<T>)>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut shared = self.shared.lock();
            for (shard, schema) in schemas {
                let added = shared.add_schema(self.fence, shard, schema);
                added.map_err(|fault| (shard, fault))?;
            }
            Ok(())
        })
    }

    fn take_charge(
        &self,
        _txns: ShardId,
        _reader: ReaderId,
        _fence: Fence,
    ) -> Later<'_, Result<(), WriteFault<T>>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn compact(&self, _txns: ShardId) -> Later<'_, Result<(), WriteFault<T>>> {
        self.shared.lock().compactions += 1;
        Box::pin(std::future::ready(Ok(())))
    }

    fn downgrade(&self, shard: ShardId, since: Since<T>) -> Later<'_, Result<(), WriteFault<T>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut shared = self.shared.lock();
            shared.step(self.fence)?;
            let shard = shared.shard(shard);
            // Behind where it is, as after a restart that does not know what is applied: kept.
            if PartialOrder::less_equal(&shard.since, &since) {
                shard.since = since;
            }
            Ok(())
        })
    }
}
