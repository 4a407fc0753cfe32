//! What the tests of collections share: a controller with metadata beside it, on a store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use lowwater::{Config, ReadPolicy, ShardId, Upper};
use lowwater_shard::collections::{
    Allotment, CollectionDescription, CollectionRefusal, Collections, CreateCollectionsError,
    Finalization, FinalizerStats, Kind, NewCollection, OpenTablesError, Plan, PrepareError,
    Prepared, Start,
};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::metadata::{MetadataTransaction, StoredMetadata, Transaction};
use lowwater_shard::record::{DataRecord, NewBatch, SinceRecord};
use lowwater_shard::{
    Column, ColumnKind, Log, Parts, Schema, Settings, Shards, Transactor, Updates, Upkeep,
};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

pub(crate) type World = Arc<dyn Consensus>;

pub(crate) const WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime: Runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Runs a test in memory, and on SQLite.
pub(crate) async fn on_each<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    test(Arc::new(MemoryConsensus::new())).await;
    let folder = TempDir::new().unwrap();
    test(Arc::new(EmbeddedConsensus::open(folder.path()).unwrap())).await;
}

/// The shards of a store, whose parts nobody else sees.
pub(crate) fn shards(store: &World) -> Shards<u64> {
    let settings = Settings {
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    };
    Shards::new(
        &Handle::current(),
        Arc::clone(store),
        Parts::memory(),
        settings,
    )
}

pub(crate) fn quick() -> Start {
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
        apply_interval: Duration::from_millis(1),
        ..Start::default()
    }
}

pub(crate) fn ids<const N: usize>(ids: [u64; N]) -> BTreeSet<u64> {
    BTreeSet::from(ids)
}

pub(crate) fn columns(names: &[&str]) -> Schema {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        kind: ColumnKind::Int64,
        nullable: true,
    };
    Schema::new(names.iter().map(column).collect()).unwrap()
}

/// The values of rows as [`new`] describes them, each as often as it is there, in order.
pub(crate) fn values(updates: &Updates<u64>) -> Vec<i64> {
    let Some(column) = updates.rows().columns().first() else {
        return Vec::new();
    };
    let column = column.as_primitive::<Int64Type>().values().iter();
    let copies = column.zip(updates.diffs());
    let copies = copies
        .flat_map(|(value, diff)| std::iter::repeat_n(*value, usize::try_from(*diff).unwrap()));
    let mut values: Vec<i64> = copies.collect();
    values.sort_unstable();
    values
}

/// Fails where something hangs.
pub(crate) async fn within<X>(future: impl Future<Output = X>) -> X {
    let done = tokio::time::timeout(WITHIN, future).await;
    done.expect("it hangs")
}

/// Rows of tables as [`new`] describes them.
pub(crate) fn rows<const N: usize>(values: [i64; N]) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(columns(&["a"]).arrow(), vec![values]).unwrap()
}

pub(crate) fn described(kind: Kind<u64>) -> CollectionDescription<u64> {
    CollectionDescription::new(kind, columns(&["a"]))
}

pub(crate) fn new(id: u64, kind: Kind<u64>) -> NewCollection<u64, u64> {
    NewCollection {
        id,
        description: described(kind),
        policy: ReadPolicy::lag_writes_by(10, 1).unwrap(),
        since: None,
    }
}

pub(crate) fn ingestion(remap: u64) -> Kind<u64> {
    Kind::Ingestion {
        remap,
        connection: bytes::Bytes::from_static(b"there"),
    }
}

/// A controller with metadata beside it.
pub(crate) struct Controller {
    pub(crate) store: World,
    pub(crate) collections: Collections<u64, u64>,
    pub(crate) metadata: StoredMetadata<u64>,
}

impl Controller {
    pub(crate) async fn start_with(store: &World, start: Start) -> Self {
        let collections = Collections::start(&shards(store), start).await.unwrap();
        let metadata = StoredMetadata::new(Arc::clone(store), collections.fence());
        Controller {
            store: Arc::clone(store),
            collections,
            metadata,
        }
    }

    pub(crate) async fn start(
        store: &World,
        existing: &BTreeSet<u64>,
        dropped: &BTreeSet<u64>,
    ) -> Self {
        let controller = Controller::start_with(store, quick()).await;
        let _ = controller.initialize(existing, dropped).await;
        controller
    }

