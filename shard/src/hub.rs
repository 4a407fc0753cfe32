//! What the handles of one process share: the logs of the shards that somebody uses, each read once,
//! and one task that follows what others write.

mod follower;
mod shard;
mod tidings;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use lowwater::{ShardId, Upper};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{MutexGuard, watch};
use tokio::task::AbortHandle;

use crate::consensus::{Consensus, ConsensusError};
use crate::format::Format;
use crate::log::{Log, LogError};
use crate::record::{DataRecord, Decision, SinceRecord};
use crate::time::ShardTime;
use crate::transact::{CommandError, Task, Transactor};

pub(crate) use shard::{Reading, Shard, Stopped};
pub(crate) use tidings::Tidings;

/// Shards by their ids: in the order in which their logs are locked.
pub(crate) type ById<X> = BTreeMap<ShardId, X>;

/// The shards that this process uses. Its task ends when the last reference to it goes.
#[derive(Debug)]
pub(crate) struct Hub<T: ShardTime> {
    /// Writes as no controller.
    transactor: Transactor,
    used: Mutex<Used<T>>,
    /// Who wants to hear of every upper that advances.
    listeners: Mutex<Vec<Weak<Tidings<Upper<T>>>>>,
    /// Who wants to hear of every shard that was written, or whose since may have moved.
    keepers: Mutex<Vec<Weak<Tidings<()>>>>,
    /// Nobody follows the store any more: its runtime has gone.
    stopped: watch::Sender<bool>,
    follower: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Used<T: ShardTime> {
    shards: ById<Weak<Shard<T>>>,
    /// How many entries there may be before those that nobody uses any more are forgotten.
    entries_max: usize,
}

/// A record that the hub keeps for each shard.
pub(crate) trait Kept<T: ShardTime>: Format {
    /// The shard's log of it.
    fn log(shard: &Shard<T>) -> &tokio::sync::Mutex<Log<Self>>;

    /// Tells those who wait for it what the record says now.
    fn publish(&self, shard: &Shard<T>, hub: &Hub<T>);

    /// Tells those who wait for it why the log cannot be read, or that it can.
    fn publish_fault(shard: &Shard<T>, fault: Option<&LogError>);
}

impl<T: ShardTime> Kept<T> for DataRecord<T> {
    fn log(shard: &Shard<T>) -> &tokio::sync::Mutex<Log<Self>> {
        &shard.data
    }

    fn publish(&self, shard: &Shard<T>, hub: &Hub<T>) {
        if shard.publish(self.upper()) {
            hub.tell(shard.id, self.upper());
        }
    }

    fn publish_fault(shard: &Shard<T>, fault: Option<&LogError>) {
        // Said once, however often it is read.
        if shard.publish_fault(fault)
            && let Some(error) = fault
        {
            tracing::error!(%error, "a shard cannot be followed until its log is repaired");
        }
    }
}

impl<T: ShardTime> Kept<T> for SinceRecord<T> {
    fn log(shard: &Shard<T>) -> &tokio::sync::Mutex<Log<Self>> {
        &shard.sinces
    }

    fn publish(&self, _shard: &Shard<T>, _hub: &Hub<T>) {}

    // Nobody waits for a since.
    fn publish_fault(_shard: &Shard<T>, _fault: Option<&LogError>) {}
}

impl<T: ShardTime> Hub<T> {
    /// Follows `store` in a task of this runtime.
    pub(crate) fn spawn(runtime: &Handle, store: Arc<dyn Consensus>) -> Arc<Self> {
        let changes = store.changes();
        let hub = Arc::new(Hub {
            transactor: Transactor::new(store, None),
            used: Mutex::new(Used {
                shards: ById::new(),
                entries_max: 64,
            }),
            listeners: Mutex::default(),
            keepers: Mutex::default(),
            stopped: watch::Sender::new(false),
            follower: OnceLock::new(),
        });
        let follower = follower::Follower::new(&hub, changes);
        let task = runtime.spawn(follower.run()).abort_handle();
        hub.follower.set(task).expect("it is set once");
        hub
    }

    /// Writes as no controller.
    pub(crate) fn transactor(&self) -> &Transactor {
        &self.transactor
    }

    /// The store.
    pub(crate) fn store(&self) -> &Arc<dyn Consensus> {
        self.transactor.store()
    }

    /// A shard as this process knows it; nothing is read.
    pub(crate) fn shard(&self, id: ShardId) -> Arc<Shard<T>> {
        let mut used = self.used.lock();
        if let Some(shard) = used.shards.get(&id).and_then(Weak::upgrade) {
            return shard;
        }
        let shard = Arc::new(Shard::new(id, self.stopped.subscribe()));
        used.shards.insert(id, Arc::downgrade(&shard));
        if used.shards.len() > used.entries_max {
            used.shards.retain(|_, shard| shard.strong_count() > 0);
            used.entries_max = 2 * used.shards.len().max(32);
        }
        shard
    }

    /// A shard, if somebody uses it.
    pub(crate) fn used(&self, id: ShardId) -> Option<Arc<Shard<T>>> {
        self.used.lock().shards.get(&id)?.upgrade()
    }

    /// All shards that somebody uses.
    pub(crate) fn all_used(&self) -> Vec<Arc<Shard<T>>> {
        let used = self.used.lock();
        used.shards.values().filter_map(Weak::upgrade).collect()
    }

