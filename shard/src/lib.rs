//! Durable shards for Lowwater.
#![forbid(unsafe_code)]

mod time;
mod id;
mod schema;
pub mod record;
pub mod format;
pub mod consensus;
mod log;
mod transact;
mod storage;

pub use id::{
    BatchId, Epoch, Incarnation, LogId, LogKind, Nonce, PartId, ReaderId, SchemaId, SeqNo,
};
pub use log::{Log, LogError, LogFault, Proposal};
pub use schema::{Column, ColumnKind, Schema, SchemaError};
pub use storage::ShardStorage;
pub use time::ShardTime;
pub use transact::{CommandError, StoreTrouble, Task, Transactor};
