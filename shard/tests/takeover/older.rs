//! The older controller: a process that does one thing, and is stopped in the middle of it.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use lowwater::{Config, Parameters, ReadPolicy, ShardId, Upper};
use lowwater_shard::collections::{
    Allotment, CollectionDescription, Collections, Finalization, Kind, NewCollection, Plan, Start,
};
use lowwater_shard::consensus::{Consensus, Fence};
use lowwater_shard::metadata::StoredMetadata;
use lowwater_shard::tables::{Access, Apply, CommitRefusal, Tables, TablesError};
use lowwater_shard::{
    Column, ColumnKind, Epoch, Parts, ReaderId, Schema, Settings, Shards, Updates, Upkeep,
};
use tokio::runtime::Handle;

use super::calls::Call;
use super::charge;
use super::fenced::{ChangeError, refused};
use super::followed;
use super::stopping::{Place, Stopping};
use super::store;
use super::talk::{hear, say};

pub(crate) const ADDRESS: &str = "LOWWATER_TEST_OLDER_ADDRESS";
/// Where others find the store.
pub(crate) const DIRECT: &str = "LOWWATER_TEST_OLDER_DIRECT";
pub(crate) const PARTS: &str = "LOWWATER_TEST_OLDER_PARTS";
pub(crate) const CALL: &str = "LOWWATER_TEST_OLDER_CALL";
pub(crate) const WRITES: &str = "LOWWATER_TEST_OLDER_WRITES";
pub(crate) const PLACE: &str = "LOWWATER_TEST_OLDER_PLACE";

/// Of the transactions of tables, and the tables.
pub(crate) const TXNS: ShardId = ShardId::new(100);
pub(crate) const A: ShardId = ShardId::new(201);
pub(crate) const B: ShardId = ShardId::new(202);
pub(crate) const READER: ReaderId = ReaderId::new(7);

/// Nothing takes that long, but for what hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(future)
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
        ..Start::default()
    }
}

pub(crate) fn columns(names: &[&str]) -> Schema {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        kind: ColumnKind::Int64,
        nullable: true,
    };
    Schema::new(names.iter().map(column).collect()).unwrap()
}

pub(crate) fn new(id: u64, kind: Kind<u64>) -> NewCollection<u64, u64> {
    NewCollection {
        id,
        description: CollectionDescription::new(kind, columns(&["a"])),
        policy: ReadPolicy::lag_writes_by(10, 1).unwrap(),
        since: None,
    }
}

/// The shards of a store. All that is written becomes parts.
pub(crate) fn shards(store: Arc<dyn Consensus>, parts: &Parts) -> Shards<u64> {
    let settings = Settings {
        upkeep: Upkeep::ByHand,
        inline_bytes_max: 0,
        ..Settings::default()
    };
    Shards::new(&Handle::current(), store, parts.clone(), settings)
}

pub(crate) fn rows(values: &[i64]) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_new(columns(&["a"]).arrow(), vec![values]).unwrap()
}

/// Waits until something is so; fails when it stays away.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The tables of a controller.
pub(crate) async fn tables(
    store: Arc<dyn Consensus>,
    parts: &Parts,
    txns: ShardId,
    fence: Fence,
) -> Result<Tables<u64>, TablesError<std::convert::Infallible>> {
    let access = Access::Control {
        reader: READER,
        fence,
        apply: Apply::ByHand,
    };
    Tables::open(&Handle::current(), store, parts.clone(), txns, access).await
}

/// A controller with all that it has in a store, by itself or through others.
pub(crate) struct Older {
    pub(crate) store: Stopping,
    /// Of those who write data.
    pub(crate) writers: Shards<u64>,
    pub(crate) parts: Parts,
    pub(crate) collections: Collections<u64, u64>,
    pub(crate) metadata: StoredMetadata<u64>,
    pub(crate) tables: Tables<u64>,
}

