//! An engine on a store that is slow, away, or comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{
    Client, Collection, Config, Description, Engine, EngineThread, ReadPolicy, ShardId, Since,
    Upper,
};
use lowwater_shard::consensus::{Consensus, Fence};
use lowwater_shard::record::SinceRecord;
use lowwater_shard::{Epoch, Incarnation, Log, ReaderId, ShardStorage, Transactor};
use tokio::runtime::Runtime;

pub(crate) const SHARDS: u64 = 50;

/// Nothing here takes longer, unless it hangs.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Controller {
    pub(crate) client: Client<u64, u64>,
    pub(crate) engine: EngineThread,
    pub(crate) collections: Vec<Collection<u64, u64>>,
    store: Arc<dyn Consensus>,
    pub(crate) runtime: Runtime,
}

pub(crate) fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().unwrap()
}

/// Asks until it is answered: on a machine that is slow some of it takes longer than it may.
pub(crate) fn again<X, E: std::fmt::Display>(mut ask: impl FnMut() -> Result<X, E>) -> X {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < BOUND, "{error}"),
        }
    }
}

impl Controller {
    /// The store goes on in this runtime.
    pub(crate) fn start(
        runtime: Runtime,
        store: Arc<dyn Consensus>,
        stop_within: Duration,
    ) -> Self {
        let fence = Fence {
            epoch: Epoch::new(1),
            incarnation: Incarnation::random(),
        };
        let taken = again(|| runtime.block_on(store.take_over(fence)));
        taken.unwrap();
        let storage = ShardStorage::spawn(
            runtime.handle(),
            Arc::clone(&store),
            ReaderId::new(1),
            fence,
        );
        let config = Config {
            downgrade_interval: Duration::from_millis(1),
            stop_within,
            ..Config::default()
        };
        let (engine, client) = Engine::new(config, storage).unwrap();
        let engine = engine.spawn().unwrap();
        let new =
            |id: u64| Description::new(id, ReadPolicy::step_back()).shard(ShardId::new(id.into()));
        let collections = again(|| client.create((0..SHARDS).map(new).collect()).wait());
        Controller {
            client,
            engine,
            collections,
            store,
            runtime,
        }
    }

    /// All of them are written up to here, and a hold is taken and given back on each.
    pub(crate) fn tick(&self, upper: u64) {
        let uppers = (0..SHARDS).map(|id| (id, Upper::at(upper))).collect();
        self.client.report_uppers(uppers).wait().unwrap();
        for collection in &self.collections {
            let hold = collection.acquire().unwrap();
            assert_eq!(hold.since(), &Since::at(upper - 1));
        }
        let downgrades = self.client.metrics().downgrades;
        assert!(downgrades.waiting <= SHARDS && downgrades.in_flight <= SHARDS);
    }

    pub(crate) fn becomes_durable(&self, since: u64) {
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

    /// What is in the store; asked again while that is out of reach.
    fn stored(&self, shard: u128) -> Since<u64> {
        let reader = Transactor::new(Arc::clone(&self.store), None);
        let mut log = Log::<SinceRecord<u64>>::new(ShardId::new(shard));
        let read = again(|| self.runtime.block_on(reader.refresh(&mut [&mut log])));
        read.into_iter().for_each(|read| read.unwrap());
        log.record().since().clone()
    }

    pub(crate) fn stop(self) {
        self.client.stop().wait().unwrap();
        self.engine.join().unwrap();
    }
}
