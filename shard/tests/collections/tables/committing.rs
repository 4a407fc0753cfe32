//! Registering tables, and committing to them.

use std::collections::BTreeSet;

use lowwater::{ReadPolicy, Since, StopReason, StorageErrorKind, Upper};
use lowwater_shard::collections::{
    CollectionRefusal, CommitTablesError, CreateCollectionsError, Kind, OpenTablesError,
    TableTrouble, WriteTableError,
};

use super::super::world::*;
use super::*;

#[test]
fn what_is_committed_to_several_tables_is_seen_together_and_the_engine_hears_of_it() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        let mut transaction = collections.begin().unwrap();
        transaction.write(1, batch([1, 2]), vec![1, 1]).unwrap();
        transaction.write(2, batch([3]), vec![1]).unwrap();
        assert_eq!(transaction.commit_at(&10).await.unwrap(), Upper::at(11));
        for id in [1, 2] {
            let table = collections.client().collection(id).unwrap();
            within(table.wait_for_upper_past([10])).await.unwrap();
        }
        assert_eq!(read(&controller, 1, 10).await, [1, 2]);
        assert_eq!(read(&controller, 2, 10).await, [3]);
        assert_eq!(read(&controller, 2, 9).await, [0; 0]);
        assert_eq!(collections.advance(&20).await.unwrap(), Upper::at(21));
        let table = collections.client().collection(2).unwrap();
        within(table.wait_for_upper_past([20])).await.unwrap();
        // Its policy follows: what is not written to is let go of as time passes.
        within(table.wait_for_since_past([10])).await.unwrap();
    }));
}

#[test]
fn a_time_that_has_passed_is_refused_with_the_first_that_has_not() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        assert_eq!(collections.advance(&7).await.unwrap(), Upper::at(8));
        let mut transaction = collections.begin().unwrap();
        transaction.write(1, batch([1]), vec![1]).unwrap();
        let refused = transaction.commit_at(&7).await.unwrap_err();
        assert!(
            matches!(&refused, CommitTablesError::Passed(passed) if passed.upper == Upper::at(8)),
            "{refused}"
        );
        let _ = controller.prepare(&[3], &[]).await;
        let late = collections.create(Some(7), vec![new(3, Kind::Table)]).await;
        let refused = late.unwrap_err();
        assert!(
            matches!(&refused, CreateCollectionsError::Passed(passed) if passed.upper == Upper::at(8)),
            "{refused}"
        );
        assert!(!collections.exists(3));
        transaction.commit_at(&8).await.unwrap();
        assert_eq!(read(&controller, 1, 8).await, [1]);
        // What is there already is nothing new, whatever the time.
        let again = vec![new(1, Kind::Table), new(2, Kind::Table)];
        let _ = collections.create(Some(5), again).await.unwrap();
    }));
}

#[test]
fn only_tables_are_written_in_transactions_and_tables_need_them_to_be_open() {
    run(on_each(|store| async move {
        let controller = Controller::start_with(&store, quick()).await;
        let collections = &controller.collections;
        let early = collections.open_tables(BTreeSet::new()).await;
        assert!(matches!(early, Err(OpenTablesError::NoTxnsShard)));
        assert!(matches!(collections.begin(), Err(TableTrouble::NotOpen)));
        let mut transaction = controller.metadata.begin().await.unwrap();
        let existing = ids([1, 2]);
        let prepared = collections.initialize(&mut transaction, &existing, &ids([]));
        let prepared = prepared.unwrap();
        transaction.commit().await.unwrap();
        let _ = prepared.committed();
        let table = || vec![new(1, Kind::Table)];
        let refused = refusals(collections.create(Some(0), table()).await.unwrap_err());
        assert!(matches!(
            refused[..],
            [(1, CollectionRefusal::TablesNotOpen)]
        ));
        collections.open_tables(BTreeSet::new()).await.unwrap();
        let again = collections.open_tables(BTreeSet::new()).await;
        assert!(matches!(again, Err(OpenTablesError::Open)));
        let both = vec![new(1, Kind::Table), new(2, Kind::Webhook)];
        let _ = collections.create(Some(0), both).await.unwrap();
        let mut transaction = collections.begin().unwrap();
        let refused = transaction.write(2, batch([1]), vec![1]).unwrap_err();
        assert!(matches!(
            refused,
            WriteTableError::NotATable { collection: 2, .. }
        ));
        let refused = transaction.write(9, batch([1]), vec![1]).unwrap_err();
        assert!(matches!(refused, WriteTableError::UnknownCollection(9)));
        transaction.write(1, batch([1]), vec![1]).unwrap();
        transaction.commit_at(&3).await.unwrap();
    }));
}

