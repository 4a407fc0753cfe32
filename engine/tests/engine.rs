//! The engine as its users see it, with real threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lowwater::{
    AcquireError, Client, CloneError, Collection, Config, CreateError, Description, Engine,
    EngineThread, Event, MemoryStorage, MergeRefusal, ReadPolicy, Refusal, ShardId, Since,
    StopReason, StorageErrorKind, Turned, Upper, WaitError,
};
use timely::order::Product;

/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(20);

struct Running {
    client: Client<u64, u64>,
    storage: MemoryStorage<u64>,
    thread: EngineThread,
}

fn start() -> Running {
    let storage = MemoryStorage::new();
    let config = Config {
        downgrade_interval: Duration::ZERO,
        ..Config::default()
    };
    let (engine, client) = Engine::new(config, storage.clone()).unwrap();
    Running {
        client,
        storage,
        thread: engine.spawn().unwrap(),
    }
}

impl Running {
    fn create(&self, id: u64, dependencies: &[u64]) -> Collection<u64, u64> {
        let new =
            Description::new(id, ReadPolicy::step_back()).depends_on(dependencies.iter().copied());
        self.client.create(vec![new]).wait().unwrap().remove(0)
    }

    fn upper(&self, id: u64, upper: u64) {
        self.client
            .report_uppers(vec![(id, Upper::at(upper))])
            .wait()
            .unwrap();
    }

