//! The leases of a process on the shards that it reads: taken, moved and renewed many at a time.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, Since, SinceWish, StorageError, StorageErrorKind};

use crate::hub::{ById, Hub, Shard};
use crate::id::{ReaderId, SeqNo};
use crate::log::Log;
use crate::record::{Decision, Downgraded, LeaseLost, ReaderExists, SinceChange, SinceRecord};
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble, Task, Transactor};

use super::{Outcomes, not_opened};

/// The leases of a process.
pub(super) struct Leases<T: ShardTime> {
    transactor: Transactor,
    /// How long those are that are taken now.
    lease: Duration,
    leases: BTreeMap<ShardId, Lease<T>>,
    /// Shards whose lease has lapsed, and which could not be taken anew yet.
    lost: BTreeMap<ShardId, Arc<Shard<T>>>,
    /// From when on shards can be read whose lease has lapsed: nobody was told yet.
    lapsed: Vec<(ShardId, Since<T>)>,
}

/// A lease on one shard.
struct Lease<T: ShardTime> {
    reader: ReaderId,
    log: Log<SinceRecord<T>>,
    shard: Arc<Shard<T>>,
    /// What it keeps readable.
    since: Since<T>,
}

impl<T: ShardTime> Lease<T> {
    fn new(shard: &Arc<Shard<T>>) -> Self {
        Lease {
            reader: ReaderId::random(),
            log: Log::new(shard.id),
            shard: Arc::clone(shard),
            since: Since::minimum(),
        }
    }
}

type Decided<T, O, E> = Result<Decision<SinceChange<T>, O>, E>;

impl<T: ShardTime> Leases<T> {
    pub(super) fn new(hub: &Hub<T>, lease: Duration) -> Self {
        Leases {
            transactor: Transactor::new(Arc::clone(hub.store()), None),
            lease,
            leases: BTreeMap::new(),
            lost: BTreeMap::new(),
            lapsed: Vec::new(),
        }
    }

    pub(super) fn change(&mut self, lease: Duration) {
        self.lease = lease;
    }

    /// True iff it is read here, also where its lease has lapsed and is still to be taken anew.
    pub(super) fn has(&self, shard: ShardId) -> bool {
        self.leases.contains_key(&shard) || self.lost.contains_key(&shard)
    }

    pub(super) fn shards(&self) -> Vec<ShardId> {
        let all = self.leases.keys().chain(self.lost.keys());
        all.copied().collect()
    }

    /// From when on shards can be read whose lease has lapsed since this was asked last.
    pub(super) fn take_lapsed(&mut self) -> Vec<(ShardId, Since<T>)> {
        mem::take(&mut self.lapsed)
    }

    /// Takes leases, at the sinces of the shards, all in one transaction. One that is there already
    /// stays as it is.
    pub(super) async fn take(&mut self, shards: &ById<Arc<Shard<T>>>) -> Outcomes<T> {
        let known = shards.keys().filter(|shard| self.lost.contains_key(shard));
        if known.count() > 0 {
            self.retake_lost().await;
        }
        let (old, new): (Vec<_>, Vec<_>) = shards.values().partition(|shard| self.has(shard.id));
        let new: Vec<Lease<T>> = new.into_iter().map(Lease::new).collect();
        let mut outcomes = self.register(new).await;
        for shard in old {
            let lease = self.leases.get(&shard.id);
            let since = lease.map(|lease| lease.since.clone());
            outcomes.insert(shard.id, since.ok_or_else(lapsed));
        }
        outcomes
    }

    async fn register(&mut self, mut new: Vec<Lease<T>>) -> Outcomes<T> {
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let mut reads_from = Vec::with_capacity(new.len());
        for lease in &new {
            let seen = lease.shard.data.lock().await.seen();
            reads_from.push(seen.unwrap_or(SeqNo::FIRST));
        }
        let tasks = new.iter_mut().zip(reads_from);
        let tasks = tasks.map(|(lease, reads_from)| {
            let Lease { reader, log, .. } = lease;
            let command = move |record: &SinceRecord<T>| -> Decided<T, _, ReaderExists> {
                record.register_leased(*reader, lease_ms, reads_from)
            };
            Task { log, command }
        });
        let taken = self.transactor.carry_out_all(tasks.collect()).await;
        let mut outcomes = BTreeMap::new();
        for (mut lease, taken) in new.into_iter().zip(taken) {
            let id = lease.shard.id;
            let taken = taken.map_err(trouble);
            // A tombstone registers nobody.
            if let Ok(since) = taken.as_ref()
                && !lease.log.record().is_buried()
            {
                lease.since.clone_from(since);
                self.leases.insert(id, lease);
            }
            outcomes.insert(id, taken);
        }
        outcomes
    }

