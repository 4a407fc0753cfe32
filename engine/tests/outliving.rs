//! Engines come and go before their holds, and nothing is left of them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::{Duration, Instant};

use lowwater::{
    Config, Description, Engine, MemoryStorage, ReadHold, ReadPolicy, Since, Turned, Upper,
};

/// An engine that has stopped, and a hold of each kind that it left behind.
fn outlived() -> [ReadHold<u64, u64>; 3] {
    let (mut engine, client) =
        Engine::<u64, u64>::new(Config::default(), MemoryStorage::new()).unwrap();
    let created = client.create(vec![Description::new(1, ReadPolicy::step_back())]);
    engine.turn();
    let base = created.wait().unwrap().remove(0);
    let retired = base.acquire().unwrap();
    drop(client.report_uppers(vec![(1, Upper::at(10))]));
    engine.turn();
    let current = base.acquire().unwrap();
    let mut moved = base.acquire().unwrap();
    moved.downgrade(Since::at(20)).unwrap();
    let stopped = client.stop();
    while engine.turn() != Turned::Stopped {}
    drop(engine);
    stopped.wait().unwrap();
    [retired, current, moved]
}

/// Resident memory in bytes, once the I/O threads of engines that are gone have ended.
fn resident() -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        // The main thread, and the one of this test.
        if field("Threads:") <= 2 {
            return field("VmRSS:") * 1_024;
        }
        assert!(
            Instant::now() < deadline,
            "the threads of engines that are gone stay"
        );
        std::thread::yield_now();
    }
}

#[test]
fn ten_thousand_engines_whose_holds_outlive_them_leave_nothing() {
    let come_and_go = |engines: usize| {
        for _ in 0..engines {
            let [retired, current, moved] = outlived();
            assert_eq!(
                (retired.since(), current.since()),
                (&Since::at(0), &Since::at(9))
            );
            drop((current, retired, moved));
        }
    };
    come_and_go(500);
    let before = resident();
    come_and_go(10_000);
    let after = resident();
    // 500 bytes left behind by each would be five million.
    assert!(
        after < before + 4_000_000,
        "{before} bytes resident, then {after}"
    );
}
