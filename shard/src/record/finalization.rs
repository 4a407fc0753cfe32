//! Giving up a shard that nobody can read or write any more, in steps that can each be repeated.
//!
//! In this order, whoever begins or goes on after a crash:
//!
//! 1. [`SinceRecord::release_abandoned`]: this controller's own sinces go to `[]`, whichever of its
//!    incarnations left them behind. Readers of others block.
//! 2. An empty batch from the upper to `[]` seals the shard.
//! 3. [`DataRecord::empty`], [`deletable`](DataRecord::deletable),
//!    [`swept`](DataRecord::swept), until there is nothing left, then [`DataRecord::bury`].
//! 4. [`SinceRecord::bury`]. Only this makes the shard a tombstone to those that open it, and only
//!    when it is durable the shard is finalized.

use lowwater::{Since, Time};

use crate::id::{Epoch, ReaderId};

use super::{Critical, DataChange, DataRecord, Decision, SinceChange, SinceRecord};

/// Why a shard cannot be given up yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked<T> {
    /// These others keep it readable.
    #[error("others can still read the shard: {0:?}")]
    Readers(Vec<ReaderId>),
    /// A controller with a higher epoch drives it.
    #[error("a controller with epoch {by} has taken over")]
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
    /// It can be read from this since on.
    #[error("the shard can still be read from {0:?} on")]
    Readable(Since<T>),
    /// It may still be written.
    #[error("the shard is not sealed")]
    NotSealed,
    /// There is something in it that has to be swept first.
    #[error("something is left in the shard")]
    NotEmpty,
}

/// What is left of a shard that is being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyStep {
    /// How many batches are left to give up.
    pub batches_left: usize,
}

/// The shard's log is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buried;

impl<T: Time> SinceRecord<T> {
    /// Moves this controller's critical since to `[]`, whichever lower epoch left it behind.
    ///
    /// A tombstone is released already, and so is a shard that it never opened.
    ///
    /// # Errors
    ///
    /// If a higher epoch drives it, or others can still read the shard, with their names; nothing
    /// moves then.
    pub fn release_abandoned(
        &self,
        reader: ReaderId,
        epoch: Epoch,
    ) -> Result<Decision<SinceChange<T>, ()>, Blocked<T>> {
        let mine = self.critical().get(&reader);
        if let Some(critical) = mine
            && critical.epoch > epoch
        {
            return Err(Blocked::Fenced { by: critical.epoch });
        }
        let others: Vec<ReaderId> = self.others_that_read(reader).collect();
        if !others.is_empty() {
            return Err(Blocked::Readers(others));
        }
        let released = Critical {
            epoch,
            since: Since::gone(),
        };
        Ok(match mine {
            Some(critical) if *critical != released => {
                Decision::change(SinceChange::Critical(reader, released), ())
            }
            // Where nobody ever reads, somebody has to say that nobody will.
            None if !self.since().is_gone() => {
                Decision::change(SinceChange::Critical(reader, released), ())
            }
            Some(_) | None => Decision::unchanged(()),
        })
    }

    fn others_that_read(&self, me: ReaderId) -> impl Iterator<Item = ReaderId> {
        let critical = self.critical().iter();
        let critical = critical.filter(|(_, critical)| !critical.since.is_gone());
        let leased = self.leased().iter();
        let leased = leased.filter(|(_, leased)| !leased.since.is_gone());
        let readers = critical.map(|(id, _)| *id).chain(leased.map(|(id, _)| *id));
        readers.filter(move |reader| *reader != me)
    }

    /// Makes the shard a tombstone, the last step of finalization. It may be repeated.
    ///
    /// # Errors
    ///
    /// If the shard can still be read.
    pub fn bury(&self) -> Result<Decision<SinceChange<T>, Buried>, Blocked<T>> {
        if self.is_buried() {
            Ok(Decision::unchanged(Buried))
        } else if !self.since().is_gone() {
            Err(Blocked::Readable(self.since().clone()))
        } else {
            Ok(Decision::change(SinceChange::Buried, Buried))
        }
    }
}

