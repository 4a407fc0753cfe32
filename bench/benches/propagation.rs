//! A change that travels through a chain, diamonds and a fan-out.

#![forbid(unsafe_code)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lowwater_bench::floor::Tracker;
use lowwater_bench::job::travel::Travel;
use lowwater_bench::sample::{Scale, timed};
use lowwater_bench::side::{Ours, Side, Usual};
use lowwater_bench::workload;

const COLLECTIONS: u64 = 100_000;

fn propagation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("propagation");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(COLLECTIONS));
    side::<Ours>(&mut group, "ours");
    side::<Usual>(&mut group, "baseline");
    tracker(&mut group);
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    let len = Scale::of_bench().collections(COLLECTIONS);
    let mut bench = |shape: &str, travel: &dyn Fn() -> Travel<S>| {
        // Made when the bench runs, not where it is filtered out.
        let mut made = None;
        group.bench_function(format!("{shape}/{name}"), |bencher| {
            let travel = made.get_or_insert_with(travel);
            bencher.iter_custom(|operations| travel.sample(operations));
        });
    };
    bench("chain", &|| Travel::to_the_first(workload::chain(len)));
    bench("diamonds", &|| {
        Travel::to_the_first(workload::diamonds(len))
    });
    bench("fan_out", &|| Travel::to_the_first(workload::fan_out(len)));
    bench("fan_out_all", &|| Travel::from_all(workload::fan_out(len)));
}

fn tracker(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut tracker = None;
    group.bench_function("chain/timely_tracker", |bencher| {
        let tracker = tracker
            .get_or_insert_with(|| Tracker::chain(Scale::of_bench().collections(COLLECTIONS)));
        bencher.iter_custom(|operations| timed(operations, || assert!(tracker.advance() > 0)));
    });
}

criterion_group!(benches, propagation);
criterion_main!(benches);
