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
//! - [`metadata`]: which collection owns which shard, changed inside the embedder's transactions.
//! - [`tables`]: tables that commit together.
//! - [`ShardStorage`]: all of it behind an engine.
//! - [`collections`]: what a controller embeds: an engine, shards, metadata, and finalization.
//!
//! ```
//! use std::sync::Arc;
//!
//! use lowwater::{ShardId, Since};
//! use lowwater_shard::consensus::MemoryConsensus;
//! use lowwater_shard::record::{Downgraded, SinceRecord};
//! use lowwater_shard::{Epoch, Log, ReaderId, Transactor};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let (me, epoch) = (ReaderId::new(1), Epoch::new(1));
//! let transactor = Transactor::new(Arc::new(MemoryConsensus::new()), None);
//! let mut log = Log::<SinceRecord<u64>>::new(ShardId::new(7));
//! let opened = transactor
//!     .carry_out(&mut log, |shard| {
//!         Ok::<_, std::convert::Infallible>(shard.open_critical(me, epoch))
//!     })
//!     .await?;
//! assert_eq!(opened.since, Since::minimum());
//!
//! let moved = transactor
//!     .carry_out(&mut log, |shard| {
//!         shard.compare_and_downgrade(me, epoch, epoch, &Since::at(5))
//!     })
//!     .await?;
//! assert_eq!(moved, Downgraded::Moved);
//! assert_eq!(*log.record().since(), Since::at(5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
#![forbid(unsafe_code)]

mod folder;
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
