//! What is asked of collections: holds where each is wanted, frontiers, metadata, other parameters.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bytes::Bytes;
use lowwater::{
    AcquireError, LookupError, Parameters, ReadPolicy, SetPoliciesError, ShardId, Since, Start,
    Upper,
};
use lowwater_shard::collections::{AlterError, Finalization, Kind, NewCollection};
use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::metadata::{MemoryMetadata, MetadataError, MetadataTransaction, Transaction};
use timely::progress::Antichain;

use super::world::*;

async fn controller() -> Controller {
    let store: World = Arc::new(MemoryConsensus::new());
    Controller::start(&store, &ids([]), &ids([])).await
}

impl Controller {
    /// Others have written a collection up to here, and the engine knows.
    async fn written(&self, id: u64, upper: u64) {
        self.write(self.shard(id), upper).await;
        let handle = self.collections.client().collection(id).unwrap();
        within(handle.wait_for_upper_past([upper - 1]))
            .await
            .unwrap();
    }

    async fn holds(&self) -> Vec<Option<u64>> {
        let client = self.collections.client();
        client.sync().await.unwrap();
        client.holds(vec![1, 2]).await.unwrap()
    }
}

#[test]
fn holds_are_taken_where_each_is_wanted_all_or_none_and_told_with_the_frontiers() {
    run(async {
        let controller = controller().await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let early = collections.acquire(&[1]).await.unwrap();
        assert_eq!(early[0].hold.since(), &Since::at(0));
        controller.written(1, 100).await;
        controller.written(2, 100).await;
        let wanted = vec![
            (1, Start::At(Since::at(50))),
            (2, Start::At(Since::at(95))),
            (1, Start::Earliest),
            (1, Start::At(Since::at(50))),
        ];
        let held = collections.acquire_each(wanted).await.unwrap();
        let sinces: Vec<_> = held.iter().map(|held| held.hold.since().clone()).collect();
        assert_eq!(sinces, [50, 95, 0, 50].map(Since::at));
        let frontiers: Vec<_> = held.iter().map(|held| &held.frontiers).collect();
        assert_eq!(frontiers[0], frontiers[2]);
        let told = |of: usize| (frontiers[of].since.clone(), frontiers[of].implied.clone());
        assert_eq!(told(0), (Since::at(0), Since::at(90)));
        assert_eq!(told(1), (Since::at(90), Since::at(90)));
        assert_eq!(frontiers[1].upper, Upper::at(100));
        assert_eq!(controller.holds().await, [Some(4), Some(1)]);

        let one_too_early = vec![(1, Start::At(Since::at(60))), (2, Start::At(Since::at(5)))];
        let refused = collections.acquire_each(one_too_early).await.unwrap_err();
        assert!(
            matches!(&refused, AcquireError::TooEarly { collection: 2, since } if *since == Since::at(90)),
            "{refused}"
        );
        let refused = collections.acquire(&[1, 9]).await.unwrap_err();
        assert!(matches!(refused, AcquireError::UnknownCollection(9)));
        let refused = collections.acquire_each(vec![(1, Start::Earliest), (9, Start::Earliest)]);
        let refused = refused.await.unwrap_err();
        assert!(matches!(refused, AcquireError::UnknownCollection(9)));
        assert_eq!(
            controller.holds().await,
            [Some(4), Some(1)],
            "nothing stays held"
        );
    });
}

#[test]
fn metadata_say_where_a_collection_is_and_what_belongs_to_it() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([1, 2, 3, 4]), &ids([])).await;
        let collections = &controller.collections;
        let mut reads = new(2, ingestion(2));
        reads.description.status = Some(3);
        reads.description.schema = columns(&["b"]);
        let batch = vec![
            new(1, Kind::Table),
            reads,
            new(3, Kind::Introspection),
            new(4, Kind::IngestionExport { ingestion: 2 }),
        ];
        let _ = collections.create(Some(0), batch).await.unwrap();
        let transaction = controller.metadata.begin().await.unwrap();
        let shard = |id| transaction.shard_of(id).unwrap();
        let all = collections.active_metadata();
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
        for (id, metadata) in &all {
            assert_eq!(collections.metadata(*id).as_ref(), Some(metadata));
            assert_eq!(Some(metadata.shard), shard(*id));
            assert_eq!(metadata.location, collections.shards().parts().place());
            let handle = collections.client().collection(*id).unwrap();
            assert_eq!(metadata.key, handle.key());
        }
        let of = |id: u64| {
            let metadata = &all[&id];
            let belongs = (
                metadata.txns_shard,
                metadata.remap_shard,
                metadata.status_shard,
            );
            (metadata.description.schema.clone(), belongs)
        };
        let txns = transaction.txns_shard().unwrap();
        assert_eq!(of(1), (columns(&["a"]), (txns, None, None)));
        assert_eq!(of(2), (columns(&["b"]), (None, shard(2), shard(3))));
        assert_eq!(of(3), (columns(&["a"]), (None, None, None)));
        assert_eq!(of(4), (columns(&["a"]), (None, shard(2), None)));

        // An id that comes again is another incarnation, on another shard.
        let _ = controller.prepare(&[3], &[3]).await;
        collections.drop_collections(vec![3]).await.unwrap();
        assert_eq!(collections.metadata(3), None);
        let _ = collections
            .create(None, vec![new(3, Kind::Introspection)])
            .await
            .unwrap();
        let (before, after) = (&all[&3], collections.metadata(3).unwrap());
        assert_ne!(after.shard, before.shard);
        assert!(after.key.generation() > before.key.generation());
        let of_its_ingestion = collections.metadata(2).unwrap().status_shard;
        assert_eq!(of_its_ingestion, Some(after.shard));
    }));
}

