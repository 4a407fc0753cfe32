//! Durable shards for Lowwater.
//!
//! A shard keeps who may read it from when on, and what is written to it, how far. Each of the two
//! is a *record* that a *log* of versions leads to; a log is durable in a *store* and grows by
//! compare-and-set, so that several processes may work on one shard.
//!
//! - [`record`]: the records and each command on them, as pure functions.
//! - [`mod@format`]: how versions are stored.
//! - [`consensus`]: the stores: memory, SQLite, PostgreSQL.
//! - [`Log`], [`Transactor`]: a log as a process sees it, and commands carried out on many logs in
//!   one transaction, exactly once whatever becomes of the answers.
//! - [`Shards`]: the door to all handles: [`Writer`], [`Reader`], [`Subscription`],
//!   [`CriticalSince`], snapshots, compaction, finalization.
//! - [`metadata`]: which collection owns which shard, changed inside the embedder's transactions.
//! - [`tables`]: tables that commit together.
//! - [`ShardStorage`]: all of it behind an engine.
//! - [`collections`]: what a controller embeds: an engine, shards, metadata, and finalization.
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow::array::{Int64Array, RecordBatch};
//! use lowwater::{ShardId, Since, Upper};
//! use lowwater_shard::consensus::MemoryConsensus;
//! use lowwater_shard::{
//!     Column, ColumnKind, Epoch, Parts, ReaderId, Schema, Settings, Shards, Updates,
//! };
//! use timely::progress::Antichain;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let runtime = tokio::runtime::Handle::current();
//! let store = Arc::new(MemoryConsensus::new());
//! let shards = Shards::<u64>::new(&runtime, store, Parts::memory(), Settings::default());
//! let shard = ShardId::new(7);
//!
//! // Somebody keeps it readable, from the beginning on.
//! let (me, epoch) = (ReaderId::new(1), Epoch::new(1));
//! let mut critical = shards.critical(shard, me, epoch).await?;
//!
//! // A delay of 10 at time 0, of 25 at time 1.
//! let schema = Schema::new(vec![Column {
//!     name: "delay".to_owned(),
//!     kind: ColumnKind::Int64,
//!     nullable: false,
//! }])?;
//! let delays = Arc::new(Int64Array::from(vec![10, 10, 25]));
//! let rows = RecordBatch::try_new(schema.arrow(), vec![delays])?;
//! let updates = Updates::new(rows, vec![0, 1, 1], vec![1, -1, 1])?;
//! let writer = shards.writer(shard, &schema).await?;
//! let upper = writer.compare_and_append(Upper::at(0), Upper::at(2), updates).await?;
//! assert_eq!(upper, Upper::at(2));
//!
//! let then = shards.snapshot(shard, &Antichain::from_elem(0)).await?;
//! let now = shards.snapshot(shard, &Antichain::from_elem(1)).await?;
//! assert_eq!((then.len(), now.len()), (1, 1));
//!
//! // What was before 1 is let go, and no longer takes up space.
//! critical.compare_and_downgrade(epoch, epoch, &Since::at(1)).await?;
//! shards.compact(shard).await?;
//! assert_eq!(shards.inspect(shard).await?.updates, 1);
//! assert!(shards.snapshot(shard, &Antichain::from_elem(0)).await.is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod folder;
mod clock;
mod time;
mod id;
mod schema;
mod updates;
mod certificates;
pub mod inline;
pub mod parts;
pub mod record;
pub mod format;
pub mod consensus;
mod log;
mod transact;
pub mod metadata;
mod hub;
mod storage;
mod standby;
pub mod collections;
pub mod tables;
mod shards;
mod append;
mod writer;
mod snapshot;
mod history;
mod lease;
mod reader;
mod compaction;
mod sweep;
mod upkeep;
mod critical;
mod subscription;
mod finalize;
mod inspection;

pub use append::{Append, AppendError};
pub use critical::{CriticalSince, DowngradeError};
pub use finalize::FinalizeError;
pub use id::{
    BatchId, Epoch, Incarnation, LogId, LogKind, Nonce, PartId, PartName, ReaderId, SchemaId, SeqNo,
};
pub use inspection::Inspection;
pub use log::{Log, LogError, LogFault, Proposal};
pub use parts::Parts;
pub use reader::{ReadError, Reader};
pub use schema::{Column, ColumnKind, Schema, SchemaError};
pub use shards::{Settings, Shards, Upkeep, WaitError};
pub use snapshot::{SnapshotError, SnapshotStats};
pub use storage::ShardStorage;
pub use subscription::{Step, Subscription};
pub use time::ShardTime;
pub use transact::{CommandError, StoreTrouble, Task, Transactor};
pub use updates::{Updates, UpdatesError};
pub use writer::{Writer, WriterError};
