//! A controller that dies at any write: the next one comes to the same end.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures_lite::StreamExt;
use futures_lite::stream::Boxed;
use lowwater::{ShardId, StorageErrorKind, Upper};
use lowwater_shard::collections::{FinalizerStats, Kind};
use lowwater_shard::consensus::{
    Answer, Changes, Consensus, ConsensusError, Fence, Fenced, MemoryConsensus, Offer, Outcome,
    Scan, Truncation, Version,
};
use lowwater_shard::metadata::MetadataTransaction;
use lowwater_shard::{LogId, Parts};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use timely::progress::Antichain;

use super::world::*;

/// A store that a process can write to a few times, and then never again.
#[derive(Debug)]
pub(super) struct Mortal {
    store: MemoryConsensus,
    life: Life,
}

/// How often a process still writes, records and parts together.
#[derive(Clone, Debug)]
struct Life(Arc<AtomicI64>);

impl Life {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    /// One write; false if the process has died before it.
    fn write(&self) -> bool {
        let lives = self.0.fetch_sub(1, Ordering::SeqCst) > 0;
        if !lives {
            self.0.store(-1, Ordering::SeqCst);
        }
        lives
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the process has died")]
struct Dead;

impl Mortal {
    pub(super) fn new(store: &MemoryConsensus, writes: i64) -> Arc<Self> {
        Arc::new(Mortal {
            store: store.clone(),
            life: Life(Arc::new(AtomicI64::new(writes))),
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.life.is_over()
    }

    /// Parts that die with it.
    fn parts(&self, store: &Arc<InMemory>) -> Parts {
        let mortal = MortalParts {
            store: Arc::clone(store),
            life: self.life.clone(),
        };
        Parts::over(Arc::new(mortal), "", "mortal")
    }

    fn write<X: Send + 'static>(&self, write: impl FnOnce() -> Answer<X>) -> Answer<X> {
        if self.life.write() {
            return write();
        }
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

/// Parts that a process can write and delete a few times, and then never again.
#[derive(Debug)]
struct MortalParts {
    store: Arc<InMemory>,
    life: Life,
}

impl MortalParts {
    fn write(&self) -> Result<()> {
        if self.life.write() {
            return Ok(());
        }
        Err(dead())
    }
}

fn dead() -> object_store::Error {
    object_store::Error::Generic {
        store: "mortal",
        source: Box::new(Dead),
    }
}

impl fmt::Display for MortalParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mortal")
    }
}

#[async_trait]
impl ObjectStore for MortalParts {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.write()?;
        self.store.put_opts(at, what, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.write()?;
        self.store.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.store.get_opts(at, how).await
    }

    fn delete_stream(&self, paths: Boxed<Result<Path>>) -> Boxed<Result<Path>> {
        let (life, store) = (self.life.clone(), Arc::clone(&self.store));
        let deleted = paths.then(move |path| {
            let (life, store) = (life.clone(), Arc::clone(&store));
            async move {
                if !life.write() {
                    return Err(dead());
                }
                let path = futures_lite::stream::once(path).boxed();
                let mut deleted = store.delete_stream(path);
                deleted.next().await.expect("one was asked for")
            }
        });
        deleted.boxed()
    }

    fn list(&self, below: Option<&Path>) -> Boxed<Result<ObjectMeta>> {
        self.store.list(below)
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.write()?;
        self.store.copy_opts(from, to, how).await
    }
}

/// Parts that are left of each shard.
async fn left(parts: &InMemory) -> BTreeSet<String> {
    let listed: Vec<_> = parts.list(None).collect().await;
    let folder = |meta: Result<ObjectMeta>| {
        let path = meta.unwrap().location;
        let folder = path.parts().next().unwrap();
        folder.as_ref().to_owned()
    };
    listed.into_iter().map(folder).collect()
}

/// What the embedder's catalogue says, so far as it has committed.
pub(super) async fn catalogue(controller: &Controller) -> (BTreeSet<u64>, BTreeSet<ShardId>) {
    let transaction = controller.metadata.begin().await.unwrap();
    let owned = transaction.owned().unwrap();
    let existing = owned.into_iter().map(|(id, _)| id).collect();
    (existing, transaction.unfinalized().unwrap())
}

/// From boot to drop, as far as the process lives; true if it has come to the end.
async fn live(mortal: &Arc<Mortal>, parts: &Arc<InMemory>) -> Option<()> {
    let store: World = Arc::clone(mortal) as World;
    let shards = shards_on(&store, &mortal.parts(parts));
    let controller = Controller::try_start_on(&shards).await?;
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
    for id in existing.iter().copied() {
        let shard = controller.shard(id);
        let writer = shards.writer(shard, &columns(&["a"])).await.ok()?;
        let upper = writer.fetch_upper().await.ok()?;
        if upper == Upper::at(0) {
            let written = writer.compare_and_append(upper, Upper::at(4), rows(0..4));
            let _ = written.await.ok()?;
        }
    }
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
            let (store, parts) = (MemoryConsensus::new(), Arc::new(InMemory::new()));
            let mortal = Mortal::new(&store, deaths);
            let dies = live(&mortal, &parts).await.is_none();
            // Where it begins anew from a catalogue of nothing but 2, there is nothing to drop.
            let immortal = Mortal::new(&store, i64::MAX);
            let lived = live(&immortal, &parts).await;
            lived.expect("nothing is in its way");
            let shared: World = Arc::new(store.clone());
            let shards = shards_on(&shared, &immortal.parts(&parts));
            let witness = Controller::try_start_on(&shards).await.unwrap();
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
            let transaction = witness.metadata.begin().await.unwrap();
            let shard = transaction.shard_of(2).unwrap().unwrap();
            let read = shards.snapshot(shard, &Antichain::from_elem(3)).await;
            assert_eq!(
                values(&read.unwrap()),
                [0, 1, 2, 3],
                "after {deaths} writes"
            );
            // The space of what was dropped is gone, also of what was never appended.
            assert_eq!(left(&parts).await.len(), 1, "after {deaths} writes");
            if !dies {
                break;
            }
            deaths += 1;
        }
        assert!(deaths >= 12, "it has to die more often than {deaths} times");
    });
}