#[test]
fn the_connections_of_several_ingestions_change_together_or_not_at_all() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &controller.collections;
        let batch = vec![new(1, ingestion(1)), new(2, ingestion(2))];
        let _ = collections.create(None, batch).await.unwrap();
        let connections = || {
            [1, 2].map(|id| {
                let kind = &collections.metadata(id).unwrap().description.kind;
                let Kind::Ingestion { connection, .. } = kind else {
                    panic!("{kind:?}")
                };
                connection.clone()
            })
        };
        let to = |text: &'static str| Bytes::from_static(text.as_bytes());
        let both = vec![(1, to("first")), (2, to("second"))];
        collections.alter_connections(both).unwrap();
        assert_eq!(connections(), [to("first"), to("second")]);
        let unknown = vec![(1, to("third")), (9, to("third"))];
        let refused = collections.alter_connections(unknown).unwrap_err();
        assert!(matches!(refused, AlterError::UnknownCollection(9)));
        assert_eq!(connections(), [to("first"), to("second")]);
    });
}

#[test]
fn frontiers_come_in_the_order_asked_and_are_of_one_instant() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = controller.collections.clone();
        let tables = vec![new(1, Kind::Table), new(2, Kind::Table)];
        let _ = collections.create(Some(5), tables).await.unwrap();
        let _ = controller.prepare(&[3], &[]).await;
        let other = vec![new(3, Kind::Webhook)];
        let _ = collections.create(None, other).await.unwrap();
        controller.written(3, 70).await;
        // Tables advance together: nobody sees one without the other.
        let reads = collections.clone();
        let reading = tokio::spawn(async move {
            loop {
                let all = reads.frontiers(&[2, 3, 1, 2]).await.unwrap();
                assert_eq!(all[1].upper, Upper::at(70));
                assert_eq!(all[0].upper, all[2].upper);
                assert_eq!(all[0], all[3]);
                if all[0].upper == Upper::at(201) {
                    return;
                }
            }
        });
        for at in 6..=200 {
            collections.advance(&at).await.unwrap();
        }
        within(reading).await.unwrap();
        let refused = collections.frontiers(&[1, 9]).await.unwrap_err();
        assert!(matches!(refused, LookupError::UnknownCollection(9)));
    });
}

#[test]
fn policies_are_set_together_or_not_at_all_and_the_last_one_wins() {
    run(async {
        let controller = controller().await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        controller.written(1, 100).await;
        let valid = |from| ReadPolicy::ValidFrom(Since::at(from));
        let implied = async || {
            collections.client().sync().await.unwrap();
            collections.frontiers(&[1]).await.unwrap()[0]
                .implied
                .clone()
        };
        assert_eq!(implied().await, Since::at(90));
        let unknown = vec![(1, valid(95)), (9, valid(95))];
        let refused = collections.set_policies(unknown).await.unwrap_err();
        assert_eq!(refused, SetPoliciesError::UnknownCollection(9));
        assert_eq!(implied().await, Since::at(90));
        let twice = vec![(1, valid(99)), (1, valid(95))];
        collections.set_policies(twice).await.unwrap();
        assert_eq!(implied().await, Since::at(95));
    });
}

/// The owner is kept busy by a policy, and so many requests wait for it.
#[test]
fn the_bound_of_a_turn_changes_at_run_time() {
    run(async {
        let controller = controller().await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let client = collections.client();
        let (busy, is_busy) = mpsc::sync_channel(0);
        let (free, is_free) = mpsc::channel::<()>();
        let is_free = parking_lot::Mutex::new(is_free);
        let waits = move |upper: &Antichain<u64>| {
            // Asked when it is set too, at the minimum.
            if *upper != Antichain::from_elem(0) {
                let _ = busy.send(());
                let _ = is_free.lock().recv();
            }
            Antichain::from_elem(0)
        };
        let policies = vec![(1, ReadPolicy::lag(waits))];
        collections.set_policies(policies).await.unwrap();
        let mut upper = 0;
        let mut turns_of_a_hundred = async |inputs_max: usize| {
            let bound = Parameters::new().turn_inputs_max(inputs_max);
            collections.change(bound).await.unwrap();
            upper += 1;
            drop(client.report_uppers(vec![(1, Upper::at(upper))]));
            tokio::task::block_in_place(|| is_busy.recv()).unwrap();
            let before = client.metrics().turns;
            let asked: Vec<_> = (0..100).map(|_| client.holds(vec![1])).collect();
            free.send(()).unwrap();
            for answer in asked {
                answer.await.unwrap();
            }
            client.metrics().turns - before
        };
        assert!(turns_of_a_hundred(1).await >= 100);
        assert!(turns_of_a_hundred(1_000).await < 50);
        assert!(turns_of_a_hundred(10).await >= 10);
        drop(free);
    });
}

