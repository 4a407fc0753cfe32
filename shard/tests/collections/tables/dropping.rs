//! Dropping tables: forgotten, and then their shards are finalized.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use lowwater::Upper;
use lowwater_shard::collections::{
    Allotment, DropTablesError, Finalization, FinalizerStats, Unfinalized, WriteTableError,
};
use lowwater_shard::metadata::MetadataTransaction;

use super::super::world::*;
use super::*;

#[test]
fn a_table_is_forgotten_at_a_time_and_only_then_its_shard_is_finalized() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        commit(&controller, 10, [(1, 7), (2, 8)]).await;
        let (shard, stays) = (controller.shard(1), controller.shard(2));
        let _ = controller.prepare(&[], &[1]).await;
        let refused = collections.drop_tables(&10, vec![1]).await.unwrap_err();
        assert!(
            matches!(&refused, DropTablesError::Passed(passed) if passed.upper == Upper::at(11)),
            "{refused}"
        );
        assert!(collections.exists(1));
        collections.drop_tables(&20, vec![1]).await.unwrap();
        assert!(!collections.exists(1));
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
        let tables = collections.tables().unwrap();
        assert_eq!(tables.upper(), Upper::at(21));
        assert!(tables.needs(stays).await.unwrap());
        assert!(!tables.needs(shard).await.unwrap());
        commit(&controller, 30, [(2, 9)]).await;
        assert_eq!(read(&controller, 2, 30).await, [8, 9]);
    }));
}

#[test]
fn a_table_that_is_dropped_like_others_is_forgotten_with_the_next_time_that_is_closed() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        commit(&controller, 10, [(1, 7)]).await;
        let shard = controller.shard(1);
        let held = collections.acquire(&[1]).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        let mut late = collections.begin().unwrap();
        late.write(1, batch([9]), vec![1]).unwrap();
        collections.drop_collections(vec![1]).await.unwrap();
        let refused = collections.begin().unwrap().write(1, batch([9]), vec![1]);
        assert_eq!(refused.unwrap_err(), WriteTableError::UnknownCollection(1));
        // While somebody holds it, it is a table: it goes on as all others do.
        controller.until(|stats| stats.failed >= 2).await;
        collections.advance(&20).await.unwrap();
        let tables = collections.tables().unwrap();
        assert!(tables.state().await.is_registered(shard));
        drop(held);
        let is_table =
            |stats: &FinalizerStats| matches!(stats.blocked.get(&shard), Some(Unfinalized::Table));
        controller.until(is_table).await;
        assert!(tables.state().await.is_registered(shard));
        // Nothing is closed for it: only what is closed anyway.
        assert_eq!(tables.fetch_upper().await.unwrap(), Upper::at(21));
        comes_true("all is applied", async || {
            tables.state().await.oldest_unapplied().is_none()
        })
        .await;
        collections.advance(&30).await.unwrap();
        assert!(!tables.state().await.is_registered(shard));
        assert!(
            late.commit_at(&40).await.is_err(),
            "it is no table any more"
        );
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn what_is_committed_and_not_applied_blocks_finalization_until_it_is() {
    run(on_each(|store| async move {
        let mut slow = quick();
        slow.apply_interval = std::time::Duration::from_secs(3_600);
        slow.finalization.enabled = false;
        let first = Controller::start_with(&store, slow).await;
        let _ = first.initialize(&ids([1, 2]), &ids([])).await;
        let _ = first.collections.create(Some(5), both()).await.unwrap();
        // The first is applied at once, what comes soon after it is not.
        commit(&first, 10, [(1, 7)]).await;
        commit(&first, 11, [(1, 8)]).await;
        let shard = first.shard(1);
        let _ = first.prepare(&[], &[1]).await;
        drop(first);
        // The tables are not even opened yet.
        let second = Controller::start_with(&store, quick()).await;
        let mut transaction = second.metadata.begin().await.unwrap();
        let prepared = second
            .collections
            .initialize(&mut transaction, &ids([2]), &ids([]))
            .unwrap();
        transaction.commit().await.unwrap();
        let _ = prepared.committed();
        let is_table =
            |stats: &FinalizerStats| matches!(stats.blocked.get(&shard), Some(Unfinalized::Table));
        second.until(is_table).await;
        second.collections.open_tables(ids([])).await.unwrap();
        let tries = second.collections.finalizer_stats().failed;
        second.until(|stats| stats.failed > tries + 1).await;
        assert!(!second.sinces(shard).await.is_buried());
        let tables = second.collections.tables().unwrap();
        assert!(tables.needs(shard).await.unwrap());
        let mut at = 20;
        while second.collections.finalizer_stats().succeeded == 0 {
            second.collections.advance(&at).await.unwrap();
            at += 1;
        }
        assert!(second.sinces(shard).await.is_buried());
        assert!(!tables.needs(shard).await.unwrap());
    }));
}

/// A row with this in both of its columns.
fn wide(value: i64) -> RecordBatch {
    let column = || Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    RecordBatch::try_new(columns(&["a", "b"]).arrow(), vec![column(), column()]).unwrap()
}

#[test]
fn of_two_versions_of_a_table_one_is_dropped_and_the_other_is_written_on() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        let (old, next) = (columns(&["a"]), columns(&["a", "b"]));
        commit(&controller, 9, [(1, 1)]).await;
        collections
            .alter_table_schema(1, &old, &next)
            .await
            .unwrap();
        let shared = Allotment::Shared(1);
        let _ = controller.prepare_with(vec![(3, shared)], &[]).await;
        let mut version = new(3, Kind::Table);
        version.description.schema = next.clone();
        let _ = collections.create(Some(10), vec![version]).await.unwrap();
        let shard = controller.shard(1);
        assert_eq!(controller.shard(3), shard);
        // Both are written, each with the columns that it has.
        commit(&controller, 11, [(1, 2)]).await;
        let mut transaction = collections.begin().unwrap();
        transaction.write(3, wide(3), vec![1]).unwrap();
        transaction.commit_at(&12).await.unwrap();
        assert_eq!(read(&controller, 3, 12).await, [1, 2, 3]);
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_tables(&20, vec![1]).await.unwrap();
        assert_eq!(collections.tables().unwrap().upper(), Upper::at(21));
        let mut transaction = collections.begin().unwrap();
        transaction.write(3, wide(4), vec![1]).unwrap();
        transaction.commit_at(&22).await.unwrap();
        assert_eq!(read(&controller, 3, 22).await, [1, 2, 3, 4]);
        assert_eq!(collections.finalizer_stats().outstanding, 0);
        let _ = controller.prepare(&[], &[3]).await;
        collections.drop_tables(&30, vec![3]).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn the_shard_of_the_transactions_is_never_finalized_whatever_a_list_says() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        let txns = collections.tables().unwrap().txns_shard();
        let mut transaction = controller.metadata.begin().await.unwrap();
        // Whoever lists it is contradicted at once, or by the next who looks.
        if transaction.add_unfinalized(txns).is_ok() {
            transaction.commit().await.unwrap();
        }
        let plan = controller.prepare(&[], &[]).await;
        assert!(!plan.unfinalized.contains(&txns));
        collections.change_finalization(Finalization::default());
        commit(&controller, 10, [(1, 7)]).await;
        assert!(!controller.sinces(txns).await.is_buried());
        assert_eq!(controller.waiting().await.len(), 0);
    }));
}
