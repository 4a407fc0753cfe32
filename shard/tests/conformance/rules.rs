//! What each operation promises.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{
    Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version,
};
use lowwater_shard::{Epoch, Incarnation, LogId, SeqNo};

use super::store::{Postgres, Store, run};

pub(crate) fn log(number: u128) -> LogId {
    LogId::since(ShardId::new(number))
}

pub(crate) fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number)
}

pub(crate) fn offer(log: LogId, seen: u64, data: impl Into<Bytes>) -> Offer {
    let seen = (seen > 0).then(|| seqno(seen));
    let data = data.into();
    let keep_from = None;
    Offer {
        log,
        seen,
        data,
        keep_from,
    }
}

pub(crate) async fn commit(store: &dyn Consensus, offers: Vec<Offer>) -> Vec<Outcome> {
    store.commit(None, offers).await.unwrap().unwrap()
}

pub(crate) async fn write(store: &dyn Consensus, log: LogId, versions: u64) {
    for number in 1..=versions {
        let data = number.to_string();
        let outcome = commit(store, vec![offer(log, number - 1, data)]).await;
        assert_eq!(outcome, [Outcome::Taken]);
    }
}

pub(crate) async fn numbers(store: &dyn Consensus, log: LogId, from: u64) -> Vec<u64> {
    let from = seqno(from);
    let versions = store
        .scan(vec![Scan { log, from }])
        .await
        .unwrap()
        .remove(0);
    versions
        .iter()
        .map(|version| version.seqno.number())
        .collect()
}

fn fence(epoch: u64, incarnation: u128) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(incarnation),
    }
}

pub(crate) fn a_new_store_has_nothing(store: &impl Store) {
    run(async {
        let store = store.open().await;
        assert_eq!(store.heads(vec![log(1)]).await.unwrap(), [None]);
        assert_eq!(numbers(&*store, log(1), 1).await, [] as [u64; 0]);
        assert_eq!(store.list(None, 10).await.unwrap(), []);
        assert_eq!(store.fence().await.unwrap(), None);
        assert_eq!(commit(&*store, vec![]).await, []);
    });
}

pub(crate) fn versions_are_numbered_from_one_without_gaps(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(1), 3).await;
        assert_eq!(numbers(&*store, log(1), 1).await, [1, 2, 3]);
        let head = Version {
            seqno: seqno(3),
            data: Bytes::from_static(b"3"),
        };
        let heads = store.heads(vec![log(2), log(1), log(1)]).await.unwrap();
        assert_eq!(heads, [None, Some(head.clone()), Some(head)]);
    });
}

pub(crate) fn an_offer_is_stale_unless_its_writer_has_seen_the_latest(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(1), 3).await;
        for seen in [0, 1, 2, 4, 100] {
            let outcome = commit(&*store, vec![offer(log(1), seen, "late")]).await;
            assert_eq!(outcome, [Outcome::Stale], "having seen {seen}");
        }
        assert_eq!(
            commit(&*store, vec![offer(log(2), 1, "early")]).await,
            [Outcome::Stale]
        );
        assert_eq!(numbers(&*store, log(1), 1).await, [1, 2, 3]);
        assert_eq!(store.list(None, 10).await.unwrap(), [log(1)]);
    });
}

pub(crate) fn each_offer_of_a_transaction_is_taken_by_itself(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(2), 1).await;
        write(&*store, log(3), 2).await;
        let offers = vec![
            offer(log(3), 2, "next"),
            offer(log(2), 0, "stale"),
            offer(log(1), 0, "first"),
        ];
        let outcomes = commit(&*store, offers).await;
        assert_eq!(outcomes, [Outcome::Taken, Outcome::Stale, Outcome::Taken]);
        let heads = store.heads(vec![log(1), log(2), log(3)]).await.unwrap();
        let heads = heads.into_iter().map(|head| head.unwrap().data);
        assert!(heads.eq(["first", "1", "next"]));
    });
}

