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
        self.is_open(at)?;
        let tables = writes.keys().copied();
        let unregistered: BTreeSet<_> = tables.filter(|id| !self.is_registered(*id)).collect();
        if !unregistered.is_empty() {
            return Err(CommitRefusal::Unregistered(unregistered));
        }
        let mut rows = Vec::new();
        for (table, payloads) in writes {
            for (number, payload) in (0..).zip(payloads) {
                let row = TxnsRow::Written {
                    table: *table,
                    at: at.clone(),
                    number,
                    payload: payload.clone(),
                };
                rows.push((row, 1));
            }
        }
        Ok(self.step(at, rows)?)
    }
}
