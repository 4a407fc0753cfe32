//! The leases of a process on the shards that it reads: taken, moved and renewed many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, Since, SinceWish, StorageError, StorageErrorKind};
use timely::PartialOrder;

use crate::hub::{ById, Hub, Shard};
use crate::id::{ReaderId, SeqNo};
use crate::lease::{Leases as OwnLeases, OwnReader};
use crate::log::Log;
use crate::record::{
    CriticalError, Decision, Downgraded, LeaseLost, ReaderExists, SinceChange, SinceRecord,
};
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble, Task, Transactor};

use super::{Charge, Outcomes, not_opened};

/// The leases of a process.
pub(super) struct Leases<T: ShardTime> {
    transactor: Transactor,
    /// Whoever looks after the shards here takes none of them for somebody else's.
    own: Arc<OwnLeases<T>>,
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
    reader: OwnReader<T>,
    log: Log<SinceRecord<T>>,
    shard: Arc<Shard<T>>,
    /// What it keeps readable.
    since: Since<T>,
    /// What it shall keep readable: further than `since` while nobody is in charge of the shard.
    asked: Since<T>,
}

impl<T: ShardTime> Lease<T> {
    fn new(own: &Arc<OwnLeases<T>>, shard: &Arc<Shard<T>>) -> Self {
        Lease {
            reader: own.own(ReaderId::random()),
            log: Log::new(shard.id),
            shard: Arc::clone(shard),
            since: Since::minimum(),
            asked: Since::minimum(),
        }
    }
}

/// Renews a lease, and moves it to where it shall be: but not while nobody is in charge of the shard,
/// for what moves alone takes the shard's since along, and the first to open it would find that what
/// it needs is gone. Says where the lease is then.
fn move_on<T: ShardTime>(
    record: &SinceRecord<T>,
    reader: ReaderId,
    asked: &Since<T>,
    reads_from: SeqNo,
) -> Decided<T, Since<T>, LeaseLost> {
    let leased = record.leased().get(&reader).ok_or(LeaseLost { reader })?;
    let to = match record.critical().is_empty() {
        true => &leased.since,
        false => asked,
    };
    let moved = record.downgrade_leased(reader, to, reads_from)?;
    Ok(Decision {
        changes: moved.changes,
        outcome: match moved.outcome {
            Downgraded::Moved => to.clone(),
            Downgraded::Kept(since) => since,
        },
    })
}

type Decided<T, O, E> = Result<Decision<SinceChange<T>, O>, E>;

