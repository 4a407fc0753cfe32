//! Parts: the updates of a shard that are too many for its record, each in a Parquet file.
//!
//! # What is stored, for whoever reads it with another tool
//!
//! A part is an object `<shard>/<begun>-<part>.parquet` below the folder or prefix: the shard as 32
//! hexadecimal digits; the version of the shard's data that the writer had seen, as 16; the part's
//! own random number, as 32. It is written once and never changed.
//!
//! Its columns are those of the shard's schema, in order and by name, then the time, then the
//! difference:
//!
//! | column | Parquet type |
//! |---|---|
//! | of kind `Bool` | `BOOLEAN` |
//! | `Int32`, `Int64` | `INT32`, `INT64` |
//! | `UInt64` | `INT64`, annotated as unsigned |
//! | `Float64` | `DOUBLE` |
//! | `Text` | `BYTE_ARRAY`, annotated as string |
//! | `Bytes` | `BYTE_ARRAY` |
//! | `TimestampMicros` | `INT64`, annotated as timestamp in microseconds, adjusted to UTC |
//! | `__time`, or `__time_0`, `__time_1`, … where a time has several coordinates | as `UInt64` |
//! | `__diff` | as `Int64` |
//!
//! Columns that are not nullable are `REQUIRED`. Pages are compressed with Snappy; columns whose values
//! repeat have dictionaries; chunks of columns have statistics. The metadata of the file say
//! `lowwater.format` (1), `lowwater.shard` and `lowwater.part` (as in its name, without `.parquet`);
//! and, if the rows are as [`Updates::consolidate`] leaves them, `lowwater.order` (`consolidated`).
//! Rows whose differences are added up over
//! all parts that the shard's record refers to, for times up to some time, are the contents as of
//! that time. Files that the record does not refer to (left behind by a writer that died, replaced
//! by a compaction and still held by a reader) must not be counted; the record says which.
//!
//! ```sql
//! -- DuckDB, where a folder holds only what counts:
//! SELECT carrier, sum(__diff) FROM 'parts/0…7/*.parquet' WHERE __time <= 1440 GROUP BY carrier;
//! ```
//!
//! # What nobody refers to
//!
//! A part is stored before the record refers to it; in between nobody can tell it from one that was
//! left behind. So its name says when it was begun, and the record has a floor:
//! [`DataRecord::raise_floor`](crate::record::DataRecord::raise_floor) explains how what is below is
//! known to be nobody's.

mod fault;
mod dictionary;
mod file;
mod folder;
mod place;
mod s3;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_lite::StreamExt;
use lowwater::ShardId;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::id::{PartId, PartName, SchemaId, SeqNo};
use crate::record::Stored;
use crate::schema::Schema;
use crate::time::ShardTime;
use crate::updates::{Updates, UpdatesError};

pub use fault::{PartError, PartFault, PartTrouble};
pub use place::PlaceError;
pub use stats::{ColumnStats, PartStats, Value};

use file::PartFile;
use folder::Folder;
use place::Secrets;

/// Where parts are: an object store, and a prefix in it. Clones are of the same.
///
/// Shown as the place that it was made of; keys and passwords are never shown.
#[derive(Clone)]
pub struct Parts {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// If the store is a folder of this machine.
    folder: Option<Arc<Folder>>,
    place: Arc<str>,
    secrets: Secrets,
    /// How many bytes were written, through this and all its clones.
    written: Arc<Mutex<u64>>,
}

/// A part that is stored, whether anything refers to it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedPart {
    /// What it is called.
    pub name: PartName,
    /// How large it is.
    pub bytes: u64,
}

impl Parts {
    /// Writes updates of this schema as a new part. `begun` is the latest version of the shard's
    /// data that the caller had seen before this call.
    ///
    /// # Durability
    ///
    /// When this returns, the part has survived a crash, and it stays until it is deleted. Where it
    /// fails, or is dropped on the way, a part that nothing refers to may be left behind.
    ///
    /// # Errors
    ///
    /// If the updates are not of this schema; trouble with the store.
    pub async fn write<T: ShardTime>(
        &self,
        shard: ShardId,
        begun: SeqNo,
        schema_id: SchemaId,
        schema: &Schema,
        updates: &Updates<T>,
    ) -> Result<Stored, PartError> {
        let updates = Arc::new(updates.clone());
        self.write_shared(shard, begun, schema_id, schema, updates)
            .await
    }

