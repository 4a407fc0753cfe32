//! When which since is made durable.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use crate::frontier::Time;
use crate::id::{Key, ShardId};
use crate::storage::SinceWish;

use super::collection::Wish;
use super::downgrades::Downgrades;
use super::last_wishes::{LastWishes, Stage};

/// The first wait after storage has failed; doubled with every failure that follows.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(10);

/// Which collections wish to make their since durable, and when they are next asked for together.
///
/// Memory is bounded by the number of shards, however long storage is away: a collection queues
/// once, and its wish is read when the queue is flushed, so the last one counts. What storage could
/// not write waits by itself, so that a shard that fails keeps no other waiting.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The least time between two writes of one shard.
    interval: Duration,
    /// Collections whose wish is queued. Some may be gone: their last wish is in `last`.
    queued: Vec<Key>,
    /// When `queued` is flushed, if anything is in it.
    flush_at: Option<Duration>,
    flushed_at: Option<Duration>,
    /// Collections whose wish could not be written, by when it is tried again, together with what
    /// is queued then.
    retries: BTreeMap<Duration, Vec<Key>>,
    /// Shards of collections that are gone, until the empty since is durable.
    pub(crate) last: LastWishes,
    failures: u32,
    /// Requests to storage that are not answered.
    pub(crate) requests: usize,
    downgrades: Downgrades,
}

impl Durability {
    pub(crate) fn new(interval: Duration) -> Self {
        Durability {
            interval,
            queued: Vec::new(),
            flush_at: None,
            flushed_at: None,
            retries: BTreeMap::new(),
            last: LastWishes::default(),
            failures: 0,
            requests: 0,
            downgrades: Downgrades::default(),
        }
    }

    pub(crate) fn downgrades(&self) -> Downgrades {
        self.downgrades
    }

    /// From now on writes of a shard are so far apart, also those that wait already.
    pub(crate) fn set_interval(&mut self, interval: Duration, now: Duration) {
        self.interval = interval;
        if self.flush_at.is_some() {
            self.flush_at = Some(self.next_flush().max(now));
        }
    }

    /// A planned since has moved on, and is not durable. Gives how far its wish has come now.
    pub(crate) fn wish(&mut self, before: Wish, key: Key, now: Duration) -> Wish {
        self.downgrades.wished(before);
        match before {
            Wish::Granted => {
                self.queue(key, now);
                Wish::Queued
            }
            Wish::Queued => Wish::Queued,
            Wish::Asked | Wish::AskedAndQueued => Wish::AskedAndQueued,
        }
    }

    /// Storage has answered for a collection that is still there; `granted` if its wish is durable.
    /// Gives how far the wish has come now.
    pub(crate) fn answered_alive(
        &mut self,
        before: Wish,
        key: Key,
        granted: bool,
        now: Duration,
    ) -> Wish {
        let replaced = before == Wish::AskedAndQueued;
        self.downgrades.answered(granted, replaced);
        match (granted, replaced) {
            (true, false) => Wish::Granted,
            (true, true) => {
                self.queue(key, now);
                Wish::Queued
            }
            (false, _) => {
                let at = self.retry_at(now);
                self.retries.entry(at).or_default().push(key);
                Wish::Queued
            }
        }
    }

    /// Storage has answered for a collection that is gone, whose shard is kept: nothing more is asked
    /// for it. Gives how far its wish has come now.
    pub(crate) fn answered_kept(&mut self, before: Wish, granted: bool) -> Wish {
        let replaced = before == Wish::AskedAndQueued;
        self.downgrades.answered(granted, replaced);
        match (granted, replaced) {
            (true, false) => Wish::Granted,
            (true, true) | (false, _) => Wish::Queued,
        }
    }

    /// Queues the wish of a collection: its shard is written once the interval since the last
    /// write is over.
    pub(crate) fn queue(&mut self, key: Key, now: Duration) {
        self.queued.push(key);
        if self.flush_at.is_none() {
            self.flush_at = Some(self.next_flush().max(now));
        }
    }

    /// The interval since the last write is over then.
    fn next_flush(&self) -> Duration {
        let flushed_at = self.flushed_at;
        flushed_at.map_or(Duration::ZERO, |at| at.saturating_add(self.interval))
    }

    fn next_retry(&self) -> Option<Duration> {
        let (at, _) = self.retries.first_key_value()?;
        Some(self.next_flush().max(*at))
    }

