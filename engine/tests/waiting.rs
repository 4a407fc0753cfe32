//! Waiting, subscribing, and frontiers of several, with real threads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod running;

use std::time::Duration;

use lowwater::{Config, Engine, MemoryStorage, Since, Upper, WaitError};

use running::{BOUND, Running, start};

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
fn after_a_sync_what_was_dropped_before_is_let_go() {
    let config = Config {
        turn_inputs_max: 1,
        ..Config::default()
    };
    let (engine, client) = Engine::new(config, MemoryStorage::new()).unwrap();
    let running = Running {
        client,
        storage: MemoryStorage::new(),
        thread: engine.spawn().unwrap(),
    };
    let base = running.create(1, &[]);
    for upper in 1..200 {
        let mut moved = base.acquire().unwrap();
        let pinned = base.acquire().unwrap();
        running.upper(1, upper);
        moved.downgrade(Since::at(upper)).unwrap();
        drop((moved, pinned));
        running.client.sync().wait().unwrap();
        assert_eq!(base.since(), Since::at(upper - 1));
    }
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
