//! Acquire and drop: by handle, by id, cloned; one thread and two, one collection and two.

#![forbid(unsafe_code)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use lowwater_bench::job::holds::Readers;
use lowwater_bench::sample::Scale;
use lowwater_bench::side::{Ours, Side, Usual};

fn holds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("holds");
    side::<Ours>(&mut group, "ours");
    side::<Usual>(&mut group, "baseline");
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    // Made when the first bench that is not filtered out needs it.
    let mut readers = None;
    let mut bench = |what: &str, sample: fn(&mut Readers<S>, u64) -> _| {
        group.bench_function(format!("{what}/{name}"), |bencher| {
            let readers =
                readers.get_or_insert_with(|| Readers::new(Scale::of_bench().collections(10_000)));
            bencher.iter_custom(|operations| sample(readers, operations));
        });
    };
    bench("by_handle", Readers::by_handle);
    bench("by_id", Readers::by_id);
    bench("cloned", Readers::cloned);
    bench("one_collection", Readers::one_collection);
    bench(
        "two_threads_one_collection",
        Readers::two_threads_one_collection,
    );
    bench(
        "two_threads_two_collections",
        Readers::two_threads_two_collections,
    );
}

criterion_group!(benches, holds);
criterion_main!(benches);
