//! Tables on the shards of a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use parking_lot::Mutex;
use timely::progress::Antichain;
use tokio::runtime::Handle;

use crate::consensus::{Consensus, Fence, Fenced};
use crate::hub::{ById, Hub, Shard};
use crate::id::{ReaderId, SchemaId};
use crate::inline;
use crate::record::{
    AppendError, Batch, Content, DataChange, DataRecord, Decision, Inline, NewBatch, SinceRecord,
    UnknownSchema,
};
use crate::schema::Schema;
use crate::storage::take_charge;
use crate::transact::{CommandError, Transactor};
use crate::updates::Updates;

use super::encoding::txns_schema;
use super::error::{ApplyError, give_up, write_trouble};
use super::handle::{Mode, Tables};
use super::store::{
    Contents, Head, Heads, Later, SchemaFault, TableAppend, TableStore, WriteFault,
};
use super::time::TableTime;

/// The latest batches of the txns shard, that are left as they are: who has read up to one of them
/// reads on from there, and does not have to begin anew.
const BATCHES_LEFT: usize = 8;

/// How many batches are merged at least.
const BATCHES_MERGED: usize = 16;

/// What a process may do with tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is the controller that is in charge of the store.
    Control {
        /// The name of the controller's critical sinces, the same through all its incarnations.
        reader: ReaderId,
        /// What it has [taken over](Consensus::take_over) the store with.
        fence: Fence,
        /// Whether what was committed is applied in the background, and the txns shard let go of;
        /// otherwise only when it is asked for.
        in_background: bool,
    },
    /// It reads, and writes nothing: not even for a reader who would be helped by it.
    ReadOnly,
}

impl<T: TableTime> Tables<T> {
    /// The tables that this shard of a store carries the transactions of. Reads what they are; their
    /// uppers start at that of the txns shard.
    ///
    /// # Errors
    ///
    /// If another controller is in charge of the store; if it fails, or what it has cannot be read.
    pub async fn open(
        runtime: &Handle,
        store: Arc<dyn Consensus>,
        txns: ShardId,
        access: Access,
    ) -> Result<Self, ApplyError> {
        let hub = Hub::spawn(runtime, store);
        let shards = Arc::new(ShardTables::new(hub, txns, access));
        let mode = match access {
            Access::Control {
                in_background: true,
                ..
            } => Mode::Background,
            Access::Control { .. } => Mode::ByHand,
            Access::ReadOnly => Mode::ReadOnly,
        };
        if mode != Mode::ReadOnly {
            let taken = shards.take_txns(txns).await;
            taken.map_err(write_trouble)?;
        }
        Ok(Tables::open_on(runtime, shards, txns, mode).await?)
    }
}

/// What tables need of shards, by the shards of a store.
#[derive(Debug)]
struct ShardTables<T: TableTime> {
    hub: Arc<Hub<T>>,
    /// Writes as the controller; `None` if nothing is to be written.
    control: Option<Control>,
    /// What is used stays read.
    used: Mutex<ById<Arc<Shard<T>>>>,
}

#[derive(Debug)]
struct Control {
    transactor: Transactor,
    reader: ReaderId,
    fence: Fence,
}

/// A [`TableAppend`] whose updates are encoded.
struct Encoded<T> {
    append: TableAppend<T>,
    contents: Vec<Content>,
}

impl<T: TableTime> ShardTables<T> {
    fn new(hub: Arc<Hub<T>>, txns: ShardId, access: Access) -> Self {
        let control = match access {
            Access::Control { reader, fence, .. } => Some(Control {
                transactor: Transactor::new(Arc::clone(hub.store()), Some(fence)),
                reader,
                fence,
            }),
            Access::ReadOnly => None,
        };
        let used = Mutex::new(ById::from([(txns, hub.shard(txns))]));
        ShardTables { hub, control, used }
    }

    /// Prepares the txns shard to be written and let go of.
    async fn take_txns(&self, txns: ShardId) -> Result<(), WriteFault<T>> {
        let added = self.add_schema(txns, txns_schema()).await;
        added.map_err(|fault| match fault {
            SchemaFault::Refused(refusal) => WriteFault::Storage(give_up(refusal)),
            SchemaFault::Write(fault) => fault,
        })?;
        let control = self.control()?;
        let (reader, epoch) = (control.reader, control.fence.epoch);
        let shard = self.shard(txns);
        let take = |record: &SinceRecord<T>| take_charge(record, reader, epoch);
        let opened = self.hub.write(&control.transactor, &shard, take);
        opened.await.map(drop).map_err(refused_for_good)
    }

    fn control(&self) -> Result<&Control, WriteFault<T>> {
        let nobody = || WriteFault::Fenced(Fenced { by: None });
        self.control.as_ref().ok_or_else(nobody)
    }

    fn shard(&self, id: ShardId) -> Arc<Shard<T>> {
        let mut used = self.used.lock();
        // What is written to its end will hardly be used again.
        used.retain(|_, shard| !shard.upper().is_sealed());
        let shard = used.entry(id).or_insert_with(|| self.hub.shard(id));
        Arc::clone(shard)
    }

