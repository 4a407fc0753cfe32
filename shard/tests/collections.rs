//! A controller's collections, from boot to drop, on memory and on SQLite.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{Config, DropError, ReadPolicy, Refusal, ShardId, Since, StopReason, Upper};
use lowwater_shard::collections::{
    Allotment, AlterError, CollectionDescription, CollectionRefusal, Collections,
    CreateCollectionsError, Finalization, FinalizerStats, Kind, KindName, NewCollection, Plan,
    Start, StartError, Unfinalized,
};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::metadata::{CommitError, StoredMetadata};
use lowwater_shard::record::{DataRecord, NewBatch, SinceRecord};
use lowwater_shard::{Column, ColumnKind, Epoch, Log, ReaderId, Schema, Transactor};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

type World = Arc<dyn Consensus>;

const WITHIN: Duration = Duration::from_secs(60);

fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime: Runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Runs a test in memory, and on SQLite.
async fn on_each<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    test(Arc::new(MemoryConsensus::new())).await;
    let folder = TempDir::new().unwrap();
    test(Arc::new(EmbeddedConsensus::open(folder.path()).unwrap())).await;
}

fn quick() -> Start {
    Start {
        engine: Config {
            downgrade_interval: Duration::from_millis(1),
            ..Config::default()
        },
        finalization: Finalization {
            retry_min: Duration::from_millis(1),
            retry_max: Duration::from_millis(20),
            ..Finalization::default()
        },
        ..Start::default()
    }
}

fn ids<const N: usize>(ids: [u64; N]) -> BTreeSet<u64> {
    BTreeSet::from(ids)
}

fn columns(names: &[&str]) -> Schema {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        kind: ColumnKind::Int64,
        nullable: true,
    };
    Schema::new(names.iter().map(column).collect()).unwrap()
}

fn described(kind: Kind<u64>) -> CollectionDescription<u64> {
    CollectionDescription::new(kind, columns(&["a"]))
}

fn new(id: u64, kind: Kind<u64>) -> NewCollection<u64, u64> {
    NewCollection {
        id,
        description: described(kind),
        policy: ReadPolicy::lag_writes_by(10, 1).unwrap(),
        since: None,
    }
}

fn ingestion(remap: u64) -> Kind<u64> {
    Kind::Ingestion {
        remap,
        connection: bytes::Bytes::from_static(b"there"),
    }
}

/// A controller with metadata beside it.
struct Controller {
    store: World,
    collections: Collections<u64, u64>,
    metadata: StoredMetadata<u64>,
}

impl Controller {
    async fn start_with(store: &World, start: Start) -> Self {
        let handle = Handle::current();
        let collections = Collections::start(&handle, Arc::clone(store), start);
        let collections = collections.await.unwrap();
        let metadata = StoredMetadata::new(Arc::clone(store), Some(collections.fence()));
        Controller {
            store: Arc::clone(store),
            collections,
            metadata,
        }
    }

    async fn start(store: &World, existing: &BTreeSet<u64>, dropped: &BTreeSet<u64>) -> Self {
        let controller = Controller::start_with(store, quick()).await;
        let _ = controller.initialize(existing, dropped).await;
        controller
    }

    async fn initialize(&self, existing: &BTreeSet<u64>, dropped: &BTreeSet<u64>) -> Plan<u64> {
        let mut transaction = self.metadata.begin().await.unwrap();
        let prepared = self
            .collections
            .initialize(&mut transaction, existing, dropped);
        let prepared = prepared.unwrap();
        transaction.commit().await.unwrap();
        prepared.committed()
    }

    async fn prepare(&self, added: &[u64], dropped: &[u64]) -> Plan<u64> {
        let added = added.iter().map(|id| (*id, Allotment::Own)).collect();
        self.prepare_with(added, dropped).await
    }

    async fn prepare_with(&self, added: Vec<(u64, Allotment<u64>)>, dropped: &[u64]) -> Plan<u64> {
        let dropped = dropped.iter().copied().collect();
        let mut transaction = self.metadata.begin().await.unwrap();
        let prepared = self.collections.prepare(&mut transaction, added, &dropped);
        let prepared = prepared.unwrap();
        transaction.commit().await.unwrap();
        prepared.committed()
    }

    /// Computed collections of these ids, from preparing to creating.
    async fn create(&self, ids: &[u64]) {
        let _ = self.prepare(ids, &[]).await;
        let batch = ids.iter().map(|id| new(*id, Kind::Compute)).collect();
        let _ = self.collections.create(None, batch).await.unwrap();
    }

