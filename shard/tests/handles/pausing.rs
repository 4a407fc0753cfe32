//! A store whose answers can be kept waiting, so that something happens in between.

use std::sync::Arc;
use std::time::Duration;

use lowwater_shard::consensus::{
    Answer, Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version,
};
use lowwater_shard::{LogId, LogKind, Settings, ShardTime, Shards};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::world::World;

#[derive(Clone, Debug)]
pub(crate) struct Pausing {
    inner: Arc<dyn Consensus>,
    pauses: Arc<Mutex<Vec<Pause>>>,
}

#[derive(Debug)]
struct Pause {
    kind: LogKind,
    /// How many scans are let through before.
    after: usize,
    reached: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

/// A scan that has been answered, but not yet to who asked.
#[derive(Debug)]
pub(crate) struct Paused {
    reached: Option<oneshot::Receiver<()>>,
    go_on: oneshot::Sender<()>,
}

impl Pausing {
    /// A process of this world whose scans can be paused, and the store that it sees.
    pub(crate) fn process<T: ShardTime>(world: &World, settings: Settings) -> (Shards<T>, Self) {
        let pausing = Pausing {
            inner: Arc::new(world.store.clone()),
            pauses: Arc::default(),
        };
        let (store, parts) = (Arc::new(pausing.clone()), world.parts.clone());
        let runtime = tokio::runtime::Handle::current();
        (Shards::new(&runtime, store, parts, settings), pausing)
    }

    /// The scan of logs of this kind that comes behind so many others of them.
    pub(crate) fn pause_scan(&self, kind: LogKind, after: usize) -> Paused {
        let ((reached_it, reached), (go_on, goes_on)) = (oneshot::channel(), oneshot::channel());
        self.pauses.lock().push(Pause {
            kind,
            after,
            reached: reached_it,
            go_on: goes_on,
        });
        Paused {
            reached: Some(reached),
            go_on,
        }
    }

    fn pause(&self, scans: &[Scan]) -> Option<Pause> {
        let mut pauses = self.pauses.lock();
        let of = |kind| scans.iter().any(|scan| scan.log.kind == kind);
        let at = pauses.iter().position(|pause| of(pause.kind))?;
        if pauses[at].after > 0 {
            pauses[at].after -= 1;
            return None;
        }
        Some(pauses.remove(at))
    }
}

impl Paused {
    /// Waits until there is the answer.
    pub(crate) async fn reached(&mut self) {
        if let Some(reached) = self.reached.take() {
            let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
            reached.expect("somebody scans").unwrap();
        }
    }

    /// Hands it over.
    pub(crate) fn go_on(self) {
        self.go_on.send(()).unwrap();
    }
}

impl Consensus for Pausing {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.inner.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        self.inner.commit(fence, offers)
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        let pause = self.pause(&scans);
        let answer = self.inner.scan(scans);
        Box::pin(async move {
            let found = answer.await;
            if let Some(Pause { reached, go_on, .. }) = pause {
                reached.send(()).unwrap();
                go_on.await.unwrap();
            }
            found
        })
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        self.inner.truncate(truncations)
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.inner.list(after, logs_max)
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.inner.fence()
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        self.inner.take_over(fence)
    }

    fn changes(&self) -> Changes {
        self.inner.changes()
    }
}
