//! Several processes on one store: this test starts itself again.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::races::increment;
use super::rules::{log, numbers};
use super::store::{self, Store, run};

const ADDRESS: &str = "LOWWATER_TEST_WORKER_ADDRESS";
const INCREMENTS: &str = "LOWWATER_TEST_WORKER_INCREMENTS";

/// What a started process does: increments, and says each on its standard output.
pub(crate) fn work() {
    let Ok(address) = env::var(ADDRESS) else {
        return;
    };
    let increments: u64 = env::var(INCREMENTS).unwrap().parse().unwrap();
    run(async {
        let store = store::open(&address).await;
        for _ in 0..increments {
            let number = increment(&*store, log(1)).await;
            println!("incremented {number}");
        }
    });
}

fn start(store: &impl Store, increments: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["worker", "--exact", "--nocapture"])
        .env(ADDRESS, store.address())
        .env(INCREMENTS, increments.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a process says that it has written.
fn told(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.filter_map(|line| {
        let line = line.ok()?;
        line.split("incremented ").nth(1)?.parse().ok()
    })
}

pub(crate) fn several_processes_lose_nothing(store: &impl Store) {
    let mut children: Vec<Child> = (0..4).map(|_| start(store, 50)).collect();
    let mut seen = Vec::new();
    for child in &mut children {
        seen.extend(told(child));
        assert!(child.wait().unwrap().success());
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=200));
    run(async {
        assert!(
            numbers(&*store.open().await, log(1), 1)
                .await
                .into_iter()
                .eq(1..=200)
        )
    });
}

pub(crate) fn what_a_killed_process_was_told_is_there(store: &impl Store) {
    let mut last = 0;
    for round in 1..=8 {
        let mut other = start(store, 20);
        let mut child = start(store, u64::MAX);
        let mut lines = told(&mut child);
        for _ in 0..5 * round {
            last = lines.next().unwrap();
        }
        child.kill().unwrap();
        last = lines.last().unwrap_or(last);
        child.wait().unwrap();
        // The other one goes on where this one was killed.
        assert_eq!(told(&mut other).count(), 20);
        assert!(other.wait().unwrap().success());
        let head = run(async { numbers(&*store.open().await, log(1), last).await });
        assert_eq!(head.first(), Some(&last));
    }
    run(async {
        let all = numbers(&*store.open().await, log(1), 1).await;
        let count = all.len() as u64;
        assert!(all.into_iter().eq(1..=count));
    });
}
