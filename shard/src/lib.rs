//! Durable shards for Lowwater.
#![forbid(unsafe_code)]

mod time;
mod id;
mod schema;
pub mod record;
pub mod format;
pub mod consensus;

pub use id::{
    BatchId, Epoch, Incarnation, LogId, LogKind, Nonce, PartId, ReaderId, SchemaId, SeqNo,
};
pub use schema::{Column, ColumnKind, Schema, SchemaError};
pub use time::ShardTime;
