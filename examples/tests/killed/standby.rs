//! One controller follows another, and takes its place: two processes on one store.

use std::thread;
use std::time::{Duration, Instant};

use super::days::{DAYS, Days};
use super::replay::{Controller, Replay};
use super::server::Server;
use lowwater_controller::minute::DAY;

/// How long the one that takes over may wait for the other one, which is stopped, before that goes
/// on for a moment: it may have been stopped while it had the file's lock.
const NUDGE_AFTER: Duration = Duration::from_secs(5);

/// How long anything may take that is waited for.
const BOUND: Duration = Duration::from_secs(300);

/// Runs a test on SQLite and on PostgreSQL.
fn on_each(test: impl Fn(&Days, &Replay<'_>)) {
    let (days, folder) = (Days::new(), tempfile::tempdir().unwrap());
    let store = folder.path().join("store");
    test(
        &days,
        &Replay::new(&days, vec!["--store".into(), store.into()]),
    );
    let Some(server) = Server::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    test(&days, &Replay::new(&days, server.options(&folder)));
}

fn random() -> fastrand::Rng {
    super::super::random("minutes to look at")
}

/// The number at the end of the line that begins with `name`.
fn figure(summary: &str, name: &str) -> u64 {
    let line = summary.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in:\n{summary}"));
    let number = line.split_whitespace().last().unwrap();
    number.replace(',', "").parse().unwrap()
}

/// It was taken over, and has said so in one line.
fn was_taken_over(old: Controller) {
    let (code, said) = old.end();
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("has taken over"), "{said}");
}

/// It has taken over and gone on, and all that it has read was right.
fn has_gone_on(new: Controller) {
    let (code, said) = new.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("Took the store over at minute "), "{said}");
    assert_eq!(figure(&said, "wrong readings"), 0);
}

fn waits_for(what: &str, controller: &mut Controller, nudge: impl Fn()) {
    let (begin, mut nudged) = (Instant::now(), Instant::now());
    while !controller.said().contains(what) {
        assert!(begin.elapsed() < BOUND, "{}", controller.said());
        assert!(!controller.has_ended(), "{}", controller.said());
        if nudged.elapsed() > NUDGE_AFTER {
            nudge();
            nudged = Instant::now();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn whoever_only_reads_follows_a_controller_to_its_end_and_reads_what_is_right() {
    on_each(|_, replay| {
        // Before there is anything to follow.
        let follower = replay.start_with(&["--read-only"]);
        replay.start().ends_well();
        let (code, said) = follower.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("Every reading was right."), "{said}");
        assert!(
            said.contains(&format!("to minute {}", DAYS * DAY)),
            "{said}"
        );
        assert!(figure(&said, "  from shards") > 0, "{said}");
        assert_eq!(figure(&said, "holds lapsed"), 0);
        // What it has held is given back, or since would be behind.
        replay.check_the_end(&mut random());
    });
}

#[test]
fn a_controller_that_is_promoted_goes_on_and_the_old_one_says_so_and_ends() {
    on_each(|_, replay| {
        let old = replay.start();
        let new = replay.start_with(&["--promote", "--promote-at", "1000"]);
        has_gone_on(new);
        was_taken_over(old);
        replay.check_the_end(&mut random());
    });
}

#[test]
fn a_controller_that_was_stopped_meanwhile_finds_itself_replaced_and_writes_nothing_wrong() {
    on_each(|_, replay| {
        let old = replay.start();
        replay.wait_until_something_is_written();
        old.signal("STOP");
        let mut new = replay.start_with(&["--promote"]);
        waits_for("Took the store over", &mut new, || {
            old.signal("CONT");
            thread::sleep(Duration::from_millis(20));
            old.signal("STOP");
        });
        old.signal("CONT");
        was_taken_over(old);
        has_gone_on(new);
        replay.check_the_end(&mut random());
    });
}

#[test]
fn whoever_is_to_take_the_place_of_one_that_is_gone_does_so() {
    on_each(|_, replay| {
        let old = replay.start();
        replay.wait_until_something_is_written();
        old.kill();
        // It will never be written that far by the old one.
        let at = (DAYS * DAY).to_string();
        let new = replay.start_with(&["--promote", "--promote-at", &at, "--silence", "1"]);
        has_gone_on(new);
        replay.check_the_end(&mut random());
    });
}

#[test]
fn however_whoever_only_reads_ends_its_leases_are_given_back() {
    on_each(|_, replay| {
        let old = replay.start();
        replay.wait_until_something_is_written();
        old.kill();
        // Nobody writes any more.
        let (code, said) = replay.start_with(&["--read-only", "--silence", "1"]).end();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nobody is in charge"), "{said}");
        assert!(!replay.has_leases());

        for (signal, number) in [("INT", 2), ("TERM", 15)] {
            for role in ["--read-only", "--promote"] {
                let at = (DAYS * DAY).to_string();
                let promote_at = ["--promote-at", &at];
                let more = if role == "--promote" {
                    &promote_at[..]
                } else {
                    &[]
                };
                let mut follower = replay.start_with(&[&[role], more].concat());
                let begin = Instant::now();
                while !replay.has_leases() {
                    assert!(begin.elapsed() < BOUND && !follower.has_ended());
                }
                follower.signal(signal);
                let (code, said) = follower.end();
                assert_eq!(code, Some(128 + number), "{said}");
                assert_eq!(said, format!("Stopped by SIG{signal}\n"));
                assert!(!replay.has_leases(), "{role} {signal}");
            }
        }
        replay.run_to_the_end();
        replay.check_the_end(&mut random());
    });
}

#[test]
fn a_controller_that_is_asked_to_stop_stops_and_goes_on_later() {
    on_each(|_, replay| {
        for signal in ["INT", "TERM"] {
            let controller = replay.start();
            replay.wait_until_something_is_written();
            controller.signal(signal);
            let (code, said) = controller.end();
            assert!(matches!(code, Some(130 | 143)), "{code:?} {said}");
            assert_eq!(said, format!("Stopped by SIG{signal}\n"));
        }
        replay.run_to_the_end();
        replay.check_the_end(&mut random());
    });
}

#[test]
fn where_there_is_nothing_to_follow_that_is_said() {
    let (days, folder) = (Days::new(), tempfile::tempdir().unwrap());
    let store = folder.path().join("store");
    let replay = Replay::new(&days, vec!["--store".into(), store.clone().into()]);
    let (code, said) = replay.start_with(&["--read-only"]).end();
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!store.exists());
}
