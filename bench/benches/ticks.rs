//! A tick of 1,000 to 1,000,000 collections, everything published; the time is for all of them.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lowwater_bench::floor::Arrays;
use lowwater_bench::job::ticks::Ticks;
use lowwater_bench::sample::{Scale, timed};
use lowwater_bench::side::{Ours, Side, Usual};
use lowwater_bench::workload;

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn ticks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ticks");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for len in SIZES {
        group.throughput(Throughput::Elements(len));
        side::<Ours>(&mut group, "ours", len);
        side::<Usual>(&mut group, "baseline", len);
        floor(&mut group, len);
    }
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, len: u64) {
    // Made when the bench runs, not where it is filtered out.
    let mut ticks = None;
    group.bench_function(format!("{len}/{name}"), |bencher| {
        let ticks =
            ticks.get_or_insert_with(|| Ticks::<S>::new(Scale::of_bench().collections(len)));
        bencher.iter_custom(|operations| ticks.sample(operations));
    });
}

fn floor(group: &mut BenchmarkGroup<'_, WallTime>, len: u64) {
    let nodes: Vec<_> = workload::forest(Scale::of_bench().collections(len)).collect();
    let mut arrays = Arrays::new(&nodes);
    let mut upper = 0;
    group.bench_function(format!("{len}/floor"), |bencher| {
        bencher.iter_custom(|operations| {
            timed(operations, || {
                upper += 1;
                arrays.tick(upper);
            })
        });
    });
    assert!(arrays.since().is_some());
}

criterion_group!(benches, ticks);
criterion_main!(benches);
