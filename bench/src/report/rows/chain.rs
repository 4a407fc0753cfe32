//! A change that travels a chain.

use crate::floor::Tracker;
use crate::job::travel::Travel;
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians, timed};
use crate::side::Side;
use crate::workload;

const COLLECTIONS: u64 = 100_000;

pub(super) struct Chain {
    pub(super) against_tracker: Row,
    pub(super) against_baseline: Row,
}

/// The goal compares with `timely`'s tracker, so that is the baseline of its row; the mutex and
/// map have a row of their own.
pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> Chain {
    let len = scale.collections(COLLECTIONS);
    let mut ours = Travel::<Ours>::to_the_first(workload::chain(len));
    let mut baseline = Travel::<Baseline>::to_the_first(workload::chain(len));
    let mut tracker = Tracker::chain(len);
    let mut advance = || assert!(tracker.advance() as u64 >= 2 * (len - 1), "all have moved");
    let [ours, tracker, baseline] = medians(
        scale,
        [
            &mut |n| ours.sample(n),
            &mut |n| timed(n, &mut advance),
            &mut |n| baseline.sample(n),
        ],
    )
    .map(|change| change / len as f64);
    Chain {
        against_tracker: Row::nanoseconds("chain_100k", ours, tracker).goal(Goal {
            text: "≤ 100 ns per collection, ≥ 10 × timely's reachability tracker \
                   (which is the baseline of this row)",
            at_most: Some(100.0),
            times_baseline: Some(10.0),
            ..Goal::default()
        }),
        against_baseline: Row::nanoseconds("chain_100k_mutex_map", ours, baseline),
    }
}
