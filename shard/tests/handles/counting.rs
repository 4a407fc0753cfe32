//! A store that counts what is asked of it.
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lowwater_shard::LogId;
use lowwater_shard::consensus::{
    Answer, Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version,
};

#[derive(Clone, Debug)]
pub(crate) struct Counting {
    inner: Arc<dyn Consensus>,
    commits: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Counting {
    pub(crate) fn new(inner: Arc<dyn Consensus>) -> Self {
        Counting {
            inner,
            commits: Arc::default(),
            reads: Arc::default(),
            bytes: Arc::default(),
        }
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// How often something was read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// How many bytes were offered.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }
}

impl Consensus for Counting {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        let bytes = offers.iter().map(|offer| offer.data.len()).sum();
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.inner.commit(fence, offers)
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.inner.scan(scans)
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
