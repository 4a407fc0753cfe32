//! A store of records that counts what is written to it.

use std::sync::{Arc, Mutex, PoisonError};

use lowwater_shard::consensus::{
    Answer, Changes, Consensus, ConsensusError, Fence, Fenced, Offer, Outcome, Scan, Truncation,
    Version,
};
use lowwater_shard::{LogId, SeqNo};

/// How many logs are measured in one request.
const LOGS_AT_ONCE: usize = 100;

/// A store, with a counter of the bytes that were written to it.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    store: Arc<dyn Consensus>,
    written: Arc<Mutex<u64>>,
}

impl Meter {
    /// Counts what is written to `store` from now on, by this process.
    #[must_use]
    pub(super) fn new(store: Arc<dyn Consensus>) -> Self {
        Self {
            store,
            written: Arc::default(),
        }
    }

    /// How many bytes were written.
    #[must_use]
    pub(super) fn written(&self) -> u64 {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes the store holds now: all versions of all logs.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn held(&self) -> Result<u64, ConsensusError> {
        let (mut held, mut after) = (0, None);
        loop {
            let logs = self.store.list(after, LOGS_AT_ONCE).await?;
            let Some(last) = logs.last() else {
                return Ok(held);
            };
            after = Some(*last);
            let from = SeqNo::FIRST;
            let scans = logs.into_iter().map(|log| Scan { log, from }).collect();
            let versions = self.store.scan(scans).await?;
            let sizes = versions.iter().flatten().map(size);
            held += sizes.sum::<u64>();
        }
    }
}

fn size(version: &Version) -> u64 {
    version.data.len() as u64
}

impl Consensus for Meter {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.store.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        let sizes: Vec<_> = offers.iter().map(|offer| offer.data.len() as u64).collect();
        let written = Arc::clone(&self.written);
        let committed = self.store.commit(fence, offers);
        Box::pin(async move {
            let outcomes = committed.await?;
            if let Ok(outcomes) = &outcomes {
                let taken = outcomes.iter().zip(sizes);
                let taken = taken.filter(|(outcome, _)| **outcome == Outcome::Taken);
                let bytes: u64 = taken.map(|(_, size)| size).sum();
                *written.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
            }
            Ok(outcomes)
        })
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
        self.store.take_over(fence)
    }

    fn changes(&self) -> Changes {
        self.store.changes()
    }
}
