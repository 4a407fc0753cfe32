//! A table as it changes.

use lowwater::{ShardId, Upper};
use timely::progress::Antichain;

use crate::updates::Updates;

use super::error::{ReadError, ReadRefusal, TablesError};
use super::handle::Tables;
use super::read::merge;
use super::time::{TableTime, upper_after};

/// What has happened to a table: the updates up to `upper`, from where the one before ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress<T> {
    /// The updates.
    pub updates: Updates<T>,
    /// Up to where these are all.
    pub upper: Upper<T>,
}

/// A table as it changes: first what is in it as of a time, then what is committed to it.
///
/// While nothing is committed to the table, nothing of it is read when time passes.
#[derive(Debug)]
pub struct Subscription<T: TableTime> {
    tables: Tables<T>,
    table: ShardId,
    as_of: T,
    /// What was given out is all up to here; `None` before the first.
    upper: Option<Upper<T>>,
    /// Nothing, of the table's schema, for times that pass.
    nothing: Option<Updates<T>>,
}

impl<T: TableTime> Tables<T> {
    /// Follows a table from a time on. The caller keeps it readable from the last time that the
    /// subscription has given out completely.
    pub fn subscribe(&self, table: ShardId, as_of: T) -> Subscription<T> {
        Subscription {
            tables: self.clone(),
            table,
            as_of,
            upper: None,
            nothing: None,
        }
    }
}

impl<T: TableTime> Subscription<T> {
    /// Waits until the table is written further, and says what has happened to it; first of all
    /// what is in it as of the time. `None` after the last: the table is written to its end. To
    /// drop the future loses nothing.
    ///
    /// # Errors
    ///
    /// If the table can no longer be read where the subscription is. If another controller has taken
    /// over: with who has, once this one has heard of it, also while it waits.
    pub async fn next(&mut self) -> Result<Option<Progress<T>>, ReadError<T>> {
        self.tables.inner.in_charge()?;
        let progress = match self.upper.clone() {
            None => {
                let updates = self.tables.snapshot(self.table, &self.as_of).await?;
                let upper = upper_after(&self.as_of);
                Progress { updates, upper }
            }
            Some(upper) => match upper.frontier().as_option() {
                None => return Ok(None),
                Some(from) => self.further(from, &upper).await?,
            },
        };
        self.upper = Some(progress.upper.clone());
        self.nothing = Some(progress.updates.filter(|_| false));
        Ok(Some(progress))
    }

    #[cfg(test)]
    pub(super) fn goes_on_with(&mut self, tables: &Tables<T>) {
        self.tables = tables.clone();
    }

    async fn further(&self, from: &T, reached: &Upper<T>) -> Result<Progress<T>, ReadError<T>> {
        let inner = &self.tables.inner;
        let past = Antichain::from_elem(from.clone());
        loop {
            let mut uppers = inner.uppers();
            uppers.mark_unchanged();
            // The state before the shard: what is no longer in the one is in the other.
            let view = inner.view(self.table, reached.clone()).await;
            match view.upper {
                Some(upper) if upper.is_past(&past) => {
                    if let Some(updates) = self.nothing.clone().filter(|_| view.is_quiet) {
                        return Ok(Progress { updates, upper });
                    }
                    if let Some(registered) =
                        view.registered.filter(|at| !reached.is_complete_at(at))
                    {
                        inner.close(self.table, &registered).await?;
                    }
                    return self.between(from, reached, upper, &view.writes).await;
                }
                Some(_) if view.registered.is_some() => inner.changed(&mut uppers).await?,
                // Whether it has left as far as it must may be known to others only.
                Some(_) | None => {
                    let mut heads = inner.store.heads(vec![self.table]).await?;
                    let head = heads.remove(&self.table).transpose()?;
                    let upper = head.map(|head| head.upper);
                    if let Some(upper) = upper.filter(|upper| upper.is_past(&past)) {
                        return self.between(from, reached, upper, &[]).await;
                    }
                    // It may become a table while we wait.
                    tokio::select! {
                        past = inner.store.wait_past(self.table, past.clone()) => past?,
                        changed = inner.changed(&mut uppers) => changed?,
                    }
                }
            }
        }
    }

    async fn between(
        &self,
        from: &T,
        reached: &Upper<T>,
        upper: Upper<T>,
        writes: &[(T, bytes::Bytes)],
    ) -> Result<Progress<T>, ReadError<T>> {
        let table = self.table;
        let contents = self.tables.inner.store.read(table, reached.clone()).await?;
        // What lies behind `from` is told apart only from the time before it on.
        let told_apart = from.predecessor().unwrap_or_else(T::minimum);
        if !contents.since.can_read(&told_apart) {
            let since = contents.since;
            return Err(TablesError::Refused(ReadRefusal::TooEarly { table, since }));
        }
        let updates = merge(contents, writes, |at| {
            from <= at && upper.is_complete_at(at)
        })?;
        Ok(Progress { updates, upper })
    }
}
