//! What the controller is there to notice is noticed.

#![allow(clippy::unwrap_used, reason = "in a test it is how one fails")]

use lowwater_controller::program::{BAD, GOOD, run};
use lowwater_controller::sabotage::Sabotage;
use lowwater_controller::signals::Signals;

fn exit_code(sabotage: Sabotage) -> (u8, String) {
    let args = ["controller", "--days", "4", "--store", "memory"];
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(args, sabotage, &Signals::ignored(), &mut out, &mut err);
    (code, String::from_utf8(err).unwrap())
}

#[test]
fn without_sabotage_all_is_good() {
    let (code, summary) = exit_code(Sabotage::None);
    assert_eq!(code, GOOD, "{summary}");
}

#[test]
fn compacting_one_step_too_far_gives_wrong_readings() {
    let (code, summary) = exit_code(Sabotage::CompactTooFar);
    assert_eq!(code, BAD, "{summary}");
    assert!(summary.contains("WRONG"), "{summary}");
    assert!(!summary.contains("LEAKED"), "{summary}");
}

#[test]
fn what_is_left_out_of_one_table_of_a_transaction_is_found_by_readers_of_both() {
    let (code, summary) = exit_code(Sabotage::TearTables);
    assert_eq!(code, BAD, "{summary}");
    assert!(summary.contains("changed by half"), "{summary}");
}

#[test]
fn a_leaked_hold_keeps_since_back_and_is_named() {
    let (code, summary) = exit_code(Sabotage::LeakHold);
    assert_eq!(code, BAD, "{summary}");
    assert!(!summary.contains("WRONG"), "{summary}");
    assert!(
        summary.contains("LEAKED: 1 hold never dropped"),
        "{summary}"
    );
    assert!(
        summary.contains("LEAKED: flights is at minute"),
        "{summary}"
    );
}

#[test]
fn an_engine_that_stops_halfway_ends_the_replay_and_hangs_nobody() {
    let (code, summary) = exit_code(Sabotage::StopEngine);
    assert_eq!(code, BAD, "{summary}");
    assert!(summary.contains("the engine has stopped"), "{summary}");
}