    async fn read_since(&self, shard: &Arc<Shard<T>>) -> Result<Since<T>, StorageError> {
        self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
        Ok(shard.sinces.lock().await.record().since().clone())
    }

    async fn read_now(
        &self,
        shard: &Arc<Shard<T>>,
        from: Upper<T>,
    ) -> Result<Contents<T>, StorageError> {
        self.hub.refresh_one::<DataRecord<T>>(shard).await?;
        let data = shard.data.lock().await;
        let record = data.record();
        let (lower, first) = match cut_at(record, &from) {
            Some(first) => (from, first),
            None => (Upper::minimum(), 0),
        };
        let batches: Vec<Batch<T>> = record.batches()[first..].to_vec();
        let (upper, schemas) = (record.upper().clone(), record.schemas().to_vec());
        drop(data);
        let updates = decode_all(&batches, &schemas)?;
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

    async fn append_now(
        &self,
        appends: Vec<TableAppend<T>>,
    ) -> Result<Vec<Result<(), WriteFault<T>>>, WriteFault<T>> {
        let control = self.control()?;
        let mut outcomes = BTreeMap::new();
        let mut encoded = ById::new();
        let order: Vec<ShardId> = appends.iter().map(|append| append.shard).collect();
        for append in appends {
            match encode(append) {
                Ok(append) => drop(encoded.insert(append.append.shard, append)),
                Err((shard, error)) => drop(outcomes.insert(shard, Err(error))),
            }
        }
        let commands = encoded.iter().map(|(id, append)| {
            let command = |record: &DataRecord<T>| append.decide(record);
            (*id, (self.shard(*id), command))
        });
        let done = self.hub.write_as(&control.transactor, commands.collect());
        for (id, done) in done.await {
            outcomes.insert(id, done.map_err(refused_append));
        }
        let outcome = |id: ShardId| outcomes.remove(&id).unwrap_or(Ok(()));
        Ok(order.into_iter().map(outcome).collect())
    }
}

impl<T: TableTime> ShardTables<T> {
    /// Merges batches into one, but for the latest, where other processes may be.
    async fn compact_now(&self, shard: &Arc<Shard<T>>) -> Result<(), WriteFault<T>> {
        let control = self.control()?;
        let since = self.read_since(shard).await.map_err(WriteFault::Storage)?;
        let data = shard.data.lock().await;
        let batches = worth_merging(data.record().batches());
        let [first, .., last] = batches else {
            return Ok(());
        };
        let (first, last) = (first.id, last.id);
        let schemas = data.record().schemas().to_vec();
        let merged = decode_all(batches, &schemas);
        drop(data);
        let mut merged = merged.map_err(WriteFault::Storage)?;
        merged.advance(&since);
        let merged = merged.consolidate();
        let (Some(schema), Ok(newest)) = (schemas.last(), u32::try_from(schemas.len() - 1)) else {
            return Ok(());
        };
        let contents = contents(&merged, schema).map_err(WriteFault::Storage)?;
        let contents = contents
            .iter()
            .map(|content| of_schema(content, SchemaId::new(newest)));
        let contents: Vec<Content> = contents.collect();
        let compact =
            |record: &DataRecord<T>| record.compact(first, last, since.clone(), contents.clone());
        match self.hub.write(&control.transactor, shard, compact).await {
            // Somebody else was faster.
            Ok(_) | Err(CommandError::Refused(_)) => Ok(()),
            Err(error) => Err(refused_for_good(error)),
        }
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
                };
                heads.insert(*id, read.map(|()| head()).map_err(StorageError::from));
            }
            Ok(heads)
        })
    }

    fn read(&self, shard: ShardId, from: Upper<T>) -> Later<'_, Result<Contents<T>, StorageError>> {
        Box::pin(async move { self.read_now(&self.shard(shard), from).await })
    }

    fn wait_past(
        &self,
        shard: ShardId,
        frontier: Antichain<T>,
    ) -> Later<'_, Result<(), StorageError>> {
        Box::pin(async move {
            let shard = self.shard(shard);
            self.hub.refresh_one::<DataRecord<T>>(&shard).await?;
            let past = shard.written_past(&frontier).await;
            past.map(drop)
                .map_err(|stopped| StorageError::new(StorageErrorKind::GiveUp, stopped))
        })
    }

    fn append(&self, appends: Vec<TableAppend<T>>) -> Later<'_, Vec<Result<(), WriteFault<T>>>> {
        Box::pin(async move {
            let count = appends.len();
            match self.append_now(appends).await {
                Ok(outcomes) => outcomes,
                Err(fault) => vec![Err(fault); count],
            }
        })
    }

    fn add_schema(&self, shard: ShardId, schema: Schema) -> Later<'_, Result<(), SchemaFault<T>>> {
        Box::pin(async move {
            let control = self.control().map_err(SchemaFault::Write)?;
            let shard = self.shard(shard);
            let add = |record: &DataRecord<T>| record.register_schema(&schema);
            let added = self.hub.write(&control.transactor, &shard, add).await;
            added.map(drop).map_err(|error| match error {
                CommandError::Refused(refusal) => SchemaFault::Refused(refusal),
                other => SchemaFault::Write(refused_for_good(other)),
            })
        })
    }

    fn compact(&self, shard: ShardId) -> Later<'_, Result<(), WriteFault<T>>> {
        Box::pin(async move { self.compact_now(&self.shard(shard)).await })
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

