//! Creating collections.

use crate::job::creation;
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians};
use crate::side::Side;

const COLLECTIONS: u64 = 100_000;

/// What counts as linear: each of 100,000 costs at most so many times what each of 10,000 does.
/// Those fit a cache that these do not.
const LINEAR: f64 = 2.0;

pub(super) struct Creation {
    pub(super) row: Row,
    pub(super) note: String,
}

pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> Creation {
    let len = scale.collections(COLLECTIONS);
    let tenth = len / 10;
    let [ours, baseline, ours_of_tenth] = medians(
        scale,
        [
            &mut |n| creation::sample::<Ours>(len, n),
            &mut |n| creation::sample::<Baseline>(len, n),
            &mut |n| creation::sample::<Ours>(tenth, n),
        ],
    );
    let [ours, baseline, ours_of_tenth] = [
        ours / len as f64,
        baseline / len as f64,
        ours_of_tenth / tenth as f64,
    ];
    let note = format!(
        "creation, ours, each with a shard in memory storage: {ours:.0} ns each of {len} in one batch, {ours_of_tenth:.0} ns each of {tenth}"
    );
    let row = Row::nanoseconds("create_100k", ours, baseline).goal(Goal {
        text: "≤ 2 µs each, linear (each of 100,000 costs ≤ 2 × each of 10,000)",
        at_most: Some(2000.0),
        missed_otherwise: ours > LINEAR * ours_of_tenth,
        ..Goal::default()
    });
    Creation { row, note }
}
