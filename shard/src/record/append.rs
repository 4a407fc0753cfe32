//! Writing to a shard: batches, and the schemas of their rows.

use lowwater::{Time, Upper};
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::id::SchemaId;
use crate::schema::{Schema, SchemaError};

use super::{Content, DataChange, DataRecord, Decision, PartExpired};

/// Updates between two frontiers, checked to lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBatch<T> {
    lower: Upper<T>,
    upper: Upper<T>,
    contents: Vec<Content>,
}

/// Why updates are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError<T> {
    /// It would end before it begins.
    #[error("the batch ends at {upper:?}, not after it begins at {lower:?}")]
    EndsBeforeItBegins {
        /// Where it begins.
        lower: Upper<T>,
        /// Where it ends.
        upper: Upper<T>,
    },
    /// An update is not between its frontiers.
    #[error("the time {time:?} is not between {lower:?} and {upper:?}")]
    TimeOutside {
        /// Its time.
        time: T,
        /// Where the batch begins.
        lower: Upper<T>,
        /// Where it ends.
        upper: Upper<T>,
    },
}

/// Somebody else has written, or the writer is ahead of what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard is written up to {actual:?}")]
pub struct UpperMismatch<T> {
    /// How far the shard is written.
    pub actual: Upper<T>,
}