    /// The same, of updates that need not be copied for it.
    pub(crate) async fn write_shared<T: ShardTime>(
        &self,
        shard: ShardId,
        begun: SeqNo,
        schema_id: SchemaId,
        schema: &Schema,
        updates: Arc<Updates<T>>,
    ) -> Result<Stored, PartError> {
        updates.check(schema)?;
        let name = PartName {
            begun,
            part: PartId::random(),
        };
        let file = PartFile { shard, name };
        let many = updates.len() as u64;
        let encode = move || {
            let bytes = file.encode(&updates)?;
            let checksum = crc32fast::hash(&bytes);
            Ok::<_, UpdatesError>((bytes, checksum))
        };
        let (bytes, checksum) = self.away(encode).await??;
        let stored = Stored {
            part: name.part,
            begun,
            schema: schema_id,
            updates: many,
            bytes: bytes.len() as u64,
            checksum: Some(checksum),
        };
        self.put(shard, name, bytes).await?;
        Ok(stored)
    }

    async fn put(&self, shard: ShardId, name: PartName, bytes: Bytes) -> Result<(), PartError> {
        if !self.has_room_for(shard) {
            self.in_folder(move |folder| folder.make_room_for(shard))
                .await?;
        }
        let options = PutOptions::from(PutMode::Create);
        let path = self.path(shard, name);
        let put = self.store.put_opts(&path, bytes.clone().into(), options);
        match put.await {
            Ok(_) => {
                *self.written.lock() += bytes.len() as u64;
                Ok(())
            }
            // Nobody else has drawn this name: an attempt of ours, whose answer was lost.
            Err(object_store::Error::AlreadyExists { .. }) => {
                let there = self.get(shard, name).await?;
                let ours = there == bytes;
                ours.then_some(()).ok_or(PartError::Unreadable {
                    part: name,
                    fault: PartFault::Foreign,
                })
            }
            Err(error) => Err(self.error(name, &error)),
        }
    }

    /// Whether the store needs no folder for the shard, or has it.
    fn has_room_for(&self, shard: ShardId) -> bool {
        let folder = self.folder.as_ref();
        folder.is_none_or(|folder| folder.has_room_for(shard))
    }

    /// Where they are: `memory`, a folder, `s3://bucket/prefix`; without keys and passwords.
    pub fn place(&self) -> Arc<str> {
        Arc::clone(&self.place)
    }

    /// How many bytes of parts this process has written, through this and all its clones.
    pub fn bytes_written(&self) -> u64 {
        *self.written.lock()
    }

    /// Reads a part. `schema` is the one that it was written with: see [`Updates::concat`] for how to
    /// go on to a later one.
    ///
    /// # Errors
    ///
    /// [`PartError::Missing`] if there is no such part; [`PartError::Unreadable`] if it is damaged,
    /// or not the one that the record says; trouble with the store.
    pub async fn read<T: ShardTime>(
        &self,
        shard: ShardId,
        stored: &Stored,
        schema: &Schema,
    ) -> Result<Updates<T>, PartError> {
        let name = stored.name();
        let bytes = self.get(shard, name).await?;
        let (stored, schema) = (stored.clone(), schema.clone());
        let file = PartFile { shard, name };
        let read = self.away(move || file.decode(bytes, &stored, &schema));
        read.await?
            .map_err(|fault| PartError::Unreadable { part: name, fault })
    }