pub(crate) fn of_two_offers_for_one_place_one_is_taken(store: &impl Store) {
    run(async {
        let store = store.open().await;
        let twice = vec![offer(log(1), 0, "one"), offer(log(1), 0, "two")];
        let outcomes = commit(&*store, twice).await;
        assert_eq!(outcomes, [Outcome::Taken, Outcome::Stale]);
        let head = store.heads(vec![log(1)]).await.unwrap().remove(0).unwrap();
        assert_eq!(head.data, "one");
        // The same from two that do not know of each other, and are committed together.
        let (one, two) = tokio::join!(
            store.commit(None, vec![offer(log(2), 0, "one")]),
            store.commit(None, vec![offer(log(2), 0, "two")]),
        );
        let outcomes = [one.unwrap().unwrap()[0], two.unwrap().unwrap()[0]];
        assert_eq!(outcomes, [Outcome::Taken, Outcome::Stale]);
    });
}

pub(crate) fn a_scan_gives_what_is_not_truncated(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(1), 5).await;
        write(&*store, log(2), 2).await;
        let before = seqno(3);
        let truncation = Truncation {
            log: log(1),
            before,
        };
        store.truncate(vec![truncation]).await.unwrap();
        assert_eq!(numbers(&*store, log(1), 1).await, [3, 4, 5]);
        assert_eq!(numbers(&*store, log(1), 4).await, [4, 5]);
        assert_eq!(numbers(&*store, log(1), 6).await, [] as [u64; 0]);
        let scan = |log, from| Scan {
            log,
            from: seqno(from),
        };
        let scans = vec![scan(log(2), 2), scan(log(9), 1), scan(log(1), 5)];
        let found = store.scan(scans).await.unwrap();
        let counts: Vec<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(counts, [1, 0, 1]);
        assert_eq!(found[2][0].data, "5");
    });
}

pub(crate) fn truncation_leaves_the_latest_version(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(1), 3).await;
        let truncate = |before| {
            let before = seqno(before);
            store.truncate(vec![Truncation {
                log: log(1),
                before,
            }])
        };
        truncate(4).await.unwrap();
        assert_eq!(numbers(&*store, log(1), 1).await, [1, 2, 3]);
        truncate(3).await.unwrap();
        truncate(1).await.unwrap();
        assert_eq!(numbers(&*store, log(1), 1).await, [3]);
    });
}

pub(crate) fn an_offer_that_is_taken_truncates(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(1), 5).await;
        write(&*store, log(2), 5).await;
        write(&*store, log(3), 1).await;
        let keep_from = |log, seen, from| Offer {
            keep_from: Some(seqno(from)),
            ..offer(log, seen, "next")
        };
        let stranger = Some(fence(1, 1));
        let refused = store.commit(stranger, vec![keep_from(log(1), 5, 6)]);
        assert!(refused.await.unwrap().is_err());
        let offers = vec![
            keep_from(log(1), 5, 4),
            keep_from(log(2), 4, 4),
            // Further than it can be: the version that is offered stays.
            keep_from(log(3), 1, 9),
            keep_from(log(4), 0, 1),
        ];
        let outcomes = commit(&*store, offers).await;
        let (taken, stale) = (Outcome::Taken, Outcome::Stale);
        assert_eq!(outcomes, [taken, stale, taken, taken]);
        assert_eq!(numbers(&*store, log(1), 1).await, [4, 5, 6]);
        // What was not taken forgets nothing.
        assert_eq!(numbers(&*store, log(2), 1).await, [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&*store, log(3), 1).await, [2]);
        assert_eq!(numbers(&*store, log(4), 1).await, [1]);
    });
}

pub(crate) fn an_offer_behind_truncated_versions_is_stale(store: &impl Store) {
    run(async {
        let store = store.open().await;
        write(&*store, log(1), 5).await;
        let before = seqno(5);
        let truncation = Truncation {
            log: log(1),
            before,
        };
        store.truncate(vec![truncation]).await.unwrap();
        for seen in 0..5 {
            let outcome = commit(&*store, vec![offer(log(1), seen, "late")]).await;
            assert_eq!(outcome, [Outcome::Stale], "having seen {seen}");
        }
        assert_eq!(numbers(&*store, log(1), 1).await, [5]);
    });
}

pub(crate) fn a_list_is_in_order_and_in_pages(store: &impl Store) {
    run(async {
        let store = store.open().await;
        let mut logs = Vec::new();
        for number in [3, u128::MAX, 0, 1 << 64] {
            let shard = ShardId::new(number);
            logs.extend([LogId::data(shard), LogId::since(shard)]);
        }
        for log in &logs {
            write(&*store, *log, 2).await;
        }
        logs.sort_unstable();
        assert_eq!(store.list(None, 100).await.unwrap(), logs);
        assert_eq!(store.list(None, 3).await.unwrap(), logs[..3]);
        assert_eq!(store.list(Some(logs[2]), 3).await.unwrap(), logs[3..6]);
        assert_eq!(store.list(Some(logs[7]), 3).await.unwrap(), []);
    });
}

