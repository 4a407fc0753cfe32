//! A store whose controller is stopped at one of its writes.

use std::sync::Arc;

use lowwater_shard::consensus::{
    Answer, Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version,
};
use lowwater_shard::{Epoch, LogId};
use parking_lot::Mutex;

use super::talk::{hear, say};

/// Where a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Right before a write is handed to the store.
    Before,
    /// The write has been carried out, and nobody has heard of it yet.
    After,
}

/// A store that says when it comes to a place, and goes on when it is told by whom the controller was
/// overtaken meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Stopping {
    store: Arc<dyn Consensus>,
    stop: Arc<Mutex<Stop>>,
    /// One write of a controller at a time: where it is stopped, no other is under way.
    one: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    /// How many writes are let through before, and where it stops then.
    next: Option<(usize, Place)>,
    overtaken_by: Option<Epoch>,
}

impl Stopping {
    pub(crate) fn new(store: Arc<dyn Consensus>) -> Self {
        Stopping {
            store,
            stop: Arc::default(),
            one: Arc::default(),
        }
    }

    /// Stops when so many writes of a controller have been done.
    pub(crate) fn stop_after(&self, writes: usize, place: Place) {
        self.stop.lock().next = Some((writes, place));
    }

    /// By whom the controller was overtaken while it was stopped.
    pub(crate) fn overtaken_by(&self) -> Option<Epoch> {
        self.stop.lock().overtaken_by
    }

    /// Does a write, and stops at it if it is the one.
    fn write<X: Send + 'static>(
        &self,
        write: impl FnOnce(&dyn Consensus) -> Answer<X> + Send + 'static,
    ) -> Answer<X> {
        let stopping = self.clone();
        Box::pin(async move {
            let _one = stopping.one.lock().await;
            let place = stopping.place();
            if place == Some(Place::Before) {
                stopping.stopped().await;
            }
            let written = write(&*stopping.store).await;
            if place == Some(Place::After) {
                stopping.stopped().await;
            }
            written
        })
    }

    /// Counts a write. Where it is to be stopped at, if it is this one.
    fn place(&self) -> Option<Place> {
        let next = &mut self.stop.lock().next;
        match next {
            Some((0, place)) => {
                let place = *place;
                *next = None;
                Some(place)
            }
            Some((writes, _)) => {
                *writes -= 1;
                None
            }
            None => None,
        }
    }

    async fn stopped(&self) {
        say("stop me");
        let by = hear().await.parse().unwrap();
        self.stop.lock().overtaken_by = Some(Epoch::new(by));
    }
}

impl Consensus for Stopping {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.store.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        match fence {
            Some(_) => self.write(move |store| store.commit(fence, offers)),
            None => self.store.commit(fence, offers),
        }
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        self.store.scan(scans)
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        self.store.truncate(truncations)
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        self.store.list(after, logs_max)
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        self.store.fence()
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        self.write(move |store| store.take_over(fence))
    }

    fn changes(&self) -> Changes {
        self.store.changes()
    }
}
