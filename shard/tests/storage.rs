//! An engine on durable shards.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

#[path = "handles/counting.rs"]
mod counting;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{
    AcquireError, Client, Collection, Config, CreateError, Description, Engine, ReadPolicy,
    ShardId, Since, StopReason, Upper,
};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::{Consensus, Fence};
use lowwater_shard::record::{DataRecord, NewBatch, SinceRecord};
use lowwater_shard::{Epoch, Incarnation, Log, ReaderId, ShardStorage, Transactor};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use counting::Counting;

const READER: ReaderId = ReaderId::new(1);

/// A controller and the runtime of its storage.
struct Controller {
    client: Client<u64, u64>,
    engine: lowwater::EngineThread,
    _runtime: Runtime,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn open(folder: &Path) -> Arc<dyn Consensus> {
    Arc::new(EmbeddedConsensus::open(folder).unwrap())
}

impl Controller {
    fn start(folder: &Path, epoch: u64) -> Self {
        Controller::start_on(open(folder), epoch)
    }

    fn start_on(store: Arc<dyn Consensus>, epoch: u64) -> Self {
        let runtime = runtime();
        let fence = Fence {
            epoch: Epoch::new(epoch),
            incarnation: Incarnation::random(),
        };
        runtime.block_on(store.take_over(fence)).unwrap().unwrap();
        let storage = ShardStorage::spawn(runtime.handle(), store, READER, fence);
        let config = Config {
            downgrade_interval: Duration::from_millis(1),
            ..Config::default()
        };
        let (engine, client) = Engine::new(config, storage).unwrap();
        Controller {
            client,
            engine: engine.spawn().unwrap(),
            _runtime: runtime,
        }
    }

    /// Creates collections that keep ten, each on the shard of its number.
    fn create(&self, collections: u64) -> Vec<Collection<u64, u64>> {
        let lag = ReadPolicy::lag_writes_by(10, 1).unwrap();
        let new = |id: u64| Description::new(id, lag.clone()).shard(ShardId::new(id.into()));
        self.client
            .create((0..collections).map(new).collect())
            .wait()
            .unwrap()
    }

    fn stop(self) {
        self.client.stop().wait().unwrap();
        self.engine.join().unwrap();
    }
}

/// How an engine has come to an end, which it does by itself.
fn ended(engine: lowwater::EngineThread) -> Result<(), StopReason> {
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(engine.join()));
    let ended = ended.recv_timeout(Duration::from_secs(60));
    ended.expect("it does not come to an end")
}

/// Another process, that writes to a shard up to here.
fn write(folder: &Path, shard: u128, upper: u64) {
    runtime().block_on(async {
        let mut log = Log::<DataRecord<u64>>::new(ShardId::new(shard));
        let writer = Transactor::new(open(folder), None);
        let append = |record: &DataRecord<u64>| {
            let batch = NewBatch::empty(record.upper().clone(), Upper::at(upper)).unwrap();
            record.compare_and_append(batch)
        };
        writer.carry_out(&mut log, append).await.unwrap();
    });
}

fn durable_since(folder: &Path, shard: u128) -> Since<u64> {
    runtime().block_on(async {
        let mut log = Log::<SinceRecord<u64>>::new(ShardId::new(shard));
        let reader = Transactor::new(open(folder), None);
        reader
            .refresh(&mut [&mut log])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        log.record().since().clone()
    })
}

/// Waits until something is so; fails when it stays away.
fn comes_true(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not come true"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_since_becomes_durable_and_a_new_controller_goes_on_from_there() {
    let folder = TempDir::new().unwrap();
    let first = Controller::start(folder.path(), 1);
    let collections = first.create(3);
    write(folder.path(), 1, 100);
    collections[1].wait_for_upper_past([99]).wait().unwrap();
    comes_true(|| collections[1].durable_since() == Since::at(90));
    assert_eq!(durable_since(folder.path(), 1), Since::at(90));
    assert_eq!(durable_since(folder.path(), 2), Since::minimum());
    first.stop();

    write(folder.path(), 1, 200);
    let second = Controller::start(folder.path(), 2);
    let collections = second.create(3);
    assert_eq!(collections[1].upper(), Upper::at(200));
    comes_true(|| collections[1].durable_since() == Since::at(190));
    second.stop();
    assert_eq!(durable_since(folder.path(), 1), Since::at(190));
}

#[test]
fn what_is_left_to_write_is_written_when_the_engine_stops() {
    let folder = TempDir::new().unwrap();
    let controller = Controller::start(folder.path(), 1);
    let collections = controller.create(500);
    let uppers = (0..500).map(|id| (id, Upper::at(1_000 + id))).collect();
    controller.client.report_uppers(uppers).wait().unwrap();
    drop(collections);
    controller.stop();
    for shard in [0, 7, 499] {
        let since = Since::at(990 + u64::try_from(shard).unwrap());
        assert_eq!(durable_since(folder.path(), shard), since);
    }
}

