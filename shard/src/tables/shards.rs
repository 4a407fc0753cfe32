//! Tables on the shards of a store.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use parking_lot::Mutex;
use timely::progress::Antichain;

use crate::append::with_schema;
use crate::compaction::NoRefusal;
use crate::consensus::{Fence, Fenced};
use crate::hub::{ById, Hub, Shard};
use crate::id::{PartId, ReaderId, SchemaId};
use crate::parts::{PartError, Parts};
use crate::record::{
    AppendError, Batch, Content, DataChange, DataRecord, Decision, NewBatch, SchemaRefusal,
    SinceRecord, Stored, UnknownSchema,
};
use crate::schema::Schema;
use crate::storage::take_charge;
use crate::transact::{CommandError, Transactor};

use super::contents::{self, Merging, Unread};
use super::encoding::txns_schema;
use super::error::give_up;
use super::store::{
    Contents, Head, Heads, Later, SchemaFault, TableAppend, TableStore, WriteFault,
};
use super::time::TableTime;
use super::used::Used;

/// How often something is tried again because others were faster, or we too slow.
const TRIES_MAX: usize = 10;

/// How much one content of the txns shard holds once it is merged; one row may be larger.
const CONTENT_BYTES_MAX: usize = 256 << 20;

/// What tables need of shards, by the shards of a store.
#[derive(Debug)]
pub(super) struct ShardTables<T: TableTime> {
    hub: Arc<Hub<T>>,
    parts: Parts,
    /// Writes as the controller, once it is in charge.
    control: OnceLock<Control>,
    used: Mutex<Used<T>>,
}

#[derive(Debug)]
struct Control {
    transactor: Transactor,
    reader: ReaderId,
    fence: Fence,
}

impl<T: TableTime> ShardTables<T> {
    /// Writes nothing yet.
    pub(super) fn new(hub: Arc<Hub<T>>, parts: Parts, txns: ShardId) -> Self {
        let used = Mutex::new(Used::new(hub.shard(txns)));
        ShardTables {
            hub,
            parts,
            control: OnceLock::new(),
            used,
        }
    }

    fn control(&self) -> Result<&Control, WriteFault<T>> {
        let nobody = || WriteFault::Fenced(Fenced { by: None });
        self.control.get().ok_or_else(nobody)
    }

    async fn add_schemas_as(
        &self,
        control: &Control,
        mut schemas: Vec<(ShardId, Schema)>,
    ) -> Result<(), (ShardId, SchemaFault<T>)> {
        while !schemas.is_empty() {
            // One of each shard at a time.
            let mut round = ById::new();
            schemas.retain(|(id, schema)| {
                let is_next = !round.contains_key(id);
                if is_next {
                    round.insert(*id, schema.clone());
                }
                !is_next
            });
            let commands = round.into_iter().map(|(id, schema)| {
                let add = move |record: &DataRecord<T>| record.register_schema(&schema);
                (id, (self.shard(id), add))
            });
            let added = self.hub.write_as(&control.transactor, commands.collect());
            for (id, added) in added.await {
                added.map_err(|error| (id, refused_schema(error)))?;
            }
        }
        Ok(())
    }

    fn shard(&self, id: ShardId) -> Arc<Shard<T>> {
        self.used.lock().shard(id, || self.hub.shard(id))
    }

    async fn read_since(&self, shard: &Arc<Shard<T>>) -> Result<Since<T>, StorageError> {
        self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
        Ok(shard.sinces.lock().await.record().since().clone())
    }

    async fn read_now(
        &self,
        shard: &Arc<Shard<T>>,
        from: &Upper<T>,
    ) -> Result<Contents<T>, StorageError> {
        for _ in 0..TRIES_MAX {
            self.hub.refresh_one::<DataRecord<T>>(shard).await?;
            match self.read_known(shard, from).await {
                Ok(contents) => return Ok(contents),
                Err(Unread::Storage(error)) => return Err(error),
                Err(Unread::Missing(stored)) => {
                    self.hub.refresh_one::<DataRecord<T>>(shard).await?;
                    let data = shard.data.lock().await;
                    let mut batches = data.record().batches().iter();
                    if batches.any(|batch| refers_to(batch, &stored)) {
                        return Err(give_up(PartError::Missing(stored.name())));
                    }
                }
            }
        }
        Err(StorageError::new(StorageErrorKind::Retry, TooSlow))
    }