    fn stop(self) {
        self.client.stop().wait().unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_hold_keeps_a_collection_and_what_it_depends_on_readable() {
    let running = start();
    let base = running.create(1, &[]);
    let view = running.create(2, &[1]);
    running.upper(1, 10);
    running.upper(2, 10);
    assert_eq!(base.since(), Since::at(9));
    let hold = view.acquire().unwrap();
    assert_eq!(hold.since(), &Since::at(9));
    running.upper(1, 20);
    running.upper(2, 20);
    assert_eq!(view.since(), Since::at(9));
    assert_eq!(base.since(), Since::at(9));
    assert_eq!(base.implied(), Since::at(19));
    drop(hold);
    base.wait_for_since_past([18])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(view.since(), Since::at(19));
    running.stop();
}

#[test]
fn a_hold_is_moved_cloned_and_merged() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let mut first = base.acquire().unwrap();
    let second = first.try_clone().unwrap();
    first.downgrade(Since::at(30)).unwrap();
    assert!(first.downgrade(Since::at(20)).is_err());
    assert_eq!(first.since(), &Since::at(30));
    running.upper(1, 100);
    assert_eq!(base.since(), Since::at(9));
    let third = first.try_clone().unwrap();
    let merged = second.merge(first).unwrap();
    assert_eq!(merged.since(), &Since::at(9));
    drop(merged);
    base.wait_for_since_past([29])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(base.since(), Since::at(30));
    drop(third);
    base.wait_for_since_past([98])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.stop();
}

#[test]
fn holds_on_different_collections_do_not_merge_and_are_given_back() {
    let running = start();
    let (one, two) = (running.create(1, &[]), running.create(2, &[]));
    let refused = one
        .acquire()
        .unwrap()
        .merge(two.acquire().unwrap())
        .unwrap_err();
    assert_eq!(refused.reason, MergeRefusal::Mismatch);
    assert_eq!((refused.holds.0.id(), refused.holds.1.id()), (1, 2));
    running.stop();
}

#[test]
fn incomparable_holds_merge_at_their_meet() {
    type Pair = Product<u64, u64>;
    let (engine, client) =
        Engine::<u64, Pair>::new(Config::default(), MemoryStorage::new()).unwrap();
    let thread = engine.spawn().unwrap();
    let new = Description::new(1, ReadPolicy::lag_each(Pair::clone));
    let pairs = client.create(vec![new]).wait().unwrap().remove(0);
    let mut left = pairs.acquire().unwrap();
    let mut right = left.try_clone().unwrap();
    left.downgrade(Since::at(Pair::new(3, 0))).unwrap();
    right.downgrade(Since::at(Pair::new(0, 4))).unwrap();
    client
        .report_uppers(vec![(1, Upper::at(Pair::new(9, 9)))])
        .wait()
        .unwrap();
    let both = Since::new([Pair::new(3, 0), Pair::new(0, 4)].into_iter().collect());
    assert_eq!(pairs.since(), both);
    let merged = left.merge(right).unwrap();
    assert_eq!(merged.since(), &both);
    assert_eq!(client.explain(1).wait().unwrap().frontiers.since, both);
    drop(merged);
    pairs
        .wait_for_since_past(both.into_frontier())
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(pairs.since(), Since::at(Pair::new(9, 9)));
    client.stop().wait().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_hold_starts_at_a_chosen_time_or_at_the_earliest() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let first = base.acquire().unwrap();
    running.upper(1, 50);
    let later = base.acquire_at(Since::at(60)).wait().unwrap();
    assert_eq!(later.since(), &Since::at(60));
    let between = base.acquire_at(Since::at(20)).wait().unwrap();
    assert_eq!(between.since(), &Since::at(20));
    let earliest = base.acquire_earliest().wait().unwrap();
    assert_eq!(earliest.since(), &Since::at(9));
    let refused = base.acquire_at(Since::at(3)).wait().unwrap_err();
    assert_eq!(
        refused,
        AcquireError::TooEarly {
            collection: 1,
            since: Since::at(9)
        }
    );
    drop((first, earliest));
    base.wait_for_since_past([19])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(base.since(), Since::at(20));
    drop(between);
    base.wait_for_since_past([48])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.stop();
}

#[test]
fn holds_on_several_are_all_or_nothing() {
    let running = start();
    let (one, two) = (running.create(1, &[]), running.create(2, &[]));
    running.upper(1, 10);
    running.upper(2, 20);
    let holds = running.client.acquire_many(&[1, 2, 1]).unwrap();
    assert_eq!(holds.len(), 3);
    let refused = running.client.acquire_many(&[1, 3]).unwrap_err();
    assert_eq!(refused, AcquireError::UnknownCollection(3));
    let refused = running
        .client
        .acquire_many_at(&[1, 2], Since::at(15))
        .wait()
        .unwrap_err();
    assert_eq!(
        refused,
        AcquireError::TooEarly {
            collection: 2,
            since: Since::at(19)
        }
    );
    let at = running
        .client
        .acquire_many_at(&[1, 2], Since::at(25))
        .wait()
        .unwrap();
    drop(holds);
    running.upper(1, 90);
    running.upper(2, 90);
    for each in [&one, &two] {
        each.wait_for_since_past([24])
            .wait_timeout(BOUND)
            .unwrap()
            .unwrap();
    }
    assert_eq!((one.since(), two.since()), (Since::at(25), Since::at(25)));
    drop(at);
    one.wait_for_since_past([88])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.stop();
}

#[test]
fn a_dropped_collection_stays_for_its_holds_and_takes_no_new_ones() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let hold = base.acquire().unwrap();
    running.client.drop_collections(vec![1]).wait().unwrap();
    assert_eq!(base.acquire().unwrap_err(), AcquireError::Dropped(1));
    assert_eq!(
        running.client.acquire(1).unwrap_err(),
        AcquireError::Dropped(1)
    );
    assert_eq!(
        base.acquire_earliest().wait().unwrap_err(),
        AcquireError::Dropped(1)
    );
    let clone = hold.try_clone().unwrap();
    drop(hold);
    assert_eq!(base.since(), Since::at(9));
    let again = running
        .client
        .create(vec![Description::new(1, ReadPolicy::step_back())]);
    let CreateError::Refused(refused) = again.wait().unwrap_err() else {
        panic!()
    };
    assert!(matches!(refused[..], [(1, Refusal::StillDropping)]));
    let gone = base.wait_for_upper_past([1_000]);
    drop(clone);
    assert_eq!(
        gone.wait_timeout(BOUND).unwrap().unwrap_err(),
        WaitError::Gone
    );
    let next = running.create(1, &[]);
    assert!(next.key().generation() > base.key().generation());
    assert_eq!(base.since(), Since::gone());
    assert_eq!(next.since(), Since::at(0));
    running.stop();
}

