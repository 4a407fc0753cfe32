//! What the rows of the txns shard say, and what may be done.

mod step;
mod commit;
mod register;
mod forget;
mod application;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lowwater::{ShardId, Since, Upper};

use super::row::{Misplaced, TxnsRow};
use super::time::{TableTime, last_before, since_at, upper_after};

pub(super) use application::APPLICATION_BYTES_MAX;
pub use application::{Application, Foreign};
pub use commit::CommitRefusal;
pub use forget::ForgetRefusal;
pub use register::RegisterRefusal;
pub use step::{Passed, Step};

/// What the rows of the txns shard say, as of its upper.
///
/// A rule is a method that decides on a [`Step`]: rows to append to the txns shard if its upper is
/// still the one that was decided on. Whoever was slower follows what the other has written and
/// decides again; so every decision is made on the latest state, in whatever process.
///
/// That a write was [applied](TxnsState::applied) is what this process has learned from the table's
/// shard. It is for ever true, so it is not part of what has to be the latest; the next step takes
/// the row away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnsState<T> {
    /// How far the txns shard is written, and with it every registered table.
    upper: Upper<T>,
    tables: BTreeMap<ShardId, Table<T>>,
    /// Writes and forgettings that are not known to have reached the table's own shard.
    unapplied: BTreeSet<(T, ShardId)>,
    /// Those that have: their rows can be taken away.
    applied: BTreeSet<(T, ShardId)>,
}

/// A table that the txns shard says something about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table<T> {
    registered: Option<T>,
    /// Its own shard is not known to be written past this.
    forgotten: Option<T>,
    /// Its writes that were not taken away, by their times and numbers.
    writes: BTreeMap<T, BTreeMap<u64, Bytes>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            registered: None,
            forgotten: None,
            writes: BTreeMap::new(),
        }
    }
}

impl<T: TableTime> Default for TxnsState<T> {
    fn default() -> Self {
        TxnsState::new()
    }
}

impl<T: TableTime> TxnsState<T> {
    /// What a txns shard says that nobody has written to.
    pub fn new() -> Self {
        TxnsState {
            upper: Upper::minimum(),
            tables: BTreeMap::new(),
            unapplied: BTreeSet::new(),
            applied: BTreeSet::new(),
        }
    }

    /// Takes in what was written to the txns shard up to `upper`: rows, with how many times each is
    /// there more than before.
    ///
    /// # Errors
    ///
    /// If they do not fit what is there; the state must not be used any more.
    pub fn follow(
        &mut self,
        rows: impl IntoIterator<Item = (TxnsRow<T>, i64)>,
        upper: Upper<T>,
    ) -> Result<(), Misplaced> {
        let mut changes: BTreeMap<TxnsRow<T>, i64> = BTreeMap::new();
        for (row, diff) in rows {
            *changes.entry(row).or_insert(0) += diff;
        }
        // What goes before what comes: a table may be forgotten and registered again.
        let came = changes
            .extract_if(.., |_, diff| *diff > 0)
            .collect::<Vec<_>>();
        for (row, diff) in changes.into_iter().chain(came) {
            match diff {
                -1 => self.take_away(&row)?,
                0 => {}
                1 => self.add(row)?,
                _ => return Err(misplaced(row.table(), "a row is there more than once")),
            }
        }
        self.upper = upper;
        Ok(())
    }

    fn add(&mut self, row: TxnsRow<T>) -> Result<(), Misplaced> {
        let id = row.table();
        let table = self.tables.entry(id).or_default();
        let occupied = match row {
            TxnsRow::Registered { at, .. } => table.registered.replace(at).is_some(),
            TxnsRow::Forgotten { at, .. } => {
                self.unapplied.insert((at.clone(), id));
                table.forgotten.replace(at).is_some()
            }
            TxnsRow::Written {
                at,
                number,
                payload,
                ..
            } => {
                self.unapplied.insert((at.clone(), id));
                let write = table.writes.entry(at).or_default();
                write.insert(number, payload).is_some()
            }
        };
        fits(!occupied, id, "a row is written where one is")
    }

    fn take_away(&mut self, row: &TxnsRow<T>) -> Result<(), Misplaced> {
        let id = row.table();
        let Some(table) = self.tables.get_mut(&id) else {
            return Err(misplaced(
                id,
                "a row is taken away of a table that is unknown",
            ));
        };
        let was_there = match row {
            TxnsRow::Registered { at, .. } => table.registered.take().as_ref() == Some(at),
            TxnsRow::Forgotten { at, .. } => table.forgotten.take().as_ref() == Some(at),
            TxnsRow::Written {
                at,
                number,
                payload,
                ..
            } => {
                let write = table.writes.get_mut(at);
                let taken = write.and_then(|write| write.remove(number));
                table.writes.retain(|_, write| !write.is_empty());
                taken.as_ref() == Some(payload)
            }
        };
        if !table.awaits(row.at()) {
            self.unapplied.remove(&(row.at().clone(), id));
            self.applied.remove(&(row.at().clone(), id));
        }
        if *table == Table::default() {
            self.tables.remove(&id);
        }
        fits(was_there, id, "a row is taken away that is not there")
    }

