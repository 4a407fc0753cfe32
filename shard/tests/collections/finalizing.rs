//! What becomes of the shards of what was dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use lowwater::{ShardId, Since, Upper};
use lowwater_shard::collections::{
    Allotment, CollectionRefusal, Finalization, FinalizerStats, HeldBy, Kind, Unfinalized,
};
use lowwater_shard::collections::{CONTROLLER, take_over};
use lowwater_shard::record::{Blocked, SinceRecord};
use lowwater_shard::{Epoch, FinalizeError, Log, ReaderId, SeqNo, Transactor};

use super::world::*;

#[test]
fn a_collection_lives_from_boot_to_drop_and_its_shard_ends_as_a_tombstone() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let shard = controller.shard(1);
        controller.write(shard, 100).await;
        let handle = collections.client().collection(1).unwrap();
        handle.wait_for_since_past([80]).await.unwrap();
        let held = collections.acquire(&[1, 2]).await.unwrap();
        assert_eq!(held[0].hold.since(), &Since::at(90));
        assert_eq!(held[0].frontiers.upper, Upper::at(100));
        drop(held);

        let plan = controller.prepare(&[], &[1]).await;
        assert_eq!(plan.given_up, BTreeSet::from([shard]));
        collections.drop_collections(vec![1]).await.unwrap();
        assert!(!collections.exists(1));
        assert_eq!(collections.active(), [2]);
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());

        // Handed back with the next transaction, and with none after that.
        assert_eq!(controller.waiting().await, BTreeSet::from([shard]));
        let plan = controller.prepare(&[3], &[]).await;
        assert_eq!(plan.finalized, BTreeSet::from([shard]));
        assert_eq!(controller.waiting().await, BTreeSet::new());
        assert_eq!(
            controller.prepare(&[4], &[]).await.finalized,
            BTreeSet::new()
        );
        collections.stop().await.unwrap();
    }));
}

/// A finalizer was fed from a transaction that then did not commit.
#[test]
fn only_what_is_committed_is_finalized_and_created() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let mut transaction = controller.metadata.begin().await.unwrap();
        let added = vec![(2, Allotment::Own)];
        let prepared = collections
            .prepare(&mut transaction, added, &ids([1]))
            .unwrap();
        assert_eq!(collections.finalizer_stats().pending_commit, 1);
        drop(transaction);
        drop(prepared);
        let stats = collections.finalizer_stats();
        assert_eq!((stats.pending_commit, stats.outstanding), (0, 0));
        let refused = collections.create(None, vec![new(2, Kind::Compute)]).await;
        let refused = refusals(refused.unwrap_err());
        assert!(matches!(refused[..], [(2, CollectionRefusal::NoShard)]));
        assert!(!controller.sinces(controller.shard(1)).await.is_buried());
    }));
}

#[test]
fn a_shard_is_not_finalized_while_a_hold_or_a_dependent_needs_it_and_who_does_is_named() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let _ = controller.prepare(&[2], &[]).await;
        let mut view = new(2, Kind::Compute);
        view.description.dependencies.insert(1);
        let collections = &controller.collections;
        let _ = collections.create(None, vec![view]).await.unwrap();
        let shard = controller.shard(1);
        let held = collections.acquire(&[1]).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let is_held_by = |wanted: u64| {
            move |stats: &FinalizerStats| {
                let by = HeldBy {
                    collections: String::from("1"),
                    dependents: String::from("2"),
                    holds: wanted,
                };
                matches!(stats.blocked.get(&shard), Some(Unfinalized::Held(held)) if *held == by)
            }
        };
        controller.until(is_held_by(1)).await;
        drop(held);
        controller.until(is_held_by(0)).await;
        let since = controller.sinces(shard).await.since().clone();
        assert!(!since.is_gone(), "the view still needs it");
        collections.drop_collections(vec![2]).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn readers_of_others_block_and_are_named_and_when_they_leave_it_goes_on() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let shard = controller.shard(1);
        let (other, epoch) = (ReaderId::new(9), Epoch::new(1));
        let stranger = Transactor::new(Arc::clone(&store), None);
        let mut log = Log::<SinceRecord<u64>>::new(shard);
        let open = |record: &SinceRecord<u64>| {
            Ok::<_, std::convert::Infallible>(record.open_critical(other, epoch))
        };
        let _ = stranger.carry_out(&mut log, open).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        let collections = &controller.collections;
        collections.drop_collections(vec![1]).await.unwrap();
        let blocked = |stats: &FinalizerStats| {
            let reason = stats.blocked.get(&shard);
            matches!(reason, Some(Unfinalized::Readers(readers)) if *readers == [other])
        };
        controller.until(blocked).await;
        let leave = |record: &SinceRecord<u64>| {
            record.compare_and_downgrade(other, epoch, epoch, &Since::gone())
        };
        let _ = stranger.carry_out(&mut log, leave).await.unwrap();
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(controller.sinces(shard).await.is_buried());
    }));
}

#[test]
fn switched_off_drops_still_move_sinces_and_switched_on_it_catches_up() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        let collections = &controller.collections;
        collections.change_finalization(Finalization {
            enabled: false,
            ..quick().finalization
        });
        controller.create(&[1, 2, 3]).await;
        let shards: Vec<ShardId> = (1..=3).map(|id| controller.shard(id)).collect();
        let _ = controller.prepare(&[], &[1, 2, 3]).await;
        collections.drop_collections(vec![1, 2, 3]).await.unwrap();
        for shard in &shards {
            let began = Instant::now();
            while !controller.sinces(*shard).await.since().is_gone() {
                assert!(began.elapsed() < WITHIN, "{shard} keeps its since");
            }
            assert!(!controller.sinces(*shard).await.is_buried());
        }
        assert_eq!(collections.finalizer_stats().started, 0);
        collections.change_finalization(quick().finalization);
        controller.until(|stats| stats.succeeded == 3).await;
    }));
}

