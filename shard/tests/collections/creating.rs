//! Creating, changing and dropping collections.

use std::collections::BTreeSet;
use std::sync::Arc;

use lowwater::{DropError, ReadPolicy, Refusal, Since, Upper};
use lowwater_shard::collections::{
    Allotment, AlterError, CollectionRefusal, Kind, KindName, NewCollection,
};
use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::metadata::MetadataTransaction;
use lowwater_shard::record::DataRecord;
use lowwater_shard::{Log, Transactor};

use super::world::*;

#[test]
fn kinds_say_what_they_depend_on_and_ingestions_know_their_exports() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2, 3, 4]), &ids([])).await;
        let collections = &controller.collections;
        let export = |id| new(id, Kind::IngestionExport { ingestion: 2 });
        // In any order.
        let batch = vec![export(3), new(2, ingestion(1)), new(1, Kind::Progress)];
        let _ = collections.create(None, batch).await.unwrap();
        let _ = collections.create(None, vec![export(4)]).await.unwrap();
        assert_eq!(collections.exports(2), ids([3, 4]));
        let metadata = collections.metadata(3).unwrap();
        assert_eq!(metadata.remap_shard, Some(controller.shard(1)));
        // The remap collection goes no further than what depends on it.
        controller.write(controller.shard(1), 100).await;
        let remap = collections.client().collection(1).unwrap();
        remap.wait_for_upper_past([90]).await.unwrap();
        assert_eq!(remap.since(), Since::minimum());
        let explained = collections.client().explain(1).await.unwrap();
        assert_eq!(explained.causes.len(), 4, "{explained:?}");
        collections.drop_collections(vec![3]).await.unwrap();
        assert_eq!(collections.exports(2), ids([4]));
    });
}

#[test]
fn a_batch_is_refused_as_a_whole_and_each_id_with_its_reason() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2, 3, 4, 5]), &ids([])).await;
        let collections = &controller.collections;
        let _ = collections
            .create(None, vec![new(1, Kind::Compute)])
            .await
            .unwrap();
        let batch = vec![
            new(1, Kind::Webhook),
            new(2, Kind::IngestionExport { ingestion: 9 }),
            new(3, Kind::IngestionExport { ingestion: 1 }),
            new(4, Kind::Table),
            new(5, Kind::Progress),
            new(5, Kind::Progress),
            new(6, Kind::Compute),
        ];
        let refused = refusals(collections.create(None, batch).await.unwrap_err());
        assert!(
            matches!(
                refused[..],
                [
                    (1, CollectionRefusal::OtherDescription),
                    (2, CollectionRefusal::UnknownIngestion(9)),
                    (3, CollectionRefusal::NotAnIngestion(1, KindName::Webhook)),
                    (4, CollectionRefusal::NoRegistrationTime),
                    (5, CollectionRefusal::Repeated),
                    (6, CollectionRefusal::NoShard),
                ]
            ),
            "{refused:?}"
        );
        assert_eq!(collections.active(), [1]);
        // The engine is asked about those that are right so far, and they are named with the others.
        let on = |id, on| {
            let mut new = new(id, Kind::Compute);
            new.description.dependencies.insert(on);
            new
        };
        let cycle = || [on(2, 3), on(3, 2)];
        let [two, three] = cycle();
        let batch = vec![on(6, 1), two, three, on(4, 7), on(5, 6)];
        let refused = refusals(collections.create(None, batch).await.unwrap_err());
        assert!(
            matches!(
                refused[..],
                [
                    (6, CollectionRefusal::NoShard),
                    (2, CollectionRefusal::Engine(Refusal::Cycle)),
                    (3, CollectionRefusal::Engine(Refusal::Cycle)),
                    (4, CollectionRefusal::Engine(Refusal::UnknownDependency(7))),
                ]
            ),
            "{refused:?}"
        );
        assert_eq!(collections.active(), [1]);
        let mut view = new(5, Kind::Compute);
        view.description.dependencies.insert(7);
        let refused = collections
            .create(None, vec![new(4, Kind::Compute), view])
            .await;
        let refused = refusals(refused.unwrap_err());
        let unknown = |refusal: &_| {
            matches!(
                refusal,
                CollectionRefusal::Engine(Refusal::UnknownDependency(7))
            )
        };
        assert!(matches!(&refused[..], [(5, refusal)] if unknown(refusal)));
        assert_eq!(collections.active(), [1]);
    });
}

