//! When which since is made durable.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use crate::id::{Key, ShardId};

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
    pub(crate) last: BTreeMap<ShardId, Last>,
    /// Some of `last` is to be asked for at this time.
    last_at: Option<Duration>,
    failures: u32,
    /// Requests to storage that are not answered.
    pub(crate) requests: usize,
}

/// The wish of a shard to be given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) key: Key,
    pub(crate) asked: bool,
}

impl Durability {
    pub(crate) fn new(interval: Duration) -> Self {
        Durability {
            interval,
            queued: Vec::new(),
            flush_at: None,
            flushed_at: None,
            retries: BTreeMap::new(),
            last: BTreeMap::new(),
            last_at: None,
            failures: 0,
            requests: 0,
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

    /// Queues a wish again that could not be written.
    pub(crate) fn retry(&mut self, key: Key, now: Duration) {
        let at = self.retry_at(now);
        self.retries.entry(at).or_default().push(key);
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

    /// Wishes for the empty since of a shard, at once unless a write of it is under way.
    pub(crate) fn queue_last(&mut self, shard: ShardId, key: Key, asked: bool, now: Duration) {
        self.last.insert(shard, Last { key, asked });
        if !asked {
            self.last_at = Some(now);
        }
    }

    /// A write of a shard that was given up is over: if it was not the last one, ask for that now.
    pub(crate) fn last_again(&mut self, shard: ShardId, at: Duration) {
        if let Some(last) = self.last.get_mut(&shard) {
            last.asked = false;
            self.last_at = Some(self.last_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// When storage is next to be asked, if there is nothing new.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let all = [self.flush_at, self.next_retry(), self.last_at];
        all.into_iter().flatten().min()
    }

    /// Whose wishes are to be asked for now; they are then taken for asked.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<Key> {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if !is_due(self.flush_at) && !is_due(self.next_retry()) {
            return Vec::new();
        }
        self.flush_at = None;
        self.flushed_at = Some(now);
        let mut due = mem::take(&mut self.queued);
        while let Some(entry) = self.retries.first_entry()
            && *entry.key() <= now
        {
            due.append(&mut entry.remove());
        }
        due
    }

    /// True iff some of `last` are to be asked for now.
    pub(crate) fn last_due(&mut self, now: Duration) -> bool {
        let due = self.last_at.is_some_and(|at| at <= now);
        if due {
            self.last_at = None;
        }
        due
    }

    /// Everything is due now, and whatever comes later is due when it comes.
    pub(crate) fn hurry(&mut self, now: Duration) {
        self.interval = Duration::ZERO;
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
        if self.last.values().any(|last| !last.asked) {
            self.last_at = Some(now);
        }
    }

    /// Storage has answered a request; `failed` if it could not write something.
    pub(crate) fn answered(&mut self, failed: bool) {
        self.requests -= 1;
        self.failures = if failed { self.failures + 1 } else { 0 };
    }

    /// When what failed is tried again.
    pub(crate) fn retry_at(&self, now: Duration) -> Duration {
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
        let waiting = self.last.iter().filter(|(_, last)| !last.asked);
        let waiting: Vec<_> = waiting.map(|(shard, _)| shard).collect();
        assert!(
            waiting.is_empty() || self.last_at.is_some(),
            "the last wishes of {waiting:?} are forgotten"
        );
        assert!(
            waiting.len() == self.last.len() || self.requests > 0,
            "last wishes wait for an answer to nothing"
        );
    }
}