#[test]
fn after_the_engine_has_stopped_everything_fails_typed_and_holds_are_dropped_in_peace() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let mut hold = base.acquire().unwrap();
    let mut moved = base.acquire().unwrap();
    moved.downgrade(Since::at(10)).unwrap();
    let waiting = base.wait_for_upper_past([1_000]);
    let client = running.client.clone();
    running.stop();
    let stopped = StopReason::Stopped;
    assert_eq!(
        waiting.wait_timeout(BOUND).unwrap().unwrap_err(),
        WaitError::Stopped(stopped)
    );
    assert_eq!(base.acquire().unwrap_err(), AcquireError::Stopped(stopped));
    assert_eq!(
        client.acquire(1).unwrap_err(),
        AcquireError::Stopped(stopped)
    );
    assert!(client.stop().wait().is_err());
    assert_eq!(hold.try_clone().unwrap_err(), CloneError::Stopped(stopped));
    assert_eq!(moved.try_clone().unwrap_err(), CloneError::Stopped(stopped));
    assert!(hold.downgrade(Since::at(12)).is_err());
    assert_eq!(
        hold.since(),
        &Since::at(9),
        "a hold that was not moved is where it was"
    );
    assert_eq!(base.upper(), Upper::at(10), "how it was last");
    drop((hold, moved));
}

#[test]
fn an_engine_that_is_dropped_while_it_is_asked_answers() {
    let (engine, client) =
        Engine::<u64, u64>::new(Config::default(), MemoryStorage::new()).unwrap();
    let asked = client.create(vec![Description::new(1, ReadPolicy::step_back())]);
    drop(engine);
    assert!(matches!(
        asked.wait_timeout(BOUND).unwrap().unwrap_err(),
        CreateError::Stopped(StopReason::Stopped)
    ));
}