impl<T: Time> DataRecord<T> {
    /// Gives up the oldest batches, at most this many. It may be repeated.
    ///
    /// `since` is what the shard's [`SinceRecord`] says: once it is `[]`, it stays so.
    ///
    /// # Errors
    ///
    /// If the shard can still be read or written.
    pub fn empty(
        &self,
        batches_max: usize,
        since: &Since<T>,
    ) -> Result<Decision<DataChange<T>, EmptyStep>, Blocked<T>> {
        if !since.is_gone() {
            return Err(Blocked::Readable(since.clone()));
        }
        if !self.upper().is_sealed() {
            return Err(Blocked::NotSealed);
        }
        let batches = self.batches().len().min(batches_max);
        let step = EmptyStep {
            batches_left: self.batches().len() - batches,
        };
        if self.is_buried() || batches == 0 && self.is_emptying() {
            Ok(Decision::unchanged(step))
        } else {
            Ok(Decision::change(DataChange::Emptied(batches), step))
        }
    }

    /// Makes the log of data a tombstone, once there is nothing left in it. It may be repeated.
    ///
    /// # Errors
    ///
    /// If something is left, or the shard was not emptied.
    pub fn bury(&self) -> Result<Decision<DataChange<T>, Buried>, Blocked<T>> {
        if self.is_buried() {
            Ok(Decision::unchanged(Buried))
        } else if !self.is_emptying() || !self.batches().is_empty() || !self.garbage().is_empty() {
            Err(Blocked::NotEmpty)
        } else {
            Ok(Decision::change(DataChange::Buried, Buried))
        }
    }
}

#[cfg(test)]
mod tests {
    use lowwater::Upper;

    use super::*;
    use crate::id::{BatchId, PartId, SchemaId, SeqNo};
    use crate::record::testing::*;
    use crate::record::{
        AppendError, CompactError, Content, NewBatch, Record, Stored, Trim, UpperMismatch,
    };
    use crate::schema::Schema;

    const ME: ReaderId = ReaderId::new(1);
    const OTHER: ReaderId = ReaderId::new(2);
    const LOW: Epoch = Epoch::new(3);
    const HIGH: Epoch = Epoch::new(4);

    fn opened<T: TestTime>() -> Machine<SinceRecord<T>> {
        let mut shard = Machine::<SinceRecord<T>>::new();
        shard.obey(|record| record.open_critical(ME, LOW));
        shard
    }

    fn garbage<T: TestTime>(record: &DataRecord<T>) -> Vec<PartId> {
        let names = record.deletable(None);
        names.into_iter().map(|name| name.part).collect()
    }

    /// Three batches, each of one part, sealed.
    fn sealed<T: TestTime>() -> Machine<DataRecord<T>> {
        let mut shard = Machine::new();
        let schema = Schema::new(vec![]).unwrap();
        shard.accept(|record: &DataRecord<T>| record.register_schema(&schema));
        for number in 0..3 {
            let end = if number == 2 {
                Upper::sealed()
            } else {
                upper(number + 1)
            };
            let part = Content::Stored(Stored {
                part: PartId::new(number.into()),
                begun: SeqNo::NONE,
                schema: SchemaId::new(0),
                updates: 1,
                bytes: 1,
                checksum: None,
            });
            let batch = NewBatch::new(upper(number), end, &[T::at(number)], vec![part]).unwrap();
            shard.accept(|record| record.compare_and_append(batch));
        }
        shard
    }

    for_both_times! {
        fn a_since_left_behind_by_a_lower_epoch_is_moved<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.accept(|record| record.release_abandoned(ME, HIGH));
            assert!(shard.record.since().is_gone());
            assert_eq!(shard.record.critical()[&ME].epoch, HIGH);
            shard.untouched_by(|record| record.release_abandoned(ME, HIGH).unwrap());
        }

