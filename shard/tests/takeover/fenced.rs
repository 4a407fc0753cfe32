//! Who is in charge, by every error that a caller may get.

use std::fmt::Debug;

use lowwater::{
    AcquireError, CreateError, DropError, LookupError, SetPoliciesError, StopError, StopReason,
    StorageError, StorageErrorKind,
};
use lowwater_shard::Epoch;
use lowwater_shard::collections::{
    AdvanceError, AlterError, CommitTablesError, CreateCollectionsError, DropTablesError,
    PrepareError, StartError, SubscribeError, TableTrouble, TakeOverError,
};
use lowwater_shard::consensus::Fenced;
use lowwater_shard::metadata::CommitError;
use lowwater_shard::tables::TablesError;

/// An error that may say that another controller is in charge.
pub(crate) trait SaysWho: Debug {
    fn fenced_by(&self) -> Option<Epoch>;
}

impl SaysWho for Fenced {
    fn fenced_by(&self) -> Option<Epoch> {
        self.by.map(|fence| fence.epoch)
    }
}

impl SaysWho for StopReason {
    fn fenced_by(&self) -> Option<Epoch> {
        match self {
            StopReason::Fenced { by } => Some(*by),
            StopReason::Stopped | StopReason::Panicked => None,
        }
    }
}

impl SaysWho for StorageError {
    fn fenced_by(&self) -> Option<Epoch> {
        match self.kind() {
            StorageErrorKind::Fenced { by } => Some(by),
            StorageErrorKind::Retry | StorageErrorKind::Reopen | StorageErrorKind::GiveUp => None,
        }
    }
}

/// Why a change of the catalogue has come to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Prepare(#[from] PrepareError<u64>),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// By the variants that say so; all others do not.
macro_rules! says_who {
    ($($error:ty { $($variant:path),+ })*) => {$(
        impl SaysWho for $error {
            #[allow(clippy::wildcard_enum_match_arm, reason = "no other variant says so")]
            fn fenced_by(&self) -> Option<Epoch> {
                match self {
                    $($variant(reason) => reason.fenced_by(),)+
                    _ => None,
                }
            }
        }
    )*};
}

says_who! {
    StopError { StopError::Stopped }
    CreateError<u64, u64> { CreateError::Stopped }
    CreateCollectionsError<u64, u64> {
        CreateCollectionsError::Stopped, CreateCollectionsError::Storage
    }
    DropError<u64> { DropError::Stopped }
    SetPoliciesError<u64> { SetPoliciesError::Stopped }
    AcquireError<u64, u64> { AcquireError::Stopped }
    LookupError<u64> { LookupError::Stopped }
    AlterError<u64> { AlterError::Stopped, AlterError::Storage }
    PrepareError<u64> { PrepareError::Stopped }
    TableTrouble { TableTrouble::Stopped, TableTrouble::Storage }
    SubscribeError<u64> { SubscribeError::Stopped }
    AdvanceError<u64> { AdvanceError::Trouble }
    CommitTablesError<u64, u64> { CommitTablesError::Trouble }
    DropTablesError<u64, u64> { DropTablesError::Trouble, DropTablesError::Drop }
    CommitError { CommitError::Fenced }
    StartError { StartError::TakeOver }
    TakeOverError { TakeOverError::Fenced }
}

impl SaysWho for ChangeError {
    fn fenced_by(&self) -> Option<Epoch> {
        match self {
            ChangeError::Prepare(error) => error.fenced_by(),
            ChangeError::Commit(error) => error.fenced_by(),
        }
    }
}

impl<R: Debug> SaysWho for TablesError<R> {
    fn fenced_by(&self) -> Option<Epoch> {
        match self {
            TablesError::Fenced(fenced) => fenced.fenced_by(),
            TablesError::Storage(error) => error.fenced_by(),
            TablesError::Refused(_) | TablesError::ReadOnly => None,
        }
    }
}

/// What a call has come to: done, or refused by who is in charge. Anything else is wrong.
pub(crate) fn come_to<X, E: SaysWho>(outcome: Result<X, E>) -> Result<(), Epoch> {
    outcome.map(drop).map_err(|error| {
        let by = error.fenced_by();
        by.unwrap_or_else(|| panic!("it does not say who is in charge: {error:?}"))
    })
}

/// Checks that a call was refused, and by whom.
pub(crate) fn refused<X, E: SaysWho>(what: &str, outcome: Result<X, E>, by: Epoch) {
    assert_eq!(come_to(outcome), Err(by), "{what}");
}
