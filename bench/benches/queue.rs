//! Sending and receiving: the command queue, `tokio::sync::mpsc` and `crossbeam-channel`.

#![forbid(unsafe_code)]

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use lowwater_bench::job::messages::{self, Channel, Crossbeam, Queue, Tokio};

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    channel::<Queue>(&mut group, "ours");
    channel::<Tokio>(&mut group, "tokio");
    channel::<Crossbeam>(&mut group, "crossbeam");
    group.finish();
}

fn channel<C: Channel>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    group.bench_function(format!("send_and_receive/{name}"), |bencher| {
        bencher.iter_custom(messages::one_thread::<C>);
    });
    group.bench_function(format!("two_producers/{name}"), |bencher| {
        bencher.iter_custom(messages::two_producers::<C>);
    });
}

criterion_group!(benches, queue);
criterion_main!(benches);
