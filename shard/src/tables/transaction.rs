//! What is written to several tables at one time, or not at all.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lowwater::{ShardId, Upper};

use crate::id::SchemaId;
use crate::schema::Schema;
use crate::updates::UpdatesError;

use super::encoding::encode_payload;
use super::error::{CommitError, WriteError};
use super::handle::Tables;
use super::state::TxnsState;
use super::time::TableTime;

/// How much one transaction may write.
const TRANSACTION_BYTES_MAX: usize = 512 << 20;

/// What is to be written to several tables at one time, or not at all. To drop it aborts it: until
/// it is committed, nothing of it is anywhere but here.
#[derive(Clone, Debug)]
pub struct Transaction<T: TableTime> {
    tables: Tables<T>,
    writes: BTreeMap<ShardId, Vec<Bytes>>,
    bytes: usize,
}

impl<T: TableTime> Transaction<T> {
    pub(super) fn new(tables: Tables<T>) -> Self {
        Transaction {
            tables,
            writes: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Adds rows, each as often as its difference says; nothing is written yet.
    ///
    /// The rows are of one of the versions of the table's schema.
    ///
    /// # Errors
    ///
    /// If they are not, or are too many.
    pub async fn write(
        &mut self,
        table: ShardId,
        schema: &Schema,
        rows: RecordBatch,
        diffs: Vec<i64>,
    ) -> Result<(), WriteError> {
        let id = self.schema_id(table, schema).await?;
        let payload = encode_payload::<T>(rows, diffs, schema, id)?;
        if self.bytes + payload.len() > TRANSACTION_BYTES_MAX {
            return Err(UpdatesError::TooLarge("512 MiB in one transaction").into());
        }
        self.bytes += payload.len();
        self.writes.entry(table).or_default().push(payload);
        Ok(())
    }

    /// The number of a schema that the table has: whoever applies the write must know it, so it has
    /// to be durable before.
    async fn schema_id(&self, table: ShardId, schema: &Schema) -> Result<SchemaId, WriteError> {
        let inner = &self.tables.inner;
        // Versions only come, so what was there once is there.
        if let Some(id) = number_of(schema, inner.schemas.lock().get(&table)) {
            return Ok(id);
        }
        let mut heads = inner.store.heads(vec![table]).await?;
        let schemas = match heads.remove(&table) {
            Some(head) => head?.schemas,
            None => Vec::new(),
        };
        let id = number_of(schema, Some(&schemas));
        if id.is_some() {
            inner.schemas.lock().insert(table, schemas);
        }
        id.ok_or(WriteError::UnknownSchema(table))
    }

    /// Commits everything at one time, which closes it for all tables; says how far they are written
    /// then. What was refused can be committed again, at another time.
    ///
    /// # Errors
    ///
    /// If the time has passed, with the first that has not; if what it has written to is no table.
    ///
    /// # Durability
    ///
    /// When this returns, the transaction has survived a crash, and everybody who reads any of its
    /// tables at the time sees all of it. If storage failed, it may have been committed: then the
    /// time has passed.
    pub async fn commit_at(&self, at: &T) -> Result<Upper<T>, CommitError<T>> {
        let inner = &self.tables.inner;
        inner.step(|state| state.commit(at, &self.writes)).await
    }
}

fn number_of(schema: &Schema, versions: Option<&Vec<Schema>>) -> Option<SchemaId> {
    let at = versions?.iter().position(|known| known == schema)?;
    Some(SchemaId::new(u32::try_from(at).ok()?))
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
        transactions: &[(T, Transaction<T>)],
    ) -> Result<Upper<T>, CommitError<T>> {
        let committed = |state: &TxnsState<T>| {
            let writes = transactions.iter();
            state.commit_all(through, writes.map(|(at, one)| (at, &one.writes)))
        };
        self.inner.step(committed).await
    }
}
