//! What is written to several tables at one time, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater::{ShardId, Upper};

use crate::id::SchemaId;
use crate::schema::Schema;
use crate::updates::UpdatesError;

use super::encoding::Unnumbered;
use super::error::{CommitError, TablesError, WriteError};
use super::handle::Tables;
use super::state::{CommitRefusal, TxnsState};
use super::time::TableTime;

/// How much one transaction may write.
const TRANSACTION_BYTES_MAX: usize = 512 << 20;

/// What is to be written to several tables at one time, or not at all. To drop it aborts it: until
/// it is committed, nothing of it is anywhere but here.
#[derive(Clone, Debug)]
pub struct Transaction<T: TableTime> {
    tables: Tables<T>,
    writes: BTreeMap<ShardId, Vec<Bytes>>,
    /// Of schemas that this process does not know the table to have.
    unnumbered: Vec<(ShardId, Schema, Unnumbered)>,
    bytes: usize,
}

impl<T: TableTime> Transaction<T> {
    pub(super) fn new(tables: Tables<T>) -> Self {
        Transaction {
            tables,
            writes: BTreeMap::new(),
            unnumbered: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds rows, each as often as its difference says; nothing is written or read yet.
    ///
    /// The rows are of one of the versions of the table's schema.
    ///
    /// # Errors
    ///
    /// If they are not of this one, or are too many.
    pub fn write(
        &mut self,
        table: ShardId,
        schema: &Schema,
        rows: RecordBatch,
        diffs: Vec<i64>,
    ) -> Result<(), WriteError> {
        let payload = Unnumbered::encode::<T>(rows, diffs, schema)?;
        if self.bytes + payload.len() > TRANSACTION_BYTES_MAX {
            return Err(UpdatesError::TooLarge("512 MiB in one transaction").into());
        }
        self.bytes += payload.len();
        match self.tables.inner.schemas.number(table, schema) {
            Some(id) => self.take(table, payload.number(id)),
            None => self.unnumbered.push((table, schema.clone(), payload)),
        }
        Ok(())
    }

    fn take(&mut self, table: ShardId, payload: Bytes) {
        self.writes.entry(table).or_default().push(payload);
    }

    /// Commits everything at one time, which closes it for all tables; says how far they are written
    /// then. What was refused can be committed again, at another time. What was committed has to be
    /// dropped.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not; if what it has written to is no table,
    /// or has no such schema.
    ///
    /// # Durability
    ///
    /// When this returns, the transaction has survived a crash, and everybody who reads any of its
    /// tables at the time sees all of it. If storage failed, it may have been committed: then the
    /// time has passed.
    pub async fn commit_at(&mut self, at: &T) -> Result<Upper<T>, CommitError<T>> {
        self.number().await?;
        let inner = &self.tables.inner;
        inner.step(|state| state.commit(at, &self.writes)).await
    }

    /// Finds out the numbers of the schemas: whoever applies a write must know the schema, so it
    /// has to be durable before.
    async fn number(&mut self) -> Result<(), CommitError<T>> {
        if self.unnumbered.is_empty() {
            return Ok(());
        }
        let inner = &self.tables.inner;
        let tables = self.unnumbered.iter().map(|(table, ..)| *table);
        let tables: BTreeSet<ShardId> = tables.collect();
        for (table, head) in inner.store.heads(tables.into_iter().collect()).await? {
            inner.schemas.note(table, &head?.schemas);
        }
        // All at once: what is known may be forgotten by another thread at any time.
        let number = |(table, schema, _): &(ShardId, Schema, Unnumbered)| {
            let number = inner.schemas.number(*table, schema);
            number.ok_or(TablesError::Refused(CommitRefusal::UnknownSchema(*table)))
        };
        let numbers: Result<Vec<SchemaId>, _> = self.unnumbered.iter().map(number).collect();
        let numbers = numbers?;
        for ((table, _, payload), number) in std::mem::take(&mut self.unnumbered)
            .into_iter()
            .zip(numbers)
        {
            self.take(table, payload.number(number));
        }
        Ok(())
    }
}

impl<T: TableTime> Tables<T> {
    /// Commits several transactions, each at its own time, and closes all times up to and at
    /// `through`, or up to and at the latest of theirs: in one write, so that all of them are
    /// committed or none. Says how far all tables are written then.
    ///
    /// # Errors
    ///
    /// If one of the times has passed, with the first that has not; if one has written to what is no
    /// table.
    ///
    /// # Durability
    ///
    /// As of [`Transaction::commit_at`].
    pub async fn commit_all(
        &self,
        through: &T,
        transactions: &mut [(T, Transaction<T>)],
    ) -> Result<Upper<T>, CommitError<T>> {
        let transactions = transactions.iter_mut().map(|(at, one)| (&*at, one));
        self.commit_each(through, transactions.collect()).await
    }

    pub(crate) async fn commit_each(
        &self,
        through: &T,
        mut transactions: Vec<(&T, &mut Transaction<T>)>,
    ) -> Result<Upper<T>, CommitError<T>> {
        for (_, transaction) in &mut transactions {
            transaction.number().await?;
        }
        let committed = |state: &TxnsState<T>| {
            let writes = transactions.iter();
            state.commit_all(through, writes.map(|(at, one)| (*at, &one.writes)))
        };
        self.inner.step(committed).await
    }
}