#[test]
fn what_a_crash_left_to_finalize_is_finalized_by_the_next_start() {
    run(on_each(|store| async move {
        let first = Controller::start(&store, &ids([]), &ids([])).await;
        first.create(&[1, 2, 3]).await;
        let shards: Vec<ShardId> = (1..=3).map(|id| first.shard(id)).collect();
        // One is listed and was not dropped in the engine, as a crash in between leaves it; one is
        // dropped in the catalogue only.
        first.collections.change_finalization(Finalization {
            enabled: false,
            ..Finalization::default()
        });
        let _ = first.prepare(&[], &[1]).await;
        drop(first);
        let second = Controller::start(&store, &ids([3]), &ids([2])).await;
        second.until(|stats| stats.succeeded == 2).await;
        assert!(second.sinces(shards[0]).await.is_buried());
        assert!(second.sinces(shards[1]).await.is_buried());
        assert!(!second.sinces(shards[2]).await.since().is_gone());
        let _ = second
            .collections
            .create(None, vec![new(3, Kind::Compute)])
            .await
            .unwrap();
        assert_eq!(second.shard(3), shards[2]);
    }));
}

/// Two transactions of a catalogue that does not see that they contradict each other.
#[test]
fn whatever_is_given_up_a_shard_that_is_owned_is_not_finalized() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1]).await;
        let collections = &controller.collections;
        let shard = controller.shard(1);
        let mut shares = controller.metadata.begin().await.unwrap();
        let mut drops = controller.metadata.begin().await.unwrap();
        let share = vec![(2, Allotment::Shared(1))];
        let shared = collections.prepare(&mut shares, share, &ids([])).unwrap();
        let dropped = collections.prepare(&mut drops, vec![], &ids([1])).unwrap();
        assert_eq!(dropped.given_up, BTreeSet::from([shard]));
        shares.commit().await.unwrap();
        let _ = (shared.committed(), dropped.committed());
        collections.drop_collections(vec![1]).await.unwrap();
        let stats = controller.until(|stats| stats.failed == 1).await;
        assert!(matches!(&stats.blocked[&shard], Unfinalized::Owned(names) if names == "2"));
        // Nor is it released by the engine, in which nobody has it any more: it is kept for 2.
        collections.client().sync().await.unwrap();
        assert!(collections.client().collection(1).is_none());
        assert_eq!(collections.awaited(), [(shard, vec![2])].into());
        assert_eq!(collections.client().metrics().downgrades.behind, 0);
        assert!(!controller.sinces(shard).await.since().is_gone());
        let next = Controller::start(&store, &ids([2]), &ids([1])).await;
        let created = next.collections.create(None, vec![new(2, Kind::Compute)]);
        assert_eq!(created.await.unwrap().len(), 1);
        assert_eq!(next.shard(2), shard);
    }));
}

#[test]
fn a_collection_that_is_dropped_before_its_catalogue_has_committed_keeps_its_shard_until_then() {
    run(on_each(|store| async move {
        let controller = Controller::start(&store, &ids([]), &ids([])).await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let (shard, other) = (controller.shard(1), controller.shard(2));
        // What is dropped with it, in the same write, is released.
        let _ = controller.prepare(&[], &[2]).await;
        collections.change_finalization(Finalization {
            enabled: false,
            ..quick().finalization
        });
        collections.drop_collections(vec![1, 2]).await.unwrap();
        assert_eq!(collections.awaited(), [(shard, vec![1])].into());
        let began = Instant::now();
        while !controller.sinces(other).await.since().is_gone() {
            assert!(began.elapsed() < WITHIN);
        }
        assert!(!controller.sinces(shard).await.since().is_gone());
        let _ = controller.prepare(&[], &[1]).await;
        assert_eq!(collections.awaited(), [].into());
        let began = Instant::now();
        while !controller.sinces(shard).await.since().is_gone() {
            assert!(began.elapsed() < WITHIN);
        }
    }));
}

#[test]
fn whoever_finalizes_and_was_overtaken_expires_nobody() {
    run(on_each(|store| async move {
        let (id, dead) = (ShardId::new(77), ReaderId::new(7));
        let writer = Transactor::new(Arc::clone(&store), None);
        let mut log = Log::<SinceRecord<u64>>::new(id);
        let register = |record: &SinceRecord<u64>| record.register_leased(dead, 1, SeqNo::FIRST);
        writer.carry_out(&mut log, register).await.unwrap();
        let shards = shards(&store);
        let older = take_over(&*store, None).await.unwrap().fence;
        // It has seen the reader.
        let blocked = shards.finalize(id, CONTROLLER, Some(older)).await;
        assert!(
            matches!(blocked, Err(FinalizeError::Blocked(Blocked::Readers(_)))),
            "{blocked:?}"
        );
        let newer = take_over(&*store, None).await.unwrap().fence;
        // The reader's lease is over.
        let seen = Instant::now();
        while seen.elapsed() < std::time::Duration::from_millis(5) {
            tokio::task::yield_now().await;
        }
        let fenced = shards.finalize(id, CONTROLLER, Some(older)).await;
        assert!(
            matches!(&fenced, Err(FinalizeError::Fenced(fenced)) if fenced.by == Some(newer)),
            "{fenced:?}"
        );
        writer.refresh(&mut [&mut log]).await.unwrap();
        assert!(log.record().leased().contains_key(&dead));
        shards.finalize(id, CONTROLLER, Some(newer)).await.unwrap();
        writer.refresh(&mut [&mut log]).await.unwrap();
        assert!(log.record().is_buried());
    }));
}
