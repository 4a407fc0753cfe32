//! Holds, without anything else going on.

use std::cell::RefCell;

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
    let mut stage = Stage {
        scale,
        ours: Readers::<Ours>::new(len),
        baseline: Readers::<Baseline>::new(len),
        words: Words::new(len),
    };
    let by_handle = stage.by_handle(len);
    let word = by_handle.floor;
    let by_id = stage.by_id(word);
    let two_threads_one_collection = stage.two_threads_one_collection();
    let [one_collection, two_threads_two_collections] = stage.two_threads_two_collections();
    Holds {
        by_handle,
        by_id,
        two_threads_one_collection,
        two_threads_two_collections,
        one_collection,
        cloned: stage.cloned(),
    }
}

/// Everybody who is to be measured.
struct Stage<Ours: Side, Baseline: Side> {
    scale: Scale,
    ours: Readers<Ours>,
    baseline: Readers<Baseline>,
    words: Words,
}

impl<Ours: Side, Baseline: Side> Stage<Ours, Baseline> {
    fn by_handle(&mut self, len: u64) -> Row {
        let Self {
            scale,
            ours,
            baseline,
            words,
        } = self;
        let mut order = Shuffle::new(len);
        let [ours, baseline, word] = medians(
            *scale,
            [
                &mut |n| ours.by_handle(n),
                &mut |n| baseline.by_handle(n),
                &mut |n| timed(n, || words.acquire_and_drop(order.any() as u64)),
            ],
        );
        Row::nanoseconds("hold_by_handle", ours, baseline)
            .floor(word)
            .goal(Goal {
                text: "≤ 15 ns and ≥ 50 × the baseline",
                at_most: Some(15.0),
                times_baseline: Some(50.0),
                ..Goal::default()
            })
    }

    fn by_id(&mut self, word: Option<f64>) -> Row {
        let Self {
            scale,
            ours,
            baseline,
            ..
        } = self;
        let [ours, baseline] =
            medians(*scale, [&mut |n| ours.by_id(n), &mut |n| baseline.by_id(n)]);
        let row = Row::nanoseconds("hold_by_id", ours, baseline);
        Row { floor: word, ..row }.goal(Goal {
            text: "≤ 60 ns",
            at_most: Some(60.0),
            ..Goal::default()
        })
    }

    fn two_threads_one_collection(&mut self) -> Row {
        let Self {
            scale,
            ours,
            baseline,
            words,
        } = self;
        let words: &Words = words;
        let word = || words.acquire_and_drop(0);
        let [ours, baseline, words] = medians(
            *scale,
            [
                &mut |n| ours.two_threads_one_collection(n),
                &mut |n| baseline.two_threads_one_collection(n),
                &mut |n| two_threads(n, word, word),
            ],
        );
        Row::nanoseconds("hold_two_threads_one_collection", ours, baseline)
            .floor(words)
            .goal(Goal {
                text: "≤ 60 ns",
                at_most: Some(60.0),
                ..Goal::default()
            })
    }

    /// One thread in turns with two: what the two are compared with is of the same moment.
    fn two_threads_two_collections(&mut self) -> [Row; 2] {
        let Self {
            scale,
            ours,
            baseline,
            words,
        } = self;
        let words: &Words = words;
        let one = || words.acquire_and_drop(0);
        let other = || words.acquire_and_drop(1);
        let (ours, baseline) = (RefCell::new(ours), RefCell::new(baseline));
        let [ours_alone, baseline_alone, ours, baseline, words] = medians(
            *scale,
            [
                &mut |n| ours.borrow_mut().one_collection(n),
                &mut |n| baseline.borrow_mut().one_collection(n),
                &mut |n| ours.borrow_mut().two_threads_two_collections(n),
                &mut |n| baseline.borrow_mut().two_threads_two_collections(n),
                &mut |n| two_threads(n, one, other),
            ],
        );
        let two = Row::nanoseconds("hold_two_threads_two_collections", ours, baseline);
        let goal = Goal {
            text: "as one thread (≤ 1.3 × hold_one_collection of the same run)",
            at_most: Some(AS_ONE_THREAD * ours_alone),
            ..Goal::default()
        };
        [
            Row::nanoseconds("hold_one_collection", ours_alone, baseline_alone),
            two.floor(words).goal(goal),
        ]
    }

    fn cloned(&mut self) -> Row {
        let Self {
            scale,
            ours,
            baseline,
            ..
        } = self;
        let [ours, baseline] = medians(
            *scale,
            [&mut |n| ours.cloned(n), &mut |n| baseline.cloned(n)],
        );
        Row::nanoseconds("hold_clone", ours, baseline)
    }
}
