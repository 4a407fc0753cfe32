//! What happens to the processes, and what must be in the end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::consensus::{Consensus, Fence};
use lowwater_shard::record::Blocked;
use lowwater_shard::{Epoch, FinalizeError, Incarnation, Shards, Upkeep};

use super::child::Process;
use super::oracle::Oracle;
use super::roles::{ME, SHARDS, as_of, contents, last, settings};
use crate::place::postgres::run;
use crate::place::{Address, Place, open};

/// Who works at the same time; two controllers fight.
const ROLES: [&str; 7] = [
    "writer",
    "writer of parts",
    "reader",
    "subscriber",
    "controller",
    "controller",
    "keeper",
];

/// For how long they work, while some are killed.
const WORK: Duration = Duration::from_secs(7);

/// Nothing takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn play(place: &Place) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}: {ROLES:?}");
    let mut story = Story {
        address: place.fresh(),
        luck: fastrand::Rng::with_seed(seed),
        oracle: Oracle::default(),
        started: 0,
    };
    story.work();
    eprintln!(
        "{} appends, {} unknown, {} snapshots, {} steps, {} leases lost, {} processes",
        SHARDS
            .map(|shard| story.oracle.count(shard))
            .iter()
            .sum::<usize>(),
        story.oracle.unknown(),
        story.oracle.snapshots,
        story.oracle.steps,
        story.oracle.lost_leases,
        story.started,
    );
    run(async {
        let end = End::new(&story.address).await;
        end.dead_readers_leave(&story.oracle).await;
        end.what_was_written_is_there(&story.oracle).await;
        end.nothing_else_is_left().await;
        end.what_was_written_is_there(&story.oracle).await;
    });
    story.a_dead_reader_is_named_and_expires();
}

struct Story {
    address: Address,
    luck: fastrand::Rng,
    oracle: Oracle,
    started: u16,
}

impl Story {
    fn start(&mut self, role: &'static str) -> Process {
        self.started += 1;
        Process::start(role, self.started, &self.address)
    }

    fn hear(&mut self, lines: &[String]) {
        lines.iter().for_each(|line| self.oracle.hear(line));
    }

    /// All work, and now and then one is killed, and another one goes on in its place.
    fn work(&mut self) {
        let mut processes: Vec<Process> = ROLES.map(|role| self.start(role)).into();
        let began = Instant::now();
        while began.elapsed() < WORK {
            thread::sleep(Duration::from_millis(self.luck.u64(100..600)));
            processes.iter_mut().for_each(Process::check);
            let dies = processes.swap_remove(self.luck.usize(0..processes.len()));
            let role = dies.role;
            let said = dies.kill();
            self.hear(&said);
            processes.push(self.start(role));
        }
        processes.iter_mut().for_each(Process::stop);
        for process in processes {
            let said = process.ended();
            self.hear(&said);
        }
        for shard in SHARDS {
            assert!(self.oracle.count(shard) > 5, "hardly anything was written");
        }
        assert!(self.oracle.snapshots > 0 && self.oracle.steps > 0);
    }

    fn a_dead_reader_is_named_and_expires(&mut self) {
        let sleeper = self.start("sleeper");
        let began = Instant::now();
        while sleeper.said().is_empty() {
            assert!(began.elapsed() < BOUND, "it does not register");
            thread::yield_now();
        }
        let said = sleeper.kill();
        let id = said[0].split(' ').nth(2).unwrap().to_owned();
        run(async {
            let end = End::new(&self.address).await;
            end.is_blocked_by_and_then_finalized(&id).await;
        });
    }
}

/// Another process, when all have come to an end.
struct End {
    store: Arc<dyn Consensus>,
    shards: Shards<u64>,
}

