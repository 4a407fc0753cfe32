//! Who is known to own which shard, whatever has become of those who said so.

use std::sync::Arc;

use lowwater::StopReason;
use lowwater_shard::collections::{Allotment, Kind, PrepareError};
use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::metadata::StoredMetadata;

use super::standby::{LEASE, follow};
use super::world::*;

#[test]
fn what_the_controller_before_has_dropped_is_finalized_by_the_one_that_is_promoted() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1, 2]).await;
        let shard = live.shard(1);
        let follower = follow(&store, LEASE).await;
        // After the follower has looked, and the controller is gone before anything comes of it.
        live.collections.change_finalization(off());
        let _ = live.prepare(&[], &[1]).await;
        let promoted = follower.collections.promote(None).await.unwrap();
        let metadata = StoredMetadata::new(Arc::clone(&store), Some(promoted.fence));
        let promoted = Controller {
            metadata,
            ..follower
        };
        let plan = promoted.initialize(&ids([2]), &ids([])).await;
        assert!(plan.unfinalized.contains(&shard));
        promoted.until(|stats| stats.succeeded == 1).await;
        assert!(promoted.sinces(shard).await.is_buried());
        let refused = promoted
            .collections
            .create(None, vec![new(1, Kind::Compute)])
            .await;
        assert_eq!(refusals(refused.unwrap_err()).len(), 1, "1 owns nothing");
    }));
}

/// The answer to a commit was lost, or its token with whoever was to confirm it.
#[test]
fn what_was_added_by_a_transaction_of_which_nobody_knew_is_created_once_it_is_prepared_again() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let added = || vec![(2, Allotment::Own), (3, Allotment::Shared(1))];
        let mut transaction = controller.metadata.begin().await.unwrap();
        let prepared = collections
            .prepare(&mut transaction, added(), &ids([]))
            .unwrap();
        transaction.commit().await.unwrap();
        let allotted = prepared.allotted.clone();
        drop(prepared);
        let batch = || vec![new(2, Kind::Compute), new(3, Kind::Compute)];
        let refused = collections.create(None, batch()).await.unwrap_err();
        assert_eq!(refusals(refused).len(), 2);

        let again = controller.prepare_with(added(), &[]).await;
        assert_eq!((again.allotted.len(), &again.owners), (0, &allotted));
        let _ = collections.create(None, batch()).await.unwrap();
        assert_eq!(controller.shard(2), allotted[0].1);
        assert_eq!(controller.shard(3), controller.shard(1));
    }));
}

#[test]
fn what_was_dropped_by_a_transaction_of_which_nobody_knew_is_finalized_once_it_is_prepared_again() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let shard = controller.shard(1);
        let mut transaction = controller.metadata.begin().await.unwrap();
        let prepared = collections.prepare(&mut transaction, vec![], &ids([1]));
        transaction.commit().await.unwrap();
        drop(prepared.unwrap());
        collections.drop_collections(vec![1]).await.unwrap();
        let again = controller.prepare(&[], &[1]).await;
        assert_eq!(again.disowned, []);
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn what_has_become_known_while_a_start_was_prepared_stays_known() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &controller.collections;
        let mut transaction = controller.metadata.begin().await.unwrap();
        let starts = collections.initialize(&mut transaction, &ids([1, 2]), &ids([]));
        let starts = starts.unwrap();
        transaction.commit().await.unwrap();
        let plan = controller.prepare(&[3], &[2]).await;
        let _ = starts.committed();
        let _ = collections
            .create(None, vec![new(1, Kind::Compute), new(3, Kind::Compute)])
            .await
            .unwrap();
        assert_eq!(controller.shard(3), plan.allotted[0].1);
        // Nor is 2 taken for an owner again.
        controller.until(|stats| stats.succeeded == 1).await;
    });
}

#[test]
fn who_is_known_to_have_stopped_prepares_nothing() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let older = Controller::start(&store, &ids([1]), &ids([])).await;
        let batch = vec![new(1, Kind::Compute)];
        let _ = older.collections.create(None, batch).await.unwrap();
        let newer = Controller::start(&store, &ids([1]), &ids([])).await;
        let by = newer.collections.fence().unwrap().epoch;
        comes_true("it hears who is in charge", async || {
            older.collections.client().stopped().is_some()
        })
        .await;
        newer.collections.stop().await.unwrap();
        for (controller, why) in [
            (&older, StopReason::Fenced { by }),
            (&newer, StopReason::Stopped),
        ] {
            let collections = &controller.collections;
            let mut transaction = controller.metadata.begin().await.unwrap();
            let is_told = |error: PrepareError<u64>| matches!(error, PrepareError::Stopped(reason) if reason == why);
            let prepared = collections.prepare(&mut transaction, vec![], &ids([1]));
            assert!(is_told(prepared.unwrap_err()));
            let prepared = collections.initialize(&mut transaction, &ids([1]), &ids([]));
            assert!(is_told(prepared.unwrap_err()));
            assert_eq!(collections.finalizer_stats().pending_commit, 0);
        }
    });
}
