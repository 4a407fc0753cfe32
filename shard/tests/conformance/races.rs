//! Many at once, each on a thread and with a handle of its own.

use std::sync::Barrier;
use std::thread;

use lowwater::ShardId;
use lowwater_shard::consensus::{Consensus, Fence, Outcome, Scan, Truncation, Version};
use lowwater_shard::record::{Decision, LeaseLost, SinceChange, SinceRecord};
use lowwater_shard::{Epoch, Incarnation, Log, LogId, ReaderId, SeqNo, Transactor};

use super::rules::{commit, log, numbers, offer};
use super::store::{Store, run};

const WRITERS: u64 = 4;
const INCREMENTS: u64 = 50;

/// Runs `work` on as many threads, at once.
fn at_once<X: Send>(
    store: &impl Store,
    work: impl AsyncFn(u64, &dyn Consensus) -> X + Sync,
) -> Vec<X> {
    let barrier = Barrier::new(WRITERS as usize);
    thread::scope(|scope| {
        let start = |writer| {
            let (work, barrier) = (&work, &barrier);
            scope.spawn(move || {
                run(async {
                    // Opening is part of the race: the first creates what is absent.
                    barrier.wait();
                    let store = store.open().await;
                    work(writer, &*store).await
                })
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(start).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    })
}

fn count(head: Option<&Version>) -> u64 {
    let text = head.map_or("0", |head| std::str::from_utf8(&head.data).unwrap());
    text.parse().unwrap()
}

fn seen(head: Option<&Version>) -> u64 {
    head.map_or(0, |head| head.seqno.number())
}

/// Adds one to the counter that a log is, however often others are faster.
pub(crate) async fn increment(store: &dyn Consensus, log: LogId) -> u64 {
    loop {
        let head = store.heads(vec![log]).await.unwrap().remove(0);
        let next = count(head.as_ref()) + 1;
        let offer = offer(log, seen(head.as_ref()), next.to_string());
        if commit(store, vec![offer]).await == [Outcome::Taken] {
            return next;
        }
    }
}

pub(crate) fn many_writers_of_one_log_lose_nothing(store: &impl Store) {
    let seen = at_once(store, async |_, store| {
        let mut seen = Vec::new();
        for _ in 0..INCREMENTS {
            let number = increment(store, log(1)).await;
            seen.push(number);
            // Truncation races with the writers, as close to the head as it may.
            let before = SeqNo::new(number);
            let truncation = Truncation {
                log: log(1),
                before,
            };
            store.truncate(vec![truncation]).await.unwrap();
        }
        seen
    });
    let mut seen = seen.concat();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=WRITERS * INCREMENTS));
    run(async {
        let left = numbers(&*store.open().await, log(1), 1).await;
        assert_eq!(left, [WRITERS * INCREMENTS]);
    });
}

pub(crate) fn writers_that_truncate_as_they_go_lose_nothing(store: &impl Store) {
    let taken = at_once(store, async |_, store| {
        let mut taken = Vec::new();
        while taken.len() < INCREMENTS as usize {
            let head = store.heads(vec![log(1)]).await.unwrap().remove(0);
            let seen = seen(head.as_ref());
            let mut next = offer(log(1), seen, "next");
            next.keep_from = Some(next.seqno());
            // One that comes late by more than was kept, while others truncate behind it.
            let mut late = offer(log(1), seen.saturating_sub(2), "late");
            late.keep_from = Some(late.seqno());
            let (late, next) = tokio::join!(
                store.commit(None, vec![late]),
                store.commit(None, vec![next]),
            );
            if seen > 0 {
                assert_eq!(
                    late.unwrap().unwrap(),
                    [Outcome::Stale],
                    "having seen {seen}"
                );
            }
            if next.unwrap().unwrap() == [Outcome::Taken] {
                taken.push(seen + 1);
            }
        }
        taken
    });
    let mut taken = taken.concat();
    taken.sort_unstable();
    taken.dedup();
    run(async {
        let left = numbers(&*store.open().await, log(1), 1).await;
        assert_eq!(left.len(), 1, "{left:?}");
        // The first may have been written by one that was late.
        assert!(taken.len() as u64 + 1 >= left[0], "two took one place");
        assert!(
            taken.len() as u64 >= WRITERS * INCREMENTS,
            "two took one place"
        );
    });
}

type Sinces = SinceRecord<u64>;

/// As many readers register at once as `ids` names.
fn register(record: &Sinces, ids: impl Iterator<Item = u128>) -> Decision<SinceChange<u64>, ()> {
    let registered = ids.flat_map(|id| {
        let decision = record.register_leased(ReaderId::new(id), 1_000, SeqNo::FIRST);
        decision.unwrap().changes
    });
    Decision {
        changes: registered.collect(),
        outcome: (),
    }
}

/// Some write little and others much, so that of two who offer the same place one offers a
/// difference, and the other one a full version: only one of them counts, and says what may go.
pub(crate) fn a_log_is_read_from_its_beginning_at_any_moment(store: &impl Store) {
    at_once(store, async |writer, _| {
        let transactor = Transactor::new(store.open().await, None);
        let mut log = Log::<Sinces>::new(ShardId::new(1));
        let read = async || {
            let mut fresh = Log::<Sinces>::new(ShardId::new(1));
            let read = transactor.refresh(&mut [&mut fresh]).await.unwrap();
            assert_eq!(read, [Ok(())]);
            fresh.record().leased().len()
        };
        for step in 0..u128::from(INCREMENTS) {
            let first = (u128::from(writer) << 64) + (step << 32);
            // The first one makes the record so large that full versions are far apart.
            let count = match (step + u128::from(writer)) % 4 {
                _ if step == 0 => 50,
                0 => 25,
                _ => 1,
            };
            let ids = first..first + count;
            let registered = transactor.carry_out(&mut log, |record: &Sinces| {
                Ok::<_, LeaseLost>(register(record, ids.clone()))
            });
            registered.await.unwrap();
            assert!(read().await as u128 >= count);
            if step == 0 {
                continue;
            }
            let left = transactor.carry_out(&mut log, |record: &Sinces| {
                let left = ids
                    .clone()
                    .flat_map(|id| record.leave(ReaderId::new(id)).changes);
                Ok::<_, LeaseLost>(Decision {
                    changes: left.collect(),
                    outcome: (),
                })
            });
            left.await.unwrap();
            read().await;
        }
    });
}

pub(crate) fn overlapping_transactions_lose_nothing(store: &impl Store) {
    const LOGS: u64 = 8;
    let taken = at_once(store, async |writer, store| {
        let mut logs: Vec<LogId> = (0..LOGS).map(|number| log(number.into())).collect();
        // Each in an order of its own, which must not make them wait for each other for ever.
        logs.rotate_left(writer as usize * 2);
        if writer % 2 == 1 {
            logs.reverse();
        }
        let mut taken = 0;
        for _ in 0..INCREMENTS {
            let heads = store.heads(logs.clone()).await.unwrap();
            let next = |(log, head): (&LogId, &Option<Version>)| {
                let head = head.as_ref();
                offer(*log, seen(head), (count(head) + 1).to_string())
            };
            let offers = logs.iter().zip(&heads).map(next).collect();
            let outcomes = commit(store, offers).await;
            taken += outcomes
                .iter()
                .filter(|outcome| **outcome == Outcome::Taken)
                .count();
        }
        taken as u64
    });
    let total = run(async {
        let logs = (0..LOGS).map(|number| log(number.into())).collect();
        let heads = store.open().await.heads(logs).await.unwrap();
        heads.iter().map(|head| count(head.as_ref())).sum::<u64>()
    });
    assert_eq!(total, taken.iter().sum::<u64>());
    assert!(total >= LOGS * INCREMENTS, "somebody is always the first");
}

pub(crate) fn nothing_lands_after_a_take_over(store: &impl Store) {
    let fenced = at_once(store, async |writer, store| {
        let mut fenced = 0;
        for _ in 0..20 {
            let current = store.fence().await.unwrap();
            let fence = Fence {
                epoch: Epoch::new(current.map_or(1, |fence| fence.epoch.number() + 1)),
                incarnation: Incarnation::new(writer.into()),
            };
            if store.take_over(fence).await.unwrap().is_ok() {
                fenced += u32::from(write_until_fenced(store, fence).await);
            }
        }
        fenced
    });
    let versions = run(async {
        let from = SeqNo::FIRST;
        let scan = Scan { log: log(1), from };
        store.open().await.scan(vec![scan]).await.unwrap().remove(0)
    });
    let epochs: Vec<u64> = versions
        .iter()
        .map(|version| count(Some(version)))
        .collect();
    assert!(
        epochs.is_sorted(),
        "an older controller wrote after a newer one: {epochs:?}"
    );
    assert!(
        fenced.into_iter().sum::<u32>() > 0,
        "nobody was fenced: there was no race"
    );
}

/// Writes the own epoch until another controller puts an end to it; false if none does.
async fn write_until_fenced(store: &dyn Consensus, fence: Fence) -> bool {
    for _ in 0..1_000 {
        let head = store.heads(vec![log(1)]).await.unwrap().remove(0);
        let epoch = fence.epoch.number().to_string();
        let offer = offer(log(1), seen(head.as_ref()), epoch);
        let written = store.commit(Some(fence), vec![offer]).await.unwrap();
        if written.is_err() {
            return true;
        }
        thread::yield_now();
    }
    false
}

pub(crate) fn exactly_one_of_many_takes_over_an_epoch(store: &impl Store) {
    let won = at_once(store, async |writer, store| {
        let mut won = Vec::new();
        for epoch in 1..=30 {
            let fence = Fence {
                epoch: Epoch::new(epoch),
                incarnation: Incarnation::new(writer.into()),
            };
            if store.take_over(fence).await.unwrap().is_ok() {
                won.push(epoch);
            }
        }
        won
    });
    let mut won = won.concat();
    let count = won.len();
    won.sort_unstable();
    won.dedup();
    assert_eq!(won.len(), count, "two have won one epoch");
    assert_eq!(won.last(), Some(&30));
}
