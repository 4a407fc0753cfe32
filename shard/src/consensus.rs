//! Logs of versions under compare-and-set: where records are durable.
//!
//! A store keeps one log per [`LogId`]; the versions of a log are numbered from 1 without gaps. To
//! write is to offer the version after the one that was seen: it is taken if nobody else was
//! faster. Old versions are truncated from the front; the latest one always stays. A store never
//! looks into the bytes.
//!
//! Many versions are written in one transaction, with an outcome for each: that is what makes it
//! cheap to move ten thousand sinces. One more record, the store's [`Fence`], says which controller
//! is in charge, and is checked in the same transaction as what a controller writes.

mod trouble;
mod hints;
mod memory;
pub mod embedded;
pub mod postgres;
pub mod unreliable;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::id::{Epoch, Incarnation, LogId, SeqNo};

pub use hints::{Changes, Hint};
pub use memory::MemoryConsensus;
pub use trouble::ConsensusError;

/// What a store answers, some time. To drop it gives up the answer, not the request.
pub type Answer<X> = Pin<Box<dyn Future<Output = Result<X, ConsensusError>> + Send>>;

/// A store of logs.
///
/// The methods begin at once, or when the answer is first polled, and may be called many at a time.
/// Trouble is [determinate](ConsensusError::is_determinate) or not: for reads it does not matter.
pub trait Consensus: fmt::Debug + Send + Sync + 'static {
    /// The latest version of each of these logs; `None` for one that has none.
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>>;

    /// Offers versions, each for the place behind the one that its writer has seen, all in one
    /// transaction.
    ///
    /// Each is taken or not by itself, in no order. Of several for one place of one log at most one
    /// is taken: better offer one. With a fence, all
    /// are refused unless it is the store's.
    ///
    /// # Durability
    ///
    /// What was [taken](Outcome::Taken) has survived a crash of this process, and of the machine.
    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>>;

    /// The versions of logs from a number on, in order; those that were truncated are missing.
    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>>;

    /// Forgets the versions of logs before a number; nothing of a log that does not reach it.
    ///
    /// Whoever has seen only versions that are forgotten has to read the log anew, so keep some.
    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()>;

    /// The names of logs that have versions, in order, at most this many, those behind `after`.
    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>>;

    /// Which controller is in charge; `None` before the first.
    fn fence(&self) -> Answer<Option<Fence>>;

    /// Puts a controller in charge: what others write is refused from then on, and nothing that
    /// they were in the middle of can still land.
    ///
    /// Refused if a higher epoch is in charge, or another incarnation with the same one. To ask
    /// again with the same fence does no harm, so an unknown outcome is resolved by asking again.
    ///
    /// # Durability
    ///
    /// When this returns, the fence has survived a crash.
    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>>;

    /// Which logs change, by this process or others, from now on.
    fn changes(&self) -> Changes;
}

/// A version of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub seqno: SeqNo,
    /// What was written.
    pub data: Bytes,
}

/// A version that is offered to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The log.
    pub log: LogId,
    /// The latest version that the writer has seen; `None` for none at all.
    pub seen: Option<SeqNo>,
    /// What is to be the next version.
    pub data: Bytes,
    /// The versions before this one are no longer needed once this offer is taken: then, and only
    /// then, they are forgotten, in the same transaction. Never the version that is offered.
    ///
    /// An offer that is not taken forgets nothing: its writer has not seen what stands in its place,
    /// which may need what is before it.
    pub keep_from: Option<SeqNo>,
}

impl Offer {
    /// Which version it would be.
    pub fn seqno(&self) -> SeqNo {
        self.seen.map_or(SeqNo::FIRST, SeqNo::next)
    }
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the version that it wanted to be.
    Taken,
    /// The latest version is not the one that its writer has seen.
    Stale,
}

/// Where to begin to read a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The log.
    pub log: LogId,
    /// The first version of interest.
    pub from: SeqNo,
}

/// How much of a log is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The log.
    pub log: LogId,
    /// The first version that is still needed.
    pub before: SeqNo,
}

/// Names the controller that is in charge of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Its epoch; the higher one wins.
    pub epoch: Epoch,
    /// Tells two that claim one epoch apart.
    pub incarnation: Incarnation,
}

impl Fence {
    /// Whether a store that `current` is in charge of lets this one take over.
    pub(crate) fn may_replace(&self, current: Option<Fence>) -> Result<(), Fenced> {
        match current {
            Some(current) if current != *self && current.epoch >= self.epoch => {
                Err(Fenced { by: Some(current) })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The controller is not, or no longer, in charge of the store: nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// Who is; `None` if nobody ever was.
    pub by: Option<Fence>,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some(fence) => write!(f, "a controller with epoch {} is in charge", fence.epoch),
            None => f.write_str("no controller is in charge"),
        }
    }
}

impl std::error::Error for Fenced {}