    /// What the record says that was read last.
    async fn read_known(
        &self,
        shard: &Arc<Shard<T>>,
        from: &Upper<T>,
    ) -> Result<Contents<T>, Unread> {
        let data = shard.data.lock().await;
        let record = data.record();
        let (lower, first) = match contents::cut(record.batches(), from) {
            Some(first) => (from.clone(), first),
            None => (Upper::minimum(), 0),
        };
        let batches: Vec<Batch<T>> = record.batches()[first..].to_vec();
        let (upper, schemas) = (record.upper().clone(), record.schemas().to_vec());
        drop(data);
        let updates = contents::read(&self.parts, shard.id, &batches, &schemas).await?;
        let mut updates = updates;
        for content in &mut updates {
            *content = content.filter(|time| lower.frontier().less_equal(time));
        }
        // After the data: they were compacted no further than this.
        let since = self.read_since(shard).await?;
        Ok(Contents {
            lower,
            upper,
            since,
            updates,
            schemas,
        })
    }

    /// Appends; those whose parts have taken too long are left.
    async fn append_some(
        &self,
        control: &Control,
        left: &mut ById<TableAppend<T>>,
        outcomes: &mut ById<Result<(), WriteFault<T>>>,
    ) {
        let mut encoded = ById::new();
        for (id, append) in left.iter() {
            let shard = self.shard(*id);
            let (schema, updates) = (&append.schema, &append.updates);
            match contents::write(&self.parts, &shard, schema, updates).await {
                Ok(contents) => drop(encoded.insert(*id, (shard, contents))),
                Err(error) => drop(outcomes.insert(*id, Err(WriteFault::Storage(error)))),
            }
        }
        let commands = encoded.iter().map(|(id, (shard, contents))| {
            let append = &left[id];
            let command = |record: &DataRecord<T>| decide(append, contents, record);
            (*id, (Arc::clone(shard), command))
        });
        let done = self.hub.write_as(&control.transactor, commands.collect());
        for (id, done) in done.await {
            match done {
                Err(CommandError::Refused(AppendError::PartExpired(_))) => {}
                done => drop(outcomes.insert(id, done.map_err(refused_append))),
            }
        }
        left.retain(|id, _| !outcomes.contains_key(id));
    }
}

impl<T: TableTime> ShardTables<T> {
    /// Merges batches into one, but for the latest, where other processes may be.
    async fn merge(&self, txns: &Arc<Shard<T>>) -> Result<(), WriteFault<T>> {
        let control = self.control()?;
        let data = txns.data.lock().await;
        let batches = contents::worth_merging(data.record().batches()).to_vec();
        let schemas = data.record().schemas().to_vec();
        drop(data);
        let ([first, .., last], Some(schema)) = (&*batches, schemas.last()) else {
            return Ok(());
        };
        let since = self.read_since(txns).await.map_err(WriteFault::Storage)?;
        let merging = Merging::new(since.clone());
        let merging = merging.read(&self.parts, txns.id, &batches, &schemas);
        let mut merging = match merging.await {
            Ok(merging) => merging,
            // Somebody else was faster, or will be told by whoever reads it.
            Err(Unread::Missing(_)) => return Ok(()),
            Err(Unread::Storage(error)) => return Err(WriteFault::Storage(error)),
        };
        let mut written = Vec::new();
        while let Some(updates) = merging.next(CONTENT_BYTES_MAX) {
            let updates = updates.map_err(WriteFault::Storage)?;
            let stored = contents::write(&self.parts, txns, schema, &updates).await;
            written.extend(stored.map_err(WriteFault::Storage)?);
        }
        let newest = u32::try_from(schemas.len() - 1).expect("a record has fewer than 2^32");
        let written = with_schema(&written, SchemaId::new(newest));
        let compact = |record: &DataRecord<T>| {
            record.compact(first.id, last.id, since.clone(), written.clone())
        };
        match self.hub.write(&control.transactor, txns, compact).await {
            // Refused: somebody else was faster.
            Ok(_) | Err(CommandError::Refused(_)) => Ok(()),
            Err(error) => Err(refused_for_good(error)),
        }
    }