    /// Moves leases, all in one transaction; to the empty since, they are given back. Says where
    /// each is; one that has lapsed is taken anew, where its shard can still be read.
    pub(super) async fn downgrade(&mut self, wishes: &[SinceWish<T>]) -> Outcomes<T> {
        let (gone, moved): (Vec<_>, Vec<_>) = wishes.iter().partition(|wish| wish.since.is_gone());
        let gone: Vec<ShardId> = gone.into_iter().map(|wish| wish.shard).collect();
        let mut outcomes = self.leave(&gone).await;
        let mut asked = Vec::with_capacity(moved.len());
        for wish in moved {
            match self.leases.remove(&wish.shard) {
                Some(lease) => {
                    let seen = lease.shard.data.lock().await.seen();
                    asked.push((wish, lease, seen.unwrap_or(SeqNo::FIRST)));
                }
                None if self.lost.contains_key(&wish.shard) => {
                    drop(outcomes.insert(wish.shard, Err(lapsed())));
                }
                None => drop(outcomes.insert(wish.shard, Err(not_opened()))),
            }
        }
        let tasks = asked.iter_mut().map(|(wish, lease, reads_from)| {
            let Lease { reader, log, .. } = lease;
            let command = move |record: &SinceRecord<T>| -> Decided<T, _, LeaseLost> {
                record.downgrade_leased(*reader, &wish.since, *reads_from)
            };
            Task { log, command }
        });
        let moved = self.transactor.carry_out_all(tasks.collect()).await;
        for ((wish, mut lease, _), moved) in asked.into_iter().zip(moved) {
            let outcome = match moved {
                Ok(_) if lease.log.record().is_buried() => {
                    self.lose(&lease);
                    continue;
                }
                Ok(Downgraded::Moved) => {
                    lease.since.clone_from(&wish.since);
                    Ok(wish.since.clone())
                }
                Ok(Downgraded::Kept(since)) => Ok(since),
                Err(CommandError::Refused(LeaseLost { .. })) => {
                    self.lose(&lease);
                    continue;
                }
                Err(error) => Err(trouble(error)),
            };
            self.leases.insert(wish.shard, lease);
            outcomes.insert(wish.shard, outcome);
        }
        outcomes.append(&mut self.retake_lost().await);
        outcomes
    }

    fn lose(&mut self, lease: &Lease<T>) {
        let shard = Arc::clone(&lease.shard);
        self.lost.insert(shard.id, shard);
    }

    /// Takes leases anew that have lapsed: from where their shards can still be read. One that cannot
    /// be taken now is tried again with the next renewal.
    async fn retake_lost(&mut self) -> Outcomes<T> {
        let lost = self.lost.values().map(Lease::new).collect();
        let taken = self.register(lost).await;
        for (&shard, since) in &taken {
            match since {
                Ok(since) => {
                    tracing::warn!(%shard, %since, "a lease has lapsed");
                    self.lost.remove(&shard);
                    self.lapsed.push((shard, since.clone()));
                }
                Err(error) => tracing::warn!(%shard, %error, "a lease was not taken anew"),
            }
        }
        taken
    }

    /// Renews all leases, in one transaction, and takes those anew that have lapsed.
    pub(super) async fn renew(&mut self) {
        let tasks = self.leases.values_mut().map(|lease| {
            let Lease { reader, log, .. } = lease;
            let command = move |record: &SinceRecord<T>| record.renew(*reader);
            Task { log, command }
        });
        let renewed = self.transactor.carry_out_all(tasks.collect()).await;
        for (lease, renewed) in self.leases.values().zip(renewed) {
            match renewed {
                // On a tombstone it does no harm; but nothing is left there.
                Ok(()) if !lease.log.record().is_buried() => {}
                Ok(()) | Err(CommandError::Refused(LeaseLost { .. })) => {
                    self.lost.insert(lease.shard.id, Arc::clone(&lease.shard));
                }
                // The next time comes long before the lease is over.
                Err(error) => {
                    let shard = lease.shard.id;
                    tracing::warn!(%shard, %error, "a lease was not renewed");
                }
            }
        }
        for shard in self.lost.keys() {
            self.leases.remove(shard);
        }
        drop(self.retake_lost().await);
    }

    /// Gives leases back.
    pub(super) async fn leave(&mut self, shards: &[ShardId]) -> Outcomes<T> {
        for shard in shards {
            self.lost.remove(shard);
        }
        let leases = shards.iter().filter_map(|shard| self.leases.remove(shard));
        let mut leases: Vec<Lease<T>> = leases.collect();
        let tasks = leases.iter_mut().map(|lease| {
            let Lease { reader, log, .. } = lease;
            let command = move |record: &SinceRecord<T>| -> Decided<T, _, LeaseLost> {
                Ok(record.leave(*reader))
            };
            Task { log, command }
        });
        let left = self.transactor.carry_out_all(tasks.collect()).await;
        for (lease, left) in leases.into_iter().zip(left) {
            if let Err(error) = left {
                // It lapses: nobody renews it any more.
                let shard = lease.shard.id;
                tracing::warn!(%shard, %error, "a lease was not given back");
            }
        }
        let gone = shards.iter().map(|shard| (*shard, Ok(Since::gone())));
        gone.collect()
    }

    pub(super) async fn leave_all(&mut self) {
        let shards = self.shards();
        drop(self.leave(&shards).await);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the lease has lapsed, and could not be taken anew yet")]
struct HasLapsed;

fn lapsed() -> StorageError {
    StorageError::new(StorageErrorKind::Retry, HasLapsed)
}

fn trouble<E: std::error::Error + Send + Sync + 'static>(error: CommandError<E>) -> StorageError {
    match error {
        CommandError::Store(StoreTrouble(error)) => error.into(),
        CommandError::Log(error) => error.into(),
        other @ (CommandError::Refused(_) | CommandError::Fenced(_)) => {
            StorageError::new(StorageErrorKind::Retry, other)
        }
    }
}
