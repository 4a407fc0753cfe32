//! Looking after the shards that this process uses: compacting, sweeping, expiring readers.

mod pause;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::{ShardId, StorageError};
use parking_lot::Mutex;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::clock::{after, in_future};
use crate::compaction::{Effort, NoRefusal};
use crate::hub::{ById, Shard, Tidings};
use crate::id::ReaderId;
use crate::record::SinceRecord;
use crate::shards::Inner;
use crate::sweep::Sightings;
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
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<(ShardId, ReaderId), (u64, Instant)>>);

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
    compacting: JoinSet<Result<(), StorageError>>,
    /// Which task is about which shard.
    compacted: BTreeMap<Id, ShardId>,
    /// What this has seen of the readers of others, of shards that are used.
    counters: Counters,
    /// At most one task, that goes from shard to shard: where the store of parts hangs, nothing else
    /// waits for it.
    sweeping: JoinSet<()>,
    sightings: Arc<Sightings>,
    gather_at: Instant,
    expire_at: Instant,
    /// Counts while nobody sweeps.
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
            compacting: JoinSet::new(),
            compacted: BTreeMap::new(),
            counters: Counters::default(),
            sweeping: JoinSet::new(),
            sightings: Arc::default(),
            gather_at: now,
            expire_at: now,
            sweep_at: after(now, inner.settings.part_grace),
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
                Some(done) = self.compacting.join_next_with_id() => self.end(done),
                Some(_) = self.sweeping.join_next() => self.sweep_again(),
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
            self.sweep_if_due(&inner);
            self.begin(&inner);
        }
    }

    fn wake_at(&self) -> Instant {
        let sweep_at = self.sweeping.is_empty().then_some(self.sweep_at);
        let more = sweep_at.into_iter().chain(self.again_at);
        more.fold(self.expire_at, Instant::min)
    }

    fn enqueue(&mut self, shards: impl Iterator<Item = ShardId>) {
        let queued = &mut self.queued;
        self.queue
            .extend(shards.filter(|shard| queued.insert(*shard)));
    }

    fn end(&mut self, done: Result<(Id, Result<(), StorageError>), JoinError>) {
        let (task, error) = match done {
            Ok((task, done)) => (task, done.err().map(|error| error.to_string())),
            // One that has panicked keeps its shard from nobody.
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let Some(shard) = self.compacted.remove(&task) else {
            return;
        };
        self.busy.remove(&shard);
        if let Some(error) = error {
            tracing::warn!(%shard, %error, "a shard was not compacted");
        }
    }

    /// Begins to compact those that are worth it, as many as may be.
    fn begin(&mut self, inner: &Arc<Inner<T>>) {
        self.again_at = None;
        for _ in 0..self.queue.len() {
            if self.compacting.len() >= self.tasks_max {
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
                let compact = async move { inner.compact(&shard, Effort::Worthwhile).await };
                self.compacted
                    .insert(self.compacting.spawn(compact).id(), id);
            }
        }
    }

    /// What is due for all shards: to expire readers.
    async fn look_at_all(&mut self, inner: &Arc<Inner<T>>) {
        let now = Instant::now();
        if self.expire_at > now {
            return;
        }
        self.expire_at = after(now, (inner.lease() / 4).max(PACE_MIN));
        let used = inner.hub.all_used();
        // Readers may have let go of what was replaced.
        self.enqueue(used.iter().map(|shard| shard.id));
        self.counters
            .keep(|shard| used.binary_search_by_key(&shard, |used| used.id).is_ok());
        for some in used.chunks(SHARDS_AT_ONCE) {
            let some = some.iter().map(|shard| (shard.id, Arc::clone(shard)));
            let transactor = inner.hub.transactor();
            let expired = inner.expire_lapsed(transactor, some.collect(), &self.counters);
            let expired = expired.await;
            if let Err(error) = expired {
                tracing::warn!(%error, "readers that have lapsed were not expired");
            }
        }
    }

    fn sweep_if_due(&mut self, inner: &Arc<Inner<T>>) {
        if self.sweeping.is_empty() && self.sweep_at <= Instant::now() {
            let used = inner.hub.all_used().iter().map(|shard| shard.id).collect();
            let sightings = Arc::clone(&self.sightings);
            self.sweeping
                .spawn(sweep_all(Weak::clone(&self.inner), used, sightings));
        }
    }

    fn sweep_again(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            self.sweep_at = in_future(inner.settings.part_grace.max(PACE_MIN));
        }
    }
}

