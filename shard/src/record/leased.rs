//! Leased readers: commands of readers, and of those that watch them.

use lowwater::{Since, Time};

use crate::id::{ReaderId, SeqNo};

use super::critical::compare;
use super::{Decision, Downgraded, Leased, SinceChange, SinceRecord};

/// The lease has lapsed and the reader was expired, or it was never registered. What it kept
/// readable may be gone: register another reader, and look where its since is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reader {reader} has lost its lease")]
pub struct LeaseLost {
    /// The reader.
    pub reader: ReaderId,
}

/// A reader of this name is registered already; draw another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reader {0} is registered already")]
pub struct ReaderExists(pub ReaderId);

impl<T: Time> SinceRecord<T> {
    /// Registers a leased reader with the shard's since, and says where that is.
    ///
    /// `reads_from` is the version of the data that was the latest at some time before; read it
    /// again afterwards. Parts that it refers to, or a later one, stay as long as the reader does.
    /// A tombstone gives `[]` and registers nobody.
    ///
    /// # Errors
    ///
    /// If the name is in use.
    pub fn register_leased(
        &self,
        reader: ReaderId,
        lease_ms: u64,
        reads_from: SeqNo,
    ) -> Result<Decision<SinceChange<T>, Since<T>>, ReaderExists> {
        let since = self.since().clone();
        if self.is_buried() {
            return Ok(Decision::unchanged(since));
        }
        if self.leased().contains_key(&reader) {
            return Err(ReaderExists(reader));
        }
        let registered = Leased {
            since: since.clone(),
            lease_ms,
            renewals: 0,
            reads_from,
        };
        Ok(Decision::change(
            SinceChange::Leased(reader, registered),
            since,
        ))
    }

    /// Renews a lease. On a tombstone nothing happens.
    ///
    /// # Errors
    ///
    /// If it has lapsed: there is no way back.
    pub fn renew(&self, reader: ReaderId) -> Result<Decision<SinceChange<T>, ()>, LeaseLost> {
        if self.is_buried() {
            return Ok(Decision::unchanged(()));
        }
        let renewed = self.renewed(reader)?;
        Ok(Decision::change(SinceChange::Leased(reader, renewed), ()))
    }

    /// Moves a leased since, and what the reader may read, and renews the lease.
    ///
    /// A since that is behind or incomparable moves nothing and is told so; neither does a version
    /// go back. On a tombstone nothing happens.
    ///
    /// # Errors
    ///
    /// If the lease has lapsed.
    pub fn downgrade_leased(
        &self,
        reader: ReaderId,
        since: &Since<T>,
        reads_from: SeqNo,
    ) -> Result<Decision<SinceChange<T>, Downgraded<T>>, LeaseLost> {
        if self.is_buried() {
            return Ok(Decision::unchanged(compare(self.since(), since)));
        }
        let mut renewed = self.renewed(reader)?;
        let outcome = compare(&renewed.since, since);
        if outcome == Downgraded::Moved {
            renewed.since = since.clone();
        }
        renewed.reads_from = renewed.reads_from.max(reads_from);
        Ok(Decision::change(
            SinceChange::Leased(reader, renewed),
            outcome,
        ))
    }

    /// Lets a reader leave by itself. Nothing happens if it has left, or was expired.
    pub fn leave(&self, reader: ReaderId) -> Decision<SinceChange<T>, ()> {
        if self.leased().contains_key(&reader) {
            Decision::change(SinceChange::Left(vec![reader]), ())
        } else {
            Decision::unchanged(())
        }
    }

    /// Expires those of these readers that have not renewed since they were seen at this number of
    /// renewals; says which.
    ///
    /// All at once, so that the since is recomputed when the last of them has gone.
    pub fn expire(&self, seen: &[(ReaderId, u64)]) -> Decision<SinceChange<T>, Vec<ReaderId>> {
        let mut lapsed: Vec<ReaderId> = seen
            .iter()
            .filter(|(reader, renewals)| {
                let leased = self.leased().get(reader);
                leased.is_some_and(|leased| leased.renewals == *renewals)
            })
            .map(|(reader, _)| *reader)
            .collect();
        lapsed.sort_unstable();
        lapsed.dedup();
        if lapsed.is_empty() {
            Decision::unchanged(lapsed)
        } else {
            Decision::change(SinceChange::Left(lapsed.clone()), lapsed)
        }
    }

