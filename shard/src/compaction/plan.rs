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
