//! A controller that only reads, and can be put in charge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lowwater::{CollectionId, Event, Events, ShardId, Since, StorageError};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::id::{Epoch, Incarnation};
use crate::shards::Shards;
use crate::standby::{Charge, Promoter, Promotion, StandbyStorage};
use crate::time::ShardTime;
use crate::transact::Transactor;
use crate::upkeep::Pause;

use super::epoch::{TakeOverError, TakenOver, take_over_as};
use super::guard::Guarded;
use super::ledger::Ledger;
use super::table_set::trouble;
use super::{Collections, Inner, Start, StartError};

/// How long it may take to give leases back.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How many shards are kept in mind whose leases have lapsed.
const LAPSED_MAX: usize = 1_000;

/// How a controller can be put in charge that only reads so far.
pub(super) struct Standby<T: ShardTime> {
    promoter: Promoter<T>,
    lapsed: Arc<Mutex<LapsedShards<T>>>,
    /// Until it is in charge, it looks after nothing.
    pause: Mutex<Option<Pause<T>>>,
    /// One at a time.
    promoting: tokio::sync::Mutex<Begun>,
}

/// How far it has come to be put in charge.
struct Begun {
    /// The same in all tries: one that has succeeded, and whose answer was lost, refuses no other.
    incarnation: Incarnation,
    taken: Option<TakenOver>,
}

/// Shards whose leases have lapsed, those that have last.
struct LapsedShards<T> {
    sinces: BTreeMap<ShardId, Since<T>>,
    order: VecDeque<ShardId>,
}

impl<T> Default for LapsedShards<T> {
    fn default() -> Self {
        LapsedShards {
            sinces: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: ShardTime> LapsedShards<T> {
    fn note(&mut self, shard: ShardId, since: &Since<T>) {
        self.order.retain(|other| *other != shard);
        self.order.push_back(shard);
        self.sinces.insert(shard, since.clone());
        if self.order.len() > LAPSED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sinces.remove(&oldest);
        }
    }
}

/// Why a controller was not put in charge: it goes on to read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PromoteError {
    /// It is in charge already.
    #[error("the controller is in charge already")]
    InCharge,
    /// The epoch was not taken.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// Not all shards could be opened, or the tables not be taken over. The epoch is taken all the
    /// same, and whoever had the one before is not in charge any more; ask again.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<T: ShardTime> Standby<T> {
    /// Waits until leases are given back; where the store does not answer, they lapse.
    pub(super) async fn end(&self) {
        if timeout(END_WITHIN, self.promoter.ended()).await.is_err() {
            tracing::warn!("leases were not given back in time: they lapse");
        }
    }
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Starts a controller that only reads: it writes nothing but its own leases, which expire
    /// `lease` after it was heard of last, and is not stopped by others that come and go above it.
    /// [`start.epoch`](Start::epoch) does not matter yet.
    ///
    /// Nobody looks after these shards meanwhile, whatever their
    /// [settings](crate::Settings::upkeep) say: that begins when it is promoted, or ends.
    ///
    /// What comes next is [`observe`](Collections::observe).
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn follow(shards: &Shards<T>, start: Start, lease: Duration) -> Result<Self, StartError> {
        let lapsed = Arc::<Mutex<LapsedShards<T>>>::default();
        let noted = Arc::clone(&lapsed);
        let note = move |shard, since: &Since<T>| noted.lock().note(shard, since);
        let (storage, promoter) = StandbyStorage::spawn(shards, lease, note);
        let standby = Standby {
            promoter,
            lapsed,
            pause: Mutex::new(Some(Pause::new(&shards.inner))),
            promoting: tokio::sync::Mutex::new(Begun {
                incarnation: Incarnation::random(),
                taken: None,
            }),
        };
        let ledger = Arc::new(Mutex::new(Ledger::new()));
        let collections = Self::on(shards, start, ledger, storage, Some(standby))?;
        let runtime = &shards.inner.runtime;
        runtime.spawn(forget_lost(collections.inner.client.events(), {
            let inner = Arc::downgrade(&collections.inner);
            move || {
                if let Some(inner) = inner.upgrade() {
                    let mut ledger = inner.ledger.lock();
                    ledger.forget_lost(|id, key| inner.has(id, key));
                }
            }
        }));
        Ok(collections)
    }

    /// Puts a controller in charge that has only read so far: with the epoch given, or else with the
    /// one after that which is there. Whoever was in charge is stopped by that; holds stay.
    ///
    /// The shards are looked after from then on, tables are written, and what others have committed
    /// to them is applied. What comes next is [`initialize`](Collections::initialize).
    ///
    /// # Errors
    ///
    /// If another controller is in charge with a higher epoch, or with the one given; if the store
    /// fails. It goes on to read then. Asked again, it goes on with the epoch that it has taken, if
    /// that is still the one in charge.
    ///
    /// To drop the future gives up the answer, not what was asked.
    ///
    /// # Panics
    ///
    /// If the runtime ends meanwhile.
    pub async fn promote(&self, epoch: Option<Epoch>) -> Result<TakenOver, PromoteError> {
        let inner = Arc::clone(&self.inner);
        self.carry_on(async move { inner.promote(epoch).await })
            .await
    }

    /// Leases that are taken from now on are this long, those of this controller while it only reads
    /// and those of [readers](crate::Reader) of its shards. Those that are there keep their length.
    pub fn change_lease(&self, lease: Duration) {
        self.inner.shards.change_lease(lease);
        if let Some(standby) = &self.inner.standby {
            standby.promoter.change_lease(lease);
        }
    }

    /// Shards whose lease has lapsed while this controller only read, as it does when the process was
    /// stopped for long: the last 1,000 of them, and from when on each can be read since then. Holds
    /// before that are [revoked](lowwater::HoldLost::Revoked), and tell it. Collections of whose shards
    /// nothing is left are gone, and so are those that depend on them.
    pub fn lapsed(&self) -> BTreeMap<ShardId, Since<T>> {
        let standby = self.inner.standby.as_ref();
        standby.map_or_else(BTreeMap::new, |standby| {
            standby.lapsed.lock().sinces.clone()
        })
    }
}

impl<I: CollectionId, T: ShardTime> Inner<I, T> {
    async fn promote(&self, epoch: Option<Epoch>) -> Result<TakenOver, PromoteError> {
        let standby = self.standby.as_ref().ok_or(PromoteError::InCharge)?;
        let mut begun = standby.promoting.lock().await;
        if self.driving.get().is_some() {
            return Err(PromoteError::InCharge);
        }
        let taken = self.take_over(&begun, epoch).await?;
        begun.taken = Some(taken);
        // So that those who open the tables meanwhile open them to be written.
        let _one_at_a_time = self.tables.changing.lock().await;
        let storage = self.shards.storage(self.reader, taken.fence);
        let herald = storage.herald();
        let driver = Guarded {
            storage,
            ledger: Arc::clone(&self.ledger),
        };
        let (tables, access) = (self.tables.set().cloned(), self.access(taken.fence));
        let charge = Charge {
            transactor: Transactor::new(Arc::clone(self.reads.store()), Some(taken.fence)),
            reader: self.reader,
            epoch: taken.fence.epoch,
        };
        let promotion = Promotion {
            driver: Box::new(driver),
            charge,
            before: Box::pin(async move {
                let Some(tables) = tables else { return Ok(()) };
                let taken = tables.take_charge(access).await;
                taken.map_err(|error| match trouble(error) {
                    Ok(refusal) => match refusal {},
                    Err(error) => error,
                })
            }),
        };
        standby.promoter.promote(promotion).await?;
        // From here on nothing can go wrong any more.
        self.drive(taken, herald);
        drop(standby.pause.lock().take());
        Ok(taken)
    }

