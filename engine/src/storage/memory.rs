//! Shards in memory: for tests, and for embedders that keep nothing durable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use timely::PartialOrder;

use crate::frontier::{Since, Time, Upper};
use crate::id::ShardId;

use super::{
    DowngradeSinces, OpenShards, OpenedShard, SinceWish, Storage, StorageError, StorageErrorKind,
    StorageReports,
};

/// Shards in memory. Clones are handles of the same storage: one for the engine, one for whoever
/// writes or makes trouble.
///
/// A shard begins when it is first opened, and outlives the engine. It keeps its since and its
/// upper, and never lets either go back.
#[derive(Clone)]
pub struct MemoryStorage<T> {
    shared: Arc<Mutex<Shards<T>>>,
}

struct Shards<T> {
    shards: BTreeMap<ShardId, Shard<T>>,
    /// Requests that are not answered before they are [let through](MemoryStorage::release).
    held: VecDeque<Request<T>>,
    holding: bool,
    /// Requests that still fail.
    failures: Option<(usize, StorageErrorKind)>,
    writes: u64,
    /// Wishes that were behind or incomparable with what is durable.
    refused: u64,
}

struct Shard<T> {
    since: Since<T>,
    upper: Upper<T>,
    reports: Option<StorageReports<T>>,
}

enum Request<T> {
    Open(OpenShards<T>),
    Downgrade(DowngradeSinces<T>),
}

impl<T: Time> MemoryStorage<T> {
    /// No shards yet.
    pub fn new() -> Self {
        let shards = Shards {
            shards: BTreeMap::new(),
            held: VecDeque::new(),
            holding: false,
            failures: None,
            writes: 0,
            refused: 0,
        };
        MemoryStorage {
            shared: Arc::new(Mutex::new(shards)),
        }
    }

    /// Writes a shard up to `upper`, and tells the engine that has opened it.
    ///
    /// # Errors
    ///
    /// The upper that the shard has, if `upper` is not later; nothing is written then.
    pub fn append(&self, shard: ShardId, upper: Upper<T>) -> Result<(), Upper<T>> {
        let mut shards = self.shared.lock();
        let entry = shards.shard(shard);
        if !PartialOrder::less_equal(&entry.upper, &upper) {
            return Err(entry.upper.clone());
        }
        entry.upper = upper.clone();
        let reports = entry.reports.clone();
        drop(shards);
        if let Some(reports) = reports {
            reports.uppers_advanced(vec![(shard, upper)]);
        }
        Ok(())
    }

    /// Moves a shard on to `since` at least, and tells the engine that has opened it that its lease
    /// has lapsed, as storage does that holds by leases.
    pub fn lapse(&self, shard: ShardId, since: &Since<T>) {
        let mut shards = self.shared.lock();
        let entry = shards.shard(shard);
        entry.since = entry.since.join(since);
        let (since, reports) = (entry.since.clone(), entry.reports.clone());
        drop(shards);
        if let Some(reports) = reports {
            reports.lapsed(vec![(shard, since)]);
        }
    }

    /// Where a shard is, if it was ever opened or written.
    pub fn shard(&self, shard: ShardId) -> Option<OpenedShard<T>> {
        let shards = self.shared.lock();
        let Shard { since, upper, .. } = shards.shards.get(&shard)?;
        Some(OpenedShard {
            since: since.clone(),
            upper: upper.clone(),
        })
    }

    /// Lets the next `requests` fail, with this remedy.
    pub fn fail(&self, requests: usize, kind: StorageErrorKind) {
        self.shared.lock().failures = Some((requests, kind));
    }

    /// From now on requests wait until they are let through.
    pub fn hold(&self) {
        self.shared.lock().holding = true;
    }

    /// How many requests wait.
    pub fn held(&self) -> usize {
        self.shared.lock().held.len()
    }

