//! Compaction, sweeping, finalization, subscriptions.

use std::time::Duration;

use lowwater::{Since, Upper};
use lowwater_shard::consensus::unreliable::Fault;
use lowwater_shard::record::Blocked;
use lowwater_shard::{
    DowngradeError, Epoch, FinalizeError, ReaderId, SchemaId, SeqNo, Settings, Shards,
    SnapshotError, Upkeep,
};
use timely::PartialOrder;

use crate::stuck::Stuck;
use crate::world::*;

pub(crate) const ME: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);
const GRACE: Duration = Duration::from_secs(10 * 60);

pub(crate) async fn move_critical<T: TestTime>(shards: &Shards<T>, to: Since<T>) {
    let mut critical = shards.critical(shard(), ME, EPOCH).await.unwrap();
    critical
        .compare_and_downgrade(EPOCH, EPOCH, &to)
        .await
        .unwrap();
}

/// One row that changes at each time.
pub(crate) async fn change<T: TestTime>(shards: &Shards<T>, from: u64, to: u64) {
    let writer = writer(shards).await;
    for at in from..to {
        let rows = [(at as i64, T::at(at), 1), (at as i64 - 1, T::at(at), -1)];
        writer
            .compare_and_append(upper(at), upper(at + 1), updates(&rows))
            .await
            .unwrap();
    }
}

pub(crate) async fn stored(world: &World) -> usize {
    world.parts.list(shard()).await.unwrap().len()
}

mod background {
    use super::*;

