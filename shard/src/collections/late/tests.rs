//! What an engine hears of tables.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{
    DowngradeSinces, OpenShards, OpenedShard, ShardId, Since, Storage, StorageReport,
    StorageReports, Upper,
};
use tokio::runtime::Handle;

use crate::consensus::{Consensus, Fence, MemoryConsensus};
use crate::id::{Epoch, Incarnation, ReaderId};
use crate::parts::Parts;
use crate::schema::Schema;
use crate::tables::{Access, Apply, Tables};

use super::{LateTables, TableStorage};

/// Every shard is new.
struct Fresh;

impl Storage<u64> for Fresh {
    fn open(&mut self, request: OpenShards<u64>) {
        let opened = |id: &ShardId| {
            let (since, upper) = (Since::minimum(), Upper::minimum());
            (*id, Ok(OpenedShard { since, upper }))
        };
        let opened = request.shards().iter().map(opened).collect();
        request.answer(opened);
    }

    fn downgrade(&mut self, request: DowngradeSinces<u64>) {
        request.answer(|wish| Ok(wish.since.clone()));
    }
}

async fn opened() -> Tables<u64> {
    let store: Arc<dyn Consensus> = Arc::new(MemoryConsensus::new());
    let fence = Fence {
        epoch: Epoch::new(1),
        incarnation: Incarnation::new(1),
    };
    store.take_over(fence).await.unwrap().unwrap();
    let (reader, apply) = (ReaderId::new(1), Apply::ByHand);
    let access = Access::Control {
        reader,
        fence,
        apply,
    };
    let (runtime, txns) = (Handle::current(), ShardId::new(1_000));
    let opened = Tables::open(&runtime, store, Parts::memory(), txns, access).await;
    opened.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_hears_of_all_tables_in_one_input() {
    let tables = opened().await;
    let schema = Schema::new(Vec::new()).unwrap();
    let ids: Vec<ShardId> = (0..50).map(ShardId::new).collect();
    let all: Vec<_> = ids.iter().map(|id| (*id, schema.clone())).collect();
    tables.register(&1, &all).await.unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let reports = StorageReports::new(move |report| told.send(report).unwrap());
    let late = LateTables::new();
    let mut storage = TableStorage {
        within: Fresh,
        runtime: Handle::current(),
        late: Arc::clone(&late),
    };
    // The engine has started before the tables are opened.
    let (other, late_comer) = (ShardId::new(998), ShardId::new(999));
    storage.open(OpenShards::new(2, vec![other], reports.clone()));
    assert!(matches!(
        heard.recv().await,
        Some(StorageReport::Opened { batch: 2, .. })
    ));
    assert!(late.open(&Handle::current(), tables.clone()));
    // One is left to itself, and one is no table yet.
    let own = ids[7];
    let mut followed: BTreeSet<ShardId> = ids.iter().copied().collect();
    followed.remove(&own);
    late.follow(followed.iter().copied().chain([late_comer]));
    let mut asked = ids.clone();
    asked.push(late_comer);
    storage.open(OpenShards::new(3, asked, reports));
    let mut before = 0;
    let outcomes = loop {
        match heard.recv().await {
            Some(StorageReport::Opened { batch: 3, outcomes }) => break outcomes,
            Some(StorageReport::UppersAdvanced(_)) if before == 0 => before += 1,
            other => panic!("{other:?}"),
        }
    };
    for (id, opened) in outcomes {
        let expected = match followed.contains(&id) {
            true => Upper::at(2),
            false => Upper::minimum(),
        };
        assert_eq!(opened.unwrap().upper, expected, "{id}");
    }
    tables.advance(&9).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Some(StorageReport::UppersAdvanced(uppers)) = heard.recv().await else {
        panic!("all advance")
    };
    let advanced: Vec<_> = followed.iter().map(|id| (*id, Upper::at(10))).collect();
    assert_eq!(uppers, advanced);
    assert!(heard.try_recv().is_err(), "one input for all");
    // A shard that becomes a table is followed as one.
    tables.register(&11, &[(late_comer, schema)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Some(StorageReport::UppersAdvanced(uppers)) = heard.recv().await else {
        panic!("all advance")
    };
    assert!(uppers.contains(&(late_comer, Upper::at(12))));
}
