//! Everything that can change the state.
//!
//! Commands, hold changes, what storage reports and the clock: all of it comes through the one
//! queue, so there is one order of history.

use std::time::Duration;

use crate::command::Command;
use crate::frontier::Since;
use crate::id::{Key, Ticket};
use crate::storage::StorageReport;

/// One thing that happened.
#[derive(Debug)]
pub enum Input<I, T> {
    /// A client asks something.
    Command {
        /// Where the answer goes.
        ticket: Ticket,
        /// What is asked.
        command: Command<I, T>,
    },
    /// The caller of this request no longer waits for its answer.
    Cancelled(Ticket),
    /// Counted holds were taken and given back.
    Held(HoldChange<T>),
    /// The last pin of a retired cell was given back.
    CellFreed(Cell),
    /// Storage has something to say.
    Storage(StorageReport<T>),
    /// The clock, since the engine started. Never goes back.
    Tick(Duration),
    /// What waits to become durable is asked for now, whatever the interval says, and what failed
    /// before is tried again. What waits for a write to end comes right after it.
    Flush,
    /// From now on the least time between two writes of a shard's since.
    DowngradeInterval(Duration),
}

/// A change of the holds that are counted one by one: those that were moved, or taken by asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldChange<T> {
    /// Whose holds.
    pub key: Key,
    /// What is held from now on. Counted before anything is released.
    pub acquired: Option<Since<T>>,
    /// What is no longer held.
    pub released: Option<Since<T>>,
}

/// Names a cell through which pins are taken. See `lowwater_queue::CellId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(pub u32);
