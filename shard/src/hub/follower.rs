//! The task that reads what others write, told by the store where to look.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::ShardId;
use tokio::sync::watch;

use crate::consensus::{Changes, Hint};
use crate::id::LogKind;
use crate::record::DataRecord;
use crate::time::ShardTime;

use super::{ById, Hub, Shard};

/// How many logs are read in one request when any may have changed: so that commits come between.
const LOGS_AT_ONCE: usize = 1_000;

/// How long to wait before logs are read again that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait before logs are read that somebody else was just reading or writing.
const BUSY_AGAIN: Duration = Duration::from_millis(5);

/// How long hints are gathered behind those that were followed: where this process itself writes all
/// the time, it is hinted at what it knows.
const GATHER: Duration = Duration::from_millis(1);

pub(super) struct Follower<T: ShardTime> {
    hub: Weak<Hub<T>>,
    changes: Changes,
    /// Shards that have changed and were not read.
    unread: BTreeSet<ShardId>,
    /// When to read them, at the latest.
    again_in: Duration,
    /// Says, when it goes, that nobody follows any more.
    _stopping: Stopping,
}

struct Stopping(watch::Sender<bool>);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl<T: ShardTime> Follower<T> {
    pub(super) fn new(hub: &Arc<Hub<T>>, changes: Changes) -> Self {
        Follower {
            hub: Arc::downgrade(hub),
            changes,
            unread: BTreeSet::new(),
            again_in: Duration::ZERO,
            _stopping: Stopping(hub.stopped.clone()),
        }
    }

    /// Until the hub goes.
    pub(super) async fn run(mut self) {
        loop {
            let hint = tokio::select! {
                biased;
                hint = self.changes.next() => hint,
                () = tokio::time::sleep(self.again_in), if !self.unread.is_empty() => {
                    Hint::Logs(BTreeSet::new())
                }
            };
            let Some(hub) = self.hub.upgrade() else {
                return;
            };
            self.follow(&hub, hint).await;
            drop(hub);
            tokio::time::sleep(GATHER).await;
        }
    }

    async fn follow(&mut self, hub: &Hub<T>, hint: Hint) {
        let unread = std::mem::take(&mut self.unread);
        self.again_in = Duration::ZERO;
        let mut changed: ById<_> = match hint {
            Hint::Logs(logs) => {
                let mut changed = ById::new();
                for log in logs {
                    match log.kind {
                        LogKind::Data => {
                            changed.extend(hub.used(log.shard).map(|shard| (log.shard, shard)));
                        }
                        LogKind::Since => hub.tell_keepers(log.shard),
                        LogKind::Metadata => {}
                    }
                }
                changed
            }
            Hint::Any => {
                let used = hub.all_used().into_iter();
                used.map(|shard| (shard.id, shard)).collect()
            }
        };
        let unread = unread.into_iter().filter_map(|id| hub.used(id));
        changed.extend(unread.map(|shard| (shard.id, shard)));
        while !changed.is_empty() {
            let later = changed.keys().nth(LOGS_AT_ONCE).copied();
            let later = later.map(|first| changed.split_off(&first));
            self.read(hub, &changed).await;
            changed = later.unwrap_or_default();
        }
    }

    async fn read(&mut self, hub: &Hub<T>, shards: &ById<Arc<Shard<T>>>) {
        // What others read and write here is waited for by nobody else: it may be stuck.
        match hub.refresh_free::<DataRecord<T>>(shards).await {
            // Those that wait for one that could not be read were told.
            Ok((_, busy)) => {
                if !busy.is_empty() {
                    self.unread.extend(busy);
                    self.again_in = self.again_in.max(BUSY_AGAIN);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "how far shards are written could not be read");
                self.unread.extend(shards.keys());
                self.again_in = READ_AGAIN;
            }
        }
    }
}
