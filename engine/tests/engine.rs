//! Starting, stopping, failing: the engine as its users see it, with real threads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod running;

use lowwater::{
    AcquireError, CloneError, Config, CreateError, Description, Engine, Event, MemoryStorage,
    ReadPolicy, ShardId, Since, StopReason, StorageErrorKind, Turned, Upper, WaitError,
};

use running::{BOUND, start};

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
