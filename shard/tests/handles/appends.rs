//! Compare-and-append, append, and uppers.

use std::time::Duration;

use lowwater::{ShardId, Upper};
use lowwater_shard::consensus::unreliable::Fault;
use lowwater_shard::{Append, AppendError, Settings, WaitError};
use timely::progress::Antichain;

use crate::stuck::Stuck;
use crate::world::*;

on_all_stores! {
    async fn what_is_appended_is_read_by_another_process<T: TestTime>() {
        let world = World::new().await;
        let writer = writer(&world.process::<T>()).await;
        write(&writer, 0, 3).await;
        write(&writer, 3, 5).await;
        let read = world.process::<T>().snapshot(shard(), &as_of(3)).await.unwrap();
        let at = |row| (row, T::at(3), 1);
        assert_eq!(list(&read), [at(0), at(1), at(2), at(3)]);
    }

    async fn an_append_elsewhere_is_refused_with_the_current_upper<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (writer(&world.process::<T>()).await, writer(&world.process::<T>()).await);
        write(&theirs, 0, 5).await;
        for lower in [0, 4, 6] {
            let refused = mine.compare_and_append(upper(lower), upper(9), updates(&[])).await;
            let Err(AppendError::UpperMismatch(mismatch)) = refused else { panic!("{refused:?}") };
            assert_eq!(mismatch.actual, upper(5));
        }
    }

    async fn a_writer_that_repeats_itself_writes_only_the_rest<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (writer(&world.process::<T>()).await, writer(&world.process::<T>()).await);
        write(&theirs, 0, 3).await;
        let rows: Vec<_> = (0..5).map(|at| (at as i64, T::at(at), 1)).collect();
        for _ in 0..2 {
            let written = mine.append(upper(0), upper(5), updates(&rows)).await.unwrap();
            assert_eq!(written, upper(5));
        }
        let read = mine_and_theirs(&world, 4).await;
        assert_eq!(read, (0..5).map(|at| (at, T::at(4), 1)).collect::<Vec<_>>());
        let gap = mine.append(upper(6), upper(7), updates(&[])).await;
        assert!(matches!(gap, Err(AppendError::UpperMismatch(_))), "{gap:?}");
    }

    async fn updates_outside_of_the_frontiers_are_refused<T: TestTime>() {
        let writer = writer(&World::new().await.process::<T>()).await;
        for outside in [5, 6] {
            let rows = updates(&[(1, T::at(outside), 1)]);
            let refused = writer.compare_and_append(upper(0), upper(5), rows).await;
            assert!(matches!(refused, Err(AppendError::Batch(_))), "{refused:?}");
        }
        assert_eq!(writer.fetch_upper().await.unwrap(), upper(0));
    }

    async fn an_unknown_outcome_is_found_out<T: TestTime>() {
        use Fault::{Late, LostAfter, LostBefore};
        for settings in [by_hand(), no_inline()] {
            let world = World::new().await;
            let writer = writer(&world.process_with::<T>(settings)).await;
            for (at, fault) in [LostBefore, LostAfter, Late].into_iter().enumerate() {
                world.store.next_commits([fault]);
                write(&writer, at as u64, at as u64 + 1).await;
            }
            let read = mine_and_theirs::<T>(&world, 2).await;
            assert_eq!(read, (0..3).map(|at| (at, T::at(2), 1)).collect::<Vec<_>>());
        }
    }

    async fn all_waiters_see_an_upper_that_advances_in_one_step_to_the_end<T: TestTime>() {
        let world = World::new().await;
        let mine = world.process::<T>();
        let waiters = [writer(&mine).await, writer(&mine).await, writer(&world.process::<T>()).await];
        let far = as_of(1_000_000);
        let [first, second, third] = &waiters;
        let seal = async {
            let writer = writer(&world.process::<T>()).await;
            writer.compare_and_append(upper(0), Upper::sealed(), updates(&[])).await.unwrap();
        };
        let (one, two, three, ()) = tokio::join!(
            first.wait_for_upper_past(&far),
            second.wait_for_upper_past(&far),
            third.wait_for_upper_past(&far),
            seal,
        );
        for seen in [one, two, three] {
            assert!(seen.unwrap().is_sealed());
        }
    }

    async fn a_wait_past_the_empty_frontier_is_refused_at_once<T: TestTime>() {
        let writer = writer(&World::new().await.process::<T>()).await;
        let refused = writer.wait_for_upper_past(&Antichain::new()).await;
        assert!(matches!(refused, Err(WaitError::EmptyFrontier)), "{refused:?}");
    }
}

