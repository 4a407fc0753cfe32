//! What may be asked of the engine, as plain data, and how each request can be refused.

use std::fmt;

use smallvec::SmallVec;
use thiserror::Error;
use timely::progress::Antichain;

use crate::frontier::{Since, Upper};
use crate::id::{Epoch, Key, ShardId};
use crate::policy::{PolicyError, ReadPolicy};
use crate::storage::StorageError;

/// A collection to be created.
///
/// ```
/// use lowwater::{Description, ReadPolicy};
///
/// let view = Description::new(7_u64, ReadPolicy::<u64>::step_back()).depends_on([1, 2]);
/// assert_eq!(view.id(), 7);
/// ```
#[derive(Clone, Debug)]
pub struct Description<I, T> {
    pub(crate) id: I,
    pub(crate) policy: ReadPolicy<T>,
    pub(crate) dependencies: SmallVec<[I; 2]>,
    pub(crate) since: Option<Since<T>>,
    pub(crate) shard: Option<ShardId>,
}

impl<I: Copy, T> Description<I, T> {
    /// A collection that depends on nothing and has no shard.
    pub fn new(id: I, policy: ReadPolicy<T>) -> Self {
        Description {
            id,
            policy,
            dependencies: SmallVec::new(),
            since: None,
            shard: None,
        }
    }

    /// What the collection is computed from: none of it is compacted past what this one needs.
    /// They exist already or are created in the same batch, in any order.
    #[must_use]
    pub fn depends_on(mut self, dependencies: impl IntoIterator<Item = I>) -> Self {
        self.dependencies.extend(dependencies);
        self
    }

    /// The since asked for. Without it: that of [`ReadPolicy::NoPolicy`], or else the minimum. The
    /// collection starts there or later, where its shard and its dependencies are.
    #[must_use]
    pub fn since(mut self, since: Since<T>) -> Self {
        self.since = Some(since);
        self
    }

    /// The durable shard behind the collection. Without one, its since is durable at once.
    ///
    /// Several collections may have one shard, as versions of a table's schema do: what is asked of
    /// it is the meet of what they plan, and the last of them to go gives it up.
    #[must_use]
    pub fn shard(mut self, shard: ShardId) -> Self {
        self.shard = Some(shard);
        self
    }

    /// The id of the collection.
    pub fn id(&self) -> I {
        self.id
    }
}

/// A collection, by its id or by the key of one incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<I> {
    /// Whatever has this id now.
    Id(I),
    /// This incarnation, and no other.
    Key(I, Key),
}

impl<I: Copy> Target<I> {
    pub(crate) fn id(&self) -> I {
        match self {
            Target::Id(id) | Target::Key(id, _) => *id,
        }
    }
}

/// Where a hold starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start<T> {
    /// At this frontier, if the collection can still be read there.
    At(Since<T>),
    /// At the since: the earliest that somebody still keeps readable.
    ///
    /// Holds that start there and overlap keep the since where it is for ever; prefer the implied
    /// capability where the exact time does not matter.
    Earliest,
}

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until<T> {
    /// The upper is past this frontier.
    UpperPast(Antichain<T>),
    /// The planned since is past this frontier.
    SincePast(Antichain<T>),
    /// Anything has changed since this version.
    ChangedAfter(u64),
}

/// Everything that a client may ask of the engine.
#[derive(Clone, Debug)]
pub enum Command<I, T> {
    /// Create all of these collections, or none.
    Create(Vec<Description<I, T>>),
    /// Give these collections up: their holds and dependents keep them until they go.
    Drop(Vec<I>),
    /// Set policies, in this order: of several for one collection the last one wins.
    SetPolicies(Vec<(I, ReadPolicy<T>)>),
    /// Collections were written up to here.
    ReportUppers(Vec<(I, Upper<T>)>),
    /// The same by key: no look-up, and what is said of a collection that is gone is no error.
    ReportUppersByKey(Vec<(Key, Upper<T>)>),
    /// Take all of these holds, or none.
    Acquire(Vec<(Target<I>, Start<T>)>),
    /// Answer when it is so.
    Wait(Key, Until<T>),
    /// The frontiers of these collections at one instant.
    Frontiers(Vec<I>),
    /// Who holds back a collection's since.
    Explain(I),
    /// How many holds each of these collections has.
    Holds(Vec<I>),
    /// Could these collections be created, as far as one knows before their shards are open?
    Check(Vec<Description<I, T>>),
    /// Others need these shards too, who are not here: what is planned for them stays where it is,
    /// and they are not given up.
    KeepShards(Vec<ShardId>),
    /// Nobody else needs these any more.
    FreeShards(Vec<ShardId>),
}

