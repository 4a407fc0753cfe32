//! What stands between the engine and its storage: a shard that somebody owns is not released.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lowwater::{
    CollectionId, DowngradeSinces, OpenShards, ShardId, SinceWish, Storage, StorageError,
    StorageErrorKind, StorageReport, StorageReports,
};
use parking_lot::Mutex;

use crate::storage::ShardStorage;
use crate::time::ShardTime;

use super::ledger::Ledger;

/// The storage of an engine, but for shards that it releases although committed metadata say that
/// somebody owns them: those wishes fail, which is an event, and are asked for again.
///
/// The engine is told to keep such shards, and asks for none of them: see
/// [`Collections::awaited`](super::Collections::awaited). This is for what the embedder does with the
/// engine behind our back.
pub(super) struct Guarded<I, T: ShardTime> {
    pub(super) storage: ShardStorage<T>,
    pub(super) ledger: Arc<Mutex<Ledger<I>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the shard is owned by {0}: it is not released")]
struct Owned(String);

impl<I: CollectionId, T: ShardTime> Storage<T> for Guarded<I, T> {
    fn open(&mut self, request: OpenShards<T>) {
        self.storage.open(request);
    }

    fn downgrade(&mut self, request: DowngradeSinces<T>) {
        let refused = self.refused(request.wishes());
        if refused.is_empty() {
            return self.storage.downgrade(request);
        }
        let allowed = request.wishes().iter();
        let allowed = allowed.filter(|wish| !refused.contains_key(&wish.shard));
        let allowed: Vec<SinceWish<T>> = allowed.cloned().collect();
        if allowed.is_empty() {
            return answer(request, &refused, BTreeMap::new());
        }
        let request = Mutex::new(Some(request));
        let reports = StorageReports::new(move |report| {
            if let StorageReport::Downgraded(outcomes) = report
                && let Some(request) = request.lock().take()
            {
                let outcomes = outcomes.into_iter();
                let outcomes = outcomes.map(|(wish, outcome)| (wish.shard, outcome));
                answer(request, &refused, outcomes.collect());
            }
        });
        self.storage
            .downgrade(DowngradeSinces::new(allowed, reports));
    }
}

impl<I: CollectionId, T: ShardTime> Guarded<I, T> {
    /// The shards that are to be released, and who owns them.
    fn refused(&self, wishes: &[SinceWish<T>]) -> BTreeMap<ShardId, String> {
        let released = wishes.iter().filter(|wish| wish.since.is_gone());
        let released: BTreeSet<ShardId> = released.map(|wish| wish.shard).collect();
        if released.is_empty() {
            return BTreeMap::new();
        }
        let ledger = self.ledger.lock();
        let named = released.into_iter();
        let named = named.map(|shard| (shard, ledger.names_of_owners(shard)));
        named.filter(|(_, owners)| !owners.is_empty()).collect()
    }
}

fn answer<T: ShardTime>(
    request: DowngradeSinces<T>,
    refused: &BTreeMap<ShardId, String>,
    mut outcomes: BTreeMap<ShardId, Result<lowwater::Since<T>, StorageError>>,
) {
    request.answer(|wish| match refused.get(&wish.shard) {
        Some(owners) => {
            let owned = Owned(owners.clone());
            tracing::warn!(shard = %wish.shard, %owners, "a shard that is owned is not released");
            Err(StorageError::new(StorageErrorKind::Retry, owned))
        }
        None => outcomes.remove(&wish.shard).unwrap_or_else(|| {
            let nothing = "storage said nothing of this shard";
            Err(StorageError::new(StorageErrorKind::Retry, nothing))
        }),
    });
}
