//! Another controller takes the storage over: the engine stops, and everybody hears why.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod running;

use std::sync::mpsc;

use lowwater::{
    AcquireError, CloneError, Config, CreateError, Description, DowngradeSinces, Engine, Epoch,
    MemoryStorage, OpenShards, ReadPolicy, ReportError, ShardId, Since, StopError, StopReason,
    Storage, StorageErrorKind, StorageReports, Turned, Upper, WaitError,
};

use running::{BOUND, Running, start};

const BY: Epoch = Epoch::new(7);
const FENCED: StopReason = StopReason::Fenced { by: BY };

fn with_shard(id: u64) -> Description<u64, u64> {
    Description::new(id, ReadPolicy::step_back()).shard(ShardId::new(id.into()))
}

/// Whatever is asked of storage from now on hears of the other controller.
fn take_over(running: &Running) {
    running
        .storage
        .fail(usize::MAX, StorageErrorKind::Fenced { by: BY });
}

#[test]
fn a_write_that_is_fenced_stops_the_engine_and_everybody_hears_why() {
    let running = start();
    let created = running.client.create(vec![with_shard(1)]).wait();
    let base = created.unwrap().remove(0);
    let pinned = base.acquire().unwrap();
    let mut moved = base.acquire().unwrap();
    moved.downgrade(Since::at(5)).unwrap();
    let client = running.client.clone();
    let waiting = base.wait_for_upper_past([1_000]);
    let mut events = client.events();
    let listener = std::thread::spawn(move || events.wait().unwrap_err());
    assert_eq!(client.stopped(), None);

    take_over(&running);
    let report = client.report_uppers(vec![(1, Upper::at(10))]);
    let sinces = base.wait_for_since_past([1_000]);
    drop(pinned);
    assert_eq!(running.thread.join(), Err(FENCED));
    report.wait_timeout(BOUND).unwrap().unwrap();
    for waiting in [waiting, sinces] {
        let waited = waiting.wait_timeout(BOUND).unwrap();
        assert_eq!(waited.unwrap_err(), WaitError::Stopped(FENCED));
    }
    assert_eq!(listener.join().unwrap(), FENCED);
    assert_eq!(client.stopped(), Some(FENCED));
    assert_eq!(base.acquire().unwrap_err(), AcquireError::Stopped(FENCED));
    assert_eq!(moved.try_clone().unwrap_err(), CloneError::Stopped(FENCED));
    let late = client.report_uppers(vec![(1, Upper::at(20))]).wait();
    assert_eq!(late.unwrap_err(), ReportError::Stopped(FENCED));
    let stopped = client.stop().wait_timeout(BOUND).unwrap();
    assert_eq!(stopped, Err(StopError::Stopped(FENCED)));
    let shard = running.storage.shard(ShardId::new(1)).unwrap();
    assert_eq!(shard.since, Since::at(0), "nothing was moved");
    drop(moved);
}

#[test]
fn opening_shards_that_another_controller_has_creates_nothing_and_stops_the_engine() {
    let running = start();
    take_over(&running);
    let batch = vec![with_shard(1), with_shard(2)];
    let created = running.client.create(batch).wait_timeout(BOUND).unwrap();
    assert!(matches!(created, Err(CreateError::Stopped(FENCED))));
    assert_eq!(running.thread.join(), Err(FENCED));
}

#[test]
fn what_is_queued_behind_the_news_is_answered() {
    let running = start();
    let created = running.client.create(vec![with_shard(1)]).wait();
    let base = created.unwrap().remove(0);
    running.storage.hold();
    running.upper(1, 10);
    take_over(&running);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let report = running.client.report_uppers(vec![(1, Upper::at(11))]);
                    let Err(error) = report.wait_timeout(BOUND).unwrap() else {
                        continue;
                    };
                    assert_eq!(error, ReportError::Stopped(FENCED));
                    break;
                }
                while base.acquire().is_ok() {}
            });
        }
        running.storage.release_all();
    });
    assert_eq!(running.thread.join(), Err(FENCED));
}

#[test]
fn an_engine_that_is_stopping_says_that_it_was_fenced() {
    let running = start();
    drop(running.client.create(vec![with_shard(1)]).wait().unwrap());
    running.storage.hold();
    running.upper(1, 10);
    let stopping = running.client.stop();
    take_over(&running);
    running.storage.release_all();
    let stopped = stopping.wait_timeout(BOUND).unwrap();
    assert_eq!(stopped, Err(StopError::Stopped(FENCED)));
    assert_eq!(running.client.stopped(), Some(FENCED));
    assert_eq!(running.thread.join(), Err(FENCED));
}

#[test]
fn an_engine_that_is_turned_by_hand_answers_before_it_is_dropped() {
    let storage = MemoryStorage::new();
    let (mut engine, client) = Engine::<u64, u64>::new(Config::default(), storage.clone()).unwrap();
    let base = client.create(vec![Description::new(1, ReadPolicy::step_back())]);
    engine.turn();
    let base = base.wait().unwrap().remove(0);
    let waiting = base.wait_for_upper_past([7]);
    storage.fail(usize::MAX, StorageErrorKind::Fenced { by: BY });
    let created = client.create(vec![with_shard(2)]);
    while engine.turn() != Turned::Stopped {}
    assert!(matches!(
        created.wait_timeout(BOUND).unwrap(),
        Err(CreateError::Stopped(FENCED))
    ));
    let waited = waiting.wait_timeout(BOUND).unwrap();
    assert_eq!(waited.unwrap_err(), WaitError::Stopped(FENCED));
    assert_eq!(engine.turn(), Turned::Stopped);
    assert_eq!(client.stopped(), Some(FENCED));
}

/// Storage that gives away where it reports to.
struct Talkative(mpsc::Sender<StorageReports<u64>>);

impl Storage<u64> for Talkative {
    fn open(&mut self, request: OpenShards<u64>) {
        self.0.send(request.reports().clone()).unwrap();
        drop(request);
    }

    fn downgrade(&mut self, request: DowngradeSinces<u64>) {
        drop(request);
    }
}

#[test]
fn storage_that_hears_of_another_controller_says_so_without_being_asked() {
    let (sender, reports) = mpsc::channel();
    let (engine, client) = Engine::new(Config::default(), Talkative(sender)).unwrap();
    let thread = engine.spawn().unwrap();
    assert!(client.create(vec![with_shard(1)]).wait().is_err());
    reports.recv_timeout(BOUND).unwrap().fenced(BY);
    assert_eq!(thread.join(), Err(FENCED));
    assert_eq!(client.stopped(), Some(FENCED));
}
