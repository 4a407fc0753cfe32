//! Tables on the stores.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

mod place;
mod tables {
    mod crashing;
    mod growing;
    mod restarting;
    mod sharing;
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use lowwater::{ShardId, Upper};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::unreliable::{Fault, UnreliableConsensus};
use lowwater_shard::consensus::{Consensus, Fence, MemoryConsensus};
use lowwater_shard::record::{Content, DataRecord};
use lowwater_shard::tables::{Access, Apply, CommitRefusal, Tables, TablesError};
use lowwater_shard::{Column, ColumnKind, Epoch, Incarnation, Log, Nonce, Parts, ReaderId, Schema};
use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::time::timeout;

const READER: ReaderId = ReaderId::new(1);
const TXNS: ShardId = ShardId::new(100);
const A: ShardId = ShardId::new(1);
const B: ShardId = ShardId::new(2);

/// Nothing here takes that long, but for what hangs.
const LONG: Duration = Duration::from_secs(60);

type Store = Arc<dyn Consensus>;

fn schema() -> Schema {
    let value = Column {
        name: "value".to_owned(),
        kind: ColumnKind::Int64,
        nullable: false,
    };
    Schema::new(vec![value]).unwrap()
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(epoch.into()),
    }
}

fn control(epoch: u64, in_background: bool) -> Access {
    Access::Control {
        reader: READER,
        fence: fence(epoch),
        apply: match in_background {
            true => Apply::InBackground {
                every: Duration::ZERO,
            },
            false => Apply::ByHand,
        },
    }
}

async fn open(store: &Store, access: Access) -> Tables<u64> {
    let (runtime, store) = (Handle::current(), Arc::clone(store));
    let opened = Tables::open(&runtime, store, Parts::memory(), TXNS, access).await;
    opened.unwrap()
}

/// The tables of a controller that has taken over with this epoch.
async fn take_over(store: &Store, epoch: u64, in_background: bool) -> Tables<u64> {
    store.take_over(fence(epoch)).await.unwrap().unwrap();
    open(store, control(epoch, in_background)).await
}

type Writes<'a> = &'a [(ShardId, &'a [i64])];
type Commit = Result<Upper<u64>, TablesError<CommitRefusal<u64>>>;

async fn commit(tables: &Tables<u64>, at: u64, writes: Writes<'_>) -> Commit {
    let mut transaction = tables.begin();
    let schema = schema();
    for (table, values) in writes {
        let diffs = vec![1; values.len()];
        let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let rows = RecordBatch::try_new(schema.arrow(), vec![values]).unwrap();
        transaction.write(*table, &schema, rows, diffs).unwrap();
    }
    transaction.commit_at(&at).await
}

async fn read(tables: &Tables<u64>, table: ShardId, as_of: u64) -> Vec<i64> {
    let read = timeout(LONG, tables.snapshot(table, &as_of)).await;
    let read = read.expect("it hangs").unwrap();
    let Some(column) = read.rows().columns().first() else {
        return Vec::new();
    };
    let values = column.as_primitive::<Int64Type>().values().iter();
    let copies = values.zip(read.diffs());
    let copies =
        copies.map(|(value, diff)| std::iter::repeat_n(*value, usize::try_from(*diff).unwrap()));
    let mut values: Vec<i64> = copies.flatten().collect();
    values.sort_unstable();
    values
}

fn both() -> [(ShardId, Schema); 2] {
    [(A, schema()), (B, schema())]
}

fn memory() -> Store {
    Arc::new(MemoryConsensus::new())
}
