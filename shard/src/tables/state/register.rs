//! Making shards tables.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::{ShardId, Upper};
use timely::PartialOrder;

use super::super::row::TxnsRow;
use super::super::time::{TableTime, upper_after};
use super::{Passed, Step, TxnsState};

/// Why nothing was registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterRefusal<T> {
    /// Choose another time.
    #[error(transparent)]
    Passed(#[from] Passed<T>),
    /// These shards were written by others, up to here, beyond the time at which they would become
    /// tables: what was committed before that would look applied. Register at a time that is not
    /// before it.
    #[error("themselves written further already: {0:?}")]
    Ahead(BTreeMap<ShardId, Upper<T>>),
    /// These were forgotten, and their shards are not known to be written past that.
    #[error("being forgotten: {0:?}")]
    StillForgotten(BTreeSet<ShardId>),
}

impl<T: TableTime> TxnsState<T> {
    /// Makes shards tables at a time; their own shards are written up to these uppers. Those that
    /// are tables stay so, since when they were.
    ///
    /// Once the step is taken, the tables' own shards have to be written past the time, so that
    /// nobody writes to them who does not know.
    ///
    /// # Errors
    ///
    /// If the time has passed; if shards are themselves further, with all of them.
    pub fn register(
        &self,
        at: &T,
        tables: &BTreeMap<ShardId, Upper<T>>,
    ) -> Result<Step<T>, RegisterRefusal<T>> {
        self.is_open(at)?;
        let mut rows = Vec::new();
        let (mut ahead, mut still_forgotten) = (BTreeMap::new(), BTreeSet::new());
        for (&table, upper) in tables {
            if self.is_registered(table) {
                continue;
            }
            if !PartialOrder::less_equal(upper, &upper_after(at)) {
                ahead.insert(table, upper.clone());
            }
            if self.is_leaving(table) {
                still_forgotten.insert(table);
            }
            let at = at.clone();
            rows.push((TxnsRow::Registered { table, at }, 1));
        }
        if !ahead.is_empty() {
            return Err(RegisterRefusal::Ahead(ahead));
        }
        if !still_forgotten.is_empty() {
            return Err(RegisterRefusal::StillForgotten(still_forgotten));
        }
        Ok(self.step(at, rows)?)
    }
}