    /// What the part's metadata say about its rows; the rows themselves are not read, so that damage
    /// to the metadata may go unnoticed here.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub async fn stats<T: ShardTime>(
        &self,
        shard: ShardId,
        stored: &Stored,
        schema: &Schema,
    ) -> Result<PartStats, PartError> {
        let name = stored.name();
        let footer = self.footer(shard, stored).await?;
        let (stored, schema) = (stored.clone(), schema.clone());
        let file = PartFile { shard, name };
        let read = self.away(move || stats::read::<T>(file, &footer, &stored, &schema));
        read.await?
            .map_err(|fault| PartError::Unreadable { part: name, fault })
    }

    /// Deletes parts of a shard. Those that are not there are deleted already.
    ///
    /// # Errors
    ///
    /// Trouble with the store; some may be deleted then.
    pub async fn delete(&self, shard: ShardId, parts: &[PartName]) -> Result<(), PartError> {
        let paths: Vec<_> = parts
            .iter()
            .map(|name| Ok(self.path(shard, *name)))
            .collect();
        let mut deleted = self
            .store
            .delete_stream(futures_lite::stream::iter(paths).boxed());
        let mut trouble = None;
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => trouble = Some(error),
            }
        }
        if let Some(error) = trouble {
            return Err(self.trouble(&error));
        }
        let parts = parts.to_vec();
        self.in_folder(move |folder| folder.delete_unfinished(shard, &parts))
            .await
    }

    /// All parts of a shard that are stored, in the order of their names. What was begun and not
    /// finished counts, if it takes up space.
    ///
    /// # Errors
    ///
    /// Trouble with the store.
    pub async fn list(&self, shard: ShardId) -> Result<Vec<ListedPart>, PartError> {
        let prefix = self.shard_path(shard);
        let mut objects = self.store.list(Some(&prefix));
        let mut parts = Vec::new();
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| self.trouble(&error))?;
            parts.extend(listed(&object.location, object.size));
        }
        parts.extend(
            self.in_folder(move |folder| folder.unfinished(shard))
                .await?,
        );
        parts.sort_unstable();
        parts.dedup_by_key(|part| part.name);
        Ok(parts)
    }

    /// Deletes everything that a shard has stored, for good: only for one that is
    /// [buried](crate::record::DataRecord::is_buried), or was never there.
    ///
    /// # Errors
    ///
    /// Trouble with the store.
    pub async fn clear(&self, shard: ShardId) -> Result<(), PartError> {
        let all = self.list(shard).await?;
        let names: Vec<PartName> = all.into_iter().map(|part| part.name).collect();
        self.delete(shard, &names).await?;
        self.in_folder(move |folder| folder.remove(shard)).await
    }

    async fn get(&self, shard: ShardId, name: PartName) -> Result<Bytes, PartError> {
        let path = self.path(shard, name);
        let read = async { self.store.get(&path).await?.bytes().await };
        read.await.map_err(|error| self.error(name, &error))
    }

    /// What is to be done in the folder, if the store is one.
    async fn in_folder<R: Default + Send + 'static>(
        &self,
        what: impl FnOnce(&Folder) -> io::Result<R> + Send + 'static,
    ) -> Result<R, PartError> {
        let Some(folder) = self.folder.clone() else {
            return Ok(R::default());
        };
        let done = self.away(move || what(&folder)).await?;
        done.map_err(|error| {
            self.trouble(&object_store::Error::Generic {
                store: "folder",
                source: error.into(),
            })
        })
    }

    /// Computes where it is in nobody's way: a hundred thousand rows take milliseconds.
    async fn away<R: Send + 'static>(
        &self,
        compute: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, PartError> {
        let done = spawn_blocking(compute).await;
        done.map_err(|error| self.trouble(&error.into()))
    }

    fn error(&self, name: PartName, error: &object_store::Error) -> PartError {
        if let object_store::Error::NotFound { .. } = error {
            PartError::Missing(name)
        } else {
            self.trouble(error)
        }
    }

    fn trouble(&self, error: &object_store::Error) -> PartError {
        PartError::Store(PartTrouble::new(error, &self.secrets))
    }

    fn shard_path(&self, shard: ShardId) -> Path {
        self.prefix.clone().join(format!("{:032x}", shard.number()))
    }

    fn path(&self, shard: ShardId, name: PartName) -> Path {
        self.shard_path(shard).join(format!("{name}.parquet"))
    }
}

fn listed(path: &Path, bytes: u64) -> Option<ListedPart> {
    let name = path.filename()?.strip_suffix(".parquet")?;
    let name = PartName::parse(name)?;
    Some(ListedPart { name, bytes })
}

/// Written as the place: `memory`, a folder, `s3://bucket/prefix`.
impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parts").field(&self.place).finish()
    }
}
