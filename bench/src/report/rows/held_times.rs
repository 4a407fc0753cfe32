//! One hold moved among many at distinct times.

use crate::job::held_times;
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians};
use crate::side::Side;

const HOLDS: u64 = 100_000;

pub(super) struct HeldTimes {
    pub(super) earliest: Row,
    pub(super) any: Row,
}

pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> HeldTimes {
    let holds = scale.collections(HOLDS);
    let ours = &mut held_times::HeldTimes::<Ours>::new(holds);
    let baseline = &mut held_times::HeldTimes::<Baseline>::new(holds);
    let [our_earliest, usual_earliest] = medians(
        scale,
        [&mut |n| ours.earliest(n), &mut |n| baseline.earliest(n)],
    );
    let [our_any, usual_any] = medians(scale, [&mut |n| ours.any(n), &mut |n| baseline.any(n)]);
    let earliest = Row::nanoseconds("held_times_100k", our_earliest, usual_earliest);
    HeldTimes {
        earliest: earliest.goal(Goal {
            text: "≤ 1 µs (the earliest hold moves: since moves with it)",
            at_most: Some(1000.0),
            ..Goal::default()
        }),
        // Where since stays, a `MutableAntichain` need not rebuild: said beside the other, to be
        // fair.
        any: Row::nanoseconds("held_times_100k_any", our_any, usual_any),
    }
}
