//! What others do to a shard right between two looks at it.

use lowwater::Since;
use lowwater_shard::record::SinceRecord;
use lowwater_shard::{Log, LogKind, ReadError, ShardTime, Shards, SnapshotError, Transactor};

use crate::pausing::Pausing;
use crate::upkeep::{ME, change, fence, move_critical, stored};
use crate::world::*;

/// Finalizes the shard, and has `mine` read that its data are gone.
async fn finalize<T: TestTime>(world: &World, mine: &Shards<T>) {
    let fence = fence(world).await;
    let theirs = world.process::<T>();
    theirs.finalize(shard(), ME, Some(fence)).await.unwrap();
    assert!(mine.upper(shard()).await.unwrap().is_sealed());
}

/// Expires all leased readers, as a process does whose clock went on.
async fn expire_all<T: TestTime>(world: &World) {
    let mut log = Log::<SinceRecord<T>>::new(shard());
    let other = Transactor::new(std::sync::Arc::new(world.store.clone()), None);
    let expire = |record: &SinceRecord<T>| {
        let leased = record.leased().iter();
        let seen: Vec<_> = leased.map(|(id, leased)| (*id, leased.renewals)).collect();
        Ok::<_, std::convert::Infallible>(record.expire(&seen))
    };
    other.carry_out(&mut log, expire).await.unwrap();
}

fn is_gone<X: std::fmt::Debug, T: ShardTime>(read: Result<X, SnapshotError<T>>) {
    match read {
        Err(SnapshotError::TooEarly { since, .. }) => assert!(since.is_gone()),
        read => panic!("{read:?}"),
    }
}

for_both_times! {
    async fn a_shard_that_is_finalized_while_it_is_read_is_gone_and_not_empty<T: TestTime>() {
        for settings in [by_hand(), no_inline()] {
            for asked in 0..4 {
                let world = World::new().await;
                let (mine, pausing) = Pausing::process::<T>(&world, settings.clone());
                let theirs = world.process_with::<T>(settings.clone());
                move_critical(&theirs, Since::minimum()).await;
                change(&theirs, 0, 5).await;
                let mut paused = pausing.pause_scan(LogKind::Since, 0);
                let reading = mine.clone();
                let read = tokio::spawn(async move {
                    let (as_of, since) = (as_of(3), Since::minimum());
                    match asked {
                        0 => is_gone(reading.snapshot(shard(), &as_of).await),
                        1 => is_gone(reading.snapshot_stats(shard(), &as_of).await),
                        2 => is_gone(reading.parts_stats(shard(), &as_of).await),
                        _ => is_gone(reading.history(shard(), &since).await),
                    }
                });
                paused.reached().await;
                let _used = writer(&mine).await;
                finalize(&world, &mine).await;
                paused.go_on();
                read.await.unwrap();
            }
        }
    }

    async fn what_others_have_merged_as_of_a_later_since_is_merged_as_of_that<T: TestTime>() {
        let world = World::new().await;
        let (mine, pausing) = Pausing::process::<T>(&world, no_inline());
        let theirs = world.process_with::<T>(no_inline());
        move_critical(&theirs, Since::minimum()).await;
        change(&theirs, 0, 5).await;
        let mut paused = pausing.pause_scan(LogKind::Since, 0);
        let merges = mine.clone();
        let merged = tokio::spawn(async move { merges.compact(shard()).await.unwrap() });
        paused.reached().await;
        move_critical(&theirs, Since::at(T::at(4))).await;
        theirs.compact(shard()).await.unwrap();
        change(&theirs, 5, 7).await;
        // It knows of the data, and goes on with a since from before.
        assert_eq!(mine.upper(shard()).await.unwrap(), upper(7));
        paused.go_on();
        assert_eq!(merged.await.unwrap(), 1);
    }

    async fn a_subscription_to_a_shard_that_was_finalized_never_says_that_all_was_told<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process_with::<T>(no_inline()));
        move_critical(&theirs, Since::minimum()).await;
        change(&theirs, 0, 5).await;
        let mut subscription = mine.reader(shard()).await.unwrap().subscribe(as_of(2));
        subscription.next().await.unwrap();
        let step = subscription.next().await.unwrap().unwrap();
        assert_eq!(step.upper, upper(5));
        change(&theirs, 5, 8).await;
        expire_all::<T>(&world).await;
        finalize(&world, &mine).await;
        for _ in 0..2 {
            match subscription.next().await {
                Err(ReadError::LeaseLost(_)) => {}
                Err(ReadError::Snapshot(refused)) => is_gone(Err::<(), _>(refused)),
                told => panic!("{told:?}"),
            }
        }
    }

    async fn an_expired_reader_is_told_so_where_its_clock_stood_still<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process::<T>());
        move_critical(&theirs, Since::minimum()).await;
        change(&theirs, 0, 5).await;
        let [reads, is_refused] = [mine.reader(shard()), mine.reader(shard())];
        let (reads, is_refused) = (reads.await.unwrap(), is_refused.await.unwrap());
        expire_all::<T>(&world).await;
        // What it asks for could be read, but for how long nobody knows.
        let read = reads.snapshot(&as_of(4)).await;
        assert!(matches!(read, Err(ReadError::LeaseLost(_))), "{read:?}");
        let moved = reads.downgrade(&Since::at(T::at(1))).await;
        assert!(matches!(moved, Err(ReadError::LeaseLost(_))), "{moved:?}");
        move_critical(&theirs, Since::at(T::at(3))).await;
        let read = is_refused.snapshot(&as_of(2)).await;
        assert!(matches!(read, Err(ReadError::LeaseLost(_))), "{read:?}");
    }
}

