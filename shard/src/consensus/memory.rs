//! Logs in memory: for tests, and for embedders that keep nothing durable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::id::{LogId, SeqNo};

use super::hints::Hints;
use super::{Answer, Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version};

/// Logs in memory. Clones are handles of the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryConsensus {
    store: Arc<Mutex<Store>>,
    hints: Hints,
}

#[derive(Debug, Default)]
struct Store {
    /// None is empty.
    logs: BTreeMap<LogId, BTreeMap<SeqNo, Bytes>>,
    fence: Option<Fence>,
}

impl MemoryConsensus {
    /// A store without logs.
    pub fn new() -> Self {
        MemoryConsensus::default()
    }
}

impl Store {
    fn head(&self, log: LogId) -> Option<Version> {
        let (&seqno, data) = self.logs.get(&log)?.last_key_value()?;
        let data = data.clone();
        Some(Version { seqno, data })
    }

    fn offer(&mut self, offer: Offer) -> Outcome {
        let seqno = offer.seqno();
        if self.head(offer.log).map(|head| head.seqno) != offer.seen {
            return Outcome::Stale;
        }
        let log = self.logs.entry(offer.log).or_default();
        log.insert(seqno, offer.data);
        if let Some(before) = offer.keep_from {
            let (log, before) = (offer.log, before.min(seqno));
            self.truncate(Truncation { log, before });
        }
        Outcome::Taken
    }

    fn scan(&self, scan: Scan) -> Vec<Version> {
        let versions = self.logs.get(&scan.log).into_iter();
        let versions = versions.flat_map(|log| log.range(scan.from..));
        versions
            .map(|(&seqno, data)| Version {
                seqno,
                data: data.clone(),
            })
            .collect()
    }

    fn truncate(&mut self, Truncation { log, before }: Truncation) {
        if let Some(versions) = self.logs.get_mut(&log)
            && versions
                .last_key_value()
                .is_some_and(|(&last, _)| last >= before)
        {
            *versions = versions.split_off(&before);
        }
    }
}

fn ready<X: Send + 'static>(answer: X) -> Answer<X> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Consensus for MemoryConsensus {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        let store = self.store.lock();
        ready(logs.into_iter().map(|log| store.head(log)).collect())
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        let mut store = self.store.lock();
        if fence.is_some() && fence != store.fence {
            return ready(Err(Fenced { by: store.fence }));
        }
        let mut taken = Vec::new();
        let mut outcomes = Vec::new();
        for offer in offers {
            let log = offer.log;
            let outcome = store.offer(offer);
            if outcome == Outcome::Taken {
                taken.push(log);
            }
            outcomes.push(outcome);
        }
        drop(store);
        self.hints.logs_changed(taken.iter().copied());
        ready(Ok(outcomes))
    }

    fn scan(&self, scans: Vec<Scan>) -> Answer<Vec<Vec<Version>>> {
        let store = self.store.lock();
        ready(scans.into_iter().map(|scan| store.scan(scan)).collect())
    }

    fn truncate(&self, truncations: Vec<Truncation>) -> Answer<()> {
        let mut store = self.store.lock();
        for truncation in truncations {
            store.truncate(truncation);
        }
        ready(())
    }

    fn list(&self, after: Option<LogId>, logs_max: usize) -> Answer<Vec<LogId>> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let store = self.store.lock();
        let logs = store.logs.range((after, Bound::Unbounded));
        ready(logs.map(|(log, _)| *log).take(logs_max).collect())
    }

    fn fence(&self) -> Answer<Option<Fence>> {
        ready(self.store.lock().fence)
    }

    fn take_over(&self, fence: Fence) -> Answer<Result<(), Fenced>> {
        let mut store = self.store.lock();
        let taken = fence.may_replace(store.fence);
        if taken.is_ok() {
            store.fence = Some(fence);
        }
        ready(taken)
    }

    fn changes(&self) -> Changes {
        self.hints.changes()
    }
}