/// What there is as of a time, read by a new process.
async fn mine_and_theirs<T: TestTime>(world: &World, at: u64) -> Vec<(i64, T, i64)> {
    let read = world.process::<T>().snapshot(shard(), &as_of(at)).await;
    list(&read.unwrap())
}

#[test]
fn a_wait_that_is_dropped_loses_nothing() {
    run(async {
        let world = World::new().await;
        let writer = writer(&world.process::<u64>()).await;
        for at in 0..3 {
            let past = as_of(at);
            let waiting = Box::pin(writer.wait_for_upper_past(&past));
            let dropped = tokio::time::timeout(std::time::Duration::from_millis(1), waiting).await;
            assert!(dropped.is_err());
            write(&writer, at, at + 1).await;
            let seen = writer.wait_for_upper_past(&past).await.unwrap();
            assert_eq!(seen, upper(at + 1));
        }
    });
}

#[test]
fn appends_to_ten_shards_are_one_commit_and_no_file() {
    run(async {
        let world = World::new().await;
        let counting = crate::counting::Counting::new(std::sync::Arc::new(world.store.clone()));
        let shards = lowwater_shard::Shards::<u64>::new(
            &tokio::runtime::Handle::current(),
            std::sync::Arc::new(counting.clone()),
            world.parts.clone(),
            by_hand(),
        );
        let ids = (0..10).map(lowwater::ShardId::new);
        let mut writers = Vec::new();
        for id in ids.clone() {
            writers.push(shards.writer(id, &schema()).await.unwrap());
        }
        for tick in 0..100 {
            let commits = counting.commits();
            let appends = writers.iter().map(|writer| Append {
                writer,
                lower: upper(tick),
                upper: upper(tick + 1),
                updates: updates(&[(1, tick, 1)]),
            });
            for outcome in shards.append_all(appends.collect()).await {
                assert_eq!(outcome.unwrap(), upper(tick + 1));
            }
            assert_eq!(counting.commits(), commits + 1);
        }
        for id in ids {
            assert_eq!(world.parts.list(id).await.unwrap(), []);
        }
    });
}

#[test]
fn an_append_to_many_shards_writes_only_so_many_parts_at_once() {
    run(async {
        let stuck = Stuck::default();
        let world = World {
            parts: stuck.parts(),
            ..World::new().await
        };
        let shards = world.process_with::<u64>(Settings {
            writes_max: 3,
            ..no_inline()
        });
        let mut writers = Vec::new();
        for id in (100..110).map(ShardId::new) {
            writers.push(shards.writer(id, &schema()).await.unwrap());
            stuck.hold(id);
        }
        let appending = tokio::spawn(async move {
            let appends = writers.iter().map(|writer| Append {
                writer,
                lower: upper(0),
                upper: upper(1),
                updates: updates(&[(1, 0, 1)]),
            });
            shards.append_all(appends.collect()).await
        });
        for left in (1..=10_usize).rev() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(stuck.waiting(), left.min(3));
            stuck.free(ShardId::new(110 - left as u128));
        }
        for outcome in appending.await.unwrap() {
            assert_eq!(outcome.unwrap(), upper(1));
        }
    });
}

