//! Tables of a controller that only reads, and is put in charge.

use std::sync::Arc;

use lowwater::{Since, StopReason, Upper};
use lowwater_shard::collections::{
    AdvanceError, DropTablesError, Held, Kind, OpenTablesError, PromoteError, TableTrouble,
    take_over,
};

use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::consensus::unreliable::{Fault, UnreliableConsensus};

use super::super::standby::{LEASE, follow, without_leases};
use super::super::world::*;
use super::*;

async fn follow_tables(store: &World, migrated: &[u64]) -> Controller {
    let follower = follow(store, LEASE).await;
    let migrated = migrated.iter().copied().collect();
    follower.collections.open_tables(migrated).await.unwrap();
    follower
}

#[test]
fn who_only_reads_follows_all_tables_and_writes_nothing() {
    run(on_each(|store| async move {
        let mut slow = quick();
        slow.apply_interval = std::time::Duration::from_secs(3_600);
        let live = Controller::start_with(&store, slow).await;
        let _ = live.initialize(&ids([1, 2]), &ids([])).await;
        let _ = live.collections.create(Some(5), both()).await.unwrap();
        commit(&live, 10, [(1, 7)]).await;
        commit(&live, 11, [(1, 8), (2, 9)]).await;
        live.collections.stop().await.unwrap();
        let before = without_leases(&store).await;

        let follower = follow_tables(&store, &[]).await;
        let collections = &follower.collections;
        let created = collections.create(Some(7), both()).await.unwrap();
        assert_eq!(created[1].upper(), Upper::at(12));
        assert_eq!(read(&follower, 1, 11).await, [7, 8]);
        assert_eq!(read(&follower, 2, 11).await, [9]);
        let refused = collections.begin().unwrap_err();
        assert!(matches!(refused, TableTrouble::ReadOnly(_)));
        let refused = collections.advance(&50).await.unwrap_err();
        assert!(matches!(
            refused,
            AdvanceError::Trouble(TableTrouble::ReadOnly(_))
        ));
        let refused = collections.drop_tables(&50, vec![1]).await.unwrap_err();
        assert!(matches!(
            refused,
            DropTablesError::Trouble(TableTrouble::ReadOnly(_))
        ));
        assert_eq!(without_leases(&store).await, before);
        // Another one comes into charge, and goes on: all tables advance here as well.
        let next = Controller::start(&store, &ids([1, 2]), &ids([])).await;
        let _ = next.collections.create(Some(20), both()).await.unwrap();
        commit(&next, 30, [(1, 1)]).await;
        for table in &created {
            within(table.wait_for_upper_past([30])).await.unwrap();
        }
        assert_eq!(read(&follower, 1, 30).await, [1, 7, 8]);
    }));
}

#[test]
fn who_follows_before_there_are_transactions_is_told_to_wait() {
    run(on_each(|store| async move {
        let follower = follow(&store, LEASE).await;
        let early = follower.collections.open_tables(ids([])).await;
        assert!(matches!(early, Err(OpenTablesError::NoTxnsShard)));
        let live = two_tables(&store).await;
        let metadata = follower.metadata.begin().await.unwrap();
        follower.collections.observe(&metadata).unwrap();
        follower.collections.open_tables(ids([])).await.unwrap();
        let _ = follower.collections.create(Some(0), both()).await.unwrap();
        commit(&live, 10, [(1, 7)]).await;
        assert_eq!(read(&follower, 1, 10).await, [7]);
    }));
}

