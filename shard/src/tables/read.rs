//! Reading a table as of a time: its own shard, and what was not yet applied to it.

use std::collections::BTreeSet;

use bytes::Bytes;
use lowwater::{ShardId, Since, StorageError, Upper};
use timely::progress::Antichain;

use crate::schema::Schema;
use crate::updates::Updates;

use super::encoding::decode_writes;
use super::error::{ReadError, ReadRefusal, TablesError, give_up};
use super::handle::{Inner, Tables, never};
use super::store::Contents;
use super::time::TableTime;

/// A table as the state says, before its own shard is read.
pub(super) struct View<T> {
    /// How far it is written, wherever the data are; `None` where its own shard says it.
    pub(super) upper: Option<Upper<T>>,
    /// What may not be in its own shard.
    pub(super) writes: Vec<(T, Bytes)>,
    /// Since when transactions can write to it.
    pub(super) registered: Option<T>,
    /// Nothing was written to it lately.
    pub(super) is_quiet: bool,
}

/// What was committed to a table, and is not in its own shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unapplied {
    pub(crate) updates: u64,
    /// As it is stored.
    pub(crate) bytes: u64,
}

impl<T: TableTime> Tables<T> {
    /// What is in a table as of a time: the updates up to there, at that time, consolidated.
    ///
    /// Waits until all tables are written past the time. What was committed up to there and is not
    /// in the table's own shard is applied first; tables that were opened to read only write
    /// nothing, and read it where it was committed. A shard that is no table is read as it is.
    ///
    /// The caller keeps the table readable.
    ///
    /// # Errors
    ///
    /// If the table can no longer be read at the time.
    pub async fn snapshot(&self, table: ShardId, as_of: &T) -> Result<Updates<T>, ReadError<T>> {
        match self.is_table_written_past(table, as_of).await? {
            true => self.snapshot_now(table, as_of).await,
            false => {
                let contents = self.inner.store.read(table, Upper::minimum()).await?;
                as_of_time(table, contents, &[], as_of)
            }
        }
    }

    /// Waits until a table is written past a time, and applies what was committed until then; says
    /// what could not be, where nothing is written.
    pub(crate) async fn settle(
        &self,
        table: ShardId,
        as_of: &T,
    ) -> Result<Unapplied, ReadError<T>> {
        if !self.is_table_written_past(table, as_of).await? {
            return Ok(Unapplied::default());
        }
        let mut writes = self.apply(table, as_of).await?;
        if writes.is_empty() {
            return Ok(Unapplied::default());
        }
        let mut heads = self.inner.store.heads(vec![table]).await?;
        let Some(head) = heads.remove(&table).transpose()? else {
            return Ok(Unapplied::default());
        };
        writes.retain(|(at, _)| !head.upper.is_complete_at(at));
        let decoded = decode_writes(&writes, &head.schemas).map_err(give_up)?;
        let bytes: usize = writes.iter().map(|(_, payload)| payload.len()).sum();
        Ok(Unapplied {
            updates: decoded.len() as u64,
            bytes: bytes as u64,
        })
    }

    /// Waits until a shard is written past a time; true if it is a table then.
    async fn is_table_written_past(&self, table: ShardId, as_of: &T) -> Result<bool, StorageError> {
        let inner = &self.inner;
        let past = Antichain::from_elem(as_of.clone());
        loop {
            let mut uppers = inner.uppers();
            let known = uppers.borrow_and_update().clone();
            let view = inner.view(table, known).await;
            match &view.upper {
                Some(upper) if upper.is_past(&past) => return Ok(true),
                Some(_) if view.registered.is_some() => inner.changed(&mut uppers).await?,
                // Whether it has left as far as it must may be known to others only.
                Some(_) | None => {
                    let mut heads = inner.store.heads(vec![table]).await?;
                    let head = heads.remove(&table).transpose()?;
                    if head.is_some_and(|head| head.upper.is_past(&past)) {
                        return Ok(false);
                    }
                    // It may become a table while we wait.
                    tokio::select! {
                        past = inner.store.wait_past(table, past.clone()) => past?,
                        changed = inner.changed(&mut uppers) => changed?,
                    }
                }
            }
        }
    }