pub(crate) fn bytes_come_back_as_they_were(store: &impl Store) {
    run(async {
        let store = store.open().await;
        let all: Bytes = (0..=255).collect();
        let large: Bytes = vec![0xa5; 3 << 20].into();
        let many = [Bytes::new(), all, large];
        for (at, data) in (1..).zip(&many) {
            commit(&*store, vec![offer(log(1), at - 1, data.clone())]).await;
        }
        let from = SeqNo::FIRST;
        let found = store.scan(vec![Scan { log: log(1), from }]).await.unwrap();
        assert!(found[0].iter().map(|version| &version.data).eq(&many));
    });
}

pub(crate) fn the_higher_epoch_takes_over(store: &impl Store) {
    run(async {
        let store = store.open().await;
        for won in [fence(3, 1), fence(3, 1), fence(7, 2), fence(u64::MAX, 3)] {
            assert_eq!(store.take_over(won).await.unwrap(), Ok(()));
            assert_eq!(store.fence().await.unwrap(), Some(won));
        }
        let by = Some(fence(u64::MAX, 3));
        assert_eq!(
            store.take_over(fence(7, 2)).await.unwrap(),
            Err(Fenced { by })
        );
        assert_eq!(store.fence().await.unwrap(), by);
    });
}

pub(crate) fn an_equal_epoch_of_another_incarnation_is_refused(store: &impl Store) {
    run(async {
        let store = store.open().await;
        store.take_over(fence(3, 1)).await.unwrap().unwrap();
        let by = Some(fence(3, 1));
        let other = fence(3, u128::MAX);
        assert_eq!(store.take_over(other).await.unwrap(), Err(Fenced { by }));
        let written = store.commit(Some(other), vec![offer(log(1), 0, "x")]).await;
        assert_eq!(written.unwrap(), Err(Fenced { by }));
        assert_eq!(store.list(None, 10).await.unwrap(), []);
    });
}

pub(crate) fn a_fence_that_is_not_in_charge_writes_nothing(store: &impl Store) {
    run(async {
        let store = store.open().await;
        let commit = |fence, log| store.commit(Some(fence), vec![offer(log, 0, "x")]);
        let refused = commit(fence(3, 1), log(1)).await.unwrap();
        assert_eq!(refused, Err(Fenced { by: None }));
        store.take_over(fence(3, 1)).await.unwrap().unwrap();
        assert_eq!(
            commit(fence(3, 1), log(2)).await.unwrap(),
            Ok(vec![Outcome::Taken])
        );
        store.take_over(fence(4, 2)).await.unwrap().unwrap();
        let by = Some(fence(4, 2));
        assert_eq!(
            commit(fence(3, 1), log(3)).await.unwrap(),
            Err(Fenced { by })
        );
        assert_eq!(store.list(None, 10).await.unwrap(), [log(2)]);
    });
}

pub(crate) fn those_without_a_fence_are_not_stopped(store: &impl Store) {
    run(async {
        let store = store.open().await;
        store.take_over(fence(3, 1)).await.unwrap().unwrap();
        write(&*store, log(1), 2).await;
        // A group that is committed together is fenced each by itself.
        let (old, new) = (Some(fence(2, 1)), Some(fence(3, 1)));
        let (refused, taken, free) = tokio::join!(
            store.commit(old, vec![offer(log(2), 0, "old")]),
            store.commit(new, vec![offer(log(3), 0, "new")]),
            store.commit(None, vec![offer(log(1), 2, "free")]),
        );
        assert_eq!(refused.unwrap(), Err(Fenced { by: new }));
        assert_eq!(taken.unwrap(), Ok(vec![Outcome::Taken]));
        assert_eq!(free.unwrap(), Ok(vec![Outcome::Taken]));
    });
}

/// Waits for a hint at this log; other hints may come before.
async fn hinted_at(changes: &mut Changes, log: LogId) {
    let hinted = async { while !changes.next().await.names(log) {} };
    let hinted = tokio::time::timeout(Duration::from_secs(60), hinted).await;
    hinted.expect("no hint has come");
}