    fn renewed(&self, reader: ReaderId) -> Result<Leased<T>, LeaseLost> {
        let leased = self.leased().get(&reader).ok_or(LeaseLost { reader })?;
        // Renewed every millisecond it would take half a billion years to run out.
        let renewals = leased.renewals.saturating_add(1);
        Ok(Leased {
            renewals,
            ..leased.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::*;

    const SECOND: ReaderId = ReaderId::new(78);

    fn registered<T: TestTime>() -> Machine<SinceRecord<T>> {
        let mut shard = Machine::new();
        shard.register(LEASED);
        shard
    }

    for_both_times! {
        fn a_leased_reader_registers_with_the_shards_since<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.downgrade_leased(LEASED, &since(5));
            let at = shard.accept(|record| record.register_leased(SECOND, 1000, SeqNo::FIRST));
            assert_eq!(at, since(5));
            assert_eq!(*shard.record.since(), since(5));
        }

        fn a_name_in_use_is_refused<T: TestTime>() {
            let refused = registered::<T>()
                .record
                .register_leased(LEASED, 1000, SeqNo::FIRST);
            assert_eq!(refused, Err(ReaderExists(LEASED)));
        }

        fn a_lease_is_renewed_by_a_counter_and_by_downgrades<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.accept(|record| record.renew(LEASED));
            assert_eq!(shard.record.leased()[&LEASED].renewals, 1);
            shard.downgrade_leased(LEASED, &since(5));
            assert_eq!(shard.record.leased()[&LEASED].renewals, 2);
        }

        fn a_reader_expires_only_if_its_counter_has_not_moved<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.accept(|record| record.renew(LEASED));
            shard.untouched_by(|record| record.expire(&[(LEASED, 0)]));
            assert_eq!(shard.obey(|record| record.expire(&[(LEASED, 1)])), [LEASED]);
            assert!(shard.record.leased().is_empty());
            shard.untouched_by(|record| record.expire(&[(LEASED, 1)]));
        }

        fn two_that_expire_together_leave_the_since_to_those_that_stay<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.register(SECOND);
            let third = ReaderId::new(79);
            shard.register(third);
            shard.downgrade_leased(third, &since(5));
            assert_eq!(*shard.record.since(), Since::minimum());
            let seen = [(LEASED, 0), (SECOND, 0), (LEASED, 0)];
            assert_eq!(shard.obey(|record| record.expire(&seen)), [LEASED, SECOND]);
            assert_eq!(*shard.record.since(), since(5));
        }

        fn after_expiry_renewing_and_downgrading_are_refused<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.obey(|record| record.expire(&[(LEASED, 0)]));
            let lost = LeaseLost { reader: LEASED };
            assert_eq!(shard.record.renew(LEASED), Err(lost));
            let refused = shard.record.downgrade_leased(LEASED, &since(5), SeqNo::FIRST);
            assert_eq!(refused, Err(lost));
        }

        fn the_since_stays_where_it_is_when_nobody_is_left<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.downgrade_leased(LEASED, &since(5));
            shard.obey(|record| record.leave(LEASED));
            assert_eq!(*shard.record.since(), since(5));
            shard.untouched_by(|record| record.leave(LEASED));
        }

        fn a_leased_since_behind_moves_nothing_and_says_so<T: TestTime>() {
            let mut shard = registered::<T>();
            shard.downgrade_leased(LEASED, &since(5));
            assert_eq!(shard.downgrade_leased(LEASED, &since(4)), Downgraded::Kept(since(5)));
            assert_eq!(*shard.record.since(), since(5));
        }

        fn what_a_reader_may_read_never_goes_back<T: TestTime>() {
            let mut shard = registered::<T>();
            let reads_from = SeqNo::new(7);
            let downgrade = |record: &SinceRecord<T>, seqno| {
                record.downgrade_leased(LEASED, &since(1), seqno)
            };
            shard.accept(|record| downgrade(record, reads_from));
            shard.accept(|record| downgrade(record, SeqNo::new(3)));
            assert_eq!(shard.record.oldest_read(), Some(reads_from));
        }

        fn a_tombstone_takes_the_commands_of_readers_as_harmless_no_ops<T: TestTime>() {
            let shard = buried::<T>();
            let first = SeqNo::FIRST;
            shard.untouched_by(|record| record.register_leased(LEASED, 1, first).unwrap());
            shard.untouched_by(|record| record.renew(LEASED).unwrap());
            shard.untouched_by(|record| {
                record.downgrade_leased(LEASED, &since(3), first).unwrap()
            });
            shard.untouched_by(|record| record.leave(LEASED));
            shard.untouched_by(|record| record.expire(&[(LEASED, 0)]));
        }
    }

    #[test]
    fn a_leased_since_that_is_incomparable_moves_nothing_and_says_so() {
        let mut shard = registered::<Pair>();
        let at = sides(&[(3, 0), (0, 5)]);
        shard.downgrade_leased(LEASED, &at);
        for to in [&[(2, 2)][..], &[(4, 0), (0, 2)], &[(2, 4)]] {
            let kept = shard.downgrade_leased(LEASED, &sides(to));
            assert_eq!(kept, Downgraded::Kept(at.clone()));
            assert_eq!(*shard.record.since(), at);
        }
        assert_eq!(shard.record.leased()[&LEASED].renewals, 4, "it is renewed");
    }

    #[test]
    fn the_meet_of_incomparable_leased_and_critical_sinces_is_the_shards_since() {
        let mut shard = registered::<Pair>();
        let (critical, epoch) = (ReaderId::new(1), crate::id::Epoch::new(1));
        shard.obey(|record| record.open_critical(critical, epoch));
        shard.downgrade_leased(LEASED, &sides(&[(3, 0), (1, 5)]));
        assert_eq!(*shard.record.since(), Since::minimum());
        shard.downgrade(critical, epoch, &sides(&[(2, 4)]));
        assert_eq!(*shard.record.since(), sides(&[(3, 0), (1, 5), (2, 4)]));
        shard.downgrade(critical, epoch, &sides(&[(4, 5)]));
        assert_eq!(*shard.record.since(), sides(&[(3, 0), (1, 5)]));
        shard.obey(|record| record.leave(LEASED));
        assert_eq!(*shard.record.since(), sides(&[(4, 5)]));
    }
}