impl End {
    async fn new(address: &Address) -> Self {
        let store = open(&address.records).await;
        let runtime = tokio::runtime::Handle::current();
        let mut settings = settings();
        settings.upkeep = Upkeep::InBackground { tasks_max: 1 };
        settings.part_grace = Duration::from_millis(100);
        End {
            shards: Shards::new(&runtime, Arc::clone(&store), address.parts(), settings),
            store,
        }
    }

    /// Waits until it is so.
    async fn comes_true(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !is_so().await {
            assert!(began.elapsed() < BOUND, "{what}: it does not come true");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn dead_readers_leave(&self, oracle: &Oracle) {
        // Those that have died and were not yet expired by others are named.
        for shard in SHARDS.map(ShardId::new) {
            let _used = self
                .shards
                .writer(shard, &crate::place::rows::schema())
                .await
                .unwrap();
            let leased = self.shards.inspect(shard).await.unwrap().leased;
            for reader in leased.keys() {
                let known = oracle.readers.get(&reader.to_string());
                // One that was killed before it could say so is known to nobody but the record.
                assert!(
                    known.is_none_or(|known| *known == shard.number()),
                    "{reader}"
                );
            }
            self.comes_true("readers leave", async || {
                self.shards.inspect(shard).await.unwrap().leased.is_empty()
            })
            .await;
        }
    }

    async fn what_was_written_is_there(&self, oracle: &Oracle) {
        for shard in SHARDS {
            let id = ShardId::new(shard);
            let inspection = self.shards.inspect(id).await.unwrap();
            let since = inspection.since.frontier().first().copied().unwrap();
            let end = last(&inspection.upper).unwrap();
            assert!(since >= oracle.since(shard), "a since was lost");
            oracle.check_times(shard, end + 1);
            for at in since..=end {
                let read = self.shards.try_snapshot(id, &as_of(at)).await.unwrap();
                let found = contents(&read);
                found.check().unwrap();
                oracle.check(shard, at, &found);
            }
        }
    }

    /// Parts that nobody refers to are swept, those that were replaced are deleted, and what is left
    /// is what is referred to.
    async fn nothing_else_is_left(&self) {
        for shard in SHARDS.map(ShardId::new) {
            self.comes_true("only what is needed is left", async || {
                self.shards.compact(shard).await.unwrap();
                self.shards.sweep(shard).await.unwrap();
                let inspection = self.shards.inspect(shard).await.unwrap();
                let stored = self.shards.parts().list(shard).await.unwrap();
                assert!(stored.len() as u64 >= inspection.parts, "a part was lost");
                inspection.garbage == 0 && stored.len() as u64 == inspection.parts
            })
            .await;
        }
    }

    /// As long as the lease of the dead one runs, it is named; then nothing stands in the way.
    async fn is_blocked_by_and_then_finalized(&self, reader: &str) {
        let shard = ShardId::new(SHARDS[0]);
        let current = self.store.fence().await.unwrap().unwrap();
        let fence = Fence {
            epoch: Epoch::new(current.epoch.number() + 1),
            incarnation: Incarnation::random(),
        };
        self.store.take_over(fence).await.unwrap().unwrap();
        let leased = self.shards.inspect(shard).await.unwrap().leased;
        let names: Vec<String> = leased.keys().map(ToString::to_string).collect();
        assert_eq!(names, [reader]);
        let mut times_named = 0;
        self.comes_true("it is finalized", async || {
            match self.shards.finalize(shard, ME, Some(fence)).await {
                Ok(()) => true,
                Err(FinalizeError::Blocked(Blocked::Readers(readers))) => {
                    assert_eq!(
                        readers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                        [reader]
                    );
                    times_named += 1;
                    false
                }
                Err(FinalizeError::Storage(error)) => {
                    assert_eq!(error.kind(), StorageErrorKind::Retry, "{error}");
                    false
                }
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        assert!(times_named > 0, "it never stood in the way");
        assert!(self.shards.inspect(shard).await.unwrap().is_tombstone);
        assert_eq!(self.shards.parts().list(shard).await.unwrap(), []);
    }
}
