//! All that a store has, byte for byte.

use std::collections::BTreeMap;

use lowwater_shard::consensus::{Consensus, Fence, Scan, Version};
use lowwater_shard::{LogId, SeqNo};

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
