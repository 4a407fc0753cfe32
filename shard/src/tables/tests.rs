//! Tables over shards that can be stopped after every durable step.

mod committing;
mod reading;
mod registering;
mod background;
mod subscribing;
mod crashing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use lowwater::{ShardId, Since, StorageErrorKind, Upper};
use proptest::prelude::*;
use timely::progress::Antichain;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::consensus::Fence;
use crate::id::{Epoch, Incarnation};
use crate::schema::{Column, ColumnKind, Schema};
use crate::updates::Updates;

use super::cache::Cache;
use super::handle::Mode;
use super::memory::MemoryTables;
use super::store::{TableAppend, TableStore};
use super::*;

const TXNS: ShardId = ShardId::new(100);
const A: ShardId = ShardId::new(1);
const B: ShardId = ShardId::new(2);

const NOTHING: [i64; 0] = [];

/// Nothing here takes that long, but for what hangs.
const LONG: Duration = Duration::from_secs(3_600);

fn schema() -> Schema {
    Schema::new(vec![column("value", false)]).unwrap()
}

fn column(name: &str, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind: ColumnKind::Int64,
        nullable,
    }
}

fn rows(values: &[i64]) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(schema().arrow(), vec![values]).unwrap()
}

fn values(updates: &Updates<u64>) -> Vec<(i64, u64, i64)> {
    let Some(column) = updates.rows().columns().first() else {
        return Vec::new();
    };
    let values = column.as_primitive::<Int64Type>().values().iter();
    let rest = updates.times().iter().zip(updates.diffs());
    let all = values.zip(rest);
    let mut all: Vec<_> = all
        .map(|(value, (at, diff))| (*value, *at, *diff))
        .collect();
    all.sort_unstable();
    all
}

async fn open(store: &MemoryTables<u64>, mode: Mode) -> Tables<u64> {
    let store = Arc::new(store.clone());
    Tables::open_on(&Handle::current(), store, TXNS, mode, Arc::default())
        .await
        .unwrap()
}

/// Tables A and B, registered at 1.
async fn registered(store: &MemoryTables<u64>, mode: Mode) -> Tables<u64> {
    let tables = open(store, mode).await;
    let both = [(A, schema()), (B, schema())];
    assert_eq!(tables.register(&1, &both).await.unwrap(), Upper::at(2));
    tables
}

/// What somebody appends who does not know of transactions: values, each at its time.
async fn append(
    store: &MemoryTables<u64>,
    shard: ShardId,
    lower: u64,
    upper: u64,
    values: &[(i64, u64)],
) {
    let (values, times): (Vec<_>, Vec<_>) = values.iter().copied().unzip();
    let diffs = vec![1; times.len()];
    let append = TableAppend {
        shard,
        schema: schema(),
        lower: Upper::at(lower),
        upper: Upper::at(upper),
        updates: Updates::new(rows(&values), times, diffs).unwrap(),
    };
    store.append(vec![append]).await.remove(0).unwrap();
}

type Writes<'a> = &'a [(ShardId, &'a [i64])];

async fn transaction(tables: &Tables<u64>, writes: Writes<'_>) -> Transaction<u64> {
    let mut transaction = tables.begin();
    for (table, values) in writes {
        let diffs = vec![1; values.len()];
        let schema = schema();
        transaction
            .write(*table, &schema, rows(values), diffs)
            .unwrap();
    }
    transaction
}

async fn commit(tables: &Tables<u64>, at: u64, writes: Writes<'_>) {
    let mut transaction = transaction(tables, writes).await;
    let upper = transaction.commit_at(&at).await.unwrap();
    assert_eq!(upper, Upper::at(at + 1));
}

async fn read(tables: &Tables<u64>, table: ShardId, as_of: u64) -> Vec<i64> {
    let read = timeout(LONG, tables.snapshot(table, &as_of)).await;
    let read = read.expect("it hangs").unwrap();
    let values = values(&read);
    assert!(values.iter().all(|(_, at, diff)| *at == as_of && *diff > 0));
    let copies = |(value, _, diff)| std::iter::repeat_n(value, usize::try_from(diff).unwrap());
    values.into_iter().flat_map(copies).collect()
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(epoch.into()),
    }
}
