//! An engine whose store is slow, away, or comes back.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

mod place;
mod away {
    pub(crate) mod controller;
    mod encrypted;
    mod postgres;
    mod proxy;
    mod secrets;
    mod server;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::{Since, StopError};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::unreliable::{Fault, UnreliableConsensus};
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use tempfile::TempDir;

use away::controller::{BOUND, Controller, SHARDS, runtime};

fn start(stop_within: Duration) -> (Controller, UnreliableConsensus) {
    let store = UnreliableConsensus::new(Arc::new(MemoryConsensus::new()));
    let controller = Controller::start(runtime(), Arc::new(store.clone()), stop_within);
    (controller, store)
}

#[test]
fn while_the_store_is_stuck_all_that_needs_none_is_done_and_then_nothing_is_lost() {
    let (controller, store) = start(BOUND);
    store.hold();
    (1..=300).for_each(|upper| controller.tick(upper));
    assert_eq!(controller.collections[0].durable_since(), Since::at(0));
    store.release();
    controller.becomes_durable(299);
    controller.stop();
}

#[test]
fn while_another_process_keeps_the_file_all_that_needs_none_is_done_and_then_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let store = EmbeddedConsensus::open(folder.path()).unwrap();
    let controller = Controller::start(runtime(), Arc::new(store), BOUND);
    let other = rusqlite::Connection::open(folder.path().join("records.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (1..=300).for_each(|upper| controller.tick(upper));
    assert_eq!(controller.collections[0].durable_since(), Since::at(0));
    other.execute_batch("ROLLBACK").unwrap();
    controller.becomes_durable(299);
    controller.stop();
}

#[test]
fn answers_that_are_lost_and_reads_that_fail_lose_no_wish() {
    let (controller, store) = start(BOUND);
    let faults = [
        Fault::Refused,
        Fault::LostBefore,
        Fault::None,
        Fault::LostAfter,
        Fault::Late,
        Fault::Refused,
        Fault::Refused,
        Fault::LostAfter,
        Fault::LostAfter,
    ];
    store.next_commits(faults);
    for upper in 1..=100 {
        controller.tick(upper);
        if upper % 10 == 0 {
            store.next_reads_fail(1);
        }
    }
    let began = Instant::now();
    let mut upper = 100;
    while store.faults_left() > 0 {
        assert!(began.elapsed() < BOUND, "the store is not asked");
        upper += 1;
        controller.tick(upper);
    }
    // Reads that are still to fail are read again.
    let mut left = 10;
    while left > 0 && controller.runtime.block_on(store.fence()).is_err() {
        left -= 1;
    }
    controller.becomes_durable(upper - 1);
    assert!(controller.client.metrics().downgrades.failed > 0);
    controller.stop();
}

#[test]
fn stopping_writes_what_is_left_or_says_that_it_could_not() {
    let (controller, store) = start(BOUND);
    store.hold();
    controller.tick(10);
    controller.tick(20);
    let stopping = controller.client.stop();
    store.release();
    stopping.wait_timeout(BOUND).unwrap().unwrap();
    controller.becomes_durable(19);

    let (controller, store) = start(Duration::from_millis(20));
    store.hold();
    controller.tick(10);
    let stopped = controller.client.stop().wait_timeout(BOUND).unwrap();
    assert_eq!(stopped, Err(StopError::Unwritten { shards: SHARDS }));
    controller.engine.join().unwrap();
    // What it was asked for it may carry out later.
    store.release();
}
