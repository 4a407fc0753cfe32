//! Tables that commit together.
//!
//! One shard, the *txns shard*, carries what happens to all tables: that they were registered or
//! forgotten, and what transactions have written to them. One compare-and-append there commits a
//! transaction to any number of tables, and advances how far all of them are written: the *logical
//! upper* of every registered table is the upper of the txns shard. What was committed reaches the
//! tables' own shards later, or never: to *apply* a commit again does no harm, and who reads a
//! table adds what was not applied.
//!
//! Times are totally ordered ([`TableTime`]): a commit at a time closes it for all tables at once.
//!
//! - [`TxnsState`]: what the rows of the txns shard say, and every rule, as pure functions.
//! - [`TxnsRow`]: the rows.

mod time;
mod row;
mod state;
#[cfg(test)]
mod model;

pub use row::{Misplaced, TxnsRow};
pub use state::{
    Application, CommitRefusal, Foreign, ForgetRefusal, Passed, RegisterRefusal, Step, TxnsState,
};
pub use time::TableTime;
