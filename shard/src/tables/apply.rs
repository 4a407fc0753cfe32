//! Bringing what was committed to the tables' own shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::{ShardId, Since, Upper};
use timely::PartialOrder;
use timely::progress::Antichain;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::clock::in_future;

use super::encoding::decode_writes;
use super::error::{ApplyError, TablesError, give_up, write_trouble};
use super::handle::Inner;
use super::state::{APPLICATION_BYTES_MAX, Application, TxnsState};
use super::store::{Head, TableAppend, TableStore, WriteFault};
use super::time::TableTime;

/// How long to wait before something is done again that has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The txns shard is let go of at most this often.
const DOWNGRADE_INTERVAL: Duration = Duration::from_secs(1);

type Heads<T> = BTreeMap<ShardId, Head<T>>;

/// Why an application was not made.
enum Trouble {
    /// What the state says may be old.
    Stale(ApplyError),
    /// What was read of the shard may be old.
    OldHead(ApplyError),
}

impl<T: TableTime> Inner<T> {
    /// Applies what was committed to these tables up to and at `through`; whatever is found to be
    /// applied is noted. What cannot be applied does not keep the rest from it.
    pub(super) async fn apply_to(
        &self,
        tables: BTreeSet<ShardId>,
        through: &T,
    ) -> Result<(), ApplyError> {
        if tables.is_empty() {
            return Ok(());
        }
        self.may_write()?;
        self.heard(self.apply_now(tables, through).await)
    }

