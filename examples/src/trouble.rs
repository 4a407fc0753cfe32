//! What keeps a replay from its end.

use lowwater::{Since, StopReason};

use crate::embedding::EmbeddingError;
use crate::minute::Minute;
use crate::store::StoreError;

/// What keeps a replay from its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The engine did not do what it was asked to.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The store did not do what it was asked to.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another controller has taken the store over.
    #[error(transparent)]
    Fenced(StopReason),
    /// The user wants to read what the store has forgotten.
    #[error("the probe at minute {minute} cannot be read any more: the store begins at {since}")]
    Unreadable {
        /// Where the probe was to be.
        minute: Minute,
        /// From when on the store can be read.
        since: Since<Minute>,
    },
}