impl Older {
    /// Three collections: 1 and the table 3 were created, and 2 was not, but somebody wrote to its
    /// shard; 9 is for later. And two tables that nothing was applied to.
    async fn start(store: Stopping, direct: Arc<dyn Consensus>, parts: Parts) -> Self {
        let collections = shards(Arc::new(store.clone()), &parts);
        let collections = Collections::start(&collections, quick()).await.unwrap();
        let fence = collections.fence().unwrap();
        let shared: Arc<dyn Consensus> = Arc::new(store.clone());
        let metadata = StoredMetadata::new(Arc::clone(&shared), Some(fence));
        let tables = tables(shared, &parts, TXNS, fence).await.unwrap();
        let older = Older {
            writers: shards(direct, &parts),
            store,
            parts,
            collections,
            metadata,
            tables,
        };
        older.initialize([1, 2, 3, 9]).await.unwrap();
        older
            .collections
            .open_tables(BTreeSet::new())
            .await
            .unwrap();
        let batch = vec![new(1, Kind::Compute), new(3, Kind::Table)];
        let created = older.collections.create(Some(1), batch).await.unwrap();
        for at in [10, 20, 30, 100] {
            older.write(1, at).await;
            older.write(2, at).await;
        }
        until("the since of 1 moves", || {
            created[0].durable_since().frontier().less_equal(&90)
                && !created[0].durable_since().frontier().less_equal(&89)
        })
        .await;
        let both = [A, B].map(|table| (table, columns(&["a"])));
        older.tables.register(&1, &both).await.unwrap();
        older.commit(5, &[(A, &[1, 2]), (B, &[3])]).await.unwrap();
        older
    }

    pub(crate) fn fence(&self) -> Fence {
        self.collections.fence().unwrap()
    }

    pub(crate) async fn initialize<const N: usize>(
        &self,
        existing: [u64; N],
    ) -> Result<Plan<u64>, ChangeError> {
        let mut transaction = self.metadata.begin().await.unwrap();
        let (existing, none) = (BTreeSet::from(existing), BTreeSet::new());
        let prepared = self
            .collections
            .initialize(&mut transaction, &existing, &none)?;
        transaction.commit().await?;
        Ok(prepared.committed())
    }

    pub(crate) async fn prepare(
        &self,
        added: &[u64],
        dropped: &[u64],
    ) -> Result<Plan<u64>, ChangeError> {
        let added = added.iter().map(|id| (*id, Allotment::Own)).collect();
        let dropped = dropped.iter().copied().collect();
        let mut transaction = self.metadata.begin().await.unwrap();
        let prepared = self
            .collections
            .prepare(&mut transaction, added, &dropped)?;
        transaction.commit().await?;
        Ok(prepared.committed())
    }

    /// Others write the shard of a collection up to here.
    pub(crate) async fn write(&self, id: u64, upper: u64) {
        use lowwater_shard::metadata::MetadataTransaction;
        let transaction = self.metadata.begin().await.unwrap();
        let shard = transaction.shard_of(id).unwrap().unwrap();
        let writer = self.writers.writer(shard, &columns(&["a"])).await.unwrap();
        let updates = Updates::new(rows(&[1]), vec![upper - 1], vec![1]).unwrap();
        let (lower, upper) = (writer.fetch_upper().await.unwrap(), Upper::at(upper));
        writer
            .compare_and_append(lower, upper, updates)
            .await
            .unwrap();
    }

    pub(crate) async fn commit(
        &self,
        at: u64,
        writes: &[(ShardId, &[i64])],
    ) -> Result<Upper<u64>, TablesError<CommitRefusal<u64>>> {
        let mut transaction = self.tables.begin();
        for (table, values) in writes {
            let (schema, diffs) = (columns(&["a"]), vec![1; values.len()]);
            let written = transaction.write(*table, &schema, rows(values), diffs);
            written.unwrap();
        }
        transaction.commit_at(&at).await
    }

