//! The controller is killed at random moments, again and again, and its database too. Nothing is
//! lost, and nothing is read wrong.

#![allow(clippy::unwrap_used, reason = "in a test it is how one fails")]
#![allow(clippy::print_stderr, reason = "people are told")]

mod killed {
    pub(crate) mod days;
    pub(crate) mod replay;
    pub(crate) mod server;
    mod standby;
}

use std::time::{Duration, Instant};

use killed::days::{DAYS, Days};
use killed::replay::Replay;
use killed::server::Server;

/// How often something is killed.
const KILLS: usize = 10;

/// So much of the time goes to kills at most, however slow the machine is, unless too few have hit.
const KILLING: Duration = Duration::from_secs(45);

/// So many kills of the controller must hit it while it writes.
const HITS_MIN: usize = 3;

/// So many kills of the database must.
const DATABASE_HITS_MIN: usize = 2;

/// Until then they must have hit.
const HIT_WITHIN: Duration = Duration::from_secs(300);

fn random(what: &str) -> fastrand::Rng {
    let seed = std::env::var("LOWWATER_TEST_SEED").ok();
    let seed = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("{what}: to see it again, set LOWWATER_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Whether to go on killing after so many kills, and so many that have hit.
fn goes_on(kills: usize, hits: usize, hits_min: usize, begin: Instant) -> bool {
    if hits < hits_min {
        let (hit, within) = (begin.elapsed() < HIT_WITHIN, HIT_WITHIN.as_secs());
        assert!(hit, "only {hits} of {kills} kills have hit in {within} s");
        return true;
    }
    kills < KILLS && begin.elapsed() < KILLING
}

/// Kills the controller of `replay` at random moments, looks at what is there each time, and at the
/// end.
fn kill_again_and_again(mut replay: Replay<'_>, mut random: fastrand::Rng) {
    let (begin, mut kills) = (Instant::now(), 0);
    while goes_on(kills, replay.hits(), HITS_MIN, begin) && !replay.is_over() {
        replay.run_and_kill(&mut random);
        kills += 1;
        if !replay.is_over() {
            replay.check_what_is_there(&mut random);
        }
    }
    let hits = replay.hits();
    assert!(hits >= HITS_MIN, "it was over, hit {hits} times");
    eprintln!("{hits} of {kills} kills have hit while it wrote");
    replay.run_to_the_end();
    replay.check_the_end(&mut random);
}

#[test]
fn a_controller_that_is_killed_again_and_again_loses_nothing() {
    let (random, days) = (random("kills of the controller"), Days::new());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let replay = Replay::new(&days, vec!["--store".into(), store.into()]);
    kill_again_and_again(replay, random);
}

#[test]
fn a_controller_on_postgres_that_is_killed_again_and_again_loses_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let (random, days) = (random("kills of the controller on PostgreSQL"), Days::new());
    let folder = tempfile::tempdir().unwrap();
    let replay = Replay::new(&days, server.options(&folder));
    kill_again_and_again(replay, random);
}

#[test]
fn a_controller_on_postgres_and_s3_that_is_killed_again_and_again_loses_nothing() {
    let Ok(place) = std::env::var("LOWWATER_TEST_S3") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs an S3 server: `. .ci/s3` starts one"
        );
        eprintln!("skipped: no S3 server; `. .ci/s3` starts one and sets LOWWATER_TEST_S3");
        return;
    };
    let Some(server) = Server::start() else {
        return;
    };
    let (random, days) = (random("kills of the controller with S3"), Days::new());
    let blobs = format!("{place}/killed-{:016x}", fastrand::u64(..));
    let replay = Replay::new(&days, server.options_with(blobs.into()));
    kill_again_and_again(replay, random);
}

#[test]
fn a_controller_whose_database_is_killed_again_and_again_goes_on() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (mut random, days) = (random("kills of PostgreSQL"), Days::new());
    let folder = tempfile::tempdir().unwrap();
    let replay = Replay::new(&days, server.options(&folder));
    let mut controller = replay.start();
    let (begin, mut kills, mut hits, mut written) = (Instant::now(), 0, 0, 0);
    while goes_on(kills, hits, DATABASE_HITS_MIN, begin) {
        let is_writing = kills % 3 > 0;
        if is_writing {
            written = replay.wait_for_more(written, &mut controller, &mut random);
        } else {
            controller.wait_for(Duration::from_millis(random.u64(1..500)));
        }
        server.kill();
        // Without its database it does not come to its end.
        if controller.has_ended() {
            server.start_again();
            break;
        }
        hits += usize::from(is_writing);
        kills += 1;
        if kills % 4 == 0 {
            // Both at once: what the dead controller has sent may still land.
            controller.kill();
            server.start_again();
            controller = replay.start();
        } else {
            server.start_again();
        }
    }
    assert!(hits >= DATABASE_HITS_MIN, "it was over, hit {hits} times");
    eprintln!("{hits} of {kills} kills have hit while it wrote");
    controller.ends_well();
    replay.check_the_end(&mut random);
}

#[test]
fn a_controller_whose_database_stays_away_ends_with_one_line() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let days = Days::new();
    let folder = tempfile::tempdir().unwrap();
    let replay = Replay::new(&days, server.options(&folder));
    let controller = replay.start();
    replay.wait_until_something_is_written();
    server.kill();
    let (code, said) = controller.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: "), "{said}");

    server.start_again();
    replay.run_to_the_end();
    replay.check_the_end(&mut random("what is read after all"));
}

#[test]
fn the_days_are_cut_out_as_they_are_in_the_year() {
    let days = Days::new();
    assert!(days.are_those_of_the_year(), "{DAYS} days");
}
