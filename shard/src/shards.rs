//! The shards of a store: the door to all handles.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lowwater::{ShardId, StorageError, Upper};
use parking_lot::Mutex;
use timely::progress::Antichain;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::consensus::{Consensus, Fence};
use crate::hub::{Hub, Shard};
use crate::id::ReaderId;
use crate::lease::{self, Leases};
use crate::parts::Parts;
use crate::record::DataRecord;
use crate::storage::ShardStorage;
use crate::sweep::Sightings;
use crate::time::ShardTime;
use crate::upkeep::{Counters, Pauses, Upkeeper};

/// The shards of a store: the door to all handles.
///
/// Clones are the same door. Behind it, in tasks of the runtime that it was given: one follows what
/// others write, for all shards that somebody uses; one renews leases; one looks after shards that
/// have changed. They end when the last clone and the last handle have gone.
#[derive(Debug)]
pub struct Shards<T: ShardTime> {
    pub(crate) inner: Arc<Inner<T>>,
}

impl<T: ShardTime> Clone for Shards<T> {
    fn clone(&self) -> Self {
        Shards {
            inner: Arc::clone(&self.inner),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inner<T: ShardTime> {
    pub(crate) runtime: Handle,
    pub(crate) hub: Arc<Hub<T>>,
    pub(crate) parts: Parts,
    pub(crate) settings: Settings,
    pub(crate) leases: Arc<Leases<T>>,
    /// How long leases are that are taken now.
    lease: Mutex<Duration>,
    /// What sweeps have seen of shards that were asked for.
    pub(crate) sightings: Sightings,
    /// What was seen of the readers of shards that were to be finalized.
    pub(crate) counters: Counters,
    /// Who wants that shards are left alone.
    pub(crate) pauses: Pauses,
    tasks: OnceLock<Vec<AbortHandle>>,
}

impl<T: ShardTime> Drop for Inner<T> {
    fn drop(&mut self) {
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
    }
}

/// How shards are written, read and looked after. However short a duration, nothing is done all the
/// time; [`Duration::MAX`] means never.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Updates that are not larger when encoded stay in the record of their shard; larger ones
    /// become a part.
    pub inline_bytes_max: usize,
    /// How long a reader stays registered that is not heard of. Renewed four times as often.
    pub lease: Duration,
    /// How long it may take from when a part is begun until it is referred to. A writer that takes
    /// longer may have to write it again; a part that nobody refers to may be swept after twice as
    /// long.
    pub part_grace: Duration,
    /// How long a since that is wished for may wait to be written, so that many are written at
    /// once, and one that moves often is not written often.
    pub downgrade_interval: Duration,
    /// How many parts one snapshot reads at a time.
    pub reads_max: usize,
    /// How many parts one append to many shards writes at a time.
    pub writes_max: usize,
    /// Who looks after the shards.
    pub upkeep: Upkeep,
}

/// Who compacts shards, sweeps what nobody refers to, and expires readers that have lapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// A task in the background, for the shards that this process uses. While a controller on them
    /// only [follows](crate::collections::Collections::follow), it begins nothing.
    InBackground {
        /// How many shards it works on at a time.
        tasks_max: usize,
    },
    /// Nobody, but for what is asked for: nothing is written of our own accord but our own leases.
    ByHand,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            inline_bytes_max: 64 << 10,
            lease: Duration::from_secs(15 * 60),
            part_grace: Duration::from_secs(10 * 60),
            downgrade_interval: Duration::from_secs(1),
            reads_max: 8,
            writes_max: 8,
            upkeep: Upkeep::InBackground { tasks_max: 2 },
        }
    }
}

impl<T: ShardTime> Shards<T> {
    /// The shards of this store, their parts there; tasks go into this runtime, and handles are to be
    /// used within a runtime of `tokio`.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn new(
        runtime: &Handle,
        store: Arc<dyn Consensus>,
        parts: Parts,
        settings: Settings,
    ) -> Self {
        let hub = Hub::spawn(runtime, store);
        let inner = Inner {
            runtime: runtime.clone(),
            hub,
            parts,
            lease: Mutex::new(settings.lease),
            settings,
            leases: Arc::default(),
            sightings: Sightings::default(),
            counters: Counters::default(),
            pauses: Pauses::default(),
            tasks: OnceLock::new(),
        };
        let inner = Arc::new(inner);
        let keeping = runtime.spawn(lease::keep(Arc::downgrade(&inner)));
        let mut tasks = vec![keeping.abort_handle()];
        if let Upkeep::InBackground { tasks_max } = inner.settings.upkeep {
            let upkeep = Upkeeper::new(&inner, tasks_max);
            tasks.push(runtime.spawn(upkeep.run()).abort_handle());
        }
        inner.tasks.set(tasks).expect("they are set once");
        Shards { inner }
    }

    /// The storage of an engine: its `reader` is the name of the controller's critical sinces, the
    /// same through all its incarnations; `fence` is what it has [taken
    /// over](Consensus::take_over) the store with. Opening a shard stamps it with the epoch.
    pub fn storage(&self, reader: ReaderId, fence: Fence) -> ShardStorage<T> {
        let inner = &self.inner;
        ShardStorage::on(&inner.runtime, Arc::clone(&inner.hub), reader, fence)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Consensus> {
        self.inner.hub.store()
    }

    /// Where the parts are.
    pub fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    /// How the shards are looked after, as it was when they were opened.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// How long leases are that are taken now.
    pub fn lease(&self) -> Duration {
        self.inner.lease()
    }

    /// Leases that are taken from now on are this long. Those that are there keep their length; each
    /// is renewed four times in the shortest of all.
    pub fn change_lease(&self, lease: Duration) {
        *self.inner.lease.lock() = lease;
        self.inner.leases.look_again();
    }

    /// How far a shard is written, read from the store.
    ///
    /// # Errors
    ///
    /// If the store fails, or what it has cannot be read.
    pub async fn upper(&self, shard: ShardId) -> Result<Upper<T>, StorageError> {
        let shard = self.inner.hub.shard(shard);
        self.inner.hub.refresh_one::<DataRecord<T>>(&shard).await?;
        Ok(shard.upper())
    }
}

impl<T: ShardTime> Inner<T> {
    pub(crate) fn lease(&self) -> Duration {
        *self.lease.lock()
    }
}

/// Why an upper was not waited for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    /// Only the sealed upper is past the empty frontier, and whoever waits for that waits past some
    /// time instead.
    #[error("there is nothing to wait for past the empty frontier")]
    EmptyFrontier,
    /// It cannot be found out.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Waits until a shard that was read once is written past a frontier.
pub(crate) async fn wait_past<T: ShardTime>(
    shard: &Shard<T>,
    frontier: &Antichain<T>,
) -> Result<Upper<T>, WaitError> {
    if frontier.is_empty() {
        return Err(WaitError::EmptyFrontier);
    }
    Ok(shard.written_past(frontier).await?)
}
