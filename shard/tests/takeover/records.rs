//! All that a store has, byte for byte, and that its parts are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use lowwater_shard::consensus::{Consensus, Fence, Scan, Version};
use lowwater_shard::record::{Content, DataRecord, SinceRecord, Stored};
use lowwater_shard::{Log, LogId, PartName, Parts, SeqNo, Transactor};

use super::store::Store;

/// All that a store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Everything {
    fence: Option<Fence>,
    logs: BTreeMap<LogId, Vec<Version>>,
}

impl Everything {
    pub(crate) async fn in_store(store: &dyn Consensus) -> Self {
        let logs = store.list(None, 10_000).await.unwrap();
        let scans = logs.iter().map(|log| Scan {
            log: *log,
            from: SeqNo::FIRST,
        });
        let versions = store.scan(scans.collect()).await.unwrap();
        Everything {
            fence: store.fence().await.unwrap(),
            logs: logs.into_iter().zip(versions).collect(),
        }
    }

    /// What is not the same later.
    pub(crate) fn changed(&self, later: &Everything) -> Vec<String> {
        let mut changed = Vec::new();
        if self.fence != later.fence {
            changed.push(format!("{:?} became {:?}", self.fence, later.fence));
        }
        let all = self.logs.keys().chain(later.logs.keys());
        let mut all: Vec<&LogId> = all.collect();
        all.sort_unstable();
        all.dedup();
        for log in all {
            let (before, after) = (self.logs.get(log), later.logs.get(log));
            if before != after {
                let numbers = |versions: Option<&Vec<Version>>| -> Vec<u64> {
                    let versions = versions.into_iter().flatten();
                    versions.map(|version| version.seqno.number()).collect()
                };
                changed.push(format!(
                    "{log:?}: {:?} became {:?}",
                    numbers(before),
                    numbers(after)
                ));
            }
        }
        changed
    }
}

/// All that a store has with leases taken out, and with them where they keep sinces back. The rest is
/// the same byte for byte.
pub(crate) async fn without_leases(store: &Arc<dyn Consensus>) -> Vec<String> {
    let everything = Everything::in_store(&**store).await;
    let reader = Transactor::new(Arc::clone(store), None);
    let mut all = vec![format!("{:?}", everything.fence)];
    for (id, versions) in everything.logs {
        if id != LogId::since(id.shard) {
            all.push(format!("{id} {versions:?}"));
            continue;
        }
        let mut log = Log::<SinceRecord<u64>>::new(id.shard);
        let read = reader.refresh(&mut [&mut log]).await.unwrap();
        read.into_iter().for_each(Result::unwrap);
        let (critical, is_buried) = (log.record().critical(), log.record().is_buried());
        all.push(format!("{id} {critical:?} {is_buried}"));
    }
    all
}

/// Nothing is missing that a record refers to. Parts are not fenced: the older one may still write some
/// that nobody will ever refer to, for that takes a write of a record, and delete some of which a record
/// says already that nobody refers to them, or nobody ever will.
pub(crate) async fn check_parts(store: &impl Store, parts: &Path) {
    let (store, parts) = (store.open().await, Parts::folder(parts).unwrap());
    let reader = Transactor::new(store, None);
    for id in reader.store().list(None, 10_000).await.unwrap() {
        if id != LogId::data(id.shard) {
            continue;
        }
        let mut log = Log::<DataRecord<u64>>::new(id.shard);
        let read = reader.refresh(&mut [&mut log]).await.unwrap();
        read.into_iter().for_each(Result::unwrap);
        let listed = parts.list(id.shard).await.unwrap().into_iter();
        let listed: BTreeSet<PartName> = listed.map(|part| part.name).collect();
        for batch in log.record().batches() {
            let stored = batch.contents.iter().filter_map(Content::stored);
            let missing = stored.map(Stored::name);
            let missing: Vec<PartName> = missing.filter(|part| !listed.contains(part)).collect();
            assert!(missing.is_empty(), "{id}: {missing:?} are gone");
        }
    }
}
