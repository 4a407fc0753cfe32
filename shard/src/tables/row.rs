//! What a row of the txns shard says.

use bytes::Bytes;
use lowwater::ShardId;

/// How much of payloads one append may carry: what a column of bytes can hold, with room to spare.
pub(super) const PAYLOADS_BYTES_MAX: usize = 1 << 30;

/// What a row of the txns shard says, for as long as it is there.
///
/// It carries its time itself: the time of an update is advanced when the shard is compacted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TxnsRow<T> {
    /// The shard is a table since this time. Taken away when it is forgotten.
    Registered {
        /// The table's shard.
        table: ShardId,
        /// Since when.
        at: T,
    },
    /// The shard is no table after this time. Taken away when its own shard is written past it, and
    /// at the latest when it is forgotten once more: a table has one such row at most.
    Forgotten {
        /// The shard.
        table: ShardId,
        /// Until when it was one.
        at: T,
    },
    /// A transaction has written to a table. Taken away when that is applied.
    Written {
        /// The table's shard.
        table: ShardId,
        /// When it was committed.
        at: T,
        /// Tells apart what one transaction writes to one table.
        number: u64,
        /// What it has written; the model does not look into it.
        payload: Bytes,
    },
}

/// A row that does not fit those before: the txns shard is damaged, or somebody else writes to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the txns shard does not hold together at table {table}: {what}")]
pub struct Misplaced {
    /// Which table the row is about.
    pub table: ShardId,
    /// What is wrong.
    pub what: &'static str,
}

impl<T> TxnsRow<T> {
    /// Which table it is about.
    pub fn table(&self) -> ShardId {
        match self {
            TxnsRow::Registered { table, .. }
            | TxnsRow::Forgotten { table, .. }
            | TxnsRow::Written { table, .. } => *table,
        }
    }

    /// When it was written.
    pub fn at(&self) -> &T {
        match self {
            TxnsRow::Registered { at, .. }
            | TxnsRow::Forgotten { at, .. }
            | TxnsRow::Written { at, .. } => at,
        }
    }

    /// About how much it takes.
    pub(super) fn bytes(&self) -> usize {
        let payload = match self {
            TxnsRow::Registered { .. } | TxnsRow::Forgotten { .. } => 0,
            TxnsRow::Written { payload, .. } => payload.len(),
        };
        payload + 32
    }
}
