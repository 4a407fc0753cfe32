//! Tables behind an engine: it hears how far all of them are written at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use lowwater::{
    DowngradeSinces, OpenOutcome, OpenShards, ShardId, Storage, StorageReport, StorageReports,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::handle::Tables;
use super::state::TxnsState;
use super::time::TableTime;

/// The storage of an engine some of whose collections are tables: their uppers are those that the
/// transactions give them, and advance together, in one input to the engine.
///
/// All other shards, and everything else, are those of the storage within.
#[derive(Debug)]
pub struct TableStorage<S, T: TableTime> {
    within: S,
    runtime: Handle,
    opened: Arc<Opened<T>>,
    task: AbortHandle,
}

/// The shards that the engine has opened.
#[derive(Debug)]
struct Opened<T: TableTime> {
    tables: Tables<T>,
    /// Tables that are followed by their own uppers.
    migrated: BTreeSet<ShardId>,
    shards: Mutex<BTreeSet<ShardId>>,
    /// All lead to the one engine.
    reports: Mutex<Option<StorageReports<T>>>,
}

impl<S, T: TableTime> TableStorage<S, T> {
    /// The uppers of tables from `tables`, all else from `within`. Tables in `migrated` are left to
    /// the storage within: somebody else writes to them, without transactions.
    pub fn new(
        runtime: &Handle,
        within: S,
        tables: Tables<T>,
        migrated: BTreeSet<ShardId>,
    ) -> Self {
        let opened = Arc::new(Opened {
            tables,
            migrated,
            shards: Mutex::default(),
            reports: Mutex::default(),
        });
        let task = runtime.spawn(Arc::clone(&opened).follow()).abort_handle();
        TableStorage {
            within,
            runtime: runtime.clone(),
            opened,
            task,
        }
    }
}

impl<S, T: TableTime> Drop for TableStorage<S, T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: Storage<T>, T: TableTime> Storage<T> for TableStorage<S, T> {
    fn open(&mut self, request: OpenShards<T>) {
        let (runtime, opened) = (self.runtime.clone(), Arc::clone(&self.opened));
        let reports = request.reports().clone();
        *self.opened.reports.lock() = Some(reports.clone());
        let shards = request.shards().to_vec();
        // Answered once; dropped unanswered, it counts as failed.
        let asked = Mutex::new(Some(request));
        let receive = move |report| match report {
            StorageReport::Opened { outcomes, .. } => {
                if let Some(request) = asked.lock().take() {
                    runtime.spawn(Arc::clone(&opened).answer(request, outcomes));
                }
            }
            // What transactions have applied is never further than what they have committed.
            StorageReport::UppersAdvanced(uppers) => reports.uppers_advanced(uppers),
            StorageReport::Fenced(by) => reports.fenced(by),
            StorageReport::Lapsed(sinces) => reports.lapsed(sinces),
            StorageReport::Downgraded(_) => {}
        };
        self.within
            .open(OpenShards::new(0, shards, StorageReports::new(receive)));
    }

    fn downgrade(&mut self, request: DowngradeSinces<T>) {
        for wish in request.wishes() {
            if wish.since.is_gone() {
                self.opened.shards.lock().remove(&wish.shard);
            }
        }
        self.within.downgrade(request);
    }
}

impl<T: TableTime> Opened<T> {
    /// Reports how far all tables are written whenever that changes.
    async fn follow(self: Arc<Self>) {
        let mut uppers = self.tables.uppers();
        loop {
            {
                // Nobody is answered meanwhile, so that nobody misses this and is not told before.
                let cache = self.tables.inner.cache.lock().await;
                uppers.mark_unchanged();
                self.report(&cache.state);
            }
            if uppers.changed().await.is_err() {
                return;
            }
        }
    }

    fn report(&self, state: &TxnsState<T>) {
        let shards = self.shards.lock();
        let upper = |id: &ShardId| Some((*id, state.logical_upper(*id)?));
        let uppers: Vec<_> = shards.iter().filter_map(upper).collect();
        drop(shards);
        let reports = self.reports.lock().clone();
        if let Some(reports) = reports {
            reports.uppers_advanced(uppers);
        }
    }

    /// Answers for tables how far transactions have written them.
    async fn answer(self: Arc<Self>, request: OpenShards<T>, mut outcomes: Vec<OpenOutcome<T>>) {
        let cache = self.tables.inner.cache.lock().await;
        for (id, outcome) in &mut outcomes {
            let Ok(opened) = outcome else { continue };
            if self.migrated.contains(id) || opened.since.is_gone() {
                continue;
            }
            self.shards.lock().insert(*id);
            if let Some(upper) = cache.state.logical_upper(*id) {
                opened.upper = upper;
            }
        }
        request.answer(outcomes);
    }
}