    /// Deletes the parts that were replaced and that no lease keeps: first what is stored, then the
    /// note of it, so that a crash in between leaves the note. Who reads tables without a lease reads
    /// again where it finds them gone.
    async fn collect_garbage(&self, txns: &Arc<Shard<T>>) -> Result<(), WriteFault<T>> {
        let control = self.control()?;
        if txns.data.lock().await.record().garbage().is_empty() {
            return Ok(());
        }
        // Who reads is asked before: whoever comes later finds a version without the garbage.
        let refreshed = self.hub.refresh_one::<SinceRecord<T>>(txns).await;
        refreshed.map_err(WriteFault::Storage)?;
        let leased = txns.sinces.lock().await.record().oldest_read();
        let data = txns.data.lock().await;
        let oldest = leased.into_iter().chain(txns.oldest_reading()).min();
        let names = data.record().deletable(oldest);
        drop(data);
        if names.is_empty() {
            return Ok(());
        }
        let deleted = self.parts.delete(txns.id, &names).await;
        deleted.map_err(|error| WriteFault::Storage(error.into()))?;
        let parts: Vec<PartId> = names.iter().map(|name| name.part).collect();
        let swept = |record: &DataRecord<T>| Ok::<_, NoRefusal>(record.swept(&parts));
        let swept = self.hub.write(&control.transactor, txns, swept).await;
        swept.map_err(refused_for_good)
    }
}

impl<T: TableTime> TableStore<T> for ShardTables<T> {
    fn heads(&self, shards: Vec<ShardId>) -> Later<'_, Result<Heads<T>, StorageError>> {
        Box::pin(async move {
            let shards = shards.into_iter().map(|id| (id, self.shard(id)));
            let shards: ById<_> = shards.collect();
            let read = self.hub.refresh::<DataRecord<T>>(&shards).await?;
            let mut heads = BTreeMap::new();
            for ((id, shard), read) in shards.iter().zip(read.into_values()) {
                let data = shard.data.lock().await;
                let head = || Head {
                    upper: data.record().upper().clone(),
                    schemas: data.record().schemas().to_vec(),
                    is_blank: is_blank(data.record()),
                };
                heads.insert(*id, read.map(|()| head()).map_err(StorageError::from));
            }
            Ok(heads)
        })
    }

    fn read(&self, shard: ShardId, from: Upper<T>) -> Later<'_, Result<Contents<T>, StorageError>> {
        Box::pin(async move { self.read_now(&self.shard(shard), &from).await })
    }

    fn wait_past(
        &self,
        shard: ShardId,
        frontier: Antichain<T>,
    ) -> Later<'_, Result<(), StorageError>> {
        Box::pin(async move {
            let shard = self.shard(shard);
            // What was read once is followed, for it stays used.
            if shard.upper().is_minimum() {
                self.hub.refresh_one::<DataRecord<T>>(&shard).await?;
            }
            shard.written_past(&frontier).await.map(drop)
        })
    }

    fn append(&self, appends: Vec<TableAppend<T>>) -> Later<'_, Vec<Result<(), WriteFault<T>>>> {
        Box::pin(async move {
            let control = match self.control() {
                Ok(control) => control,
                Err(fault) => return vec![Err(fault); appends.len()],
            };
            let order: Vec<ShardId> = appends.iter().map(|append| append.shard).collect();
            let appends = appends.into_iter().map(|append| (append.shard, append));
            let (mut left, mut outcomes) = (appends.collect(), ById::new());
            for _ in 0..TRIES_MAX {
                self.append_some(control, &mut left, &mut outcomes).await;
                if left.is_empty() {
                    break;
                }
            }
            let too_slow = || {
                let too_slow = StorageError::new(StorageErrorKind::Retry, TooSlow);
                Err(WriteFault::Storage(too_slow))
            };
            let outcome = |id| outcomes.remove(&id).unwrap_or_else(too_slow);
            order.into_iter().map(outcome).collect()
        })
    }

    fn add_schemas(
        &self,
        schemas: Vec<(ShardId, Schema)>,
    ) -> Later<'_, Result<(), (ShardId, SchemaFault<T>)>> {
        Box::pin(async move {
            let Some((first, _)) = schemas.first() else {
                return Ok(());
            };
            let control = self.control();
            let control = control.map_err(|fault| (*first, SchemaFault::Write(fault)))?;
            self.add_schemas_as(control, schemas).await
        })
    }

    fn take_charge(
        &self,
        txns: ShardId,
        reader: ReaderId,
        fence: Fence,
    ) -> Later<'_, Result<(), WriteFault<T>>> {
        Box::pin(async move {
            let control = Control {
                transactor: Transactor::new(Arc::clone(self.hub.store()), Some(fence)),
                reader,
                fence,
            };
            let added = self.add_schemas_as(&control, vec![(txns, txns_schema())]);
            added.await.map_err(|(_, fault)| match fault {
                SchemaFault::Refused(refusal) => WriteFault::Storage(give_up(refusal)),
                SchemaFault::Write(fault) => fault,
            })?;
            let take = |record: &SinceRecord<T>| take_charge(record, reader, fence.epoch);
            let shard = self.shard(txns);
            let taken = self.hub.write(&control.transactor, &shard, take);
            taken.await.map_err(refused_for_good)?;
            // Who was in charge before stays so: it was this process, too.
            let _ = self.control.set(control);
            Ok(())
        })
    }

    fn compact(&self, txns: ShardId) -> Later<'_, Result<(), WriteFault<T>>> {
        Box::pin(async move {
            let txns = self.shard(txns);
            self.merge(&txns).await?;
            self.collect_garbage(&txns).await
        })
    }

    fn downgrade(&self, shard: ShardId, since: Since<T>) -> Later<'_, Result<(), WriteFault<T>>> {
        Box::pin(async move {
            let control = self.control()?;
            let (reader, epoch) = (control.reader, control.fence.epoch);
            let downgrade = |record: &SinceRecord<T>| {
                record.compare_and_downgrade(reader, epoch, epoch, &since)
            };
            // Behind where it is, as after a restart that does not know what is applied: kept.
            let shard = self.shard(shard);
            let done = self.hub.write(&control.transactor, &shard, downgrade).await;
            done.map(drop).map_err(refused_for_good)
        })
    }
}

