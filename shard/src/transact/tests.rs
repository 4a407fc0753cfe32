//! Commands and lost answers.

use std::sync::atomic::{AtomicU64, Ordering};

use lowwater::{ShardId, Since, Upper};
use proptest::prelude::*;

use super::*;
use crate::consensus::unreliable::{Fault, UnreliableConsensus};
use crate::consensus::{Answer, Changes, MemoryConsensus, Truncation};
use crate::id::SeqNo;
use crate::id::{Epoch, Incarnation, LogId, ReaderId};
use crate::log::LogFault;
use crate::record::{AppendError, DataChange, DataRecord, NewBatch, SinceRecord, UpperMismatch};

type Data = DataRecord<u64>;

const SHARD: u128 = 7;

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(epoch.into()),
    }
}

fn data() -> Log<Data> {
    Log::new(ShardId::new(SHARD))
}

/// A command that must not be carried out twice, nor be said to have failed when it was.
fn append(
    from: u64,
) -> impl FnMut(&Data) -> Result<Decision<DataChange<u64>, ()>, AppendError<u64>> {
    move |record| {
        let (lower, upper) = (Upper::at(from), Upper::at(from + 1));
        let batch = NewBatch::empty(lower, upper).expect("it goes forward");
        let Decision { changes, .. } = record.compare_and_append(batch)?;
        Ok(Decision {
            changes,
            outcome: (),
        })
    }
}

struct World {
    memory: MemoryConsensus,
    unreliable: UnreliableConsensus,
}

impl World {
    fn new() -> Self {
        let memory = MemoryConsensus::new();
        World {
            unreliable: UnreliableConsensus::new(Arc::new(memory.clone())),
            memory,
        }
    }

    /// Somebody whose answers are lost.
    fn unlucky(&self) -> Transactor {
        Transactor::new(Arc::new(self.unreliable.clone()), None)
    }

    /// Somebody else.
    fn lucky(&self) -> Transactor {
        Transactor::new(Arc::new(self.memory.clone()), None)
    }

    async fn upper(&self) -> Upper<u64> {
        let mut log = data();
        self.lucky()
            .refresh(&mut [&mut log])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        log.record().upper().clone()
    }
}

/// On a clock that runs when everybody waits.
fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

#[test]
fn a_command_whose_answer_is_lost_is_carried_out_once() {
    use Fault::{Late, LostAfter, LostBefore, None};
    for faults in [
        vec![LostBefore],
        vec![LostAfter],
        vec![Late],
        vec![LostBefore, LostBefore, LostAfter],
        vec![LostAfter, LostBefore, Fault::Refused],
        vec![Late, Late, LostAfter],
        vec![None, LostAfter],
    ] {
        run(async {
            let world = World::new();
            world.unreliable.next_commits(faults.clone());
            let mut log = data();
            for from in 0..3 {
                let done = world.unlucky().carry_out(&mut log, append(from)).await;
                assert_eq!(done, Ok(()), "{faults:?}");
            }
            assert_eq!(world.upper().await, Upper::at(3));
        });
    }
}

#[test]
fn a_command_that_is_refused_for_sure_is_not_tried_again() {
    run(async {
        let world = World::new();
        world.unreliable.next_commits([Fault::Refused]);
        let error = world
            .unlucky()
            .carry_out(&mut data(), append(0))
            .await
            .unwrap_err();
        let CommandError::Store(StoreTrouble(error)) = error else {
            panic!("{error:?}")
        };
        assert!(error.is_determinate());
        assert!(world.upper().await.is_minimum());
    });
}

#[test]
fn who_was_overtaken_while_the_answer_was_lost_is_told_so() {
    run(async {
        let world = World::new();
        world.unreliable.next_commits([Fault::LostBefore]);
        let (unlucky, lucky) = (world.unlucky(), world.lucky());
        let (mut mine, mut theirs) = (data(), data());
        let (overtaken, done) = tokio::join!(
            biased;
            unlucky.carry_out(&mut mine, append(0)),
            lucky.carry_out(&mut theirs, append(0)),
        );
        assert_eq!(done, Ok(()));
        let actual = Upper::at(1);
        let mismatch = AppendError::UpperMismatch(UpperMismatch { actual });
        assert_eq!(overtaken, Err(CommandError::Refused(mismatch)));
    });
}

#[test]
fn who_was_followed_while_the_answer_was_lost_has_done_it() {
    run(async {
        let world = World::new();
        world.unreliable.next_commits([Fault::LostAfter]);
        let (unlucky, lucky) = (world.unlucky(), world.lucky());
        let (mut mine, mut theirs) = (data(), data());
        let (done, followed) = tokio::join!(
            biased;
            unlucky.carry_out(&mut mine, append(0)),
            lucky.carry_out(&mut theirs, append(1)),
        );
        assert_eq!((done, followed), (Ok(()), Ok(())));
        // It has seen its own version only, and goes on from there.
        assert_eq!(mine.seen(), Some(SeqNo::FIRST));
        assert_eq!(unlucky.carry_out(&mut mine, append(2)).await, Ok(()));
    });
}