    /// How far the txns shard is written: the logical upper of every registered table.
    pub fn upper(&self) -> &Upper<T> {
        &self.upper
    }

    /// The tables that are registered, with since when.
    pub fn registered(&self) -> impl Iterator<Item = (ShardId, &T)> {
        let tables = self.tables.iter();
        tables.filter_map(|(id, table)| Some((*id, table.registered.as_ref()?)))
    }

    /// All shards that something is known of: registered, or not yet fully left.
    pub fn known(&self) -> impl Iterator<Item = ShardId> {
        self.tables.keys().copied()
    }

    /// Since when transactions can write to the table.
    pub fn registered_at(&self, table: ShardId) -> Option<&T> {
        self.tables.get(&table)?.registered.as_ref()
    }

    /// True iff something that transactions have written to the table has not been taken away.
    pub fn has_writes(&self, table: ShardId) -> bool {
        let table = self.tables.get(&table);
        table.is_some_and(|table| !table.writes.is_empty())
    }

    /// True iff transactions can write to the table.
    pub fn is_registered(&self, table: ShardId) -> bool {
        let table = self.tables.get(&table);
        table.is_some_and(|table| table.registered.is_some())
    }

    /// True iff the table's own shard must not be closed: transactions can write to it, or something
    /// that they have written is not known to have reached it.
    pub fn needs(&self, id: ShardId) -> bool {
        let Some(table) = self.tables.get(&id) else {
            return false;
        };
        let mut awaited = table.writes.keys().chain(&table.forgotten);
        table.registered.is_some() || awaited.any(|at| self.unapplied.contains(&(at.clone(), id)))
    }

    /// How far a table is written, wherever the data are. `None` if the shard is no table, and is not
    /// known to lag behind as one that was: then its own upper says it.
    pub fn logical_upper(&self, id: ShardId) -> Option<Upper<T>> {
        let table = self.tables.get(&id)?;
        match (&table.registered, &table.forgotten) {
            (Some(_), _) => Some(self.upper.clone()),
            (None, Some(at)) if self.is_leaving(id) => Some(upper_after(at)),
            (None, _) => None,
        }
    }

    /// True iff the table was forgotten, and its own shard is not known to be written past that.
    pub(super) fn is_leaving(&self, id: ShardId) -> bool {
        let table = self.tables.get(&id);
        let forgotten = table.and_then(|table| table.forgotten.clone());
        forgotten.is_some_and(|at| self.unapplied.contains(&(at, id)))
    }

    /// The time of the oldest write or forgetting that is not known to be applied.
    pub fn oldest_unapplied(&self) -> Option<&T> {
        self.unapplied.first().map(|(at, _)| at)
    }

    /// How far the txns shard may be compacted: not past what is not applied.
    pub fn since_limit(&self) -> Since<T> {
        let readable = last_before(&self.upper);
        let unapplied = self.oldest_unapplied().cloned();
        since_at(match (readable, unapplied) {
            (Some(readable), Some(unapplied)) => Some(readable.min(unapplied)),
            (Some(readable), None) => Some(readable),
            // Sealed: whatever was written last, it is not before this.
            (None, unapplied) => unapplied,
        })
    }

    /// The time of the latest one.
    pub fn latest_unapplied(&self) -> Option<&T> {
        self.unapplied.last().map(|(at, _)| at)
    }

    /// The tables to which something up to `through` was not applied.
    pub fn unapplied_through(&self, through: &T) -> BTreeSet<ShardId> {
        let due = self.unapplied.iter().take_while(|(at, _)| at <= through);
        due.map(|(_, table)| *table).collect()
    }
}

impl<T: TableTime> Table<T> {
    /// Whether something of this time has to reach the table's own shard, or has to be taken away
    /// since it has.
    fn awaits(&self, at: &T) -> bool {
        self.forgotten.as_ref() == Some(at) || self.writes.contains_key(at)
    }
}

fn misplaced(table: ShardId, what: &'static str) -> Misplaced {
    Misplaced { table, what }
}

fn fits(condition: bool, table: ShardId, otherwise: &'static str) -> Result<(), Misplaced> {
    if condition {
        Ok(())
    } else {
        Err(misplaced(table, otherwise))
    }
}

#[cfg(test)]
mod tests;
