//! What transactions cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use lowwater_shard::consensus::{
    Answer, Changes, Consensus, Fence, Fenced, MemoryConsensus, Offer, Outcome, Scan, Truncation,
    Version,
};
use lowwater_shard::{Column, ColumnKind, LogId, LogKind, Schema};

use super::super::world::*;
use super::*;

/// A store that counts what is done with data; sinces and metadata are not what transactions cost.
#[derive(Clone, Debug)]
struct Meter {
    store: MemoryConsensus,
    /// Nobody writes there, so nobody hears of it: those who follow what others write hear of what
    /// this process has written as well, now and then, and look.
    silent: MemoryConsensus,
    writes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

impl Meter {
    fn new() -> Self {
        Meter {
            store: MemoryConsensus::new(),
            silent: MemoryConsensus::new(),
            writes: Arc::default(),
            reads: Arc::default(),
        }
    }

    /// How often data were written, and read, since this was asked last.
    fn taken(&self) -> (usize, usize) {
        let writes = self.writes.swap(0, Ordering::SeqCst);
        (writes, self.reads.swap(0, Ordering::SeqCst))
    }
}

fn count(counter: &AtomicUsize, mut logs: impl Iterator<Item = LogId>) {
    let has_data = logs.any(|log| log.kind == LogKind::Data);
    counter.fetch_add(usize::from(has_data), Ordering::SeqCst);
}

impl Consensus for Meter {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        count(&self.reads, logs.iter().copied());
        self.store.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        count(&self.writes, offers.iter().map(|offer| offer.log));
        self.store.commit(fence, offers)
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        count(&self.reads, scans.iter().map(|scan| scan.log));
        self.store.scan(scans)
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        self.store.truncate(truncations)
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.store.list(after, logs_max)
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.store.fence()
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        self.store.take_over(fence)
    }

    fn changes(&self) -> Changes {
        self.silent.changes()
    }
}

#[test]
fn a_commit_is_one_write_and_no_read_and_all_that_is_due_is_applied_in_one_write() {
    run(async {
        let meter = Meter::new();
        let store: World = Arc::new(meter.clone());
        let mut start = quick();
        start.apply_interval = Duration::from_secs(3_600);
        let controller = Controller::start_with(&store, start).await;
        let tables: Vec<u64> = (1..=20).collect();
        let existing = tables.iter().copied().collect();
        let _ = controller.initialize(&existing, &ids([])).await;
        let created = tables.iter().map(|id| new(*id, Kind::Table)).collect();
        let created = controller.collections.create(Some(0), created);
        let created = created.await.unwrap();
        let tables_of = controller.collections.tables().unwrap();
        // The first commit is applied at once, and those that come soon after are not.
        commit(&controller, 1, [(1, 1)]).await;
        comes_true("it is applied", async || {
            tables_of.state().await.oldest_unapplied().is_none()
        })
        .await;
        let _ = meter.taken();
        for at in 2..202 {
            let mut transaction = controller.collections.begin().unwrap();
            for id in &tables {
                transaction.write(*id, batch([7]), vec![1]).unwrap();
            }
            transaction.commit_at(&at).await.unwrap();
        }
        for table in &created {
            within(table.wait_for_upper_past([201])).await.unwrap();
        }
        assert_eq!(meter.taken(), (200, 0));
        // 4,000 writes to 20 tables reach them in one.
        tables_of.apply_through(&201).await.unwrap();
        assert_eq!(meter.taken(), (1, 1));
        assert_eq!(tables_of.state().await.oldest_unapplied(), None);
        // They are taken away with the next commit.
        controller.collections.advance(&300).await.unwrap();
        assert_eq!(meter.taken(), (1, 0));
        assert_eq!(read(&controller, 20, 300).await.len(), 200);
    });
}

#[test]
fn what_is_large_is_applied_soon() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let mut start = quick();
        start.apply_interval = Duration::from_secs(3_600);
        let controller = Controller::start_with(&store, start).await;
        let _ = controller.initialize(&ids([1]), &ids([])).await;
        let mut large = new(1, Kind::Table);
        let column = Column {
            name: "large".to_owned(),
            kind: ColumnKind::Bytes,
            nullable: false,
        };
        large.description.schema = Schema::new(vec![column]).unwrap();
        let schema = large.description.schema.clone();
        let created = controller.collections.create(Some(5), vec![large]);
        let _ = created.await.unwrap();
        let tables = controller.collections.tables().unwrap();
        for (at, bytes) in [(10, 1), (11, 3 << 20), (12, 3 << 20), (13, 3 << 20)] {
            let value: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&vec![7; bytes]]));
            let large = RecordBatch::try_new(schema.arrow(), vec![value]).unwrap();
            let mut transaction = controller.collections.begin().unwrap();
            transaction.write(1, large, vec![1]).unwrap();
            transaction.commit_at(&at).await.unwrap();
            if at == 10 {
                // The first is applied at once, and the next ones would wait.
                comes_true("what is first is applied", async || {
                    tables.state().await.oldest_unapplied().is_none()
                })
                .await;
            }
        }
        comes_true("what is large is applied", async || {
            let state = tables.state().await;
            state.oldest_unapplied().is_none_or(|at| *at > 11)
        })
        .await;
    });
}
