//! Metadata in the store of the records: durable with them, and fenced as they are.

use std::marker::PhantomData;
use std::sync::Arc;

use lowwater::StorageErrorKind;
use tokio::sync::Mutex;

use crate::consensus::{Consensus, ConsensusError, Fence, Fenced};
use crate::id::LogId;
use crate::log::{Log, LogError};
use crate::record::{MetadataConflict, MetadataRecord};
use crate::transact::{CommandError, StoreTrouble, Transactor};

use super::{StoredId, Transaction};

/// Metadata in the store of the records. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct StoredMetadata<I> {
    inner: Arc<Inner>,
    ids: PhantomData<fn() -> I>,
}

#[derive(Debug)]
struct Inner {
    transactor: Transactor,
    log: Mutex<Log<MetadataRecord>>,
}

/// Why metadata cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataTrouble {
    /// They were damaged, or are not ours.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] ConsensusError),
}

/// Why a transaction was not committed, or is not known to have been.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Another transaction has committed in between: begin again.
    #[error(transparent)]
    Conflict(#[from] MetadataConflict),
    /// Another controller is in charge of the store: nothing was written.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// Trouble. Where that is [indeterminate](ConsensusError::is_determinate), it may have been
    /// committed: begin again, and look.
    #[error(transparent)]
    Trouble(#[from] MetadataTrouble),
}

impl MetadataTrouble {
    /// What the caller should do.
    pub fn kind(&self) -> StorageErrorKind {
        match self {
            MetadataTrouble::Log(_) => StorageErrorKind::GiveUp,
            MetadataTrouble::Store(error) => lowwater::StorageError::from(error.clone()).kind(),
        }
    }
}

impl CommitError {
    /// What the caller should do.
    pub fn kind(&self) -> StorageErrorKind {
        match self {
            CommitError::Conflict(_) => StorageErrorKind::Retry,
            CommitError::Fenced(_) => StorageErrorKind::GiveUp,
            CommitError::Trouble(trouble) => trouble.kind(),
        }
    }
}

impl<I: StoredId> StoredMetadata<I> {
    /// The metadata of this store, written as the controller that `fence` names; without one, they
    /// can be written by anybody who may open the store.
    pub fn new(store: Arc<dyn Consensus>, fence: Option<Fence>) -> Self {
        StoredMetadata {
            inner: Arc::new(Inner {
                transactor: Transactor::new(store, fence),
                log: Mutex::new(Log::new(LogId::metadata().shard)),
            }),
            ids: PhantomData,
        }
    }

    /// Begins a transaction, with what is committed by now.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub async fn begin(&self) -> Result<Transaction<I, Self>, MetadataTrouble> {
        let mut log = self.inner.log.lock().await;
        let read = self.inner.transactor.refresh(&mut [&mut *log]).await?;
        read.into_iter().collect::<Result<(), LogError>>()?;
        Ok(Transaction::new(log.record().draft(), self.clone()))
    }
}

impl<I: StoredId> Transaction<I, StoredMetadata<I>> {
    /// Makes all of it durable and visible in one write, or nothing.
    ///
    /// # Errors
    ///
    /// If another transaction has committed in between, another controller is in charge, or the
    /// store has failed.
    ///
    /// # Durability
    ///
    /// When this returns, all of it has survived a crash.
    pub async fn commit(self) -> Result<(), CommitError> {
        let Transaction {
            draft, metadata, ..
        } = self;
        let (seen, changes) = draft.finish();
        let mut log = metadata.inner.log.lock().await;
        let transactor = &metadata.inner.transactor;
        let command = |record: &MetadataRecord| record.commit(seen, &changes);
        let done = transactor.carry_out(&mut log, command).await;
        done.map_err(|error| match error {
            CommandError::Refused(conflict) => CommitError::Conflict(conflict),
            CommandError::Fenced(fenced) => CommitError::Fenced(fenced),
            CommandError::Log(error) => MetadataTrouble::Log(error).into(),
            CommandError::Store(StoreTrouble(error)) => MetadataTrouble::Store(error).into(),
        })
    }
}
