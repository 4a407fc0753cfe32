//! Critical sinces: commands of a controller.

use lowwater::{Since, Time};
use timely::PartialOrder;

use crate::id::{Epoch, ReaderId};

use super::{Critical, Decision, SinceChange, SinceRecord};

/// A critical since as it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedCritical<T> {
    /// Who drives it. Another epoch than the one it was opened with is that of whoever drove it so
    /// far: to take over, downgrade with it as the expected one.
    pub epoch: Epoch,
    /// What it keeps readable; `[]` on a tombstone.
    pub since: Since<T>,
}

/// What a downgrade came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downgraded<T> {
    /// The reader's since is the one asked for.
    Moved,
    /// The reader's since is not behind or equal to the one asked for: it stays where it is.
    Kept(Since<T>),
}

/// Why a critical since was not touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CriticalError<T> {
    /// The shard has no such critical reader: open it first.
    #[error("critical reader {0} is not registered")]
    UnknownReader(ReaderId),
    /// Another incarnation drives it.
    #[error("the epoch is {actual}, not the expected one; the since is {since:?}")]
    EpochMismatch {
        /// The epoch that it has.
        actual: Epoch,
        /// The since that it has.
        since: Since<T>,
    },
    /// Epochs do not go back.
    #[error("the epoch would go back from {from} to {to}")]
    EpochGoesBack {
        /// The epoch that it has.
        from: Epoch,
        /// The one asked for.
        to: Epoch,
    },
}

impl<T: Time> SinceRecord<T> {
    /// Opens a critical since: registers it with the shard's since where it is absent.
    ///
    /// It never expires. A tombstone opens as since `[]`, and registers nobody.
    pub fn open_critical(
        &self,
        reader: ReaderId,
        epoch: Epoch,
    ) -> Decision<SinceChange<T>, OpenedCritical<T>> {
        if let Some(Critical { epoch, since }) = self.critical().get(&reader).cloned() {
            return Decision::unchanged(OpenedCritical { epoch, since });
        }
        let since = self.since().clone();
        let opened = OpenedCritical {
            epoch,
            since: since.clone(),
        };
        if self.is_buried() {
            Decision::unchanged(opened)
        } else {
            let registered = Critical { epoch, since };
            Decision::change(SinceChange::Critical(reader, registered), opened)
        }
    }

    /// Moves a critical since that `expected` drives, and stamps it with `next`.
    ///
    /// What is behind or incomparable moves nothing and is told so; the epoch is stamped all the
    /// same. On a tombstone nothing happens.
    ///
    /// # Errors
    ///
    /// If another epoch drives it, with the actual one.
    pub fn compare_and_downgrade(
        &self,
        reader: ReaderId,
        expected: Epoch,
        next: Epoch,
        since: &Since<T>,
    ) -> Result<Decision<SinceChange<T>, Downgraded<T>>, CriticalError<T>> {
        if self.is_buried() {
            return Ok(Decision::unchanged(compare(self.since(), since)));
        }
        let Some(critical) = self.critical().get(&reader) else {
            return Err(CriticalError::UnknownReader(reader));
        };
        if critical.epoch != expected {
            return Err(CriticalError::EpochMismatch {
                actual: critical.epoch,
                since: critical.since.clone(),
            });
        }
        if next < expected {
            return Err(CriticalError::EpochGoesBack {
                from: expected,
                to: next,
            });
        }
        let outcome = compare(&critical.since, since);
        let stamped = Critical {
            epoch: next,
            since: match &outcome {
                Downgraded::Moved => since.clone(),
                Downgraded::Kept(kept) => kept.clone(),
            },
        };
        if stamped == *critical {
            Ok(Decision::unchanged(outcome))
        } else {
            Ok(Decision::change(
                SinceChange::Critical(reader, stamped),
                outcome,
            ))
        }
    }
}