        fn a_since_of_a_higher_epoch_is_left_alone<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.accept(|record| record.compare_and_downgrade(ME, LOW, HIGH, &since(1)));
            let refused = shard.record.release_abandoned(ME, LOW);
            assert_eq!(refused, Err(Blocked::Fenced { by: HIGH }));
        }

        fn readers_of_others_block_and_are_named<T: TestTime>() {
            let mut shard = opened::<T>();
            shard.obey(|record| record.open_critical(OTHER, LOW));
            shard.register(LEASED);
            let refused = shard.record.release_abandoned(ME, HIGH);
            assert_eq!(refused, Err(Blocked::Readers(vec![OTHER, LEASED])));
            shard.downgrade(OTHER, LOW, &Since::gone());
            shard.obey(|record| record.leave(LEASED));
            shard.accept(|record| record.release_abandoned(ME, HIGH));
            assert!(shard.record.since().is_gone());
        }

        fn a_shard_that_was_never_opened_is_released<T: TestTime>() {
            let mut shard = Machine::<SinceRecord<T>>::new();
            shard.accept(|record| record.release_abandoned(ME, LOW));
            assert!(shard.record.since().is_gone());
        }

        fn only_a_shard_that_nobody_can_read_is_buried<T: TestTime>() {
            let mut shard = opened::<T>();
            assert_eq!(shard.record.bury(), Err(Blocked::Readable(since(0))));
            shard.downgrade(ME, LOW, &Since::gone());
            shard.accept(SinceRecord::bury);
            assert!(shard.record.is_buried());
            shard.untouched_by(|record| record.bury().unwrap());
            shard.untouched_by(|record| record.release_abandoned(ME, HIGH).unwrap());
        }

        fn only_a_shard_with_empty_since_and_upper_is_emptied<T: TestTime>() {
            let shard = sealed::<T>();
            assert_eq!(shard.record.empty(9, &since(5)), Err(Blocked::Readable(since(5))));
            let unsealed = DataRecord::<T>::initial();
            assert_eq!(unsealed.empty(9, &Since::gone()), Err(Blocked::NotSealed));
        }

        fn a_shard_is_emptied_in_small_steps_that_can_be_repeated<T: TestTime>() {
            let mut shard = sealed::<T>();
            let step = shard.accept(|record| record.empty(2, &Since::gone()));
            assert_eq!(step.batches_left, 1);
            assert_eq!(shard.record.bury(), Err(Blocked::NotEmpty));
            let step = shard.accept(|record| record.empty(2, &Since::gone()));
            assert_eq!(step.batches_left, 0);
            shard.untouched_by(|record| record.empty(2, &Since::gone()).unwrap());
            assert_eq!(shard.record.bury(), Err(Blocked::NotEmpty));
            let parts = garbage(&shard.record);
            assert_eq!(parts.len(), 3);
            shard.obey(|record| record.swept(&parts));
            shard.accept(DataRecord::bury);
            assert!(shard.record.is_buried());
        }

        fn every_later_command_on_buried_data_is_a_harmless_no_op<T: TestTime>() {
            let mut shard = sealed::<T>();
            shard.accept(|record| record.empty(9, &Since::gone()));
            let parts = garbage(&shard.record);
            shard.obey(|record| record.swept(&parts));
            shard.accept(DataRecord::bury);

            shard.untouched_by(|record| record.bury().unwrap());
            shard.untouched_by(|record| record.empty(9, &Since::gone()).unwrap());
            shard.untouched_by(|record| record.swept(&parts));
            let schema = Schema::new(vec![]).unwrap();
            shard.untouched_by(|record| record.register_schema(&schema).unwrap());
            shard.untouched_by(|record| record.raise_floor(shard.seqno));
            let trimmed = shard.record.trim(&upper(0), &Upper::sealed());
            assert_eq!(trimmed, Ok(Trim::Nothing));
            let (first, end) = (BatchId::new(0), Since::gone());
            let refused = shard.record.compact(first, first, end, vec![]);
            assert_eq!(refused, Err(CompactError::Gone));
            let again = NewBatch::empty(Upper::sealed(), Upper::sealed()).unwrap();
            shard.untouched_by(|record| record.compare_and_append(again).unwrap());
            let late = NewBatch::empty(upper(0), upper(1)).unwrap();
            let refused = shard.record.compare_and_append(late);
            let mismatch = UpperMismatch { actual: Upper::sealed() };
            assert_eq!(refused, Err(AppendError::UpperMismatch(mismatch)));
        }
    }
}
