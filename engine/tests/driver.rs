//! The loop: turns, bounds, figures, and where it runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lowwater::{
    Client, Collection, Config, CreateError, Description, DowngradeSinces, Engine, Event,
    MemoryStorage, OpenShards, Pending, ReadHold, ReadPolicy, Refusal, ShardId, Since, StopError,
    Storage, StorageErrorKind, Subscription, Turned, Upper,
};

/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(20);

fn by_hand(config: Config) -> (Engine<u64, u64>, Client<u64, u64>, Collection<u64, u64>) {
    let (mut engine, client) = Engine::new(config, MemoryStorage::new()).unwrap();
    let created = client.create(vec![Description::new(1, ReadPolicy::step_back())]);
    engine.turn();
    let base = created.wait().unwrap().remove(0);
    (engine, client, base)
}

#[test]
fn what_threads_share_is_send_and_sync() {
    fn shared<S: Send + Sync>() {}
    fn moved<M: Send>() {}
    shared::<Client<u64, u64>>();
    shared::<Collection<u64, u64>>();
    shared::<ReadHold<u64, u64>>();
    moved::<Engine<u64, u64>>();
    moved::<Pending<ReadHold<u64, u64>, CreateError<u64, u64>>>();
    moved::<Subscription<u64, u64>>();
}

#[test]
fn a_turn_takes_no_more_inputs_than_it_may() {
    let (mut engine, client, base) = by_hand(Config {
        turn_inputs_max: 3,
        ..Config::default()
    });
    let reports: Vec<_> = (1..=7)
        .map(|upper| client.report_uppers(vec![(1, Upper::at(upper))]))
        .collect();
    let mut seen = Vec::new();
    while engine.turn() == Turned::More {
        seen.push(base.upper());
    }
    assert_eq!(seen, [Upper::at(3), Upper::at(6)]);
    assert_eq!(base.upper(), Upper::at(7));
    reports
        .into_iter()
        .for_each(|report| report.wait().unwrap());
}

#[test]
fn the_depth_of_the_queue_and_the_age_of_its_oldest_entry_are_told() {
    let (mut engine, client, _base) = by_hand(Config::default());
    for upper in 1..=5 {
        drop(client.report_uppers(vec![(1, Upper::at(upper))]));
    }
    let stats = client.stats();
    engine.turn();
    let stats = stats.wait().unwrap();
    assert_eq!(stats.queue_depth, 6);
    assert!(stats.queue_age > Duration::ZERO);
    assert!(stats.queue_age <= stats.queue_age_max);
    assert_eq!(stats.collections, 1);
    let after = client.stats();
    engine.turn();
    let after = after.wait().unwrap();
    assert_eq!((after.turns, after.inputs), (2, 7));
    assert_eq!(after.turn_ns.len(), 2);
    assert_eq!(after.queue_depth, 1);
}

#[test]
fn an_engine_runs_on_a_thread_of_the_embedder_and_may_spin() {
    let config = Config {
        spin: Duration::from_micros(50),
        ..Config::default()
    };
    let (engine, client) = Engine::<u64, u64>::new(config, MemoryStorage::new()).unwrap();
    let owner = std::thread::spawn(move || engine.run());
    let base = client.create(vec![Description::new(1, ReadPolicy::step_back())]);
    let base = base.wait().unwrap().remove(0);
    for upper in 1..=200 {
        client
            .report_uppers(vec![(1, Upper::at(upper))])
            .wait()
            .unwrap();
        assert_eq!(base.since(), Since::at(upper - 1));
    }
    client.stop().wait().unwrap();
    assert_eq!(owner.join().unwrap().unwrap(), Ok(()));
}

#[test]
fn durations_without_end_are_taken() {
    let config = Config {
        downgrade_interval: Duration::MAX,
        stop_within: Duration::MAX,
        ..Config::default()
    };
    let (engine, client) = Engine::<u64, u64>::new(config, MemoryStorage::new()).unwrap();
    let thread = engine.spawn().unwrap();
    let new = Description::new(1, ReadPolicy::step_back()).shard(ShardId::new(1));
    let created = client
        .create(vec![new])
        .wait_timeout(Duration::MAX)
        .unwrap();
    let base = created.unwrap().remove(0);
    for upper in [10, 20] {
        client
            .report_uppers(vec![(1, Upper::at(upper))])
            .wait()
            .unwrap();
    }
    client.stop().wait_timeout(BOUND).unwrap().unwrap();
    thread.join().unwrap();
    assert_eq!(
        base.durable_since(),
        Since::at(19),
        "stopping asks for what is left"
    );
}

