//! What can go wrong with a store.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use lowwater::StorageError;
use lowwater_shard::consensus::ConsensusError;
use lowwater_shard::consensus::embedded::OpenError;
use lowwater_shard::parts::PlaceError;

use crate::catalog::Relation;
use crate::columns::RowError;

/// The store cannot be used: what the user has named is none, or cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// The system has no threads left.
    #[error("the runtime of the store does not start: {0}")]
    Runtime(io::Error),
    /// There is no place for a fresh store.
    #[error("no folder can be made in {}: {error}", .among.display())]
    Fresh {
        /// Where it should have been.
        among: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Only what is there can be asked.
    #[error("there is no store in {}", .0.display())]
    Absent(PathBuf),
    /// The folder has no store, and none can be made in it.
    #[error("the store in {} cannot be opened: {error}", .folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        error: OpenError,
    },
    /// The database does not answer, or refuses.
    #[error("the database cannot be opened: {}", cause(.0))]
    Database(StorageError),
    /// Only what is there can be asked.
    #[error("there is no store in the database")]
    NoTables,
    /// The place of the parts cannot be used.
    #[error("the parts cannot be opened: {0}")]
    Parts(PlaceError),
}

impl StoreOpenError {
    /// Whether somebody may still make what is missing.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::Absent(_) | Self::NoTables | Self::Parts(PlaceError::Absent(_))
        )
    }
}

/// What is behind the trouble, for somebody who knows already what was tried.
fn cause(trouble: &StorageError) -> String {
    let cause = trouble.source();
    cause.map_or_else(|| trouble.to_string(), ToString::to_string)
}

/// The store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or what it has cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The rows of a collection cannot be written.
    #[error("{} cannot be written: {why}", .relation.name())]
    Unwritable {
        /// Which collection.
        relation: Relation,
        /// Why not.
        why: String,
    },
    /// What is stored are no rows.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl From<ConsensusError> for StoreError {
    fn from(error: ConsensusError) -> Self {
        Self::Storage(error.into())
    }
}