#[test]
fn a_batch_that_the_engine_refuses_registers_no_tables() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([1, 2, 3, 4]), &ids([])).await;
        let collections = &controller.collections;
        let _ = collections
            .create(Some(5), vec![new(1, Kind::Table), new(3, Kind::Compute)])
            .await
            .unwrap();
        let held = collections.acquire(&[3]).await.unwrap();
        collections.drop_collections(vec![3]).await.unwrap();
        let mut view = new(4, Kind::Compute);
        view.description.dependencies.insert(9);
        let batch = || {
            let view = view.clone();
            vec![new(2, Kind::Table), view, new(3, Kind::Compute)]
        };
        let refused = collections.create(Some(50), batch()).await.unwrap_err();
        let refused = refusals(refused);
        assert!(
            matches!(
                refused[..],
                [
                    (4, CollectionRefusal::Engine(Refusal::UnknownDependency(9))),
                    (3, CollectionRefusal::Engine(Refusal::StillDropping)),
                ]
            ),
            "{refused:?}"
        );
        // No time is closed, and nothing is said of the shard.
        assert_eq!(collections.advance(&10).await.unwrap(), Upper::at(11));
        let transaction = controller.metadata.begin().await.unwrap();
        let shard = transaction.shard_of(2).unwrap().unwrap();
        let mut log = Log::<DataRecord<u64>>::new(shard);
        let reader = Transactor::new(Arc::clone(&store), None);
        let _ = reader.refresh(&mut [&mut log]).await.unwrap();
        assert_eq!(log.record().schemas(), []);
        drop(held);
        let tables = vec![new(2, Kind::Table)];
        let created = collections.create(Some(20), tables).await.unwrap();
        assert_eq!(created[0].since(), Since::at(20));
    }));
}

#[test]
fn the_same_again_is_nothing_new() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &controller.collections;
        let first = collections
            .create(None, vec![new(1, Kind::Compute)])
            .await
            .unwrap();
        let batch = vec![new(1, Kind::Compute), new(2, Kind::Compute)];
        let again = collections.create(None, batch).await.unwrap();
        assert_eq!(again[0].key(), first[0].key());
        assert_eq!(again[1].id(), 2);
    });
}

#[test]
fn a_new_table_begins_at_its_registration_and_one_that_was_written_keeps_its_since() {
    run(on_each(|store| async move {
        let first = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let table = |id| NewCollection {
            policy: ReadPolicy::lag_writes_by(1_000, 1).unwrap(),
            ..new(id, Kind::Table)
        };
        let tables = vec![table(1)];
        let created = first.collections.create(Some(50), tables).await.unwrap();
        assert_eq!(created[0].since(), Since::at(50));
        let mut transaction = first.collections.begin().unwrap();
        transaction.write(1, batch([7]), vec![1]).unwrap();
        transaction.commit_at(&54).await.unwrap();
        created[0].wait_for_upper_past([54]).await.unwrap();
        first.collections.stop().await.unwrap();
        let second = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let tables = vec![table(1), table(2)];
        let created = second.collections.create(Some(80), tables).await.unwrap();
        assert_eq!(created[0].since(), Since::at(50));
        assert_eq!(created[1].since(), Since::at(80));
    }));
}

#[test]
fn what_is_unknown_is_skipped_by_a_drop_that_is_not_validated() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let refused = collections.drop_collections(vec![1, 7]).await;
        assert_eq!(refused, Err(DropError::UnknownCollection(7)));
        assert!(collections.exists(1));
        collections
            .drop_collections_unvalidated(vec![7, 1, 8, 1])
            .await
            .unwrap();
        assert_eq!(collections.active(), [2]);
    });
}

#[test]
fn an_id_that_is_dropped_and_held_is_not_taken_for_the_same() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let held = collections.acquire(&[1]).await.unwrap();
        let old = controller.shard(1);
        let _ = controller.prepare(&[1], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let refused = collections.create(None, vec![new(1, Kind::Compute)]).await;
        let refused = refusals(refused.unwrap_err());
        let still =
            |refusal: &_| matches!(refusal, CollectionRefusal::Engine(Refusal::StillDropping));
        assert!(matches!(&refused[..], [(1, refusal)] if still(refusal)));
        drop(held);
        controller.until(|stats| stats.succeeded == 1).await;
        let created = collections
            .create(None, vec![new(1, Kind::Compute)])
            .await
            .unwrap();
        assert_eq!(created.len(), 1);
        assert_ne!(controller.shard(1), old);
    });
}

