//! Storage that is slow, away, or comes back: what needs none goes on, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod running;

use std::time::Duration;

use lowwater::{
    Collection, Config, Description, Downgrades, Engine, MemoryStorage, Metrics, Parameters,
    ReadPolicy, ShardId, Since, StopError, StorageErrorKind, Upper,
};

use running::{BOUND, Running, start};

const SHARDS: u64 = 100;

fn shard(id: u64) -> ShardId {
    ShardId::new(id.into())
}

fn create(running: &Running) -> Vec<Collection<u64, u64>> {
    let new = |id| Description::new(id, ReadPolicy::step_back()).shard(shard(id));
    let created = running.client.create((0..SHARDS).map(new).collect());
    created.wait().unwrap()
}

/// All of them are written up to here.
fn write(running: &Running, upper: u64) {
    let uppers = (0..SHARDS).map(|id| (id, Upper::at(upper))).collect();
    running.client.report_uppers(uppers).wait().unwrap();
}

/// Waits until every planned since is durable.
fn all_is_durable(running: &Running, collections: &[Collection<u64, u64>]) {
    for collection in collections {
        let mut changes = collection.subscribe();
        loop {
            let frontiers = changes.wait_timeout(BOUND).unwrap();
            let frontiers = frontiers.expect("it becomes durable");
            if frontiers.since == frontiers.durable_since {
                break;
            }
        }
    }
    running.client.sync().wait().unwrap();
    let Downgrades {
        wished,
        written,
        coalesced,
        waiting,
        in_flight,
        behind,
        ..
    } = running.client.metrics().downgrades;
    assert_eq!((waiting, in_flight, behind), (0, 0, 0));
    assert_eq!(wished, written + coalesced);
}

#[test]
fn while_storage_is_stuck_all_that_needs_none_is_done() {
    let running = start();
    let collections = create(&running);
    running.storage.hold();
    let client = &running.client;
    // Far more than what an engine that waited for storage would ever get to.
    for upper in 1..=500 {
        write(&running, upper);
        let held = collections[0].acquire().unwrap();
        assert_eq!(held.since(), &Since::at(upper - 1));
        let mut moved = held.try_clone().unwrap();
        moved.downgrade(Since::at(upper)).unwrap();
        drop((held, moved));
    }
    client.sync().wait().unwrap();
    assert_eq!(collections[0].since(), Since::at(499));
    let early = collections[1].acquire_at(Since::at(3)).wait();
    assert!(early.is_err(), "nobody keeps it");
    let earliest = collections[1].acquire_earliest().wait().unwrap();
    assert_eq!(earliest.since(), &Since::at(499));
    client
        .set_policies(vec![(2, ReadPolicy::lag_writes_by(100, 1).unwrap())])
        .wait()
        .unwrap();
    client.explain(1).wait().unwrap();
    client.frontiers(&[1, 2, 3]).wait().unwrap();
    let new = Description::new(1_000, ReadPolicy::step_back()).depends_on([3]);
    client.create(vec![new]).wait().unwrap();
    client.drop_collections(vec![1_000]).wait().unwrap();
    assert!(
        (0..SHARDS as usize).all(|id| collections[id].durable_since() == Since::at(0)),
        "nothing is durable yet"
    );

    // What waits is one wish of each shard, and one that was asked for.
    let Downgrades {
        waiting,
        in_flight,
        behind,
        ..
    } = client.metrics().downgrades;
    assert_eq!((waiting, in_flight, behind), (SHARDS, SHARDS, SHARDS));
    assert!(running.storage.held() <= SHARDS as usize);
    drop(earliest);
    running.storage.release_all();
    all_is_durable(&running, &collections);
    assert_eq!(running.storage.refused(), 0);
    running.stop();
}

#[test]
fn creating_waits_for_storage_that_is_stuck_and_nobody_else_does() {
    let running = start();
    let collections = create(&running);
    running.storage.hold();
    let new = Description::new(500, ReadPolicy::step_back()).shard(shard(500));
    let Err(creating) = running
        .client
        .create(vec![new.depends_on([0])])
        .wait_timeout(Duration::ZERO)
    else {
        panic!("its shard is not open")
    };
    write(&running, 10);
    assert_eq!(collections[1].since(), Since::at(9));
    assert_eq!(collections[0].since(), Since::at(0), "the batch needs it");
    running.storage.release_all();
    let created = creating.wait_timeout(BOUND).unwrap().unwrap();
    assert_eq!(created[0].since(), collections[0].since());
    running.stop();
}