    pub(crate) async fn initialize(
        &self,
        existing: &BTreeSet<u64>,
        dropped: &BTreeSet<u64>,
    ) -> Plan<u64> {
        let mut transaction = self.metadata.begin().await.unwrap();
        let prepared = self
            .collections
            .initialize(&mut transaction, existing, dropped);
        let prepared = prepared.unwrap();
        transaction.commit().await.unwrap();
        let plan = prepared.committed();
        match self.collections.open_tables(BTreeSet::new()).await {
            Ok(()) | Err(OpenTablesError::Open) => plan,
            Err(trouble) => panic!("{trouble}"),
        }
    }

    pub(crate) async fn prepare(&self, added: &[u64], dropped: &[u64]) -> Plan<u64> {
        let added = added.iter().map(|id| (*id, Allotment::Own)).collect();
        self.prepare_with(added, dropped).await
    }

    pub(crate) async fn prepare_with(
        &self,
        added: Vec<(u64, Allotment<u64>)>,
        dropped: &[u64],
    ) -> Plan<u64> {
        let dropped = dropped.iter().copied().collect();
        let mut transaction = self.metadata.begin().await.unwrap();
        let prepared = self.collections.prepare(&mut transaction, added, &dropped);
        let prepared = prepared.unwrap();
        transaction.commit().await.unwrap();
        prepared.committed()
    }

    /// Computed collections of these ids, from preparing to creating.
    pub(crate) async fn create(&self, ids: &[u64]) {
        let _ = self.prepare(ids, &[]).await;
        let batch = ids.iter().map(|id| new(*id, Kind::Compute)).collect();
        let _ = self.collections.create(None, batch).await.unwrap();
    }

    /// Waits until finalization is as it should be; fails when it does not get there.
    pub(crate) async fn until(&self, holds: impl Fn(&FinalizerStats) -> bool) -> FinalizerStats {
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

    pub(crate) async fn sinces(&self, shard: ShardId) -> SinceRecord<u64> {
        let mut log = Log::<SinceRecord<u64>>::new(shard);
        let reader = Transactor::new(Arc::clone(&self.store), None);
        let read = reader.refresh(&mut [&mut log]).await.unwrap();
        read.into_iter().for_each(Result::unwrap);
        log.record().clone()
    }

    /// Others write a shard up to here.
    pub(crate) async fn write(&self, shard: ShardId, upper: u64) {
        let mut log = Log::<DataRecord<u64>>::new(shard);
        let writer = Transactor::new(Arc::clone(&self.store), None);
        let append = |record: &DataRecord<u64>| {
            let batch = NewBatch::empty(record.upper().clone(), Upper::at(upper)).unwrap();
            record.compare_and_append(batch)
        };
        writer.carry_out(&mut log, append).await.unwrap();
    }

    pub(crate) fn shard(&self, id: u64) -> ShardId {
        self.collections.metadata(id).unwrap().shard
    }

    pub(crate) async fn waiting(&self) -> BTreeSet<ShardId> {
        let transaction = self.metadata.begin().await.unwrap();
        transaction.unfinalized().unwrap()
    }
}

pub(crate) fn refusals(
    error: CreateCollectionsError<u64, u64>,
) -> Vec<(u64, CollectionRefusal<u64, u64>)> {
    match error {
        CreateCollectionsError::Refused(refusals) => refusals,
        trouble @ (CreateCollectionsError::Passed(_)
        | CreateCollectionsError::Storage(_)
        | CreateCollectionsError::Stopped(_)) => panic!("{trouble}"),
    }
}

/// For a process that may die at any write.
impl Controller {
    pub(crate) async fn try_start(store: &World) -> Option<Self> {
        let collections = Collections::start(&shards(store), quick()).await.ok()?;
        let metadata = StoredMetadata::new(Arc::clone(store), collections.fence());
        Some(Controller {
            store: Arc::clone(store),
            collections,
            metadata,
        })
    }

    pub(crate) async fn try_change(
        &self,
        change: impl FnOnce(
            &Collections<u64, u64>,
            &mut Transaction<u64, StoredMetadata<u64>>,
        ) -> Result<Prepared<u64, u64>, PrepareError<u64>>,
    ) -> Option<()> {
        let mut transaction = self.metadata.begin().await.ok()?;
        let prepared = change(&self.collections, &mut transaction).unwrap();
        transaction.commit().await.ok()?;
        let _ = prepared.committed();
        Some(())
    }

    pub(crate) async fn try_prepare(&self, added: &[u64], dropped: &[u64]) -> Option<()> {
        let added = added.iter().map(|id| (*id, Allotment::Own)).collect();
        let dropped = dropped.iter().copied().collect();
        self.try_change(|collections, transaction| {
            collections.prepare(transaction, added, &dropped)
        })
        .await
    }
}
