//! One suite for all stores: what [`Consensus`] promises, each of them keeps.

#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]
#![expect(clippy::print_stdout, reason = "processes are told")]

mod place;
mod conformance {
    pub(crate) mod store;
    mod closing;
    pub(crate) mod races;
    pub(crate) mod processes;
    pub(crate) mod rules;
}

use conformance::store::{Embedded, Memory, Postgres};
use conformance::{processes, races, rules};

macro_rules! suite {
    ($store:ident, $new:expr) => {
        mod $store {
            use super::*;

            suite!(@tests $new, rules,
                a_new_store_has_nothing
                versions_are_numbered_from_one_without_gaps
                an_offer_is_stale_unless_its_writer_has_seen_the_latest
                each_offer_of_a_transaction_is_taken_by_itself
                of_two_offers_for_one_place_one_is_taken
                a_scan_gives_what_is_not_truncated
                truncation_leaves_the_latest_version
                an_offer_behind_truncated_versions_is_stale
                an_offer_that_is_taken_truncates
                a_list_is_in_order_and_in_pages
                bytes_come_back_as_they_were
                the_higher_epoch_takes_over
                an_equal_epoch_of_another_incarnation_is_refused
                a_fence_that_is_not_in_charge_writes_nothing
                those_without_a_fence_are_not_stopped
                what_changes_is_hinted_at
                what_another_handle_changes_is_hinted_at
            );
            suite!(@tests $new, races,
                many_writers_of_one_log_lose_nothing
                writers_that_truncate_as_they_go_lose_nothing
                a_log_is_read_from_its_beginning_at_any_moment
                overlapping_transactions_lose_nothing
                nothing_lands_after_a_take_over
                exactly_one_of_many_takes_over_an_epoch
            );
        }
    };
    (@tests $new:expr, $module:ident, $($name:ident)*) => {
        $(#[test]
        fn $name() {
            if let Some(store) = $new {
                $module::$name(&store);
            }
        })*
    };
}

suite!(memory, Some(Memory::new()));
suite!(embedded, Some(Embedded::new()));
suite!(postgres, Postgres::new());

#[test]
fn several_processes_on_one_database_lose_nothing() {
    if let Some(store) = Postgres::new() {
        processes::several_processes_lose_nothing(&store);
    }
}

#[test]
fn what_a_killed_process_was_told_is_in_the_database() {
    if let Some(store) = Postgres::new() {
        processes::what_a_killed_process_was_told_is_there(&store);
    }
}

#[test]
fn a_commit_waits_at_the_gate() {
    if let Some(store) = Postgres::new() {
        rules::a_commit_waits_at_the_gate(&store);
    }
}

#[test]
fn what_is_not_notified_is_hinted_at() {
    if let Some(store) = Postgres::new() {
        rules::what_is_not_notified_is_hinted_at(&store);
    }
}

#[test]
fn connections_that_are_lost_are_opened_again() {
    if let Some(store) = Postgres::new() {
        rules::connections_that_are_lost_are_opened_again(&store);
    }
}

#[test]
fn what_was_taken_is_there_when_the_folder_is_opened_again() {
    rules::what_was_taken_is_there_when_opened_again(&Embedded::new());
}

#[test]
fn several_processes_on_one_folder_lose_nothing() {
    processes::several_processes_lose_nothing(&Embedded::new());
}

#[test]
fn what_a_killed_process_was_told_is_in_the_folder() {
    processes::what_a_killed_process_was_told_is_there(&Embedded::new());
}

/// Not a test of its own: what the tests above start as another process.
#[test]
fn worker() {
    processes::work();
}
