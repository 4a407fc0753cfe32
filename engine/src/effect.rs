//! Everything that the state may ask for, and what readers see of it.

use crate::command::{
    AcquireError, CreateError, DropError, LookupError, ReportError, SetPoliciesError, WaitError,
};
use crate::explanation::Explanation;
use crate::frontier::{Frontiers, Since, Upper};
use crate::id::{Epoch, Key, ShardId, Ticket};
use crate::input::Cell;
use crate::storage::{SinceWish, StorageError};

/// What is to be done now that the state has changed.
#[derive(Clone, Debug)]
pub enum Effect<I, T> {
    /// Answer a request.
    Answer(Ticket, Answer<I, T>),
    /// Open these shards, for the batch of this number.
    OpenShards(u64, Vec<ShardId>),
    /// These shards were opened in vain: no collection has them.
    LetGo(Vec<ShardId>),
    /// Make these sinces durable.
    DowngradeSinces(Vec<SinceWish<T>>),
    /// Tell the embedder.
    Event(Event<I, T>),
    /// Stop: the controller of this epoch is in charge of the storage. Nothing more is asked of it.
    Fenced(Epoch),
}

/// The answer to a command.
#[derive(Clone, Debug)]
pub enum Answer<I, T> {
    /// To [`Command::Create`](crate::Command::Create): the keys, in the order of the batch.
    Created(Result<Vec<(I, Key)>, CreateError<I, T>>),
    /// To [`Command::Drop`](crate::Command::Drop).
    Dropped(Result<(), DropError<I>>),
    /// To [`Command::SetPolicies`](crate::Command::SetPolicies).
    PoliciesSet(Result<(), SetPoliciesError<I>>),
    /// To the two commands that report uppers.
    UppersReported(Result<(), ReportError<I, T>>),
    /// To [`Command::Acquire`](crate::Command::Acquire): these capabilities are counted, and
    /// whoever gets this answer owns them.
    Acquired(Result<Vec<Granted<I, T>>, AcquireError<I, T>>),
    /// To [`Command::Wait`](crate::Command::Wait): where the collection was when it came true.
    Waited(Result<Frontiers<T>, WaitError>),
    /// To [`Command::Frontiers`](crate::Command::Frontiers), in the order asked.
    Frontiers(Result<Vec<Frontiers<T>>, LookupError<I>>),
    /// To [`Command::Explain`](crate::Command::Explain).
    Explained(Result<Explanation<I, T>, LookupError<I>>),
    /// To [`Command::Holds`](crate::Command::Holds), in the order asked; none for what is not there.
    Holds(Vec<Option<u64>>),
    /// To [`Command::Check`](crate::Command::Check).
    Checked(Result<(), CreateError<I, T>>),
    /// To [`Command::KeepShards`](crate::Command::KeepShards) and
    /// [`Command::FreeShards`](crate::Command::FreeShards).
    ShardsKept,
}

/// A capability that was counted for a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted<I, T> {
    /// Of which collection.
    pub id: I,
    /// Of which incarnation.
    pub key: Key,
    /// From when on it is kept readable.
    pub since: Since<T>,
}

/// What happened without anybody having asked.
#[derive(Clone, Debug)]
pub enum Event<I, T> {
    /// The function of a collection's policy panicked. The collection stays where it is, and the
    /// function is asked again when its upper advances.
    PolicyPanicked {
        /// Whose policy.
        collection: I,
    },
    /// A since could not be made durable. The wish is kept and asked for again.
    SinceNotWritten {
        /// Whose since; none where the collection is gone.
        collection: Option<I>,
        /// Its shard.
        shard: ShardId,
        /// What storage said.
        error: StorageError,
    },
    /// A shard was found elsewhere than it was asked to be: somebody else has moved it.
    ShardMoved {
        /// Whose shard; none where the collection is gone.
        collection: Option<I>,
        /// The shard.
        shard: ShardId,
        /// What was asked for.
        asked: Since<T>,
        /// What is durable.
        actual: Since<T>,
    },
    /// The lease has lapsed by which a collection, or one that it depends on, was kept readable:
    /// holds before `since` are revoked.
    LeaseLapsed {
        /// Which collection.
        collection: I,
        /// From when on it can be read.
        since: Since<T>,
    },
    /// A shard's upper was reported that is incomparable with the one known. It was ignored.
    UpperIncomparable {
        /// Whose shard.
        collection: I,
        /// What was reported.
        reported: Upper<T>,
        /// What is known.
        upper: Upper<T>,
    },
}

/// What other threads see of the collections, and the pins that they take there.
///
/// The one thing that the state asks in the middle of a turn is in here: whether a cell that it
/// retires still has pins. With the answers recorded beside the inputs, a run can be replayed.
pub trait Readers<I, T> {
    /// A collection begins. Gives the slot where it stands, which no living collection has.
    fn open(&mut self, id: I, generation: u64, frontiers: Frontiers<T>) -> u32;

    /// From now on pins are taken at `implied`. Says which cell the older ones are on, if any are
    /// left.
    fn retire(&mut self, id: I, key: Key, implied: &Since<T>) -> Option<Cell>;

    /// From now on no pins are taken. Says which cell the older ones are on, if any are left.
    fn close(&mut self, key: Key) -> Option<Cell>;

    /// How many pins are left on a cell that was retired: for explanations only.
    fn pins(&self, cell: Cell) -> u64;

    /// How many pins there are at the implied capability, at some instant.
    fn current_pins(&self, key: Key) -> u64;

    /// Shows the frontiers of a collection.
    fn publish(&mut self, key: Key, frontiers: Frontiers<T>);

    /// The collection is gone.
    fn remove(&mut self, id: I, key: Key);
}
