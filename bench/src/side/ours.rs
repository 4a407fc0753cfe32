//! Lowwater as a side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lowwater::{
    Client, Collection, Config, Description, Engine, EngineThread, Key, MemoryStorage, Pending,
    ReadHold, ReadPolicy, ShardId, Since, Upper,
};

use super::{Finder, Handle, Served, Side, Ticking};
use crate::sample::nanosecond_histogram;
use crate::workload::{LAG, Node};

const EXISTS: &str = "the bench asks for collections that it has created, while the engine runs";

/// Lowwater, turned by hand.
pub struct Ours {
    engine: Engine<u64, u64>,
    client: Client<u64, u64>,
    policy: ReadPolicy<u64>,
    /// The keys of the first collections, as many as have been needed for a tick.
    keys: Vec<Key>,
}

impl Ours {
    fn create_all(&mut self, batch: Vec<Description<u64, u64>>) {
        let created = self.client.create(batch);
        let created = self
            .turn_for(created)
            .map_err(|refused| refused.to_string());
        drop(created.expect("the bench creates each collection once"));
    }

    /// Turns until the answer is there. What it asks of memory storage is answered by another
    /// thread, and takes more than one turn.
    fn turn_for<R, E: From<lowwater::StopReason>>(
        &mut self,
        mut pending: Pending<R, E>,
    ) -> Result<R, E> {
        loop {
            self.engine.turn();
            match pending.wait_timeout(Duration::ZERO) {
                Ok(answer) => return answer,
                Err(still) => pending = still,
            }
        }
    }

    fn describe(&self, node: Node) -> Description<u64, u64> {
        Description::new(node.id, self.policy.clone()).depends_on(node.dependencies)
    }

    fn collection(&self, id: u64) -> Collection<u64, u64> {
        self.client.collection(id).expect(EXISTS)
    }
}

impl Side for Ours {
    type Handle = Collection<u64, u64>;
    type Finder = Client<u64, u64>;
    type Tick = Vec<(Key, Upper<u64>)>;
    type Served = OursServed;
    type Ticking = OursTicking;

    fn new() -> Self {
        let (engine, client) = Engine::new(Config::default(), MemoryStorage::new())
            .expect("the system has a thread to give");
        let policy = ReadPolicy::lag_writes_by(LAG, 1).expect("the granularity is not 0");
        Self {
            engine,
            client,
            policy,
            keys: Vec::new(),
        }
    }

    fn create(&mut self, nodes: Vec<Node>) {
        let batch = nodes.into_iter().map(|node| self.describe(node)).collect();
        self.create_all(batch);
    }

    fn create_with_shards(&mut self, nodes: Vec<Node>) {
        let describe = |node: Node| {
            let shard = ShardId::new(node.id.into());
            self.describe(node).shard(shard)
        };
        let batch = nodes.into_iter().map(describe).collect();
        self.create_all(batch);
    }

    fn handle(&self, id: u64) -> Self::Handle {
        self.collection(id)
    }

    fn finder(&self) -> Self::Finder {
        self.client.clone()
    }

    fn prepare_tick(&mut self, len: u64, upper: u64) -> Self::Tick {
        for id in self.keys.len() as u64..len {
            self.keys.push(self.collection(id).key());
        }
        self.keys[..len as usize]
            .iter()
            .map(|&key| (key, Upper::at(upper)))
            .collect()
    }

    fn tick(&mut self, tick: Self::Tick) {
        let reported = self.client.report(tick);
        self.turn_for(reported).expect(EXISTS);
    }

    fn hold_back(&mut self, ids: &[u64], time: u64) {
        let policies = ids
            .iter()
            .map(|&id| (id, ReadPolicy::ValidFrom(Since::at(time))))
            .collect();
        let set = self.client.set_policies(policies);
        self.turn_for(set).expect(EXISTS);
    }

    fn acquire_at(&mut self, id: u64, time: u64) -> ReadHold<u64, u64> {
        let hold = self.collection(id).acquire_at(Since::at(time));
        self.turn_for(hold).expect(EXISTS)
    }

    fn downgrade(&mut self, hold: &mut ReadHold<u64, u64>, to: u64) {
        hold.downgrade(Since::at(to))
            .expect("the bench moves holds forward");
        self.engine.turn();
    }

    fn since(&self, id: u64) -> u64 {
        let since = self.collection(id).since();
        *since
            .frontier()
            .first()
            .expect("no collection of a bench is gone")
    }

    fn spawn(self) -> OursServed {
        let thread = self
            .engine
            .spawn()
            .expect("the system has a thread to give");
        OursServed {
            client: self.client,
            thread: Some(thread),
        }
    }

    fn spawn_ticking(mut self, len: u64, every: Duration) -> OursTicking {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("ticking".into())
            .spawn(move || self.tick_until(&stopped, len, every))
            .expect("the system has a thread to give");
        OursTicking {
            stop,
            thread: Some(thread),
        }
    }
}

impl Ours {
    fn tick_until(&mut self, stopped: &AtomicBool, len: u64, every: Duration) -> Histogram<u64> {
        let mut took = nanosecond_histogram();
        let mut upper = 0;
        let mut next = Instant::now() + every;
        while !stopped.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            upper += 1;
            let tick = self.prepare_tick(len, upper);
            let start = Instant::now();
            self.tick(tick);
            took.saturating_record(start.elapsed().as_nanos() as u64);
            // What was missed is missed, as with the baseline.
            next = (next + every).max(Instant::now());
        }
        took
    }
}

impl Handle for Collection<u64, u64> {
    type Hold = ReadHold<u64, u64>;

    #[inline]
    fn acquire(&self) -> Self::Hold {
        Collection::acquire(self).expect(EXISTS)
    }

    #[inline]
    fn clone_hold(hold: &Self::Hold) -> Self::Hold {
        hold.try_clone().expect(EXISTS)
    }
}

impl Finder for Client<u64, u64> {
    type Hold = ReadHold<u64, u64>;

    #[inline]
    fn acquire(&self, id: u64) -> Self::Hold {
        Client::acquire(self, id).expect(EXISTS)
    }
}

/// Lowwater, with its owner thread at work.
pub struct OursServed {
    client: Client<u64, u64>,
    thread: Option<EngineThread>,
}

impl Served for OursServed {
    fn round_trip(&self, id: u64, upper: u64) {
        self.client
            .report_uppers(vec![(id, Upper::at(upper))])
            .wait()
            .expect(EXISTS);
    }

    fn settle(&self) {
        // What is asked now is answered after all that was sent before.
        self.client.stats().wait().expect(EXISTS);
    }
}

impl Drop for OursServed {
    fn drop(&mut self) {
        // A drop must not panic; what went wrong in the thread it has said itself.
        self.client.stop().wait().ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Lowwater, turned by a thread that ticks.
pub struct OursTicking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Histogram<u64>>>,
}

impl Ticking for OursTicking {
    fn stop(mut self) -> Histogram<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self
            .thread
            .take()
            .expect("only `stop` and `drop` take it, and both consume");
        thread.join().expect("ticking does not panic")
    }
}

impl Drop for OursTicking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