fn decide<T: TableTime>(
    append: &TableAppend<T>,
    contents: &[Content],
    record: &DataRecord<T>,
) -> Result<Decision<DataChange<T>, ()>, AppendError<T>> {
    let mut schemas = record.schemas().iter();
    let schema = schemas.position(|known| *known == append.schema);
    let schema = schema.and_then(|at| u32::try_from(at).ok());
    let schema = SchemaId::new(schema.ok_or(UnknownSchema(SchemaId::new(0)))?);
    let batch = NewBatch::new(
        append.lower.clone(),
        append.upper.clone(),
        append.updates.times(),
        with_schema(contents, schema),
    );
    let batch = batch.expect("what tables write lies between its bounds");
    let appended = record.compare_and_append(batch)?;
    Ok(Decision {
        changes: appended.changes,
        outcome: (),
    })
}

fn is_blank<T: TableTime>(record: &DataRecord<T>) -> bool {
    let mut batches = record.batches().iter();
    batches.all(|batch| batch.contents.is_empty())
}

fn refers_to<T>(batch: &Batch<T>, stored: &Stored) -> bool {
    let mut contents = batch.contents.iter();
    contents.any(|content| match content {
        Content::Inline(_) => false,
        Content::Stored(known) => known.part == stored.part,
    })
}

fn refused_schema<T: TableTime>(error: CommandError<SchemaRefusal>) -> SchemaFault<T> {
    match error {
        CommandError::Refused(refusal) => SchemaFault::Refused(refusal),
        other @ (CommandError::Fenced(_) | CommandError::Log(_) | CommandError::Store(_)) => {
            SchemaFault::Write(refused_for_good(other))
        }
    }
}

fn refused_append<T: TableTime>(error: CommandError<AppendError<T>>) -> WriteFault<T> {
    match error {
        CommandError::Refused(AppendError::UpperMismatch(mismatch)) => {
            WriteFault::Elsewhere(mismatch.actual)
        }
        other @ (CommandError::Refused(_)
        | CommandError::Fenced(_)
        | CommandError::Log(_)
        | CommandError::Store(_)) => refused_for_good(other),
    }
}

fn refused_for_good<T, E>(error: CommandError<E>) -> WriteFault<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match error {
        CommandError::Refused(refusal) => WriteFault::Storage(give_up(refusal)),
        CommandError::Fenced(fenced) => WriteFault::Fenced(fenced),
        CommandError::Log(error) => WriteFault::Storage(error.into()),
        CommandError::Store(trouble) => WriteFault::Storage(trouble.0.into()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("reading or writing parts took too long, again and again")]
struct TooSlow;