#[test]
fn storage_that_fails_for_a_while_loses_nothing_and_costs_no_memory() {
    let running = start();
    let collections = create(&running);
    running.storage.fail(usize::MAX, StorageErrorKind::Retry);
    for upper in 1..=300 {
        write(&running, upper);
        let downgrades = running.client.metrics().downgrades;
        assert!(downgrades.waiting <= SHARDS && downgrades.in_flight <= SHARDS);
    }
    // One that is dropped while storage is away is given up all the same.
    running.client.drop_collections(vec![7]).wait().unwrap();
    let failed = || running.client.metrics().downgrades.failed;
    while failed() == 0 {
        std::thread::yield_now();
    }
    running.storage.fail(0, StorageErrorKind::Retry);
    all_is_durable(&running, &collections[..7]);
    all_is_durable(&running, &collections[8..]);
    let downgrades = running.client.metrics().downgrades;
    assert!(
        downgrades.failed > 0 && downgrades.retried > 0,
        "{downgrades:?}"
    );
    assert!(running.storage.shard(shard(7)).unwrap().since.is_gone());
    running.stop();
}

#[test]
fn what_stopping_could_not_write_is_said() {
    let running = start();
    let collections = create(&running);
    let parameters = Parameters::new().stop_within(Duration::from_millis(20));
    running.client.change(parameters).wait().unwrap();
    running.storage.hold();
    let uppers = (0..3).map(|id| (id, Upper::at(10))).collect();
    running.client.report_uppers(uppers).wait().unwrap();
    let stopped = running.client.stop().wait_timeout(BOUND).unwrap();
    assert_eq!(stopped, Err(StopError::Unwritten { shards: 3 }));
    running.thread.join().unwrap();
    assert_eq!(collections[0].durable_since(), Since::at(0));
    assert_eq!(running.client.metrics().downgrades.behind, 3);
}

#[test]
fn the_interval_between_writes_changes_while_the_engine_runs() {
    let storage = MemoryStorage::new();
    let hour = Duration::from_secs(3_600);
    let config = Config {
        downgrade_interval: hour,
        ..Config::default()
    };
    let (engine, client) = Engine::new(config, storage.clone()).unwrap();
    let running = Running {
        thread: engine.spawn().unwrap(),
        client,
        storage,
    };
    let collections = create(&running);
    write(&running, 10);
    all_is_durable(&running, &collections);
    write(&running, 20);
    write(&running, 30);
    let downgrades = running.client.metrics().downgrades;
    assert_eq!((downgrades.waiting, downgrades.coalesced), (SHARDS, SHARDS));
    assert_eq!(running.storage.writes(), 1);
    // All of them in the one write that was due.
    let soon = Parameters::new().downgrade_interval(Duration::ZERO);
    running.client.change(soon).wait().unwrap();
    all_is_durable(&running, &collections);
    assert_eq!(running.storage.writes(), 2);
    let late = Parameters::new().downgrade_interval(hour);
    running.client.change(late).wait().unwrap();
    write(&running, 40);
    assert_eq!(running.client.metrics().downgrades.waiting, SHARDS);
    running.stop();
}

#[test]
fn metrics_are_read_without_asking_and_outlive_the_engine() {
    let running = start();
    let collections = create(&running);
    write(&running, 10);
    all_is_durable(&running, &collections);
    let asked = running.client.stats().wait().unwrap();
    let client = running.client.clone();
    running.stop();
    let Metrics {
        turns,
        inputs,
        turn_lengths,
        collections,
        downgrades,
        events,
        ..
    } = client.metrics();
    assert!(turns >= asked.turns && inputs > asked.inputs);
    assert_eq!(turn_lengths.iter().sum::<u64>(), turns);
    assert_eq!((collections, events), (SHARDS, 0));
    assert_eq!(downgrades.written, SHARDS);
}