#[test]
fn a_panic_of_the_owner_thread_reaches_callers_as_an_error() {
    /// An embedder's id that cannot be compared.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    struct Faulty(u64);
    impl PartialOrd for Faulty {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Faulty {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            assert!(
                self.0 != 13 && other.0 != 13,
                "an id that cannot be compared"
            );
            self.0.cmp(&other.0)
        }
    }
    impl std::fmt::Display for Faulty {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
    let (engine, client) =
        Engine::<Faulty, u64>::new(Config::default(), MemoryStorage::new()).unwrap();
    let thread = engine.spawn().unwrap();
    let base = client.create(vec![Description::new(Faulty(1), ReadPolicy::step_back())]);
    let base = base.wait().unwrap().remove(0);
    let hold = base.acquire().unwrap();
    let waiting = base.wait_for_upper_past([7]);
    let new =
        Description::new(Faulty(2), ReadPolicy::step_back()).depends_on([Faulty(13), Faulty(1)]);
    let fatal = client.create(vec![new]).wait_timeout(BOUND).unwrap();
    assert!(matches!(
        fatal,
        Err(CreateError::Stopped(StopReason::Panicked))
    ));
    let waited = waiting.wait_timeout(BOUND).unwrap();
    assert_eq!(
        waited.unwrap_err(),
        WaitError::Stopped(StopReason::Panicked)
    );
    assert_eq!(thread.join(), Err(StopReason::Panicked));
    assert_eq!(
        base.acquire().unwrap_err(),
        AcquireError::Stopped(StopReason::Panicked)
    );
    drop(hold);
}

#[test]
fn a_policy_that_panics_is_an_event_of_its_collection_and_stops_nobody_else() {
    let running = start();
    let other = running.create(1, &[]);
    let fragile = ReadPolicy::lag_each(|upper: &u64| {
        assert!(*upper != 13, "unlucky");
        upper.saturating_sub(1)
    });
    let fragile = Description::new(2, fragile);
    let fragile = running
        .client
        .create(vec![fragile])
        .wait()
        .unwrap()
        .remove(0);
    let mut events = running.client.events();
    running
        .client
        .report_uppers(vec![(1, Upper::at(13)), (2, Upper::at(13))])
        .wait()
        .unwrap();
    assert_eq!(
        (other.since(), fragile.since()),
        (Since::at(12), Since::at(0))
    );
    let heard = events.wait_timeout(BOUND).unwrap().unwrap();
    assert!(matches!(
        heard.event,
        Event::PolicyPanicked { collection: 2 }
    ));
    running.upper(2, 14);
    assert_eq!(fragile.since(), Since::at(13));
    running.stop();
}

#[test]
fn an_upper_that_jumps_to_the_end_in_one_step_is_seen_by_who_waits_for_it() {
    let running = start();
    let base = running.create(1, &[]);
    let waiting = base.wait_for_upper_past([1_000_000]);
    let never = base.wait_for_upper_past([]);
    assert_eq!(
        never.wait_timeout(BOUND).unwrap().unwrap_err(),
        WaitError::Never
    );
    running
        .client
        .report_uppers(vec![(1, Upper::sealed())])
        .wait()
        .unwrap();
    let frontiers = waiting.wait_timeout(BOUND).unwrap().unwrap();
    assert_eq!(frontiers.upper, Upper::sealed());
    assert_eq!(running.client.stats().wait().unwrap().waiting, 0);
    running.stop();
}

#[test]
fn who_gives_up_waiting_leaves_nothing_behind() {
    let running = start();
    let base = running.create(1, &[]);
    let waits: Vec<_> = (0..100)
        .map(|_| base.wait_for_upper_past([1_000]))
        .collect();
    assert_eq!(running.client.stats().wait().unwrap().waiting, 100);
    drop(waits);
    assert_eq!(running.client.stats().wait().unwrap().waiting, 0);
    running.stop();
}

#[test]
fn a_subscription_gives_the_latest_state_and_ends_with_the_collection() {
    let running = start();
    let base = running.create(1, &[]);
    let mut changes = base.subscribe();
    assert_eq!(changes.wait().unwrap().upper, Upper::at(0));
    assert_eq!(changes.wait_timeout(Duration::ZERO).unwrap(), None);
    for upper in 1..=100 {
        running.upper(1, upper);
    }
    let latest = changes.wait_timeout(BOUND).unwrap().unwrap();
    assert_eq!(
        latest.upper,
        Upper::at(100),
        "what came in between is skipped"
    );
    running.client.drop_collections(vec![1]).wait().unwrap();
    assert!(
        changes
            .wait_timeout(BOUND)
            .unwrap()
            .unwrap()
            .since
            .is_gone()
    );
    assert_eq!(changes.wait_timeout(BOUND).unwrap_err(), WaitError::Gone);
    running.stop();
}

#[test]
fn an_answer_that_was_polled_can_still_be_waited_for_with_a_bound() {
    let running = start();
    let base = running.create(1, &[]);
    let mut waiting = base.wait_for_upper_past([7]);
    futures_lite::future::block_on(async {
        assert!(
            futures_lite::future::poll_once(&mut waiting)
                .await
                .is_none()
        );
    });
    let Err(waiting) = waiting.wait_timeout(Duration::ZERO) else {
        panic!("nothing was written")
    };
    running.upper(1, 8);
    let frontiers = waiting.wait_timeout(BOUND).unwrap().unwrap();
    assert_eq!(frontiers.upper, Upper::at(8));
    running.stop();
}

#[test]
fn answers_are_futures_too() {
    let running = start();
    let base = running.create(1, &[]);
    let mut changes = base.subscribe();
    let client = running.client.clone();
    let writer = std::thread::spawn(move || {
        for upper in 1..=50 {
            client
                .report_uppers(vec![(1, Upper::at(upper))])
                .wait()
                .unwrap();
        }
    });
    futures_lite::future::block_on(async {
        base.wait_for_upper_past([20]).await.unwrap();
        let hold = base.acquire_earliest().await.unwrap();
        while changes.changed().await.unwrap().upper != Upper::at(50) {}
        assert!(hold.since().can_read(&50));
    });
    writer.join().unwrap();
    running.stop();
}

#[test]
fn several_frontiers_are_of_one_instant() {
    let running = start();
    let (_one, _two) = (running.create(1, &[]), running.create(2, &[]));
    let client = running.client.clone();
    let writer = std::thread::spawn(move || {
        for upper in 1..=2_000 {
            let both = vec![(1, Upper::at(upper)), (2, Upper::at(upper))];
            client.report_uppers(both).wait().unwrap();
        }
    });
    while !writer.is_finished() {
        let frontiers = running.client.frontiers(&[1, 2]).wait().unwrap();
        assert_eq!(frontiers[0].upper, frontiers[1].upper);
    }
    writer.join().unwrap();
    running.stop();
}

#[test]
fn sinces_become_durable_are_retried_and_the_last_wish_survives_silence() {
    let running = start();
    let shard = ShardId::new(7);
    let new = Description::new(1, ReadPolicy::step_back()).shard(shard);
    let base = running.client.create(vec![new]).wait().unwrap().remove(0);
    running.storage.hold();
    running.upper(1, 10);
    running.upper(1, 20);
    assert_eq!(base.since(), Since::at(19));
    assert_eq!(base.durable_since(), Since::at(0), "planned is not durable");
    running.storage.fail(1, StorageErrorKind::Retry);
    running.storage.release_all();
    let mut events = running.client.events();
    let heard = events.wait_timeout(BOUND).unwrap().unwrap();
    assert!(matches!(
        heard.event,
        Event::SinceNotWritten {
            collection: Some(1),
            ..
        }
    ));
    let mut changes = base.subscribe();
    while changes.wait().unwrap().durable_since != Since::at(19) {}
    running.client.drop_collections(vec![1]).wait().unwrap();
    let storage = running.storage.clone();
    running.stop();
    assert!(
        storage.shard(shard).unwrap().since.is_gone(),
        "given up before the engine stopped"
    );
    assert_eq!(storage.refused(), 0);
}

#[test]
fn an_engine_is_turned_by_hand_in_a_poll_of_the_embedder() {
    let (mut engine, client) =
        Engine::<u64, u64>::new(Config::default(), MemoryStorage::new()).unwrap();
    let mut poll = mio::Poll::new().unwrap();
    let mut events = mio::Events::with_capacity(8);
    poll.registry()
        .register(
            engine.doorbell().unwrap(),
            mio::Token(3),
            mio::Interest::READABLE,
        )
        .unwrap();
    assert_eq!(engine.turn(), Turned::Idle(None));
    let asker = std::thread::spawn(move || {
        for round in 0..200 {
            let new = Description::new(round, ReadPolicy::step_back());
            client.create(vec![new]).wait().unwrap();
        }
        client.stop().wait().unwrap();
    });
    loop {
        match engine.turn() {
            Turned::More => {}
            Turned::Idle(next) => {
                let bound = next.unwrap_or(BOUND);
                poll.poll(&mut events, Some(bound)).unwrap();
                assert!(!events.is_empty(), "the doorbell did not ring");
            }
            Turned::Stopped => break,
        }
    }
    drop(engine);
    asker.join().unwrap();
}

#[test]
fn many_threads_hold_and_let_go_and_nothing_leaks() {
    let running = start();
    let handles: Vec<_> = (0..8)
        .map(|id| running.create(id, if id < 4 { &[] } else { &[0, 1] }))
        .collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let handles = &handles;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    let collection = &handles[random.usize(..handles.len())];
                    match random.u8(..8) {
                        0..3 => held.push(collection.acquire().unwrap()),
                        3 if !held.is_empty() => {
                            let at = random.usize(..held.len());
                            let clone = held[at].try_clone().unwrap();
                            held.push(clone);
                        }
                        4 if !held.is_empty() => {
                            let at = random.usize(..held.len());
                            let to = held[at].since().frontier().elements()[0] + random.u64(..5);
                            held[at].downgrade(Since::at(to)).unwrap();
                        }
                        _ if !held.is_empty() => {
                            let hold = held.swap_remove(random.usize(..held.len()));
                            assert!(hold.since().can_read(&u64::MAX));
                        }
                        _ => {}
                    }
                    if held.len() > 50 {
                        held.clear();
                    }
                }
            });
        }
        for upper in 1..500 {
            let uppers = handles
                .iter()
                .map(|each| (each.key(), Upper::at(upper)))
                .collect();
            running.client.report(uppers).wait().unwrap();
        }
    });
    for (id, collection) in handles.iter().enumerate() {
        let past = collection.wait_for_since_past([497]).wait_timeout(BOUND);
        past.unwrap_or_else(|_| panic!("{}", running.client.explain(id as u64).wait().unwrap()))
            .unwrap();
    }
    running.stop();
}
