//! Holds while everything ticks.

use hdrhistogram::Histogram;

use crate::job::ticking::{EVERY, ReadersWhileTicking, Watched};
use crate::report::{Goal, Row};
use crate::sample::Scale;
use crate::side::Side;

const COLLECTIONS: u64 = 10_000;

pub(super) struct WhileTicking {
    pub(super) p999: Row,
    pub(super) further: [Row; 3],
    pub(super) notes: [String; 2],
}

pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> WhileTicking {
    let len = scale.collections(COLLECTIONS);
    let ours = ReadersWhileTicking::<Ours>::new(len).watch(scale.watch());
    let baseline = ReadersWhileTicking::<Baseline>::new(len).watch(scale.watch());
    let row = |name: &str, of: fn(&Histogram<u64>) -> u64| {
        let [ours, baseline, bare] =
            [&ours.holds, &baseline.holds, &ours.bare].map(|histogram| of(histogram) as f64);
        Row::nanoseconds(name, ours, baseline).floor(bare)
    };
    let p999 = row("hold_while_ticking_p999", |it| it.value_at_quantile(0.999)).goal(Goal {
        text: "p99.9 ≤ 1 µs; no stall with the length of a turn \
               (holds of half a turn or longer: fewer than one for ten turns, beyond twice what a \
               bare word shows)",
        at_most: Some(1000.0),
        missed_otherwise: !ours.is_free_of_stalls(),
        ..Goal::default()
    });
    let further = [
        row("hold_while_ticking_p50", |it| it.value_at_quantile(0.5)),
        row("hold_while_ticking_p99", |it| it.value_at_quantile(0.99)),
        row("hold_while_ticking_max", |it| it.max()),
    ];
    let notes = [
        describe("ours", len, &ours),
        describe("baseline", len, &baseline),
    ];
    WhileTicking {
        p999,
        further,
        notes,
    }
}

fn describe(who: &str, len: u64, watched: &Watched) -> String {
    let Watched {
        holds, ticks, due, ..
    } = watched;
    let at = |quantile| holds.value_at_quantile(quantile);
    format!(
        "hold while {len} collections tick every {EVERY:?}, {who}: {} holds, \
         p50 {} ns, p99 {} ns, p99.9 {} ns, max {} ns (two readings of the clock included); \
         {} of {due} ticks were done, p50 {} ns, p99 {} ns, max {} ns; \
         {} holds and {} of as many bare words took half a tick or longer",
        holds.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        holds.max(),
        ticks.len(),
        ticks.value_at_quantile(0.5),
        ticks.value_at_quantile(0.99),
        ticks.max(),
        watched.stalls(),
        watched.bare_stalls(),
    )
}