/// Why the engine takes no requests any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StopReason {
    /// It was asked to stop, or dropped by its owner.
    #[error("the engine has stopped")]
    Stopped,
    /// Its owner thread has panicked: a mistake in the engine, or in what it was given to call.
    #[error("the engine's owner thread has panicked")]
    Panicked,
    /// Another controller is in charge of the storage: this one moves nothing there any more.
    #[error("the engine has stopped, for the controller of epoch {by} has taken over")]
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
}

/// What stopping left undone. The engine has stopped all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StopError {
    /// Storage had not confirmed the last wishes of these many shards when the time was over. It
    /// may still carry out what it was asked for; the next controller starts from what is durable.
    #[error("{shards} shards had wishes that were not durable in time")]
    Unwritten {
        /// How many.
        shards: u64,
    },
    /// The engine had stopped before, or did so of itself.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why a batch of collections was not created: nothing of it was.
#[derive(Clone, Debug)]
pub enum CreateError<I, T> {
    /// These ids were refused, each for its reason; the others of the batch would have done.
    Refused(Vec<(I, Refusal<I, T>)>),
    /// The engine has stopped.
    Stopped(StopReason),
}

/// Names every id that was refused, with its reason.
impl<I: fmt::Display, T: fmt::Debug> fmt::Display for CreateError<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::Refused(refusals) => {
                f.write_str("no collection of the batch was created")?;
                refusals
                    .iter()
                    .try_for_each(|(id, refusal)| write!(f, "; {id}: {refusal}"))
            }
            CreateError::Stopped(reason) => reason.fmt(f),
        }
    }
}

impl<I: fmt::Display + fmt::Debug, T: fmt::Debug> std::error::Error for CreateError<I, T> {}

impl<I, T> From<StopReason> for CreateError<I, T> {
    fn from(reason: StopReason) -> Self {
        CreateError::Stopped(reason)
    }
}

