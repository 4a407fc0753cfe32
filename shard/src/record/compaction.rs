//! Merging batches.

use lowwater::{Since, Time};
use timely::PartialOrder;

use crate::id::{BatchId, PartId};

use super::{Content, DataChange, DataRecord, Decision, Garbage};

/// The batches are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The one that took their place.
    pub batch: BatchId,
}

/// Why batches were not merged: the parts that were written for it are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError<T> {
    /// Somebody else has merged or given up one of them.
    #[error("the batches are no longer there")]
    Gone,
    /// One of them was compacted further already.
    #[error("a batch is already compacted to {0:?}")]
    Behind(Since<T>),
    /// The rows of the result have a schema that is not registered.
    #[error(transparent)]
    UnknownSchema(#[from] super::UnknownSchema),
    /// A part may have been taken for nobody's.
    #[error(transparent)]
    PartExpired(#[from] super::PartExpired),
}

impl<T: Time> DataRecord<T> {
    /// Replaces the batches from `first` to `last` by one, whose times were advanced to `since`.
    ///
    /// The caller has read `since` from the shard's [`SinceRecord`](super::SinceRecord), at any
    /// time: it can only have advanced. What was replaced becomes [garbage](DataRecord::garbage).
    ///
    /// # Errors
    ///
    /// If somebody else was faster; if a part was begun too long ago.
    pub fn compact(
        &self,
        first: BatchId,
        last: BatchId,
        since: Since<T>,
        contents: Vec<Content>,
    ) -> Result<Decision<DataChange<T>, Compacted>, CompactError<T>> {
        let range = self.range(first, last).ok_or(CompactError::Gone)?;
        let further = |compacted: &&Since<T>| !PartialOrder::less_equal(*compacted, &since);
        let batches = &self.batches()[range];
        if let Some(further) = batches.iter().map(|batch| &batch.since).find(further) {
            return Err(CompactError::Behind(further.clone()));
        }
        let schemas = contents.iter().map(Content::schema);
        for schema in schemas {
            self.schema(schema).ok_or(super::UnknownSchema(schema))?;
        }
        self.check_floor(&contents)?;
        let batch = self.next_batch();
        let compacted = DataChange::Compacted {
            first,
            last,
            since,
            contents,
        };
        Ok(Decision::change(compacted, Compacted { batch }))
    }

    /// Notes that these parts are no longer stored. What is no garbage, or was noted before, is
    /// passed over: to sweep twice does no harm.
    pub fn swept(&self, parts: &[PartId]) -> Decision<DataChange<T>, ()> {
        let swept = |garbage: &&Garbage| parts.contains(&garbage.part);
        let garbage = self.garbage().iter().filter(swept);
        let parts: Vec<PartId> = garbage.map(|garbage| garbage.part).collect();
        if parts.is_empty() {
            Decision::unchanged(())
        } else {
            Decision::change(DataChange::Swept(parts), ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PartName, SchemaId, SeqNo};
    use crate::record::testing::*;
    use crate::record::{NewBatch, Stored};
    use crate::schema::Schema;

    fn stored(part: u128) -> Content {
        Content::Stored(Stored {
            part: PartId::new(part),
            begun: SeqNo::FIRST,
            schema: SchemaId::new(0),
            updates: 10,
            bytes: 100,
            checksum: Some(7),
        })
    }

    /// Four batches, each of one part.
    fn written<T: TestTime>() -> Machine<DataRecord<T>> {
        let mut shard = Machine::new();
        let schema = Schema::new(vec![]).unwrap();
        shard.accept(|record: &DataRecord<T>| record.register_schema(&schema));
        for number in 0..4 {
            let (lower, end) = (upper(number), upper(number + 1));
            let part = vec![stored(number.into())];
            let batch = NewBatch::new(lower, end, &[T::at(number)], part).unwrap();
            shard.accept(|record| record.compare_and_append(batch));
        }
        shard
    }

    fn name(part: u128) -> PartName {
        PartName {
            begun: SeqNo::FIRST,
            part: PartId::new(part),
        }
    }

    fn batch(number: u64) -> BatchId {
        BatchId::new(number)
    }

    for_both_times! {
        fn merged_batches_become_one_with_their_bounds_and_the_since<T: TestTime>() {
            let mut shard = written::<T>();
            let merged = shard.accept(|record| {
                record.compact(batch(1), batch(2), since(2), vec![stored(9)])
            });
            let [_, one, _] = shard.record.batches() else { panic!() };
            assert_eq!(one.id, merged.batch);
            assert_eq!((&one.lower, &one.upper), (&upper(1), &upper(3)));
            assert_eq!(one.since, since(2));
            assert_eq!(one.contents, [stored(9)]);
        }

        fn who_is_slower_is_told_that_the_batches_are_gone<T: TestTime>() {
            let mut shard = written::<T>();
            shard.accept(|record| record.compact(batch(1), batch(2), since(2), vec![]));
            for (first, last) in [(1, 2), (0, 1), (2, 3), (3, 0)] {
                let refused = shard.record.compact(batch(first), batch(last), since(2), vec![]);
                assert_eq!(refused, Err(CompactError::Gone));
            }
        }

        fn what_was_compacted_never_comes_back<T: TestTime>() {
            let mut shard = written::<T>();
            let merged = shard
                .accept(|record| record.compact(batch(1), batch(2), since(2), vec![]));
            let refused = shard.record.compact(batch(0), merged.batch, since(1), vec![]);
            assert_eq!(refused, Err(CompactError::Behind(since(2))));
        }

        fn an_append_while_batches_are_merged_does_not_disturb<T: TestTime>() {
            let mut shard = written::<T>();
            let decided = shard
                .record
                .compact(batch(0), batch(3), since(3), vec![stored(9)])
                .unwrap();
            let tick = NewBatch::empty(upper(4), upper(5)).unwrap();
            shard.accept(|record| record.compare_and_append(tick));
            shard.obey(|_| decided);
            assert_eq!(shard.record.batches().len(), 1);
            assert_eq!(shard.record.batches()[0].upper, upper(5));
        }

        fn replaced_parts_are_deleted_once_no_reader_holds_them<T: TestTime>() {
            let mut shard = written::<T>();
            let replaced_at = shard.seqno;
            shard.accept(|record| record.compact(batch(1), batch(2), since(2), vec![]));
            let before = SeqNo::new(replaced_at.number() - 1);
            assert_eq!(shard.record.deletable(Some(before)), []);
            let parts = [name(1), name(2)];
            assert_eq!(shard.record.deletable(Some(replaced_at)), parts);
            assert_eq!(shard.record.deletable(None), parts);
        }

        fn to_sweep_twice_does_no_harm<T: TestTime>() {
            let mut shard = written::<T>();
            shard.accept(|record| record.compact(batch(1), batch(2), since(2), vec![]));
            let parts = [PartId::new(1), PartId::new(3)];
            shard.obey(|record| record.swept(&parts));
            assert_eq!(shard.record.deletable(None), [name(2)]);
            shard.untouched_by(|record| record.swept(&parts));
        }
    }

    #[test]
    fn an_incomparable_compaction_is_refused() {
        let mut shard = written::<Pair>();
        let merged =
            shard.accept(|record| record.compact(batch(1), batch(2), sides(&[(2, 1)]), vec![]));
        let refused = shard
            .record
            .compact(merged.batch, merged.batch, sides(&[(1, 2)]), vec![]);
        assert_eq!(refused, Err(CompactError::Behind(sides(&[(2, 1)]))));
    }
}
