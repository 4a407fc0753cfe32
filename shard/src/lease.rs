//! The leases of this process's readers: one task renews them all, in one transaction.

mod keep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lowwater::{Since, StorageError};
use parking_lot::Mutex;
use timely::PartialOrder;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::{after, in_future};
use crate::compaction::{NoRefusal, trouble};
use crate::hub::{ById, Shard};
use crate::id::{ReaderId, SeqNo};
use crate::record::{Decision, Downgraded, LeaseLost, SinceChange, SinceRecord};
use crate::shards::Inner;
use crate::time::ShardTime;

pub(crate) use keep::keep;

/// A lease as this process knows it.
#[derive(Debug)]
pub(crate) struct Lease<T: ShardTime> {
    pub(crate) reader: ReaderId,
    pub(crate) shard: Arc<Shard<T>>,
    /// How long it is not heard of until others may expire it.
    length: Duration,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    /// What is durable.
    since: Since<T>,
    /// Where it shall go.
    wish: Option<Since<T>>,
    /// When the last renewal that went through was sent.
    renewed: Instant,
    /// When it is written again, whether it has a wish or not, where that has failed; and not before
    /// that.
    again_at: Option<Instant>,
    is_lost: bool,
}

/// The leases of this process.
#[derive(Debug)]
pub(crate) struct Leases<T: ShardTime> {
    held: Mutex<BTreeMap<ReaderId, Arc<Lease<T>>>>,
    /// Those that were given back since the task looked last, and are still in the record.
    left: Mutex<Vec<Arc<Lease<T>>>>,
    /// Readers of this process that somebody else renews.
    own: Mutex<BTreeSet<ReaderId>>,
    /// When the wishes that there are are written; at least an interval after those before.
    wishes_at: Mutex<Option<Instant>>,
    /// There is something for the task to look at.
    news: Notify,
}

/// A reader of this process whose lease somebody else renews, until this is dropped.
#[derive(Debug)]
pub(crate) struct OwnReader<T: ShardTime> {
    pub(crate) reader: ReaderId,
    leases: Arc<Leases<T>>,
}

impl<T: ShardTime> Drop for OwnReader<T> {
    fn drop(&mut self) {
        self.leases.own.lock().remove(&self.reader);
    }
}

impl<T: ShardTime> Default for Leases<T> {
    fn default() -> Self {
        Leases {
            held: Mutex::default(),
            left: Mutex::default(),
            own: Mutex::default(),
            wishes_at: Mutex::default(),
            news: Notify::new(),
        }
    }
}

impl<T: ShardTime> Lease<T> {
    pub(crate) fn new(
        reader: ReaderId,
        shard: Arc<Shard<T>>,
        length: Duration,
        since: Since<T>,
        renewed: Instant,
    ) -> Self {
        let state = State {
            since,
            wish: None,
            renewed,
            again_at: None,
            is_lost: false,
        };
        Lease {
            reader,
            shard,
            length,
            state: Mutex::new(state),
        }
    }

    /// What it keeps readable.
    pub(crate) fn since(&self) -> Since<T> {
        self.state.lock().since.clone()
    }

    /// Where the since shall go, unless that is behind or incomparable.
    pub(crate) fn wish(&self, since: &Since<T>) -> Wished {
        let mut state = self.state.lock();
        let from = state.wish.as_ref().unwrap_or(&state.since);
        if !PartialOrder::less_equal(from, since) {
            return Wished::Refused;
        }
        if from == since {
            return Wished::Already;
        }
        state.wish = Some(since.clone());
        if since.is_gone() {
            state.again_at = None;
        }
        Wished::Anew
    }

    /// Whether it is to be written now; `wishes` says whether it is time for wishes that can wait.
    fn is_due(&self, now: Instant, wishes: bool, interval: Duration) -> bool {
        let mut state = self.state.lock();
        if let Some(at) = state.again_at {
            return at <= now;
        }
        let Some(wish) = &state.wish else {
            return false;
        };
        if wish.is_gone() || !wishes {
            return wish.is_gone();
        }
        // Renewed just now, or tried again.
        let not_before = after(state.renewed, interval);
        if not_before > now {
            state.again_at = Some(not_before);
        }
        not_before <= now
    }

