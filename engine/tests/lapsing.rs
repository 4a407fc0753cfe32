//! Holds that rest on a lease of storage, and what becomes of them when it lapses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod running;

use lowwater::{
    AcquireError, Client, CloneError, Collection, Config, Description, DowngradeError, Engine,
    Event, HoldLost, MemoryStorage, MergeRefusal, ReadPolicy, ShardId, Since, StopReason, Upper,
};
use timely::order::Product;

use running::{BOUND, Running, start};

const SHARD: ShardId = ShardId::new(1);

/// Keeps the last ten times.
fn on_shard(running: &Running, id: u64, shard: ShardId) -> Collection<u64, u64> {
    let policy = ReadPolicy::lag_writes_by(10, 1).unwrap();
    let new = Description::new(id, policy).shard(shard);
    running.client.create(vec![new]).wait().unwrap().remove(0)
}

/// Where it stands in the engine's tables.
fn slot(collection: &Collection<u64, u64>) -> String {
    let key = format!("{:?}", collection.key());
    key.split(", generation").next().unwrap().to_owned()
}

fn lapse(running: &Running, shard: ShardId, since: Since<u64>) {
    running.storage.lapse(shard, &since);
    running.client.sync().wait().unwrap();
}

#[test]
fn a_hold_whose_lease_has_lapsed_is_revoked_and_every_thread_is_told() {
    let running = start();
    let base = on_shard(&running, 1, SHARD);
    let view = running.create(2, &[1]);
    running.upper(1, 100);
    running.upper(2, 100);
    let pinned = base.acquire().unwrap();
    let mut counted = base.acquire_at(Since::at(95)).wait().unwrap();
    let late = base.acquire_at(Since::at(180)).wait().unwrap();
    let of_view = view.acquire().unwrap();
    running.upper(1, 200);
    running.upper(2, 200);
    for hold in [&pinned, &counted, &late, &of_view] {
        assert_eq!(hold.check(), Ok(()));
    }
    lapse(&running, SHARD, Since::at(150));
    let revoked = |since| {
        Err(HoldLost::Revoked {
            since: Since::at(since),
        })
    };
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            assert_eq!(pinned.check(), revoked(180));
            assert_eq!(counted.check(), revoked(180));
            assert_eq!(of_view.check(), revoked(199));
            assert_eq!(late.check(), Ok(()), "its shard still has that");
        });
        told.join().unwrap();
    });
    assert_eq!(pinned.try_clone().unwrap_err(), CloneError::Revoked);
    assert_eq!(counted.try_clone().unwrap_err(), CloneError::Revoked);
    let since = Since::at(180);
    let refused = counted.downgrade(Since::at(300)).unwrap_err();
    assert_eq!(refused, DowngradeError::Revoked { since });
    assert_eq!(counted.since(), &Since::at(95), "it is where it was");
    let refused = pinned.merge(late).unwrap_err();
    assert_eq!(refused.reason, MergeRefusal::Revoked);
    let (pinned, late) = *refused.holds;
    let refused = base.acquire_at(Since::at(150)).wait().unwrap_err();
    assert!(matches!(refused, AcquireError::TooEarly { .. }));
    // Letting go does no harm, and what is held from now on is held.
    drop((pinned, counted, of_view));
    let again = base.acquire().unwrap();
    running.upper(1, 300);
    assert_eq!(base.since(), Since::at(180));
    drop(late);
    base.wait_for_since_past([189])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!((again.since(), again.check()), (&Since::at(190), Ok(())));
    let explained = running.client.explain(1).wait().unwrap();
    assert_eq!(explained.frontiers.since, Since::at(190));
    assert_eq!(explained.causes.len(), 3, "{explained:?}");
    running.stop();
}

#[test]
fn the_embedder_is_told_whose_lease_has_lapsed() {
    let running = start();
    let _base = on_shard(&running, 1, SHARD);
    running.upper(1, 100);
    lapse(&running, SHARD, Since::at(150));
    let heard = running.client.events().wait_timeout(BOUND).unwrap();
    let Some(Event::LeaseLapsed { collection, since }) = heard.map(|heard| heard.event) else {
        panic!("another event, or none");
    };
    assert_eq!((collection, since), (1, Since::at(150)));
    running.stop();
}

