//! What there is: the shards of a store, and what is in each.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::{ShardId, Since, StorageError, Upper};

use crate::id::{LogId, LogKind, ReaderId, SeqNo};
use crate::record::{Content, Critical, DataRecord, Leased, SinceRecord};
use crate::schema::Schema;
use crate::shards::Shards;
use crate::time::ShardTime;

/// How many names are asked for at a time.
const LOGS_AT_ONCE: usize = 10_000;

/// What is in a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection<T> {
    /// From when on it can be read.
    pub since: Since<T>,
    /// How far it is written.
    pub upper: Upper<T>,
    /// Who keeps it readable for good.
    pub critical: BTreeMap<ReaderId, Critical<T>>,
    /// Who keeps it readable as long as it is heard of.
    pub leased: BTreeMap<ReaderId, Leased<T>>,
    /// The versions of its schema, oldest first.
    pub schemas: Vec<Schema>,
    /// How many batches it consists of.
    pub batches: usize,
    /// How many updates are in them.
    pub updates: u64,
    /// How large those are that are in the record.
    pub inline_bytes: u64,
    /// How many parts it refers to.
    pub parts: u64,
    /// How large they are.
    pub part_bytes: u64,
    /// How many parts were replaced and are not deleted yet.
    pub garbage: u64,
    /// The latest version of its sinces, if there is one.
    pub since_version: Option<SeqNo>,
    /// The latest version of its data, if there is one.
    pub data_version: Option<SeqNo>,
    /// True iff it is gone for good.
    pub is_tombstone: bool,
}

impl<T> Inspection<T> {
    /// How large what is readable is, as it is stored.
    pub fn bytes_held(&self) -> u64 {
        self.inline_bytes + self.part_bytes
    }
}

impl<T: ShardTime> Shards<T> {
    /// All shards that the store knows, tombstones too.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn list(&self) -> Result<BTreeSet<ShardId>, StorageError> {
        let mut shards = BTreeSet::new();
        let mut after: Option<LogId> = None;
        loop {
            let names = self.store().list(after, LOGS_AT_ONCE).await?;
            after = names.last().copied();
            let of_shards = names.iter().filter(|log| log.kind != LogKind::Metadata);
            shards.extend(of_shards.map(|log| log.shard));
            if names.len() < LOGS_AT_ONCE {
                return Ok(shards);
            }
        }
    }

    /// What is in a shard, read from the store.
    ///
    /// # Errors
    ///
    /// If the store fails, or what it has cannot be read.
    pub async fn inspect(&self, id: ShardId) -> Result<Inspection<T>, StorageError> {
        let hub = &self.inner.hub;
        let shard = hub.shard(id);
        hub.refresh_one::<SinceRecord<T>>(&shard).await?;
        hub.refresh_one::<DataRecord<T>>(&shard).await?;
        let mut inspection = {
            let sinces = shard.sinces.lock().await;
            let record = sinces.record();
            Inspection {
                since: record.since().clone(),
                upper: Upper::minimum(),
                critical: record.critical().clone(),
                leased: record.leased().clone(),
                schemas: Vec::new(),
                batches: 0,
                updates: 0,
                inline_bytes: 0,
                parts: 0,
                part_bytes: 0,
                garbage: 0,
                since_version: sinces.seen(),
                data_version: None,
                is_tombstone: record.is_buried(),
            }
        };
        let data = shard.data.lock().await;
        inspection.data_version = data.seen();
        inspection.look_at(data.record());
        Ok(inspection)
    }
}

impl<T: ShardTime> Inspection<T> {
    fn look_at(&mut self, record: &DataRecord<T>) {
        self.upper = record.upper().clone();
        self.schemas = record.schemas().to_vec();
        self.batches = record.batches().len();
        self.garbage = record.garbage().len() as u64;
        for content in record.batches().iter().flat_map(|batch| &batch.contents) {
            self.updates += content.updates();
            match content {
                Content::Inline(inline) => self.inline_bytes += inline.bytes.len() as u64,
                Content::Stored(stored) => {
                    self.parts += 1;
                    self.part_bytes += stored.bytes;
                }
            }
        }
    }
}
