//! What the tests of collections share: a controller with metadata beside it, on a store.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use lowwater::{Config, ReadPolicy, ShardId, Upper};
use lowwater_shard::collections::{
    Allotment, CollectionDescription, CollectionRefusal, Collections, CreateCollectionsError,
    Finalization, FinalizerStats, Kind, NewCollection, OpenTablesError, Plan, PrepareError,
    Prepared, Start,
};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::metadata::{MetadataTransaction, StoredMetadata, Transaction};
use lowwater_shard::record::{DataRecord, NewBatch, SinceRecord};
use lowwater_shard::{
    Column, ColumnKind, Log, Nonce, Parts, Schema, Settings, Shards, Transactor, Updates, Upkeep,
};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

use crate::place::postgres::insist;

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

/// Runs a test in memory, on SQLite, and on PostgreSQL where the environment names one.
pub(crate) async fn on_each<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    on_each_with_parts(|store, _| test(store)).await;
}

/// The same, with parts that several controllers share: in a folder, where the records are on SQLite.
pub(crate) async fn on_each_with_parts<F: Future<Output = ()>>(test: impl Fn(World, Parts) -> F) {
    test(Arc::new(MemoryConsensus::new()), Parts::memory()).await;
    let folder = TempDir::new().unwrap();
    let parts = Parts::folder(folder.path().join("parts")).unwrap();
    let store = EmbeddedConsensus::open(folder.path()).unwrap();
    test(Arc::new(store), parts).await;
    if let Some(schema) = PostgresSchema::create().await {
        test(schema.open().await, Parts::memory()).await;
        schema.drop().await;
    }
}

const SERVER: &str = "LOWWATER_TEST_POSTGRES";

/// A schema of its own in the database that the environment names. A test that fails leaves it.
pub(crate) struct PostgresSchema {
    server: String,
    name: String,
}

impl PostgresSchema {
    /// None, with a word about it, where there is no server; in CI there must be one.
    pub(crate) async fn create() -> Option<Self> {
        let Ok(server) = std::env::var(SERVER) else {
            let missing = format!("{SERVER} is not set: nothing is tested on PostgreSQL");
            assert!(std::env::var("CI").is_err(), "{missing}");
            eprintln!("{missing}");
            return None;
        };
        let name = format!("lowwater_test_{}", Nonce::random());
        let schema = PostgresSchema { server, name };
        schema.execute("CREATE SCHEMA", "").await;
        Some(schema)
    }

    pub(crate) async fn open(&self) -> World {
        let PostgresSchema { server, name } = self;
        let separator = if server.contains('?') { '&' } else { '?' };
        let address = format!("{server}{separator}options=-c%20search_path%3D{name}");
        let config = PostgresConfig::new(&address).unwrap();
        Arc::new(PostgresConsensus::open(config).await.unwrap())
    }

    pub(crate) async fn drop(self) {
        self.execute("DROP SCHEMA", "CASCADE").await;
    }

    async fn execute(&self, what: &str, how: &str) {
        let connected = tokio_postgres::connect(&self.server, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the server that was named answers");
        tokio::spawn(connection);
        let statement = format!("{what} {} {how}", self.name);
        insist(&client, &statement).await;
    }
}

/// The shards of a store, whose parts nobody else sees.
pub(crate) fn shards(store: &World) -> Shards<u64> {
    shards_on(store, &Parts::memory())
}

/// The shards of a store, looked after by hand. What is written becomes parts.
pub(crate) fn shards_on(store: &World, parts: &Parts) -> Shards<u64> {
    let settings = Settings {
        upkeep: Upkeep::ByHand,
        inline_bytes_max: 0,
        ..Settings::default()
    };
    let (runtime, store) = (Handle::current(), Arc::clone(store));
    Shards::new(&runtime, store, parts.clone(), settings)
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

/// Nothing is finalized for now.
pub(crate) fn off() -> Finalization {
    Finalization {
        enabled: false,
        ..quick().finalization
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

/// At each time a row that says which.
pub(crate) fn rows(times: Range<u64>) -> Updates<u64> {
    let values = Int64Array::from_iter_values(times.clone().map(|time| time as i64));
    let values: ArrayRef = Arc::new(values);
    let rows = RecordBatch::try_new(columns(&["a"]).arrow(), vec![values]).unwrap();
    let diffs = vec![1; rows.num_rows()];
    Updates::new(rows, times.collect(), diffs).unwrap()
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
pub(crate) fn batch<const N: usize>(values: [i64; N]) -> RecordBatch {
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
        Controller::start_on(&shards(store), start).await
    }

    pub(crate) async fn start_on(shards: &Shards<u64>, start: Start) -> Self {
        let collections = Collections::start(shards, start).await.unwrap();
        Controller::of(collections)
    }

    pub(crate) fn of(collections: Collections<u64, u64>) -> Self {
        let store = Arc::clone(collections.shards().store());
        let metadata = StoredMetadata::new(Arc::clone(&store), collections.fence());
        Controller {
            store,
            collections,
            metadata,
        }
    }

    /// One that has no collections yet, its parts there.
    pub(crate) async fn start_empty(store: &World, parts: &Parts) -> Self {
        let controller = Controller::start_on(&shards_on(store, parts), quick()).await;
        let _ = controller.initialize(&ids([]), &ids([])).await;
        controller
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

    /// Others write a row at each of these times, the shard being written up to the first.
    pub(crate) async fn write_rows(&self, shard: ShardId, times: Range<u64>) {
        let schema = columns(&["a"]);
        let writer = self.collections.shards().writer(shard, &schema).await;
        let writer = writer.unwrap();
        let (lower, upper) = (Upper::at(times.start), Upper::at(times.end));
        let appended = writer.compare_and_append(lower, upper, rows(times)).await;
        let _ = appended.unwrap();
    }

    pub(crate) fn shard(&self, id: u64) -> ShardId {
        self.collections.metadata(id).unwrap().shard
    }

    pub(crate) async fn waiting(&self) -> BTreeSet<ShardId> {
        let transaction = self.metadata.begin().await.unwrap();
        transaction.unfinalized().unwrap()
    }
}

pub(crate) async fn comes_true(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < WITHIN, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
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
        Controller::try_start_on(&shards(store)).await
    }

    pub(crate) async fn try_start_on(shards: &Shards<u64>) -> Option<Self> {
        let collections = Collections::start(shards, quick()).await.ok()?;
        Some(Controller::of(collections))
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
