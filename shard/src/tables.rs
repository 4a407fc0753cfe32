//! Tables that commit together.
//!
//! One shard, the *txns shard*, carries what happens to all tables: that they were registered or
//! forgotten, and what transactions have written to them. One compare-and-append there commits a
//! transaction to any number of tables, and advances how far all of them are written: the *logical
//! upper* of every registered table is the upper of the txns shard. What was committed reaches the
//! tables' own shards later, or never: to *apply* a commit again does no harm, and who reads a
//! table adds what was not applied.
//!
//! Times are totally ordered ([`TableTime`]): a commit at a time closes it for all tables at once.
//!
//! What a transaction has written is in the rows of the txns shard, small or large. So it is durable
//! with the commit, nobody has to be kept from sweeping it, and whoever reads tables without writing
//! anything finds it there. The txns shard stores many or large rows as a part of its own, as every
//! shard does. The price: what is large is written once more when it is applied, and its row once
//! more when it is taken away.
//!
//! - [`Tables`], [`Transaction`], [`Subscription`]: what callers have in their hands.
//! - [`TxnsState`]: what the rows of the txns shard say, and every rule, as pure functions.
//! - [`TxnsRow`]: the rows.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use arrow::array::{ArrayRef, Int64Array};
//! use arrow::record_batch::RecordBatch;
//! use lowwater::{ShardId, Upper};
//! use lowwater_shard::consensus::{Consensus, Fence, MemoryConsensus};
//! use lowwater_shard::tables::{Access, Apply, Tables};
//! use lowwater_shard::{Column, ColumnKind, Epoch, Incarnation, Parts, ReaderId, Schema};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let store: Arc<dyn Consensus> = Arc::new(MemoryConsensus::new());
//! let fence = Fence { epoch: Epoch::new(1), incarnation: Incarnation::random() };
//! store.take_over(fence).await??;
//! let apply = Apply::InBackground { every: Duration::from_secs(1) };
//! let access = Access::Control { reader: ReaderId::new(1), fence, apply };
//! let runtime = tokio::runtime::Handle::current();
//! let txns = ShardId::new(100);
//! let tables = Tables::<u64>::open(&runtime, store, Parts::memory(), txns, access).await?;
//!
//! let amount = Column { name: "amount".into(), kind: ColumnKind::Int64, nullable: false };
//! let schema = Schema::new(vec![amount])?;
//! let (debit, credit) = (ShardId::new(1), ShardId::new(2));
//! let both = [(debit, schema.clone()), (credit, schema.clone())];
//! tables.register(&1, &both).await?;
//!
//! let amounts: ArrayRef = Arc::new(Int64Array::from(vec![30]));
//! let rows = RecordBatch::try_new(schema.arrow(), vec![amounts])?;
//! let mut transfer = tables.begin();
//! transfer.write(debit, &schema, rows.clone(), vec![-1])?;
//! transfer.write(credit, &schema, rows, vec![1])?;
//! assert_eq!(transfer.commit_at(&7).await?, Upper::at(8));
//!
//! assert_eq!(tables.snapshot(credit, &7).await?.len(), 1);
//! assert_eq!(tables.snapshot(debit, &6).await?.len(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod time;
mod row;
mod state;
#[cfg(test)]
mod model;
mod encoding;
mod store;
mod schemas;
mod cache;
mod error;
mod handle;
mod registration;
mod transaction;
mod apply;
mod read;
mod subscription;
mod contents;
mod used;
mod shards;
mod open;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use error::{
    AlterError, ApplyError, CommitError, ForgetError, ReadError, ReadRefusal, RegisterError,
    RegisterFault, RegisterFaults, TablesError, WriteError,
};
pub use handle::Tables;
pub use open::{Access, Apply};
pub(crate) use read::Unapplied;
pub use row::{Misplaced, TxnsRow};
pub use state::{
    Application, CommitRefusal, Foreign, ForgetRefusal, Passed, RegisterRefusal, Step, TxnsState,
};
pub use subscription::{Progress, Subscription};
pub use time::TableTime;
pub use transaction::Transaction;
