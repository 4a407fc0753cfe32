//! Durable downgrades of many sinces: together, and one compare-and-set after another.
#![expect(clippy::unwrap_used, reason = "a bench that fails has no figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowwater::{ShardId, Since};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, Offer};
use lowwater_shard::record::{CriticalError, Decision, Downgraded, SinceChange, SinceRecord};
use lowwater_shard::{Epoch, Log, LogId, ReaderId, SeqNo, Task, Transactor};
use tokio::runtime::Runtime;

const SHARDS: u64 = 10_000;
const READER: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);

type Sinces = SinceRecord<u64>;

fn open(record: &Sinces) -> Result<Decision<SinceChange<u64>, ()>, CriticalError<u64>> {
    let Decision { changes, .. } = record.open_critical(READER, EPOCH);
    Ok(Decision {
        changes,
        outcome: (),
    })
}

/// Many shards whose sinces one controller moves.
struct Controller {
    runtime: Runtime,
    transactor: Transactor,
    logs: Vec<Log<Sinces>>,
    since: u64,
}

impl Controller {
    fn new(runtime: Runtime, store: Arc<dyn Consensus>) -> Self {
        let transactor = Transactor::new(store, None);
        let mut logs: Vec<_> = (0..SHARDS)
            .map(|id| Log::new(ShardId::new(id.into())))
            .collect();
        let tasks = logs.iter_mut().map(|log| Task { log, command: open });
        let opened = runtime.block_on(transactor.carry_out_all(tasks.collect()));
        assert!(opened.iter().all(Result::is_ok));
        Controller {
            runtime,
            transactor,
            logs,
            since: 0,
        }
    }

    fn downgrade_together(&mut self) {
        self.since += 1;
        let since = Since::at(self.since);
        let downgrade =
            |record: &Sinces| record.compare_and_downgrade(READER, EPOCH, EPOCH, &since);
        let tasks = self.logs.iter_mut().map(|log| Task {
            log,
            command: downgrade,
        });
        let outcomes = self
            .runtime
            .block_on(self.transactor.carry_out_all(tasks.collect()));
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == Ok(Downgraded::Moved))
        );
    }
}

/// One bare compare-and-set after another, of as many bytes as a downgrade writes: what the same
/// job costs the usual way.
fn one_by_one(runtime: &Runtime, store: &dyn Consensus, shards: u64, seen: &mut u64) {
    let data = vec![7; 70];
    runtime.block_on(async {
        for shard in 0..shards {
            let offer = Offer {
                log: LogId::data(ShardId::new(shard.into())),
                seen: (*seen > 0).then(|| SeqNo::new(*seen)),
                data: data.clone().into(),
                keep_from: None,
            };
            let outcomes = store.commit(None, vec![offer]).await.unwrap();
            black_box(outcomes.unwrap());
        }
    });
    *seen += 1;
}

fn downgrades(criterion: &mut Criterion, name: &str, runtime: Runtime, store: &Arc<dyn Consensus>) {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(4));
    let mut seen = 0;
    group.throughput(Throughput::Elements(100));
    group.bench_function("one_by_one", |bencher| {
        bencher.iter(|| one_by_one(&runtime, &**store, 100, &mut seen));
    });
    let mut controller = Controller::new(runtime, Arc::clone(store));
    group.throughput(Throughput::Elements(SHARDS));
    group.bench_function("together", |bencher| {
        bencher.iter(|| controller.downgrade_together())
    });
    group.finish();
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn sqlite(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Consensus> = Arc::new(EmbeddedConsensus::open(folder.path()).unwrap());
    downgrades(criterion, "downgrade_10k_sqlite", runtime(), &store);
}

/// In a schema of its own, where `LOWWATER_TEST_POSTGRES` names a server.
fn postgres(criterion: &mut Criterion) {
    let Ok(server) = std::env::var("LOWWATER_TEST_POSTGRES") else {
        return;
    };
    let runtime = runtime();
    let execute = |statement: &'static str| async {
        let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client.batch_execute(statement).await.unwrap();
    };
    runtime.block_on(execute("DROP SCHEMA IF EXISTS lowwater_bench CASCADE"));
    runtime.block_on(execute("CREATE SCHEMA lowwater_bench"));
    let separator = if server.contains('?') { '&' } else { '?' };
    let address = format!("{server}{separator}options=-c%20search_path%3Dlowwater_bench");
    let config = PostgresConfig::new(&address).unwrap();
    let store = runtime.block_on(PostgresConsensus::open(config)).unwrap();
    downgrades(
        criterion,
        "downgrade_10k_postgres",
        runtime,
        &(Arc::new(store) as _),
    );
}

criterion_group!(benches, sqlite, postgres);
criterion_main!(benches);
