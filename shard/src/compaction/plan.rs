//! Which batches to merge: a function of the record and of the shard's since.
//!
//! What is merged is written once more, so it has to be worth it. Three rules, the first that applies:
//!
//! - *The tail*: the newest batches, back to the oldest that is not larger than all behind it, if
//!   there are [`BATCHES_MIN`] of them. Each merge at least doubles the batch that an update is in, so an
//!   update is written at most logarithmically often, and there are logarithmically many batches.
//! - *Everything*, if what was written since the oldest batch was merged is as large as that, and the
//!   since has moved: merged as of the since it may shrink to what can still be told apart. So a
//!   shard takes up at most about twice what it must, and pays for that as much again as for
//!   writing.
//! - *What is behind the since*: the batches that end by the since, if what was not yet merged as of
//!   its end makes up half of them. So a shard that is no longer written shrinks when its since
//!   moves on.

use std::ops::Range;

use lowwater::Since;
use timely::PartialOrder;

use crate::record::{Batch, Content, DataRecord};
use crate::time::ShardTime;

/// Fewer batches than this are merged only where they are large.
const BATCHES_MIN: usize = 8;

/// What a batch costs in the record beside its updates.
const BATCH_BYTES: u64 = 64;

/// Which batches to merge, all of them as of `since`, if it is worth while. Where there are fewer
/// bytes than `bytes_min`, merging saves nothing but batches.
pub(super) fn plan<T: ShardTime>(
    record: &DataRecord<T>,
    since: &Since<T>,
    bytes_min: u64,
) -> Option<Range<usize>> {
    if since.is_gone() || record.is_emptying() {
        return None;
    }
    let batches = record.batches();
    tail(batches)
        .or_else(|| everything(batches, since, bytes_min))
        .or_else(|| behind(batches, since, bytes_min))
}

/// All batches, if merging them can change anything.
pub(super) fn all<T: ShardTime>(record: &DataRecord<T>, since: &Since<T>) -> Option<Range<usize>> {
    if since.is_gone() || record.is_emptying() {
        return None;
    }
    let batches = record.batches();
    let is_merged = match batches {
        [] => true,
        [one] => one.contents.is_empty() || one.since == *since,
        _ => false,
    };
    (!is_merged).then_some(0..batches.len())
}

/// Whether there may be a plan, whatever the since: cheap, to be asked after every append.
pub(super) fn may_be<T: ShardTime>(record: &DataRecord<T>, bytes_min: u64) -> bool {
    record.batches().len() >= BATCHES_MIN || weight(record.batches()) > bytes_min
}

fn tail<T: ShardTime>(batches: &[Batch<T>]) -> Option<Range<usize>> {
    let mut behind = 0;
    let mut start = batches.len();
    for (at, batch) in batches.iter().enumerate().rev() {
        let bytes = bytes(batch);
        if bytes <= behind {
            start = at;
        }
        behind += bytes;
    }
    (batches.len() - start >= BATCHES_MIN).then_some(start..batches.len())
}

fn everything<T: ShardTime>(
    batches: &[Batch<T>],
    since: &Since<T>,
    bytes_min: u64,
) -> Option<Range<usize>> {
    let [oldest, newer @ ..] = batches else {
        return None;
    };
    let written = weight(newer);
    let is_due = oldest.since != *since && written >= bytes(oldest) && written >= bytes_min;
    (!newer.is_empty() && is_due).then_some(0..batches.len())
}

fn behind<T: ShardTime>(
    batches: &[Batch<T>],
    since: &Since<T>,
    bytes_min: u64,
) -> Option<Range<usize>> {
    let ends_by = |batch: &Batch<T>, since: &Since<T>| {
        PartialOrder::less_equal(batch.upper.frontier(), since.frontier())
    };
    let end = batches
        .iter()
        .take_while(|batch| ends_by(batch, since))
        .count();
    let spread = batches[..end]
        .iter()
        .filter(|batch| !ends_by(batch, &batch.since));
    let (mut count, mut spread_bytes) = (0, 0);
    for batch in spread.filter(|batch| !batch.contents.is_empty()) {
        count += 1;
        spread_bytes += bytes(batch);
    }
    let is_much = count >= BATCHES_MIN || count > 0 && spread_bytes >= bytes_min;
    (is_much && 2 * spread_bytes >= weight(&batches[..end])).then_some(0..end)
}

fn weight<T: ShardTime>(batches: &[Batch<T>]) -> u64 {
    batches.iter().map(bytes).sum()
}

