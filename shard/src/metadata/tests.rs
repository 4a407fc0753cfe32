//! Transactions over metadata: all or nothing, by one controller at a time.

use std::sync::Arc;

use lowwater::StorageErrorKind;

use super::*;
use crate::consensus::unreliable::{Fault, UnreliableConsensus};
use crate::consensus::{Consensus, Fence, Fenced, MemoryConsensus};
use crate::id::{Epoch, Incarnation};

fn shard(number: u128) -> ShardId {
    ShardId::new(number)
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(epoch.into()),
    }
}

/// On a clock that runs when everybody waits.
fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn stored(store: &MemoryConsensus, fence: Option<Fence>) -> StoredMetadata<u64> {
    StoredMetadata::new(Arc::new(store.clone()), fence)
}

#[test]
fn an_aborted_transaction_leaves_no_trace() {
    let memory = MemoryMetadata::<u64>::new();
    let mut aborted = memory.begin();
    aborted.own(1, shard(1)).unwrap();
    assert_eq!(aborted.shard_of(1).unwrap(), Some(shard(1)));
    drop(aborted);
    assert_eq!(memory.begin().owned().unwrap(), []);
    run(async {
        let store = MemoryConsensus::new();
        let metadata = stored(&store, None);
        let mut aborted = metadata.begin().await.unwrap();
        aborted.own(1, shard(1)).unwrap();
        drop(aborted);
        assert_eq!(metadata.begin().await.unwrap().owned().unwrap(), []);
        assert_eq!(store.list(None, 10).await.unwrap(), []);
    });
}

#[test]
fn what_is_committed_is_there_for_others_and_after_a_restart() {
    let memory = MemoryMetadata::<u64>::new();
    let mut transaction = memory.begin();
    transaction.own(1, shard(1)).unwrap();
    transaction.commit().unwrap();
    assert_eq!(memory.clone().begin().owned().unwrap(), [(1, shard(1))]);
    run(async {
        let store = MemoryConsensus::new();
        let mut transaction = stored(&store, None).begin().await.unwrap();
        transaction.own(1, shard(1)).unwrap();
        transaction.own(2, shard(1)).unwrap();
        transaction.set_txns_shard(shard(3)).unwrap();
        transaction.commit().await.unwrap();
        let restarted = stored(&store, None).begin().await.unwrap();
        assert_eq!(restarted.owned().unwrap(), [(1, shard(1)), (2, shard(1))]);
        assert_eq!(restarted.owners(shard(1)).unwrap(), [1, 2]);
        assert_eq!(restarted.txns_shard().unwrap(), Some(shard(3)));
    });
}

#[test]
fn of_two_transactions_at_a_time_one_begins_again() {
    let memory = MemoryMetadata::<u64>::new();
    let (mut first, mut second) = (memory.begin(), memory.begin());
    first.own(1, shard(1)).unwrap();
    second.own(2, shard(2)).unwrap();
    first.commit().unwrap();
    assert!(second.commit().is_err());
    assert_eq!(memory.begin().owned().unwrap(), [(1, shard(1))]);
    run(async {
        let store = MemoryConsensus::new();
        let (here, there) = (stored(&store, None), stored(&store, None));
        let mut first = here.begin().await.unwrap();
        let mut second = there.begin().await.unwrap();
        first.own(1, shard(1)).unwrap();
        second.own(2, shard(2)).unwrap();
        first.commit().await.unwrap();
        let refused = second.commit().await.unwrap_err();
        assert!(matches!(refused, CommitError::Conflict(_)), "{refused}");
        assert_eq!(refused.kind(), StorageErrorKind::Retry);
        let mut again = there.begin().await.unwrap();
        again.own(2, shard(2)).unwrap();
        again.commit().await.unwrap();
        let all = here.begin().await.unwrap().owned().unwrap();
        assert_eq!(all, [(1, shard(1)), (2, shard(2))]);
    });
}

#[test]
fn nothing_of_an_older_controller_lands_after_a_newer_one_has_taken_over() {
    run(async {
        let store = MemoryConsensus::new();
        store.take_over(fence(1)).await.unwrap().unwrap();
        let older = stored(&store, Some(fence(1)));
        let mut transaction = older.begin().await.unwrap();
        transaction.own(1, shard(1)).unwrap();
        store.take_over(fence(2)).await.unwrap().unwrap();
        let refused = transaction.commit().await.unwrap_err();
        let by = Some(fence(2));
        assert!(matches!(refused, CommitError::Fenced(Fenced { by: found }) if found == by));
        assert_eq!(refused.kind(), StorageErrorKind::GiveUp);
        let newer = stored(&store, Some(fence(2)));
        assert_eq!(newer.begin().await.unwrap().owned().unwrap(), []);
    });
}

#[test]
fn a_commit_whose_answer_is_lost_is_committed_once() {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::Late] {
        run(async {
            let store = UnreliableConsensus::new(Arc::new(MemoryConsensus::new()));
            let metadata = StoredMetadata::<u64>::new(Arc::new(store.clone()), None);
            store.next_commits([fault]);
            for id in 1..4 {
                let mut transaction = metadata.begin().await.unwrap();
                transaction.own(id, shard(id.into())).unwrap();
                transaction.commit().await.unwrap();
            }
            let all = metadata.begin().await.unwrap().owned().unwrap();
            assert_eq!(all, [(1, shard(1)), (2, shard(2)), (3, shard(3))]);
        });
    }
}

#[test]
fn ids_of_another_type_are_told_and_not_mistaken() {
    run(async {
        let store = MemoryConsensus::new();
        let mut transaction = stored(&store, None).begin().await.unwrap();
        transaction.own(1, shard(1)).unwrap();
        transaction.commit().await.unwrap();
        let other = StoredMetadata::<u32>::new(Arc::new(store.clone()), None);
        let error = other.begin().await.unwrap().owned().unwrap_err();
        assert!(matches!(error, MetadataError::ForeignId(8)), "{error}");
    });
}