#[test]
fn an_upper_that_jumps_to_the_end_is_seen() {
    let folder = TempDir::new().unwrap();
    let controller = Controller::start(folder.path(), 1);
    let collections = controller.create(1);
    runtime().block_on(async {
        let mut log = Log::<DataRecord<u64>>::new(ShardId::new(0));
        let writer = Transactor::new(open(folder.path()), None);
        let seal = |record: &DataRecord<u64>| {
            let batch = NewBatch::empty(record.upper().clone(), Upper::sealed()).unwrap();
            record.compare_and_append(batch)
        };
        writer.carry_out(&mut log, seal).await.unwrap();
    });
    collections[0]
        .wait_for_upper_past([u64::MAX])
        .wait()
        .unwrap();
    assert!(collections[0].upper().is_sealed());
    controller.stop();
}

#[test]
fn a_dropped_collection_makes_its_shards_since_empty() {
    let folder = TempDir::new().unwrap();
    let controller = Controller::start(folder.path(), 1);
    drop(controller.create(2));
    controller.client.drop_collections(vec![1]).wait().unwrap();
    comes_true(|| durable_since(folder.path(), 1).is_gone());
    assert_eq!(durable_since(folder.path(), 0), Since::minimum());
    controller.stop();
}

#[test]
fn a_controller_that_was_overtaken_moves_nothing_and_says_why() {
    let folder = TempDir::new().unwrap();
    let old = Controller::start(folder.path(), 1);
    let collections = old.create(1);
    let new = Controller::start(folder.path(), 2);
    let uppers = vec![(0, Upper::at(100))];
    old.client.report_uppers(uppers).wait().unwrap();
    let by = Epoch::new(2);
    let fenced = StopReason::Fenced { by };
    assert_eq!(ended(old.engine), Err(fenced));
    let refused = collections[0].acquire().unwrap_err();
    assert_eq!(refused, AcquireError::Stopped(fenced));
    assert_eq!(collections[0].durable_since(), Since::minimum());
    assert_eq!(durable_since(folder.path(), 0), Since::minimum());
    new.stop();
}

#[test]
fn a_controller_that_was_overtaken_opens_nothing() {
    let folder = TempDir::new().unwrap();
    let old = Controller::start(folder.path(), 1);
    let new = Controller::start(folder.path(), 2);
    let creating = Description::new(7, ReadPolicy::step_back()).shard(ShardId::new(7));
    let created = old.client.create(vec![creating]).wait();
    let by = Epoch::new(2);
    assert!(matches!(
        created,
        Err(CreateError::Stopped(StopReason::Fenced { by: it })) if it == by
    ));
    assert_eq!(ended(old.engine), Err(StopReason::Fenced { by }));
    new.stop();
}

/// The store as a whole knows of nobody else, but the shard does: as where it was copied here.
#[test]
fn the_epoch_of_a_shard_alone_says_that_another_controller_drives_it() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    runtime().block_on(async {
        let mut log = Log::<SinceRecord<u64>>::new(ShardId::new(0));
        let other = Transactor::new(store, None);
        let stamp = |record: &SinceRecord<u64>| -> Result<_, ()> {
            Ok(record.open_critical(READER, Epoch::new(9)))
        };
        other.carry_out(&mut log, stamp).await.unwrap();
    });
    let old = Controller::start(folder.path(), 1);
    let creating = Description::new(0, ReadPolicy::step_back()).shard(ShardId::new(0));
    assert!(old.client.create(vec![creating]).wait().is_err());
    let by = Epoch::new(9);
    assert_eq!(ended(old.engine), Err(StopReason::Fenced { by }));
}

/// However many shards: one transaction, and no looking for what nobody has changed.
#[test]
fn a_tick_of_many_shards_is_one_transaction() {
    const SHARDS: u64 = 2_000;
    let folder = TempDir::new().unwrap();
    let store = Counting::new(open(folder.path()));
    let controller = Controller::start_on(Arc::new(store.clone()), 1);
    let (commits, reads) = (store.commits(), store.reads());
    let collections = controller.create(SHARDS);
    assert_eq!(store.commits() - commits, 1, "all are opened at once");
    assert!(
        store.reads() - reads < 10,
        "{} reads",
        store.reads() - reads
    );
    for tick in 1..=5 {
        let upper = Upper::at(1_000 * tick);
        let commits = store.commits();
        let uppers = (0..SHARDS).map(|id| (id, upper.clone())).collect();
        controller.client.report_uppers(uppers).wait().unwrap();
        comes_true(|| controller.client.metrics().downgrades.behind == 0);
        assert_eq!(store.commits() - commits, 1, "at tick {tick}");
    }
    assert!(
        store.reads() - reads < 50,
        "{} reads",
        store.reads() - reads
    );
    assert_eq!(collections[7].durable_since(), Since::at(4_990));
    drop(collections);
    controller.stop();
}
