//! Large batches of rows: appended to shards and read again, beside the `parquet` crate alone.

#![forbid(unsafe_code)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowwater_bench::job::rows::Place;
use lowwater_bench::sample::Scale;

const ROWS: u64 = 100_000;

fn rows(criterion: &mut Criterion) {
    let rows = Scale::of_bench().rows(ROWS);
    for (name, place) in [
        ("folder", Place::folder(rows)),
        ("memory", Place::memory(rows)),
    ] {
        let written = place.written();
        let mut group = criterion.benchmark_group(format!("rows/{name}"));
        group.sample_size(10).throughput(Throughput::Elements(rows));
        group.bench_function("append", |bencher| {
            bencher.iter_custom(|operations| place.append_to_a_shard(operations));
        });
        group.bench_function("append/parquet", |bencher| {
            bencher.iter_custom(|operations| place.append_with_parquet_alone(operations));
        });
        group.bench_function("snapshot", |bencher| {
            bencher.iter_custom(|operations| written.snapshot(operations));
        });
        group.bench_function("snapshot/parquet", |bencher| {
            bencher.iter_custom(|operations| written.read_with_parquet_alone(operations));
        });
        group.finish();
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
