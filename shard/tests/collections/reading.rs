//! Reading what is in collections.

use lowwater::{Since, StopReason, Upper};
use lowwater_shard::collections::{Collections, Finalization, ReadCollectionError};
use lowwater_shard::{SnapshotStats, Updates};
use timely::progress::Antichain;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::world::*;

type Read = Result<Updates<u64>, ReadCollectionError<u64, u64>>;

fn at(time: u64) -> Antichain<u64> {
    Antichain::from_elem(time)
}

/// Somebody who waits elsewhere, with nothing of ours.
fn begin(collections: &Collections<u64, u64>, as_of: u64) -> JoinHandle<Read> {
    tokio::spawn(collections.snapshot(1, &at(as_of)))
}

async fn end(reading: JoinHandle<Read>) -> Read {
    timeout(WITHIN, reading).await.expect("it hangs").unwrap()
}

#[test]
fn contents_statistics_and_those_of_parts_are_read_as_of_a_time() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1]).await;
        let (collections, shard) = (&controller.collections, controller.shard(1));
        assert_eq!(
            *collections.metadata(1).unwrap().location,
            parts.to_string()
        );
        let _held = collections.acquire(&[1]).await.unwrap();
        controller.write_rows(shard, 0..4).await;
        controller.write_rows(shard, 4..8).await;
        let read = collections.snapshot(1, &at(5)).await.unwrap();
        assert_eq!(values(&read), [0, 1, 2, 3, 4, 5]);
        assert!(read.times().iter().all(|time| *time == 5));
        let stats = collections.snapshot_stats(1, &at(3)).await.unwrap();
        assert_eq!((stats.updates, stats.parts), (4, 1));
        let stats = collections.snapshot_stats(1, &at(5)).await.unwrap();
        assert_eq!((stats.updates, stats.parts), (8, 2));
        let of_parts = collections.parts_stats(1, &at(5)).await.unwrap();
        assert_eq!(of_parts.len(), 2);
    }));
}

#[test]
fn a_snapshot_waits_with_nothing_borrowed_and_a_drop_does_not_end_it_for_who_holds() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1]).await;
        let (collections, shard) = (&controller.collections, controller.shard(1));
        let held = collections.acquire(&[1]).await.unwrap();
        controller.write_rows(shard, 0..4).await;
        let reading = begin(collections, 6);
        let stats = tokio::spawn(collections.snapshot_stats(1, &at(6)));
        let of_parts = tokio::spawn(collections.parts_stats(1, &at(6)));
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let refused = collections.snapshot(1, &at(6)).await.unwrap_err();
        assert!(matches!(refused, ReadCollectionError::Dropped(1)));
        assert!(!reading.is_finished());
        controller.write_rows(shard, 4..10).await;
        assert_eq!(values(&end(reading).await.unwrap()), [0, 1, 2, 3, 4, 5, 6]);
        let SnapshotStats { parts, .. } = stats.await.unwrap().unwrap();
        assert_eq!(parts, of_parts.await.unwrap().unwrap().len() as u64);
        drop(held);
        controller.until(|stats| stats.succeeded == 1).await;
        let refused = collections.snapshot(1, &at(6)).await.unwrap_err();
        assert!(matches!(refused, ReadCollectionError::UnknownCollection(1)));
    }));
}

#[test]
fn what_cannot_be_read_is_refused_with_what_can() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1]).await;
        let (collections, shard) = (&controller.collections, controller.shard(1));
        controller.write_rows(shard, 0..100).await;
        let handle = collections.client().collection(1).unwrap();
        handle.wait_for_since_past([89]).await.unwrap();
        comes_true("the since is durable", async || {
            *controller.sinces(shard).await.since() == Since::at(90)
        })
        .await;
        let refused = collections.snapshot(7, &at(95)).await.unwrap_err();
        assert!(matches!(refused, ReadCollectionError::UnknownCollection(7)));
        let refused = collections.snapshot(1, &Antichain::new()).await;
        assert!(matches!(
            refused.unwrap_err(),
            ReadCollectionError::EmptyFrontier(1)
        ));
        let is_too_early = |error: ReadCollectionError<u64, u64>| {
            matches!(error, ReadCollectionError::TooEarly { collection: 1, since, upper }
                if since == Since::at(90) && upper == Upper::at(100))
        };
        let refused = collections.snapshot(1, &at(89)).await.unwrap_err();
        assert!(is_too_early(refused));
        let refused = collections.snapshot_stats(1, &at(89)).await.unwrap_err();
        assert!(is_too_early(refused));
        let refused = collections.parts_stats(1, &at(89)).await.unwrap_err();
        assert!(is_too_early(refused));
        assert_eq!(collections.snapshot(1, &at(90)).await.unwrap().len(), 91);
    }));
}

#[test]
fn nobody_waits_for_what_is_gone_or_for_who_has_stopped() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        // So that nobody closes its upper.
        collections.change_finalization(Finalization {
            enabled: false,
            ..Finalization::default()
        });
        let reading = begin(collections, 50);
        collections.drop_collections(vec![1]).await.unwrap();
        let gone = end(reading).await.unwrap_err();
        assert!(
            matches!(&gone, ReadCollectionError::TooEarly { collection: 1, since, .. } if since.is_gone()),
            "{gone}"
        );

        let reading = tokio::spawn(collections.snapshot(2, &at(50)));
        let newer = Controller::start_empty(&store, &parts).await;
        let by = newer.collections.fence().unwrap().epoch;
        let _ = newer.initialize(&ids([2]), &ids([1])).await;
        newer
            .collections
            .create(
                None,
                vec![new(2, lowwater_shard::collections::Kind::Compute)],
            )
            .await
            .unwrap();
        let waiting = tokio::spawn(newer.collections.snapshot(2, &at(50)));
        newer.write(newer.shard(2), 40).await;
        let fenced = end(reading).await.unwrap_err();
        assert!(
            matches!(fenced, ReadCollectionError::Stopped(StopReason::Fenced { by: other }) if other == by),
            "{fenced}"
        );
        newer.collections.stop().await.unwrap();
        let stopped = end(waiting).await.unwrap_err();
        assert!(
            matches!(stopped, ReadCollectionError::Stopped(StopReason::Stopped)),
            "{stopped}"
        );
        let stopped = newer.collections.snapshot(2, &at(0)).await.unwrap_err();
        assert!(matches!(stopped, ReadCollectionError::Stopped(_)));
    }));
}
