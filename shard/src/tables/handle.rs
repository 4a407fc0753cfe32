//! The tables of a store: the door to all that is done with them.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use timely::progress::Antichain;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::consensus::Fenced;
use crate::id::Epoch;
use crate::shards::WaitError;

use super::apply;
use super::cache::Cache;
use super::encoding::{encode_rows, txns_schema};
use super::error::{ApplyError, TablesError, give_up, write_trouble};
use super::schemas::Schemas;
use super::state::{Passed, Step, TxnsState};
use super::store::{TableAppend, TableStore, WriteFault};
use super::time::TableTime;
use super::transaction::Transaction;

/// How often something is tried again because others were faster.
pub(super) const TRIES_MAX: usize = 100;

/// How long to wait for what is under way when it is to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// The tables of a store. Clones are the same.
///
/// Tasks of the runtime follow what other processes write, and apply what was committed; they end
/// when the last clone has gone.
#[derive(Debug)]
pub struct Tables<T: TableTime> {
    pub(super) inner: Arc<Inner<T>>,
}

impl<T: TableTime> Clone for Tables<T> {
    fn clone(&self) -> Self {
        Tables {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// What a process may do with tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything; what was committed is applied in the background, at most this often.
    Background(Duration),
    /// Everything; what was committed is applied when it is asked for.
    ByHand,
    /// Nothing is written, not even for a reader.
    ReadOnly,
}

#[derive(Debug)]
pub(super) struct Inner<T: TableTime> {
    pub(super) store: Arc<dyn TableStore<T>>,
    pub(super) txns: ShardId,
    /// The schemas of tables, as far as this process knows.
    pub(super) schemas: Schemas,
    /// Tables that are to be forgotten with the next step, whatever that is for.
    leaving: Leaving,
    runtime: Handle,
    /// Set once it may write.
    writes: OnceLock<()>,
    /// Locked while a step is taken: of those of one process each waits for the one before.
    pub(super) cache: Mutex<Cache<T>>,
    upper: watch::Sender<Upper<T>>,
    /// So much was committed that it should be applied soon.
    pub(super) heavy: Arc<Notify>,
    /// Who has taken over, once a write has met that, or its owner has heard of it.
    fenced: watch::Sender<Option<Epoch>>,
    /// Nobody follows the txns shard any more.
    stopped: watch::Sender<bool>,
    tasks: parking_lot::Mutex<Tasks>,
}

/// What goes on in the background.
#[derive(Debug, Default)]
struct Tasks {
    follows: Option<AbortHandle>,
    works: Option<JoinHandle<()>>,
}

/// Tables that nobody needs any more, shared with whoever knows that: they are forgotten with the
/// next step. Empty for those who forget tables by hand.
pub(crate) type Leaving = Arc<parking_lot::Mutex<BTreeSet<ShardId>>>;

impl<T: TableTime> Drop for Inner<T> {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let works = tasks.works.map(|works| works.abort_handle());
        for task in tasks.follows.into_iter().chain(works) {
            task.abort();
        }
    }
}

impl<T: TableTime> Tables<T> {
    pub(crate) async fn open_on(
        runtime: &Handle,
        store: Arc<dyn TableStore<T>>,
        txns: ShardId,
        mode: Mode,
        leaving: Leaving,
    ) -> Result<Self, StorageError> {
        let inner = Arc::new(Inner {
            store,
            txns,
            schemas: Schemas::default(),
            leaving,
            runtime: runtime.clone(),
            writes: OnceLock::new(),
            cache: Mutex::new(Cache::new()),
            upper: watch::Sender::new(Upper::minimum()),
            heavy: Arc::default(),
            fenced: watch::Sender::new(None),
            stopped: watch::Sender::new(false),
            tasks: parking_lot::Mutex::default(),
        });
        inner.catch_up(&mut *inner.cache.lock().await).await?;
        let follow = runtime.spawn(apply::follow(Arc::downgrade(&inner)));
        inner.tasks.lock().follows = Some(follow.abort_handle());
        let tables = Tables { inner };
        tables.begin_to_write(mode);
        Ok(tables)
    }

