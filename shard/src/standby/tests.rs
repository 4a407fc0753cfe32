//! What an engine hears of a storage that only reads, and is put in charge.

use std::sync::Arc;

use lowwater::{StorageReport, StorageReports};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::consensus::{Consensus, Fence, MemoryConsensus};
use crate::id::Incarnation;
use crate::parts::Parts;
use crate::record::NewBatch;
use crate::shards::{Settings, Upkeep};

use super::*;

const SHARD: ShardId = ShardId::new(1);
const READER: ReaderId = ReaderId::new(1);

/// What an engine has heard, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn reports(&self) -> StorageReports<u64> {
        let heard = self.clone();
        StorageReports::new(move |report| {
            let what = match report {
                StorageReport::Opened { batch, .. } => format!("opened {batch}"),
                StorageReport::Downgraded(_) => String::from("downgraded"),
                StorageReport::UppersAdvanced(uppers) => format!("{uppers:?}"),
                StorageReport::Fenced(by) => format!("fenced by {by}"),
                StorageReport::Lapsed(_) => String::from("lapsed"),
            };
            heard.0.lock().push(what);
        })
    }

    async fn until(&self, what: &str) -> Vec<String> {
        loop {
            let heard = self.0.lock().clone();
            if heard.iter().any(|heard| heard == what) {
                return heard;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn shards() -> Shards<u64> {
    let store: Arc<dyn Consensus> = Arc::new(MemoryConsensus::new());
    let settings = Settings {
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    };
    Shards::new(&Handle::current(), store, Parts::memory(), settings)
}

fn spawn(shards: &Shards<u64>) -> (StandbyStorage<u64>, Promoter<u64>) {
    StandbyStorage::spawn(shards, Duration::from_secs(3_600), |_, _| {})
}

/// Finds all shards where this says that they are written.
struct Found(Upper<u64>);

impl Storage<u64> for Found {
    fn open(&mut self, request: OpenShards<u64>) {
        let opened = request.shards().iter().map(|shard| {
            let (since, upper) = (Since::minimum(), self.0.clone());
            (*shard, Ok(OpenedShard { since, upper }))
        });
        let opened = opened.collect();
        request.answer(opened);
    }

    fn downgrade(&mut self, request: DowngradeSinces<u64>) {
        request.answer(|wish| Ok(wish.since.clone()));
    }
}

fn promotion(shards: &Shards<u64>, upper: Upper<u64>) -> Promotion<u64> {
    Promotion {
        driver: Box::new(Found(upper)),
        charge: Charge {
            transactor: Transactor::new(Arc::clone(shards.store()), None),
            reader: READER,
            epoch: Epoch::new(1),
        },
        before: Box::pin(std::future::ready(Ok(()))),
    }
}

#[tokio::test(start_paused = true)]
async fn an_upper_that_is_found_at_promotion_is_told_also_where_the_shard_is_sealed() {
    for upper in [Upper::at(20), Upper::sealed()] {
        let (shards, heard) = (shards(), Heard::default());
        let (mut storage, promoter) = spawn(&shards);
        storage.open(OpenShards::new(1, vec![SHARD], heard.reports()));
        let _ = heard.until("opened 1").await;
        promoter
            .promote(promotion(&shards, upper.clone()))
            .await
            .unwrap();
        let told = heard.0.lock().clone();
        assert_eq!(told[1..], [format!("{:?}", [(SHARD, upper)])]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upper_is_told_however_much_is_asked_for() {
    let (shards, heard) = (shards(), Heard::default());
    let (mut storage, _promoter) = spawn(&shards);
    storage.open(OpenShards::new(1, vec![SHARD], heard.reports()));
    let _ = heard.until("opened 1").await;
    let hub = &shards.inner.hub;
    let append = |record: &DataRecord<u64>| {
        let batch = NewBatch::empty(record.upper().clone(), Upper::at(20)).unwrap();
        record.compare_and_append(batch)
    };
    let written = hub.write(hub.transactor(), &hub.shard(SHARD), append).await;
    written.unwrap();
    for batch in 2..200 {
        storage.open(OpenShards::new(batch, vec![SHARD], heard.reports()));
    }
    let told = heard.until("opened 199").await;
    let upper = format!("{:?}", [(SHARD, Upper::at(20_u64))]);
    let at = |what: &str| told.iter().position(|told| told == what);
    assert!(
        at(&upper).is_some_and(|upper| Some(upper) < at("opened 199")),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_overtaken_before_it_has_opened_anything_hears_of_it_then() {
    let (shards, heard) = (shards(), Heard::default());
    let fence = Fence {
        epoch: Epoch::new(1),
        incarnation: Incarnation::new(1),
    };
    shards.store().take_over(fence).await.unwrap().unwrap();
    let mut storage = shards.storage(READER, fence);
    storage.herald().fenced(Epoch::new(9));
    storage.open(OpenShards::new(1, Vec::new(), heard.reports()));
    let told = heard.until("opened 1").await;
    assert_eq!(told, ["fenced by 9", "opened 1"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_promoted_without_shards_hears_when_it_is_overtaken() {
    let (shards, heard) = (shards(), Heard::default());
    let fence = Fence {
        epoch: Epoch::new(1),
        incarnation: Incarnation::new(1),
    };
    shards.store().take_over(fence).await.unwrap().unwrap();
    let (mut storage, promoter) = spawn(&shards);
    storage.open(OpenShards::new(1, vec![SHARD], heard.reports()));
    let _ = heard.until("opened 1").await;
    storage.let_go(vec![SHARD]);
    let driver = shards.storage(READER, fence);
    let herald = driver.herald();
    let promotion = Promotion {
        driver: Box::new(driver),
        ..promotion(&shards, Upper::minimum())
    };
    promoter.promote(promotion).await.unwrap();
    herald.fenced(Epoch::new(9));
    let _ = heard.until("fenced by 9").await;
}