    /// Collections whose wish is queued, or waits for another try. Some may be gone.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Key> {
        let queued = self.queued.iter();
        queued.chain(self.retries.values().flatten()).copied()
    }

    /// Wishes for the empty since of a shard, at once unless a write of it is under way. `before`
    /// is how far its collection's wish had come.
    pub(crate) fn queue_last(&mut self, shard: ShardId, key: Key, before: Wish, now: Duration) {
        self.downgrades.wished(before);
        let stage = match before {
            Wish::Granted | Wish::Queued => Stage::Waiting,
            Wish::Asked | Wish::AskedAndQueued => Stage::Behind,
        };
        self.last.add(shard, key, stage, now);
    }

    /// Storage has answered for a shard whose collection is gone: only the empty since is enough.
    /// After another one, it is asked for now; where storage has failed, later.
    pub(crate) fn answered_gone(&mut self, shard: ShardId, granted: bool, now: Duration) {
        let Some(is_last) = self.last.answered(shard, granted) else {
            return;
        };
        self.downgrades.answered(granted, !is_last);
        if granted && is_last {
            return;
        }
        let at = if granted { now } else { self.retry_at(now) };
        self.last.ask_at(at);
    }

    /// When storage is next to be asked, if there is nothing new.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let all = [self.flush_at, self.next_retry(), self.last.next_at()];
        all.into_iter().flatten().min()
    }

    /// Whose wishes are to be asked for now: those that are new, then those that have failed. Some
    /// may be gone.
    fn take_due(&mut self, now: Duration) -> (Vec<Key>, Vec<Key>) {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if !is_due(self.flush_at) && !is_due(self.next_retry()) {
            return (Vec::new(), Vec::new());
        }
        self.flush_at = None;
        self.flushed_at = Some(now);
        let mut again = Vec::new();
        while let Some(entry) = self.retries.first_entry()
            && *entry.key() <= now
        {
            again.append(&mut entry.remove());
        }
        (mem::take(&mut self.queued), again)
    }

    /// Asks for what is due: for the wishes of those collections that `wish` knows.
    pub(crate) fn ask<T>(
        &mut self,
        now: Duration,
        mut wish: impl FnMut(Key) -> Option<SinceWish<T>>,
    ) -> Vec<SinceWish<T>> {
        let (new, again) = self.take_due(now);
        let mut wishes = Vec::with_capacity(new.len() + again.len());
        for (keys, again) in [(new, false), (again, true)] {
            for wish in keys.into_iter().filter_map(&mut wish) {
                self.downgrades.asked(again);
                wishes.push(wish);
            }
        }
        self.requests += usize::from(!wishes.is_empty());
        wishes
    }

    /// Asks for the empty since of shards that were given up, if that is due.
    pub(crate) fn ask_last<T: Time>(&mut self, now: Duration) -> Vec<SinceWish<T>> {
        let mut wishes = Vec::new();
        for (wish, again) in self.last.ask(now) {
            self.downgrades.asked(again);
            wishes.push(wish);
        }
        self.requests += usize::from(!wishes.is_empty());
        wishes
    }

    /// Everything is due now, as if nothing had been written within the interval.
    pub(crate) fn hurry(&mut self, now: Duration) {
        self.flushed_at = None;
        if !self.queued.is_empty() {
            self.flush_at = Some(now);
        }
        let retries: Vec<_> = mem::take(&mut self.retries)
            .into_values()
            .flatten()
            .collect();
        if !retries.is_empty() {
            self.retries.insert(now, retries);
        }
        self.last.hurry(now);
    }

    /// Storage has answered a request; `failed` if it could not write something.
    pub(crate) fn answered(&mut self, failed: bool) {
        self.requests -= 1;
        self.failures = if failed { self.failures + 1 } else { 0 };
    }

    /// When what failed is tried again.
    fn retry_at(&self, now: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        now + (RETRY_MIN * (1 << doublings)).min(RETRY_MAX)
    }

    /// True iff nothing waits for storage.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting().next().is_none() && self.last.is_empty() && self.requests == 0
    }

    /// Asserts that whatever is left is asked for at some time.
    pub(crate) fn check(&self) {
        assert!(
            self.queued.is_empty() || self.flush_at.is_some(),
            "the queue of wishes is forgotten"
        );
        self.last.check(self.requests > 0);
        self.downgrades.check();
    }
}