    /// Lets the request through that has waited `at` places behind the first. Says whether there
    /// is one.
    pub fn release(&self, at: usize) -> bool {
        let request = self.shared.lock().held.remove(at);
        request.map(|request| self.carry_out(request)).is_some()
    }

    /// Lets everything through that waits, in order, and all that comes later.
    pub fn release_all(&self) {
        self.shared.lock().holding = false;
        while self.release(0) {}
    }

    /// How many writes were made: each may have moved many shards.
    pub fn writes(&self) -> u64 {
        self.shared.lock().writes
    }

    /// How many wishes were behind, or incomparable with, the since that their shard had: it stayed
    /// where it was. An engine that is alone with its shards never has such a wish.
    pub fn refused(&self) -> u64 {
        self.shared.lock().refused
    }

    fn receive(&self, request: Request<T>) {
        let mut shards = self.shared.lock();
        if shards.holding {
            shards.held.push_back(request);
        } else {
            drop(shards);
            self.carry_out(request);
        }
    }

    fn carry_out(&self, request: Request<T>) {
        let failure = self.shared.lock().take_failure();
        match (request, failure) {
            (Request::Open(request), Some(kind)) => {
                let failed = |shard: &ShardId| (*shard, Err(told_to_fail(kind)));
                let outcomes = request.shards().iter().map(failed).collect();
                request.answer(outcomes);
            }
            (Request::Downgrade(request), Some(kind)) => {
                request.answer(|_| Err(told_to_fail(kind)));
            }
            (Request::Open(request), None) => {
                let mut shards = self.shared.lock();
                let mut open = |&shard: &ShardId| {
                    let entry = shards.shard(shard);
                    entry.reports = Some(request.reports().clone());
                    let (since, upper) = (entry.since.clone(), entry.upper.clone());
                    (shard, Ok(OpenedShard { since, upper }))
                };
                let outcomes = request.shards().iter().map(&mut open).collect();
                drop(shards);
                request.answer(outcomes);
            }
            (Request::Downgrade(request), None) => {
                let mut shards = self.shared.lock();
                shards.writes += 1;
                let outcomes: Vec<_> = request
                    .wishes()
                    .iter()
                    .map(|wish| shards.downgrade(wish))
                    .collect();
                let mut outcomes = outcomes.into_iter();
                drop(shards);
                request.answer(|_| Ok(outcomes.next().expect("there is one for each wish")));
            }
        }
    }
}

impl<T: Time> Shards<T> {
    fn shard(&mut self, shard: ShardId) -> &mut Shard<T> {
        self.shards.entry(shard).or_insert_with(|| Shard {
            since: Since::minimum(),
            upper: Upper::minimum(),
            reports: None,
        })
    }

    /// Moves a since, unless the wish is behind or incomparable; says where it is.
    fn downgrade(&mut self, wish: &SinceWish<T>) -> Since<T> {
        let shard = self.shard(wish.shard);
        let later = PartialOrder::less_equal(&shard.since, &wish.since);
        if later {
            shard.since = wish.since.clone();
        }
        let since = shard.since.clone();
        self.refused += u64::from(!later);
        since
    }

    fn take_failure(&mut self) -> Option<StorageErrorKind> {
        let (left, kind) = self.failures.as_mut()?;
        let kind = *kind;
        *left = left.checked_sub(1)?;
        Some(kind)
    }
}

fn told_to_fail(kind: StorageErrorKind) -> StorageError {
    StorageError::new(kind, "the memory storage was told to fail")
}

impl<T: Time> Default for MemoryStorage<T> {
    fn default() -> Self {
        MemoryStorage::new()
    }
}

impl<T: Time> Storage<T> for MemoryStorage<T> {
    fn open(&mut self, request: OpenShards<T>) {
        self.receive(Request::Open(request));
    }

    fn downgrade(&mut self, request: DowngradeSinces<T>) {
        self.receive(Request::Downgrade(request));
    }
}

impl<T> fmt::Debug for MemoryStorage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").finish_non_exhaustive()
    }
}