    /// Takes the store over, unless an earlier try has: then it goes on with that.
    async fn take_over(
        &self,
        begun: &Begun,
        epoch: Option<Epoch>,
    ) -> Result<TakenOver, TakeOverError> {
        let store = &**self.reads.store();
        if let Some(taken) = begun.taken
            && epoch.is_none_or(|epoch| epoch == taken.fence.epoch)
            && store.fence().await? == Some(taken.fence)
        {
            return Ok(taken);
        }
        take_over_as(store, epoch, begun.incarnation).await
    }
}

/// Hears which collections the engine loses, until it ends.
async fn forget_lost<I: CollectionId, T: ShardTime>(
    mut events: Events<I, T>,
    forget: impl Fn() + Send,
) {
    while let Ok(heard) = events.next().await {
        let is_lost = match &heard.event {
            Event::LeaseLapsed { since, .. } => since.is_gone(),
            Event::PolicyPanicked { .. }
            | Event::SinceNotWritten { .. }
            | Event::ShardMoved { .. }
            | Event::UpperIncomparable { .. } => false,
        };
        if is_lost || heard.missed > 0 {
            forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_leases_that_have_lapsed_the_last_are_kept_in_mind() {
        let mut lapsed = LapsedShards::<u64>::default();
        let shard = |number: usize| ShardId::new(number as u128);
        lapsed.note(shard(1), &Since::at(1));
        lapsed.note(shard(2), &Since::at(2));
        lapsed.note(shard(1), &Since::at(3));
        for number in 3..=LAPSED_MAX + 1 {
            lapsed.note(shard(number), &Since::at(4));
        }
        assert_eq!(lapsed.sinces.len(), LAPSED_MAX);
        assert_eq!(lapsed.order.len(), LAPSED_MAX);
        assert!(!lapsed.sinces.contains_key(&shard(2)));
        assert_eq!(lapsed.sinces[&shard(1)], Since::at(3));
    }
}
