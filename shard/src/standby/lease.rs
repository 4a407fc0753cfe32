//! The leases of a process on the shards that it reads: taken, moved and renewed many at a time.

use std::collections::BTreeMap;
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
    lease_ms: u64,
    leases: BTreeMap<ShardId, Lease<T>>,
    /// Is told where shards can be read from whose lease has lapsed and was taken anew.
    lapsed: Box<Lapsed<T>>,
}

/// What a lease that has lapsed is told to.
pub(super) type Lapsed<T> = dyn Fn(ShardId, &Since<T>) + Send + Sync;

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
    pub(super) fn new(hub: &Hub<T>, lease: Duration, lapsed: Box<Lapsed<T>>) -> Self {
        Leases {
            transactor: Transactor::new(Arc::clone(hub.store()), None),
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            leases: BTreeMap::new(),
            lapsed,
        }
    }

    pub(super) fn has(&self, shard: ShardId) -> bool {
        self.leases.contains_key(&shard)
    }

    pub(super) fn shards(&self) -> Vec<ShardId> {
        self.leases.keys().copied().collect()
    }

    /// Takes leases, at the sinces of the shards, all in one transaction. One that is there already
    /// stays as it is.
    pub(super) async fn take(&mut self, shards: &ById<Arc<Shard<T>>>) -> Outcomes<T> {
        let (old, new): (Vec<_>, Vec<_>) = shards.values().partition(|shard| self.has(shard.id));
        let new: Vec<Lease<T>> = new.into_iter().map(Lease::new).collect();
        let mut outcomes = self.register(new).await;
        for shard in old {
            let since = self.leases[&shard.id].since.clone();
            outcomes.insert(shard.id, Ok(since));
        }
        outcomes
    }

    async fn register(&mut self, mut new: Vec<Lease<T>>) -> Outcomes<T> {
        let lease_ms = self.lease_ms;
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
        let mut lapsed = Vec::new();
        for ((wish, mut lease, _), moved) in asked.into_iter().zip(moved) {
            let outcome = match moved {
                Ok(Downgraded::Moved) => {
                    lease.since.clone_from(&wish.since);
                    Ok(wish.since.clone())
                }
                Ok(Downgraded::Kept(since)) => Ok(since),
                Err(CommandError::Refused(LeaseLost { .. })) => {
                    lapsed.push(Lease::new(&lease.shard));
                    continue;
                }
                Err(error) => Err(trouble(error)),
            };
            self.leases.insert(wish.shard, lease);
            outcomes.insert(wish.shard, outcome);
        }
        outcomes.append(&mut self.register_anew(lapsed).await);
        outcomes
    }

    /// Takes leases anew that have lapsed: from where their shards can still be read.
    async fn register_anew(&mut self, lapsed: Vec<Lease<T>>) -> Outcomes<T> {
        let taken = self.register(lapsed).await;
        for (shard, since) in &taken {
            if let Ok(since) = since {
                tracing::warn!(%shard, %since, "a lease has lapsed");
                (self.lapsed)(*shard, since);
            }
        }
        taken
    }

    /// Renews all leases, in one transaction.
    pub(super) async fn renew(&mut self) {
        let tasks = self.leases.values_mut().map(|lease| {
            let Lease { reader, log, .. } = lease;
            let command = move |record: &SinceRecord<T>| record.renew(*reader);
            Task { log, command }
        });
        let renewed = self.transactor.carry_out_all(tasks.collect()).await;
        let mut lapsed = Vec::new();
        for (lease, renewed) in self.leases.values().zip(renewed) {
            match renewed {
                Ok(()) => {}
                Err(CommandError::Refused(LeaseLost { .. })) => {
                    lapsed.push(Lease::new(&lease.shard));
                }
                // The next time comes long before the lease is over.
                Err(error) => {
                    let shard = lease.shard.id;
                    tracing::warn!(%shard, %error, "a lease was not renewed");
                }
            }
        }
        for lease in &lapsed {
            self.leases.remove(&lease.shard.id);
        }
        drop(self.register_anew(lapsed).await);
    }

    /// Gives leases back.
    pub(super) async fn leave(&mut self, shards: &[ShardId]) -> Outcomes<T> {
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

fn trouble<E: std::error::Error + Send + Sync + 'static>(error: CommandError<E>) -> StorageError {
    match error {
        CommandError::Store(StoreTrouble(error)) => error.into(),
        CommandError::Log(error) => error.into(),
        other @ (CommandError::Refused(_) | CommandError::Fenced(_)) => {
            StorageError::new(StorageErrorKind::Retry, other)
        }
    }
}
