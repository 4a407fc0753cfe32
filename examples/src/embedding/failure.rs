//! What can go wrong with what is embedded.

use lowwater::{
    AcquireError, CloneError, DowngradeError, Epoch, LookupError, PolicyError, Refusal,
    ReportError, SetPoliciesError, StopError, StopReason, StorageError, StorageErrorKind,
    WaitError,
};
use lowwater_shard::collections::{
    CollectionRefusal, CreateCollectionsError, OpenTablesError, PrepareError, PromoteError,
    ReadCollectionError, StartError, TakeOverError,
};
use lowwater_shard::consensus::Fenced;
use lowwater_shard::metadata::MetadataError;

use crate::catalog::Relation;
use crate::minute::Minute;
use crate::trouble::taken_over_by;

/// What is embedded did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// It did not start.
    #[error("the controller did not start: {0}")]
    Start(#[from] StartError),
    /// It was not put in charge.
    #[error("the store was not taken over: {0}")]
    Promote(#[from] PromoteError),
    /// The store does not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another controller is in charge.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The metadata do not say where the collections are.
    #[error("the metadata of the store: {0}")]
    Metadata(#[from] MetadataError),
    /// The metadata were not brought in line with the catalog.
    #[error("preparing the collections: {0}")]
    Prepare(#[from] PrepareError<u64>),
    /// The collections did not appear that were to be followed.
    #[error("there is nothing to follow: no controller has made its collections in this store")]
    NothingToFollow,
    /// The policy that the catalog wants makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policies were not taken.
    #[error("setting policies: {0}")]
    Policies(#[from] SetPoliciesError<u64>),
    /// The tables were not opened.
    #[error("opening the tables: {0}")]
    Tables(#[from] OpenTablesError),
    /// The engine does not hear how far a table is written.
    #[error("the engine does not hear how far {} is written", .0.name())]
    Unheard(Relation),
    /// A collection was not read.
    #[error("reading: {0}")]
    Read(#[from] ReadCollectionError<u64, Minute>),
    /// A collection was refused.
    #[error("creating the collections: {0}")]
    Create(#[from] CreateCollectionsError<u64, Minute>),
    /// The uppers were not taken.
    #[error("reporting uppers: {0}")]
    Report(#[from] ReportError<u64, Minute>),
    /// The frontiers could not be told.
    #[error("asking for frontiers: {0}")]
    Lookup(#[from] LookupError<u64>),
    /// Waiting for an upper came to nothing.
    #[error("waiting for an upper: {0}")]
    Wait(#[from] WaitError),
    /// A hold was refused.
    #[error("taking a hold: {0}")]
    Acquire(#[from] AcquireError<u64, Minute>),
    /// A hold was not cloned.
    #[error("cloning a hold: {0}")]
    Clone(#[from] CloneError),
    /// A hold was not moved.
    #[error("moving a hold: {0}")]
    Downgrade(#[from] DowngradeError<Minute>),
    /// It stopped of itself.
    #[error(transparent)]
    Stopped(#[from] StopReason),
    /// Stopping left something undone.
    #[error("stopping: {0}")]
    Stopping(#[from] StopError),
}

impl EmbeddingError {
    /// Who has taken the store over, if that is what the error says.
    #[must_use]
    pub fn taken_over_by(&self) -> Option<Epoch> {
        match self {
            Self::Fenced(fenced)
            | Self::Start(StartError::TakeOver(TakeOverError::Fenced(fenced)))
            | Self::Promote(PromoteError::TakeOver(TakeOverError::Fenced(fenced))) => {
                Some(fenced.by?.epoch)
            }
            Self::Storage(error)
            | Self::Promote(PromoteError::Storage(error))
            | Self::Tables(OpenTablesError::Storage(error))
            | Self::Read(ReadCollectionError::Storage(error))
            | Self::Create(CreateCollectionsError::Storage(error)) => taken_over_by(error),
            Self::Create(CreateCollectionsError::Refused(refusals)) => {
                refusals.iter().find_map(|(_, refusal)| {
                    let CollectionRefusal::Engine(Refusal::Storage(error)) = refusal else {
                        return None;
                    };
                    taken_over_by(error)
                })
            }
            Self::Stopped(reason)
            | Self::Stopping(StopError::Stopped(reason))
            | Self::Read(ReadCollectionError::Stopped(reason))
            | Self::Create(CreateCollectionsError::Stopped(reason)) => match reason {
                StopReason::Fenced { by } => Some(*by),
                StopReason::Stopped | StopReason::Panicked => None,
            },
            // What else an engine refuses that has stopped, it is asked for itself.
            Self::Start(_)
            | Self::Promote(_)
            | Self::Metadata(_)
            | Self::Prepare(_)
            | Self::NothingToFollow
            | Self::Policy(_)
            | Self::Policies(_)
            | Self::Tables(_)
            | Self::Unheard(_)
            | Self::Read(_)
            | Self::Create(_)
            | Self::Report(_)
            | Self::Lookup(_)
            | Self::Wait(_)
            | Self::Acquire(_)
            | Self::Clone(_)
            | Self::Downgrade(_)
            | Self::Stopping(_) => None,
        }
    }
}

/// Whether the same batch may be created a little later: storage did not answer.
pub(super) fn may_pass(error: &CreateCollectionsError<u64, Minute>) -> bool {
    match error {
        CreateCollectionsError::Refused(refusals) => refusals.iter().all(|(_, refusal)| {
            matches!(refusal, CollectionRefusal::Engine(Refusal::Storage(error)) if passes(error))
        }),
        CreateCollectionsError::Storage(error) => passes(error),
        CreateCollectionsError::Stopped(_) | CreateCollectionsError::Passed(_) => false,
    }
}

/// Whether it may be possible a little later to follow the collections: shards are looked at one
/// after the other, while somebody else writes them and moves their sinces.
pub(super) fn may_pass_while_followed(error: &EmbeddingError) -> bool {
    let EmbeddingError::Create(error) = error else {
        return false;
    };
    if let CreateCollectionsError::Refused(refusals) = error {
        let mut refusals = refusals.iter();
        return refusals.all(|(_, refusal)| matches!(refusal, CollectionRefusal::Engine(_)));
    }
    may_pass(error)
}

fn passes(error: &StorageError) -> bool {
    matches!(
        error.kind(),
        StorageErrorKind::Retry | StorageErrorKind::Reopen
    )
}

#[cfg(test)]
mod tests {
    use lowwater_shard::Incarnation;
    use lowwater_shard::consensus::Fence;

    use super::*;

    #[test]
    fn whoever_is_overtaken_while_it_starts_says_by_whom() {
        let by = Epoch::new(7);
        let fenced = || Fenced {
            by: Some(Fence {
                epoch: by,
                incarnation: Incarnation::new(1),
            }),
        };
        let storage = || StorageError::new(StorageErrorKind::Fenced { by }, fenced());
        let other = || StorageError::new(StorageErrorKind::Retry, "no answer");
        let refused = |error| CollectionRefusal::Engine(Refusal::Storage(error));
        let errors: [EmbeddingError; 9] = [
            StartError::TakeOver(fenced().into()).into(),
            PromoteError::TakeOver(fenced().into()).into(),
            PromoteError::Storage(storage()).into(),
            fenced().into(),
            storage().into(),
            OpenTablesError::Storage(storage()).into(),
            CreateCollectionsError::Storage(storage()).into(),
            CreateCollectionsError::Stopped(StopReason::Fenced { by }).into(),
            CreateCollectionsError::Refused(vec![
                (1, refused(other())),
                (2, CollectionRefusal::NoShard),
                (3, refused(storage())),
            ])
            .into(),
        ];
        for error in errors {
            assert_eq!(error.taken_over_by(), Some(by), "{error:?}");
        }
        let others: [EmbeddingError; 4] = [
            StartError::TakeOver(TakeOverError::Exhausted).into(),
            other().into(),
            CreateCollectionsError::Stopped(StopReason::Panicked).into(),
            CreateCollectionsError::Refused(vec![(1, refused(other()))]).into(),
        ];
        for error in others {
            assert_eq!(error.taken_over_by(), None, "{error:?}");
        }
    }
}
