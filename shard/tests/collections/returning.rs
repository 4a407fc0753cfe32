//! Owners of shards that come back after a restart: none, some, or all of them.

use std::sync::Arc;
use std::time::Duration;

use lowwater::{Event, ReadPolicy, ShardId, Since};
use lowwater_shard::collections::{Allotment, Kind, NewCollection};
use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::metadata::StoredMetadata;
use tokio::time::timeout;

use super::standby::{LEASE, follow};
use super::world::*;

/// 1 keeps much history, 2 little.
fn owner(id: u64) -> NewCollection<u64, u64> {
    let lag = if id == 1 { 1_000 } else { 10 };
    NewCollection {
        policy: ReadPolicy::lag_writes_by(lag, 1).unwrap(),
        ..new(id, Kind::Compute)
    }
}

/// A shard that 1 and 2 own, its since at 1000 and its upper at 2000; nobody is there any more.
async fn stopped(store: &World) -> ShardId {
    let controller = Controller::start(store, &ids([]), &ids([])).await;
    let _ = controller.prepare(&[1], &[]).await;
    let share = vec![(2, Allotment::Shared(1))];
    let _ = controller.prepare_with(share, &[]).await;
    let both = vec![owner(1), owner(2)];
    let _ = controller.collections.create(None, both).await.unwrap();
    let shard = controller.shard(1);
    controller.write(shard, 2_000).await;
    controller.durable_at(shard, 1_000).await;
    controller.collections.stop().await.unwrap();
    shard
}

impl Controller {
    async fn durable_at(&self, shard: ShardId, since: u64) {
        comes_true("the since is durable", async || {
            *self.sinces(shard).await.since() == Since::at(since)
        })
        .await;
    }

    /// Nothing is asked of storage, and nothing waits.
    async fn has_no_wishes(&self) {
        comes_true("no wish is left", async || {
            let downgrades = self.collections.client().metrics().downgrades;
            (downgrades.behind, downgrades.failed) == (0, 0)
        })
        .await;
    }
}

/// After a restart the table of pins was empty, and collection ran before the owners came back.
#[test]
fn whoever_of_the_owners_comes_back_first_the_shard_waits_for_the_others() {
    run(on_each(|store| async move {
        let shard = stopped(&store).await;
        // None of them.
        let none = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        assert_eq!(none.collections.awaited(), [].into());
        none.write(shard, 2_500).await;
        none.collections.stop().await.unwrap();
        assert_eq!(*none.sinces(shard).await.since(), Since::at(1_000));

        // Some: and a stop fails for nobody who is awaited.
        let some = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &some.collections;
        let mut events = collections.client().events();
        let _ = collections.create(None, vec![owner(2)]).await.unwrap();
        assert_eq!(collections.awaited(), [(shard, vec![1])].into());
        some.write(shard, 3_000).await;
        let second = collections.client().collection(2).unwrap();
        second.wait_for_since_past([2_989]).await.unwrap();
        some.has_no_wishes().await;
        assert_eq!(second.durable_since(), Since::at(1_000));
        assert_eq!(*some.sinces(shard).await.since(), Since::at(1_000));
        collections.stop().await.unwrap();
        let heard = timeout(Duration::from_millis(0), events.next()).await;
        assert!(!matches!(heard, Ok(Ok(_))), "{heard:?}");
        assert_eq!(*some.sinces(shard).await.since(), Since::at(1_000));

        // All, one after the other: what was promised to the first is there, then the shard moves.
        let all = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &all.collections;
        let _ = collections.create(None, vec![owner(2)]).await.unwrap();
        let created = collections.create(None, vec![owner(1)]).await.unwrap();
        let since = created[0].since();
        assert!([Since::at(1_000), Since::at(2_000)].contains(&since));
        assert_eq!(collections.awaited(), [].into());
        all.durable_at(shard, 2_000).await;
        all.write(shard, 4_000).await;
        all.durable_at(shard, 3_000).await;
        collections.stop().await.unwrap();

        // All at once.
        let all = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let both = vec![owner(2), owner(1)];
        let _ = all.collections.create(None, both).await.unwrap();
        assert_eq!(all.collections.awaited(), [].into());
        all.write(shard, 5_000).await;
        all.durable_at(shard, 4_000).await;
    }));
}

#[test]
fn the_first_owner_finds_what_it_was_promised_although_the_second_was_faster() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let shard = stopped(&store).await;
        let controller = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &controller.collections;
        let _ = collections.create(None, vec![owner(2)]).await.unwrap();
        let second = collections.client().collection(2).unwrap();
        second.wait_for_since_past([1_989]).await.unwrap();
        let stays = NewCollection {
            policy: ReadPolicy::NoPolicy {
                initial_since: Since::minimum(),
            },
            ..owner(1)
        };
        let created = collections.create(None, vec![stays]).await.unwrap();
        assert_eq!(created[0].since(), Since::at(1_000));
        controller.write(shard, 3_000).await;
        second.wait_for_since_past([2_989]).await.unwrap();
        assert_eq!(created[0].since(), Since::at(1_000));
        assert_eq!(*controller.sinces(shard).await.since(), Since::at(1_000));
    });
}