    fn try_again_at(&self, at: Instant) {
        self.state.lock().again_at = Some(at);
    }

    /// Renews and downgrades it.
    fn renew(&self, record: &SinceRecord<T>, reads_from: SeqNo) -> Renewed<T> {
        let state = self.state.lock();
        let to = state.wish.clone().unwrap_or_else(|| state.since.clone());
        let moved = record.downgrade_leased(self.reader, &to, reads_from)?;
        let since = match moved.outcome {
            Downgraded::Moved => to,
            Downgraded::Kept(since) => since,
        };
        Ok(Decision {
            changes: moved.changes,
            outcome: since,
        })
    }

    /// It is not in the record any more.
    pub(crate) fn lose(&self) -> LeaseLost {
        self.state.lock().is_lost = true;
        LeaseLost {
            reader: self.reader,
        }
    }

    fn learn(&self, renewed: Result<Since<T>, LeaseLost>, sent: Instant) {
        let mut state = self.state.lock();
        match renewed {
            Ok(since) => {
                let done = |wish: &Since<T>| PartialOrder::less_equal(wish, &since);
                if state.wish.as_ref().is_some_and(done) {
                    state.wish = None;
                }
                // Of two that were sent at a time, the one that was carried out first may be heard
                // of last.
                if PartialOrder::less_equal(&state.since, &since) {
                    state.since = since;
                }
                state.renewed = state.renewed.max(sent);
                state.again_at = None;
            }
            Err(LeaseLost { .. }) => state.is_lost = true,
        }
    }
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wished {
    /// It is behind where the since is or shall go, or incomparable.
    Refused,
    /// There it is, or shall go.
    Already,
    /// It is to be written.
    Anew,
}

/// A lease that is just being taken. Dropped, it is given back: it may be in the record.
#[derive(Debug)]
pub(crate) struct Taking<'a, T: ShardTime> {
    leases: &'a Leases<T>,
    lease: Option<Arc<Lease<T>>>,
}

impl<T: ShardTime> Taking<'_, T> {
    /// It is in the record since `sent` at the earliest, with this since.
    pub(crate) fn registered(&self, since: Since<T>, sent: Instant) {
        if let Some(lease) = &self.lease {
            lease.learn(Ok(since), sent);
        }
    }

    /// It is not in the record, and will not be.
    pub(crate) fn refused(mut self) {
        self.lease = None;
    }

    /// Renews it from now on.
    pub(crate) fn hold(mut self) {
        if let Some(lease) = self.lease.take() {
            self.leases.held.lock().insert(lease.reader, lease);
        }
    }
}

impl<T: ShardTime> Drop for Taking<'_, T> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.leases.left.lock().push(lease);
            self.leases.news.notify_one();
        }
    }
}

/// Leases on one shard.
type LeasesOf<T> = (Arc<Shard<T>>, Vec<Arc<Lease<T>>>);

type Renewed<T> = Result<Decision<SinceChange<T>, Since<T>>, LeaseLost>;

impl<T: ShardTime> Leases<T> {
    /// True iff it is the lease of a reader of this process, whose reading it knows better than the
    /// record.
    pub(crate) fn has(&self, reader: ReaderId) -> bool {
        self.held.lock().contains_key(&reader) || self.own.lock().contains(&reader)
    }

    /// From now on there is one more reader of this process, which somebody else renews.
    pub(crate) fn own(self: &Arc<Self>, reader: ReaderId) -> OwnReader<T> {
        self.own.lock().insert(reader);
        OwnReader {
            reader,
            leases: Arc::clone(self),
        }
    }

