//! What goes through the queue to the owner thread.
//!
//! A message owns what it talks about: a capability is in one place at every moment, so a message
//! that is dropped on its way, because the engine is closing, releases what it carries.

use smallvec::SmallVec;

use crate::collection::Collection;
use crate::command::{
    AcquireError, Command, CreateError, DropError, LookupError, ReportError, SetPoliciesError,
    StopError, StopReason, WaitError,
};
use crate::driver::{Noted, Parameters, Stats};
use crate::explanation::Explanation;
use crate::frontier::{Frontiers, Since};
use crate::hold::{ReadHold, Token};
use crate::id::{Key, Ticket};
use crate::link::Freed;
use crate::storage::StorageReport;

/// One entry of the queue.
pub(crate) enum Message<I: crate::CollectionId, T: crate::Time> {
    /// A request of the state.
    Command {
        ticket: Ticket,
        command: Command<I, T>,
        reply: Reply<I, T>,
    },
    /// The caller of a request no longer waits.
    Cancelled(Ticket),
    /// A hold moves: `to` is counted, then what it was goes.
    Moved {
        key: Key,
        from: SmallVec<[Token<I, T>; 1]>,
        to: Since<T>,
    },
    /// A counted hold was cloned.
    Cloned { key: Key, since: Since<T> },
    /// A counted hold was dropped.
    Released { key: Key, since: Since<T> },
    /// The last pin of a retired cell is gone.
    Freed(Freed<I, T>),
    /// Storage has something to say.
    Storage(StorageReport<T>),
    /// Has everything before this taken effect? It is sent `again` by the owner to itself, behind
    /// what the owner sends itself because of what came before.
    Sync {
        again: bool,
        reply: Answer<(), StopReason>,
    },
    /// How is the engine doing?
    Stats(Answer<Stats, StopReason>),
    /// What happens first, from the event of this number on?
    Event {
        ticket: Ticket,
        from: u64,
        reply: Answer<Noted<I, T>, StopReason>,
    },
    /// Be otherwise from now on.
    Change(Parameters, Answer<(), StopReason>),
    /// Come to an end.
    Stop(Answer<(), StopError>),
}

/// Where an answer goes. Dropped, it says that the engine has stopped.
pub(crate) type Answer<R, E> = oneshot::Sender<Result<R, E>>;

/// Where the answer to a command goes.
pub(crate) enum Reply<I: crate::CollectionId, T: crate::Time> {
    Created(Answer<Vec<Collection<I, T>>, CreateError<I, T>>),
    Dropped(Answer<(), DropError<I>>),
    PoliciesSet(Answer<(), SetPoliciesError<I>>),
    UppersReported(Answer<(), ReportError<I, T>>),
    Acquired(Answer<Vec<ReadHold<I, T>>, AcquireError<I, T>>),
    AcquiredOne(Answer<ReadHold<I, T>, AcquireError<I, T>>),
    Waited(Answer<Frontiers<T>, WaitError>),
    Frontiers(Answer<Vec<Frontiers<T>>, LookupError<I>>),
    Explained(Answer<Explanation<I, T>, LookupError<I>>),
    Holds(Answer<Vec<Option<u64>>, StopReason>),
    Checked(Answer<(), CreateError<I, T>>),
    ShardsKept(Answer<(), StopReason>),
}