#[test]
fn put_in_charge_it_applies_what_was_committed_and_goes_on_to_commit() {
    run(on_each(|store| async move {
        let mut slow = quick();
        slow.apply_interval = std::time::Duration::from_secs(3_600);
        let old = Controller::start_with(&store, slow).await;
        let _ = old.initialize(&ids([1, 2]), &ids([])).await;
        let _ = old.collections.create(Some(5), both()).await.unwrap();
        let follower = follow_tables(&store, &[]).await;
        let collections = &follower.collections;
        let created = collections.create(Some(0), both()).await.unwrap();
        let (held, kept) = (created[0].clone(), collections.acquire(&[1]).await.unwrap());
        commit(&old, 10, [(1, 7)]).await;
        commit(&old, 11, [(1, 8)]).await;
        let mut late = old.collections.begin().unwrap();
        late.write(1, batch([99]), vec![1]).unwrap();

        collections.promote(None).await.unwrap();
        let _ = follower.initialize(&ids([1, 2]), &ids([])).await;
        assert!(late.commit_at(&12).await.is_err(), "the old one is fenced");
        // What was created while it only read is written, without being created again.
        commit(&follower, 20, [(1, 9)]).await;
        within(held.wait_for_upper_past([20])).await.unwrap();
        assert_eq!(read(&follower, 1, 20).await, [7, 8, 9]);
        drop(kept);
        let tables = collections.tables().unwrap();
        let began = std::time::Instant::now();
        while tables.state().await.oldest_unapplied().is_some() {
            assert!(began.elapsed() < WITHIN, "nothing is applied");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let _ = follower.prepare(&[], &[1]).await;
        collections.drop_tables(&30, vec![1]).await.unwrap();
        follower.until(|stats| stats.succeeded == 1).await;
    }));
}

/// Migrated tables are written by others while this one only reads.
#[test]
fn migrated_tables_are_as_far_as_their_own_shards_until_it_is_in_charge() {
    run(on_each(|store| async move {
        let live = two_tables(&store).await;
        // The catalogue of the next version has a table that is no part of the transactions yet.
        let _ = live.prepare(&[3], &[]).await;
        let follower = follow_tables(&store, &[3]).await;
        let collections = &follower.collections;
        let mut batch_of = both();
        batch_of.push(new(3, Kind::Table));
        let created = collections
            .create(Some(50), batch_of.clone())
            .await
            .unwrap();
        let migrated = &created[2];
        assert_eq!(
            (migrated.since(), migrated.upper()),
            (Since::minimum(), Upper::minimum())
        );
        follower.write_rows(follower.shard(3), 0..4).await;
        within(migrated.wait_for_upper_past([3])).await.unwrap();
        assert_eq!(migrated.upper(), Upper::at(4));
        assert_eq!(read(&follower, 3, 3).await, [0, 1, 2, 3]);
        live.collections.advance(&20).await.unwrap();
        within(created[0].wait_for_upper_past([20])).await.unwrap();
        assert_eq!(
            migrated.upper(),
            Upper::at(4),
            "the transactions are not its"
        );

        collections.promote(None).await.unwrap();
        let _ = follower.initialize(&ids([1, 2, 3]), &ids([])).await;
        let mut early = collections.begin().unwrap();
        early.write(3, batch([9]), vec![1]).unwrap();
        assert!(early.commit_at(&30).await.is_err(), "not yet a table");
        let _ = collections.create(Some(60), batch_of).await.unwrap();
        within(migrated.wait_for_upper_past([60])).await.unwrap();
        commit(&follower, 70, [(3, 9), (1, 1)]).await;
        assert_eq!(read(&follower, 3, 70).await, [0, 1, 2, 3, 9]);
    }));
}

/// A controller with two tables and something else, and one that follows it on a store that can be told
/// to fail.
async fn followed() -> (World, UnreliableConsensus, Controller, Vec<Held<u64, u64>>) {
    let memory: World = Arc::new(MemoryConsensus::new());
    let live = two_tables(&memory).await;
    live.create(&[3]).await;
    live.write(live.shard(3), 100).await;
    commit(&live, 10, [(1, 7)]).await;
    let handle = live.collections.client().collection(3).unwrap();
    handle.wait_for_since_past([89]).await.unwrap();
    live.collections.stop().await.unwrap();
    let unreliable = UnreliableConsensus::new(Arc::clone(&memory));
    let store: World = Arc::new(unreliable.clone());
    let follower = follow_tables(&store, &[]).await;
    let _ = follower.collections.create(Some(0), both()).await.unwrap();
    let batch = vec![new(3, Kind::Compute)];
    let _ = follower.collections.create(None, batch).await.unwrap();
    let held = follower.collections.acquire(&[3]).await.unwrap();
    assert_eq!(held[0].hold.since(), &Since::at(90));
    (memory, unreliable, follower, held)
}

/// It is in charge: uppers, sinces, holds, tables and fencing are as they should be.
async fn is_in_charge(memory: &World, follower: &Controller, held: Vec<Held<u64, u64>>) {
    let (collections, shard) = (&follower.collections, follower.shard(3));
    let here = collections.client().collection(3).unwrap();
    follower.write(shard, 200).await;
    within(here.wait_for_upper_past([199])).await.unwrap();
    assert_eq!(*follower.sinces(shard).await.since(), Since::at(90));
    assert_eq!(held[0].hold.check(), Ok(()));
    drop(held);
    comes_true("the critical since has taken over", async || {
        let record = follower.sinces(shard).await;
        let epoch = collections.fence().unwrap().epoch;
        let mut critical = record.critical().values();
        record.leased().is_empty()
            && *record.since() == Since::at(190)
            && critical.all(|critical| critical.epoch == epoch)
    })
    .await;
    commit(follower, 300, [(1, 8), (2, 9)]).await;
    assert_eq!(read(follower, 1, 300).await, [7, 8]);
    assert_eq!(collections.client().stopped(), None);
    let by = take_over(&**memory, None).await.unwrap().fence.epoch;
    comes_true("it hears who has taken over", async || {
        collections.client().stopped() == Some(StopReason::Fenced { by })
    })
    .await;
}

#[test]
fn a_promotion_that_fails_at_any_commit_is_asked_again_and_comes_to_the_same() {
    run(async {
        let mut failed = 0;
        loop {
            let (memory, unreliable, follower, held) = followed().await;
            let good = std::iter::repeat_n(Fault::None, failed);
            unreliable.next_commits(good.chain([Fault::Refused]));
            let promoted = follower.collections.promote(None).await;
            unreliable.forget_faults();
            let Err(error) = promoted else {
                is_in_charge(&memory, &follower, held).await;
                break;
            };
            assert!(matches!(error, PromoteError::Storage(_)), "{error}");
            assert_eq!(follower.collections.fence(), None);
            let begun = memory.fence().await.unwrap();
            // It goes on to read.
            follower.write(follower.shard(3), 150).await;
            let here = follower.collections.client().collection(3).unwrap();
            within(here.wait_for_upper_past([149])).await.unwrap();
            assert_eq!(follower.collections.client().stopped(), None);
            // Where the epoch was given as where it was not.
            let epoch = begun.map(|fence| fence.epoch).filter(|_| failed % 2 == 1);
            let taken = follower.collections.promote(epoch).await.unwrap();
            assert_eq!(Some(taken.fence), begun);
            is_in_charge(&memory, &follower, held).await;
            failed += 1;
        }
        assert!(failed >= 2, "the shards, and the tables");
    });
}

#[test]
fn a_promotion_that_nobody_waits_for_any_more_comes_to_its_end() {
    run(async {
        let (memory, unreliable, follower, held) = followed().await;
        let before = memory.fence().await.unwrap();
        let collections = follower.collections.clone();
        let promoting = tokio::spawn(async move { collections.promote(None).await });
        comes_true("the epoch is taken", async || {
            memory.fence().await.unwrap() != before
        })
        .await;
        unreliable.hold();
        promoting.abort();
        unreliable.release();
        match follower.collections.promote(None).await {
            Ok(_) | Err(PromoteError::InCharge) => {}
            Err(error) => panic!("{error}"),
        }
        is_in_charge(&memory, &follower, held).await;
    });
}
