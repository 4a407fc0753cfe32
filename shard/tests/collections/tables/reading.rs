//! Reading tables by their ids.

use std::time::Duration;

use lowwater::{StopReason, StorageErrorKind};
use lowwater_shard::collections::{Kind, ReadCollectionError, SubscribeError, take_over};
use lowwater_shard::tables::TablesError;
use timely::progress::Antichain;

use super::super::standby::{LEASE, follow};
use super::super::world::*;
use super::*;

fn at(time: u64) -> Antichain<u64> {
    Antichain::from_elem(time)
}

#[test]
fn a_read_at_a_time_that_is_not_yet_written_waits_and_one_that_is_too_early_is_refused() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        let held = collections.acquire(&[1]).await.unwrap();
        let waits = tokio::spawn(collections.snapshot(1, &at(40)));
        let stats = tokio::spawn(collections.snapshot_stats(1, &at(40)));
        commit(&controller, 10, [(1, 7)]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waits.is_finished() && !stats.is_finished());
        // Nothing is written to it any more: that time passes is enough.
        commit(&controller, 60, [(2, 8)]).await;
        let read = within(waits).await.unwrap().unwrap();
        assert_eq!(values(&read), [7]);
        assert_eq!(within(stats).await.unwrap().unwrap().updates, 1);
        let parts = within(collections.parts_stats(1, &at(60))).await.unwrap();
        assert!(parts.is_empty(), "what is small is in no part");
        drop(held);
        let table = collections.client().collection(1).unwrap();
        within(table.wait_for_since_past([50])).await.unwrap();
        let began = std::time::Instant::now();
        loop {
            match within(collections.snapshot(1, &at(45))).await {
                Err(ReadCollectionError::TooEarly { collection: 1, .. }) => break,
                other => assert!(began.elapsed() < WITHIN, "{other:?}"),
            }
        }
        let nothing = within(collections.snapshot(1, &Antichain::new())).await;
        assert!(matches!(
            nothing,
            Err(ReadCollectionError::EmptyFrontier(1))
        ));
    }));
}

#[test]
fn statistics_of_a_table_count_what_is_not_applied_where_nothing_may_be_written() {
    run(on_each(|store| async move {
        let mut slow = quick();
        slow.apply_interval = Duration::from_secs(3_600);
        let live = Controller::start_with(&store, slow).await;
        let _ = live.initialize(&ids([1, 2]), &ids([])).await;
        let _ = live.collections.create(Some(5), both()).await.unwrap();
        commit(&live, 10, [(1, 7)]).await;
        commit(&live, 11, [(1, 8)]).await;
        commit(&live, 12, [(1, 9)]).await;
        let follower = follow(&store, LEASE).await;
        follower.collections.open_tables(ids([])).await.unwrap();
        let _ = follower.collections.create(Some(5), both()).await.unwrap();
        let stats = within(follower.collections.snapshot_stats(1, &at(12))).await;
        assert_eq!(stats.unwrap().updates, 3);
        assert_eq!(read(&follower, 1, 12).await, [7, 8, 9]);
        let stats = within(live.collections.snapshot_stats(1, &at(11))).await;
        assert!(stats.unwrap().updates >= 2);
    }));
}

#[test]
fn a_subscription_gives_a_snapshot_and_then_each_change_once_of_tables_and_of_others() {
    run(on_each(|store| async move {
        let controller = two_tables(&store).await;
        let collections = &controller.collections;
        let _ = controller.prepare(&[3], &[]).await;
        let other = vec![new(3, Kind::Webhook)];
        let _ = collections.create(None, other).await.unwrap();
        assert_eq!(
            collections.subscribe(9, 0).unwrap_err(),
            SubscribeError::UnknownCollection(9)
        );
        let _held = collections.acquire(&[1, 3]).await.unwrap();
        commit(&controller, 10, [(1, 7)]).await;
        let mut table = collections.subscribe(1, 10).unwrap();
        let mut webhook = collections.subscribe(3, 0).unwrap();
        controller.write_rows(controller.shard(3), 0..4).await;
        let first = within(table.next()).await.unwrap().unwrap();
        assert_eq!(values(&first.updates), [7]);
        commit(&controller, 12, [(1, 8), (2, 9)]).await;
        let mut seen = Vec::new();
        while seen.is_empty() {
            let next = within(table.next()).await.unwrap().unwrap();
            seen = values(&next.updates);
        }
        assert_eq!(seen, [8]);
        let first = within(webhook.next()).await.unwrap().unwrap();
        let second = within(webhook.next()).await.unwrap().unwrap();
        let mut all = values(&first.updates);
        all.extend(values(&second.updates));
        assert_eq!(all, [0, 1, 2, 3]);
        // Nobody waits for ever.
        let waits = tokio::spawn(async move { table.next().await });
        collections.stop().await.unwrap();
        assert!(within(waits).await.unwrap().is_err());
        assert_eq!(
            collections.subscribe(1, 12).unwrap_err(),
            SubscribeError::Stopped(StopReason::Stopped)
        );
    }));
}

#[test]
fn a_subscription_that_waits_hears_who_has_taken_over_though_neither_of_them_writes() {
    run(on_each(|store| async move {
        let mut slow = quick();
        slow.apply_interval = Duration::from_secs(3_600);
        let controller = Controller::start_with(&store, slow).await;
        let _ = controller.initialize(&ids([1, 2]), &ids([])).await;
        let created = controller.collections.create(Some(5), both());
        let _ = created.await.unwrap();
        let mut table = controller.collections.subscribe(1, 5).unwrap();
        let first = within(table.next()).await.unwrap().unwrap();
        assert!(first.updates.is_empty());
        let waits = tokio::spawn(async move { table.next().await });
        let by = take_over(&*store, None).await.unwrap().fence.epoch;
        let Err(TablesError::Storage(error)) = within(waits).await.unwrap() else {
            panic!("it ends with an error of storage");
        };
        assert_eq!(error.kind(), StorageErrorKind::Fenced { by });
    }));
}