    for_both_times! {
        async fn in_the_background_batches_and_bytes_stay_few<T: TestTime>() {
            let world = World::new().await;
            let shards = world.process::<T>();
            move_critical(&shards, Since::minimum()).await;
            let keeper = world.process_with::<T>(Settings::default());
            let _used = writer(&keeper).await;
            for tick in 0..50 {
                change(&shards, tick * 10, tick * 10 + 10).await;
                move_critical(&shards, Since::at(T::at(tick * 10 + 8))).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let inspection = shards.inspect(shard()).await.unwrap();
            assert!(inspection.batches < 25, "{}", inspection.batches);
            assert!(inspection.updates < 200, "{}", inspection.updates);
        }
    }
}

on_all_stores! {
    async fn space_shrinks_as_the_since_advances<T: TestTime>() {
        let world = World::new().await;
        let shards = world.process_with::<T>(no_inline());
        move_critical(&shards, Since::minimum()).await;
        change(&shards, 0, 30).await;
        assert_eq!(stored(&world).await, 30);
        assert_eq!(shards.compact(shard()).await.unwrap(), 1);
        assert_eq!(stored(&world).await, 1);
        let before = shards.inspect(shard()).await.unwrap();
        move_critical(&shards, Since::at(T::at(29))).await;
        shards.compact(shard()).await.unwrap();
        let after = shards.inspect(shard()).await.unwrap();
        assert_eq!(before.updates, 60);
        assert_eq!(after.updates, 2, "the row that is there, and the one before the first");
        assert!(after.bytes_held() < before.bytes_held());
        assert_eq!(stored(&world).await, 1);
    }

    async fn parts_that_a_reader_may_read_are_not_deleted<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process_with::<T>(no_inline()), world.process::<T>());
        change(&mine, 0, 5).await;
        let reader = theirs.reader(shard()).await.unwrap();
        mine.compact(shard()).await.unwrap();
        assert_eq!(stored(&world).await, 6);
        reader.leave().await.unwrap();
        mine.compact(shard()).await.unwrap();
        assert_eq!(stored(&world).await, 1);
    }

    async fn what_was_replaced_is_deleted_though_nothing_more_can_be_merged<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process_with::<T>(no_inline()), world.process::<T>());
        change(&mine, 0, 5).await;
        let reader = theirs.reader(shard()).await.unwrap();
        mine.compact(shard()).await.unwrap();
        let before = world.parts.list(shard()).await.unwrap();
        change(&mine, 5, 7).await;
        let mut written = world.parts.list(shard()).await.unwrap();
        written.retain(|part| !before.contains(part));
        assert_eq!((before.len(), written.len()), (6, 2));
        world.parts.delete(shard(), &[written[0].name]).await.unwrap();
        reader.leave().await.unwrap();
        mine.compact(shard()).await.unwrap_err();
        assert_eq!(stored(&world).await, 2);
    }

    async fn a_part_that_nobody_refers_to_is_swept_and_no_other<T: TestTime>() {
        let world = World::new().await;
        let shards = world.process_with::<T>(no_inline());
        change(&shards, 0, 3).await;
        // A writer that dies before its record is written.
        let rows = updates(&[(1, T::at(3), 1)]);
        let begun = SeqNo::new(3);
        world.parts.write(shard(), begun, SchemaId::new(0), &schema(), &rows).await.unwrap();
        assert_eq!(shards.sweep(shard()).await.unwrap(), 0);
        assert_eq!(stored(&world).await, 4);
        let mut swept = 0;
        for _ in 0..3 {
            skip(GRACE).await;
            swept += shards.sweep(shard()).await.unwrap();
        }
        assert_eq!((swept, stored(&world).await), (1, 3));
        let read = shards.snapshot(shard(), &as_of(2)).await.unwrap();
        assert_eq!(read.len(), 2);
    }

    async fn a_part_that_has_expired_is_written_again<T: TestTime>() {
        let world = World::new().await;
        let cut_off = World::on(std::sync::Arc::new(world.store.clone()));
        let cut_off = World { parts: world.parts.clone(), ..cut_off };
        let (slow, sweeper) = (cut_off.process_with::<T>(no_inline()), world.process::<T>());
        let writer = writer(&slow).await;
        write(&writer, 0, 1).await;
        cut_off.store.next_reads_fail(1_000);
        // The slow one knows nothing of what happens meanwhile: its part is begun below the floor.
        let mut log = lowwater_shard::Log::<lowwater_shard::record::DataRecord<T>>::new(shard());
        let other = lowwater_shard::Transactor::new(std::sync::Arc::new(world.store.clone()), None);
        other.refresh(&mut [&mut log]).await.unwrap();
        for _ in 0..2 {
            let seen = log.seen().unwrap();
            let raise = |record: &lowwater_shard::record::DataRecord<T>| {
                Ok::<_, std::convert::Infallible>(record.raise_floor(seen))
            };
            other.carry_out(&mut log, raise).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        cut_off.store.forget_faults();
        write(&writer, 1, 2).await;
        let read = sweeper.snapshot(shard(), &as_of(1)).await.unwrap();
        assert_eq!(read.len(), 2);
        other.refresh(&mut [&mut log]).await.unwrap();
        let (floor, batches) = (log.record().floor(), log.record().batches());
        let late = batches[1].contents[0].stored().unwrap();
        let early = batches[0].contents[0].stored().unwrap();
        assert!(early.begun < floor && floor <= late.begun, "{early:?}, {late:?}, {floor}");
    }

    async fn a_merge_that_is_cut_off_loses_nothing<T: TestTime>() {
        for fault in [Fault::Refused, Fault::LostBefore, Fault::LostAfter] {
            let world = World::new().await;
            let shards = world.process_with::<T>(no_inline());
            move_critical(&shards, Since::minimum()).await;
            change(&shards, 0, 10).await;
            move_critical(&shards, Since::at(T::at(5))).await;
            // Refused or lost again and again, first at the merge, then at the note of what is deleted.
            for commits in [0, 1] {
                world.store.next_commits(vec![Fault::None; commits]);
                world.store.next_commits(vec![fault; 20]);
                let _failed = shards.compact(shard()).await;
                world.store.forget_faults();
                for at in 5..10 {
                    let read = world.process::<T>().snapshot(shard(), &as_of(at)).await.unwrap();
                    let sum: i64 = read.diffs().iter().sum();
                    assert_eq!((sum, read.len()), (0, 2), "{fault:?} as of {at}");
                }
            }
            shards.compact(shard()).await.unwrap();
            for _ in 0..4 {
                skip(GRACE).await;
                shards.sweep(shard()).await.unwrap();
            }
            assert_eq!(stored(&world).await, 1, "{fault:?}");
        }
    }

    async fn a_shard_is_finalized_only_when_nobody_else_reads_it<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process_with::<T>(no_inline()), world.process::<T>());
        move_critical(&mine, Since::minimum()).await;
        change(&mine, 0, 5).await;
        let reader = theirs.reader(shard()).await.unwrap();
        let id = reader.id();
        let refused = mine.finalize(shard(), ME, None).await;
        assert!(
            matches!(&refused, Err(FinalizeError::Fenced(_) | FinalizeError::Blocked(_))),
            "{refused:?}"
        );
        let fence = fence(&world).await;
        let refused = mine.finalize(shard(), ME, Some(fence)).await;
        let Err(FinalizeError::Blocked(Blocked::Readers(readers))) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(readers, [id]);
        reader.leave().await.unwrap();
        mine.finalize(shard(), ME, Some(fence)).await.unwrap();
        mine.finalize(shard(), ME, Some(fence)).await.unwrap();
        assert_eq!(stored(&world).await, 0);
        let inspection = theirs.inspect(shard()).await.unwrap();
        assert!(inspection.is_tombstone && inspection.since.is_gone());
        assert!(inspection.upper.is_sealed());
        // Everything on a tombstone is harmless.
        let refused = theirs.snapshot(shard(), &as_of(3)).await;
        assert!(matches!(refused, Err(SnapshotError::TooEarly { .. })), "{refused:?}");
        assert!(theirs.reader(shard()).await.unwrap().since().is_gone());
        assert!(theirs.critical(shard(), ME, EPOCH).await.unwrap().since().is_gone());
        let writer = writer(&theirs).await;
        let refused = writer.compare_and_append(upper(5), upper(6), updates(&[])).await;
        assert!(refused.is_err());
        let done = writer.append(upper(3), Upper::sealed(), updates(&[])).await.unwrap();
        assert!(done.is_sealed());
        assert_eq!(mine.sweep(shard()).await.unwrap(), 0);
        assert_eq!(mine.compact(shard()).await.unwrap(), 0);
    }

    async fn finalization_that_is_cut_off_anywhere_is_finished_by_the_next<T: TestTime>() {
        let mut cuts = Vec::new();
        for commits in 0..8 {
            let world = World::new().await;
            let mine = world.process_with::<T>(no_inline());
            move_critical(&mine, Since::minimum()).await;
            change(&mine, 0, 5).await;
            let fence = fence(&world).await;
            world.store.next_commits(vec![Fault::None; commits]);
            world.store.next_commits([Fault::Refused]);
            cuts.push(mine.finalize(shard(), ME, Some(fence)).await.is_err());
            world.store.forget_faults();
            world.process::<T>().finalize(shard(), ME, Some(fence)).await.unwrap();
            assert_eq!(stored(&world).await, 0);
            assert!(mine.inspect(shard()).await.unwrap().is_tombstone);
        }
        // It was cut off before each of its steps, and at last before none.
        assert_eq!((cuts[0], cuts[7]), (true, false), "{cuts:?}");
        assert!(cuts.is_sorted_by(|before, after| before >= after), "{cuts:?}");
    }

    async fn a_subscription_tells_every_update_once<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process_with::<T>(no_inline()));
        change(&theirs, 0, 5).await;
        let reader = mine.reader(shard()).await.unwrap();
        let mut subscription = reader.subscribe(as_of(2));
        let first = subscription.next().await.unwrap().unwrap();
        assert_eq!(list(&first.updates), [(-1, T::at(2), -1), (2, T::at(2), 1)]);
        let mut told = Vec::new();
        let mut known = 5;
        loop {
            let step = subscription.next().await.unwrap();
            let Some(step) = step else { break };
            told.extend(list(&step.updates));
            if known < 40 {
                change(&theirs, known, known + 5).await;
                known += 5;
                if known % 2 == 0 {
                    // What was told is let go, and merged with what is new.
                    pass(Duration::from_secs(2)).await;
                    theirs.compact(shard()).await.unwrap();
                }
            } else if !step.upper.is_sealed() {
                let writer = writer(&theirs).await;
                let end = writer.compare_and_append(upper(known), Upper::sealed(), updates(&[])).await;
                assert!(end.unwrap().is_sealed());
            }
        }
        told.sort();
        let mut all: Vec<_> = (3..40)
            .flat_map(|at| [(at as i64, T::at(at), 1), (at as i64 - 1, T::at(at), -1)])
            .collect();
        all.sort();
        assert_eq!(told, all);
        let since = theirs.inspect(shard()).await.unwrap().since;
        assert!(PartialOrder::less_than(&Since::at(T::at(30)), &since), "{since:?}");
    }
}