#[test]
fn appends_to_one_shard_wait_for_each_other() {
    run(async {
        let shards = World::new().await.process::<u64>();
        let writer = writer(&shards).await;
        let append = |from| Append {
            writer: &writer,
            lower: upper(from),
            upper: upper(from + 1),
            updates: updates(&[(1, from, 1)]),
        };
        let outcomes = shards
            .append_all(vec![append(0), append(1), append(3), append(2)])
            .await;
        let is_ok: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(is_ok, [true, true, false, true]);
    });
}

#[test]
fn an_append_does_not_write_more_the_more_was_written() {
    run(async {
        let world = World::new().await;
        let counting = crate::counting::Counting::new(std::sync::Arc::new(world.store.clone()));
        let shards = lowwater_shard::Shards::<u64>::new(
            &tokio::runtime::Handle::current(),
            std::sync::Arc::new(counting.clone()),
            world.parts.clone(),
            by_hand(),
        );
        let writer = writer(&shards).await;
        let mut per_thousand = Vec::new();
        for thousand in 0..8 {
            let (bytes, commits) = (counting.bytes(), counting.commits());
            for at in thousand * 1_000..(thousand + 1) * 1_000 {
                write(&writer, at, at + 1).await;
            }
            assert_eq!(counting.commits(), commits + 1_000);
            per_thousand.push(counting.bytes() - bytes);
        }
        // A full version comes when the differences are as large: twice in eight thousand here.
        let total: usize = per_thousand.iter().sum();
        assert!(total < 8_000 * 250, "{per_thousand:?}");
    });
}

#[test]
fn updates_stay_in_the_record_up_to_a_threshold() {
    run(async {
        let world = World::new().await;
        for (settings, rows, parts) in [
            (by_hand(), 1_000, 0),
            (by_hand(), 30_000, 1),
            (no_inline(), 1, 1),
        ] {
            let shards = world.process_with::<u64>(settings);
            let shard = lowwater::ShardId::new(u128::try_from(rows).unwrap());
            let writer = shards.writer(shard, &schema()).await.unwrap();
            let rows: Vec<_> = (0..rows).map(|row| (row * row, 0, 1)).collect();
            let count = rows.len();
            writer
                .compare_and_append(upper(0), upper(1), updates(&rows))
                .await
                .unwrap();
            let inspection = shards.inspect(shard).await.unwrap();
            assert_eq!(inspection.parts, parts, "{count} rows");
            assert!(inspection.inline_bytes <= 64 << 10);
            let read = shards.snapshot(shard, &as_of(0)).await.unwrap();
            assert_eq!(read.len(), count);
        }
    });
}

#[test]
fn who_waits_for_many_shards_asks_for_none_of_them() {
    run(async {
        let world = World::new().await;
        let counting = crate::counting::Counting::new(std::sync::Arc::new(world.store.clone()));
        let shards = lowwater_shard::Shards::<u64>::new(
            &tokio::runtime::Handle::current(),
            std::sync::Arc::new(counting.clone()),
            world.parts.clone(),
            by_hand(),
        );
        let past = as_of(0);
        let mut writers = Vec::new();
        for id in 0..1_000 {
            let id = lowwater::ShardId::new(id);
            writers.push(shards.writer(id, &schema()).await.unwrap());
        }
        let mut waiting = tokio::task::JoinSet::new();
        for writer in writers.clone() {
            let past = past.clone();
            waiting.spawn(async move { writer.wait_for_upper_past(&past).await.unwrap() });
        }
        let before = counting.reads();
        tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
        // What is known is told without a look at the store.
        assert!(writers.iter().all(|writer| writer.upper() == upper(0)));
        assert_eq!(counting.reads(), before);
        let theirs = world.process::<u64>();
        let id = lowwater::ShardId::new(7);
        let writer = theirs.writer(id, &schema()).await.unwrap();
        write(&writer, 0, 1).await;
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), upper(1));
        assert_eq!(counting.reads(), before + 1, "the one that was written");
        assert_eq!(waiting.len(), 999);
    });
}
