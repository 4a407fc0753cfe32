//! What can go wrong with parts.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use lowwater::{StorageError, StorageErrorKind};

use crate::id::PartName;
use crate::inline::InlineError;
use crate::updates::UpdatesError;

use super::place::Secrets;

/// Why a part was not written, read or deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PartError {
    /// The updates are not of the schema that they were to be written with.
    #[error(transparent)]
    Updates(#[from] UpdatesError),
    /// There is no such part. Read the record again: if it no longer refers to it, a compaction was
    /// faster; if it does, the part was lost.
    #[error("part {0} is missing")]
    Missing(PartName),
    /// The part is not what was written.
    #[error("part {part} cannot be read: {fault}")]
    Unreadable {
        /// The part.
        part: PartName,
        /// What is wrong with it.
        fault: PartFault,
    },
    /// Updates in the record are damaged, though its checksum is right.
    #[error(transparent)]
    Inline(InlineError),
    /// The runtime has ended before the part was read.
    #[error("the runtime has ended")]
    Stopped,
    /// Trouble with the store.
    #[error(transparent)]
    Store(PartTrouble),
}

/// What is wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartFault {
    /// It is not a part of Lowwater's, or it is another one.
    #[error("it is not the part of this name")]
    Foreign,
    /// A later Lowwater has written it.
    #[error("its format is not known")]
    UnknownFormat,
    /// It was damaged.
    #[error("the checksum is wrong")]
    Checksum,
    /// It was cut short, or something stands behind it.
    #[error("it has {found} bytes, not {wanted}")]
    Length {
        /// How large it was when it was written.
        wanted: u64,
        /// How large it is.
        found: u64,
    },
    /// Its columns are not those of the schema, or its times of another type.
    #[error("it has other columns")]
    OtherColumns,
    /// It is not what the format says, though nothing has damaged it.
    #[error("it is malformed: {0}")]
    Malformed(String),
}

impl PartError {
    /// What the caller should do. That a part is missing is given up, provided that the record
    /// still refers to it.
    pub fn kind(&self) -> StorageErrorKind {
        match self {
            PartError::Updates(_)
            | PartError::Missing(_)
            | PartError::Unreadable { .. }
            | PartError::Inline(_)
            | PartError::Stopped => StorageErrorKind::GiveUp,
            PartError::Store(trouble) => trouble.kind,
        }
    }
}

impl From<PartError> for StorageError {
    fn from(error: PartError) -> Self {
        StorageError::new(error.kind(), error)
    }
}

/// Trouble with a store of parts. Opaque but for what to do about it. Never shows a password or a
/// key.
#[derive(Clone)]
pub struct PartTrouble {
    kind: StorageErrorKind,
    /// Text, not errors: what they would show when asked is not in our hands.
    text: Arc<str>,
}

impl PartTrouble {
    pub(super) fn new(error: &object_store::Error, secrets: &Secrets) -> Self {
        PartTrouble {
            kind: remedy(error),
            text: secrets.hide(&story(error)).into(),
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }
}

/// The error and all that is behind it, each said once.
pub(super) fn story(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn remedy(error: &object_store::Error) -> StorageErrorKind {
    use object_store::Error as E;
    let is_refused = matches!(
        error,
        E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::UnknownConfigurationKey { .. }
    );
    // A full disk is not among these: somebody makes room.
    let cannot = matches!(
        io_kind(error),
        Some(
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::Unsupported
        )
    );
    if is_refused || cannot {
        StorageErrorKind::GiveUp
    } else {
        StorageErrorKind::Retry
    }
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

impl fmt::Display for PartTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store of parts failed: {}", self.text)
    }
}

impl fmt::Debug for PartTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartTrouble")
            .field("kind", &self.kind)
            .field("text", &self.text)
            .finish()
    }
}

/// The whole story is in what it displays; there is no source to be asked for more.
impl Error for PartTrouble {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: io::ErrorKind) -> StorageErrorKind {
        remedy(&object_store::Error::Generic {
            store: "disk",
            source: Box::new(object_store::Error::Generic {
                store: "file",
                source: io::Error::from(error).into(),
            }),
        })
    }

    #[test]
    fn a_full_disk_may_pass_and_a_missing_permission_does_not() {
        assert_eq!(kind(io::ErrorKind::StorageFull), StorageErrorKind::Retry);
        assert_eq!(kind(io::ErrorKind::QuotaExceeded), StorageErrorKind::Retry);
        let denied = io::ErrorKind::PermissionDenied;
        assert_eq!(kind(denied), StorageErrorKind::GiveUp);
        let read_only = io::ErrorKind::ReadOnlyFilesystem;
        assert_eq!(kind(read_only), StorageErrorKind::GiveUp);
    }
}
