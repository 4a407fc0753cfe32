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
    is_lost: bool,
}

/// The leases of this process.
#[derive(Debug)]
pub(crate) struct Leases<T: ShardTime> {
    held: Mutex<BTreeMap<ReaderId, Arc<Lease<T>>>>,
    /// Those that were given back, and are still in the record.
    left: Mutex<Vec<Arc<Lease<T>>>>,
    /// Readers of this process that somebody else renews.
    own: Mutex<BTreeSet<ReaderId>>,
    /// There are wishes, or leases were given back.
    wished: Notify,
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
            wished: Notify::new(),
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

    fn has_wish(&self) -> bool {
        self.state.lock().wish.is_some()
    }

    /// Where the since shall go, if that is not behind; true iff it is.
    pub(crate) fn wish(&self, since: &Since<T>) -> bool {
        let mut state = self.state.lock();
        let from = state.wish.as_ref().unwrap_or(&state.since);
        let goes_on = PartialOrder::less_equal(from, since);
        if goes_on && from != since {
            state.wish = Some(since.clone());
        }
        goes_on
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
                state.since = since;
                state.renewed = sent;
            }
            Err(LeaseLost { .. }) => state.is_lost = true,
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

    pub(crate) fn hold(&self, lease: &Arc<Lease<T>>) {
        self.held.lock().insert(lease.reader, Arc::clone(lease));
    }

    pub(crate) fn give_back(&self, lease: &Arc<Lease<T>>) {
        if self.held.lock().remove(&lease.reader).is_some() {
            self.left.lock().push(Arc::clone(lease));
            self.wished.notify_one();
        }
    }

    pub(crate) fn wishes(&self) {
        self.wished.notify_one();
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
            self.renew(vec![Arc::clone(lease)]).await?;
            if lease.state.lock().is_lost {
                return Err(LeaseCheck::Lost(LeaseLost {
                    reader: lease.reader,
                }));
            }
        }
        Ok(())
    }

    /// Renews leases and carries out their wishes, all in one transaction.
    pub(crate) async fn renew(&self, leases: Vec<Arc<Lease<T>>>) -> Result<(), StorageError> {
        let sent = Instant::now();
        let mut by_shard: ById<LeasesOf<T>> = ById::new();
        for lease in leases {
            let shard = Arc::clone(&lease.shard);
            let entry = by_shard.entry(shard.id);
            entry.or_insert((shard, Vec::new())).1.push(lease);
        }
        let mut commands = ById::new();
        for (id, (shard, leases)) in by_shard {
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
        let mut failed = None;
        for done in done.into_values() {
            match done {
                Ok(renewed) => {
                    for (lease, renewed) in renewed {
                        lease.learn(renewed, sent);
                    }
                }
                Err(error) => failed = Some(trouble(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes readers that have left out of the record.
    pub(crate) async fn leave(&self, leases: &[Arc<Lease<T>>]) -> Result<(), StorageError> {
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
        done.into_values()
            .try_for_each(|done| done.map_err(trouble))
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
