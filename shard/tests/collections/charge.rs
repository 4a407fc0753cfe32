//! Being in charge of a store, and being overtaken.

use std::time::{Duration, Instant};

use lowwater::{DropError, StopReason};
use lowwater_shard::collections::{Allotment, Collections, Kind, Start, StartError};
use lowwater_shard::metadata::CommitError;

use super::world::*;

#[test]
fn a_start_says_who_was_in_charge_and_a_lower_epoch_is_refused() {
    run(on_each(|store| async move {
        let first = Controller::start_with(&store, quick()).await.collections;
        assert_eq!(first.taken_over().unwrap().previous, None);
        let second = Controller::start_with(&store, quick()).await.collections;
        assert_eq!(second.taken_over().unwrap().previous, first.fence());
        assert!(second.fence().unwrap().epoch > first.fence().unwrap().epoch);
        let same = Start {
            epoch: Some(second.fence().unwrap().epoch),
            ..quick()
        };
        let refused = Collections::<u64, u64>::start(&shards(&store), same).await;
        assert!(matches!(refused, Err(StartError::TakeOver(_))));
    }));
}

#[test]
fn after_a_takeover_every_call_of_the_older_one_says_who_is_in_charge() {
    run(on_each(|store| async move {
        let older = Controller::start(&store, &ids([]), &ids([])).await;
        older.create(&[1]).await;
        let shard = older.shard(1);
        let mut transaction = older.metadata.begin().await.unwrap();
        let added = vec![(2, Allotment::Own)];
        let _prepared = older
            .collections
            .prepare(&mut transaction, added, &ids([]))
            .unwrap();
        let newer = Controller::start(&store, &ids([1]), &ids([])).await;
        let by = newer.collections.fence().unwrap().epoch;
        let refused = transaction.commit().await.unwrap_err();
        assert!(matches!(
            refused,
            CommitError::Fenced(_) | CommitError::Conflict(_)
        ));
        let _ = newer
            .collections
            .create(None, vec![new(1, Kind::Compute)])
            .await
            .unwrap();
        newer.write(shard, 100).await;
        // The older one notices as soon as it writes.
        let began = Instant::now();
        let reason = loop {
            if let Some(reason) = older.collections.client().stopped() {
                break reason;
            }
            assert!(began.elapsed() < WITHIN);
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert_eq!(reason, StopReason::Fenced { by });
        let refused = older.collections.drop_collections(vec![1]).await;
        assert_eq!(refused, Err(DropError::Stopped(StopReason::Fenced { by })));
        let handle = newer.collections.client().collection(1).unwrap();
        handle.wait_for_since_past([80]).await.unwrap();
    }));
}
