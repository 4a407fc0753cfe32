//! An engine on durable shards.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

#[path = "handles/counting.rs"]
mod counting;
mod place {
    pub(crate) mod rows;
}
#[path = "collections/stuck.rs"]
mod stuck;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{
    AcquireError, Client, Collection, Config, CreateError, Description, Engine, ReadPolicy,
    ShardId, Since, StopReason, Upper,
};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::unreliable::UnreliableConsensus;
use lowwater_shard::consensus::{Consensus, Fence, MemoryConsensus};
use lowwater_shard::record::{DataRecord, NewBatch, SinceRecord};
use lowwater_shard::{
    Epoch, Incarnation, Log, Parts, ReaderId, Settings, ShardStorage, Shards, Transactor, Upkeep,
};
use tempfile::TempDir;
use timely::progress::Antichain;
use tokio::runtime::Runtime;

use counting::Counting;
use place::rows::{list, schema, updates};
use stuck::Stuck;

const READER: ReaderId = ReaderId::new(1);

/// A controller and the runtime of its storage.
struct Controller {
    client: Client<u64, u64>,
    engine: lowwater::EngineThread,
    runtime: Runtime,
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

fn take_over(runtime: &Runtime, store: &Arc<dyn Consensus>, epoch: u64) -> Fence {
    let fence = Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::random(),
    };
    runtime.block_on(store.take_over(fence)).unwrap().unwrap();
    fence
}

impl Controller {
    fn start(folder: &Path, epoch: u64) -> Self {
        Controller::start_on(open(folder), epoch)
    }

    fn start_on(store: Arc<dyn Consensus>, epoch: u64) -> Self {
        let runtime = runtime();
        let fence = take_over(&runtime, &store, epoch);
        let storage = ShardStorage::spawn(runtime.handle(), store, READER, fence);
        Controller::start_with(runtime, storage)
    }

    fn start_with(runtime: Runtime, storage: ShardStorage<u64>) -> Self {
        let config = Config {
            downgrade_interval: Duration::from_millis(1),
            ..Config::default()
        };
        let (engine, client) = Engine::new(config, storage).unwrap();
        Controller {
            client,
            engine: engine.spawn().unwrap(),
            runtime,
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

#[test]
fn a_write_that_is_stuck_keeps_nobody_waiting_who_opens_its_shard_among_others() {
    let stuck = Stuck::default();
    let memory: Arc<dyn Consensus> = Arc::new(MemoryConsensus::new());
    let store = stuck.records(&memory);
    let runtime = runtime();
    let fence = take_over(&runtime, &store, 1);
    let settings = Settings {
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    };
    let shards = Shards::new(runtime.handle(), store, stuck.parts(), settings);
    let busy = ShardId::new(1);
    let writer = runtime.block_on(shards.writer(busy, &schema())).unwrap();
    let written = writer.compare_and_append(Upper::at(0), Upper::at(5), updates(&[]));
    runtime.block_on(written).unwrap();
    stuck.hold(busy);
    let writing = runtime.spawn(async move {
        let more = updates(&[]);
        writer
            .compare_and_append(Upper::at(5), Upper::at(50), more)
            .await
    });
    let patience = Instant::now() + Duration::from_secs(60);
    while !stuck.is_waited_for() {
        assert!(Instant::now() < patience, "nobody writes");
        std::thread::yield_now();
    }
    let controller = Controller::start_with(runtime, shards.storage(READER, fence));
    let lag = ReadPolicy::lag_writes_by(10, 1).unwrap();
    let new = |id: u64| Description::new(id, lag.clone()).shard(ShardId::new(id.into()));
    let (answer, created) = std::sync::mpsc::channel();
    let creating = controller.client.create((0..3).map(new).collect());
    std::thread::spawn(move || answer.send(creating.wait()));
    let created = created.recv_timeout(Duration::from_secs(60));
    let created = created.expect("it waits for who is stuck").unwrap();
    assert_eq!(created[1].upper(), Upper::at(5));
    stuck.release();
    let far = controller.runtime.block_on(writing).unwrap().unwrap();
    assert_eq!(far, Upper::at(50));
    let durable = || created[1].frontiers().durable_since == Since::at(40);
    while !durable() {
        assert!(
            Instant::now() < patience,
            "what was written is not heard of"
        );
        std::thread::yield_now();
    }
    controller.stop();
}

/// LESSONS: only the durable cut-off permits deletion.
#[test]
fn a_since_that_was_not_saved_before_the_crash_let_nothing_be_deleted() {
    let memory: Arc<dyn Consensus> = Arc::new(MemoryConsensus::new());
    let slow = UnreliableConsensus::new(Arc::clone(&memory));
    let controller = Controller::start_on(Arc::new(slow.clone()), 1);
    let collections = controller.create(1);
    let shard = ShardId::new(0);
    let looking_after = runtime();
    let settings = Settings {
        inline_bytes_max: 0,
        part_grace: Duration::ZERO,
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    };
    let store = Arc::clone(&memory);
    let shards = Shards::<u64>::new(looking_after.handle(), store, Parts::memory(), settings);
    // One row is there at every time, under another name at each.
    looking_after.block_on(async {
        let writer = shards.writer(shard, &schema()).await.unwrap();
        for at in 0..30_u64 {
            let row = at.cast_signed();
            let rows = updates(&[(row, at, 1), (row - 1, at, -1)]);
            let written = writer.compare_and_append(Upper::at(at), Upper::at(at + 1), rows);
            written.await.unwrap();
        }
    });
    comes_true(|| collections[0].durable_since() == Since::at(20));
    slow.hold();
    let further = ReadPolicy::ValidFrom(Since::at(29));
    controller
        .client
        .set_policies(vec![(0, further)])
        .wait()
        .unwrap();
    comes_true(|| collections[0].since() == Since::at(29));
    looking_after.block_on(async {
        for _ in 0..3 {
            shards.compact(shard).await.unwrap();
            shards.sweep(shard).await.unwrap();
        }
    });
    assert_eq!(collections[0].durable_since(), Since::at(20));
    // It dies with the write under way.
    let Controller { runtime: dying, .. } = controller;
    dying.shutdown_background();

    let next = Controller::start_on(memory, 2);
    assert_eq!(next.create(1)[0].durable_since(), Since::at(20));
    let contents = |at| {
        let as_of = Antichain::from_elem(at);
        looking_after.block_on(shards.snapshot(shard, &as_of))
    };
    for at in 20..30_u64 {
        let read = list(&contents(at).unwrap());
        assert_eq!(read, [(-1, at, -1), (at.cast_signed(), at, 1)]);
    }
    assert!(contents(19).is_err(), "what is before it was let go");
    next.stop();
}