    /// From now on it may do this; what it may already stays.
    pub(super) fn begin_to_write(&self, mode: Mode) {
        let inner = &self.inner;
        if mode == Mode::ReadOnly || inner.writes.set(()).is_err() {
            return;
        }
        if let Mode::Background(every) = mode {
            let work = apply::work(Arc::downgrade(inner), every);
            inner.tasks.lock().works = Some(inner.runtime.spawn(work));
        }
    }

    /// Another controller is known to be in charge: whoever waits hears of it.
    pub(crate) fn overtaken(&self, by: Epoch) {
        self.inner.fenced.send_replace(Some(by));
    }

    /// Follows who has taken over, once that is known.
    pub(crate) fn fenced(&self) -> watch::Receiver<Option<Epoch>> {
        self.inner.fenced.subscribe()
    }

    /// Begins to apply nothing any more in the background, and follows nobody: for what is stopped
    /// while others still have clones. Waits until what is under way is done.
    pub(crate) async fn stop(&self) {
        let inner = &self.inner;
        inner.stopped.send_replace(true);
        let Tasks { follows, works } = std::mem::take(&mut *inner.tasks.lock());
        if let Some(follows) = follows {
            follows.abort();
        }
        if let Some(mut works) = works
            && tokio::time::timeout(STOP_MAX, &mut works).await.is_err()
        {
            works.abort();
        }
    }

    /// True iff it writes nothing.
    pub(crate) fn is_read_only(&self) -> bool {
        self.inner.writes.get().is_none()
    }

    /// The txns shard.
    pub fn txns_shard(&self) -> ShardId {
        self.inner.txns
    }

    /// How far all tables are written, as far as this process knows. Does not wait.
    pub fn upper(&self) -> Upper<T> {
        self.inner.upper.borrow().clone()
    }

    /// Follows how far all tables are written: one change for all of them.
    pub fn uppers(&self) -> watch::Receiver<Upper<T>> {
        self.inner.upper.subscribe()
    }

    /// How far all tables are written, read from the store.
    ///
    /// # Errors
    ///
    /// If the store fails, or what it has cannot be read.
    pub async fn fetch_upper(&self) -> Result<Upper<T>, StorageError> {
        let mut cache = self.inner.cache.lock().await;
        self.inner.catch_up(&mut cache).await?;
        Ok(cache.upper().clone())
    }

    /// Waits until all tables are written past a frontier, by whomever. To drop the future does no
    /// harm.
    ///
    /// # Errors
    ///
    /// At once if the frontier is empty: only what is sealed is past that. If the tables are stopped.
    pub async fn wait_for_upper_past(
        &self,
        frontier: &Antichain<T>,
    ) -> Result<Upper<T>, WaitError> {
        if frontier.is_empty() {
            return Err(WaitError::EmptyFrontier);
        }
        let mut uppers = self.uppers();
        loop {
            let upper = uppers.borrow_and_update().clone();
            if upper.is_past(frontier) {
                return Ok(upper);
            }
            self.inner.changed(&mut uppers).await?;
        }
    }

    /// What is known of all tables now.
    pub async fn state(&self) -> TxnsState<T> {
        self.inner.cache.lock().await.state.clone()
    }

    /// Looks at what is known of all tables now, which does not change meanwhile.
    pub(crate) async fn with_state<X>(&self, look: impl FnOnce(&TxnsState<T>) -> X) -> X {
        look(&self.inner.cache.lock().await.state)
    }

