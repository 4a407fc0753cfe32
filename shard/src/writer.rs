//! Writing to a shard.

use std::sync::Arc;

use lowwater::{ShardId, StorageError, Upper};
use timely::progress::Antichain;

use crate::append::{Append, AppendError};
use crate::hub::Shard;
use crate::record::{DataRecord, SchemaRefusal, Trim, UpperMismatch};
use crate::schema::Schema;
use crate::shards::{Shards, WaitError, wait_past};
use crate::time::ShardTime;
use crate::updates::Updates;

/// Writes to a shard, and knows how far it is written.
///
/// Any number of writers may write to a shard, in any number of processes: an append goes through
/// only where the shard ends, and all others are told where that is.
#[derive(Clone, Debug)]
pub struct Writer<T: ShardTime> {
    pub(crate) shards: Shards<T>,
    pub(crate) shard: Arc<Shard<T>>,
    schema: Schema,
}

/// Why there is no writer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriterError {
    /// The rows do not fit those that the shard has.
    #[error(transparent)]
    Schema(#[from] SchemaRefusal),
    /// The shard cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<T: ShardTime> Shards<T> {
    /// A writer of rows of this schema.
    ///
    /// Writes nothing: the schema is registered with the first append.
    ///
    /// # Errors
    ///
    /// If the schema is none that the shard has, nor evolves the latest of them; if the shard
    /// cannot be read.
    pub async fn writer(&self, id: ShardId, schema: &Schema) -> Result<Writer<T>, WriterError> {
        let shard = self.inner.hub.shard(id);
        self.inner.hub.refresh_one::<DataRecord<T>>(&shard).await?;
        let data = shard.data.lock().await;
        let _fits = data.record().register_schema(schema)?;
        drop(data);
        Ok(Writer {
            shards: self.clone(),
            shard,
            schema: schema.clone(),
        })
    }
}

impl<T: ShardTime> Writer<T> {
    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard.id
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How far the shard is written, as far as this process knows. Does not wait.
    pub fn upper(&self) -> Upper<T> {
        self.shard.upper()
    }

    /// How far the shard is written, read from the store.
    ///
    /// # Errors
    ///
    /// If the store fails, or what it has cannot be read.
    pub async fn fetch_upper(&self) -> Result<Upper<T>, StorageError> {
        let hub = &self.shards.inner.hub;
        hub.refresh_one::<DataRecord<T>>(&self.shard).await?;
        Ok(self.shard.upper())
    }

    /// Waits until the shard is written past `frontier`, by whomever: until no element of its upper
    /// is `≤` one of `frontier`. To drop the future does no harm.
    ///
    /// # Errors
    ///
    /// At once if the frontier is empty; if what is written cannot be read; if the runtime of the
    /// shards ends.
    pub async fn wait_for_upper_past(
        &self,
        frontier: &Antichain<T>,
    ) -> Result<Upper<T>, WaitError> {
        wait_past(&self.shard, frontier).await
    }

    /// Writes updates at times beyond `lower` and not beyond `upper`, if the shard is written up to
    /// `lower` exactly; says how far it is written then. See [`Shards::append_all`].
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    ///
    /// # Panics
    ///
    /// Never.
    ///
    /// # Durability
    ///
    /// The updates have survived a crash when this returns.
    pub async fn compare_and_append(
        &self,
        lower: Upper<T>,
        upper: Upper<T>,
        updates: Updates<T>,
    ) -> Result<Upper<T>, AppendError<T>> {
        let append = Append {
            writer: self,
            lower,
            upper,
            updates,
        };
        let outcomes = self.shards.append_all(vec![append]).await;
        outcomes
            .into_iter()
            .next()
            .expect("one append has one outcome")
    }

    /// Writes what is not yet written of updates at times beyond `lower` and not beyond `upper`:
    /// for a writer that repeats itself, or several that write the same. Says how far the shard is
    /// written then.
    ///
    /// # Errors
    ///
    /// [`AppendError::UpperMismatch`] only if the shard is not written up to `lower` yet.
    ///
    /// # Durability
    ///
    /// The updates have survived a crash when this returns.
    pub async fn append(
        &self,
        lower: Upper<T>,
        upper: Upper<T>,
        updates: Updates<T>,
    ) -> Result<Upper<T>, AppendError<T>> {
        let mut is_fresh = false;
        loop {
            let data = self.shard.data.lock().await;
            let trimmed = data.record().trim(&lower, &upper);
            drop(data);
            let (from, to) = match trimmed {
                // What this process knows to be written, is.
                Ok(Trim::Nothing) => return Ok(self.upper()),
                Ok(Trim::Rest { lower, upper }) => (lower, upper),
                Err(UpperMismatch { .. }) if !is_fresh => {
                    self.fetch_upper().await?;
                    is_fresh = true;
                    continue;
                }
                Err(mismatch) => return Err(mismatch.into()),
            };
            let rest = if from == lower {
                updates.clone()
            } else {
                updates.filter(|time| from.frontier().less_equal(time))
            };
            match self.compare_and_append(from, to, rest).await {
                // Somebody else was faster: what he has written is trimmed too. The upper only
                // advances, so this comes to an end when it has reached ours.
                Err(AppendError::UpperMismatch(_)) => is_fresh = true,
                done => return done,
            }
        }
    }
}
