//! Acquire and drop while 10,000 collections tick every millisecond on another thread.

#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use lowwater_bench::job::ticking::ReadersWhileTicking;
use lowwater_bench::sample::Scale;
use lowwater_bench::side::{Ours, Side, Usual};

fn ticking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("while_ticking");
    side::<Ours>(&mut group, "ours");
    side::<Usual>(&mut group, "baseline");
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    // Made when the first bench that is not filtered out needs it.
    let len = Scale::of_bench().collections(10_000);
    let mut readers = None;
    group.bench_function(format!("acquire_and_drop/{name}"), |bencher| {
        let readers = readers.get_or_insert_with(|| ReadersWhileTicking::<S>::new(len));
        bencher.iter_custom(|operations| readers.sample(operations));
    });
    // Only the releases are timed, and each thousand of them waits for two ticks before.
    let short = Duration::from_millis(50);
    group
        .sample_size(10)
        .warm_up_time(short)
        .measurement_time(short);
    group.bench_function(format!("release/{name}"), |bencher| {
        let readers = readers.get_or_insert_with(|| ReadersWhileTicking::<S>::new(len));
        bencher.iter_custom(|operations| readers.release(operations));
    });
}

criterion_group!(benches, ticking);
criterion_main!(benches);