/// What comes of a since at `from` when it is asked to go `to`.
pub(super) fn compare<T: Time>(from: &Since<T>, to: &Since<T>) -> Downgraded<T> {
    if PartialOrder::less_equal(from, to) {
        Downgraded::Moved
    } else {
        Downgraded::Kept(from.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::*;

    const ME: ReaderId = ReaderId::new(1);
    const OTHER: ReaderId = ReaderId::new(2);
    const LOW: Epoch = Epoch::new(3);
    const HIGH: Epoch = Epoch::new(4);

    fn opened<T: TestTime>() -> Machine<SinceRecord<T>> {
        let mut shard = Machine::<SinceRecord<T>>::new();
        let opened = shard.obey(|record| record.open_critical(ME, LOW));
        assert_eq!(opened.since, Since::minimum());
        shard
    }

    for_both_times! {
        fn a_critical_since_registers_with_the_shards_since_if_absent<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.downgrade(ME, LOW, &since(5));
            let second = shard.obey(|record| record.open_critical(OTHER, HIGH));
            assert_eq!(second, OpenedCritical { epoch: HIGH, since: since(5) });
        }

        fn opening_again_changes_nothing_and_names_who_drives_it<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.downgrade(ME, LOW, &since(5));
            shard.untouched_by(|record| record.open_critical(ME, HIGH));
            let again = shard.obey(|record| record.open_critical(ME, HIGH));
            assert_eq!(again, OpenedCritical { epoch: LOW, since: since(5) });
        }

        fn a_tombstone_opens_as_the_empty_since_without_registering<T: TestTime>() {
            let mut shard = buried::<T>();
            shard.untouched_by(|record| record.open_critical(OTHER, HIGH));
            let opened = shard.obey(|record| record.open_critical(OTHER, HIGH));
            assert!(opened.since.is_gone());
            assert!(shard.record.critical().is_empty());
        }

        fn another_epoch_is_refused_with_the_actual_one_and_nothing_changes<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.downgrade(ME, LOW, &since(5));
            let refused = shard.record.compare_and_downgrade(ME, HIGH, HIGH, &since(9));
            let error = CriticalError::EpochMismatch { actual: LOW, since: since(5) };
            assert_eq!(refused, Err(error));
        }

        fn a_later_or_equal_since_is_set<T: TestTime>() {
            let mut shard = opened::<T>();
            assert_eq!(shard.downgrade(ME, LOW, &since(5)), Downgraded::Moved);
            assert_eq!(*shard.record.since(), since(5));
            assert_eq!(shard.downgrade(ME, LOW, &since(5)), Downgraded::Moved);
            assert_eq!(shard.downgrade(ME, LOW, &Since::gone()), Downgraded::Moved);
            assert!(shard.record.since().is_gone());
        }

        fn a_since_behind_moves_nothing_and_says_so_but_the_epoch_is_stamped<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.downgrade(ME, LOW, &since(5));
            let outcome = shard
                .accept(|record| record.compare_and_downgrade(ME, LOW, HIGH, &since(4)));
            assert_eq!(outcome, Downgraded::Kept(since(5)));
            let critical = Critical { epoch: HIGH, since: since(5) };
            assert_eq!(shard.record.critical()[&ME], critical);
        }

        fn an_equal_downgrade_by_the_same_epoch_writes_nothing<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.downgrade(ME, LOW, &since(5));
            shard.untouched_by(|record| {
                record.compare_and_downgrade(ME, LOW, LOW, &since(5)).unwrap()
            });
        }

        fn an_epoch_never_goes_back<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.accept(|record| record.compare_and_downgrade(ME, LOW, HIGH, &since(1)));
            let refused = shard.record.compare_and_downgrade(ME, HIGH, LOW, &since(2));
            assert_eq!(refused, Err(CriticalError::EpochGoesBack { from: HIGH, to: LOW }));
        }

        fn a_reader_that_was_never_opened_cannot_downgrade<T: TestTime>() {
            let refused = opened::<T>()
                .record
                .compare_and_downgrade(OTHER, LOW, LOW, &since(9));
            assert_eq!(refused, Err(CriticalError::UnknownReader(OTHER)));
        }

        fn a_downgrade_of_a_tombstone_is_a_harmless_no_op<T: TestTime>() {
            let mut shard = buried::<T>();
            shard.untouched_by(|record| {
                record.compare_and_downgrade(ME, HIGH, HIGH, &Since::gone()).unwrap()
            });
            assert_eq!(shard.downgrade(ME, LOW, &Since::gone()), Downgraded::Moved);
            assert_eq!(shard.downgrade(ME, LOW, &since(7)), Downgraded::Kept(Since::gone()));
        }

        fn the_shards_since_is_the_meet_of_all_critical_and_leased_sinces<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.obey(|record| record.open_critical(OTHER, LOW));
            shard.register(LEASED);
            shard.downgrade(ME, LOW, &since(5));
            assert_eq!(*shard.record.since(), Since::minimum());
            shard.downgrade(OTHER, LOW, &since(7));
            assert_eq!(*shard.record.since(), Since::minimum());
            shard.downgrade_leased(LEASED, &since(6));
            assert_eq!(*shard.record.since(), since(5));
            shard.downgrade(ME, LOW, &since(8));
            assert_eq!(*shard.record.since(), since(6));
        }
    }

    #[test]
    fn an_incomparable_since_moves_nothing_and_says_so_but_the_epoch_is_stamped() {
        let mut shard = opened::<Pair>();
        shard.downgrade(ME, LOW, &sides(&[(5, 2)]));
        let outcome =
            shard.accept(|record| record.compare_and_downgrade(ME, LOW, HIGH, &sides(&[(2, 5)])));
        assert_eq!(outcome, Downgraded::Kept(sides(&[(5, 2)])));
        assert_eq!(shard.record.critical()[&ME].epoch, HIGH);
    }

    #[test]
    fn the_meet_of_incomparable_sinces_is_the_shards_since() {
        let mut shard = opened::<Pair>();
        shard.obey(|record| record.open_critical(OTHER, LOW));
        shard.downgrade(ME, LOW, &sides(&[(5, 2)]));
        shard.downgrade(OTHER, LOW, &sides(&[(2, 5)]));
        let meet = sides(&[(5, 2), (2, 5)]);
        assert!(PartialOrder::less_equal(shard.record.since(), &meet));
        assert!(PartialOrder::less_equal(&meet, shard.record.since()));
    }
}
