//! What has to reach a table's own shard, and what of it has.

use bytes::Bytes;
use lowwater::{ShardId, Upper};
use timely::PartialOrder;

use super::super::time::{TableTime, later, upper_after};
use super::{Table, TxnsState};

/// How much one application brings to a table's shard, in payloads; the last time may go beyond that.
pub(in super::super) const APPLICATION_BYTES_MAX: usize = 256 << 20;

/// An append to a table's own shard, if it is still written up to `lower`.
#[must_use = "nothing is written yet"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application<T> {
    /// How far the shard must be written.
    pub lower: Upper<T>,
    /// How far it will be.
    pub upper: Upper<T>,
    /// What was written, at which times, oldest first.
    pub writes: Vec<(T, Bytes)>,
}

/// The table's own shard is written further than all tables: somebody else writes to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("table {table} is itself written up to {upper:?}, further than all tables")]
pub struct Foreign<T> {
    /// The table.
    pub table: ShardId,
    /// How far its own shard is written.
    pub upper: Upper<T>,
}

impl<T: TableTime> TxnsState<T> {
    /// What to append to a table's own shard, written up to `physical`, so that it has what was
    /// committed up to and at `through`. `None` if it has.
    ///
    /// Everything that was committed up to there goes in one append, unless it is very much: then
    /// that goes first which is oldest, and the rest when it is asked for again. To do it again, here
    /// or in another process, finds that the shard is written further.
    ///
    /// # Errors
    ///
    /// If somebody who does not know of the transactions has written to the shard.
    pub fn application(
        &self,
        id: ShardId,
        physical: &Upper<T>,
        through: &T,
    ) -> Result<Option<Application<T>>, Foreign<T>> {
        let Some(table) = self.tables.get(&id) else {
            return Ok(None);
        };
        self.check_physical(id, table, physical)?;
        let mut writes = table.writes_beyond(physical, through);
        let through = oldest_first(&mut writes).unwrap_or_else(|| through.clone());
        let marks = [&table.registered, &table.forgotten].into_iter().flatten();
        let times = marks.filter(|at| **at <= through);
        let times = times.chain(writes.iter().map(|(at, _)| at));
        let upper = times.map(upper_after).fold(physical.clone(), later);
        let lower = physical.clone();
        Ok((upper != lower).then_some(Application {
            lower,
            upper,
            writes,
        }))
    }

    /// What was committed to a table up to and at `as_of`, and is not in its own shard, which is
    /// written up to `physical`: who reads the table adds it.
    ///
    /// The state must not be newer than the shard was when `physical` was read.
    pub fn missing(&self, table: ShardId, physical: &Upper<T>, as_of: &T) -> Vec<(T, Bytes)> {
        let table = self.tables.get(&table);
        table.map_or_else(Vec::new, |table| table.writes_beyond(physical, as_of))
    }

    /// Notes how far a table's own shard is written: what is not beyond that was applied, unless
    /// somebody else has written there.
    pub fn applied(&mut self, id: ShardId, physical: &Upper<T>) {
        let Some(table) = self.tables.get(&id) else {
            return;
        };
        if self.check_physical(id, table, physical).is_err() {
            return;
        }
        let times = table.writes.keys().chain(&table.forgotten);
        for at in times.filter(|at| physical.is_complete_at(at)) {
            let key = (at.clone(), id);
            if self.unapplied.remove(&key) {
                self.applied.insert(key);
            }
        }
    }

    fn check_physical(
        &self,
        id: ShardId,
        table: &Table<T>,
        physical: &Upper<T>,
    ) -> Result<(), Foreign<T>> {
        // Who has closed the shard has destroyed the table: nothing more can be applied to it, and
        // nobody shall wait for that.
        let registered = table.registered.is_some();
        if !registered || physical.is_sealed() || PartialOrder::less_equal(physical, &self.upper) {
            Ok(())
        } else {
            let upper = physical.clone();
            Err(Foreign { table: id, upper })
        }
    }
}

/// Leaves what is not too much for one application; the last time of that, if something is left out.
fn oldest_first<T: TableTime>(writes: &mut Vec<(T, Bytes)>) -> Option<T> {
    let (mut bytes, mut last) = (0, None);
    let cut = writes.iter().position(|(at, payload)| {
        let is_enough = bytes >= APPLICATION_BYTES_MAX && last != Some(at);
        bytes += payload.len();
        last = Some(at);
        is_enough
    })?;
    writes.truncate(cut);
    writes.last().map(|(at, _)| at.clone())
}

impl<T: TableTime> Table<T> {
    /// The writes up to and at `through` that a shard does not have that is written up to
    /// `physical`.
    fn writes_beyond(&self, physical: &Upper<T>, through: &T) -> Vec<(T, Bytes)> {
        let due = self.writes.range(..=through.clone());
        let beyond = due.filter(|(at, _)| !physical.is_complete_at(at));
        let each = |(at, payloads): (&T, &std::collections::BTreeMap<u64, Bytes>)| {
            let payloads: Vec<_> = payloads.values().cloned().collect();
            let at = at.clone();
            payloads
                .into_iter()
                .map(move |payload| (at.clone(), payload))
        };
        beyond.flat_map(each).collect()
    }
}
