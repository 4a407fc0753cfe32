//! Metadata in memory: for tests, and for embedders that keep nothing durable.

use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::SeqNo;
use crate::record::{MetadataConflict, MetadataRecord, Record};

use super::{StoredId, Transaction};

/// Metadata in memory. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct MemoryMetadata<I> {
    record: Arc<Mutex<MetadataRecord>>,
    ids: PhantomData<fn() -> I>,
}

impl<I: StoredId> MemoryMetadata<I> {
    /// Nothing is owned.
    pub fn new() -> Self {
        MemoryMetadata {
            record: Arc::new(Mutex::new(MetadataRecord::initial())),
            ids: PhantomData,
        }
    }

    /// Begins a transaction, with what is committed by now.
    pub fn begin(&self) -> Transaction<I, Self> {
        Transaction::new(self.record.lock().draft(), self.clone())
    }
}

impl<I: StoredId> Default for MemoryMetadata<I> {
    fn default() -> Self {
        MemoryMetadata::new()
    }
}

impl<I: StoredId> Transaction<I, MemoryMetadata<I>> {
    /// Makes all of it visible, or nothing.
    ///
    /// # Errors
    ///
    /// If another transaction has committed in between: begin again.
    ///
    /// # Panics
    ///
    /// Never: a draft fits the version that it began with.
    pub fn commit(self) -> Result<(), MetadataConflict> {
        let Transaction {
            draft, metadata, ..
        } = self;
        let (seen, changes) = draft.finish();
        let mut record = metadata.record.lock();
        let decided = record.commit(seen, &changes)?;
        let seqno = seen.map_or(SeqNo::FIRST, SeqNo::next);
        for change in &decided.changes {
            let fits = record.apply(change, seqno);
            fits.expect("a draft fits the version that it began with");
        }
        Ok(())
    }
}