/// No such schema is registered with the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema {0} is not registered")]
pub struct UnknownSchema(pub SchemaId);

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError<T> {
    /// The shard is written up to elsewhere.
    #[error(transparent)]
    UpperMismatch(#[from] UpperMismatch<T>),
    /// Register the schema first.
    #[error(transparent)]
    UnknownSchema(#[from] UnknownSchema),
    /// A part may have been taken for nobody's.
    #[error(transparent)]
    PartExpired(#[from] PartExpired),
}

/// Why a schema was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema does not evolve the latest one, {latest}: {reason}")]
pub struct SchemaRefusal {
    /// The latest schema of the shard.
    pub latest: Schema,
    /// What is in the way.
    pub reason: SchemaError,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended<T> {
    /// How far the shard is written now.
    pub upper: Upper<T>,
}

/// What is left to write for a writer that repeats itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trim<T> {
    /// Nothing: all of it is written.
    Nothing,
    /// Updates at times beyond `lower`, up to `upper`.
    Rest {
        /// What is written already; the whole, if it is where the writer begins.
        lower: Upper<T>,
        /// How far the shard will be written: the writer's upper, or, where that is incomparable
        /// with what is written, their join.
        upper: Upper<T>,
    },
}

impl<T: Time> NewBatch<T> {
    /// A batch of `contents`, whose updates have these times. The upper may equal the lower only
    /// if there are none.
    ///
    /// # Errors
    ///
    /// If the times are not all beyond `lower` and not beyond `upper`.
    pub fn new<'a>(
        lower: Upper<T>,
        upper: Upper<T>,
        times: impl IntoIterator<Item = &'a T>,
        contents: Vec<Content>,
    ) -> Result<Self, BatchError<T>> {
        if !PartialOrder::less_equal(&lower, &upper) {
            return Err(BatchError::EndsBeforeItBegins { lower, upper });
        }
        let within = |time: &T| lower.frontier().less_equal(time) && upper.is_complete_at(time);
        if let Some(time) = times.into_iter().find(|time| !within(time)) {
            return Err(BatchError::TimeOutside {
                time: time.clone(),
                lower,
                upper,
            });
        }
        Ok(NewBatch {
            lower,
            upper,
            contents,
        })
    }

    /// A batch of no updates: only time passes.
    ///
    /// # Errors
    ///
    /// If it would end before it begins.
    pub fn empty(lower: Upper<T>, upper: Upper<T>) -> Result<Self, BatchError<T>> {
        NewBatch::new(lower, upper, [], Vec::new())
    }

    /// Where it begins.
    pub fn lower(&self) -> &Upper<T> {
        &self.lower
    }

    /// Where it ends.
    pub fn upper(&self) -> &Upper<T> {
        &self.upper
    }
}

impl<T: Time> DataRecord<T> {
    /// Writes a batch that begins where the shard ends.
    ///
    /// # Errors
    ///
    /// If it does not, with where the shard ends; if the schema of its rows is not registered; if one
    /// of its parts was begun too long ago.
    pub fn compare_and_append(
        &self,
        batch: NewBatch<T>,
    ) -> Result<Decision<DataChange<T>, Appended<T>>, AppendError<T>> {
        if *self.upper() != batch.lower {
            let actual = self.upper().clone();
            return Err(UpperMismatch { actual }.into());
        }
        let unknown = |schema: &SchemaId| self.schema(*schema).is_none();
        if let Some(schema) = batch.contents.iter().map(Content::schema).find(unknown) {
            return Err(UnknownSchema(schema).into());
        }
        self.check_floor(&batch.contents)?;
        let NewBatch {
            upper, contents, ..
        } = batch;
        let outcome = Appended {
            upper: upper.clone(),
        };
        if upper == *self.upper() {
            Ok(Decision::unchanged(outcome))
        } else {
            let appended = DataChange::Appended { upper, contents };
            Ok(Decision::change(appended, outcome))
        }
    }

    /// What is left to write of a batch from `lower` to `upper`, for a writer that may have written
    /// some of it before.
    ///
    /// # Errors
    ///
    /// If there would be a gap: the batch begins where the shard is not written yet.
    pub fn trim(&self, lower: &Upper<T>, upper: &Upper<T>) -> Result<Trim<T>, UpperMismatch<T>> {
        let written = self.upper();
        if !PartialOrder::less_equal(lower, written) {
            return Err(UpperMismatch {
                actual: written.clone(),
            });
        }
        if PartialOrder::less_equal(upper, written) {
            return Ok(Trim::Nothing);
        }
        // Beyond what is written, and not beyond the writer's upper: that is, not beyond both. So
        // the join is the upper for which the writer has all updates.
        let join = join(written.frontier(), upper.frontier());
        Ok(Trim::Rest {
            lower: written.clone(),
            upper: Upper::new(join),
        })
    }

    /// Registers a schema, and says which version it is: one that is there, or a new one, which
    /// adds nullable columns to the latest. On a tombstone nothing happens.
    ///
    /// # Errors
    ///
    /// If it does not.
    ///
    /// # Panics
    ///
    /// If there are 2^32 versions.
    pub fn register_schema(
        &self,
        schema: &Schema,
    ) -> Result<Decision<DataChange<T>, SchemaId>, SchemaRefusal> {
        let id = |at: usize| SchemaId::new(u32::try_from(at).expect("there are fewer than 2^32"));
        if self.is_buried() {
            return Ok(Decision::unchanged(id(0)));
        }
        if let Some(at) = self.schemas().iter().position(|known| known == schema) {
            return Ok(Decision::unchanged(id(at)));
        }
        if let Some(latest) = self.schemas().last() {
            latest
                .may_evolve_into(schema)
                .map_err(|reason| SchemaRefusal {
                    latest: latest.clone(),
                    reason,
                })?;
        }
        let added = DataChange::SchemaAdded(schema.clone());
        Ok(Decision::change(added, id(self.schemas().len())))
    }
}

fn join<T: Time>(left: &Antichain<T>, right: &Antichain<T>) -> Antichain<T> {
    differential_dataflow::lattice::Lattice::join(left, right)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use timely::order::Product;

    use super::*;
    use crate::record::testing::*;
    use crate::record::{Batch, Inline, Record};
    use crate::schema::{Column, ColumnKind};

    fn schema(columns: &[(&str, bool)]) -> Schema {
        let column = |&(name, nullable): &(&str, bool)| Column {
            name: name.to_owned(),
            kind: ColumnKind::Text,
            nullable,
        };
        Schema::new(columns.iter().map(column).collect()).unwrap()
    }

    fn inline(bytes: &'static str) -> Content {
        Content::Inline(Inline {
            schema: SchemaId::new(0),
            updates: 1,
            bytes: Bytes::from_static(bytes.as_bytes()),
        })
    }

    fn batch<T: TestTime>(lower: u64, to: u64, what: &'static str) -> NewBatch<T> {
        let (lower, end) = (upper(lower), upper(to));
        NewBatch::new(lower, end, &[T::at(to - 1)], vec![inline(what)]).unwrap()
    }

    fn shard<T: TestTime>() -> Machine<DataRecord<T>> {
        let mut shard = Machine::new();
        shard.accept(|record: &DataRecord<T>| record.register_schema(&schema(&[("a", false)])));
        shard
    }

    for_both_times! {
        fn an_append_at_the_upper_advances_it<T: TestTime>() {
            let mut shard = shard::<T>();
            let appended = shard.accept(|record| record.compare_and_append(batch(0, 5, "one")));
            assert_eq!(appended.upper, upper(5));
            shard.accept(|record| record.compare_and_append(batch(5, 7, "two")));
            let [first, second] = shard.record.batches() else { panic!() };
            assert_eq!((&first.lower, &first.upper), (&upper(0), &upper(5)));
            assert_eq!((&second.lower, &second.upper), (&upper(5), &upper(7)));
            assert_eq!(second.contents, [inline("two")]);
        }

        fn an_append_elsewhere_is_refused_with_the_current_upper<T: TestTime>() {
            let mut shard = shard::<T>();
            shard.accept(|record| record.compare_and_append(batch(0, 5, "one")));
            for lower in [0, 4, 6] {
                let refused = shard.record.compare_and_append(batch(lower, 9, "two"));
                let mismatch = UpperMismatch { actual: upper(5) };
                assert_eq!(refused, Err(AppendError::UpperMismatch(mismatch)));
            }
        }

        fn updates_must_lie_within_their_batch<T: TestTime>() {
            let within = |times: &[T]| NewBatch::new(upper(3), upper(5), times, vec![]);
            assert!(within(&[T::at(3), T::at(4)]).is_ok());
            for outside in [2, 5, 6] {
                let refused = within(&[T::at(4), T::at(outside)]).unwrap_err();
                let time = T::at(outside);
                assert!(matches!(refused, BatchError::TimeOutside { time: t, .. } if t == time));
            }
        }

        fn a_batch_that_ends_before_it_begins_is_refused<T: TestTime>() {
            let refused = NewBatch::<T>::empty(upper(5), upper(4)).unwrap_err();
            assert!(matches!(refused, BatchError::EndsBeforeItBegins { .. }));
        }

        fn a_batch_of_no_extent_writes_nothing_and_has_no_updates<T: TestTime>() {
            let shard = shard::<T>();
            shard.untouched_by(|record| {
                let nothing = NewBatch::empty(upper(0), upper(0)).unwrap();
                record.compare_and_append(nothing).unwrap()
            });
            assert!(NewBatch::new(upper(3), upper(3), &[T::at(3)], vec![]).is_err());
        }

        fn the_upper_advances_in_one_step_to_the_end<T: TestTime>() {
            let mut shard = shard::<T>();
            let to_the_end = NewBatch::empty(upper(0), Upper::sealed()).unwrap();
            shard.accept(|record| record.compare_and_append(to_the_end));
            assert!(shard.record.upper().is_sealed());
        }

        fn where_only_time_passes_no_batches_pile_up<T: TestTime>() {
            let mut shard = shard::<T>();
            for tick in 0..10 {
                let empty = NewBatch::empty(upper(tick), upper(tick + 1)).unwrap();
                shard.accept(|record| record.compare_and_append(empty));
            }
            assert_eq!(shard.record.batches().len(), 1);
            assert_eq!(*shard.record.upper(), upper(10));
        }

        fn an_unregistered_schema_is_refused<T: TestTime>() {
            let refused = DataRecord::<T>::initial().compare_and_append(batch(0, 5, "one"));
            assert_eq!(refused, Err(AppendError::UnknownSchema(UnknownSchema(SchemaId::new(0)))));
        }

        fn a_writer_that_repeats_itself_writes_only_the_rest<T: TestTime>() {
            let mut shard = shard::<T>();
            shard.accept(|record| record.compare_and_append(batch(0, 5, "one")));
            let trim = |from, to| shard.record.trim(&upper(from), &upper(to));
            let rest = |to| Ok(Trim::Rest { lower: upper(5), upper: upper(to) });
            assert_eq!(trim(0, 4), Ok(Trim::Nothing));
            assert_eq!(trim(0, 5), Ok(Trim::Nothing));
            assert_eq!(trim(0, 7), rest(7));
            assert_eq!(trim(5, 7), rest(7));
            assert_eq!(trim(6, 7), Err(UpperMismatch { actual: upper(5) }));
        }

        fn a_schema_is_registered_once_and_its_versions_are_kept<T: TestTime>() {
            let mut shard = shard::<T>();
            let old = schema(&[("a", false)]);
            let new = schema(&[("a", false), ("b", true)]);
            let id = shard.accept(|record| record.register_schema(&new));
            assert_eq!(id, SchemaId::new(1));
            shard.untouched_by(|record| record.register_schema(&new).unwrap());
            shard.untouched_by(|record| record.register_schema(&old).unwrap());
            assert_eq!(shard.accept(|record| record.register_schema(&old)), SchemaId::new(0));
            assert_eq!(shard.record.schemas(), [old, new]);
        }

        fn a_schema_that_does_not_evolve_the_latest_is_refused_with_it<T: TestTime>() {
            let mut shard = shard::<T>();
            let latest = schema(&[("a", false), ("b", true)]);
            shard.accept(|record| record.register_schema(&latest));
            let other = schema(&[("a", false), ("c", true)]);
            let refused = shard.record.register_schema(&other).unwrap_err();
            assert_eq!(refused.latest, latest);
            assert_eq!(refused.reason, SchemaError::ChangedColumn("b".to_owned()));
        }
    }

    #[test]
    fn the_rest_of_an_incomparable_batch_ends_at_the_join() {
        let frontier = |times: &[(u64, u64)]| Upper::new(sides(times).into_frontier());
        let mut shard = shard::<Pair>();
        let written = frontier(&[(3, 0), (0, 5)]);
        let first = NewBatch::empty(Upper::minimum(), written.clone()).unwrap();
        shard.accept(|record| record.compare_and_append(first));
        let wanted = frontier(&[(4, 0), (0, 2)]);
        let trimmed = shard.record.trim(&Upper::minimum(), &wanted).unwrap();
        let Trim::Rest { lower, upper } = trimmed else {
            panic!()
        };
        assert_eq!(lower, written);
        assert_eq!(upper, frontier(&[(4, 0), (3, 2), (0, 5)]));
        // A time that the writer knows and nobody has written: it belongs to the rest.
        let rest = NewBatch::new(lower, upper, &[Product::new(3, 1)], vec![]).unwrap();
        shard.accept(|record| record.compare_and_append(rest));
    }

    fn several(times: &[(u64, u64)]) -> Upper<Pair> {
        Upper::new(sides(times).into_frontier())
    }

    #[test]
    fn an_append_at_an_incomparable_lower_is_refused_with_the_current_upper() {
        let mut shard = shard::<Pair>();
        let written = several(&[(3, 0), (0, 5)]);
        let first = NewBatch::empty(Upper::minimum(), written.clone()).unwrap();
        shard.accept(|record| record.compare_and_append(first));
        for lower in [&[(2, 2)][..], &[(4, 0), (0, 2)], &[(3, 0)], &[(0, 5)]] {
            let batch = NewBatch::empty(several(lower), Upper::sealed()).unwrap();
            let mismatch = UpperMismatch {
                actual: written.clone(),
            };
            let refused = shard.record.compare_and_append(batch);
            assert_eq!(refused, Err(AppendError::UpperMismatch(mismatch)));
        }
    }

    #[test]
    fn a_batch_whose_upper_is_incomparable_with_its_lower_is_refused() {
        let lower = several(&[(3, 0), (0, 5)]);
        for to in [&[(2, 2)][..], &[(4, 0), (0, 2)], &[(2, 4)]] {
            let refused = NewBatch::empty(lower.clone(), several(to)).unwrap_err();
            assert!(matches!(refused, BatchError::EndsBeforeItBegins { .. }));
        }
    }

    #[test]
    fn updates_lie_between_frontiers_of_several_times() {
        let (lower, to) = (several(&[(3, 0), (0, 5)]), several(&[(6, 0), (0, 8)]));
        let within = |outer, inner| {
            NewBatch::new(
                lower.clone(),
                to.clone(),
                &[Product::new(outer, inner)],
                vec![],
            )
        };
        for (outer, inner) in [(3, 0), (5, 0), (5, 7), (0, 5), (1, 7)] {
            assert!(within(outer, inner).is_ok(), "{outer}, {inner}");
        }
        for (outer, inner) in [(2, 4), (0, 0), (6, 0), (0, 8), (3, 8), (9, 9)] {
            let refused = within(outer, inner).unwrap_err();
            assert!(
                matches!(refused, BatchError::TimeOutside { .. }),
                "{outer}, {inner}"
            );
        }
    }

    #[test]
    fn batches_that_leave_a_gap_are_no_record() {
        let mut shard = shard::<u64>();
        shard.accept(|record| record.compare_and_append(batch(0, 5, "one")));
        let backwards = DataChange::Appended {
            upper: upper(4),
            contents: vec![],
        };
        assert!(shard.record.clone().apply(&backwards, shard.seqno).is_err());
        let Batch { lower, .. } = &shard.record.batches()[0];
        assert!(lower.is_minimum());
    }
}
