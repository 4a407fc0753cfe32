//! An engine whose store is slow, away, or comes back.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{
    Client, Collection, Config, Description, Engine, EngineThread, ReadPolicy, ShardId, Since,
    StopError, Upper,
};
use lowwater_shard::consensus::unreliable::{Fault, UnreliableConsensus};
use lowwater_shard::consensus::{Consensus, Fence, MemoryConsensus};
use lowwater_shard::record::SinceRecord;
use lowwater_shard::{Epoch, Incarnation, Log, ReaderId, ShardStorage, Transactor};
use tokio::runtime::Runtime;

const SHARDS: u64 = 50;

/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(60);

struct Controller {
    client: Client<u64, u64>,
    engine: EngineThread,
    store: UnreliableConsensus,
    collections: Vec<Collection<u64, u64>>,
    runtime: Runtime,
}

impl Controller {
    fn start(stop_within: Duration) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let store = UnreliableConsensus::new(Arc::new(MemoryConsensus::new()));
        let fence = Fence {
            epoch: Epoch::new(1),
            incarnation: Incarnation::random(),
        };
        runtime.block_on(store.take_over(fence)).unwrap().unwrap();
        let reliable = Arc::new(store.clone());
        let storage = ShardStorage::spawn(runtime.handle(), reliable, ReaderId::new(1), fence);
        let config = Config {
            downgrade_interval: Duration::from_millis(1),
            stop_within,
            ..Config::default()
        };
        let (engine, client) = Engine::new(config, storage).unwrap();
        let engine = engine.spawn().unwrap();
        let new =
            |id: u64| Description::new(id, ReadPolicy::step_back()).shard(ShardId::new(id.into()));
        let collections = client
            .create((0..SHARDS).map(new).collect())
            .wait()
            .unwrap();
        Controller {
            client,
            engine,
            store,
            collections,
            runtime,
        }
    }

    /// All of them are written up to here, and a hold is taken and given back on each.
    fn tick(&self, upper: u64) {
        let uppers = (0..SHARDS).map(|id| (id, Upper::at(upper))).collect();
        self.client.report_uppers(uppers).wait().unwrap();
        for collection in &self.collections {
            let hold = collection.acquire().unwrap();
            assert_eq!(hold.since(), &Since::at(upper - 1));
        }
        let downgrades = self.client.metrics().downgrades;
        assert!(downgrades.waiting <= SHARDS && downgrades.in_flight <= SHARDS);
    }

    fn becomes_durable(&self, since: u64) {
        let began = Instant::now();
        while self.client.metrics().downgrades.behind > 0 {
            assert!(began.elapsed() < BOUND, "it does not become durable");
            std::thread::yield_now();
        }
        for (shard, collection) in self.collections.iter().enumerate() {
            assert_eq!(collection.durable_since(), Since::at(since));
            assert_eq!(self.stored(shard as u128), Since::at(since));
        }
    }

    fn stored(&self, shard: u128) -> Since<u64> {
        let reader = Transactor::new(Arc::new(self.store.clone()), None);
        let mut log = Log::<SinceRecord<u64>>::new(ShardId::new(shard));
        let read = self.runtime.block_on(reader.refresh(&mut [&mut log]));
        read.unwrap().remove(0).unwrap();
        log.record().since().clone()
    }
}

#[test]
fn while_the_store_is_stuck_all_that_needs_none_is_done_and_then_nothing_is_lost() {
    let controller = Controller::start(BOUND);
    controller.store.hold();
    (1..=300).for_each(|upper| controller.tick(upper));
    assert_eq!(controller.collections[0].durable_since(), Since::at(0));
    controller.store.release();
    controller.becomes_durable(299);
    controller.client.stop().wait().unwrap();
    controller.engine.join().unwrap();
}

#[test]
fn answers_that_are_lost_and_reads_that_fail_lose_no_wish() {
    let controller = Controller::start(BOUND);
    let faults = [
        Fault::Refused,
        Fault::LostBefore,
        Fault::None,
        Fault::LostAfter,
        Fault::Late,
        Fault::Refused,
        Fault::Refused,
        Fault::LostAfter,
        Fault::LostAfter,
    ];
    controller.store.next_commits(faults);
    for upper in 1..=100 {
        controller.tick(upper);
        if upper % 10 == 0 {
            controller.store.next_reads_fail(1);
        }
    }
    let began = Instant::now();
    let mut upper = 100;
    while controller.store.faults_left() > 0 {
        assert!(began.elapsed() < BOUND, "the store is not asked");
        upper += 1;
        controller.tick(upper);
    }
    // Reads that are still to fail are read again.
    let mut left = 10;
    while left > 0
        && controller
            .runtime
            .block_on(controller.store.fence())
            .is_err()
    {
        left -= 1;
    }
    controller.becomes_durable(upper - 1);
    assert!(controller.client.metrics().downgrades.failed > 0);
    controller.client.stop().wait().unwrap();
    controller.engine.join().unwrap();
}

#[test]
fn stopping_writes_what_is_left_or_says_that_it_could_not() {
    let controller = Controller::start(BOUND);
    controller.store.hold();
    controller.tick(10);
    controller.tick(20);
    let stopping = controller.client.stop();
    controller.store.release();
    stopping.wait_timeout(BOUND).unwrap().unwrap();
    controller.becomes_durable(19);

    let controller = Controller::start(Duration::from_millis(20));
    controller.store.hold();
    controller.tick(10);
    let stopped = controller.client.stop().wait_timeout(BOUND).unwrap();
    assert_eq!(stopped, Err(StopError::Unwritten { shards: SHARDS }));
    controller.engine.join().unwrap();
    // What it was asked for it may carry out later.
    controller.store.release();
}
