//! What collections need of tables, for code that does not know that their times are ordered.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use lowwater::{ShardId, StorageError, Upper};

use crate::schema::Schema;
use crate::snapshot::SnapshotError;
use crate::tables::{
    Access, ApplyError, ReadError, ReadRefusal, RegisterError, TableTime, Tables, TablesError,
    Unapplied,
};
use crate::time::ShardTime;
use crate::updates::Updates;

/// An answer that comes some time.
pub(super) type Later<'a, X> = std::pin::Pin<Box<dyn Future<Output = X> + Send + 'a>>;

/// How far tables are written, each that is one.
pub(super) type Uppers<T> = BTreeMap<ShardId, Upper<T>>;

/// The tables of a store. To be had as [`Tables`] where times are known to be ordered.
pub(super) trait TableSet<T: ShardTime>: Any + Send + Sync {
    /// True iff nothing is written: the transactions are only followed.
    fn is_read_only(&self) -> bool;

    /// Which of these are no tables.
    fn unregistered(&self, shards: BTreeSet<ShardId>) -> Later<'_, BTreeSet<ShardId>>;

    /// Makes shards tables, at a time; those that are stay so.
    fn register(
        &self,
        at: T,
        tables: Vec<(ShardId, Schema)>,
    ) -> Later<'_, Result<(), RegisterError<T>>>;

    /// Which of these nothing was ever written to, and since when those are tables; none if they
    /// are none.
    fn blank(
        &self,
        shards: BTreeSet<ShardId>,
    ) -> Later<'_, Result<BTreeMap<ShardId, Option<T>>, StorageError>>;

    /// True iff a shard must not be closed: it is a table, or has something that is not applied.
    fn needs(&self, shard: ShardId) -> Later<'_, Result<bool, StorageError>>;

    /// Tells how far these are written, those that are tables, while that does not change.
    fn tell(
        &self,
        shards: BTreeSet<ShardId>,
        tell: Box<dyn FnOnce(Uppers<T>) + Send>,
    ) -> Later<'_, ()>;

    /// What is in a table as of a time, wherever it is.
    fn snapshot(&self, table: ShardId, as_of: T)
    -> Later<'_, Result<Updates<T>, SnapshotError<T>>>;

    /// Waits until a table is written past a time, and applies what was committed until then; says
    /// what could not be, where nothing is written.
    fn settle(&self, table: ShardId, as_of: T) -> Later<'_, Result<Unapplied, SnapshotError<T>>>;

    /// From now on it writes.
    fn take_charge(&self, access: Access) -> Later<'_, Result<(), ApplyError>>;

    /// Begins to apply nothing any more of its own accord, and follows nobody.
    fn stop(&self) -> Later<'_, ()>;
}

impl<T: TableTime> TableSet<T> for Tables<T> {
    fn is_read_only(&self) -> bool {
        Tables::is_read_only(self)
    }

    fn unregistered(&self, mut shards: BTreeSet<ShardId>) -> Later<'_, BTreeSet<ShardId>> {
        Box::pin(async move {
            self.with_state(|state| shards.retain(|shard| !state.is_registered(*shard)))
                .await;
            shards
        })
    }

    fn register(
        &self,
        at: T,
        tables: Vec<(ShardId, Schema)>,
    ) -> Later<'_, Result<(), RegisterError<T>>> {
        Box::pin(async move { Tables::register(self, &at, &tables).await.map(drop) })
    }

    fn blank(
        &self,
        shards: BTreeSet<ShardId>,
    ) -> Later<'_, Result<BTreeMap<ShardId, Option<T>>, StorageError>> {
        Box::pin(Tables::blank(self, shards))
    }

    fn needs(&self, shard: ShardId) -> Later<'_, Result<bool, StorageError>> {
        Box::pin(Tables::needs(self, shard))
    }

    fn tell(
        &self,
        shards: BTreeSet<ShardId>,
        tell: Box<dyn FnOnce(Uppers<T>) + Send>,
    ) -> Later<'_, ()> {
        Box::pin(async move {
            self.with_state(|state| {
                let upper = |shard: ShardId| Some((shard, state.logical_upper(shard)?));
                tell(shards.into_iter().filter_map(upper).collect());
            })
            .await;
        })
    }

    fn snapshot(
        &self,
        table: ShardId,
        as_of: T,
    ) -> Later<'_, Result<Updates<T>, SnapshotError<T>>> {
        Box::pin(async move {
            let read = Tables::snapshot(self, table, &as_of).await;
            read.map_err(|error| unread(error, self.upper()))
        })
    }

    fn settle(&self, table: ShardId, as_of: T) -> Later<'_, Result<Unapplied, SnapshotError<T>>> {
        Box::pin(async move {
            let settled = Tables::settle(self, table, &as_of).await;
            settled.map_err(|error| unread(error, self.upper()))
        })
    }

    fn take_charge(&self, access: Access) -> Later<'_, Result<(), ApplyError>> {
        Box::pin(Tables::take_charge(self, access))
    }

    fn stop(&self) -> Later<'_, ()> {
        Box::pin(Tables::stop(self))
    }
}

fn unread<T: TableTime>(error: ReadError<T>, upper: Upper<T>) -> SnapshotError<T> {
    match trouble(error) {
        Ok(ReadRefusal::TooEarly { since, .. }) => SnapshotError::TooEarly { since, upper },
        Err(error) => SnapshotError::Storage(error),
    }
}

/// What tables could not do, for the engine and for callers who know of storage only.
pub(super) fn trouble<R>(error: TablesError<R>) -> Result<R, StorageError> {
    use lowwater::StorageErrorKind;
    match error {
        TablesError::Refused(refusal) => Ok(refusal),
        TablesError::Fenced(fenced) => {
            let kind = match fenced.by {
                Some(fence) => StorageErrorKind::Fenced { by: fence.epoch },
                None => StorageErrorKind::GiveUp,
            };
            Err(StorageError::new(kind, fenced))
        }
        TablesError::ReadOnly => {
            let kind = StorageErrorKind::GiveUp;
            Err(StorageError::new(kind, super::ReadOnly))
        }
        TablesError::Storage(error) => Err(error),
    }
}