    /// Before a lease may be in the record.
    pub(crate) fn take(&self, lease: &Arc<Lease<T>>) -> Taking<'_, T> {
        Taking {
            leases: self,
            lease: Some(Arc::clone(lease)),
        }
    }

    pub(crate) fn give_back(&self, lease: &Arc<Lease<T>>) {
        if self.held.lock().remove(&lease.reader).is_some() {
            self.left.lock().push(Arc::clone(lease));
            self.news.notify_one();
        }
    }

    /// What has left already needs not be given back.
    pub(crate) fn forget(&self, lease: &Lease<T>) {
        self.held.lock().remove(&lease.reader);
    }

    /// Where the since of a lease shall go: written within an interval, with what others wish; at
    /// once where it goes to its end.
    pub(crate) fn wish(&self, lease: &Lease<T>, since: &Since<T>, interval: Duration) {
        match lease.wish(since) {
            Wished::Anew if since.is_gone() => self.news.notify_one(),
            Wished::Anew => {
                let mut wishes_at = self.wishes_at.lock();
                if wishes_at.is_none() {
                    *wishes_at = Some(in_future(interval));
                    self.news.notify_one();
                }
            }
            Wished::Already | Wished::Refused => {}
        }
    }

    /// Others may be due, or sooner.
    pub(crate) fn look_again(&self) {
        self.news.notify_one();
    }

    /// Those that something is to be written for before all are renewed.
    fn due(&self, interval: Duration) -> Vec<Arc<Lease<T>>> {
        let now = Instant::now();
        // What is wished for from here on waits for the next time.
        let wishes = self.wishes_at.lock().take_if(|at| *at <= now).is_some();
        let mut all = self.all();
        all.retain(|lease| lease.is_due(now, wishes, interval));
        all
    }

    /// When there is something to write before all are renewed.
    fn next(&self) -> Option<Instant> {
        let held = self.held.lock();
        let again = held
            .values()
            .filter_map(|lease| lease.state.lock().again_at);
        again.chain(*self.wishes_at.lock()).min()
    }

    /// The shortest of these, and of those that are taken now.
    fn shortest(&self, now: Duration) -> Duration {
        let held = self.held.lock();
        let lengths = held.values().map(|lease| lease.length);
        lengths.fold(now, Duration::min)
    }

    /// Those that are not lost.
    fn all(&self) -> Vec<Arc<Lease<T>>> {
        let mut held = self.held.lock();
        held.retain(|_, lease| !lease.state.lock().is_lost);
        held.values().cloned().collect()
    }
}

impl<T: ShardTime> Inner<T> {
    /// Checks that a lease is there; where this process has been silent for too long, by renewing it.
    pub(crate) async fn check_lease(&self, lease: &Arc<Lease<T>>) -> Result<(), LeaseCheck> {
        let is_doubtful = {
            let state = lease.state.lock();
            if state.is_lost {
                return Err(LeaseCheck::Lost(LeaseLost {
                    reader: lease.reader,
                }));
            }
            state.renewed.elapsed() >= lease.length
        };
        if is_doubtful {
            self.renew(lease).await?;
            if lease.state.lock().is_lost {
                return Err(LeaseCheck::Lost(LeaseLost {
                    reader: lease.reader,
                }));
            }
        }
        Ok(())
    }

    /// Renews a lease and carries out its wish.
    pub(crate) async fn renew(&self, lease: &Arc<Lease<T>>) -> Result<(), StorageError> {
        let failed = self.renew_all(vec![Arc::clone(lease)]).await;
        failed.into_iter().map(|(_, error)| error).try_for_each(Err)
    }