    async fn apply_now(&self, tables: BTreeSet<ShardId>, through: &T) -> Result<(), ApplyError> {
        let mut failed = None;
        let mut heads = Heads::new();
        for (id, head) in self.store.heads(tables.into_iter().collect()).await? {
            match head {
                Ok(head) => drop(heads.insert(id, head)),
                Err(error) => drop(failed.get_or_insert(TablesError::Storage(error))),
            }
        }
        while !heads.is_empty() {
            let (appends, troubled) = self.plan(&mut heads, through).await;
            for (id, trouble) in troubled {
                if let Err(error) = self.look_again(id, trouble, through, &mut heads).await {
                    heads.remove(&id);
                    failed.get_or_insert(error);
                }
            }
            if !appends.is_empty() {
                let tried: Vec<_> = appends.iter().map(|a| (a.shard, a.upper.clone())).collect();
                let outcomes = self.store.append(appends).await;
                for ((id, upper), outcome) in tried.into_iter().zip(outcomes) {
                    let Some(head) = heads.get_mut(&id) else {
                        continue;
                    };
                    match outcome {
                        Ok(()) => head.upper = upper,
                        Err(WriteFault::Elsewhere(actual)) => head.upper = actual,
                        Err(fault) => {
                            heads.remove(&id);
                            failed.get_or_insert(write_trouble(fault));
                        }
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Lets the txns shard be compacted up to `since`, and compacts it where that is worth it.
    pub(super) async fn let_go(&self, since: Since<T>) -> Result<(), ApplyError> {
        let downgraded = self.store.downgrade(self.txns, since).await;
        self.heard(downgraded.map_err(write_trouble))?;
        self.compact().await
    }

    /// Compacts the txns shard where that is worth it.
    async fn compact(&self) -> Result<(), ApplyError> {
        let compacted = self.store.compact(self.txns).await;
        self.heard(compacted.map_err(write_trouble))
    }

    /// What to append, and what is in the way; tables to which nothing has to be applied are left
    /// out of `heads` afterwards. Of very much only a part: the rest is planned when that is written.
    async fn plan(
        &self,
        heads: &mut Heads<T>,
        through: &T,
    ) -> (Vec<TableAppend<T>>, Vec<(ShardId, Trouble)>) {
        let state = &mut self.cache.lock().await.state;
        let (mut appends, mut troubled) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        heads.retain(|id, head| {
            state.applied(*id, &head.upper);
            if bytes >= APPLICATION_BYTES_MAX {
                return true;
            }
            match plan_one(state, *id, head, through) {
                Ok(None) => return false,
                Ok(Some(planned)) => {
                    bytes += planned.bytes;
                    appends.push(planned.append);
                }
                Err(trouble) => troubled.push((*id, trouble)),
            }
            true
        });
        (appends, troubled)
    }

    /// Reads again what may be old; an error if it was not.
    async fn look_again(
        &self,
        id: ShardId,
        trouble: Trouble,
        through: &T,
        heads: &mut Heads<T>,
    ) -> Result<(), ApplyError> {
        let error = match trouble {
            Trouble::Stale(error) => {
                self.catch_up(&mut *self.cache.lock().await).await?;
                error
            }
            Trouble::OldHead(error) => {
                for (id, head) in self.store.heads(vec![id]).await? {
                    heads.insert(id, head?);
                }
                error
            }
        };
        let state = &self.cache.lock().await.state;
        let head = heads.get(&id);
        let planned = head.map(|head| plan_one(state, id, head, through));
        match planned {
            Some(Err(_)) => Err(error),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

struct Planned<T> {
    append: TableAppend<T>,
    /// How large what was committed is.
    bytes: usize,
}

fn plan_one<T: TableTime>(
    state: &TxnsState<T>,
    id: ShardId,
    head: &Head<T>,
    through: &T,
) -> Result<Option<Planned<T>>, Trouble> {
    let application = state.application(id, &head.upper, through);
    let application =
        application.map_err(|foreign| Trouble::Stale(TablesError::Storage(give_up(foreign))))?;
    let Some(Application {
        lower,
        upper,
        writes,
    }) = application
    else {
        return Ok(None);
    };
    let old = |error| Trouble::OldHead(TablesError::Storage(give_up(error)));
    let updates = decode_writes(&writes, &head.schemas).map_err(old)?;
    let append = TableAppend {
        shard: id,
        schema: head.schemas.last().expect("the writes are of it").clone(),
        lower,
        upper,
        updates,
    };
    let bytes = writes.iter().map(|(_, payload)| payload.len()).sum();
    Ok(Some(Planned { append, bytes }))
}

/// Follows what other processes write to the txns shard.
pub(super) async fn follow<T: TableTime>(inner: Weak<Inner<T>>) {
    loop {
        let Some((store, txns, upper)) = inner.upgrade().map(|inner| {
            let upper = inner.uppers().borrow().clone();
            (Arc::clone(&inner.store), inner.txns, upper)
        }) else {
            return;
        };
        if upper.is_sealed() {
            return;
        }
        let followed = followed(&inner, &*store, txns, upper.into_frontier()).await;
        if let Err(error) = followed {
            tracing::warn!(%error, "what is committed to tables cannot be followed");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn followed<T: TableTime>(
    inner: &Weak<Inner<T>>,
    store: &dyn TableStore<T>,
    txns: ShardId,
    known: Antichain<T>,
) -> Result<(), lowwater::StorageError> {
    store.wait_past(txns, known.clone()).await?;
    let Some(inner) = inner.upgrade() else {
        return Ok(());
    };
    let mut cache = inner.cache.lock().await;
    // What this process has written itself need not be read. What could not be taken in has to be
    // read from the beginning.
    if PartialOrder::less_equal(cache.upper().frontier(), &known) {
        inner.catch_up(&mut cache).await?;
    }
    Ok(())
}

/// Applies what is committed, and lets the txns shard be compacted, until another controller is in
/// charge; not more often than `every`, so that many commits are applied in one write.
pub(super) async fn work<T: TableTime>(inner: Weak<Inner<T>>, every: Duration) {
    let Some((uppers, heavy, mut stopped)) = inner
        .upgrade()
        .map(|inner| (inner.uppers(), Arc::clone(&inner.heavy), inner.stopped()))
    else {
        return;
    };
    let mut worker = Worker {
        inner,
        uppers,
        heavy,
        every,
        next_application: Instant::now(),
        downgraded: Since::minimum(),
        next_downgrade: Instant::now(),
    };
    while let Some(left) = worker.turn().await {
        let goes_on = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => false,
            goes_on = worker.rest(left) => goes_on,
        };
        if !goes_on {
            return;
        }
    }
}

struct Worker<T: TableTime> {
    inner: Weak<Inner<T>>,
    uppers: watch::Receiver<Upper<T>>,
    heavy: Arc<Notify>,
    every: Duration,
    /// When the next application may be.
    next_application: Instant,
    /// How far the txns shard was let go of.
    downgraded: Since<T>,
    next_downgrade: Instant,
}

/// What is left when everything was done that can be done now.
enum Left {
    Nothing,
    /// Something to be done at that time.
    Until(Instant),
}

impl<T: TableTime> Worker<T> {
    /// Does what can be done now; none if there is nothing more to do, for ever.
    async fn turn(&mut self) -> Option<Left> {
        let inner = self.inner.upgrade()?;
        self.uppers.mark_unchanged();
        match self.work(&inner).await {
            Ok(left) => Some(left),
            Err(TablesError::Fenced(fenced)) => {
                tracing::info!(%fenced, "another controller applies what is committed now");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "what is committed to tables cannot be applied");
                Some(Left::Until(Instant::now() + AGAIN))
            }
        }
    }

    /// Until there is something to do, and not before what is committed may be applied again: what
    /// is committed meanwhile is applied with it. False if there never will be.
    async fn rest(&mut self, left: Left) -> bool {
        let changed = match left {
            Left::Nothing => self.uppers.changed().await.is_ok(),
            Left::Until(then) => tokio::select! {
                changed = self.uppers.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(then) => true,
            },
        };
        tokio::select! {
            () = tokio::time::sleep_until(self.next_application) => {}
            () = self.heavy.notified() => {}
        }
        changed
    }

    async fn work(&mut self, inner: &Inner<T>) -> Result<Left, ApplyError> {
        let mut cache = inner.cache.lock().await;
        cache.is_light_again();
        let latest = cache.state.latest_unapplied().cloned();
        let due = latest
            .as_ref()
            .map(|latest| cache.state.unapplied_through(latest));
        drop(cache);
        let mut applied = Ok(());
        if let (Some(latest), Some(due)) = (latest, due) {
            self.next_application = in_future(self.every);
            applied = inner.apply_to(due, &latest).await;
        }
        if let Err(fenced @ TablesError::Fenced(_)) = applied {
            return Err(fenced);
        }
        // The txns shard is let go of up to what cannot be applied, however long that lasts.
        let left = self.let_go(inner).await?;
        applied.map(|()| left)
    }

    async fn let_go(&mut self, inner: &Inner<T>) -> Result<Left, ApplyError> {
        let limit = inner.cache.lock().await.state.since_limit();
        if limit == self.downgraded {
            // It may have become many batches all the same.
            inner.compact().await?;
            return Ok(Left::Nothing);
        }
        if Instant::now() < self.next_downgrade {
            return Ok(Left::Until(self.next_downgrade));
        }
        inner.let_go(limit.clone()).await?;
        self.downgraded = limit;
        self.next_downgrade = Instant::now() + DOWNGRADE_INTERVAL;
        Ok(Left::Nothing)
    }
}
