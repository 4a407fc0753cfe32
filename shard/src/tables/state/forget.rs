//! Making tables ordinary shards.

use std::collections::BTreeSet;

use lowwater::ShardId;

use super::super::row::TxnsRow;
use super::super::time::TableTime;
use super::{Passed, Step, TxnsState};

/// Why nothing was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetRefusal<T> {
    /// Choose another time.
    #[error(transparent)]
    Passed(#[from] Passed<T>),
    /// Something that was written to these is not known to be applied: apply it first.
    #[error("not applied: {0:?}")]
    Unapplied(BTreeSet<ShardId>),
}

impl<T: TableTime> TxnsState<T> {
    /// Makes tables ordinary shards, after a time. Those that are no tables stay so.
    ///
    /// Once the step is taken, the tables' own shards have to be written past the time: until that
    /// is known, the txns shard says where they end.
    ///
    /// # Errors
    ///
    /// If the time has passed; if a write was not applied: it would be lost.
    pub fn forget(&self, at: &T, tables: &BTreeSet<ShardId>) -> Result<Step<T>, ForgetRefusal<T>> {
        self.is_open(at)?;
        let registered = |id: &&ShardId| self.is_registered(**id);
        let unapplied = |id: &&ShardId| self.has_unapplied_writes(**id);
        let leaving = tables.iter().filter(registered);
        let in_the_way: BTreeSet<_> = leaving.filter(unapplied).copied().collect();
        if !in_the_way.is_empty() {
            return Err(ForgetRefusal::Unapplied(in_the_way));
        }
        let mut rows = Vec::new();
        for &table in tables {
            rows.extend(self.forgetting(table, at));
        }
        Ok(self.step(at, rows)?)
    }

    /// The step, with which those of these tables are forgotten whose writes are all applied; the
    /// others wait for another one.
    pub(in super::super) fn leave(&self, mut step: Step<T>, tables: &BTreeSet<ShardId>) -> Step<T> {
        if tables.is_empty() {
            return step;
        }
        let added = step.rows.iter().filter(|(_, diff)| *diff > 0);
        let busy: BTreeSet<ShardId> = added.map(|(row, _)| row.table()).collect();
        let leaving = tables.iter().filter(|id| !busy.contains(id));
        for &table in leaving.filter(|id| !self.has_unapplied_writes(**id)) {
            step.rows.extend(self.forgetting(table, &step.at));
        }
        step
    }

    /// The rows that make an ordinary shard of a table; none if it is one.
    fn forgetting(&self, table: ShardId, at: &T) -> Vec<(TxnsRow<T>, i64)> {
        let Some(known) = self.tables.get(&table) else {
            return Vec::new();
        };
        let Some(since) = known.registered.clone() else {
            return Vec::new();
        };
        let mut rows = vec![(TxnsRow::Registered { table, at: since }, -1)];
        // It was registered again, so that was applied. Where this is known already, every step
        // takes the row away.
        if let Some(before) = known.forgotten.clone().filter(|_| self.is_leaving(table)) {
            rows.push((TxnsRow::Forgotten { table, at: before }, -1));
        }
        let at = at.clone();
        rows.push((TxnsRow::Forgotten { table, at }, 1));
        rows
    }

    fn has_unapplied_writes(&self, id: ShardId) -> bool {
        let table = self.tables.get(&id);
        let mut times = table.iter().flat_map(|table| table.writes.keys());
        times.any(|at| self.unapplied.contains(&(at.clone(), id)))
    }
}