#[test]
fn ingestions_and_tables_are_altered_and_other_kinds_are_refused() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2, 3]), &ids([])).await;
        let collections = &controller.collections;
        let batch = vec![
            new(1, Kind::Progress),
            new(2, ingestion(1)),
            new(3, Kind::Table),
        ];
        let _ = collections.create(Some(0), batch).await.unwrap();
        let there = || bytes::Bytes::from_static(b"elsewhere");
        let refused = collections.alter_connections(vec![(2, there()), (1, there())]);
        let is_progress = |error: &AlterError<u64>| {
            matches!(
                error,
                AlterError::WrongKind {
                    collection: 1,
                    found: KindName::Progress,
                    ..
                }
            )
        };
        assert!(is_progress(&refused.unwrap_err()));
        let kind = |id| collections.metadata(id).unwrap().description.kind.clone();
        assert_eq!(kind(2), ingestion(1));
        collections.alter_connections(vec![(2, there())]).unwrap();
        let connection = there();
        assert_eq!(
            kind(2),
            Kind::Ingestion {
                remap: 1,
                connection
            }
        );
        collections.alter_ingestion(2, there()).unwrap();
        assert_eq!(
            collections.metadata(2).unwrap().description.details,
            there()
        );
        assert!(is_progress(
            &collections.alter_ingestion(1, there()).unwrap_err()
        ));

        let (old, next) = (columns(&["a"]), columns(&["a", "b"]));
        collections
            .alter_table_schema(3, &old, &next)
            .await
            .unwrap();
        collections
            .alter_table_schema(3, &old, &next)
            .await
            .unwrap();
        let mut log = Log::<DataRecord<u64>>::new(controller.shard(3));
        let reader = Transactor::new(Arc::clone(&store), None);
        let _ = reader.refresh(&mut [&mut log]).await.unwrap();
        assert_eq!(log.record().schemas(), [old.clone(), next.clone()]);
        let refused = collections
            .alter_table_schema(3, &next, &old)
            .await
            .unwrap_err();
        assert!(matches!(
            refused,
            AlterError::OtherSchema { collection: 3, .. }
        ));
        let refused = collections
            .alter_table_schema(3, &old, &columns(&["b"]))
            .await;
        assert!(matches!(refused.unwrap_err(), AlterError::Schema(_)));
    });
}

#[test]
fn the_frontiers_of_all_that_is_active_are_told() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2, 3]).await;
        let collections = &controller.collections;
        collections.drop_collections(vec![2]).await.unwrap();
        let frontiers = collections.active_frontiers().await.unwrap();
        assert_eq!(frontiers.keys().copied().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(collections.frontiers(&[1]).await.unwrap()[0], frontiers[&1]);
        collections
            .set_policies(vec![(1, ReadPolicy::step_back())])
            .await
            .unwrap();
        assert!(
            collections
                .set_policies(vec![(9, ReadPolicy::step_back())])
                .await
                .is_err()
        );
    });
}

/// A shard was shared by two collections; dropping one tombstoned it for both, and a restart lost the
/// link.
#[test]
fn versions_of_a_table_have_one_shard_and_the_last_releases_it_also_after_a_restart() {
    run(on_each(|store| async move {
        let first = Controller::start(&store, &ids([1]), &ids([])).await;
        let collections = &first.collections;
        let _ = collections
            .create(Some(0), vec![new(1, Kind::Table)])
            .await
            .unwrap();
        let shard = first.shard(1);
        let (old, next) = (columns(&["a"]), columns(&["a", "b"]));
        collections
            .alter_table_schema(1, &old, &next)
            .await
            .unwrap();
        let _ = first
            .prepare_with(vec![(2, Allotment::Shared(1))], &[])
            .await;
        let version = || {
            let mut version = new(2, Kind::Table);
            version.description.schema = columns(&["a", "b"]);
            version
        };
        let _ = collections.create(Some(1), vec![version()]).await.unwrap();
        assert_eq!(first.shard(2), shard);

        // What is asked of the shard is the meet of both.
        let held = collections.acquire(&[2]).await.unwrap();
        collections.advance(&99).await.unwrap();
        let table = collections.client().collection(1).unwrap();
        table.wait_for_since_past([89]).await.unwrap();
        let version_2 = collections.client().collection(2).unwrap();
        assert_eq!(version_2.upper(), Upper::at(100));
        assert_eq!(*first.sinces(shard).await.since(), Since::at(0));
        drop(held);
        version_2.wait_for_since_past([89]).await.unwrap();
        collections.stop().await.unwrap();
        assert_eq!(*first.sinces(shard).await.since(), Since::at(90));

        // The first goes after a restart: the shard stays, also after another one.
        let second = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let both = vec![new(1, Kind::Table), version()];
        let _ = second.collections.create(Some(100), both).await.unwrap();
        let plan = second.prepare(&[], &[1]).await;
        assert_eq!(
            (plan.given_up, plan.kept),
            (BTreeSet::new(), vec![(shard, 2)])
        );
        second.collections.drop_collections(vec![1]).await.unwrap();
        let third = Controller::start(&store, &ids([2]), &ids([1])).await;
        assert_eq!(third.collections.finalizer_stats().outstanding, 0);
        let created = third
            .collections
            .create(Some(101), vec![version()])
            .await
            .unwrap();
        assert_eq!(created[0].since(), Since::at(90));

        let plan = third.prepare(&[], &[2]).await;
        assert_eq!(plan.given_up, BTreeSet::from([shard]));
        third.collections.drop_tables(&102, vec![2]).await.unwrap();
        third.until(|stats| stats.succeeded == 1).await;
        assert!(third.sinces(shard).await.is_buried());
    }));
}