pub(crate) async fn fence(world: &World) -> lowwater_shard::consensus::Fence {
    use lowwater_shard::consensus::Consensus;
    let fence = lowwater_shard::consensus::Fence {
        epoch: Epoch::new(2),
        incarnation: lowwater_shard::Incarnation::new(1),
    };
    world.store.take_over(fence).await.unwrap().unwrap();
    fence
}

#[test]
fn a_controller_that_was_overtaken_moves_no_critical_since() {
    run(async {
        let world = World::new().await;
        let shards = world.process::<u64>();
        let older = fence(&world).await;
        let mut critical = shards.critical_as(shard(), ME, older).await.unwrap();
        critical
            .compare_and_downgrade(older.epoch, older.epoch, &Since::at(1))
            .await
            .unwrap();
        let newer = lowwater_shard::consensus::Fence {
            epoch: Epoch::new(3),
            incarnation: lowwater_shard::Incarnation::new(2),
        };
        lowwater_shard::consensus::Consensus::take_over(&world.store, newer)
            .await
            .unwrap()
            .unwrap();
        let by_newer = lowwater::StorageErrorKind::Fenced { by: newer.epoch };
        let refused = critical
            .compare_and_downgrade(older.epoch, older.epoch, &Since::at(2))
            .await;
        let Err(DowngradeError::Storage(error)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(error.kind(), by_newer);
        let refused = shards.critical_as(shard(), ME, older).await.unwrap_err();
        assert_eq!(refused.kind(), by_newer);
        assert_eq!(shards.inspect(shard()).await.unwrap().since, Since::at(1));
    });
}

#[test]
fn shards_are_listed() {
    run(async {
        let world = World::new().await;
        let shards = world.process_with::<u64>(Settings {
            upkeep: Upkeep::ByHand,
            ..Settings::default()
        });
        for id in [3, 1, 2] {
            shards
                .critical(lowwater::ShardId::new(id), ME, EPOCH)
                .await
                .unwrap();
        }
        let listed: Vec<u128> = shards
            .list()
            .await
            .unwrap()
            .iter()
            .map(|id| id.number())
            .collect();
        assert_eq!(listed, [1, 2, 3]);
    });
}

#[test]
fn shards_that_are_written_all_the_time_take_turns() {
    run(async {
        let world = World::new().await;
        let shards = world.process_with::<u64>(Settings {
            upkeep: Upkeep::InBackground { tasks_max: 1 },
            ..Settings::default()
        });
        let mut writers = Vec::new();
        for id in 0..10 {
            let id = lowwater::ShardId::new(id);
            writers.push(shards.writer(id, &schema()).await.unwrap());
        }
        for tick in 0..400 {
            for writer in &writers {
                write(writer, tick, tick + 1).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for writer in &writers {
            let batches = shards.inspect(writer.shard()).await.unwrap().batches;
            assert!(batches < 60, "{batches} batches of {}", writer.shard());
        }
    });
}

#[test]
fn where_the_store_of_parts_hangs_for_one_shard_the_others_are_looked_after() {
    run(async {
        let stuck = Stuck::default();
        let world = World {
            parts: stuck.parts(),
            ..World::new().await
        };
        let lease = Duration::from_secs(4);
        let shards = world.process_with::<u64>(Settings {
            lease,
            part_grace: Duration::from_secs(10),
            ..Settings::default()
        });
        // The first that is swept.
        let hung = lowwater::ShardId::new(1);
        let writing = shards.writer(hung, &schema()).await.unwrap();
        write(&writing, 0, 1).await;
        let _used = writer(&shards).await;
        stuck.hold(hung);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(stuck.lists(), 1);
        change(&shards, 0, 30).await;
        crate::leases::dead_reader_for::<u64>(&world, lease).await;
        tokio::time::sleep(3 * lease).await;
        let inspection = shards.inspect(shard()).await.unwrap();
        assert!(inspection.batches < 15, "{}", inspection.batches);
        assert!(inspection.leased.is_empty());
        // One that takes too long is passed over.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(stuck.lists() > 1, "the other is swept too");
    });
}

#[test]
fn a_hold_of_50_days_that_is_released_at_once_is_cleaned_up_after_a_few_shards_at_a_time() {
    const SHARDS: u128 = 20;
    const BATCHES: usize = 5;
    run(async {
        let stuck = Stuck::default();
        let world = World {
            parts: stuck.parts(),
            ..World::new().await
        };
        let tasks_max = 2;
        let shards = world.process_with::<u64>(Settings {
            upkeep: Upkeep::InBackground { tasks_max },
            // Nobody sweeps, who would wait for parts as well.
            part_grace: Duration::MAX,
            ..no_inline()
        });
        let held = (100..100 + SHARDS).map(lowwater::ShardId::new);
        let (mut writers, mut holds) = (Vec::new(), Vec::new());
        for id in held {
            holds.push(shards.critical(id, ME, EPOCH).await.unwrap());
            let writing = shards.writer(id, &schema()).await.unwrap();
            for day in 0..BATCHES as u64 {
                write(&writing, 10 * day, 10 * (day + 1)).await;
            }
            writers.push(writing);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!stuck.is_waited_for());
        for writing in &writers {
            let inspection = shards.inspect(writing.shard()).await.unwrap();
            assert_eq!(inspection.batches, BATCHES, "all of it is held");
            stuck.hold(writing.shard());
        }
        for hold in &mut holds {
            let all = Since::at(50);
            hold.compare_and_downgrade(EPOCH, EPOCH, &all)
                .await
                .unwrap();
        }
        let other = writer(&shards).await;
        for (done, writing) in (0..).zip(&writers) {
            tokio::time::sleep(Duration::from_secs(60)).await;
            // Each of them reads what it merges.
            let at_once = tasks_max.min(writers.len() - done);
            assert_eq!(stuck.waiting(), at_once * BATCHES);
            // Others append and read meanwhile.
            let at = done as u64;
            write(&other, at, at + 1).await;
            let read = shards.snapshot(shard(), &as_of(at)).await.unwrap();
            assert_eq!(read.len(), done + 1);
            stuck.free(writing.shard());
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for writing in &writers {
            let inspection = shards.inspect(writing.shard()).await.unwrap();
            assert_eq!(inspection.batches, 1, "{}", writing.shard());
        }
    });
}

#[test]
fn a_shard_without_parts_that_are_nobodys_is_listed_once_a_sweep() {
    run(async {
        let stuck = Stuck::default();
        let world = World {
            parts: stuck.parts(),
            ..World::new().await
        };
        let shards = world.process_with::<u64>(no_inline());
        change(&shards, 0, 3).await;
        for sweeps in 1..4 {
            assert_eq!(shards.sweep(shard()).await.unwrap(), 0);
            assert_eq!(stuck.lists(), sweeps);
            skip(GRACE).await;
        }
    });
}