    /// Applies what was committed to a table up to a time, if anything may be written; what may not
    /// be in its own shard then.
    async fn apply(&self, table: ShardId, as_of: &T) -> Result<Vec<(T, Bytes)>, ReadError<T>> {
        let inner = &self.inner;
        inner.close(table, as_of).await?;
        // The state before the shard: what is no longer in the one is in the other.
        let mut writes = inner.view(table, Upper::minimum()).await.writes;
        writes.retain(|(at, _)| at <= as_of);
        Ok(writes)
    }

    /// Of a table that is written past the time.
    async fn snapshot_now(&self, table: ShardId, as_of: &T) -> Result<Updates<T>, ReadError<T>> {
        let writes = self.apply(table, as_of).await?;
        let contents = self.inner.store.read(table, Upper::minimum()).await?;
        as_of_time(table, contents, &writes, as_of)
    }
}

impl<T: TableTime> Inner<T> {
    /// Makes sure that all that there will ever be of a table up to and at `through` was committed,
    /// or is in its own shard. Others can write to that until its registration has reached it: who
    /// may write brings it there, and applies what was committed on the way; who only reads waits.
    pub(super) async fn close(&self, table: ShardId, through: &T) -> Result<(), ReadError<T>> {
        let registered = self.cache.lock().await.state.registered_at(table).cloned();
        if self.may_write::<()>().is_ok() {
            let through = registered.map_or_else(|| through.clone(), |at| at.max(through.clone()));
            let applied = self.apply_to(BTreeSet::from([table]), &through).await;
            return applied.map_err(never);
        }
        if let Some(registered) = registered {
            let open_to_others = Antichain::from_elem(registered.min(through.clone()));
            self.store.wait_past(table, open_to_others).await?;
        }
        Ok(())
    }

    /// What the state says of a table; `from` is where the reader has read it up to.
    pub(super) async fn view(&self, table: ShardId, from: Upper<T>) -> View<T> {
        let cache = self.cache.lock().await;
        let latest = cache.state.latest_unapplied();
        let writes = latest.map(|latest| cache.state.missing(table, &from, latest));
        View {
            upper: cache.state.logical_upper(table),
            writes: writes.unwrap_or_default(),
            registered: cache.state.registered_at(table).cloned(),
            is_quiet: cache.is_quiet(table, &from),
        }
    }
}

fn as_of_time<T: TableTime>(
    table: ShardId,
    contents: Contents<T>,
    writes: &[(T, Bytes)],
    as_of: &T,
) -> Result<Updates<T>, TablesError<ReadRefusal<T>>> {
    if !contents.since.can_read(as_of) {
        let since = contents.since;
        return Err(TablesError::Refused(ReadRefusal::TooEarly { table, since }));
    }
    let mut updates = merge(contents, writes, |at| at <= as_of)?;
    updates.advance(&Since::at(as_of.clone()));
    Ok(updates.consolidate())
}

/// What is in a table's own shard, and those of the writes that are not, at the times that are kept.
pub(super) fn merge<T: TableTime>(
    contents: Contents<T>,
    writes: &[(T, Bytes)],
    keep: impl Fn(&T) -> bool,
) -> Result<Updates<T>, StorageError> {
    let missing = |at: &T| keep(at) && !contents.upper.is_complete_at(at);
    let missing: Vec<(T, Bytes)> = writes
        .iter()
        .filter(|(at, _)| missing(at))
        .cloned()
        .collect();
    let mut all: Vec<Updates<T>> = Vec::with_capacity(contents.updates.len() + 1);
    for updates in contents.updates {
        all.push(updates.filter(&keep));
    }
    if !missing.is_empty() {
        all.push(decode_writes(&missing, &contents.schemas).map_err(give_up)?);
    }
    let nothing = Schema::new(Vec::new()).expect("no column occurs twice");
    let latest = contents.schemas.last().unwrap_or(&nothing);
    Updates::concat(all, latest).map_err(give_up)
}