    /// Hears of every upper that advances from now on, the latest of each shard.
    pub(crate) fn listen(&self) -> Arc<Tidings<Upper<T>>> {
        listen(&mut self.listeners.lock())
    }

    /// Hears of every shard that is written, or whose since may have moved, from now on.
    pub(crate) fn keep(&self) -> Arc<Tidings<()>> {
        listen(&mut self.keepers.lock())
    }

    fn tell(&self, shard: ShardId, upper: &Upper<T>) {
        for listener in self.listeners.lock().iter().filter_map(Weak::upgrade) {
            listener.tell(shard, upper.clone());
        }
        self.tell_keepers(shard);
    }

    fn tell_keepers(&self, shard: ShardId) {
        for keeper in self.keepers.lock().iter().filter_map(Weak::upgrade) {
            keeper.tell(shard, ());
        }
    }

    /// Reads what is new of one record of these shards, in one request; an outcome for each.
    pub(crate) async fn refresh<R: Kept<T>>(
        &self,
        shards: &ById<Arc<Shard<T>>>,
    ) -> Result<ById<Result<(), LogError>>, ConsensusError> {
        let mut locked = Vec::with_capacity(shards.len());
        for shard in shards.values() {
            locked.push((&**shard, R::log(shard).lock().await));
        }
        self.read(locked).await
    }

    /// The same, but of those logs only that nobody else is reading or writing just now, so that one
    /// that is stuck keeps nobody waiting; and which shards the others are of.
    pub(crate) async fn refresh_free<R: Kept<T>>(
        &self,
        shards: &ById<Arc<Shard<T>>>,
    ) -> Result<(ById<Result<(), LogError>>, Vec<ShardId>), ConsensusError> {
        let (mut locked, mut busy) = (Vec::with_capacity(shards.len()), Vec::new());
        for shard in shards.values() {
            match R::log(shard).try_lock() {
                Ok(log) => locked.push((&**shard, log)),
                Err(_) => busy.push(shard.id),
            }
        }
        Ok((self.read(locked).await?, busy))
    }

    async fn read<R: Kept<T>>(
        &self,
        mut locked: Vec<(&Shard<T>, MutexGuard<'_, Log<R>>)>,
    ) -> Result<ById<Result<(), LogError>>, ConsensusError> {
        let mut logs: Vec<&mut Log<R>> = locked.iter_mut().map(|(_, log)| &mut **log).collect();
        let read = self.transactor.refresh(&mut logs).await?;
        for ((shard, log), read) in locked.iter().zip(&read) {
            R::publish_fault(shard, read.as_ref().err());
            if read.is_ok() {
                log.record().publish(shard, self);
            }
        }
        let ids = locked.iter().map(|(shard, _)| shard.id);
        Ok(ids.zip(read).collect())
    }

    /// Carries out one command for each of these shards, in one transaction, as the controller that
    /// `transactor` stands for.
    pub(crate) async fn write_as<R, O, E, F>(
        &self,
        transactor: &Transactor,
        commands: ById<(Arc<Shard<T>>, F)>,
    ) -> ById<Result<O, CommandError<E>>>
    where
        R: Kept<T>,
        F: FnMut(&R) -> Result<Decision<R::Change, O>, E>,
    {
        let (ids, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let (shards, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let mut locked = Vec::with_capacity(shards.len());
        for shard in &shards {
            locked.push(R::log(shard).lock().await);
        }
        let logs = locked.iter_mut().map(|log| &mut **log);
        let tasks = logs.zip(commands);
        let tasks = tasks.map(|(log, command)| Task { log, command });
        let done = transactor.carry_out_all(tasks.collect()).await;
        for ((shard, log), done) in shards.iter().zip(&locked).zip(&done) {
            match done {
                Err(CommandError::Log(fault)) => R::publish_fault(shard, Some(fault)),
                Ok(_) | Err(CommandError::Refused(_)) => R::publish_fault(shard, None),
                // Nothing was found out.
                Err(CommandError::Fenced(_) | CommandError::Store(_)) => {}
            }
            log.record().publish(shard, self);
        }
        ids.into_iter().zip(done).collect()
    }

    /// Carries out one command.
    pub(crate) async fn write<R, O, E, F>(
        &self,
        transactor: &Transactor,
        shard: &Arc<Shard<T>>,
        command: F,
    ) -> Result<O, CommandError<E>>
    where
        R: Kept<T>,
        F: FnMut(&R) -> Result<Decision<R::Change, O>, E>,
    {
        let commands = ById::from([(shard.id, (Arc::clone(shard), command))]);
        let mut done = self.write_as(transactor, commands).await;
        done.remove(&shard.id).expect("one command has one outcome")
    }

    /// Reads what is new of one record of one shard.
    pub(crate) async fn refresh_one<R: Kept<T>>(
        &self,
        shard: &Arc<Shard<T>>,
    ) -> Result<(), lowwater::StorageError> {
        let shards = ById::from([(shard.id, Arc::clone(shard))]);
        let mut read = self.refresh::<R>(&shards).await?;
        let read = read.remove(&shard.id).expect("one log has one outcome");
        Ok(read?)
    }
}

impl<T: ShardTime> Drop for Hub<T> {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get() {
            follower.abort();
        }
    }
}

fn listen<V>(listeners: &mut Vec<Weak<Tidings<V>>>) -> Arc<Tidings<V>> {
    let tidings = Arc::default();
    listeners.retain(|listener| listener.strong_count() > 0);
    listeners.push(Arc::downgrade(&tidings));
    tidings
}