/// Why one collection of a batch was refused.
#[derive(Clone, Debug, Error)]
pub enum Refusal<I, T> {
    /// A collection has this id.
    #[error("the collection exists already")]
    AlreadyExists,
    /// A dropped collection has this id, and holds or dependents still keep it.
    #[error("the dropped collection of this id is still held")]
    StillDropping,
    /// Another batch is just creating it.
    #[error("the collection is being created")]
    BeingCreated,
    /// The batch has this id twice.
    #[error("the batch names the collection twice")]
    Repeated,
    /// There is no such dependency.
    #[error("the dependency {0} does not exist")]
    UnknownDependency(I),
    /// The dependency is in another batch that is just being created. Ask again when that is done.
    #[error("the dependency {0} is being created")]
    UnfinishedDependency(I),
    /// The dependency was dropped, before or while shards were being opened.
    #[error("the dependency {0} was dropped")]
    DroppedDependency(I),
    /// The collection depends on itself, through others of the batch or directly.
    #[error("the collection depends on itself")]
    Cycle,
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Nothing could ever be read of it: the since asked for is the empty frontier.
    #[error("the since asked for is the empty frontier")]
    EmptySince,
    /// Its dependencies have been compacted past its upper: a restarted writer could not tell what
    /// it has already written.
    #[error("its dependencies push the since to {since}, which is not before the upper {upper}")]
    BehindDependencies {
        /// Where the since would have to be.
        since: Since<T>,
        /// How far the collection is written.
        upper: Upper<T>,
    },
    /// Another batch is just opening the shard. Ask again when that is done.
    #[error("the shard {shard} is being opened for {owner}")]
    ShardInUse {
        /// The shard.
        shard: ShardId,
        /// For whom.
        owner: I,
    },
    /// The shard was once asked for the empty since: it is never opened again.
    #[error("the shard {0} was given up")]
    ShardGone(ShardId),
    /// The shard could not be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why collections were not dropped: none of them was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DropError<I> {
    /// There is no such collection.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// It was dropped before.
    #[error("the collection {0} was dropped before")]
    Dropped(I),
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why policies were not set: none of them was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetPoliciesError<I> {
    /// There is no such collection.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// It was dropped.
    #[error("the collection {0} was dropped")]
    Dropped(I),
    /// The policy cannot be used.
    #[error("the policy for {collection}: {error}")]
    Policy {
        /// Whose policy it was to be.
        collection: I,
        /// What is wrong with it.
        error: PolicyError,
    },
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why uppers were not taken: none of them was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError<I, T> {
    /// There is no such collection.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// Uppers of one collection follow each other: this one is neither before nor after the one
    /// that is known.
    #[error("the upper reported for {collection} is incomparable with {upper}")]
    Incomparable {
        /// Which collection.
        collection: I,
        /// The upper that is known.
        upper: Upper<T>,
    },
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why a hold was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AcquireError<I, T> {
    /// There is no such collection.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// It was dropped, and takes no new holds.
    #[error("the collection {0} was dropped")]
    Dropped(I),
    /// What is before `since` can no longer be read. Ask again at or after it.
    #[error("the collection {collection} can be read from {since} on only")]
    TooEarly {
        /// Which collection.
        collection: I,
        /// From when on it can be read.
        since: Since<T>,
    },
    /// More than two thousand million holds that start at one frontier.
    #[error("the collection {0} has too many holds")]
    TooManyHolds(I),
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why a hold holds nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HoldLost<T> {
    /// It relied on a lease, in read-only mode, and the lease has lapsed. What is before `since` can
    /// no longer be read: take another hold at or after it. Empty: the collection is gone.
    #[error("the hold was revoked: its collection can be read from {since} on only")]
    Revoked {
        /// From when on the collection can be read.
        since: Since<T>,
    },
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why a hold was not cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CloneError {
    /// More than two thousand million holds that start at one frontier.
    #[error("the collection has too many holds")]
    TooManyHolds,
    /// It holds nothing any more: see [`ReadHold::check`](crate::ReadHold::check).
    #[error("the hold was revoked")]
    Revoked,
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why a hold was not moved; it is where it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DowngradeError<T> {
    /// A hold only moves forward: this is before, or incomparable with, where it is.
    #[error("the hold is at {held}, which is not before the frontier asked for")]
    NotLater {
        /// Where the hold is.
        held: Since<T>,
    },
    /// It holds nothing any more: see [`HoldLost::Revoked`].
    #[error("the hold was revoked: its collection can be read from {since} on only")]
    Revoked {
        /// From when on the collection can be read.
        since: Since<T>,
    },
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why frontiers cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError<I> {
    /// There is no such collection.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

/// Why there is nothing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WaitError {
    /// Nothing is ever past the empty frontier.
    #[error("nothing is past the empty frontier")]
    Never,
    /// The collection is gone.
    #[error("the collection is gone")]
    Gone,
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(#[from] StopReason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_tell_frontiers_as_people_write_them() {
        let since = Since::at(9_u64);
        let too_early = AcquireError::TooEarly {
            collection: 3,
            since: since.clone(),
        };
        assert_eq!(
            too_early.to_string(),
            "the collection 3 can be read from {9} on only"
        );
        let upper = Upper::at(7);
        let refused = CreateError::Refused(vec![(3, Refusal::BehindDependencies { since, upper })]);
        assert_eq!(
            refused.to_string(),
            "no collection of the batch was created; 3: its dependencies push the since to {9}, \
             which is not before the upper {7}"
        );
    }
}