#[test]
fn a_hold_of_what_is_gone_is_revoked_also_when_its_place_is_taken_by_another() {
    let running = start();
    let base = on_shard(&running, 1, SHARD);
    running.upper(1, 100);
    let pinned = base.acquire().unwrap();
    let counted = base.acquire_at(Since::at(95)).wait().unwrap();
    let slot = slot(&base);
    lapse(&running, SHARD, Since::gone());
    let gone = Err(HoldLost::Revoked {
        since: Since::gone(),
    });
    assert_eq!(
        (pinned.check(), counted.check()),
        (gone.clone(), gone.clone())
    );
    assert!(matches!(base.acquire(), Err(AcquireError::Dropped(1))));
    drop(base);
    // Slots are used again, once nobody can be looking at their collection any more.
    let mut ids = 2..10_000;
    let taken = ids.find_map(|id| {
        let other = running.create(id, &[]);
        if self::slot(&other) == slot {
            return Some(other);
        }
        drop(other);
        running.client.drop_collections(vec![id]).wait().unwrap();
        None
    });
    assert!(taken.is_some(), "another one has its place");
    let again = on_shard(&running, 1, ShardId::new(1_000));
    assert_eq!((pinned.check(), counted.check()), (gone.clone(), gone));
    assert_eq!(again.acquire().unwrap().check(), Ok(()));
    drop((pinned, counted));
    running.stop();
}

#[test]
fn a_hold_of_an_engine_that_has_stopped_says_so() {
    let running = start();
    let base = on_shard(&running, 1, SHARD);
    running.upper(1, 100);
    let pinned = base.acquire().unwrap();
    let mut counted = base.acquire().unwrap();
    counted.downgrade(Since::at(95)).unwrap();
    assert_eq!((pinned.check(), counted.check()), (Ok(()), Ok(())));
    running.stop();
    let stopped = Err(HoldLost::Stopped(StopReason::Stopped));
    assert_eq!(
        (pinned.check(), counted.check()),
        (stopped.clone(), stopped)
    );
}

type Pair = Product<u64, u64>;

fn pairs() -> (Client<u64, Pair>, MemoryStorage<Pair>) {
    let storage = MemoryStorage::new();
    let (engine, client) = Engine::new(Config::default(), storage.clone()).unwrap();
    drop(engine.spawn().unwrap());
    (client, storage)
}

#[test]
fn a_hold_at_a_time_that_is_incomparable_with_the_shard_is_revoked() {
    let (client, storage) = pairs();
    let at = |outer, inner| Since::at(Product::new(outer, inner));
    let policy = ReadPolicy::ValidFrom(at(1, 1));
    let new = Description::new(1, policy).shard(SHARD);
    let base = client.create(vec![new]).wait().unwrap().remove(0);
    let upper = Upper::at(Product::new(9, 9));
    client.report_uppers(vec![(1, upper)]).wait().unwrap();
    let before = base.acquire().unwrap();
    let beside = base.acquire_at(at(5, 2)).wait().unwrap();
    let after = base.acquire_at(at(4, 6)).wait().unwrap();
    storage.lapse(SHARD, &at(3, 4));
    client.sync().wait().unwrap();
    let since = at(3, 4);
    let revoked = Err(HoldLost::Revoked { since });
    assert_eq!((before.check(), beside.check()), (revoked.clone(), revoked));
    assert_eq!(after.check(), Ok(()));
    assert_eq!(base.since(), at(3, 4));
    client.stop().wait().unwrap();
}

#[test]
fn leases_that_lapse_while_many_threads_hold_revoke_what_was_before_and_nothing_else() {
    let running = start();
    let base = on_shard(&running, 1, SHARD);
    running.upper(1, 100);
    let rounds = 200_u64;
    std::thread::scope(|scope| {
        let holders: Vec<_> = (0..3)
            .map(|thread| {
                let base = base.clone();
                scope.spawn(move || {
                    let mut revoked = 0_u64;
                    while base.upper() != Upper::at(100 + rounds) {
                        let Ok(mut hold) = base.acquire() else {
                            continue;
                        };
                        if thread > 0 {
                            let later = hold.since().join(&Since::at(90 + 2 * thread));
                            let _ = hold.downgrade(later);
                        }
                        let clone = hold.try_clone();
                        for hold in [Ok(hold), clone].into_iter().flatten() {
                            match hold.check() {
                                Ok(()) => {}
                                Err(HoldLost::Revoked { since }) => {
                                    assert!(!since.can_read(&hold.since().frontier()[0]));
                                    revoked += 1;
                                }
                                Err(lost) => panic!("{lost}"),
                            }
                        }
                    }
                    revoked
                })
            })
            .collect();
        for round in 1..=rounds {
            running.storage.lapse(SHARD, &Since::at(95 + round));
            running.upper(1, 100 + round);
        }
        let _revoked: u64 = holders.into_iter().map(|one| one.join().unwrap()).sum();
    });
    base.wait_for_since_past([94 + rounds])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.client.drop_collections(vec![1]).wait().unwrap();
    running.client.sync().wait().unwrap();
    let stats = running.client.stats().wait().unwrap();
    assert_eq!(stats.collections, 0, "nothing was leaked");
    running.stop();
}