/// How `mine` comes to delete what was replaced.
#[derive(Clone, Copy)]
enum Deed {
    Compact,
    Sweep,
}

async fn a_reader_registers_meanwhile(deed: Deed) {
    let world = World::new().await;
    let (mine, pausing) = Pausing::process::<u64>(&world, no_inline());
    let theirs = world.process_with::<u64>(no_inline());
    change(&theirs, 0, 3).await;
    let looks_before = match deed {
        // Once to know how far to compact.
        Deed::Compact => 1,
        Deed::Sweep => {
            // Somebody keeps from being deleted what is replaced.
            let keeps = world.process::<u64>().reader(shard()).await.unwrap();
            theirs.compact(shard()).await.unwrap();
            keeps.leave().await.unwrap();
            0
        }
    };
    let mut paused = pausing.pause_scan(LogKind::Since, looks_before);
    let deletes = mine.clone();
    let deletes = tokio::spawn(async move {
        match deed {
            Deed::Compact => drop(deletes.compact(shard()).await.unwrap()),
            Deed::Sweep => drop(deletes.sweep(shard()).await.unwrap()),
        }
    });
    paused.reached().await;
    // One part, that three were merged into. Somebody begins to read it, it is replaced, and the one
    // that deletes hears of that, but not of the reader.
    let reader = theirs.reader(shard()).await.unwrap();
    let read_by_it = world.parts.list(shard()).await.unwrap();
    let merged = read_by_it
        .iter()
        .max_by_key(|part| part.name.begun)
        .unwrap();
    change(&theirs, 3, 6).await;
    world
        .process_with::<u64>(no_inline())
        .compact(shard())
        .await
        .unwrap();
    mine.upper(shard()).await.unwrap();
    paused.go_on();
    deletes.await.unwrap();
    let left = world.parts.list(shard()).await.unwrap();
    assert!(left.iter().any(|part| part.name == merged.name), "{left:?}");
    reader.leave().await.unwrap();
    mine.compact(shard()).await.unwrap();
    assert_eq!(stored(&world).await, 1);
}

#[test]
fn what_is_replaced_while_a_reader_registers_stays_when_others_compact() {
    run(a_reader_registers_meanwhile(Deed::Compact));
}

#[test]
fn what_is_replaced_while_a_reader_registers_stays_when_others_sweep() {
    run(a_reader_registers_meanwhile(Deed::Sweep));
}
