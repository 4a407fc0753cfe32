//! Why something was not done with tables.

use std::collections::BTreeMap;
use std::fmt;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};

use crate::consensus::Fenced;
use crate::record::SchemaRefusal;
use crate::updates::UpdatesError;

use super::store::WriteFault;
use super::{CommitRefusal, ForgetRefusal, Passed, RegisterRefusal};

/// Why something was not done with tables: refused, for a reason of its own, or impossible.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TablesError<R> {
    /// It was refused by the latest state of all tables.
    #[error(transparent)]
    Refused(R),
    /// Another controller is in charge of the store: nothing was written.
    #[error(transparent)]
    Fenced(Fenced),
    /// The tables were opened to read only.
    #[error("the tables were opened to read only")]
    ReadOnly,
    /// Storage failed. What was to be written may have been, where the error does not say that it
    /// was not.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a transaction was not committed.
pub type CommitError<T> = TablesError<CommitRefusal<T>>;

/// Why tables were not forgotten.
pub type ForgetError<T> = TablesError<ForgetRefusal<T>>;

/// Why shards were not made tables.
pub type RegisterError<T> = TablesError<RegisterFaults<T>>;

/// Why the schema of a table was not changed.
pub type AlterError = TablesError<SchemaRefusal>;

/// Why shards were not made tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterFaults<T> {
    /// Choose another time.
    Passed(Passed<T>),
    /// These do not become tables, each for its own reason; so the others did not either.
    Tables(BTreeMap<ShardId, RegisterFault<T>>),
}

/// Names every shard that was refused, with its reason.
impl<T: fmt::Debug> fmt::Display for RegisterFaults<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterFaults::Passed(passed) => passed.fmt(f),
            RegisterFaults::Tables(faults) => {
                f.write_str("no shard was made a table")?;
                let mut faults = faults.iter();
                faults.try_for_each(|(table, fault)| write!(f, "; {table}: {fault}"))
            }
        }
    }
}

impl<T: fmt::Debug> std::error::Error for RegisterFaults<T> {}

/// Why a shard was not made a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterFault<T> {
    /// It was written by others beyond the time at which it would become a table: what was committed
    /// before that would look applied.
    #[error("the shard is itself written up to {upper:?} already")]
    Ahead {
        /// How far it is written. Register at a time that is not before it.
        upper: Upper<T>,
    },
    /// It was forgotten, and is not known to be written past that.
    #[error("the shard is being forgotten")]
    StillForgotten,
    /// It has another schema.
    #[error(transparent)]
    Schema(#[from] SchemaRefusal),
}

impl<T> From<RegisterRefusal<T>> for RegisterFaults<T> {
    fn from(refusal: RegisterRefusal<T>) -> Self {
        match refusal {
            RegisterRefusal::Passed(passed) => RegisterFaults::Passed(passed),
            RegisterRefusal::Ahead(ahead) => {
                let ahead = ahead.into_iter();
                let fault = |(table, upper)| (table, RegisterFault::Ahead { upper });
                RegisterFaults::Tables(ahead.map(fault).collect())
            }
            RegisterRefusal::StillForgotten(tables) => {
                let fault = |table| (table, RegisterFault::StillForgotten);
                RegisterFaults::Tables(tables.into_iter().map(fault).collect())
            }
        }
    }
}

/// Why a write was not taken into a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The rows are not of the schema, or too many.
    #[error(transparent)]
    Updates(#[from] UpdatesError),
}

/// Why a table cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefusal<T> {
    /// What is before `since` can no longer be read.
    #[error("table {table} can be read from {since:?} on")]
    TooEarly {
        /// The table.
        table: ShardId,
        /// Ask again at or after it.
        since: Since<T>,
    },
}

/// Why a table cannot be read.
pub type ReadError<T> = TablesError<ReadRefusal<T>>;

/// Nothing can be refused.
pub type ApplyError = TablesError<std::convert::Infallible>;

impl<R> TablesError<R> {
    pub(super) fn map<S>(self, map: impl FnOnce(R) -> S) -> TablesError<S> {
        match self {
            TablesError::Refused(refusal) => TablesError::Refused(map(refusal)),
            TablesError::Fenced(fenced) => TablesError::Fenced(fenced),
            TablesError::ReadOnly => TablesError::ReadOnly,
            TablesError::Storage(error) => TablesError::Storage(error),
        }
    }
}

/// Of a write that was not refused for where its shard ends.
pub(super) fn write_trouble<T, R>(fault: WriteFault<T>) -> TablesError<R>
where
    T: std::fmt::Debug,
{
    match fault {
        WriteFault::Fenced(fenced) => TablesError::Fenced(fenced),
        WriteFault::Storage(error) => TablesError::Storage(error),
        WriteFault::Elsewhere(upper) => TablesError::Storage(StorageError::new(
            StorageErrorKind::Retry,
            Busy(format!("{upper:?}")),
        )),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("others were faster, again and again: the shard is written up to {0}")]
struct Busy(String);

/// Something in the store that does not hold together.
pub(super) fn give_up(error: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::new(StorageErrorKind::GiveUp, error)
}
