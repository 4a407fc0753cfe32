//! Creating collections in one batch.

#![forbid(unsafe_code)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lowwater_bench::job::creation;
use lowwater_bench::sample::Scale;
use lowwater_bench::side::{Ours, Side, Usual};

fn create(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("creation");
    group.sample_size(10);
    for len in [1_000, 10_000, 100_000] {
        group.throughput(Throughput::Elements(len));
        side::<Ours>(&mut group, "ours", len);
        side::<Usual>(&mut group, "baseline", len);
    }
    group.finish();
}

fn side<S: Side>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, len: u64) {
    let in_batch = Scale::of_bench().collections(len);
    group.bench_function(format!("{len}/{name}"), |bencher| {
        bencher.iter_custom(|operations| creation::sample::<S>(in_batch, operations));
    });
}

criterion_group!(benches, create);
criterion_main!(benches);