    /// True iff the table's own shard must not be closed, by the latest state: transactions can
    /// write to it, or something that they have written has not reached it.
    ///
    /// # Errors
    ///
    /// If that cannot be read.
    pub async fn needs(&self, table: ShardId) -> Result<bool, StorageError> {
        let mut cache = self.inner.cache.lock().await;
        self.inner.catch_up(&mut cache).await?;
        let state = &mut cache.state;
        if state.needs(table) && !state.is_registered(table) {
            // Whether it has reached it may be known to others only.
            for (id, head) in self.inner.store.heads(vec![table]).await? {
                state.applied(id, &head?.upper);
            }
        }
        Ok(state.needs(table))
    }

    /// Begins a transaction. It holds nothing and locks nothing until it is committed; to drop it
    /// aborts it.
    pub fn begin(&self) -> Transaction<T> {
        Transaction::new(self.clone())
    }

    /// Closes a time for all tables, with one write and without a wake-up for each; says how far
    /// they are written then.
    ///
    /// # Errors
    ///
    /// If the time has passed.
    pub async fn advance(&self, at: &T) -> Result<Upper<T>, TablesError<Passed<T>>> {
        self.inner.step(|state| state.advance(at)).await
    }

    /// Brings what was committed up to and at `through` to the tables' own shards. To do it again
    /// does no harm.
    ///
    /// # Errors
    ///
    /// If storage fails; what can be applied is applied all the same.
    pub async fn apply_through(&self, through: &T) -> Result<(), ApplyError> {
        self.inner.may_write()?;
        let cache = self.inner.cache.lock().await;
        let due = cache.state.unapplied_through(through);
        drop(cache);
        self.inner.apply_to(due, through).await
    }

    /// Lets go of the txns shard as far as it may be, not past what is not applied, and compacts it
    /// where that is worth it. Says how far that is.
    ///
    /// # Errors
    ///
    /// If storage fails.
    pub async fn let_go(&self) -> Result<Since<T>, ApplyError> {
        self.inner.may_write()?;
        let since = self.inner.cache.lock().await.state.since_limit();
        self.inner.let_go(since.clone()).await?;
        Ok(since)
    }
}

impl<T: TableTime> Inner<T> {
    /// An error that says who is, once another controller is known to be in charge.
    pub(super) fn in_charge(&self) -> Result<(), StorageError> {
        match *self.fenced.borrow() {
            Some(by) => Err(StorageError::new(
                StorageErrorKind::Fenced { by },
                Overtaken,
            )),
            None => Ok(()),
        }
    }

    /// Waits for an upper that is not known yet; an error where this process will not hear of it.
    pub(super) async fn changed(
        &self,
        uppers: &mut watch::Receiver<Upper<T>>,
    ) -> Result<(), StorageError> {
        let mut stopped = self.stopped.subscribe();
        let mut fenced = self.fenced.subscribe();
        tokio::select! {
            biased;
            Ok(()) = uppers.changed() => Ok(()),
            Ok(_) = fenced.wait_for(Option::is_some) => self.in_charge(),
            _ = stopped.wait_for(|stopped| *stopped) => {
                Err(StorageError::new(StorageErrorKind::GiveUp, Stopped))
            }
        }
    }

    pub(super) fn may_write<R>(&self) -> Result<(), TablesError<R>> {
        self.writes.get().copied().ok_or(TablesError::ReadOnly)
    }

    /// True from when on it is stopped.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    pub(super) fn uppers(&self) -> watch::Receiver<Upper<T>> {
        self.upper.subscribe()
    }

    /// Reads what is new in the txns shard.
    pub(super) async fn catch_up(&self, cache: &mut Cache<T>) -> Result<(), StorageError> {
        let contents = self.store.read(self.txns, cache.upper().clone()).await?;
        if !cache.follow(contents)? {
            let all = self.store.read(self.txns, Upper::minimum()).await?;
            cache.follow(all)?;
        }
        self.publish(cache);
        Ok(())
    }

    fn publish(&self, cache: &Cache<T>) {
        self.upper.send_if_modified(|known| {
            let news = known != cache.upper();
            if news {
                known.clone_from(cache.upper());
            }
            news
        });
        if cache.is_heavy() {
            self.heavy.notify_one();
        }
    }

