//! One hold moved among many distinct held times.

#![forbid(unsafe_code)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use lowwater_bench::job::held_times::HeldTimes;
use lowwater_bench::sample::Scale;
use lowwater_bench::side::{Ours, Side, Usual};

fn held_times(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("held_times");
    group.sample_size(10);
    for holds in [1, 1_000, 100_000] {
        side::<Ours>(&mut group, "ours", holds);
        side::<Usual>(&mut group, "baseline", holds);
    }
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, holds: u64) {
    // Made when the first bench that is not filtered out needs it.
    let holding = Scale::of_bench().collections(holds);
    let mut held_times = None;
    group.bench_function(format!("downgrade_earliest/{holds}/{name}"), |bencher| {
        let held_times = held_times.get_or_insert_with(|| HeldTimes::<S>::new(holding));
        bencher.iter_custom(|operations| held_times.earliest(operations));
    });
    group.bench_function(format!("downgrade_any/{holds}/{name}"), |bencher| {
        let held_times = held_times.get_or_insert_with(|| HeldTimes::<S>::new(holding));
        bencher.iter_custom(|operations| held_times.any(operations));
    });
}

criterion_group!(benches, held_times);
criterion_main!(benches);
