//! A shard whose log cannot be read: whoever waits for it is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lowwater::{ShardId, Since, StorageError, StorageErrorKind};
use lowwater_shard::consensus::{Consensus, Offer};
use lowwater_shard::format::{Body, encode};
use lowwater_shard::record::DataRecord;
use lowwater_shard::{
    AppendError, Log, LogError, LogId, LogKind, Nonce, ReadError, SnapshotError, Transactor,
    WaitError,
};

use crate::pausing::Pausing;
use crate::world::*;

/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(60);

/// The next version of the shard's data, whatever it is.
async fn put<T: TestTime>(world: &World, data: impl FnOnce(&Log<DataRecord<T>>) -> Bytes) {
    let mut log = Log::<DataRecord<T>>::new(shard());
    let reads = Transactor::new(Arc::new(world.store.clone()), None);
    let _damaged = reads.refresh(&mut [&mut log]).await.unwrap();
    let heads = world.store.heads(vec![LogId::data(shard())]).await.unwrap();
    let offer = Offer {
        log: LogId::data(shard()),
        seen: heads[0].as_ref().map(|head| head.seqno),
        data: data(&log),
        keep_from: None,
    };
    world
        .store
        .commit(None, vec![offer])
        .await
        .unwrap()
        .unwrap();
}

async fn damage<T: TestTime>(world: &World) {
    put::<T>(world, |_| Bytes::from_static(b"no version")).await;
}

#[track_caller]
fn is_given_up(error: &StorageError) {
    assert_eq!(error.kind(), StorageErrorKind::GiveUp, "{error}");
    let source = std::error::Error::source(error).unwrap();
    assert!(source.is::<LogError>(), "{error}");
}

async fn in_time<X>(waits: impl Future<Output = X>) -> X {
    let done = tokio::time::timeout(BOUND, waits).await;
    done.expect("nobody waits for ever")
}

on_all_stores! {
    async fn whoever_waits_for_a_shard_that_cannot_be_read_is_told<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process::<T>());
        let owner = writer(&theirs).await;
        write(&owner, 0, 3).await;
        let mut subscription = mine.reader(shard()).await.unwrap().subscribe(as_of(1));
        subscription.next().await.unwrap();
        subscription.next().await.unwrap();
        let waiter = writer(&mine).await;
        let past = as_of(5);
        let breaks = async {
            // Until all of them wait.
            tokio::task::yield_now().await;
            damage::<T>(&world).await;
        };
        let (waited, read, stats, told, ()) = in_time(async {
            tokio::join!(
                waiter.wait_for_upper_past(&past),
                mine.snapshot(shard(), &past),
                mine.snapshot_stats(shard(), &past),
                subscription.next(),
                breaks,
            )
        })
        .await;
        let Err(WaitError::Storage(error)) = waited else { panic!("{waited:?}") };
        is_given_up(&error);
        let Err(SnapshotError::Storage(error)) = read else { panic!("{read:?}") };
        is_given_up(&error);
        let Err(SnapshotError::Storage(error)) = stats else { panic!("{stats:?}") };
        is_given_up(&error);
        let Err(ReadError::Storage(error)) = told else { panic!("{told:?}") };
        is_given_up(&error);
        // Those that come later as well.
        let waited = in_time(waiter.wait_for_upper_past(&past)).await;
        assert!(matches!(waited, Err(WaitError::Storage(_))), "{waited:?}");
        let appended = waiter.append(upper(3), upper(4), updates(&[])).await;
        let Err(AppendError::Storage(error)) = appended else { panic!("{appended:?}") };
        is_given_up(&error);
        // What is known to be written, is; and other shards go on.
        assert_eq!(waiter.wait_for_upper_past(&as_of(2)).await.unwrap(), upper(3));
        let other = ShardId::new(8);
        let (at, past) = (mine.writer(other, &schema()).await.unwrap(), as_of(0));
        let others = theirs.writer(other, &schema()).await.unwrap();
        let (seen, ()) = tokio::join!(at.wait_for_upper_past(&past), write(&others, 0, 1));
        assert_eq!(seen.unwrap(), upper(1));
    }

    async fn whoever_waits_for_a_shard_that_was_repaired_waits_again<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process::<T>());
        let waiter = writer(&mine).await;
        write(&waiter, 0, 3).await;
        let mut whole = Log::<DataRecord<T>>::new(shard());
        let reads = Transactor::new(Arc::new(world.store.clone()), None);
        reads.refresh(&mut [&mut whole]).await.unwrap()[0].as_ref().unwrap();
        damage::<T>(&world).await;
        let past = as_of(3);
        in_time(waiter.wait_for_upper_past(&past)).await.unwrap_err();
        let repaired = whole.seen().unwrap().next().next();
        let full = Body::Full(whole.record().clone());
        let full = encode(whole.id(), repaired, Nonce::random(), &full);
        put::<T>(&world, |_| full).await;
        assert_eq!(waiter.fetch_upper().await.unwrap(), upper(3));
        let owner = writer(&theirs).await;
        let (seen, ()) = in_time(async {
            tokio::join!(waiter.wait_for_upper_past(&past), write(&owner, 3, 4))
        })
        .await;
        assert_eq!(seen.unwrap(), upper(4));
    }
}

/// Right between two looks.
mod meanwhile {
    use super::*;

    for_both_times! {
        async fn a_subscription_that_lags_tells_nothing_twice_where_the_log_is_damaged<T: TestTime>() {
            for steps in [1, 2] {
                let world = World::new().await;
                let (mine, theirs) = (world.process::<T>(), world.process::<T>());
                let owner = writer(&theirs).await;
                write(&owner, 0, 3).await;
                let mut subscription = mine.reader(shard()).await.unwrap().subscribe(as_of(1));
                for _ in 0..steps {
                    subscription.next().await.unwrap();
                }
                write(&owner, 3, 5).await;
                assert_eq!(mine.upper(shard()).await.unwrap(), upper(5));
                damage::<T>(&world).await;
                is_given_up(&mine.upper(shard()).await.unwrap_err());
                let told = in_time(subscription.next()).await;
                let Err(ReadError::Storage(error)) = told else { panic!("{told:?}") };
                is_given_up(&error);
            }
        }

        async fn a_history_is_not_empty_because_the_log_is_found_damaged_meanwhile<T: TestTime>() {
            let world = World::new().await;
            let (mine, pausing) = Pausing::process::<T>(&world, by_hand());
            let owner = writer(&mine).await;
            write(&owner, 0, 3).await;
            // Whoever follows the store has read that.
            pass(Duration::from_secs(1)).await;
            // It has read the data, and waits to look at the since, which another one is reading.
            let mut data = pausing.pause_scan(LogKind::Data, 0);
            let asks = mine.clone();
            let history = tokio::spawn(async move {
                let since = Since::minimum();
                asks.history(shard(), &since).await
            });
            data.reached().await;
            let mut sinces = pausing.pause_scan(LogKind::Since, 0);
            let other = tokio::spawn(mine.snapshot(shard(), &as_of(0)));
            sinces.reached().await;
            damage::<T>(&world).await;
            data.go_on();
            is_given_up(&mine.upper(shard()).await.unwrap_err());
            sinces.go_on();
            let history = in_time(history).await.unwrap();
            let Err(SnapshotError::Storage(error)) = history else { panic!("{history:?}") };
            is_given_up(&error);
            let read = in_time(other).await.unwrap();
            assert!(read.is_err(), "{read:?}");
        }
    }
}
