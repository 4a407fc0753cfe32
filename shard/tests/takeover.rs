//! A newer controller takes a store over while the older one, another process, is in the middle of
//! something: nothing of the older one lands after that, and it hears who is in charge whatever it
//! was in the middle of.
#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "processes and people are told"
)]

mod place;
mod takeover {
    #[path = "../conformance/store.rs"]
    #[allow(dead_code, unused_imports, reason = "other tests use the rest")]
    pub(crate) mod store;
    pub(crate) mod talk;
    pub(crate) mod stopping;
    pub(crate) mod fenced;
    pub(crate) mod older;
    pub(crate) mod calls;
    pub(crate) mod process;
    pub(crate) mod records;
    pub(crate) mod newer;
    pub(crate) mod proxy;
    pub(crate) mod wire;
    pub(crate) mod promoted;
    pub(crate) mod charge;
    pub(crate) mod followed;
}

use takeover::calls::Call;
use takeover::charge;
use takeover::followed;
use takeover::newer::stopped_at_each_write_of;
use takeover::promoted::{promoted_meanwhile, promoted_while_cut_off};
use takeover::proxy::Cut;
use takeover::stopping::Place;
use takeover::store::{Embedded, Postgres};
use takeover::wire::cut_off_at_each_commit_of;

use takeover::older;

/// On each store: each call, and how many writes of a controller there are in it at least.
macro_rules! suite {
    ($($name:ident $call:ident $writes:literal)*) => {
        mod embedded {
            use super::*;

            $(#[test]
            fn $name() {
                stopped_at_each_write_of(Call::$call, $writes, || Some(Embedded::new()));
            })*
        }

        mod postgres {
            use super::*;

            $(#[test]
            fn $name() {
                stopped_at_each_write_of(Call::$call, $writes, Postgres::new);
            })*
        }
    };
}

suite! {
    nothing_lands_of_metadata_that_are_initialized Initialize 1
    nothing_lands_of_metadata_that_are_prepared Prepare 1
    nothing_lands_of_collections_that_are_created Create 1
    nothing_lands_of_sinces_that_are_moved Downgrade 1
    nothing_lands_of_a_collection_that_is_dropped Drop 6
    nothing_lands_of_a_shard_that_is_finalized Finalize 6
    nothing_lands_of_a_schema_that_is_altered Alter 1
    nothing_lands_of_wishes_that_are_left_when_it_stops Stop 1
    nothing_lands_of_tables_that_are_opened OpenTables 2
    nothing_lands_of_tables_that_are_registered Register 3
    nothing_lands_of_a_transaction_that_is_committed Commit 1
    nothing_lands_of_a_time_that_is_closed Advance 1
    nothing_lands_of_what_is_applied Apply 1
    nothing_lands_of_a_table_that_is_forgotten Forget 3
    nothing_lands_of_a_table_that_is_altered AlterTable 1
    nothing_lands_of_transactions_that_are_compacted LetGo 2
}

/// On the way to PostgreSQL: each call.
macro_rules! cut_off {
    ($($name:ident $call:ident)*) => {
        mod postgres_cut_off {
            use super::*;

            $(#[test]
            fn $name() {
                cut_off_at_each_commit_of(Call::$call);
            })*
        }
    };
}

cut_off! {
    nothing_lands_of_metadata_that_are_initialized Initialize
    nothing_lands_of_metadata_that_are_prepared Prepare
    nothing_lands_of_collections_that_are_created Create
    nothing_lands_of_sinces_that_are_moved Downgrade
    nothing_lands_of_a_collection_that_is_dropped Drop
    nothing_lands_of_a_shard_that_is_finalized Finalize
    nothing_lands_of_a_schema_that_is_altered Alter
    nothing_lands_of_wishes_that_are_left_when_it_stops Stop
    nothing_lands_of_tables_that_are_opened OpenTables
    nothing_lands_of_tables_that_are_registered Register
    nothing_lands_of_a_transaction_that_is_committed Commit
    nothing_lands_of_a_time_that_is_closed Advance
    nothing_lands_of_what_is_applied Apply
    nothing_lands_of_a_table_that_is_forgotten Forget
    nothing_lands_of_a_table_that_is_altered AlterTable
    nothing_lands_of_transactions_that_are_compacted LetGo
}

#[test]
fn a_reader_is_promoted_while_the_older_one_is_cut_off() {
    for call in [Call::Create, Call::Downgrade, Call::Prepare, Call::Commit] {
        for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
            if let Some(store) = Postgres::new() {
                promoted_while_cut_off(call, &store, cut);
            }
        }
    }
}

/// On each store.
macro_rules! charges {
    ($module:ident $new:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn those_who_race_have_epochs_of_their_own() {
                if let Some(store) = $new {
                    charge::those_who_race_have_epochs_of_their_own(&store);
                }
            }

            #[test]
            fn whoever_is_stopped_as_it_takes_over_is_overtaken() {
                for place in [Place::Before, Place::After] {
                    if let Some(store) = $new {
                        charge::whoever_is_stopped_as_it_takes_over_is_overtaken(&store, place);
                    }
                }
            }

            #[test]
            fn whoever_writes_nothing_hears_of_it_too() {
                if let Some(store) = $new {
                    charge::whoever_writes_nothing_hears_of_it_too(&store);
                }
            }

            #[test]
            fn whoever_only_reads_outlives_those_in_charge_and_leaves_nothing_but_leases() {
                if let Some(store) = $new {
                    followed::whoever_only_reads_outlives_those_in_charge(&store);
                }
            }

            #[test]
            fn a_reader_is_promoted_while_the_older_one_is_stopped() {
                for call in [Call::Create, Call::Downgrade, Call::Prepare, Call::Commit] {
                    for place in [Place::Before, Place::After] {
                        if let Some(store) = $new {
                            promoted_meanwhile(call, &store, place);
                        }
                    }
                }
            }
        }
    };
}

charges!(embedded_charge Some(Embedded::new()));
charges!(postgres_charge Postgres::new());

#[test]
fn who_is_killed_in_a_transaction_is_in_nobodys_way() {
    charge::who_is_killed_in_a_transaction_is_in_nobodys_way();
}

#[test]
fn who_is_woken_in_a_transaction_ends_it_and_is_overtaken() {
    charge::who_is_woken_in_a_transaction_ends_it_and_is_overtaken();
}

/// Not a test of its own: the older controller, which the tests above start as another process.
#[test]
fn older_controller() {
    older::live();
}
