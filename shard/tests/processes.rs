//! Several processes work on one store, all kinds at once, and some are killed at any moment.
//!
//! This test starts itself again, as each of them: see `processes/roles.rs`. What they say that they
//! have done is the oracle: `processes/oracle.rs`.

#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]
#![expect(clippy::print_stdout, reason = "processes tell what they do")]
#![expect(clippy::print_stderr, reason = "people are told what happened")]

mod place;
mod processes {
    pub(crate) mod child;
    pub(crate) mod oracle;
    pub(crate) mod roles;
    pub(crate) mod rows;
    pub(crate) mod story;
}

use std::sync::Mutex;

use place::Place;
use processes::{roles, story};

/// One after the other: each starts processes enough.
static ONE: Mutex<()> = Mutex::new(());

fn play(place: Option<Place>) {
    let _one = ONE.lock();
    if let Some(place) = place {
        story::play(&place);
    }
}

#[test]
fn processes_that_are_killed_lose_nothing_in_a_folder() {
    play(Place::sqlite());
}

#[test]
fn processes_that_are_killed_lose_nothing_on_postgres() {
    play(Place::postgres());
}

#[test]
fn processes_that_are_killed_lose_nothing_on_postgres_and_s3() {
    play(Place::postgres_and_s3());
}

/// Not a test of its own: what the tests above start as another process.
#[test]
fn worker() {
    roles::work();
}
