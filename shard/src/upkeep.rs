//! Looking after the shards that this process uses: compacting, sweeping, expiring readers.

mod pause;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::{ShardId, StorageError};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::compaction::{Effort, NoRefusal};
use crate::hub::{ById, Shard, Tidings};
use crate::id::ReaderId;
use crate::record::SinceRecord;
use crate::shards::Inner;
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble, Transactor};

use pause::Paused;

pub(crate) use pause::{Pause, Pauses};

/// How long what has happened to shards is gathered before they are looked at.
const GATHER: Duration = Duration::from_millis(50);

/// Nothing is done more often than this, however short leases and grace are.
const PACE_MIN: Duration = Duration::from_millis(10);

/// How long one shard may be swept at a time; the next time it goes on where it was.
const SWEEP_MAX: Duration = Duration::from_secs(60);

/// How many shards are looked at in one request.
const SHARDS_AT_ONCE: usize = 1_000;

/// When a reader's counter was first seen where it is.
pub(crate) type Counters = BTreeMap<(ShardId, ReaderId), (u64, Instant)>;

/// Looks after shards, in the background.
pub(crate) struct Upkeeper<T: ShardTime> {
    inner: Weak<Inner<T>>,
    moved: Arc<Tidings<()>>,
    /// Somebody on these shards only reads.
    paused: Paused,
    tasks_max: usize,
    /// Those to be looked at, each once, and each before those that have come later.
    queue: VecDeque<ShardId>,
    queued: BTreeSet<ShardId>,
    busy: BTreeSet<ShardId>,
    tasks: JoinSet<(ShardId, Result<(), StorageError>)>,
    gather_at: Instant,
    expire_at: Instant,
    sweep_at: Instant,
    /// When to look again at those that were busy.
    again_at: Option<Instant>,
}

impl<T: ShardTime> Upkeeper<T> {
    pub(crate) fn new(inner: &Arc<Inner<T>>, tasks_max: usize) -> Self {
        let now = Instant::now();
        Upkeeper {
            moved: inner.hub.keep(),
            paused: inner.pauses.listen(),
            tasks_max: tasks_max.max(1),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            busy: BTreeSet::new(),
            tasks: JoinSet::new(),
            gather_at: now,
            expire_at: now,
            sweep_at: now + inner.settings.part_grace,
            again_at: None,
            inner: Arc::downgrade(inner),
        }
    }

    /// Until the shards go.
    pub(crate) async fn run(mut self) {
        loop {
            self.paused.over().await;
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.end(done),
                moved = gathered(&self.moved, self.gather_at) => {
                    self.gather_at = Instant::now() + GATHER;
                    self.enqueue(moved.into_keys());
                }
                () = tokio::time::sleep_until(wake_at) => {}
            }
            if self.paused.is_paused() {
                continue;
            }
            let Some(inner) = self.inner.upgrade() else {
                return;
            };
            self.look_at_all(&inner).await;
            self.begin(&inner);
        }
    }

    fn wake_at(&self) -> Instant {
        let at = self.expire_at.min(self.sweep_at);
        self.again_at.map_or(at, |again_at| at.min(again_at))
    }

    fn enqueue(&mut self, shards: impl Iterator<Item = ShardId>) {
        let queued = &mut self.queued;
        self.queue
            .extend(shards.filter(|shard| queued.insert(*shard)));
    }

    fn end(&mut self, done: Result<(ShardId, Result<(), StorageError>), JoinError>) {
        // Nobody cancels it, and a panic is none of ours to hide: it was printed.
        let Ok((shard, done)) = done else { return };
        self.busy.remove(&shard);
        if let Err(error) = done {
            tracing::warn!(%shard, %error, "a shard was not compacted");
        }
    }

    /// Begins to compact those that are worth it, as many as may be.
    fn begin(&mut self, inner: &Arc<Inner<T>>) {
        self.again_at = None;
        for _ in 0..self.queue.len() {
            if self.tasks.len() >= self.tasks_max {
                return;
            }
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            if self.busy.contains(&id) {
                self.queue.push_back(id);
                continue;
            }
            self.queued.remove(&id);
            let Some(shard) = inner.hub.used(id) else {
                continue;
            };
            let may_be_compacted = inner.may_be_compacted(&shard);
            if may_be_compacted.is_none() {
                self.enqueue([id].into_iter());
                self.again_at = Some(Instant::now() + GATHER);
            }
            if may_be_compacted == Some(true) {
                self.busy.insert(id);
                let inner = Arc::clone(inner);
                self.tasks
                    .spawn(async move { (id, inner.compact(&shard, Effort::Worthwhile).await) });
            }
        }
    }

    /// What is due for all shards: to expire readers, and to sweep.
    async fn look_at_all(&mut self, inner: &Arc<Inner<T>>) {
        let now = Instant::now();
        if self.expire_at <= now {
            self.expire_at = now + (inner.lease() / 4).max(PACE_MIN);
            let used = inner.hub.all_used();
            // Readers may have let go of what was replaced.
            self.enqueue(used.iter().map(|shard| shard.id));
            for some in used.chunks(SHARDS_AT_ONCE) {
                let some = some.iter().map(|shard| (shard.id, Arc::clone(shard)));
                if let Err(error) = inner
                    .expire_lapsed(inner.hub.transactor(), some.collect())
                    .await
                {
                    tracing::warn!(%error, "readers that have lapsed were not expired");
                }
            }
        }
        if self.sweep_at <= now {
            self.sweep_at = now + inner.settings.part_grace.max(PACE_MIN);
            for shard in inner.hub.all_used() {
                let swept = tokio::time::timeout(SWEEP_MAX, inner.sweep(&shard)).await;
                let error = match swept {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(late) => late.to_string(),
                };
                tracing::warn!(shard = %shard.id, %error, "a shard was not swept");
            }
        }
    }
}

