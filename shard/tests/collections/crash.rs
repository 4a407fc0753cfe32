//! A controller that dies at any write: the next one comes to the same end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::LogId;
use lowwater_shard::collections::{FinalizerStats, Kind};
use lowwater_shard::consensus::{
    Answer, Changes, Consensus, ConsensusError, Fence, Fenced, MemoryConsensus, Offer, Outcome,
    Scan, Truncation, Version,
};
use lowwater_shard::metadata::MetadataTransaction;

use super::world::*;

/// A store that a process can write to a few times, and then never again.
#[derive(Debug)]
pub(super) struct Mortal {
    store: MemoryConsensus,
    writes_left: AtomicI64,
}

#[derive(Debug, thiserror::Error)]
#[error("the process has died")]
struct Dead;

impl Mortal {
    pub(super) fn new(store: &MemoryConsensus, writes: i64) -> Arc<Self> {
        Arc::new(Mortal {
            store: store.clone(),
            writes_left: AtomicI64::new(writes),
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.writes_left.load(Ordering::SeqCst) < 0
    }

    fn write<X: Send + 'static>(&self, write: impl FnOnce() -> Answer<X>) -> Answer<X> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return write();
        }
        self.writes_left.store(-1, Ordering::SeqCst);
        let error = ConsensusError::determinate(StorageErrorKind::Retry, Dead);
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Consensus for Mortal {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.store.heads(logs)
    }

    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<Result<Vec<Outcome>, Fenced>> {
        self.write(|| self.store.commit(fence, offers))
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
        self.write(|| self.store.take_over(fence))
    }

    fn changes(&self) -> Changes {
        self.store.changes()
    }
}

/// What the embedder's catalogue says, so far as it has committed.
pub(super) async fn catalogue(controller: &Controller) -> (BTreeSet<u64>, BTreeSet<ShardId>) {
    let transaction = controller.metadata.begin().await.unwrap();
    let owned = transaction.owned().unwrap();
    let existing = owned.into_iter().map(|(id, _)| id).collect();
    (existing, transaction.unfinalized().unwrap())
}

/// From boot to drop, as far as the process lives; true if it has come to the end.
async fn live(mortal: &Arc<Mortal>) -> Option<()> {
    let store: World = Arc::clone(mortal) as World;
    let controller = Controller::try_start(&store).await?;
    let (existing, _) = catalogue(&controller).await;
    controller
        .try_change(|collections, transaction| {
            collections.initialize(transaction, &existing, &BTreeSet::new())
        })
        .await?;
    if existing.is_empty() {
        controller.try_prepare(&[1, 2], &[]).await?;
    }
    let (existing, _) = catalogue(&controller).await;
    let batch = existing.iter().map(|id| new(*id, Kind::Compute)).collect();
    controller.collections.create(None, batch).await.ok()?;
    if existing.contains(&1) {
        controller.try_prepare(&[], &[1]).await?;
        controller
            .collections
            .drop_collections(vec![1])
            .await
            .ok()?;
    }
    let over = |stats: &FinalizerStats| stats.outstanding == 0 || mortal.is_dead();
    controller.until(over).await;
    if mortal.is_dead() {
        return None;
    }
    controller.try_prepare(&[], &[]).await
}

#[test]
fn whenever_a_controller_dies_the_next_one_comes_to_the_same_end() {
    run(async {
        let mut deaths = 0;
        loop {
            let store = MemoryConsensus::new();
            let dies = live(&Mortal::new(&store, deaths)).await.is_none();
            // Where it begins anew from a catalogue of nothing but 2, there is nothing to drop.
            let immortal = Mortal::new(&store, i64::MAX);
            live(&immortal).await.expect("nothing is in its way");
            let shared: World = Arc::new(store.clone());
            let witness = Controller::try_start(&shared).await.unwrap();
            let (existing, waiting) = catalogue(&witness).await;
            assert_eq!(existing, ids([2]), "after {deaths} writes");
            assert_eq!(waiting, BTreeSet::new(), "after {deaths} writes");
            let (mut buried, mut alive) = (0, 0);
            for log in store.list(None, 100).await.unwrap() {
                if log == LogId::since(log.shard) {
                    match witness.sinces(log.shard).await.is_buried() {
                        true => buried += 1,
                        false => alive += 1,
                    }
                }
            }
            assert_eq!((buried, alive), (1, 1), "after {deaths} writes");
            if !dies {
                break;
            }
            deaths += 1;
        }
        assert!(deaths >= 8, "it has to die more often than {deaths} times");
    });
}
