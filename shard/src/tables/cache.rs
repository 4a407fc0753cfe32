//! The state of all tables as this process knows it, and what it has seen happen.

use std::collections::BTreeMap;

use lowwater::{ShardId, StorageError, Upper};
use timely::PartialOrder;

use super::encoding::decode_rows;
use super::error::give_up;
use super::row::{Misplaced, TxnsRow};
use super::state::{Step, TxnsState};
use super::store::Contents;
use super::time::TableTime;

/// When more than this was written since it was applied last, it is applied soon.
const HEAVY_BYTES: usize = 8 << 20;

/// The state of all tables as this process knows it, and what it has seen happen.
#[derive(Debug)]
pub(super) struct Cache<T> {
    pub(super) state: TxnsState<T>,
    /// From here on every write was seen to happen.
    seen_from: Upper<T>,
    /// The latest write to each table that was seen.
    written: BTreeMap<ShardId, T>,
    /// About how much was written since it was applied last.
    bytes: usize,
}

impl<T: TableTime> Cache<T> {
    pub(super) fn new() -> Self {
        Cache {
            state: TxnsState::new(),
            seen_from: Upper::minimum(),
            written: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// True iff much was written since it was applied last.
    pub(super) fn is_heavy(&self) -> bool {
        self.bytes > HEAVY_BYTES
    }

    /// It is being applied.
    pub(super) fn is_light_again(&mut self) {
        self.bytes = 0;
    }

    /// Where to read the txns shard from.
    pub(super) fn upper(&self) -> &Upper<T> {
        self.state.upper()
    }

    /// Takes in what was read of the txns shard. False if it has to be read as a whole.
    pub(super) fn follow(&mut self, contents: Contents<T>) -> Result<bool, StorageError> {
        if PartialOrder::less_equal(&contents.upper, self.upper()) {
            return Ok(true);
        }
        let mut rows = Vec::new();
        for updates in contents.updates {
            rows.extend(decode_rows(&updates).map_err(give_up)?);
        }
        // What was read from the beginning may no longer tell what has happened.
        if contents.lower == *self.upper() && !contents.lower.is_minimum() {
            return match self.take(rows, contents.upper.clone()) {
                Ok(()) => Ok(true),
                // What was compacted meanwhile is not what was read before.
                Err(misplaced) => {
                    tracing::debug!(%misplaced, "the txns shard is read anew");
                    *self = Cache::new();
                    Ok(false)
                }
            };
        }
        *self = Cache::new();
        let taken = self.take(rows, contents.upper.clone());
        taken.map_err(give_up)?;
        self.seen_from = contents.upper.clone();
        self.written.clear();
        Ok(true)
    }

    /// A step of ours has gone through.
    pub(super) fn took(&mut self, step: Step<T>) -> Result<(), StorageError> {
        self.take(step.rows, step.upper).map_err(|misplaced| {
            // To be read anew, before anything else is decided by it.
            *self = Cache::new();
            give_up(misplaced)
        })
    }

    fn take(&mut self, rows: Vec<(TxnsRow<T>, i64)>, upper: Upper<T>) -> Result<(), Misplaced> {
        for (row, diff) in &rows {
            if let (
                TxnsRow::Written {
                    table, at, payload, ..
                },
                1,
            ) = (row, diff)
            {
                self.bytes += payload.len();
                let latest = self.written.entry(*table).or_insert_with(|| at.clone());
                if *latest < *at {
                    latest.clone_from(at);
                }
            }
        }
        self.state.follow(rows, upper)?;
        let tables = &self.state;
        self.written.retain(|table, _| tables.is_registered(*table));
        Ok(())
    }

    /// True iff nothing was written to this registered table from `from` on, for sure. Before it was
    /// registered, others may have: what they did is not seen here.
    pub(super) fn is_quiet(&self, table: ShardId, from: &Upper<T>) -> bool {
        let seen = PartialOrder::less_equal(&self.seen_from, from);
        let registered = self.state.registered_at(table);
        let written = self.written.get(&table);
        seen && registered.is_some_and(|at| from.is_complete_at(at))
            && written.is_none_or(|at| from.is_complete_at(at))
    }
}
