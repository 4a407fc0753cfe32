//! Who keeps a shard readable, from when on.

use std::collections::BTreeMap;

use lowwater::{Since, Time};
use timely::PartialOrder;

use crate::id::{Epoch, LogKind, ReaderId, SeqNo};

use super::{Misfit, Record, fits};

/// Who keeps a shard readable, from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinceRecord<T> {
    /// The meet of all readers' sinces; stays where it is when there are none. Never goes back.
    since: Since<T>,
    critical: BTreeMap<ReaderId, Critical<T>>,
    leased: BTreeMap<ReaderId, Leased<T>>,
    /// The shard is gone: the since is `[]`, there are no readers, nothing changes any more.
    buried: bool,
}

/// A reader that never expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Critical<T> {
    /// Which incarnation of the controller drives it.
    pub epoch: Epoch,
    /// What it keeps readable.
    pub since: Since<T>,
}

/// A reader that is gone when it does not renew its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased<T> {
    /// What it keeps readable.
    pub since: Since<T>,
    /// How long it may be silent, in milliseconds of whoever watches it.
    pub lease_ms: u64,
    /// Grows with every renewal. Whoever sees it unchanged for the whole lease, by its own
    /// monotonic clock, may expire the reader.
    pub renewals: u64,
    /// It may read any version of the data from this one on, and the parts that they refer to.
    pub reads_from: SeqNo,
}

/// A change of a [`SinceRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinceChange<T> {
    /// A critical reader is registered, or is as this says now.
    Critical(ReaderId, Critical<T>),
    /// A leased reader is registered, or is as this says now.
    Leased(ReaderId, Leased<T>),
    /// These leased readers have left or have expired.
    Left(Vec<ReaderId>),
    /// The shard is gone.
    Buried,
}

impl<T: Time> SinceRecord<T> {
    /// Puts together what a full version says, and checks that it can be.
    pub(crate) fn from_parts(
        since: Since<T>,
        critical: BTreeMap<ReaderId, Critical<T>>,
        leased: BTreeMap<ReaderId, Leased<T>>,
        buried: bool,
    ) -> Result<Self, Misfit> {
        let record = SinceRecord {
            since,
            critical,
            leased,
            buried,
        };
        let held = record.meet();
        fits(
            held.is_none_or(|held| held == record.since),
            "the since is not the meet of the readers' sinces",
        )?;
        fits(
            !buried || record.since.is_gone() && record.has_no_readers(),
            "a tombstone has a since or readers",
        )?;
        Ok(record)
    }

    /// From when on the shard can be read.
    pub fn since(&self) -> &Since<T> {
        &self.since
    }

    /// The critical readers.
    pub fn critical(&self) -> &BTreeMap<ReaderId, Critical<T>> {
        &self.critical
    }

    /// The leased readers.
    pub fn leased(&self) -> &BTreeMap<ReaderId, Leased<T>> {
        &self.leased
    }

    /// True iff the shard is gone for good.
    pub fn is_buried(&self) -> bool {
        self.buried
    }

    /// The oldest version of the data that a reader may still read; `None` if nobody reads.
    pub fn oldest_read(&self) -> Option<SeqNo> {
        self.leased.values().map(|reader| reader.reads_from).min()
    }

    fn has_no_readers(&self) -> bool {
        self.critical.is_empty() && self.leased.is_empty()
    }

    /// The meet of all readers' sinces, if there are readers.
    fn meet(&self) -> Option<Since<T>> {
        let critical = self.critical.values().map(|reader| &reader.since);
        let leased = self.leased.values().map(|reader| &reader.since);
        let mut sinces = critical.chain(leased);
        let first = sinces.next()?.clone();
        Some(sinces.fold(first, |meet, since| meet.meet(since)))
    }

    /// Moves the since to where the readers let it, once all of them have changed.
    fn advance(&mut self) {
        if let Some(meet) = self.meet() {
            assert!(
                PartialOrder::less_equal(&self.since, &meet),
                "every reader's since is at or after the shard's, so their meet is"
            );
            self.since = meet;
        }
    }
}

impl<T: Time> Record for SinceRecord<T> {
    type Change = SinceChange<T>;

    const KIND: LogKind = LogKind::Since;

    fn initial() -> Self {
        SinceRecord {
            since: Since::minimum(),
            critical: BTreeMap::new(),
            leased: BTreeMap::new(),
            buried: false,
        }
    }

    fn apply(&mut self, change: &SinceChange<T>, _seqno: SeqNo) -> Result<(), Misfit> {
        fits(!self.buried, "a tombstone changes no more")?;
        match change {
            SinceChange::Critical(reader, next) => {
                let old = self.critical.get(reader);
                let from = old.map_or(&self.since, |old| &old.since);
                fits(
                    PartialOrder::less_equal(from, &next.since),
                    "a critical since goes back",
                )?;
                fits(
                    old.is_none_or(|old| old.epoch <= next.epoch),
                    "an epoch goes back",
                )?;
                self.critical.insert(*reader, next.clone());
            }
            SinceChange::Leased(reader, next) => {
                let old = self.leased.get(reader);
                let from = old.map_or(&self.since, |old| &old.since);
                fits(
                    PartialOrder::less_equal(from, &next.since),
                    "a leased since goes back",
                )?;
                fits(
                    old.is_none_or(|old| old.renewals < next.renewals),
                    "a lease is not renewed",
                )?;
                self.leased.insert(*reader, next.clone());
            }
            SinceChange::Left(readers) => {
                for reader in readers {
                    let left = self.leased.remove(reader);
                    fits(left.is_some(), "a reader leaves that is not there")?;
                }
            }
            SinceChange::Buried => {
                fits(self.since.is_gone(), "the shard can still be read")?;
                self.critical.clear();
                self.leased.clear();
                self.buried = true;
            }
        }
        self.advance();
        Ok(())
    }
}
