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

    /// Whether it matters to the change where the since is.
    fn is_decided_by_the_since(&self, change: &SinceChange<T>) -> bool {
        match change {
            SinceChange::Critical(reader, _) => !self.critical.contains_key(reader),
            SinceChange::Leased(reader, _) => !self.leased.contains_key(reader),
            // Once nobody is left, it stays where it is.
            SinceChange::Left(_) | SinceChange::Buried => true,
        }
    }

    /// Changes the readers; true iff the since may have to move then.
    fn change(&mut self, change: &SinceChange<T>) -> Result<bool, Misfit> {
        fits(!self.buried, "a tombstone changes no more")?;
        let had_no_readers = self.has_no_readers();
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
                let old = self.critical.insert(*reader, next.clone());
                Ok(old.map_or(had_no_readers, |old| {
                    old.since != next.since && self.is_held_by(&old.since)
                }))
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
                let old = self.leased.insert(*reader, next.clone());
                Ok(old.map_or(had_no_readers, |old| {
                    old.since != next.since && self.is_held_by(&old.since)
                }))
            }
            SinceChange::Left(readers) => {
                let mut may_move = false;
                for reader in readers {
                    let left = self.leased.remove(reader);
                    let left = left.ok_or(Misfit("a reader leaves that is not there"))?;
                    may_move |= self.is_held_by(&left.since);
                }
                Ok(may_move)
            }
            SinceChange::Buried => {
                fits(self.since.is_gone(), "the shard can still be read")?;
                self.critical.clear();
                self.leased.clear();
                self.buried = true;
                Ok(false)
            }
        }
    }

    /// Whether the since is where it is by this one, alone or with others: where none of its times is
    /// among the since's, each is beyond one that is another's, and stays so wherever it goes.
    fn is_held_by(&self, reader: &Since<T>) -> bool {
        let mut times = reader.frontier().iter();
        times.any(|time| self.since.frontier().iter().any(|held| held == time))
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

    fn apply(&mut self, change: &SinceChange<T>, seqno: SeqNo) -> Result<(), Misfit> {
        self.apply_all(std::slice::from_ref(change), seqno)
    }

    /// Looks where the since goes once for all of them: who renews a thousand leases does not look at
    /// a thousand readers for each.
    fn apply_all(&mut self, changes: &[SinceChange<T>], _seqno: SeqNo) -> Result<(), Misfit> {
        let mut may_move = false;
        for change in changes {
            if may_move && self.is_decided_by_the_since(change) {
                self.advance();
                may_move = false;
            }
            may_move |= self.change(change)?;
        }
        if may_move {
            self.advance();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Downgraded;
    use crate::record::testing::*;

    const SECOND: ReaderId = ReaderId::new(78);

    for_both_times! {
        fn who_renews_or_moves_ahead_of_the_since_is_no_reason_to_look_at_all<T: TestTime>() {
            let mut shard = Machine::<SinceRecord<T>>::new();
            shard.register(LEASED);
            shard.register(SECOND);
            assert_eq!(shard.downgrade_leased(SECOND, &since(5)), Downgraded::Moved);
            let may_move = |reader, to: u64| {
                let mut record = shard.record.clone();
                let moved = record.downgrade_leased(reader, &since(to), SeqNo::FIRST);
                record.change(&moved.unwrap().changes[0])
            };
            assert_eq!(may_move(LEASED, 0), Ok(false), "it is renewed");
            assert_eq!(may_move(SECOND, 5), Ok(false), "it is renewed");
            assert_eq!(may_move(SECOND, 7), Ok(false), "another holds the since");
            assert_eq!(may_move(LEASED, 7), Ok(true));
        }

        fn the_shards_since_never_goes_back<T: TestTime>() {
            let mut shard = Machine::<SinceRecord<T>>::new();
            shard.register(LEASED);
            shard.downgrade_leased(LEASED, &since(5));
            let leased = Leased {
                since: since(4),
                lease_ms: 1,
                renewals: 9,
                reads_from: SeqNo::FIRST,
            };
            let critical = Critical { epoch: Epoch::new(1), since: since(4) };
            let back = [
                SinceChange::Leased(LEASED, leased.clone()),
                SinceChange::Leased(SECOND, leased),
                SinceChange::Critical(SECOND, critical),
            ];
            for change in back {
                let mut record = shard.record.clone();
                assert!(record.apply(&change, SeqNo::FIRST).is_err(), "{change:?}");
            }
            // Nor when all have left, and others come.
            shard.obey(|record| record.leave(LEASED));
            assert_eq!(shard.register(SECOND), since(5));
            assert_eq!(*shard.record.since(), since(5));
        }
    }

    /// What a reader does: it comes if it is not there, goes, or moves on by these.
    type Deed = (u128, Option<Vec<(u64, u64)>>);

    fn deed() -> impl Strategy<Value = Deed> {
        let times = prop::collection::vec((0..6_u64, 0..6_u64), 1..3);
        (0..4_u128, prop::option::weighted(0.9, times))
    }

    proptest! {
        #[test]
        fn the_since_is_the_meet_of_all_readers_however_many_change_at_once(
            versions in prop::collection::vec(prop::collection::vec(deed(), 1..6), 1..8),
        ) {
            let mut at_once = SinceRecord::<Pair>::initial();
            let mut one_by_one = SinceRecord::<Pair>::initial();
            for deeds in versions {
                let mut changes = Vec::new();
                for (reader, to) in deeds {
                    let reader = ReaderId::new(reader);
                    let decided = match (one_by_one.leased().get(&reader), to) {
                        (None, _) => {
                            let come = one_by_one.register_leased(reader, 1, SeqNo::FIRST);
                            come.unwrap().changes
                        }
                        (Some(_), None) => one_by_one.leave(reader).changes,
                        (Some(old), Some(to)) => {
                            let to = old.since.join(&sides(&to));
                            let moved = one_by_one.downgrade_leased(reader, &to, SeqNo::FIRST);
                            moved.unwrap().changes
                        }
                    };
                    for change in decided {
                        one_by_one.apply(&change, SeqNo::FIRST).unwrap();
                        changes.push(change);
                    }
                    let meet = one_by_one.meet();
                    prop_assert!(meet.is_none_or(|meet| meet == *one_by_one.since()));
                }
                at_once.apply_all(&changes, SeqNo::FIRST).unwrap();
                prop_assert_eq!(&at_once, &one_by_one);
            }
        }
    }
}
