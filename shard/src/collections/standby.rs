//! A controller that only reads, and can be put in charge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{CollectionId, Event, Events, ShardId, Since, StorageError};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::id::Epoch;
use crate::shards::Shards;
use crate::standby::{Promoter, StandbyStorage};
use crate::time::ShardTime;

use super::epoch::{TakeOverError, TakenOver, take_over};
use super::guard::Guarded;
use super::ledger::Ledger;
use super::table_set::trouble;
use super::{Collections, Start, StartError};

/// How long it may take to give leases back.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How a controller can be put in charge that only reads so far.
pub(super) struct Standby<T: ShardTime> {
    promoter: Promoter<T>,
    lapsed: Arc<Mutex<BTreeMap<ShardId, Since<T>>>>,
    /// One at a time.
    promoting: tokio::sync::Mutex<()>,
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
    /// Not all shards could be opened. The epoch is taken all the same, and whoever had the one
    /// before is not in charge any more; ask again.
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
    /// What comes next is [`observe`](Collections::observe).
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn follow(shards: &Shards<T>, start: Start, lease: Duration) -> Result<Self, StartError> {
        let hub = Arc::clone(&shards.inner.hub);
        let lapsed = Arc::<Mutex<BTreeMap<ShardId, Since<T>>>>::default();
        let noted = Arc::clone(&lapsed);
        let note = move |shard, since: &Since<T>| drop(noted.lock().insert(shard, since.clone()));
        let (storage, promoter) = StandbyStorage::spawn(&shards.inner.runtime, hub, lease, note);
        let standby = Standby {
            promoter,
            lapsed,
            promoting: tokio::sync::Mutex::new(()),
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
    /// Tables are written from then on, and what others have committed to them is applied. What comes
    /// next is [`initialize`](Collections::initialize).
    ///
    /// # Errors
    ///
    /// If another controller is in charge with a higher epoch, or with the one given; if the store
    /// fails. It goes on to read then.
    pub async fn promote(&self, epoch: Option<Epoch>) -> Result<TakenOver, PromoteError> {
        let inner = &self.inner;
        let standby = inner.standby.as_ref().ok_or(PromoteError::InCharge)?;
        let _one_at_a_time = standby.promoting.lock().await;
        if inner.driving.get().is_some() {
            return Err(PromoteError::InCharge);
        }
        let taken = take_over(&**inner.reads.store(), epoch).await?;
        let storage = inner.shards.storage(inner.reader, taken.fence);
        let herald = storage.herald();
        let driver = Guarded {
            storage,
            ledger: Arc::clone(&inner.ledger),
        };
        standby.promoter.promote(Box::new(driver)).await?;
        // So that those who open the tables meanwhile open them to be written.
        let _one_at_a_time = inner.tables.changing.lock().await;
        if let Some(tables) = inner.tables.set() {
            let taken = tables.take_charge(inner.access(taken.fence)).await;
            taken.map_err(|error| match trouble(error) {
                Ok(refusal) => match refusal {},
                Err(error) => error,
            })?;
        }
        inner.drive(taken, herald);
        Ok(taken)
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
    /// stopped for long, and from when on they can be read since then. Holds before that are
    /// [revoked](lowwater::HoldLost::Revoked), and tell it. Collections of whose shards nothing is
    /// left are gone, and so are those that depend on them.
    pub fn lapsed(&self) -> BTreeMap<ShardId, Since<T>> {
        let standby = self.inner.standby.as_ref();
        standby.map_or_else(BTreeMap::new, |standby| standby.lapsed.lock().clone())
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