    /// Renews leases and carries out their wishes, all in one transaction; says for which of them
    /// that has failed.
    async fn renew_all(&self, leases: Vec<Arc<Lease<T>>>) -> Vec<(Arc<Lease<T>>, StorageError)> {
        let sent = Instant::now();
        let mut by_shard: ById<LeasesOf<T>> = ById::new();
        for lease in leases {
            let shard = Arc::clone(&lease.shard);
            let entry = by_shard.entry(shard.id);
            entry.or_insert((shard, Vec::new())).1.push(lease);
        }
        let (mut commands, mut asked) = (ById::new(), ById::new());
        for (id, (shard, leases)) in by_shard {
            asked.insert(id, leases.clone());
            let reads_from = shard.reads_from(&*shard.data.lock().await);
            let command = move |record: &SinceRecord<T>| {
                let mut changes = Vec::new();
                let mut outcome = Vec::new();
                for lease in &leases {
                    let renewed = lease.renew(record, reads_from).map(|decided| {
                        changes.extend(decided.changes);
                        decided.outcome
                    });
                    outcome.push((Arc::clone(lease), renewed));
                }
                Ok::<_, NoRefusal>(Decision { changes, outcome })
            };
            commands.insert(id, (shard, command));
        }
        let done = self.hub.write_as(self.hub.transactor(), commands).await;
        let mut failed = Vec::new();
        for (shard, done) in done {
            match done {
                Ok(renewed) => {
                    for (lease, renewed) in renewed {
                        lease.learn(renewed, sent);
                    }
                }
                Err(error) => {
                    let error = trouble(error);
                    let leases = asked.remove(&shard).unwrap_or_default();
                    failed.extend(leases.into_iter().map(|lease| (lease, error.clone())));
                }
            }
        }
        failed
    }

    /// Takes a reader out of the record.
    pub(crate) async fn leave(&self, lease: &Arc<Lease<T>>) -> Result<(), StorageError> {
        let failed = self.leave_all(std::slice::from_ref(lease)).await;
        failed.into_values().try_for_each(Err)
    }

    /// Takes readers that have left out of the record; says of which shards that has failed.
    async fn leave_all(&self, leases: &[Arc<Lease<T>>]) -> ById<StorageError> {
        let mut by_shard: ById<(Arc<Shard<T>>, Vec<ReaderId>)> = ById::new();
        for lease in leases {
            let entry = by_shard.entry(lease.shard.id);
            let entry = entry.or_insert((Arc::clone(&lease.shard), Vec::new()));
            entry.1.push(lease.reader);
        }
        let commands = by_shard.into_iter().map(|(id, (shard, readers))| {
            let leave = move |record: &SinceRecord<T>| {
                let there = readers.iter().filter(|id| record.leased().contains_key(id));
                let there: Vec<ReaderId> = there.copied().collect();
                let changes = match there.is_empty() {
                    true => Vec::new(),
                    false => vec![SinceChange::Left(there)],
                };
                Ok::<_, NoRefusal>(Decision {
                    changes,
                    outcome: (),
                })
            };
            (id, (shard, leave))
        });
        let commands = commands.collect();
        let done = self.hub.write_as(self.hub.transactor(), commands).await;
        let failed = done.into_iter();
        let failed = failed.filter_map(|(shard, done)| Some((shard, trouble(done.err()?))));
        failed.collect()
    }
}

/// Why a lease cannot be relied on.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LeaseCheck {
    #[error(transparent)]
    Lost(LeaseLost),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
mod tests {
    use lowwater::ShardId;

    use super::*;
    use crate::consensus::MemoryConsensus;
    use crate::parts::Parts;
    use crate::shards::{Settings, Shards};

    #[tokio::test]
    async fn what_is_heard_late_does_not_move_a_since_back() {
        let runtime = tokio::runtime::Handle::current();
        let store = Arc::new(MemoryConsensus::new());
        let shards = Shards::<u64>::new(&runtime, store, Parts::memory(), Settings::default());
        let reader = shards.reader(ShardId::new(1)).await.unwrap();
        let (first, second) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        reader.lease.wish(&Since::at(5));
        reader.lease.learn(Ok(Since::at(5)), second);
        reader.lease.learn(Ok(Since::at(3)), first);
        assert_eq!(reader.since(), Since::at(5));
        let state = reader.lease.state.lock();
        assert_eq!((state.renewed, &state.wish), (second, &None));
    }
}
