//! What is to be appended to the txns shard.

use lowwater::{ShardId, Upper};

use super::super::row::{PAYLOADS_BYTES_MAX, TxnsRow};
use super::super::time::{TableTime, upper_after};
use super::TxnsState;

/// How much of what was applied one step takes away; the last row may go beyond that, if the step
/// has room for it.
const TIDIED_BYTES_MAX: usize = 64 << 20;

/// Rows to append to the txns shard, if it is still written up to `lower`.
#[must_use = "nothing is written yet"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<T> {
    /// How far the txns shard must be written.
    pub lower: Upper<T>,
    /// How far it will be.
    pub upper: Upper<T>,
    /// The time of all the rows.
    pub at: T,
    /// The rows: 1 for one that comes, -1 for one that goes.
    pub rows: Vec<(TxnsRow<T>, i64)>,
}

/// The time has passed: something was, or could have been, committed there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time has passed: tables are written up to {upper:?}")]
pub struct Passed<T> {
    /// The first time that has not.
    pub upper: Upper<T>,
}

impl<T: TableTime> TxnsState<T> {
    /// Closes a time for all tables, without writing to any. Like every step it takes away the rows
    /// of what was applied.
    ///
    /// # Errors
    ///
    /// If the time has passed.
    pub fn advance(&self, at: &T) -> Result<Step<T>, Passed<T>> {
        self.step(at, Vec::new())
    }

    /// A step with these rows, and without those of what was applied.
    pub(super) fn step(
        &self,
        at: &T,
        mut rows: Vec<(TxnsRow<T>, i64)>,
    ) -> Result<Step<T>, Passed<T>> {
        self.is_open(at)?;
        self.tidy(&mut rows);
        Ok(Step {
            lower: self.upper.clone(),
            upper: upper_after(at),
            at: at.clone(),
            rows,
        })
    }

    pub(super) fn is_open(&self, at: &T) -> Result<(), Passed<T>> {
        if self.upper.is_complete_at(at) {
            let upper = self.upper.clone();
            Err(Passed { upper })
        } else {
            Ok(())
        }
    }

    /// Takes away the rows of what is known to be applied. Of forgettings all, however much else
    /// there is, so that no table ever has two of them; of writes what fits into the step.
    fn tidy(&self, rows: &mut Vec<(TxnsRow<T>, i64)>) {
        let written = rows.iter().map(|(row, _)| row.bytes()).sum();
        rows.extend(self.applied_forgettings().map(|row| (row, -1)));
        let (mut bytes, mut room) = (0, PAYLOADS_BYTES_MAX.saturating_sub(written));
        for row in self.applied_writes() {
            if bytes >= TIDIED_BYTES_MAX {
                break;
            }
            if let Some(left) = room.checked_sub(row.bytes()) {
                room = left;
                bytes += row.bytes();
                rows.push((row, -1));
            }
        }
    }

    fn applied_forgettings(&self) -> impl Iterator<Item = TxnsRow<T>> {
        let forgotten = |(at, id): &&(T, ShardId)| self.tables[id].forgotten.as_ref() == Some(at);
        let applied = self.applied.iter().filter(forgotten);
        applied.map(|(at, table)| TxnsRow::Forgotten {
            table: *table,
            at: at.clone(),
        })
    }

    fn applied_writes(&self) -> impl Iterator<Item = TxnsRow<T>> {
        self.applied.iter().flat_map(|(at, id)| {
            let writes = self.tables[id].writes.get(at).into_iter().flatten();
            writes.map(|(number, payload)| TxnsRow::Written {
                table: *id,
                at: at.clone(),
                number: *number,
                payload: payload.clone(),
            })
        })
    }
}
