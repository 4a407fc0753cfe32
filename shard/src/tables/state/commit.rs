//! Committing a transaction.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lowwater::ShardId;

use super::super::row::TxnsRow;
use super::super::time::TableTime;
use super::{Passed, Step, TxnsState};

/// Why nothing was committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitRefusal<T> {
    /// Choose another time.
    #[error(transparent)]
    Passed(#[from] Passed<T>),
    /// These are no tables, or are none any more.
    #[error("not registered: {0:?}")]
    Unregistered(BTreeSet<ShardId>),
    /// The table has no such schema: [alter](super::super::Tables::alter) it first.
    #[error("table {0} has no such schema")]
    UnknownSchema(ShardId),
}

impl<T: TableTime> TxnsState<T> {
    /// Commits what a transaction has written, all of it at one time.
    ///
    /// # Errors
    ///
    /// If the time has passed; if it has written to what is no table.
    pub fn commit(
        &self,
        at: &T,
        writes: &BTreeMap<ShardId, Vec<Bytes>>,
    ) -> Result<Step<T>, CommitRefusal<T>> {
        self.commit_all(at, [(at, writes)])
    }

    /// Commits what several transactions have written, each at its own time, and closes all times up
    /// to and at `through`, or up to and at the latest of theirs.
    ///
    /// # Errors
    ///
    /// If one of the times has passed; if one has written to what is no table. Then none is committed.
    pub fn commit_all<'a>(
        &self,
        through: &'a T,
        transactions: impl IntoIterator<Item = (&'a T, &'a BTreeMap<ShardId, Vec<Bytes>>)>,
    ) -> Result<Step<T>, CommitRefusal<T>> {
        let (mut last, mut rows, mut unregistered) = (through, Vec::new(), BTreeSet::new());
        let mut numbers: BTreeMap<(&T, ShardId), u64> = BTreeMap::new();
        for (at, writes) in transactions {
            self.is_open(at)?;
            last = last.max(at);
            let strangers = writes.keys().filter(|id| !self.is_registered(**id));
            unregistered.extend(strangers.copied());
            for (&table, payloads) in writes {
                // Others may write to the table at the same time.
                let next = numbers.entry((at, table)).or_default();
                for payload in payloads {
                    let row = TxnsRow::Written {
                        table,
                        at: at.clone(),
                        number: *next,
                        payload: payload.clone(),
                    };
                    *next += 1;
                    rows.push((row, 1));
                }
            }
        }
        if !unregistered.is_empty() {
            return Err(CommitRefusal::Unregistered(unregistered));
        }
        Ok(self.step(last, rows)?)
    }
}