    /// Whatever is asked of it from now on, it says who is in charge.
    async fn is_refused_everything(&self, by: Epoch, has_stopped: bool) {
        let collections = &self.collections;
        if has_stopped {
            // It prepares nothing any more; what it may have prepared does not commit.
            use lowwater_shard::metadata::MetadataTransaction;
            let mut transaction = self.metadata.begin().await.unwrap();
            transaction.own(8, ShardId::new(8)).unwrap();
            refused("metadata", transaction.commit().await, by);
        } else {
            refused("prepare", self.prepare(&[8], &[]).await, by);
            refused("initialize", self.initialize([1, 8]).await, by);
            let schemas = (columns(&["a"]), columns(&["a", "c"]));
            let altered = collections.alter_table_schema(3, &schemas.0, &schemas.1);
            refused("alter", altered.await, by);
        }
        let registered = [(ShardId::new(209), columns(&["a"]))];
        let tables = &self.tables;
        refused("register", tables.register(&1_000, &registered).await, by);
        refused("commit", self.commit(1_000, &[]).await, by);
        refused("advance", tables.advance(&1_000).await, by);
        refused("forget", tables.forget(&1_000, &[A, B]).await, by);
        refused("alter", tables.alter(B, &columns(&["a", "c"])).await, by);
        refused("let go", tables.let_go().await, by);
        let read = tables.subscribe(A, 5).next().await;
        refused("a subscription of tables", read, by);
        // It hears of it as soon as it writes.
        if !has_stopped {
            let batch = vec![new(9, Kind::Compute)];
            refused("create", collections.create(None, batch).await, by);
        }
        let again = Start {
            epoch: Some(self.fence().epoch),
            ..quick()
        };
        let again = Collections::<u64, u64>::start(collections.shards(), again).await;
        refused("start", again, by);
        if has_stopped {
            return;
        }
        refused("drop", collections.drop_collections(vec![3]).await, by);
        refused("acquire", collections.acquire(&[3]).await, by);
        refused("frontiers", collections.frontiers(&[3]).await, by);
        refused("active frontiers", collections.active_frontiers().await, by);
        refused("policies", collections.set_policies(vec![]).await, by);
        refused(
            "change",
            collections.change(Parameters::default()).await,
            by,
        );
        refused(
            "acquire each",
            collections
                .acquire_each(vec![(3, lowwater::Start::Earliest)])
                .await,
            by,
        );
        refused("begin", collections.begin(), by);
        refused("subscribe", collections.subscribe(3, 90), by);
        refused("advance", collections.advance(&1_000).await, by);
        refused(
            "commit all",
            collections.commit_all(&1_000, &mut []).await,
            by,
        );
        refused(
            "drop tables",
            collections.drop_tables(&1_000, vec![3]).await,
            by,
        );
        refused("stop", collections.stop().await, by);
    }
}

/// What the process does that the tests start.
pub(crate) fn live() {
    charge::work();
    followed::work();
    let (Ok(address), Ok(direct)) = (env::var(ADDRESS), env::var(DIRECT)) else {
        return;
    };
    let call = Call::named(&env::var(CALL).unwrap());
    let writes = env::var(WRITES).unwrap().parse().unwrap();
    let place = match &*env::var(PLACE).unwrap() {
        "Before" => Some(Place::Before),
        "After" => Some(Place::After),
        // Somebody else stops it, somewhere on the way.
        _ => None,
    };
    let parts = Parts::folder(PathBuf::from(env::var(PARTS).unwrap())).unwrap();
    run(async {
        let store = Stopping::new(store::open(&address).await);
        let older = Older::start(store, store::open(&direct).await, parts).await;
        call.prepare(&older).await;
        say("begin");
        hear().await;
        if let Some(place) = place {
            older.store.stop_after(writes, place);
        }
        let came_to = call.carry_out(&older).await;
        say("over");
        let by = match (place, older.store.overtaken_by()) {
            (_, Some(by)) => by,
            // There are fewer writes.
            (Some(_), None) => return,
            (None, None) => match hear().await.parse() {
                Ok(by) => Epoch::new(by),
                Err(_) => return,
            },
        };
        match place {
            Some(Place::Before) => assert_eq!(came_to, Err(by)),
            Some(Place::After) | None => assert_eq!(came_to.err().unwrap_or(by), by),
        }
        let has_stopped = call == Call::Stop && came_to.is_ok();
        older.is_refused_everything(by, has_stopped).await;
        say("refused everything");
    });
}