    /// Passes on what a write came to; those hear of it who want to know whether somebody else has
    /// taken over.
    pub(super) fn heard<X, R>(
        &self,
        outcome: Result<X, TablesError<R>>,
    ) -> Result<X, TablesError<R>> {
        if let Err(TablesError::Fenced(Fenced { by: Some(fence) })) = &outcome {
            self.fenced.send_replace(Some(fence.epoch));
        }
        outcome
    }

    /// Decides on the latest state and writes that, as often as others are faster; says how far all
    /// tables are written then.
    pub(super) async fn step<R>(
        &self,
        decide: impl Fn(&TxnsState<T>) -> Result<Step<T>, R>,
    ) -> Result<Upper<T>, TablesError<R>> {
        self.may_write()?;
        self.heard(self.take_step(decide).await)
    }

    async fn take_step<R>(
        &self,
        decide: impl Fn(&TxnsState<T>) -> Result<Step<T>, R>,
    ) -> Result<Upper<T>, TablesError<R>> {
        let mut cache = self.cache.lock().await;
        let mut is_fresh = false;
        for _ in 0..TRIES_MAX {
            match decide(&cache.state) {
                Ok(step) => {
                    let leaving = self.leaving.lock().clone();
                    let step = cache.state.leave(step, &leaving);
                    match self.append(&step).await {
                        Ok(()) => {
                            let upper = step.upper.clone();
                            cache.took(step)?;
                            self.publish(&cache);
                            self.left(&leaving, &cache.state);
                            return Ok(upper);
                        }
                        Err(WriteFault::Elsewhere(_)) => {}
                        Err(fault) => return Err(write_trouble(fault)),
                    }
                }
                Err(refusal) if is_fresh => return Err(TablesError::Refused(refusal)),
                // It may be that others have made it possible.
                Err(_) => {}
            }
            self.catch_up(&mut cache).await?;
            is_fresh = true;
        }
        Err(TablesError::Storage(too_busy()))
    }

    /// What the latest state says, without writing anything.
    pub(super) async fn check<X, R>(
        &self,
        decide: impl Fn(&TxnsState<T>) -> Result<X, R>,
    ) -> Result<X, TablesError<R>> {
        let mut cache = self.cache.lock().await;
        if let Ok(decided) = decide(&cache.state) {
            return Ok(decided);
        }
        // It may be that others have made it possible.
        self.catch_up(&mut cache).await?;
        decide(&cache.state).map_err(TablesError::Refused)
    }

    /// Those that are no tables any more need not be forgotten once more.
    fn left(&self, leaving: &BTreeSet<ShardId>, state: &TxnsState<T>) {
        if !leaving.is_empty() {
            let is_left = |id: &ShardId| leaving.contains(id) && !state.is_registered(*id);
            self.leaving.lock().retain(|id| !is_left(id));
        }
    }

    async fn append(&self, step: &Step<T>) -> Result<(), WriteFault<T>> {
        let updates = encode_rows(&step.rows, &step.at);
        let updates = updates.map_err(|error| WriteFault::Storage(give_up(error)))?;
        let append = TableAppend {
            shard: self.txns,
            schema: txns_schema(),
            lower: step.lower.clone(),
            upper: step.upper.clone(),
            updates,
        };
        let outcomes = self.store.append(vec![append]).await;
        outcomes.into_iter().next().unwrap_or(Ok(()))
    }
}

/// What cannot be refused may have any reason for being refused.
pub(super) fn never<R>(error: ApplyError) -> TablesError<R> {
    error.map(|refusal| match refusal {})
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tables are stopped")]
struct Stopped;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another controller is in charge of the tables")]
struct Overtaken;

#[derive(Debug, thiserror::Error)]
#[error("others were faster, again and again")]
struct TooBusy;

fn too_busy() -> StorageError {
    StorageError::new(StorageErrorKind::Retry, TooBusy)
}