#[test]
fn a_shard_waits_no_more_for_an_owner_that_is_dropped_instead() {
    run(on_each(|store| async move {
        let shard = stopped(&store).await;
        let controller = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let collections = &controller.collections;
        let _ = collections.create(None, vec![owner(2)]).await.unwrap();
        controller.has_no_wishes().await;
        assert_eq!(*controller.sinces(shard).await.since(), Since::at(1_000));
        let _ = controller.prepare(&[], &[1]).await;
        assert_eq!(collections.awaited(), [].into());
        controller.durable_at(shard, 1_990).await;
    }));
}

#[test]
fn a_controller_that_is_promoted_waits_for_all_owners_too() {
    run(on_each(|store| async move {
        let shard = stopped(&store).await;
        let follower = follow(&store, LEASE).await;
        let second = follower.collections.create(None, vec![owner(2)]).await;
        let second = second.unwrap().remove(0);
        second.wait_for_since_past([1_989]).await.unwrap();
        let promoted = follower.collections.promote(None).await.unwrap();
        let metadata = StoredMetadata::new(Arc::clone(&store), Some(promoted.fence));
        let promoted = Controller {
            metadata,
            ..follower
        };
        let _ = promoted.initialize(&ids([1, 2]), &ids([])).await;
        let collections = &promoted.collections;
        assert_eq!(collections.awaited(), [(shard, vec![1])].into());
        promoted.write(shard, 2_500).await;
        second.wait_for_since_past([2_489]).await.unwrap();
        promoted.has_no_wishes().await;
        assert_eq!(*promoted.sinces(shard).await.since(), Since::at(1_000));
        let _ = collections.create(None, vec![owner(1)]).await.unwrap();
        promoted.durable_at(shard, 1_500).await;
    }));
}

/// One goes and the next one comes on the same shard: it could not be created in this process.
#[test]
fn a_shard_that_goes_from_one_to_the_next_is_there_for_the_next_whoever_is_first() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[7]).await;
        let collections = &controller.collections;
        let shard = controller.shard(7);
        controller.write(shard, 100).await;
        let share = vec![(8, Allotment::Shared(7))];
        let _ = controller.prepare_with(share, &[7]).await;
        collections.drop_collections(vec![7]).await.unwrap();
        comes_true("7 is gone", async || {
            collections.client().collection(7).is_none()
        })
        .await;
        assert_eq!(collections.awaited(), [(shard, vec![8])].into());
        let batch = vec![new(8, Kind::Compute)];
        let _ = collections.create(None, batch).await.unwrap();
        assert_eq!(controller.shard(8), shard);
        assert_eq!(collections.awaited(), [].into());
        controller.durable_at(shard, 90).await;
        let _ = controller.prepare(&[], &[8]).await;
        collections.drop_collections(vec![8]).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
    }));
}

#[test]
fn what_is_dropped_before_its_catalogue_aborts_is_created_again_where_it_was() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let shard = controller.shard(1);
        controller.write(shard, 100).await;
        controller.durable_at(shard, 90).await;
        let mut transaction = controller.metadata.begin().await.unwrap();
        let prepared = collections.prepare(&mut transaction, vec![], &ids([1]));
        collections.drop_collections(vec![1]).await.unwrap();
        drop((prepared.unwrap(), transaction));
        comes_true("it is gone", async || {
            collections.client().collection(1).is_none()
        })
        .await;
        let created = collections.create(None, vec![new(1, Kind::Compute)]).await;
        assert_eq!(created.unwrap()[0].since(), Since::at(90));
        assert_eq!(controller.shard(1), shard);
        controller.write(shard, 200).await;
        controller.durable_at(shard, 190).await;
    }));
}

/// The embedder may ask the engine itself.
#[test]
fn a_shard_that_is_owned_is_not_released_by_who_drops_behind_our_back() {
    run(async {
        let store: World = Arc::new(MemoryConsensus::new());
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let client = controller.collections.client();
        let shard = controller.shard(1);
        let mut events = client.events();
        client.drop_collections(vec![1]).await.unwrap();
        let heard = events.next().await.unwrap();
        assert!(
            matches!(&heard.event, Event::SinceNotWritten { shard: kept, .. } if *kept == shard)
        );
        assert!(!controller.sinces(shard).await.since().is_gone());
    });
}
