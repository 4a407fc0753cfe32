//! Parts of 100,000 rows: written, read and consolidated, beside the `parquet` crate alone with the
//! same rows and settings.
#![expect(clippy::unwrap_used, reason = "a bench that fails has no figures")]

#[path = "parts/rows.rs"]
mod rows;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lowwater::{ShardId, Since};
use lowwater_shard::{Parts, SchemaId, SeqNo, Updates};
use tokio::runtime::Runtime;

const ROWS: u64 = 100_000;

fn parts(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (schema, updates) = (rows::schema(), rows::flights(ROWS).consolidate());
    let (shard, id) = (ShardId::new(1), SchemaId::new(0));
    let folder = tempfile::tempdir().unwrap();
    let places = [
        ("memory", Parts::memory()),
        ("folder", Parts::folder(folder.path()).unwrap()),
    ];
    let mut group = criterion.benchmark_group("parts_100k");
    group
        .throughput(Throughput::Elements(ROWS))
        .sample_size(20)
        .measurement_time(Duration::from_secs(4));
    let alone = rows::parquet(&updates);
    group.bench_function("write_parquet_alone", |bench| {
        bench.iter(|| black_box(rows::parquet(&updates)));
    });
    group.bench_function("read_parquet_alone", |bench| {
        bench.iter(|| black_box(rows::read_parquet(Bytes::clone(&alone))));
    });
    for (name, parts) in &places {
        let write = async || {
            let written = parts.write(shard, SeqNo::FIRST, id, &schema, &updates);
            written.await.unwrap()
        };
        let stored = runtime.block_on(write());
        group.bench_function(format!("write_{name}"), |bench| {
            bench.iter(|| {
                runtime.block_on(async {
                    let stored = write().await;
                    // Its cost is not that of writing, but space has to be free again.
                    parts.delete(shard, &[stored.name()]).await.unwrap();
                });
            });
        });
        group.bench_function(format!("read_{name}"), |bench| {
            bench.iter(|| {
                let read = parts.read::<u64>(shard, &stored, &schema);
                black_box(runtime.block_on(read).unwrap());
            });
        });
    }
    group.bench_function("consolidate_sorted", |bench| {
        let sorted = || updates.clone();
        bench.iter_batched(sorted, Updates::consolidate, BatchSize::LargeInput);
    });
    let mut mixed = rows::flights(ROWS);
    mixed.advance(&Since::at(500));
    group.bench_function("consolidate_unsorted", |bench| {
        let mixed = || mixed.clone();
        bench.iter_batched(mixed, Updates::consolidate, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, parts);
criterion_main!(benches);