impl<T: ShardTime> Leases<T> {
    pub(super) fn new(hub: &Hub<T>, own: Arc<OwnLeases<T>>, lease: Duration) -> Self {
        Leases {
            transactor: Transactor::new(Arc::clone(hub.store()), None),
            own,
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
        let new = new.into_iter();
        let new = new.map(|shard| Lease::new(&self.own, shard)).collect();
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
            let shard = &lease.shard;
            reads_from.push(shard.reads_from(&*shard.data.lock().await));
        }
        let tasks = new.iter_mut().zip(reads_from);
        let tasks = tasks.map(|(lease, reads_from)| {
            let (reader, log) = (lease.reader.reader, &mut lease.log);
            let command = move |record: &SinceRecord<T>| -> Decided<T, _, ReaderExists> {
                record.register_leased(reader, lease_ms, reads_from)
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
                lease.asked.clone_from(since);
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
        for wish in &moved {
            match self.leases.get_mut(&wish.shard) {
                Some(lease) if PartialOrder::less_equal(&lease.asked, &wish.since) => {
                    lease.asked.clone_from(&wish.since);
                }
                // It does not go back.
                Some(_) => {}
                None if self.lost.contains_key(&wish.shard) => {
                    drop(outcomes.insert(wish.shard, Err(lapsed())));
                }
                None => drop(outcomes.insert(wish.shard, Err(not_opened()))),
            }
        }
        let meant: BTreeSet<ShardId> = moved.iter().map(|wish| wish.shard).collect();
        let is_meant = |shard| meant.contains(&shard);
        outcomes.append(&mut self.move_all_on(is_meant).await);
        outcomes.append(&mut self.retake_lost().await);
        outcomes
    }

    /// Takes leases anew that have lapsed: from where their shards can still be read. One that cannot
    /// be taken now is tried again with the next renewal.
    async fn retake_lost(&mut self) -> Outcomes<T> {
        let lost = self.lost.values();
        let lost = lost.map(|shard| Lease::new(&self.own, shard)).collect();
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
        for (shard, renewed) in self.move_all_on(|_| true).await {
            if let Err(error) = renewed {
                // The next time comes long before the lease is over.
                tracing::warn!(%shard, %error, "a lease was not renewed");
            }
        }
        drop(self.retake_lost().await);
    }

    /// Renews these leases and moves them to where they shall be, all in one transaction. Says how far
    /// what was asked for is carried out; those that have lapsed are lost, and not spoken of.
    async fn move_all_on(&mut self, is_meant: impl Fn(ShardId) -> bool) -> Outcomes<T> {
        let leases = self.leases.values_mut();
        let leases = leases.filter(|lease| is_meant(lease.shard.id));
        let tasks = leases.map(|lease| {
            let (reader, asked) = (lease.reader.reader, &lease.asked);
            // Who reads or writes it just now may be stuck: it is not waited for.
            let data = lease.shard.data.try_lock();
            let reads_from = data.map_or(SeqNo::FIRST, |log| lease.shard.reads_from(&log));
            let command = move |record: &SinceRecord<T>| move_on(record, reader, asked, reads_from);
            let log = &mut lease.log;
            Task { log, command }
        });
        let moved = self.transactor.carry_out_all(tasks.collect()).await;
        let leases = self.leases.values_mut();
        let leases = leases.filter(|lease| is_meant(lease.shard.id));
        let (mut outcomes, mut lost) = (BTreeMap::new(), Vec::new());
        for (lease, moved) in leases.zip(moved) {
            let shard = lease.shard.id;
            match moved {
                Ok(since) => {
                    lease.since = since.clone();
                    let is_alone = lease.log.record().critical().is_empty();
                    // It keeps more than it has to, and follows later.
                    let since = if is_alone { lease.asked.clone() } else { since };
                    outcomes.insert(shard, Ok(since));
                }
                Err(CommandError::Refused(LeaseLost { .. })) => lost.push(shard),
                Err(error) => drop(outcomes.insert(shard, Err(trouble(error)))),
            }
        }
        for shard in lost {
            if let Some(lease) = self.leases.remove(&shard) {
                self.lost.insert(shard, lease.shard);
            }
        }
        outcomes
    }

    /// Gives those leases back from which the critical since of the one in charge has not gone on yet:
    /// it moves to where the lease is, in the same transaction.
    pub(super) async fn settle(&mut self, charge: &Charge) {
        let (reader, epoch) = (charge.reader, charge.epoch);
        let tasks = self.leases.values_mut().map(|lease| {
            let (mine, asked) = (lease.reader.reader, &lease.asked);
            let command = move |record: &SinceRecord<T>| {
                let mut moved = record.compare_and_downgrade(reader, epoch, epoch, asked)?;
                let is_kept = match &moved.outcome {
                    Downgraded::Moved => true,
                    Downgraded::Kept(critical) => PartialOrder::less_equal(critical, asked),
                };
                if is_kept {
                    moved.changes.extend(record.leave(mine).changes);
                }
                Ok::<_, CriticalError<T>>(Decision {
                    changes: moved.changes,
                    outcome: is_kept,
                })
            };
            let log = &mut lease.log;
            Task { log, command }
        });
        let settled = charge.transactor.carry_out_all(tasks.collect()).await;
        let mut kept = Vec::new();
        for (shard, settled) in self.leases.keys().zip(settled) {
            match settled {
                Ok(true) => kept.push(*shard),
                Ok(false) => {}
                // Asked again with the next renewal.
                Err(error) => tracing::debug!(%shard, %error, "a lease is kept for now"),
            }
        }
        for shard in kept {
            self.leases.remove(&shard);
        }
    }

    /// Gives leases back.
    pub(super) async fn leave(&mut self, shards: &[ShardId]) -> Outcomes<T> {
        for shard in shards {
            self.lost.remove(shard);
        }
        let leases = shards.iter().filter_map(|shard| self.leases.remove(shard));
        let mut leases: Vec<Lease<T>> = leases.collect();
        let tasks = leases.iter_mut().map(|lease| {
            let (reader, log) = (lease.reader.reader, &mut lease.log);
            let command = move |record: &SinceRecord<T>| -> Decided<T, _, LeaseLost> {
                Ok(record.leave(reader))
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
