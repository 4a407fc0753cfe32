//! A command to a sleeping owner and its answer, beside a bare wake-up round trip.

#![forbid(unsafe_code)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use lowwater_bench::floor::Doorbell;
use lowwater_bench::job::round_trip::RoundTrip;
use lowwater_bench::sample::{Scale, timed};
use lowwater_bench::side::{Ours, Side, Usual};

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round_trip");
    side::<Ours>(&mut group, "ours");
    side::<Usual>(&mut group, "baseline");
    floor(&mut group);
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    // Made when the bench runs, not where it is filtered out.
    let mut round_trip = None;
    group.bench_function(name, |bencher| {
        let round_trip = round_trip
            .get_or_insert_with(|| RoundTrip::<S>::new(Scale::of_bench().collections(10_000)));
        bencher.iter_custom(|operations| round_trip.sample(operations));
    });
}

fn floor(group: &mut BenchmarkGroup<'_, WallTime>) {
    let doorbell = Doorbell::new().expect("the system has a poll and a thread to give");
    group.bench_function("bare_wake_up", |bencher| {
        bencher.iter_custom(|operations| timed(operations, || doorbell.ring()));
    });
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
