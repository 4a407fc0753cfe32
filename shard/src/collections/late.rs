//! Tables behind an engine that has started before them: it hears how far all of them are written at
//! once.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};

use lowwater::{
    DowngradeSinces, OpenShards, ShardId, Storage, StorageReport, StorageReports, Upper,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::id::Epoch;
use crate::tables::{TableTime, Tables};
use crate::time::ShardTime;

use super::table_set::TableSet;

/// The tables of a store, from when on they are opened.
pub(super) struct LateTables<T: ShardTime> {
    set: OnceLock<Arc<dyn TableSet<T>>>,
    /// Shards of tables: their uppers are those that the transactions give them.
    followed: Mutex<BTreeSet<ShardId>>,
    /// All lead to the one engine.
    reports: Mutex<Option<StorageReports<T>>>,
    task: OnceLock<AbortHandle>,
    /// Who opens them, or changes what they may do: one at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl<T: ShardTime> LateTables<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(LateTables {
            set: OnceLock::new(),
            followed: Mutex::default(),
            reports: Mutex::default(),
            task: OnceLock::new(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn set(&self) -> Option<&Arc<dyn TableSet<T>>> {
        self.set.get()
    }

    /// From now on these shards are followed as tables, as soon as the engine opens them.
    pub(super) fn follow(&self, shards: impl IntoIterator<Item = ShardId>) {
        self.followed.lock().extend(shards);
    }

    fn reports(&self) -> Option<StorageReports<T>> {
        self.reports.lock().clone()
    }

    fn followed_of(&self, shards: &[ShardId]) -> BTreeSet<ShardId> {
        let followed = self.followed.lock();
        let shards = shards.iter();
        shards
            .filter(|shard| followed.contains(shard))
            .copied()
            .collect()
    }
}

impl<T: TableTime> LateTables<T> {
    pub(super) fn tables(&self) -> Option<&Tables<T>> {
        let set: &dyn Any = &**self.set.get()?;
        set.downcast_ref()
    }

    /// They are opened; false if they were before.
    pub(super) fn open(self: &Arc<Self>, runtime: &Handle, tables: Tables<T>) -> bool {
        let (uppers, fenced) = (tables.uppers(), tables.fenced());
        if self.set.set(Arc::new(tables)).is_err() {
            return false;
        }
        let task = runtime.spawn(report_all(Arc::downgrade(self), uppers, fenced));
        self.task.set(task.abort_handle()).is_ok()
    }

    /// Reports how far all tables are written.
    async fn report(&self) {
        let Some(tables) = self.tables() else { return };
        // Nobody is answered meanwhile, so that nobody misses this and is not told before.
        tables
            .with_state(|state| {
                let followed = self.followed.lock();
                let known = state.known().filter(|id| followed.contains(id));
                let upper = |id| Some((id, state.logical_upper(id)?));
                let uppers: Vec<_> = known.filter_map(upper).collect();
                drop(followed);
                if let Some(reports) = self.reports().filter(|_| !uppers.is_empty()) {
                    reports.uppers_advanced(uppers);
                }
            })
            .await;
    }
}

impl<T: ShardTime> Drop for LateTables<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Reports whenever something has changed, until somebody else has taken over: a controller that
/// only commits hears of that nowhere else.
async fn report_all<T: TableTime>(
    late: Weak<LateTables<T>>,
    mut uppers: watch::Receiver<Upper<T>>,
    mut fenced: watch::Receiver<Option<Epoch>>,
) {
    loop {
        uppers.mark_unchanged();
        let Some(late) = late.upgrade() else { return };
        if let (Some(by), Some(reports)) = (*fenced.borrow_and_update(), late.reports()) {
            return reports.fenced(by);
        }
        late.report().await;
        drop(late);
        let changed = tokio::select! {
            changed = uppers.changed() => changed,
            changed = fenced.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// The storage of an engine some of whose collections are tables: their uppers are those that the
/// transactions give them, and advance together, in one input to the engine.
///
/// All other shards, and everything else, are those of the storage within.
pub(super) struct TableStorage<S, T: ShardTime> {
    pub(super) within: S,
    pub(super) runtime: Handle,
    pub(super) late: Arc<LateTables<T>>,
}

impl<S: Storage<T>, T: ShardTime> Storage<T> for TableStorage<S, T> {
    fn open(&mut self, request: OpenShards<T>) {
        let reports = request.reports().clone();
        *self.late.reports.lock() = Some(reports.clone());
        let tables = self.late.followed_of(request.shards());
        let Some(set) = self.late.set().filter(|_| !tables.is_empty()).cloned() else {
            return self.within.open(request);
        };
        let shards = request.shards().to_vec();
        let runtime = self.runtime.clone();
        // Answered once; dropped unanswered, it counts as failed.
        let asked = Mutex::new(Some((request, set, tables)));
        let receive = move |report| match report {
            StorageReport::Opened { mut outcomes, .. } => {
                let Some((request, set, tables)) = asked.lock().take() else {
                    return;
                };
                let answer = Box::new(move |mut uppers: super::table_set::Uppers<T>| {
                    for (id, outcome) in &mut outcomes {
                        let Ok(opened) = outcome else { continue };
                        if let Some(upper) = uppers.remove(id).filter(|_| !opened.since.is_gone()) {
                            opened.upper = upper;
                        }
                    }
                    request.answer(outcomes);
                });
                runtime.spawn(async move { set.tell(tables, answer).await });
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
        let released = request.wishes().iter().filter(|wish| wish.since.is_gone());
        let released: BTreeSet<ShardId> = released.map(|wish| wish.shard).collect();
        if !released.is_empty() {
            let mut followed = self.late.followed.lock();
            followed.retain(|shard| !released.contains(shard));
        }
        self.within.downgrade(request);
    }

    fn let_go(&mut self, shards: Vec<ShardId>) {
        self.within.let_go(shards);
    }
}

#[cfg(test)]
mod tests;