#[test]
fn where_the_version_was_truncated_meanwhile_the_outcome_stays_unknown() {
    run(async {
        let world = World::new();
        world.unreliable.next_commits([Fault::LostAfter]);
        let (unlucky, lucky) = (world.unlucky(), world.lucky());
        let (mut mine, mut theirs) = (data(), data());
        let overtake = async {
            for from in 1..50 {
                lucky.carry_out(&mut theirs, append(from)).await.unwrap();
            }
        };
        let (unknown, ()) = tokio::join!(
            biased;
            unlucky.carry_out(&mut mine, append(0)),
            overtake,
        );
        let Err(CommandError::Store(StoreTrouble(error))) = unknown else {
            panic!("it was guessed: {unknown:?}")
        };
        assert!(!error.is_determinate());
    });
}

#[test]
fn a_store_that_stays_away_leaves_the_outcome_unknown_and_nobody_hangs() {
    run(async {
        let world = World::new();
        world.unreliable.next_commits([Fault::LostBefore; 100]);
        let unknown = world.unlucky().carry_out(&mut data(), append(0)).await;
        let Err(CommandError::Store(StoreTrouble(error))) = unknown else {
            panic!("it was guessed: {unknown:?}")
        };
        assert!(!error.is_determinate());
    });
}

#[test]
fn a_refusal_comes_from_the_latest_record() {
    run(async {
        let world = World::new();
        let lucky = world.lucky();
        let (mut mine, mut theirs) = (data(), data());
        for from in 0..5 {
            assert_eq!(lucky.carry_out(&mut theirs, append(from)).await, Ok(()));
        }
        let actual = Upper::at(5);
        let mismatch = AppendError::UpperMismatch(UpperMismatch { actual });
        let refused = lucky.carry_out(&mut mine, append(3)).await;
        assert_eq!(refused, Err(CommandError::Refused(mismatch)));
        assert_eq!(lucky.carry_out(&mut mine, append(5)).await, Ok(()));
    });
}

#[test]
fn what_is_found_done_already_comes_from_the_latest_record() {
    run(async {
        let lucky = World::new().lucky();
        let (reader, epoch) = (ReaderId::new(1), Epoch::new(1));
        let open = |record: &SinceRecord<u64>| {
            Ok::<_, std::convert::Infallible>(record.open_critical(reader, epoch))
        };
        let mut mine = Log::new(ShardId::new(SHARD));
        lucky.carry_out(&mut mine, open).await.unwrap();
        let since = Since::at(9);
        let downgrade =
            |record: &SinceRecord<u64>| record.compare_and_downgrade(reader, epoch, epoch, &since);
        let mut theirs = Log::new(ShardId::new(SHARD));
        lucky.carry_out(&mut theirs, downgrade).await.unwrap();
        let opened = lucky.carry_out(&mut mine, open).await.unwrap();
        assert_eq!(opened.since, since);
    });
}

fn fenced_while_the_answer_is_lost(fault: Fault) -> Result<(), CommandError<AppendError<u64>>> {
    run(async {
        let world = World::new();
        let store = world.unlucky().store;
        store.take_over(fence(1)).await.unwrap().unwrap();
        let old = Transactor::new(Arc::clone(&store), Some(fence(1)));
        world.unreliable.next_commits([fault]);
        let mut log = data();
        let (done, taken) = tokio::join!(
            biased;
            old.carry_out(&mut log, append(0)),
            async { store.take_over(fence(2)).await },
        );
        taken.unwrap().unwrap();
        done
    })
}

#[test]
fn who_is_fenced_while_the_answer_is_lost_learns_what_became_of_it() {
    let by = Some(fence(2));
    let before = fenced_while_the_answer_is_lost(Fault::LostBefore);
    assert_eq!(before, Err(CommandError::Fenced(Fenced { by })));
    assert_eq!(fenced_while_the_answer_is_lost(Fault::LostAfter), Ok(()));
    let late = fenced_while_the_answer_is_lost(Fault::Late);
    assert_eq!(late, Err(CommandError::Fenced(Fenced { by })));
}

#[test]
fn a_log_that_has_lost_versions_is_an_error_and_nobody_hangs() {
    run(async {
        let mut log = data();
        let before = World::new();
        for from in 0..3 {
            before
                .lucky()
                .carry_out(&mut log, append(from))
                .await
                .unwrap();
        }
        let restored = World::new();
        let mut older = data();
        restored
            .lucky()
            .carry_out(&mut older, append(0))
            .await
            .unwrap();
        let error = restored
            .lucky()
            .carry_out(&mut log, append(3))
            .await
            .unwrap_err();
        let CommandError::Log(error) = error else {
            panic!("{error:?}")
        };
        assert_eq!(error.fault, LogFault::Missing);
        // What was read before is no base for what others write from there on.
        assert_eq!(log.seen(), None);
        for from in 1..4 {
            restored
                .lucky()
                .carry_out(&mut older, append(from))
                .await
                .unwrap();
        }
        let read = restored.lucky().refresh(&mut [&mut log]).await.unwrap();
        assert_eq!(read, [Ok(())]);
        assert_eq!(log.record(), older.record());
    });
}

