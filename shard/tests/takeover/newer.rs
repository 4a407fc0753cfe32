//! The newer controller, which takes over while the older one is stopped.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use lowwater::ShardId;
use lowwater_shard::collections::{Collections, Kind, take_over};
use lowwater_shard::consensus::Consensus;
use lowwater_shard::metadata::{MetadataTransaction, StoredMetadata};
use lowwater_shard::tables::Tables;
use lowwater_shard::{Parts, Updates};
use tempfile::TempDir;

use super::calls::Call;
use super::older::{A, B, LONG, TXNS, new, quick, run, shards, tables};
use super::process::{Errand, Process};
use super::records::{Everything, check_parts};
use super::stopping::Place;
use super::store::Store;

/// Stops the older one before and after each write of a call, each time on another store.
pub(crate) fn stopped_at_each_write_of<S: Store>(
    call: Call,
    writes_min: usize,
    new_store: impl Fn() -> Option<S>,
) {
    for place in [Place::Before, Place::After] {
        let mut writes = 0;
        while let Some(store) = new_store() {
            if !stopped_at(&store, call, writes, place) {
                assert!(writes >= writes_min, "{call:?} has only {writes} writes");
                break;
            }
            writes += 1;
        }
    }
}

/// False if there are no more writes than those that are let through.
fn stopped_at(store: &impl Store, call: Call, writes: usize, place: Place) -> bool {
    let parts = TempDir::new().unwrap();
    let mut older = Process::start(&Errand {
        address: &store.address(),
        direct: &store.address(),
        parts: parts.path(),
        call,
        writes,
        place: format!("{place:?}"),
    });
    assert_eq!(older.hear(), "begin");
    older.tell("go on");
    if !older.is_stopped_before_it_is_over() {
        return false;
    }
    let (by, before) = run(async {
        let store = store.open().await;
        let taken = take_over(&*store, None).await.unwrap();
        (taken.fence.epoch, Everything::in_store(&*store).await)
    });
    older.wake();
    older.tell(&by.to_string());
    older.ends_well();
    let changed = run(async {
        let store = store.open().await;
        before.changed(&Everything::in_store(&*store).await)
    });
    let none: Vec<String> = Vec::new();
    assert_eq!(changed, none, "{call:?}, {place:?} write {writes}");
    run(check_parts(store, parts.path()));
    run(goes_on(store, parts.path()));
    true
}

/// Whatever the older one has left, the next one goes on from there.
pub(crate) async fn goes_on(store: &impl Store, parts: &Path) {
    let (store, parts) = (store.open().await, Parts::folder(parts).unwrap());
    let collections = shards(Arc::clone(&store), &parts);
    let collections = Collections::<u64, u64>::start(&collections, quick()).await;
    let collections = collections.unwrap();
    let fence = collections.fence().unwrap();
    let metadata = StoredMetadata::<u64>::new(Arc::clone(&store), Some(fence));
    let mut transaction = metadata.begin().await.unwrap();
    let existing = transaction.owned().unwrap().into_iter();
    let existing: BTreeSet<u64> = existing.map(|(id, _)| id).collect();
    let prepared = collections.initialize(&mut transaction, &existing, &BTreeSet::new());
    let prepared = prepared.unwrap();
    transaction.commit().await.unwrap();
    let given_up = prepared.committed().unfinalized;
    collections.open_tables(BTreeSet::new()).await.unwrap();
    let batch = existing.iter().filter(|id| **id != 3);
    let batch = batch.map(|id| new(*id, Kind::Compute)).collect();
    let _ = collections.create(None, batch).await.unwrap();
    let began = std::time::Instant::now();
    while collections.finalizer_stats().succeeded != given_up.len() as u64 {
        let stats = collections.finalizer_stats();
        assert!(began.elapsed() < LONG, "{given_up:?}: {stats:?}");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    collections.stop().await.unwrap();
    check_tables(store, &parts, fence).await;
}

/// What was committed is there, in all tables or in none.
async fn check_tables(
    store: Arc<dyn Consensus>,
    parts: &Parts,
    fence: lowwater_shard::consensus::Fence,
) {
    let tables = tables(store, parts, TXNS, fence).await.unwrap();
    assert_eq!(read(&tables, A, 5).await, [1, 2]);
    assert_eq!(read(&tables, B, 5).await, [3]);
    let upper = tables.advance(&1_000).await.unwrap();
    assert!(!upper.frontier().less_equal(&1_000));
    tables.apply_through(&1_000).await.unwrap();
    let (a, b) = (read(&tables, A, 6).await, read(&tables, B, 6).await);
    assert_eq!(a.contains(&60), b.contains(&60), "{a:?} {b:?}");
}

async fn read(tables: &Tables<u64>, table: ShardId, as_of: u64) -> Vec<i64> {
    values(&tables.snapshot(table, &as_of).await.unwrap())
}

/// What is in the first column, in order.
pub(crate) fn values(read: &Updates<u64>) -> Vec<i64> {
    let Some(column) = read.rows().columns().first() else {
        return Vec::new();
    };
    let mut values = column.as_primitive::<Int64Type>().values().to_vec();
    values.sort_unstable();
    values
}