    /// Waits until finalization is as it should be; fails when it does not get there.
    async fn until(&self, holds: impl Fn(&FinalizerStats) -> bool) -> FinalizerStats {
        let began = Instant::now();
        loop {
            let stats = self.collections.finalizer_stats();
            if holds(&stats) {
                return stats;
            }
            assert!(began.elapsed() < WITHIN, "{stats:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn sinces(&self, shard: ShardId) -> SinceRecord<u64> {
        let mut log = Log::<SinceRecord<u64>>::new(shard);
        let reader = Transactor::new(Arc::clone(&self.store), None);
        let read = reader.refresh(&mut [&mut log]).await.unwrap();
        read.into_iter().for_each(Result::unwrap);
        log.record().clone()
    }

    /// Others write a shard up to here.
    async fn write(&self, shard: ShardId, upper: u64) {
        let mut log = Log::<DataRecord<u64>>::new(shard);
        let writer = Transactor::new(Arc::clone(&self.store), None);
        let append = |record: &DataRecord<u64>| {
            let batch = NewBatch::empty(record.upper().clone(), Upper::at(upper)).unwrap();
            record.compare_and_append(batch)
        };
        writer.carry_out(&mut log, append).await.unwrap();
    }

    fn shard(&self, id: u64) -> ShardId {
        self.collections.metadata(id).unwrap().shard
    }

    async fn waiting(&self) -> BTreeSet<ShardId> {
        use lowwater_shard::metadata::MetadataTransaction;
        let transaction = self.metadata.begin().await.unwrap();
        transaction.unfinalized().unwrap()
    }
}

fn refusals(error: CreateCollectionsError<u64, u64>) -> Vec<(u64, CollectionRefusal<u64, u64>)> {
    match error {
        CreateCollectionsError::Refused(refusals) => refusals,
        other => panic!("{other}"),
    }
}

#[test]
fn a_start_says_who_was_in_charge_and_a_lower_epoch_is_refused() {
    run(on_each(|store| async move {
        let first = Controller::start_with(&store, quick()).await.collections;
        assert_eq!(first.taken_over().previous, None);
        let second = Controller::start_with(&store, quick()).await.collections;
        assert_eq!(second.taken_over().previous, Some(first.fence()));
        assert!(second.fence().epoch > first.fence().epoch);
        let same = Start {
            epoch: Some(second.fence().epoch),
            ..quick()
        };
        let refused = Collections::<u64, u64>::start(&Handle::current(), store, same).await;
        assert!(matches!(refused, Err(StartError::TakeOver(_))));
    }));
}

#[test]
fn a_collection_lives_from_boot_to_drop_and_its_shard_ends_as_a_tombstone() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let shard = controller.shard(1);
        controller.write(shard, 100).await;
        let handle = collections.client().collection(1).unwrap();
        handle.wait_for_since_past([80]).await.unwrap();
        let held = collections.acquire(&[1, 2]).await.unwrap();
        assert_eq!(held[0].hold.since(), &Since::at(90));
        assert_eq!(held[0].frontiers.upper, Upper::at(100));
        drop(held);

        let plan = controller.prepare(&[], &[1]).await;
        assert_eq!(plan.given_up, BTreeSet::from([shard]));
        collections.drop_collections(vec![1]).await.unwrap();
        assert!(!collections.exists(1));
        assert_eq!(collections.active(), [2]);
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());

        // Handed back with the next transaction, and with none after that.
        assert_eq!(controller.waiting().await, BTreeSet::from([shard]));
        let plan = controller.prepare(&[3], &[]).await;
        assert_eq!(plan.finalized, BTreeSet::from([shard]));
        assert_eq!(controller.waiting().await, BTreeSet::new());
        assert_eq!(
            controller.prepare(&[4], &[]).await.finalized,
            BTreeSet::new()
        );
        collections.stop().await.unwrap();
    }));
}

/// A finalizer was fed from a transaction that then did not commit.
#[test]
fn only_what_is_committed_is_finalized_and_created() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let mut transaction = controller.metadata.begin().await.unwrap();
        let added = vec![(2, Allotment::Own)];
        let prepared = collections
            .prepare(&mut transaction, added, &ids([1]))
            .unwrap();
        assert_eq!(collections.finalizer_stats().pending_commit, 1);
        drop(transaction);
        drop(prepared);
        let stats = collections.finalizer_stats();
        assert_eq!((stats.pending_commit, stats.outstanding), (0, 0));
        let refused = collections.create(None, vec![new(2, Kind::Compute)]).await;
        let refused = refusals(refused.unwrap_err());
        assert!(matches!(refused[..], [(2, CollectionRefusal::NoShard)]));
        assert!(!controller.sinces(controller.shard(1)).await.is_buried());
    }));
}