fn bytes<T: ShardTime>(batch: &Batch<T>) -> u64 {
    let contents = batch.contents.iter().map(|content| match content {
        Content::Inline(inline) => inline.bytes.len() as u64,
        Content::Stored(stored) => stored.bytes,
    });
    contents.sum::<u64>() + BATCH_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use lowwater::Upper;

    use super::*;
    use crate::id::{PartId, SchemaId, SeqNo};
    use crate::record::testing::*;
    use crate::record::{NewBatch, Stored};
    use crate::schema::Schema;

    const KIB: u64 = 1 << 10;

    fn part(bytes: u64) -> Content {
        Content::Stored(Stored {
            part: PartId::random(),
            begun: SeqNo::new(1_000_000),
            schema: SchemaId::new(0),
            updates: bytes / 10,
            bytes,
            checksum: None,
        })
    }

    /// A shard, and what was written for it: by appends, and by merging.
    struct Shard<T: TestTime> {
        machine: Machine<DataRecord<T>>,
        appended: u64,
        merged: u64,
        batches_max: usize,
    }

    impl<T: TestTime> Shard<T> {
        fn new() -> Self {
            let mut machine = Machine::new();
            let schema = Schema::new(vec![]).unwrap();
            machine.accept(|record: &DataRecord<T>| record.register_schema(&schema));
            Shard {
                machine,
                appended: 0,
                merged: 0,
                batches_max: 0,
            }
        }

        fn append(&mut self, at: u64, bytes: u64) {
            let (from, to) = (upper(at), upper(at + 1));
            let batch = NewBatch::new(from, to, &[T::at(at)], vec![part(bytes)]).unwrap();
            self.machine
                .accept(|record| record.compare_and_append(batch));
            self.appended += bytes;
        }

        /// Follows the plans; what is before the since shrinks to `state`.
        fn compact(&mut self, to: u64, bytes_per_time: u64, state: u64) {
            let to: Since<T> = since(to);
            while let Some(range) = plan(&self.machine.record, &to, 64 * KIB) {
                let batches = &self.machine.record.batches()[range];
                let (first, last) = (&batches[0], &batches[batches.len() - 1]);
                let whole = weight(batches) - BATCH_BYTES * batches.len() as u64;
                let behind = batches
                    .iter()
                    .filter(|batch| batch.upper.frontier().elements() <= to.frontier().elements());
                let window = batches.len() - behind.count();
                let merged = match first.lower.is_minimum() {
                    true => whole.min(state + window as u64 * bytes_per_time),
                    false => whole,
                };
                let (first, last) = (first.id, last.id);
                let parts = vec![part(merged)];
                self.machine
                    .accept(|record| record.compact(first, last, to.clone(), parts));
                self.merged += merged;
            }
            self.batches_max = self.batches_max.max(self.machine.record.batches().len());
        }
    }

    for_both_times! {
        fn what_is_kept_for_ever_is_merged_logarithmically_often<T: TestTime>() {
            let mut shard = Shard::<T>::new();
            for at in 0..4_000 {
                shard.append(at, KIB);
                shard.compact(0, KIB, u64::MAX / 2);
            }
            assert!(shard.merged <= 11 * shard.appended, "{} of {}", shard.merged, shard.appended);
            assert!(shard.batches_max <= 24, "{}", shard.batches_max);
        }

        fn what_is_small_and_changes_costs_little_and_stays_small<T: TestTime>() {
            let mut shard = Shard::<T>::new();
            for at in 0..4_000_u64 {
                shard.append(at, KIB);
                shard.compact(at.saturating_sub(10), KIB, 100 * KIB);
                let held = weight(shard.machine.record.batches());
                assert!(held <= 350 * KIB, "{} KiB at {at}", held / KIB);
            }
            assert!(shard.merged <= 6 * shard.appended, "{} of {}", shard.merged, shard.appended);
            assert!(shard.batches_max <= 24, "{}", shard.batches_max);
        }

        fn what_is_no_longer_written_shrinks_when_the_since_has_passed_it<T: TestTime>() {
            let mut shard = Shard::<T>::new();
            for at in 0..7 {
                shard.append(at, 100 * KIB);
            }
            assert_eq!(plan(&shard.machine.record, &since(0), 64 * KIB), None);
            assert_eq!(plan(&shard.machine.record, &since(7), 64 * KIB), Some(0..7));
        }

        fn a_shard_that_is_gone_is_left_to_the_finalizer<T: TestTime>() {
            let mut shard = Shard::<T>::new();
            for at in 0..20 {
                shard.append(at, 100 * KIB);
            }
            assert_eq!(plan(&shard.machine.record, &Since::gone(), 64 * KIB), None);
            assert_eq!(all(&shard.machine.record, &Since::gone()), None);
        }
    }

    #[test]
    fn what_is_behind_a_since_is_so_on_each_of_its_sides() {
        let mut shard = Shard::<Pair>::new();
        let (from, to) = (
            Upper::minimum(),
            Upper::new(sides(&[(2, 0), (0, 2)]).into_frontier()),
        );
        let batch = NewBatch::new(from, to, &[Pair::new(1, 1)], vec![part(100 * KIB)]).unwrap();
        let append = |record: &DataRecord<Pair>| record.compare_and_append(batch.clone());
        shard.machine.accept(append);
        let plan =
            |record: &DataRecord<Pair>, at: &[(u64, u64)]| plan(record, &sides(at), 64 * KIB);
        let record = shard.machine.record.clone();
        assert_eq!(plan(&record, &[(1, 1)]), None);
        assert_eq!(plan(&record, &[(2, 0), (1, 1)]), None, "one side is within");
        assert_eq!(plan(&record, &[(5, 0), (0, 3)]), Some(0..1));
        assert_eq!(plan(&record, &[(2, 1)]), Some(0..1));
        // Once merged as of a since behind which it ends, it is not merged for another one.
        let (id, at) = (record.batches()[0].id, sides(&[(2, 0), (0, 2)]));
        let merged = vec![part(100 * KIB)];
        shard
            .machine
            .accept(|record| record.compact(id, id, at.clone(), merged.clone()));
        let record = shard.machine.record.clone();
        assert_eq!(plan(&record, &[(5, 0), (0, 3)]), None);
        assert_eq!(plan(&record, &[(9, 9)]), None);
    }

    proptest! {
        #[test]
        fn plans_come_to_an_end(bytes in prop::collection::vec(1..200 * KIB, 1..60), to in 0..60_u64) {
            let mut shard = Shard::<u64>::new();
            for (at, bytes) in (0..).zip(bytes) {
                shard.append(at, bytes);
            }
            for _ in 0..3 {
                shard.compact(to, 0, u64::MAX / 2);
            }
            let merged = shard.merged;
            shard.compact(to, 0, u64::MAX / 2);
            prop_assert_eq!(shard.merged, merged);
        }
    }
}
