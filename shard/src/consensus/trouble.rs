//! Trouble with a store.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use lowwater::{StorageError, StorageErrorKind};

/// Trouble with a store. Opaque but for what to do about it, and whether the request may have been
/// carried out all the same. Never shows a password or a key.
#[derive(Clone, Debug)]
pub struct ConsensusError {
    determinate: bool,
    kind: StorageErrorKind,
    source: Arc<dyn Error + Send + Sync>,
}

impl ConsensusError {
    /// The request was not carried out, for sure.
    pub fn determinate(
        kind: StorageErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        ConsensusError {
            determinate: true,
            kind,
            source: Arc::from(source.into()),
        }
    }

    /// The request may have been carried out, or may still be.
    pub fn indeterminate(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        ConsensusError {
            determinate: false,
            kind: StorageErrorKind::Retry,
            source: Arc::from(source.into()),
        }
    }

    /// True iff the request was not carried out and will not be.
    pub fn is_determinate(&self) -> bool {
        self.determinate
    }

    /// What the caller should do.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }
}

impl fmt::Display for ConsensusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.determinate {
            "the store failed"
        } else {
            "the store failed with unknown outcome"
        };
        write!(f, "{outcome}: {}", self.source)?;
        // Those of databases say what is wrong only in what is behind them.
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The whole story is in what it displays; there is no source to be asked for more.
impl Error for ConsensusError {}

impl From<ConsensusError> for StorageError {
    fn from(error: ConsensusError) -> Self {
        StorageError::new(error.kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("db error")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the disk is full")]
    struct Inner;

    #[test]
    fn what_is_behind_the_trouble_is_shown_once() {
        let error = ConsensusError::determinate(StorageErrorKind::Retry, Outer(Inner));
        assert_eq!(
            error.to_string(),
            "the store failed: db error: the disk is full"
        );
        assert!(error.source().is_none());
        let unknown = ConsensusError::indeterminate(error);
        assert!(!unknown.is_determinate());
        assert!(unknown.to_string().ends_with("db error: the disk is full"));
    }
}
