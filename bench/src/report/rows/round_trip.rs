//! Asking, and waiting for the answer.

use hdrhistogram::Histogram;

use crate::floor::Doorbell;
use crate::job::round_trip;
use crate::report::{Goal, Row};
use crate::sample::{Scale, nanosecond_histogram};
use crate::side::Side;

const COLLECTIONS: u64 = 10_000;

/// How many in a row are measured of one before it is the next one's turn.
const ROUNDS: u64 = 50;

pub(super) struct RoundTrip {
    pub(super) p50: Row,
    pub(super) note: String,
}

pub(super) fn measure<Ours: Side, Baseline: Side>(scale: Scale) -> RoundTrip {
    let len = scale.collections(COLLECTIONS);
    let mut ours = round_trip::RoundTrip::<Ours>::new(len);
    let mut baseline = round_trip::RoundTrip::<Baseline>::new(len);
    let doorbell = Doorbell::new().ok();
    let [mut our_times, mut usual_times, mut bare_times] =
        std::array::from_fn(|_| nanosecond_histogram());
    for _ in 0..turns(scale) {
        record(&mut our_times, || ours.sample(1));
        record(&mut usual_times, || baseline.sample(1));
        if let Some(doorbell) = &doorbell {
            record(&mut bare_times, || {
                crate::sample::timed(1, || doorbell.ring())
            });
        }
    }
    let p50 = |times: &Histogram<u64>| times.value_at_quantile(0.5) as f64;
    let mut row = Row::nanoseconds("round_trip_p50", p50(&our_times), p50(&usual_times));
    if !bare_times.is_empty() {
        row = row.floor(p50(&bare_times));
    }
    RoundTrip {
        p50: row.goal(Goal {
            text: "p50 within 1.5 × of a bare wake-up round trip measured in the same run",
            times_floor: Some(1.5),
            ..Goal::default()
        }),
        note: format!(
            "round trip: ours {}; baseline {}; bare {}",
            describe(&our_times),
            describe(&usual_times),
            describe(&bare_times)
        ),
    }
}

fn turns(scale: Scale) -> u64 {
    match scale {
        Scale::Full => 1000,
        Scale::Quick => 100,
        Scale::Smoke => 1,
    }
}

fn record(times: &mut Histogram<u64>, mut once: impl FnMut() -> std::time::Duration) {
    for _ in 0..ROUNDS {
        times.saturating_record(once().as_nanos() as u64);
    }
}

fn describe(times: &Histogram<u64>) -> String {
    let at = |quantile| times.value_at_quantile(quantile);
    format!(
        "p50 {} ns, p99 {} ns, p99.9 {} ns, max {} ns",
        at(0.5),
        at(0.99),
        at(0.999),
        times.max()
    )
}