impl<T: TableTime> Encoded<T> {
    fn decide(
        &self,
        record: &DataRecord<T>,
    ) -> Result<Decision<DataChange<T>, ()>, AppendError<T>> {
        let TableAppend {
            schema,
            lower,
            upper,
            updates,
            ..
        } = &self.append;
        let known = record.schemas().iter().position(|known| known == schema);
        let id = known.and_then(|at| u32::try_from(at).ok());
        let id = SchemaId::new(id.ok_or(UnknownSchema(SchemaId::new(0)))?);
        let contents = self.contents.iter().map(|content| of_schema(content, id));
        let batch = NewBatch::new(
            lower.clone(),
            upper.clone(),
            updates.times(),
            contents.collect(),
        );
        let batch = batch.expect("what tables write lies between its bounds");
        let appended = record.compare_and_append(batch)?;
        Ok(Decision {
            changes: appended.changes,
            outcome: (),
        })
    }
}

/// Where the batches are cut at an upper.
fn cut_at<T: TableTime>(record: &DataRecord<T>, from: &Upper<T>) -> Option<usize> {
    let batches = record.batches();
    let cut = batches.iter().position(|batch| batch.lower == *from);
    cut.or_else(|| (record.upper() == from).then_some(batches.len()))
}

/// The batches that are merged next: those since the last merge, or all of them once they have
/// become as large as what was merged, so that what is written over and over is in proportion to
/// what is new.
fn worth_merging<T>(batches: &[Batch<T>]) -> &[Batch<T>] {
    let Some(old) = batches.len().checked_sub(BATCHES_LEFT) else {
        return &[];
    };
    if old < BATCHES_MERGED {
        return &[];
    }
    let size = |batches: &[Batch<T>]| -> usize {
        let contents = batches.iter().flat_map(|batch| &batch.contents);
        contents.map(content_bytes).sum()
    };
    let first = if size(&batches[..1]) > size(&batches[1..old]) {
        1
    } else {
        0
    };
    &batches[first..old]
}

fn content_bytes(content: &Content) -> usize {
    match content {
        Content::Inline(inline) => inline.bytes.len(),
        Content::Stored(stored) => usize::try_from(stored.bytes).unwrap_or(usize::MAX),
    }
}

fn encode<T: TableTime>(append: TableAppend<T>) -> Result<Encoded<T>, (ShardId, WriteFault<T>)> {
    match contents(&append.updates, &append.schema) {
        Ok(contents) => Ok(Encoded { append, contents }),
        Err(error) => Err((append.shard, WriteFault::Storage(error))),
    }
}

fn contents<T: TableTime>(
    updates: &Updates<T>,
    schema: &Schema,
) -> Result<Vec<Content>, StorageError> {
    if updates.is_empty() {
        return Ok(Vec::new());
    }
    let inline = Inline {
        schema: SchemaId::new(0),
        updates: updates.len() as u64,
        bytes: inline::encode(updates, schema).map_err(give_up)?,
    };
    Ok(vec![Content::Inline(inline)])
}

/// The number of a schema is known only when the record is.
fn of_schema(content: &Content, schema: SchemaId) -> Content {
    match content {
        Content::Inline(inline) => Content::Inline(Inline {
            schema,
            ..inline.clone()
        }),
        Content::Stored(stored) => Content::Stored(crate::record::Stored {
            schema,
            ..stored.clone()
        }),
    }
}

fn decode_all<T: TableTime>(
    batches: &[Batch<T>],
    schemas: &[Schema],
) -> Result<Updates<T>, StorageError> {
    let mut all = Vec::new();
    for content in batches.iter().flat_map(|batch| &batch.contents) {
        let schema = usize::try_from(content.schema().number()).ok();
        let schema = schema.and_then(|at| schemas.get(at));
        let schema = schema.ok_or_else(|| give_up(UnknownSchema(content.schema())))?;
        match content {
            Content::Inline(inline) => {
                all.push(inline::decode(&inline.bytes, schema).map_err(give_up)?);
            }
            Content::Stored(_) => return Err(give_up(NoParts)),
        }
    }
    let nothing = Schema::new(Vec::new()).expect("no column occurs twice");
    Updates::concat(all, schemas.last().unwrap_or(&nothing)).map_err(give_up)
}

#[derive(Debug, thiserror::Error)]
#[error("the shard has parts, and nobody has said where parts are")]
struct NoParts;

fn refused_append<T: TableTime>(error: CommandError<AppendError<T>>) -> WriteFault<T> {
    match error {
        CommandError::Refused(AppendError::UpperMismatch(mismatch)) => {
            WriteFault::Elsewhere(mismatch.actual)
        }
        CommandError::Refused(AppendError::PartExpired(expired)) => {
            WriteFault::Storage(StorageError::new(StorageErrorKind::Retry, expired))
        }
        other => refused_for_good(other),
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
