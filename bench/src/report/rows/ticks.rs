//! A tick of everything, at four sizes.

use crate::floor::Arrays;
use crate::job::ticks::Ticks;
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians, timed};
use crate::side::Side;
use crate::workload;

pub(super) struct Tick {
    pub(super) name: &'static str,
    len: u64,
    text: &'static str,
    times_baseline: Option<f64>,
}

pub(super) const TICKS: [Tick; 4] = [
    Tick {
        name: "tick_1k",
        len: 1_000,
        text: "≤ 40 ns per collection",
        times_baseline: None,
    },
    Tick {
        name: "tick_10k",
        len: 10_000,
        text: "≤ 40 ns per collection",
        times_baseline: None,
    },
    Tick {
        name: "tick_100k",
        len: 100_000,
        text: "≤ 40 ns per collection; ≥ 20 × the baseline",
        times_baseline: Some(20.0),
    },
    Tick {
        name: "tick_1m",
        len: 1_000_000,
        text: "≤ 40 ns per collection; ≥ 25 × the baseline",
        times_baseline: Some(25.0),
    },
];

pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale, tick: Tick) -> Row {
    let Tick {
        name,
        len,
        text,
        times_baseline,
    } = tick;
    let len = scale.collections(len);
    let mut ours = Ticks::<Ours>::new(len);
    let mut baseline = Ticks::<Baseline>::new(len);
    let mut arrays = Arrays::new(&workload::forest(len).collect::<Vec<_>>());
    let mut upper = 0;
    let mut tick_arrays = || {
        upper += 1;
        arrays.tick(upper);
    };
    let [ours, baseline, floor] = medians(
        scale,
        [
            &mut |n| ours.sample(n),
            &mut |n| baseline.sample(n),
            &mut |n| timed(n, &mut tick_arrays),
        ],
    )
    .map(|tick| tick / len as f64);
    assert!(
        arrays.since().is_some(),
        "the arrays are looked at, or nothing would fill them"
    );
    Row::nanoseconds(name, ours, baseline)
        .floor(floor)
        .goal(Goal {
            text,
            at_most: Some(40.0),
            times_baseline,
            ..Goal::default()
        })
}