#[test]
fn a_shard_is_not_finalized_while_a_hold_or_a_dependent_needs_it_and_who_does_is_named() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let _ = controller.prepare(&[2], &[]).await;
        let mut view = new(2, Kind::Compute);
        view.description.dependencies.insert(1);
        let collections = &controller.collections;
        let _ = collections.create(None, vec![view]).await.unwrap();
        let shard = controller.shard(1);
        let held = collections.acquire(&[1]).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let stats = controller.until(|stats| stats.failed >= 2).await;
        assert!(matches!(&stats.blocked[&shard], Unfinalized::Held(names) if names == "1"));
        drop(held);
        let tries = controller.collections.finalizer_stats().failed;
        controller.until(|stats| stats.failed >= tries + 2).await;
        let since = controller.sinces(shard).await.since().clone();
        assert!(!since.is_gone(), "the view still needs it");
        collections.drop_collections(vec![2]).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn readers_of_others_block_and_are_named_and_when_they_leave_it_goes_on() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let shard = controller.shard(1);
        let (other, epoch) = (ReaderId::new(9), Epoch::new(1));
        let stranger = Transactor::new(Arc::clone(&store), None);
        let mut log = Log::<SinceRecord<u64>>::new(shard);
        let open = |record: &SinceRecord<u64>| {
            Ok::<_, std::convert::Infallible>(record.open_critical(other, epoch))
        };
        let _ = stranger.carry_out(&mut log, open).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        let collections = &controller.collections;
        collections.drop_collections(vec![1]).await.unwrap();
        let blocked = |stats: &FinalizerStats| {
            let reason = stats.blocked.get(&shard);
            matches!(reason, Some(Unfinalized::Readers(readers)) if *readers == [other])
        };
        controller.until(blocked).await;
        let leave = |record: &SinceRecord<u64>| {
            record.compare_and_downgrade(other, epoch, epoch, &Since::gone())
        };
        let _ = stranger.carry_out(&mut log, leave).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn switched_off_drops_still_move_sinces_and_switched_on_it_catches_up() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        let collections = &controller.collections;
        collections.change_finalization(Finalization {
            enabled: false,
            ..quick().finalization
        });
        controller.create(&[1, 2, 3]).await;
        let shards: Vec<ShardId> = (1..=3).map(|id| controller.shard(id)).collect();
        let _ = controller.prepare(&[], &[1, 2, 3]).await;
        collections.drop_collections(vec![1, 2, 3]).await.unwrap();
        for shard in &shards {
            let began = Instant::now();
            while !controller.sinces(*shard).await.since().is_gone() {
                assert!(began.elapsed() < WITHIN, "{shard} keeps its since");
            }
            assert!(!controller.sinces(*shard).await.is_buried());
        }
        assert_eq!(collections.finalizer_stats().started, 0);
        collections.change_finalization(quick().finalization);
        controller.until(|stats| stats.succeeded == 3).await;
    }));
}

#[test]
fn what_a_crash_left_to_finalize_is_finalized_by_the_next_start() {
    run(on_each(|store| async move {
        let first = Controller::start(&store, &ids([]), &ids([])).await;
        first.create(&[1, 2, 3]).await;
        let shards: Vec<ShardId> = (1..=3).map(|id| first.shard(id)).collect();
        // One is listed and was not dropped in the engine, as a crash in between leaves it; one is
        // dropped in the catalogue only.
        first.collections.change_finalization(Finalization {
            enabled: false,
            ..Finalization::default()
        });
        let _ = first.prepare(&[], &[1]).await;
        drop(first);
        let second = Controller::start(&store, &ids([3]), &ids([2])).await;
        second.until(|stats| stats.succeeded == 2).await;
        assert!(second.sinces(shards[0]).await.is_buried());
        assert!(second.sinces(shards[1]).await.is_buried());
        assert!(!second.sinces(shards[2]).await.since().is_gone());
        let _ = second
            .collections
            .create(None, vec![new(3, Kind::Compute)])
            .await
            .unwrap();
        assert_eq!(second.shard(3), shards[2]);
    }));
}

#[test]
fn after_a_takeover_every_call_of_the_older_one_says_who_is_in_charge() {
    run(on_each(|store| async move {
        let older = Controller::start(&store, &ids([]), &ids([])).await;
        older.create(&[1]).await;
        let shard = older.shard(1);
        let mut transaction = older.metadata.begin().await.unwrap();
        let added = vec![(2, Allotment::Own)];
        let _prepared = older
            .collections
            .prepare(&mut transaction, added, &ids([]))
            .unwrap();
        let newer = Controller::start(&store, &ids([1]), &ids([])).await;
        let by = newer.collections.fence().epoch;
        let refused = transaction.commit().await.unwrap_err();
        assert!(matches!(
            refused,
            CommitError::Fenced(_) | CommitError::Conflict(_)
        ));
        let _ = newer
            .collections
            .create(None, vec![new(1, Kind::Compute)])
            .await
            .unwrap();
        newer.write(shard, 100).await;
        // The older one notices as soon as it writes.
        let began = Instant::now();
        let reason = loop {
            if let Some(reason) = older.collections.client().stopped() {
                break reason;
            }
            assert!(began.elapsed() < WITHIN);
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert_eq!(reason, StopReason::Fenced { by });
        let refused = older.collections.drop_collections(vec![1]).await;
        assert_eq!(refused, Err(DropError::Stopped(StopReason::Fenced { by })));
        let handle = newer.collections.client().collection(1).unwrap();
        handle.wait_for_since_past([80]).await.unwrap();
    }));
}

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
        let tables = vec![new(1, Kind::Table)];
        let created = first.collections.create(Some(50), tables).await.unwrap();
        assert_eq!(created[0].since(), Since::at(50));
        first.write(first.shard(1), 55).await;
        created[0].wait_for_upper_past([54]).await.unwrap();
        first.collections.stop().await.unwrap();
        let second = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let tables = vec![new(1, Kind::Table), new(2, Kind::Table)];
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
