//! Telling parts that nobody will ever refer to from those that somebody is about to.
//!
//! A part is stored first, and referred to afterwards; a writer that dies in between leaves it
//! behind. No clock tells a dead writer from a slow one, so the record decides: what was begun
//! below the **floor** is refused, and its writer has to write it again under a new name.
//!
//! Whoever sweeps raises the floor first, to a version that it saw long enough ago by its own
//! clock, so that refusals are rare; then it lists what is stored, and deletes what was begun below
//! the floor and is not among [`DataRecord::parts`], read after the floor was durable. Of a
//! [buried](DataRecord::is_buried) shard, which refuses everything, it deletes all.

use lowwater::Time;

use crate::id::{PartId, SeqNo};

use super::{Content, DataChange, DataRecord, Decision, Misfit, fits};

/// The part was begun too long ago: it may be gone. Write it again, under a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} was begun at version {begun}, before version {floor}, and may have been swept")]
pub struct PartExpired {
    /// The part.
    pub part: PartId,
    /// The version that its writer had seen.
    pub begun: SeqNo,
    /// The version that a writer must have seen.
    pub floor: SeqNo,
}

impl<T: Time> DataRecord<T> {
    /// From now on parts whose writers began before version `to`, which the caller has seen, are
    /// not taken in any more. To raise it to where it is, or below, changes nothing.
    pub fn raise_floor(&self, to: SeqNo) -> Decision<DataChange<T>, ()> {
        if self.is_buried() || to <= self.floor() {
            Decision::unchanged(())
        } else {
            Decision::change(DataChange::FloorRaised(to), ())
        }
    }

    pub(super) fn apply_raise_floor(&mut self, to: SeqNo, seqno: SeqNo) -> Result<(), Misfit> {
        fits(to > self.floor(), "the floor does not rise")?;
        fits(to < seqno, "the floor is at a version that was not there")?;
        self.set_floor(to);
        Ok(())
    }

    pub(super) fn check_floor(&self, contents: &[Content]) -> Result<(), PartExpired> {
        let mut stored = contents.iter().filter_map(Content::stored);
        match stored.find(|stored| stored.begun < self.floor()) {
            Some(stored) => Err(PartExpired {
                part: stored.part,
                begun: stored.begun,
                floor: self.floor(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PartName, SchemaId};
    use crate::record::testing::*;
    use crate::record::{AppendError, CompactError, NewBatch, Record, Stored};
    use crate::schema::Schema;

    fn stored(part: u128, begun: u64) -> Content {
        Content::Stored(Stored {
            part: PartId::new(part),
            begun: SeqNo::new(begun),
            schema: SchemaId::new(0),
            updates: 1,
            bytes: 1,
            checksum: None,
        })
    }

    fn batch<T: TestTime>(lower: u64, part: Content) -> NewBatch<T> {
        let (from, to) = (upper(lower), upper(lower + 1));
        NewBatch::new(from, to, &[T::at(lower)], vec![part]).unwrap()
    }

    /// One part, begun at version 1, and a floor at version 2.
    fn shard<T: TestTime>() -> Machine<DataRecord<T>> {
        let mut shard = Machine::new();
        let schema = Schema::new(vec![]).unwrap();
        shard.accept(|record: &DataRecord<T>| record.register_schema(&schema));
        shard.accept(|record| record.compare_and_append(batch(0, stored(1, 1))));
        shard.obey(|record| record.raise_floor(SeqNo::new(2)));
        shard
    }

    const EXPIRED: PartExpired = PartExpired {
        part: PartId::new(2),
        begun: SeqNo::new(1),
        floor: SeqNo::new(2),
    };

    for_both_times! {
        fn a_part_that_was_begun_below_the_floor_is_refused<T: TestTime>() {
            let mut shard = shard::<T>();
            let refused = shard.record.compare_and_append(batch(1, stored(2, 1)));
            assert_eq!(refused, Err(AppendError::PartExpired(EXPIRED)));
            let only = shard.record.batches()[0].id;
            let refused = shard.record.compact(only, only, since(0), vec![stored(2, 1)]);
            assert_eq!(refused, Err(CompactError::PartExpired(EXPIRED)));
            shard.accept(|record| record.compare_and_append(batch(1, stored(2, 2))));
        }

        fn what_the_record_refers_to_stays_whatever_the_floor<T: TestTime>() {
            let mut shard = shard::<T>();
            let old = PartName { begun: SeqNo::new(1), part: PartId::new(1) };
            assert_eq!(shard.record.parts().collect::<Vec<_>>(), [old]);
            let only = shard.record.batches()[0].id;
            shard.accept(|record| record.compact(only, only, since(0), vec![]));
            assert_eq!(shard.record.parts().collect::<Vec<_>>(), [old], "as garbage");
        }

        fn the_floor_never_goes_back<T: TestTime>() {
            let mut shard = shard::<T>();
            shard.untouched_by(|record| record.raise_floor(SeqNo::new(2)));
            shard.untouched_by(|record| record.raise_floor(SeqNo::new(1)));
            let back = DataChange::FloorRaised(SeqNo::new(1));
            assert!(shard.record.apply(&back, shard.seqno).is_err());
        }

        fn a_floor_at_a_version_that_was_not_there_does_not_fit<T: TestTime>() {
            let mut shard = shard::<T>();
            let ahead = DataChange::FloorRaised(shard.seqno);
            assert!(shard.record.apply(&ahead, shard.seqno).is_err());
        }
    }
}