#[test]
fn after_a_crash_tables_are_what_was_committed_and_begin_where_the_transactions_are() {
    run(on_each(|store| async move {
        let mut slow = quick();
        slow.apply_interval = std::time::Duration::from_secs(3_600);
        let first = Controller::start_with(&store, slow).await;
        let _ = first.initialize(&ids([1, 2]), &ids([])).await;
        let both = || vec![new(1, Kind::Table), new(2, Kind::Table)];
        let _ = first.collections.create(Some(5), both()).await.unwrap();
        for at in 10..20 {
            let mut transaction = first.collections.begin().unwrap();
            let value = i64::try_from(at).unwrap();
            transaction.write(1, batch([value]), vec![1]).unwrap();
            transaction.commit_at(&at).await.unwrap();
        }
        drop(first);
        let second = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        assert_eq!(second.collections.tables().unwrap().upper(), Upper::at(20));
        // They are tables already: no time is closed for them, and one that has passed will do.
        let created = second.collections.create(Some(5), both()).await.unwrap();
        for table in &created {
            assert_eq!(table.upper(), Upper::at(20));
        }
        // As far as their policy lets go of what is written so far.
        assert_eq!(created[0].since(), Since::at(10));
        let all: Vec<i64> = (10..20).collect();
        assert_eq!(read(&second, 1, 19).await, all);
    }));
}

#[test]
fn transactions_at_several_times_commit_as_one() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        let mut all = Vec::new();
        for (at, id, value) in [(10, 1, 1), (12, 2, 2), (12, 1, 3)] {
            let mut transaction = collections.begin().unwrap();
            transaction.write(id, batch([value]), vec![1]).unwrap();
            all.push((at, transaction));
        }
        let upper = collections.commit_all(&15, &mut all).await.unwrap();
        assert_eq!(upper, Upper::at(16));
        assert_eq!(read(&controller, 1, 11).await, [1]);
        assert_eq!(read(&controller, 1, 15).await, [1, 3]);
        assert_eq!(read(&controller, 2, 15).await, [2]);
        let late = collections.commit_all(&20, &mut all).await.unwrap_err();
        assert!(matches!(late, CommitTablesError::Passed(passed) if passed.upper == upper));
    }));
}

/// Its engine writes nothing by which it could find out.
#[test]
fn a_controller_that_only_commits_hears_that_another_has_taken_over_and_so_does_everybody() {
    run(on_each(|store| async move {
        let old = Controller::start(&store, &ids([1]), &ids([])).await;
        let mut table = new(1, Kind::Table);
        table.policy = ReadPolicy::ValidFrom(Since::at(5));
        let created = old.collections.create(Some(5), vec![table]).await.unwrap();
        within(created[0].wait_for_upper_past([5])).await.unwrap();
        let mut late = old.collections.begin().unwrap();
        late.write(1, batch([1]), vec![1]).unwrap();
        let new = Controller::start(&store, &ids([1]), &ids([])).await;
        let by = new.collections.taken_over().unwrap().fence.epoch;
        let CommitTablesError::Trouble(refused) = late.commit_at(&10).await.unwrap_err() else {
            panic!("it is no refusal")
        };
        let is_fenced = |refused: &TableTrouble| match refused {
            TableTrouble::Storage(error) => error.kind() == StorageErrorKind::Fenced { by },
            TableTrouble::Stopped(reason) => *reason == StopReason::Fenced { by },
            TableTrouble::NotOpen | TableTrouble::ReadOnly(_) => false,
        };
        assert!(is_fenced(&refused), "{refused}");
        comes_true("the engine stops", async || {
            old.collections.client().stopped() == Some(StopReason::Fenced { by })
        })
        .await;
        assert!(is_fenced(&old.collections.begin().unwrap_err()));
        assert_eq!(new.collections.tables().unwrap().upper(), Upper::at(6));
    }));
}
