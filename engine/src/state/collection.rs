//! What the engine knows of one collection.

use std::mem;

use smallvec::SmallVec;
use timely::PartialOrder;

use crate::command::ReportError;
use crate::frontier::{Frontiers, Since, Time, Upper};
use crate::id::{Key, ShardId};
use crate::policy::ReadPolicy;

use super::capabilities::Capabilities;
use super::graph::Links;
use super::lapse::Floor;

/// One incarnation of a collection, from its creation until its since is empty.
#[derive(Debug)]
pub(crate) struct Collection<I, T> {
    pub(crate) key: Key,
    /// All that keeps the collection readable: the implied capability, cells that were retired with
    /// pins on them, counted holds, and one for each dependent that is not sealed, at its since.
    pub(crate) capabilities: Capabilities<T>,
    /// The implied capability. Empty iff the collection was dropped and its turn is over.
    pub(crate) implied: Since<T>,
    /// The planned since: the frontier of `capabilities` when the last turn ended. All that is
    /// counted is at or after it, so whoever holds a time can read it.
    pub(crate) since: Since<T>,
    pub(crate) upper: Upper<T>,
    /// The greatest since that storage has confirmed; the planned one where there is no shard.
    pub(crate) durable_since: Since<T>,
    /// None: dropped.
    pub(crate) policy: Option<ReadPolicy<T>>,
    /// Slots. None occurs twice; empty once the collection is sealed.
    pub(crate) dependencies: SmallVec<[u32; 2]>,
    /// Holds that are counted one by one, whatever they hold.
    pub(crate) holds: u32,
    /// How many collections have this one among their `dependencies`.
    pub(crate) dependents: u32,
    pub(crate) links: Links,
    /// How far the wish to make `since` durable has come.
    pub(crate) wish: Wish,
    /// The policy has something new to look at: another upper, or it is new itself.
    pub(crate) due: bool,
    /// The frontiers differ from what was published.
    pub(crate) changed: bool,
    /// Somebody waits for the frontiers to change.
    pub(crate) watched: bool,
    pub(crate) shard: Option<ShardId>,
    /// Others have the shard too, or had it.
    pub(crate) shared: bool,
    /// A lease has lapsed by which it was kept readable; boxed, for that is rare.
    pub(crate) floor: Option<Box<Floor<T>>>,
    pub(crate) version: u64,
    pub(crate) id: I,
}

/// What the durable since lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing: it is the planned one, or there is no shard.
    Granted,
    /// It will be asked for when the interval is over.
    Queued,
    /// It has been asked for.
    Asked,
    /// It has been asked for, and the since has moved on in between.
    AskedAndQueued,
}

impl<I, T: Time> Collection<I, T> {
    pub(crate) fn frontiers(&self) -> Frontiers<T> {
        Frontiers {
            upper: self.upper.clone(),
            implied: self.implied.clone(),
            since: self.since.clone(),
            durable_since: self.durable_since.clone(),
            version: self.version,
        }
    }

    /// Moves the upper to `reported`, and leaves there where it was. Reports may come late: then it
    /// stays where it is.
    ///
    /// # Errors
    ///
    /// The two are incomparable. Nothing has changed then.
    pub(crate) fn exchange_upper(
        &mut self,
        reported: &mut Upper<T>,
    ) -> Result<(), ReportError<I, T>>
    where
        I: Copy,
    {
        if PartialOrder::less_equal(&self.upper, reported) {
            mem::swap(&mut self.upper, reported);
        } else if PartialOrder::less_equal(reported, &self.upper) {
            reported.clone_from(&self.upper);
        } else {
            return Err(ReportError::Incomparable {
                collection: self.id,
                upper: self.upper.clone(),
            });
        }
        Ok(())
    }

    /// From when on it can be read, a lease that has lapsed in this turn included.
    pub(crate) fn readable(&self) -> Since<T> {
        match &self.floor {
            Some(floor) => self.since.join(&floor.since),
            None => self.since.clone(),
        }
    }

    /// Whether a hold's time counts: false where it was revoked.
    pub(crate) fn counts(&self, time: &T) -> bool {
        let floor = self.floor.as_ref();
        floor.is_none_or(|floor| floor.since.can_read(time))
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.policy.is_none()
    }
}