#[test]
fn a_name_that_no_thread_can_have_is_refused() {
    let config = Config {
        thread_name: String::from("low\0water"),
        ..Config::default()
    };
    let refused = Engine::<u64, u64>::new(config, MemoryStorage::new()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn an_engine_that_stops_while_it_is_flooded_obeys_what_came_before() {
    let (engine, client) =
        Engine::<u64, u64>::new(Config::default(), MemoryStorage::new()).unwrap();
    let thread = engine.spawn().unwrap();
    let base = client.create(vec![Description::new(1, ReadPolicy::step_back())]);
    let base = base.wait().unwrap().remove(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut upper = 0;
                while client
                    .report_uppers(vec![(1, Upper::at(upper))])
                    .wait()
                    .is_ok()
                {
                    upper += 1;
                }
            });
        }
        base.wait_for_upper_past([50]).wait().unwrap();
        let last = client.report_uppers(vec![(1, Upper::at(1_000_000))]);
        client.stop().wait().unwrap();
        last.wait().unwrap();
        assert_eq!(base.upper(), Upper::at(1_000_000));
    });
    thread.join().unwrap();
}

/// Storage that panics at the first request, or loses all of them.
struct Broken {
    panics: bool,
    asked: Arc<AtomicUsize>,
}

impl Storage<u64> for Broken {
    fn open(&mut self, request: OpenShards<u64>) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "this storage panics");
        drop(request);
    }

    fn downgrade(&mut self, request: DowngradeSinces<u64>) {
        drop(request);
    }
}

#[test]
fn storage_that_panics_or_forgets_leaves_nobody_waiting() {
    for panics in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let storage = Broken {
            panics,
            asked: Arc::clone(&asked),
        };
        let (engine, client) = Engine::<u64, u64>::new(Config::default(), storage).unwrap();
        let thread = engine.spawn().unwrap();
        for _ in 0..2 {
            let new = Description::new(1, ReadPolicy::step_back()).shard(ShardId::new(1));
            let outcome = client.create(vec![new]).wait_timeout(BOUND).unwrap();
            let Err(CreateError::Refused(refused)) = outcome else {
                panic!("{outcome:?}")
            };
            let [(1, Refusal::Storage(error))] = &refused[..] else {
                panic!("{refused:?}")
            };
            assert_eq!(error.kind(), StorageErrorKind::Retry);
        }
        assert_eq!(asked.load(Ordering::SeqCst), if panics { 1 } else { 2 });
        client.stop().wait().unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn an_engine_whose_storage_is_gone_stops_within_its_bound() {
    let storage = MemoryStorage::new();
    let config = Config {
        downgrade_interval: Duration::ZERO,
        stop_within: Duration::from_millis(50),
        ..Config::default()
    };
    let (engine, client) = Engine::<u64, u64>::new(config, storage.clone()).unwrap();
    let thread = engine.spawn().unwrap();
    let new = Description::new(1, ReadPolicy::step_back()).shard(ShardId::new(1));
    let base = client.create(vec![new]).wait().unwrap().remove(0);
    storage.hold();
    client
        .report_uppers(vec![(1, Upper::at(10))])
        .wait()
        .unwrap();
    let stopped = client.stop().wait_timeout(BOUND).unwrap();
    assert_eq!(stopped, Err(StopError::Unwritten { shards: 1 }));
    thread.join().unwrap();
    assert_eq!(
        (base.since(), base.durable_since()),
        (Since::at(9), Since::at(0))
    );
}

#[test]
fn events_that_came_too_fast_are_counted() {
    let (mut engine, client, _base) = by_hand(Config::default());
    let panics = ReadPolicy::lag_each(|upper: &u64| {
        assert!(*upper == 0, "every time but at the start");
        0
    });
    let created = client.create(vec![Description::new(2, panics)]);
    engine.turn();
    created.wait().unwrap();
    // Panics are caught, and need not be told a thousand times.
    std::panic::set_hook(Box::new(|_| {}));
    let more = lowwater::EVENTS_MAX as u64 + 10;
    for upper in 1..=more {
        drop(client.report_uppers(vec![(2, Upper::at(upper))]));
        engine.turn();
    }
    drop(std::panic::take_hook());
    let mut events = client.events();
    let mut missed = 0;
    for _ in 0..lowwater::EVENTS_MAX {
        let heard = futures_lite::future::block_on(async {
            let mut next = std::pin::pin!(events.next());
            loop {
                if let Some(heard) = futures_lite::future::poll_once(next.as_mut()).await {
                    break heard.unwrap();
                }
                engine.turn();
            }
        });
        assert!(matches!(
            heard.event,
            Event::PolicyPanicked { collection: 2 }
        ));
        missed += heard.missed;
    }
    assert_eq!(missed, 10);
}

#[test]
fn a_collection_that_goes_in_the_turn_in_which_it_came_is_still_handed_out() {
    let (mut engine, client, _base) = by_hand(Config::default());
    let came_and_went = client.create(vec![Description::new(2, ReadPolicy::step_back())]);
    let dropped = client.drop_collections(vec![2]);
    let gone = ReadPolicy::ValidFrom(Since::new(Default::default()));
    let given_up = client.create(vec![Description::new(3, gone)]);
    engine.turn();
    dropped.wait().unwrap();
    for created in [came_and_went, given_up] {
        let collection = created.wait().unwrap().remove(0);
        assert!(collection.acquire().is_err());
        assert!(collection.since().is_gone());
    }
    // Their ids, and their slots, are free again.
    let again = client.create(vec![Description::new(2, ReadPolicy::step_back())]);
    engine.turn();
    assert!(again.wait().unwrap()[0].acquire().is_ok());
}