pub(crate) fn what_changes_is_hinted_at(store: &impl Store) {
    run(async {
        let store = store.open().await;
        let mut changes = store.changes();
        for number in 1..10 {
            write(&*store, log(number), 1).await;
            hinted_at(&mut changes, log(number)).await;
        }
    });
}

pub(crate) fn what_another_handle_changes_is_hinted_at(store: &impl Store) {
    run(async {
        let (here, there) = (store.open().await, store.open().await);
        let mut changes = here.changes();
        for number in 1..10 {
            write(&*there, log(number), 1).await;
            hinted_at(&mut changes, log(number)).await;
            assert!(here.heads(vec![log(number)]).await.unwrap()[0].is_some());
        }
    });
}

pub(crate) fn what_was_taken_is_there_when_opened_again(store: &impl Store) {
    run(async {
        let before = store.open().await;
        write(&*before, log(1), 3).await;
        before.take_over(fence(3, 1)).await.unwrap().unwrap();
    });
    run(async {
        let after = store.open().await;
        assert_eq!(numbers(&*after, log(1), 1).await, [1, 2, 3]);
        assert_eq!(after.fence().await.unwrap(), Some(fence(3, 1)));
    });
}

pub(crate) fn connections_that_are_lost_are_opened_again(server: &Postgres) {
    run(async {
        let store = server.open().await;
        write(&*store, log(1), 3).await;
        let mut changes = store.changes();
        for seen in 3..8 {
            // In a thread: it waits in a runtime of its own.
            std::thread::scope(|scope| scope.spawn(|| server.end_connections()).join().unwrap());
            assert_eq!(numbers(&*store, log(1), seen).await, [seen]);
            let lost = async {
                loop {
                    let offer = offer(log(1), seen, "again");
                    match store.commit(None, vec![offer]).await {
                        Ok(outcome) => return outcome.unwrap(),
                        Err(error) => assert_eq!(error.kind(), StorageErrorKind::Retry),
                    }
                }
            };
            let outcome = tokio::time::timeout(Duration::from_secs(60), lost)
                .await
                .unwrap();
            assert_eq!(outcome, [Outcome::Taken]);
        }
        let other = server.open().await;
        write(&*other, log(2), 1).await;
        hinted_at(&mut changes, log(2)).await;
    });
}

/// Whoever takes over or truncates holds the gate alone: no commit may pass it meanwhile.
pub(crate) fn a_commit_waits_at_the_gate(server: &Postgres) {
    run(async {
        let store = server.open().await;
        let holder = server.connect().await;
        let gate = format!(
            "BEGIN; SELECT FROM {}.lowwater_gate FOR UPDATE",
            server.schema()
        );
        holder.batch_execute(&gate).await.unwrap();
        let mut commit = pin!(store.commit(None, vec![offer(log(1), 0, "x")]));
        let waiting = async {
            let waits = format!(
                "SELECT FROM pg_stat_activity
                 WHERE application_name = '{}' AND wait_event_type = 'Lock'",
                server.schema()
            );
            let observer = server.connect().await;
            while observer.query(&waits, &[]).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            passed = &mut commit => panic!("it has passed: {passed:?}"),
            () = waiting => {}
        }
        holder.batch_execute("COMMIT").await.unwrap();
        assert_eq!(commit.await.unwrap(), Ok(vec![Outcome::Taken]));
    });
}

/// What no notification tells of, as where it was lost, is found by looking now and then.
pub(crate) fn what_is_not_notified_is_hinted_at(server: &Postgres) {
    run(async {
        let config = PostgresConfig::new(&server.address()).unwrap();
        let config = config.poll_interval(Duration::from_millis(50));
        let store = PostgresConsensus::open(config).await.unwrap();
        let mut changes = store.changes();
        // It listens, and does not know since when.
        hinted_at(&mut changes, log(1)).await;
        let past_the_store = server.connect().await;
        for number in 1..5_u128 {
            let write = format!(
                "INSERT INTO {}.lowwater_versions VALUES ($1, 1, 'x')",
                server.schema()
            );
            let name = log(number).to_bytes().to_vec();
            let written = past_the_store.execute(&write, &[&name]).await;
            assert_eq!(written.unwrap(), 1);
            while store.heads(vec![log(number)]).await.unwrap()[0].is_none() {
                hinted_at(&mut changes, log(number)).await;
            }
            hinted_at(&mut changes, log(number)).await;
        }
    });
}