/// Sweeps these shards, one after the other, those of them that are still used.
async fn sweep_all<T: ShardTime>(
    inner: Weak<Inner<T>>,
    shards: Vec<ShardId>,
    sightings: Arc<Sightings>,
) {
    sightings.keep(|shard| shards.binary_search(&shard).is_ok());
    for id in shards {
        // Held only while a shard is swept, so that the last handle that goes ends this.
        let Some(inner) = inner.upgrade() else { return };
        if inner.pauses.are_there() {
            return;
        }
        let Some(shard) = inner.hub.used(id) else {
            continue;
        };
        let swept = tokio::time::timeout(SWEEP_MAX, inner.sweep(&shard, &sightings)).await;
        let error = match swept {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        tracing::warn!(shard = %id, %error, "a shard was not swept");
    }
}

impl Counters {
    /// Forgets what was seen of other shards.
    pub(crate) fn keep(&self, mut is_kept: impl FnMut(ShardId) -> bool) {
        self.0.lock().retain(|(shard, _), _| is_kept(*shard));
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
        counters: &Counters,
    ) -> Result<(), CommandError<NoRefusal>> {
        // Those that are busy are looked at the next time.
        let read = self.hub.refresh_free::<SinceRecord<T>>(&shards).await;
        let (read, _) = read.map_err(|error| CommandError::Store(StoreTrouble(error)))?;
        let mut commands = ById::new();
        for (id, shard) in shards {
            let lapsed = match shard.sinces.try_lock() {
                Ok(sinces) if read.contains_key(&id) => self.lapsed(id, sinces.record(), counters),
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
    fn lapsed(
        &self,
        shard: ShardId,
        record: &SinceRecord<T>,
        counters: &Counters,
    ) -> Vec<(ReaderId, u64)> {
        let now = Instant::now();
        let mut counters = counters.0.lock();
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

#[cfg(test)]
mod tests {
    use lowwater::Upper;

    use super::*;
    use crate::consensus::MemoryConsensus;
    use crate::parts::Parts;
    use crate::schema::{Column, ColumnKind, Schema};
    use crate::shards::{Settings, Shards, Upkeep};
    use crate::updates::Updates;

    const SHARD: ShardId = ShardId::new(1);

    fn shards(store: &Arc<MemoryConsensus>) -> Shards<u64> {
        let runtime = tokio::runtime::Handle::current();
        let settings = Settings {
            upkeep: Upkeep::ByHand,
            ..Settings::default()
        };
        Shards::new(
            &runtime,
            Arc::<MemoryConsensus>::clone(store),
            Parts::memory(),
            settings,
        )
    }

    fn schema() -> Schema {
        let column = Column {
            name: "row".to_owned(),
            kind: ColumnKind::Int64,
            nullable: false,
        };
        Schema::new(vec![column]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_of_shards_that_nobody_uses_is_forgotten() {
        let store = Arc::new(MemoryConsensus::new());
        let (mine, theirs) = (shards(&store), shards(&store));
        let mut upkeeper = Upkeeper::new(&mine.inner, 1);
        let writer = mine.writer(SHARD, &schema()).await.unwrap();
        let nothing = Updates::empty(&schema());
        let written = writer.compare_and_append(Upper::at(0), Upper::at(1), nothing);
        written.await.unwrap();
        let _reader = theirs.reader(SHARD).await.unwrap();
        let grace = mine.inner.settings.part_grace;
        let look = async |upkeeper: &mut Upkeeper<u64>| {
            tokio::time::advance(grace).await;
            upkeeper.look_at_all(&mine.inner).await;
            upkeeper.sweep_if_due(&mine.inner);
            upkeeper.sweeping.join_next().await.unwrap().unwrap();
            let sightings = upkeeper.sightings.len();
            (upkeeper.counters.0.lock().len(), sightings)
        };
        assert_eq!(look(&mut upkeeper).await, (1, 1));
        drop(writer);
        assert_eq!(look(&mut upkeeper).await, (0, 0));
    }

    #[tokio::test]
    async fn a_task_that_panics_leaves_its_shard_to_the_next() {
        let mine = shards(&Arc::new(MemoryConsensus::new()));
        let mut upkeeper = Upkeeper::new(&mine.inner, 1);
        let task = upkeeper
            .compacting
            .spawn(async { panic!("as it was told to") });
        upkeeper.compacted.insert(task.id(), SHARD);
        upkeeper.busy.insert(SHARD);
        let done = upkeeper.compacting.join_next_with_id().await.unwrap();
        upkeeper.end(done);
        assert!(upkeeper.busy.is_empty());
        assert!(upkeeper.compacted.is_empty());
    }
}
