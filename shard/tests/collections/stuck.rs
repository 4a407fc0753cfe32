//! A store of records, and one of parts, that hang for one shard and for no other.
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_lite::StreamExt;
use futures_lite::stream::Boxed;
use lowwater::ShardId;
use lowwater_shard::consensus::{
    Answer, Changes, Consensus, Fence, Fenced, Offer, Outcome, Scan, Truncation, Version,
};
use lowwater_shard::{LogId, Parts};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// The shards for which nothing is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stuck {
    shards: Arc<watch::Sender<BTreeSet<ShardId>>>,
    lists: Arc<AtomicUsize>,
    bytes_read: Arc<AtomicU64>,
}

impl Stuck {
    pub(crate) fn hold(&self, shard: ShardId) {
        self.shards.send_if_modified(|stuck| stuck.insert(shard));
    }

    pub(crate) fn free(&self, shard: ShardId) {
        self.shards.send_if_modified(|stuck| stuck.remove(&shard));
    }

    pub(crate) fn release(&self) {
        self.shards.send_replace(BTreeSet::new());
    }

    /// True iff somebody waits, or is just asking.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.shards.receiver_count() > 0
    }

    /// How many wait, once nobody is just asking.
    pub(crate) fn waiting(&self) -> usize {
        self.shards.receiver_count()
    }

    /// How often parts were to be listed.
    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::SeqCst)
    }

    /// How many bytes of parts were read.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::SeqCst)
    }

    /// Waits until none of these is stuck.
    fn goes_on(&self, shards: BTreeSet<ShardId>) -> impl Future<Output = ()> + Send + 'static {
        let mut stuck = self.shards.subscribe();
        async move {
            let free = stuck.wait_for(|stuck| stuck.is_disjoint(&shards));
            free.await.expect("it lives as long as those that wait");
        }
    }

    /// The shard that an object belongs to.
    fn goes_on_at(&self, path: &Path) -> impl Future<Output = ()> + Send + 'static {
        let folder = path.parts().next();
        let shard = folder.and_then(|shard| u128::from_str_radix(shard.as_ref(), 16).ok());
        self.goes_on(shard.map(ShardId::new).into_iter().collect())
    }

    pub(crate) fn parts(&self) -> Parts {
        let stuck = StuckParts {
            stuck: self.clone(),
            store: Arc::default(),
        };
        Parts::over(Arc::new(stuck), "", "stuck")
    }

    pub(crate) fn records(&self, store: &Arc<dyn Consensus>) -> Arc<dyn Consensus> {
        Arc::new(StuckRecords {
            stuck: self.clone(),
            store: Arc::clone(store),
        })
    }
}

#[derive(Debug)]
struct StuckParts {
    stuck: Stuck,
    store: Arc<InMemory>,
}

impl fmt::Display for StuckParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stuck")
    }
}

#[async_trait]
impl ObjectStore for StuckParts {
    async fn put_opts(&self, at: &Path, what: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.stuck.goes_on_at(at).await;
        self.store.put_opts(at, what, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.stuck.goes_on_at(at).await;
        self.store.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.stuck.goes_on_at(at).await;
        let read = self.store.get_opts(at, how).await?;
        let bytes = read.range.end - read.range.start;
        self.stuck.bytes_read.fetch_add(bytes, Ordering::SeqCst);
        Ok(read)
    }

    fn delete_stream(&self, paths: Boxed<Result<Path>>) -> Boxed<Result<Path>> {
        let stuck = self.stuck.clone();
        let paths = paths.then(move |path| {
            let stuck = stuck.clone();
            async move {
                if let Ok(path) = &path {
                    stuck.goes_on_at(path).await;
                }
                path
            }
        });
        self.store.delete_stream(paths.boxed())
    }

    fn list(&self, below: Option<&Path>) -> Boxed<Result<ObjectMeta>> {
        self.stuck.lists.fetch_add(1, Ordering::SeqCst);
        let goes_on = below.map(|below| self.stuck.goes_on_at(below));
        let listed = self.store.list(below);
        let listed = async move {
            if let Some(goes_on) = goes_on {
                goes_on.await;
            }
            listed
        };
        futures_lite::stream::once_future(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, how).await
    }
}

#[derive(Debug)]
struct StuckRecords {
    stuck: Stuck,
    store: Arc<dyn Consensus>,
}

impl Consensus for StuckRecords {
    fn heads(&self, logs: Vec<LogId>) -> Answer<Vec<Option<Version>>> {
        self.store.heads(logs)
    }

    /// What is written to the data of a shard that is stuck waits; its sinces are written.
    fn commit(
        &self,
        fence: Option<Fence>,
        offers: Vec<Offer>,
    ) -> Answer<std::result::Result<Vec<Outcome>, Fenced>> {
        let data = offers.iter().map(|offer| offer.log);
        let data = data.filter(|log| *log == LogId::data(log.shard));
        let goes_on = self.stuck.goes_on(data.map(|log| log.shard).collect());
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            goes_on.await;
            store.commit(fence, offers).await
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

    fn take_over(&self, fence: Fence) -> Answer<std::result::Result<(), Fenced>> {
        self.store.take_over(fence)
    }

    fn changes(&self) -> Changes {
        self.store.changes()
    }
}
