//! Records and their transitions, as pure functions: those of a shard, and the store's metadata.
//!
//! A shard has two records, each with a log of its own, because they move at different paces:
//!
//! - [`SinceRecord`]: who keeps the shard readable, from when on. Narrow; moves with every
//!   downgrade.
//! - [`DataRecord`]: how far the shard is written, and its batches. Carries inline data.
//!
//! No rule needs both at one instant, for what one of them relies on in the other never goes back:
//! a batch that was compacted to a since that was read earlier is compacted no further than the
//! since is now, and a since or an upper that is `[]` stays so.
//!
//! A store has one more, the [`MetadataRecord`]: which collection owns which shard.
//!
//! A command is a method that looks at a record and decides: a [`Decision`] is the changes that
//! carry it out and what the caller is told; a refusal is an error and so has no changes. Records
//! change in one way only, by [`Record::apply`], both when a command is carried out and when its
//! changes are read back from a log; so a log always leads to the record that its writer saw.

mod since;
mod critical;
mod leased;
mod data;
mod append;
mod compaction;
mod floor;
mod finalization;
mod metadata;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt::Debug;

use crate::id::{LogKind, SeqNo};

pub use append::{
    AppendError, Appended, BatchError, NewBatch, SchemaRefusal, Trim, UnknownSchema, UpperMismatch,
};
pub use compaction::{CompactError, Compacted};
pub use critical::{CriticalError, Downgraded, OpenedCritical};
pub use data::{Batch, Content, DataChange, DataRecord, Garbage, Inline, Stored};
pub(crate) use data::{DataParts, deletable};
pub use finalization::{Blocked, Buried, EmptyStep};
pub use floor::PartExpired;
pub use leased::{LeaseLost, ReaderExists};
pub use metadata::{
    MetadataChange, MetadataConflict, MetadataDraft, MetadataRecord, MetadataRefusal, StoredName,
};
pub use since::{Critical, Leased, SinceChange, SinceRecord};

/// What a log of versions leads to.
pub trait Record: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// What one transition may change.
    type Change: Clone + Debug + PartialEq + Send + Sync + 'static;

    /// Which of a shard's logs leads to it.
    const KIND: LogKind;

    /// The record of a log without versions.
    fn initial() -> Self;

    /// Carries out a change; the version that brings it is `seqno`.
    ///
    /// # Errors
    ///
    /// If the change does not fit the record: no command decides such a one, so it comes from a log
    /// that is damaged or foreign. The record must not be used any more.
    fn apply(&mut self, change: &Self::Change, seqno: SeqNo) -> Result<(), Misfit>;

    /// Carries out the changes of one version, in order.
    ///
    /// # Errors
    ///
    /// If one of them does not fit; see [`apply`](Record::apply).
    fn apply_all(&mut self, changes: &[Self::Change], seqno: SeqNo) -> Result<(), Misfit> {
        let mut changes = changes.iter();
        changes.try_for_each(|change| self.apply(change, seqno))
    }
}

/// What a command comes to.
#[must_use = "nothing has changed yet"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<C, R> {
    /// The changes that carry it out, in order; none if nothing is to be written.
    pub changes: Vec<C>,
    /// What the caller is told once they are durable.
    pub outcome: R,
}

impl<C, R> Decision<C, R> {
    fn unchanged(outcome: R) -> Self {
        Decision {
            changes: Vec::new(),
            outcome,
        }
    }

    fn change(change: C, outcome: R) -> Self {
        Decision {
            changes: vec![change],
            outcome,
        }
    }
}

/// A change that does not fit the record it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change does not fit the record: {0}")]
pub struct Misfit(pub(crate) &'static str);

/// `Err` with this reason unless the condition holds.
fn fits(condition: bool, otherwise: &'static str) -> Result<(), Misfit> {
    if condition {
        Ok(())
    } else {
        Err(Misfit(otherwise))
    }
}