#[test]
fn what_was_finalized_is_handed_back_until_committed_metadata_list_it_no_more() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let shard = controller.shard(1);
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
        for _ in 0..3 {
            let mut aborted = controller.metadata.begin().await.unwrap();
            let prepared = collections.prepare(&mut aborted, vec![], &ids([])).unwrap();
            assert_eq!(prepared.finalized, BTreeSet::from([shard]));
            assert_eq!(controller.waiting().await, BTreeSet::from([shard]));
        }
        let plan = controller.prepare(&[], &[]).await;
        assert_eq!(plan.finalized, BTreeSet::from([shard]));
        assert_eq!(controller.waiting().await, BTreeSet::new());
        let plan = controller.prepare(&[], &[]).await;
        assert_eq!(plan.finalized, BTreeSet::new());
        assert_eq!(collections.finalizer_stats().succeeded, 1);
    }));
}

/// A catalogue of somebody who lists what a collection owns.
struct Careless {
    careful: Transaction<u64, MemoryMetadata<u64>>,
    listed: BTreeSet<ShardId>,
}

impl MetadataTransaction<u64> for Careless {
    fn shard_of(&self, collection: u64) -> Result<Option<ShardId>, MetadataError> {
        self.careful.shard_of(collection)
    }

    fn owners(&self, shard: ShardId) -> Result<Vec<u64>, MetadataError> {
        self.careful.owners(shard)
    }

    fn owned(&self) -> Result<Vec<(u64, ShardId)>, MetadataError> {
        self.careful.owned()
    }

    fn own(&mut self, collection: u64, shard: ShardId) -> Result<(), MetadataError> {
        self.careful.own(collection, shard)
    }

    fn disown(&mut self, collection: u64) -> Result<Option<ShardId>, MetadataError> {
        self.careful.disown(collection)
    }

    fn unfinalized(&self) -> Result<BTreeSet<ShardId>, MetadataError> {
        Ok(self.listed.clone())
    }

    fn add_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.listed.insert(shard);
        Ok(())
    }

    fn remove_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.listed.remove(&shard);
        Ok(())
    }

    fn txns_shard(&self) -> Result<Option<ShardId>, MetadataError> {
        self.careful.txns_shard()
    }

    fn set_txns_shard(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.careful.set_txns_shard(shard)
    }
}

#[test]
fn a_shard_that_is_rescued_is_not_finalized_although_that_was_about_to_begin() {
    run(async {
        let controller = controller().await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let (shard, other) = (controller.shard(1), controller.shard(2));
        collections.change_finalization(off());
        let _ = controller.prepare(&[], &[1, 2]).await;
        collections.drop_collections(vec![1, 2]).await.unwrap();
        assert_eq!(collections.finalizer_stats().outstanding, 2);
        let mut careful = MemoryMetadata::new().begin();
        careful.own(7, shard).unwrap();
        let listed = BTreeSet::from([shard, other]);
        let mut careless = Careless { careful, listed };
        let rescues = collections
            .prepare(&mut careless, vec![], &ids([]))
            .unwrap();
        assert_eq!(rescues.rescued, [(shard, vec![7])]);
        let _ = rescues.committed();
        assert_eq!(collections.finalizer_stats().outstanding, 1);
        let on: Finalization = quick().finalization;
        collections.change_finalization(on);
        let stats = controller.until(|stats| stats.succeeded == 1).await;
        assert_eq!((stats.started, stats.outstanding), (1, 0));
        assert!(controller.sinces(other).await.is_buried());
        assert!(!controller.sinces(shard).await.is_buried());
    });
}

#[test]
fn statistics_of_the_parts_of_a_table_count_what_is_in_it() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        let _ = controller.prepare(&[1], &[]).await;
        let collections = &controller.collections;
        let table = NewCollection {
            policy: ReadPolicy::lag_writes_by(1_000, 1).unwrap(),
            ..new(1, Kind::Table)
        };
        let _ = collections.create(Some(5), vec![table]).await.unwrap();
        let many = 100_000;
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..many));
        let rows = RecordBatch::try_new(columns(&["a"]).arrow(), vec![values]).unwrap();
        let mut transaction = collections.begin().unwrap();
        transaction.write(1, rows, vec![1; many as usize]).unwrap();
        transaction.commit_at(&10).await.unwrap();
        let of_parts = collections.parts_stats(1, &Antichain::from_elem(10));
        let of_parts = within(of_parts).await.unwrap();
        let updates: u64 = of_parts.iter().map(|part| part.updates).sum();
        assert_eq!(updates, many as u64, "{of_parts:?}");
    }));
}
