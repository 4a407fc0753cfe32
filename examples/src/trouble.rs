//! What keeps a replay from its end.

use lowwater::{Client, Epoch, Since, StopReason, StorageError, StorageErrorKind};

use crate::embedding::EmbeddingError;
use crate::minute::Minute;
use crate::signals::Asked;
use crate::store::StoreError;

/// What keeps a replay from its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// What is embedded did not do what it was asked to.
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
    /// It was asked to stop.
    #[error(transparent)]
    Asked(#[from] Asked),
    /// What is followed is written no more.
    #[error("nothing was written for {seconds} seconds after minute {upper}: nobody is in charge")]
    Silent {
        /// How long.
        seconds: u64,
        /// Up to where everything is written.
        upper: Minute,
    },
}

impl ReplayError {
    /// The same, or that another controller has taken over if that is what is behind it: whoever is
    /// not in charge any more may notice it first by anything.
    #[must_use]
    pub fn or_fenced(self, client: &Client<u64, Minute>) -> Self {
        let heard = match client.stopped() {
            Some(reason @ StopReason::Fenced { .. }) => Some(reason),
            Some(StopReason::Stopped | StopReason::Panicked) | None => None,
        };
        match heard.or_else(|| self.told()) {
            Some(reason) => Self::Fenced(reason),
            None => self,
        }
    }

    /// The same, before there is an engine that may have heard.
    #[must_use]
    pub fn or_told(self) -> Self {
        match self.told() {
            Some(reason) => Self::Fenced(reason),
            None => self,
        }
    }

    fn told(&self) -> Option<StopReason> {
        let by = match self {
            Self::Embedding(error) => error.taken_over_by()?,
            Self::Store(StoreError::Storage(error)) => taken_over_by(error)?,
            Self::Store(_)
            | Self::Fenced(_)
            | Self::Unreadable { .. }
            | Self::Asked(_)
            | Self::Silent { .. } => return None,
        };
        Some(StopReason::Fenced { by })
    }
}

/// Who has taken the store over, if that is what the error says.
pub(crate) fn taken_over_by(error: &StorageError) -> Option<Epoch> {
    match error.kind() {
        StorageErrorKind::Fenced { by } => Some(by),
        StorageErrorKind::Retry | StorageErrorKind::Reopen | StorageErrorKind::GiveUp => None,
    }
}
