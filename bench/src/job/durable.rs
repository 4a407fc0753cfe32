//! Sinces that become durable: through the engine, and one compare-and-set after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{
    Client, Collection, Config, Description, Engine, EngineThread, Key, ReadPolicy, ShardId, Since,
    Upper,
};
use lowwater_shard::consensus::{Consensus, Fence, Offer, Outcome};
use lowwater_shard::{Epoch, Incarnation, LogId, ReaderId, SeqNo, ShardStorage};
use tokio::runtime::{Builder, Runtime};

/// As many bytes as a downgrade writes.
const VERSION_BYTES: usize = 70;

const READER: ReaderId = ReaderId::new(1);

/// Why a bench that fails has no figures.
const WORKS: &str = "the store of a bench works";

/// A store, and the runtime that drives it.
#[derive(Debug)]
pub struct Store {
    pub(super) runtime: Runtime,
    pub(super) consensus: Arc<dyn Consensus>,
    /// Shards that were given names so far.
    named: u128,
    /// Versions written one by one so far.
    singles: u64,
}

impl Store {
    /// A store that `open` opens in a runtime of its own.
    ///
    /// # Panics
    ///
    /// If there is no runtime to be had.
    pub fn new<S: Consensus>(open: impl AsyncFnOnce() -> S) -> Self {
        let runtime = runtime();
        let consensus = Arc::new(runtime.block_on(open()));
        Store {
            runtime,
            consensus,
            named: 0,
            singles: 0,
        }
    }

    /// One compare-and-set after another on one log: what the same job costs without a transaction
    /// for many.
    ///
    /// # Panics
    ///
    /// If the store fails.
    pub fn one_by_one(&mut self, operations: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..operations {
            let offer = Offer {
                log: LogId::data(ShardId::new(u128::MAX)),
                seen: (self.singles > 0).then(|| SeqNo::new(self.singles)),
                data: vec![7; VERSION_BYTES].into(),
                keep_from: None,
            };
            let committed = self.consensus.commit(None, vec![offer]);
            let committed = self.runtime.block_on(committed).expect(WORKS);
            assert_eq!(committed, Ok(vec![Outcome::Taken]));
            self.singles += 1;
        }
        start.elapsed()
    }

    /// An engine of a new epoch with so many shards of its own, and how long it took to open them.
    ///
    /// # Panics
    ///
    /// If the store or the engine fails.
    pub fn controller(&mut self, shards: u64) -> (Controller, Duration) {
        let first = self.named;
        self.named += u128::from(shards);
        self.controller_of(first, shards)
    }

    /// Opens the shards of the last controller again, with an engine of the next epoch: how long it
    /// takes until all can be used.
    ///
    /// # Panics
    ///
    /// If the store or the engine fails.
    pub fn reopen(&mut self, shards: u64, operations: u64) -> Duration {
        let first = self.named - u128::from(shards);
        let open = |_| self.controller_of(first, shards).1;
        (0..operations).map(open).sum()
    }

    fn controller_of(&self, first: u128, shards: u64) -> (Controller, Duration) {
        let current = self.runtime.block_on(self.consensus.fence()).expect(WORKS);
        let fence = Fence {
            epoch: Epoch::new(current.map_or(0, |fence| fence.epoch.number()) + 1),
            incarnation: Incarnation::random(),
        };
        let taken = self.runtime.block_on(self.consensus.take_over(fence));
        taken.expect(WORKS).expect("nobody else is in charge");
        let consensus = Arc::clone(&self.consensus);
        let storage = ShardStorage::spawn(self.runtime.handle(), consensus, READER, fence);
        let config = Config {
            downgrade_interval: Duration::ZERO,
            ..Config::default()
        };
        let (engine, client) = Engine::new(config, storage).expect("an engine starts");
        let thread = engine.spawn().expect("an engine starts");
        let new = |id: u64| {
            let shard = ShardId::new(first + u128::from(id));
            Description::new(id, ReadPolicy::step_back()).shard(shard)
        };
        let batch = (0..shards).map(new).collect();
        let start = Instant::now();
        let collections = client.create(batch).wait().expect(WORKS);
        let took = start.elapsed();
        let controller = Controller {
            keys: collections.iter().map(Collection::key).collect(),
            last: collections
                .into_iter()
                .next_back()
                .expect("there are shards"),
            client,
            thread: Some(thread),
            upper: 1,
        };
        (controller, took)
    }
}

/// What drives a store: a thread of its own.
pub(super) fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build();
    runtime.expect("a runtime starts")
}

/// An engine with many shards.
#[derive(Debug)]
pub struct Controller {
    client: Client<u64, u64>,
    thread: Option<EngineThread>,
    keys: Vec<Key>,
    last: Collection<u64, u64>,
    upper: u64,
}

impl Controller {
    /// Moves all sinces, so often, until they are durable.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn downgrade(&mut self, operations: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..operations {
            self.upper += 1;
            let upper = Upper::at(self.upper);
            let uppers = self.keys.iter().map(|key| (*key, upper.clone())).collect();
            self.client.report(uppers).wait().expect(WORKS);
            // All of them are asked for in one request, and answered in one.
            let durable = Since::at(self.upper - 1);
            let mut changes = self.last.subscribe();
            while changes.wait().expect(WORKS).durable_since != durable {}
        }
        let took = start.elapsed();
        let downgrades = self.client.metrics().downgrades;
        assert_eq!(downgrades.behind, 0, "all of them are durable");
        took
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // A drop must not panic; what went wrong in the thread it has said itself.
        self.client.stop().wait().ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
