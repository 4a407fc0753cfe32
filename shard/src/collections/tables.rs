//! The tables of a controller: collections that are written together, in transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use arrow::record_batch::RecordBatch;
use lowwater::{
    CollectionId, DropError, Events, ShardId, StopReason, StorageError, StorageErrorKind, Upper,
};

use crate::tables::{
    Access, Apply, CommitError, CommitRefusal, ForgetRefusal, Passed, Subscription, TableTime,
    Tables, Transaction, WriteError,
};
use crate::time::ShardTime;

use super::description::KindName;
use super::late::LateTables;
use super::table_set::trouble;
use super::{Collections, Inner, ReadOnly};

/// Why the tables of a store were not opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenTablesError {
    /// They are open.
    #[error("the tables are open")]
    Open,
    /// Committed metadata do not say which shard carries the transactions: initialize first. Who
    /// only reads waits until whoever is in charge has.
    #[error("no shard carries transactions by committed metadata")]
    NoTxnsShard,
    /// Another controller is in charge, or storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why something was not done with tables, whatever it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableTrouble {
    /// [Open](Collections::open_tables) the tables first.
    #[error("the tables are not open")]
    NotOpen,
    /// Tables are written by the controller that is in charge.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
    /// The controller has stopped, or another one has taken over. Nothing was written.
    #[error(transparent)]
    Stopped(StopReason),
    /// Another controller is in charge, or storage failed. What was to be written may have been,
    /// where the error does not say that it was not.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a time was not closed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AdvanceError<T> {
    /// Choose another one.
    #[error(transparent)]
    Passed(#[from] Passed<T>),
    /// Trouble.
    #[error(transparent)]
    Trouble(#[from] TableTrouble),
}

/// Why rows were not taken into a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteTableError<I> {
    /// There is no such collection, or it was dropped.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// It is written in other ways.
    #[error("{collection} is not a table but a {found}")]
    NotATable {
        /// Which collection.
        collection: I,
        /// What it is.
        found: KindName,
    },
    /// The rows are not of its schema, or too many.
    #[error(transparent)]
    Rows(#[from] WriteError),
}

/// Why a transaction was not committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitTablesError<I, T> {
    /// Choose another time.
    #[error(transparent)]
    Passed(#[from] Passed<T>),
    /// These are no tables any more.
    #[error("not registered: {0:?}")]
    Unregistered(BTreeSet<I>),
    /// The shard of this one does not have its schema.
    #[error("the shard of {0} does not have its schema")]
    UnknownSchema(I),
    /// Trouble.
    #[error(transparent)]
    Trouble(#[from] TableTrouble),
}

/// Why tables were not dropped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DropTablesError<I, T> {
    /// Choose another time. Nothing was dropped.
    #[error(transparent)]
    Passed(#[from] Passed<T>),
    /// This one is something else. Nothing was dropped.
    #[error("{collection} is not a table but a {found}")]
    NotATable {
        /// Which collection.
        collection: I,
        /// What it is.
        found: KindName,
    },
    /// One does not exist, or was dropped. Then nothing was, unless it was dropped just now.
    #[error(transparent)]
    Drop(#[from] DropError<I>),
    /// Trouble.
    #[error(transparent)]
    Trouble(#[from] TableTrouble),
}

impl<I: CollectionId, T: TableTime> Collections<I, T> {
    /// Opens the tables of the store, after [`initialize`](Collections::initialize), or
    /// [`observe`](Collections::observe): committed metadata say which shard carries their
    /// transactions. Before that no table is created.
    ///
    /// The engine hears from now on how far all tables are written: as far as that shard, all of
    /// them at once. What is committed is applied in the background. While the controller only
    /// reads, tables in `migrated` are not part of the transactions: somebody writes their shards
    /// himself, and they are as far as those, whatever the registration time. Once it is in charge
    /// they are tables like all others, as soon as they are [created](Collections::create) again.
    ///
    /// # Errors
    ///
    /// If they are open; if no shard carries transactions yet; if another controller is in charge,
    /// or storage fails.
    pub async fn open_tables(&self, migrated: BTreeSet<I>) -> Result<(), OpenTablesError> {
        let inner = &self.inner;
        let _one_at_a_time = inner.tables.changing.lock().await;
        if inner.tables.set().is_some() {
            return Err(OpenTablesError::Open);
        }
        let (txns, leaving) = {
            let ledger = inner.ledger.lock();
            (ledger.txns_shard(), ledger.leaving())
        };
        let txns = txns.ok_or(OpenTablesError::NoTxnsShard)?;
        let access = inner.driving.get().map_or(Access::ReadOnly, |driving| {
            inner.access(driving.taken.fence)
        });
        let shards = &inner.shards.inner;
        let (hub, parts) = (Arc::clone(&shards.hub), shards.parts.clone());
        let opened = Tables::open_in(&shards.runtime, hub, parts, txns, access, leaving);
        let opened = opened.await.map_err(|error| match trouble(error) {
            Ok(refusal) => match refusal {},
            Err(error) => error,
        })?;
        // Set before any table is created.
        let _ = inner.migrated.set(migrated);
        inner.tables.open(&shards.runtime, opened);
        let (events, tables) = (inner.client.events(), Arc::downgrade(&inner.tables));
        shards.runtime.spawn(tell_overtaken(events, tables));
        Ok(())
    }

    /// The tables by their shards, once they are [open](Collections::open_tables): how far all of
    /// them are written.
    pub fn tables(&self) -> Option<&Tables<T>> {
        self.inner.tables.tables()
    }

    fn writable(&self) -> Result<&Tables<T>, TableTrouble> {
        let tables = self.tables().ok_or(TableTrouble::NotOpen)?;
        self.inner.driving()?;
        self.inner.runs()?;
        Ok(tables)
    }

    /// Begins a transaction. It holds nothing and locks nothing until it is committed; to drop it
    /// aborts it.
    ///
    /// # Errors
    ///
    /// If the tables are not open, or the controller only reads.
    pub fn begin(&self) -> Result<TableTransaction<I, T>, TableTrouble> {
        Ok(TableTransaction {
            inner: Arc::clone(&self.inner),
            transaction: self.writable()?.begin(),
            written: BTreeMap::new(),
        })
    }

    /// Commits several transactions, each at its own time, and closes all times up to and at
    /// `through`, or up to and at the latest of theirs: in one write, so that all of them are
    /// committed or none. Says how far all tables are written then.
    ///
    /// # Errors
    ///
    /// As of [`TableTransaction::commit_at`].
    ///
    /// # Durability
    ///
    /// As of [`TableTransaction::commit_at`].
    pub async fn commit_all(
        &self,
        through: &T,
        transactions: &mut [(T, TableTransaction<I, T>)],
    ) -> Result<Upper<T>, CommitTablesError<I, T>> {
        let tables = self.writable()?;
        let (mut all, mut written) = (Vec::with_capacity(transactions.len()), BTreeMap::new());
        for (at, one) in transactions {
            written.extend(one.written.iter().map(|(shard, id)| (*shard, *id)));
            all.push((&*at, &mut one.transaction));
        }
        let committed = tables.commit_each(through, all).await;
        committed.map_err(|error| uncommitted(error, &written))
    }

    /// Closes a time for all tables, with one write and without a wake-up for each; says how far
    /// they are written then.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not.
    pub async fn advance(&self, at: &T) -> Result<Upper<T>, AdvanceError<T>> {
        let advanced = self.writable()?.advance(at).await;
        advanced.map_err(|error| match trouble(error) {
            Ok(passed) => passed.into(),
            Err(error) => TableTrouble::from(error).into(),
        })
    }

    /// Gives tables up, all of them or none, and closes a time for all tables: what was committed
    /// until then is in those that are given up, and nothing is committed to them after it. Their
    /// holds and dependents keep them, as with [`drop_collections`](Collections::drop_collections).
    ///
    /// A table whose shard another collection has, one of another version of its schema, is only
    /// dropped.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not; if one does not exist, or is no table.
    ///
    /// # Durability
    ///
    /// When this returns, they are no tables any more. If a crash comes between, whoever is in
    /// charge next does with them what the catalogue says.
    ///
    /// # Panics
    ///
    /// If the runtime ends meanwhile.
    pub async fn drop_tables(&self, at: &T, ids: Vec<I>) -> Result<(), DropTablesError<I, T>> {
        let (collections, at) = (self.clone(), at.clone());
        self.carry_on(async move { collections.forget_and_drop(&at, ids).await })
            .await
    }

    async fn forget_and_drop(&self, at: &T, ids: Vec<I>) -> Result<(), DropTablesError<I, T>> {
        let tables = self.writable()?;
        let left = {
            let ledger = self.inner.ledger.lock();
            for &id in &ids {
                let live = ledger.live(id).ok_or(DropError::UnknownCollection(id))?;
                let found = live.description.kind.name();
                if found != KindName::Table {
                    let collection = id;
                    return Err(DropTablesError::NotATable { collection, found });
                }
            }
            ledger.left_by(&ids)
        };
        let forgotten = tables.forget(at, &left).await;
        forgotten.map_err(|error| match trouble(error) {
            Ok(ForgetRefusal::Passed(passed)) => passed.into(),
            Ok(unapplied @ ForgetRefusal::Unapplied(_)) => {
                let busy = StorageError::new(StorageErrorKind::Retry, unapplied);
                DropTablesError::from(TableTrouble::from(busy))
            }
            Err(error) => TableTrouble::from(error).into(),
        })?;
        Ok(self.inner.drop_collections(ids).await?)
    }

    /// Follows a collection from a time on: what is in it then, and what happens to it after that.
    /// The caller keeps it readable from the last time that was given out completely.
    ///
    /// # Errors
    ///
    /// If the tables are not open; if there is no such collection; if the controller has stopped.
    pub fn subscribe(&self, id: I, as_of: T) -> Result<Subscription<T>, SubscribeError<I>> {
        let tables = self.tables().ok_or(SubscribeError::NotOpen)?;
        let stopped = self.inner.client.stopped();
        stopped.map_or(Ok(()), |reason| Err(SubscribeError::Stopped(reason)))?;
        let ledger = self.inner.ledger.lock();
        let live = ledger.live(id);
        let live = live.ok_or(SubscribeError::UnknownCollection(id))?;
        Ok(tables.subscribe(live.shard, as_of))
    }
}

/// Tells those who wait in tables when the engine was stopped by another controller: they may wait
/// for what nobody here will write, and the one in charge may write nothing.
async fn tell_overtaken<I: CollectionId, T: TableTime>(
    mut events: Events<I, T>,
    tables: Weak<LateTables<T>>,
) {
    let reason = loop {
        if let Err(reason) = events.next().await {
            break reason;
        }
    };
    let StopReason::Fenced { by } = reason else {
        return;
    };
    let late = tables.upgrade();
    if let Some(tables) = late.as_deref().and_then(LateTables::tables) {
        tables.overtaken(by);
    }
}

/// Why a collection cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError<I> {
    /// [Open](Collections::open_tables) the tables first.
    #[error("the tables are not open")]
    NotOpen,
    /// There is no such collection, or it was dropped.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// The controller has stopped, or another one has taken over.
    #[error(transparent)]
    Stopped(StopReason),
}

impl<I: CollectionId, T: ShardTime> Inner<I, T> {
    fn runs(&self) -> Result<(), TableTrouble> {
        let stopped = self.client.stopped();
        stopped.map_or(Ok(()), |reason| Err(TableTrouble::Stopped(reason)))
    }

    /// What the controller may do with tables that is in charge.
    pub(super) fn access(&self, fence: crate::consensus::Fence) -> Access {
        Access::Control {
            reader: self.reader,
            fence,
            apply: Apply::InBackground {
                every: self.apply_interval,
            },
        }
    }
}

/// What is to be written to several tables at one time, or not at all. To drop it aborts it: until
/// it is committed, nothing of it is anywhere but here.
pub struct TableTransaction<I: CollectionId, T: TableTime> {
    inner: Arc<Inner<I, T>>,
    transaction: Transaction<T>,
    /// Which table was written by which name, so that it can be told.
    written: BTreeMap<ShardId, I>,
}

impl<I: CollectionId, T: TableTime> TableTransaction<I, T> {
    /// Adds rows of a table's schema, each as often as its difference says. Reads nothing, and writes
    /// nothing yet.
    ///
    /// # Errors
    ///
    /// If the table does not exist, or the rows are not of its schema, or are too many.
    pub fn write(
        &mut self,
        id: I,
        rows: RecordBatch,
        diffs: Vec<i64>,
    ) -> Result<(), WriteTableError<I>> {
        let (description, shard) = {
            let ledger = self.inner.ledger.lock();
            let live = ledger.live(id).filter(|live| !live.dropping);
            let live = live.ok_or(WriteTableError::UnknownCollection(id))?;
            (Arc::clone(&live.description), live.shard)
        };
        let found = description.kind.name();
        if found != KindName::Table {
            let collection = id;
            return Err(WriteTableError::NotATable { collection, found });
        }
        self.transaction
            .write(shard, &description.schema, rows, diffs)?;
        self.written.insert(shard, id);
        Ok(())
    }

    /// Commits everything at one time, which closes it for all tables; says how far they are written
    /// then. What was refused can be committed again, at another time. What was committed has to be
    /// dropped.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not; if what it has written to is no table
    /// any more.
    ///
    /// # Durability
    ///
    /// When this returns, the transaction has survived a crash, and everybody who reads any of its
    /// tables at the time sees all of it. If storage failed, it may have been committed: then the
    /// time has passed.
    pub async fn commit_at(&mut self, at: &T) -> Result<Upper<T>, CommitTablesError<I, T>> {
        self.inner.runs()?;
        let committed = self.transaction.commit_at(at).await;
        committed.map_err(|error| uncommitted(error, &self.written))
    }
}

fn uncommitted<I: CollectionId, T: TableTime>(
    error: CommitError<T>,
    written: &BTreeMap<ShardId, I>,
) -> CommitTablesError<I, T> {
    match trouble(error) {
        Ok(CommitRefusal::Passed(passed)) => passed.into(),
        Ok(CommitRefusal::Unregistered(shards)) => {
            let ids = shards.iter().filter_map(|shard| written.get(shard));
            CommitTablesError::Unregistered(ids.copied().collect())
        }
        Ok(CommitRefusal::UnknownSchema(shard)) => match written.get(&shard) {
            Some(id) => CommitTablesError::UnknownSchema(*id),
            None => CommitTablesError::Unregistered(BTreeSet::new()),
        },
        Err(error) => TableTrouble::from(error).into(),
    }
}

impl<I: CollectionId, T: TableTime> std::fmt::Debug for TableTransaction<I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableTransaction")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