/// What has moved, not before `at`.
async fn gathered(moved: &Tidings<()>, at: Instant) -> ById<()> {
    tokio::time::sleep_until(at).await;
    moved.next().await
}

impl<T: ShardTime> Inner<T> {
    /// Expires the readers of these shards whose counters have not moved for their whole lease, by
    /// the clock of this process.
    pub(crate) async fn expire_lapsed(
        &self,
        transactor: &Transactor,
        shards: ById<Arc<Shard<T>>>,
    ) -> Result<(), CommandError<NoRefusal>> {
        // Those that are busy are looked at the next time.
        let read = self.hub.refresh_free::<SinceRecord<T>>(&shards).await;
        let (read, _) = read.map_err(|error| CommandError::Store(StoreTrouble(error)))?;
        let mut commands = ById::new();
        for (id, shard) in shards {
            let lapsed = match shard.sinces.try_lock() {
                Ok(sinces) if read.contains_key(&id) => self.lapsed(id, sinces.record()),
                Ok(_) | Err(_) => continue,
            };
            if !lapsed.is_empty() {
                let expire =
                    move |record: &SinceRecord<T>| Ok::<_, NoRefusal>(record.expire(&lapsed));
                commands.insert(id, (shard, expire));
            }
        }
        let done = self.hub.write_as(transactor, commands).await;
        for (shard, expired) in done {
            let expired = expired?;
            tracing::info!(%shard, ?expired, "readers have lapsed");
        }
        Ok(())
    }

    /// The readers whose counters have been where they are for too long; notes where they are.
    fn lapsed(&self, shard: ShardId, record: &SinceRecord<T>) -> Vec<(ReaderId, u64)> {
        let now = Instant::now();
        let mut counters = self.counters.lock();
        let all = (shard, ReaderId::new(0))..=(shard, ReaderId::new(u128::MAX));
        let gone = counters.range(all).map(|(key, _)| *key);
        let gone: Vec<_> = gone
            .filter(|(_, id)| !record.leased().contains_key(id))
            .collect();
        for key in gone {
            counters.remove(&key);
        }
        let mut lapsed = Vec::new();
        // Our own are renewed as soon as we can, however long we slept.
        let others = record
            .leased()
            .iter()
            .filter(|(id, _)| !self.leases.has(**id));
        for (id, leased) in others {
            let seen = counters
                .entry((shard, *id))
                .or_insert((leased.renewals, now));
            if seen.0 != leased.renewals {
                *seen = (leased.renewals, now);
            } else if now - seen.1 >= Duration::from_millis(leased.lease_ms) {
                lapsed.push((*id, leased.renewals));
            }
        }
        lapsed
    }
}