/// Counts what it is asked.
#[derive(Debug, Default)]
struct Counting {
    memory: MemoryConsensus,
    commits: AtomicU64,
    scans: AtomicU64,
}

impl Consensus for Counting {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.memory.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.memory.commit(fence, offers)
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.memory.scan(scans)
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        self.memory.truncate(truncations)
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.memory.list(after, logs_max)
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.memory.fence()
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        self.memory.take_over(fence)
    }

    fn changes(&self) -> Changes {
        self.memory.changes()
    }
}

#[test]
fn many_commands_are_one_transaction_each_with_its_outcome() {
    run(async {
        let store = Arc::new(Counting::default());
        let transactor = Transactor::new(Arc::<Counting>::clone(&store), None);
        let (reader, epoch) = (ReaderId::new(1), Epoch::new(1));
        let mut logs: Vec<Log<SinceRecord<u64>>> = (0..1_000)
            .map(|shard| Log::new(ShardId::new(shard)))
            .collect();
        let open = |record: &SinceRecord<u64>| {
            let opened = record.open_critical(reader, epoch);
            Ok::<_, std::convert::Infallible>(opened)
        };
        let tasks = logs.iter_mut().map(|log| Task { log, command: open });
        let opened = transactor.carry_out_all(tasks.collect()).await;
        assert!(opened.iter().all(Result::is_ok));
        // Another one has moved some of them meanwhile.
        let mut others = logs.clone();
        let moved = Since::at(100);
        let move_on =
            |record: &SinceRecord<u64>| record.compare_and_downgrade(reader, epoch, epoch, &moved);
        let tasks = others.iter_mut().step_by(10).map(|log| Task {
            log,
            command: move_on,
        });
        transactor.carry_out_all(tasks.collect()).await;

        store.commits.store(0, Ordering::Relaxed);
        store.scans.store(0, Ordering::Relaxed);
        let wish = Since::at(50);
        let downgrade =
            |record: &SinceRecord<u64>| record.compare_and_downgrade(reader, epoch, epoch, &wish);
        let tasks = logs.iter_mut().map(|log| Task {
            log,
            command: downgrade,
        });
        let outcomes = transactor.carry_out_all(tasks.collect()).await;
        for (shard, outcome) in outcomes.into_iter().enumerate() {
            let expected = if shard % 10 == 0 {
                crate::record::Downgraded::Kept(moved.clone())
            } else {
                crate::record::Downgraded::Moved
            };
            assert_eq!(outcome, Ok(expected));
        }
        // Those that had moved were read again, all in one request, and had nothing to write.
        assert_eq!(store.commits.load(Ordering::Relaxed), 1);
        assert_eq!(store.scans.load(Ordering::Relaxed), 1);
    });
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    use Fault::{Late, LostAfter, LostBefore, None, Refused};
    let fault = prop::sample::select(vec![None, None, Refused, LostBefore, LostAfter, Late]);
    prop::collection::vec(fault, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two writers append by turns wherever the shard ends: what they were told they have written
    /// is what is there, each piece once.
    #[test]
    fn what_writers_are_told_is_what_is_there(faults in faults(), reads in 0_usize..3) {
        run(async {
            let world = World::new();
            world.unreliable.next_commits(faults);
            world.unreliable.next_reads_fail(reads);
            let write = async |transactor: Transactor| {
                let mut log = data();
                let (mut written, mut unknown) = (Vec::new(), Vec::new());
                while written.len() < 10 {
                    let from = log.record().upper().frontier().as_option().copied().unwrap();
                    match transactor.carry_out(&mut log, append(from)).await {
                        Ok(()) => written.push(from),
                        Err(CommandError::Store(StoreTrouble(error))) => {
                            if !error.is_determinate() {
                                unknown.push(from);
                            }
                        }
                        // Refused: the other one was faster.
                        Err(_) => {}
                    }
                    tokio::task::yield_now().await;
                }
                (written, unknown)
            };
            let (one, two) = tokio::join!(write(world.unlucky()), write(world.unlucky()));
            let mut written = [one.0, two.0].concat();
            let unknown = [one.1, two.1].concat();
            written.sort_unstable();
            assert!(written.is_sorted_by(|left, right| left < right), "twice: {written:?}");
            let upper = world.upper().await.frontier().as_option().copied().unwrap();
            for from in 0..upper {
                let told = written.binary_search(&from).is_ok();
                assert!(told || unknown.contains(&from), "nobody has written {from}");
            }
            assert!(written.last() < Some(&upper), "what was written is not there");
        });
    }
}
