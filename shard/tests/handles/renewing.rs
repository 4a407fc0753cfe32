//! What the one task writes that renews the leases of a process: how often, and who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lowwater::{ShardId, Since};
use lowwater_shard::consensus::unreliable::Fault;
use lowwater_shard::consensus::{Consensus, Offer};
use lowwater_shard::{LogId, Reader, Settings, Shards};
use tokio::runtime::Handle;

use crate::counting::Counting;
use crate::world::*;

const LEASE: Duration = Duration::from_secs(15 * 60);
const INTERVAL: Duration = Duration::from_secs(1);
const DAMAGED: ShardId = ShardId::new(8);

fn counted<T: TestTime>(world: &World) -> (Counting, Shards<T>) {
    let counting = Counting::new(Arc::new(world.store.clone()));
    let store = Arc::new(counting.clone());
    let shards = Shards::new(&Handle::current(), store, world.parts.clone(), by_hand());
    (counting, shards)
}

/// Nobody can read the sinces of the shard any more.
async fn damage(world: &World, shard: ShardId) {
    let log = LogId::since(shard);
    let head = world.store.heads(vec![log]).await.unwrap().remove(0);
    let offer = Offer {
        log,
        seen: head.map(|version| version.seqno),
        data: Bytes::from_static(b"nothing that anybody has written"),
        keep_from: None,
    };
    world
        .store
        .commit(None, vec![offer])
        .await
        .unwrap()
        .unwrap();
}

async fn since_of<T: TestTime>(world: &World, reader: &Reader<T>) -> (Since<T>, u64) {
    let shards = world.process::<T>();
    let leased = shards.inspect(reader.shard()).await.unwrap().leased;
    let leased = &leased[&reader.id()];
    (leased.since.clone(), leased.renewals)
}

for_both_times! {
    async fn a_shard_whose_sinces_cannot_be_read_holds_up_nobody<T: TestTime>() {
        let world = World::new().await;
        let (counting, shards) = counted::<T>(&world);
        let leaving = shards.reader(DAMAGED).await.unwrap();
        let _staying = shards.reader(DAMAGED).await.unwrap();
        let reader = shards.reader(shard()).await.unwrap();
        damage(&world, DAMAGED).await;
        drop(leaving);
        tokio::time::sleep(Duration::from_millis(1)).await;
        reader.downgrade_soon(&Since::at(T::at(5)));
        tokio::time::sleep(2 * INTERVAL).await;
        assert_eq!(since_of(&world, &reader).await.0, Since::at(T::at(5)));
        // Neither is it tried all the time, nor are the others renewed all the time because of it.
        let before = (counting.commits(), counting.reads(), since_of(&world, &reader).await.1);
        tokio::time::sleep(10 * LEASE).await;
        let after = (counting.commits(), counting.reads(), since_of(&world, &reader).await.1);
        assert!(after.0 - before.0 <= 90, "{} commits", after.0 - before.0);
        assert!(after.1 - before.1 <= 200, "{} reads", after.1 - before.1);
        let renewals = after.2 - before.2;
        assert!((39..=41).contains(&renewals), "{renewals}");
    }

    async fn only_those_that_could_not_be_renewed_are_renewed_again_soon<T: TestTime>() {
        let world = World::new().await;
        let (_, shards) = counted::<T>(&world);
        let first = shards.reader(shard()).await.unwrap();
        // The first to be renewed, and nobody else, is refused for a while.
        tokio::time::sleep(Duration::from_secs(30)).await;
        let second = shards.reader(DAMAGED).await.unwrap();
        world.store.next_commits(vec![Fault::Refused; 5]);
        first.downgrade(&Since::at(T::at(1))).await.unwrap_err();
        first.downgrade_soon(&Since::at(T::at(2)));
        tokio::time::sleep(10 * INTERVAL).await;
        assert_eq!(since_of(&world, &first).await.0, Since::at(T::at(2)));
        assert_eq!(since_of(&world, &second).await.1, 0, "it has not failed");
    }

    async fn wishes_keep_their_distance_whoever_leaves_meanwhile<T: TestTime>() {
        let world = World::new().await;
        let (_, shards) = counted::<T>(&world);
        let reader = shards.reader(shard()).await.unwrap();
        for at in 1..=100 {
            drop(shards.reader(shard()).await.unwrap());
            reader.downgrade_soon(&Since::at(T::at(at)));
            tokio::time::sleep(INTERVAL / 10).await;
        }
        tokio::time::sleep(INTERVAL).await;
        let (since, writes) = since_of(&world, &reader).await;
        assert_eq!(since, Since::at(T::at(100)));
        assert!((9..=12).contains(&writes), "{writes} in 11 intervals");
    }

    async fn to_let_go_of_everything_is_not_delayed<T: TestTime>() {
        let world = World::new().await;
        let settings = Settings { downgrade_interval: LEASE, ..by_hand() };
        let shards = world.process_with::<T>(settings);
        let (reader, other) = (shards.reader(shard()).await.unwrap(), shards.reader(shard()).await.unwrap());
        other.downgrade_soon(&Since::at(T::at(3)));
        reader.downgrade_soon(&Since::at(T::at(3)));
        reader.downgrade_soon(&Since::gone());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(since_of(&world, &reader).await.0, Since::gone());
        assert_eq!(since_of(&world, &other).await.0, Since::at(T::at(0)), "it can wait");
    }
}
