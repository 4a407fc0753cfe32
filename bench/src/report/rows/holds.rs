//! Holds, without anything else going on.

use crate::floor::Words;
use crate::job::holds::{Readers, Shuffle, two_threads};
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians, timed};
use crate::side::Side;

const COLLECTIONS: u64 = 10_000;

/// What counts as "as one thread": two threads that share nothing but the machine.
const AS_ONE_THREAD: f64 = 1.3;

pub(super) struct Holds {
    pub(super) by_handle: Row,
    pub(super) by_id: Row,
    pub(super) two_threads_one_collection: Row,
    pub(super) two_threads_two_collections: Row,
    pub(super) one_collection: Row,
    pub(super) cloned: Row,
}

pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> Holds {
    let len = scale.collections(COLLECTIONS);
    let ours = &mut Readers::<Ours>::new(len);
    let baseline = &mut Readers::<Baseline>::new(len);
    let words = Words::new(len);
    let mut order = Shuffle::new(len);

    let [by_handle, usual, word] = medians(
        scale,
        [
            &mut |n| ours.by_handle(n),
            &mut |n| baseline.by_handle(n),
            &mut |n| timed(n, || words.acquire_and_drop(order.any() as u64)),
        ],
    );
    let by_handle = Row::nanoseconds("hold_by_handle", by_handle, usual)
        .floor(word)
        .goal(Goal {
            text: "≤ 15 ns and ≥ 50 × the baseline",
            at_most: Some(15.0),
            times_baseline: Some(50.0),
            ..Goal::default()
        });

    let [by_id, usual] = medians(scale, [&mut |n| ours.by_id(n), &mut |n| baseline.by_id(n)]);
    let by_id = Row::nanoseconds("hold_by_id", by_id, usual)
        .floor(word)
        .goal(Goal {
            text: "≤ 60 ns",
            at_most: Some(60.0),
            ..Goal::default()
        });

    let [one_thread, usual] = medians(
        scale,
        [&mut |n| ours.one_collection(n), &mut |n| {
            baseline.one_collection(n)
        }],
    );
    let one_collection = Row::nanoseconds("hold_one_collection", one_thread, usual);

    let [ours_shared, usual, word] = medians(
        scale,
        [
            &mut |n| ours.two_threads_one_collection(n),
            &mut |n| baseline.two_threads_one_collection(n),
            &mut |n| {
                two_threads(
                    n,
                    || words.acquire_and_drop(0),
                    || words.acquire_and_drop(0),
                )
            },
        ],
    );
    let two_threads_one_collection =
        Row::nanoseconds("hold_two_threads_one_collection", ours_shared, usual)
            .floor(word)
            .goal(Goal {
                text: "≤ 60 ns",
                at_most: Some(60.0),
                ..Goal::default()
            });

    let [ours_apart, usual, word] = medians(
        scale,
        [
            &mut |n| ours.two_threads_two_collections(n),
            &mut |n| baseline.two_threads_two_collections(n),
            &mut |n| {
                two_threads(
                    n,
                    || words.acquire_and_drop(0),
                    || words.acquire_and_drop(1),
                )
            },
        ],
    );
    let two_threads_two_collections =
        Row::nanoseconds("hold_two_threads_two_collections", ours_apart, usual)
            .floor(word)
            .goal(Goal {
                text: "as one thread (≤ 1.3 × hold_one_collection of the same run)",
                at_most: Some(AS_ONE_THREAD * one_thread),
                ..Goal::default()
            });

    let [cloned, usual] = medians(
        scale,
        [&mut |n| ours.cloned(n), &mut |n| baseline.cloned(n)],
    );
    let cloned = Row::nanoseconds("hold_clone", cloned, usual);

    Holds {
        by_handle,
        by_id,
        two_threads_one_collection,
        two_threads_two_collections,
        one_collection,
        cloned,
    }
}
