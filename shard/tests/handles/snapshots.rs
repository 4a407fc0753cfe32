//! Snapshots against an oracle that is too simple to be wrong, while others compact and sweep.

use lowwater::Since;
use lowwater_shard::{Epoch, ReaderId, ShardTime, SnapshotError};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use timely::progress::Antichain;

use crate::place::Place;
use crate::stuck::Stuck;
use crate::world::*;

const ME: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);

pub(crate) type History<T> = Vec<(i64, T, i64)>;

/// All that was ever written, filtered, advanced and added up.
pub(crate) fn oracle<T: ShardTime>(history: &History<T>, as_of: &Antichain<T>) -> History<T> {
    let mut sums = std::collections::BTreeMap::new();
    for (row, time, diff) in history {
        if as_of.iter().any(|bound| time.less_equal(bound)) {
            let mut time = time.clone();
            time.advance_by(as_of.borrow());
            *sums.entry((*row, time)).or_insert(0) += diff;
        }
    }
    let sums = sums.into_iter().filter(|(_, diff)| *diff != 0);
    sums.map(|((row, time), diff)| (row, time, diff)).collect()
}

#[derive(Clone, Debug)]
enum Deed {
    /// Rows with differences, at times so far behind the new upper.
    Write(Vec<(i64, u64, i64)>, u64),
    Downgrade(u64),
    Compact,
    CompactElsewhere,
    Sweep,
    SweepElsewhere,
    Pass,
}

fn deed() -> impl Strategy<Value = Deed> {
    let row = (0..4_i64, 0..5_u64, -2..3_i64);
    prop_oneof![
        4 => (prop::collection::vec(row, 0..6), 1..6_u64).prop_map(|(rows, by)| Deed::Write(rows, by)),
        2 => (0..6_u64).prop_map(Deed::Downgrade),
        1 => Just(Deed::Compact),
        1 => Just(Deed::CompactElsewhere),
        1 => Just(Deed::Sweep),
        1 => Just(Deed::SweepElsewhere),
        1 => Just(Deed::Pass),
    ]
}

async fn play<T: TestTime>(deeds: Vec<Deed>, is_inline: bool) {
    let world = World::new().await;
    let settings = if is_inline { by_hand() } else { no_inline() };
    let mine = world.process_with::<T>(settings.clone());
    let theirs = world.process_with::<T>(settings);
    let writer = writer(&mine).await;
    let mut critical = mine.critical(shard(), ME, EPOCH).await.unwrap();
    let (mut history, mut written, mut since) = (History::new(), 0, 0);
    for deed in deeds {
        match deed {
            Deed::Write(rows, by) => {
                let at =
                    |behind: u64| T::at((written + by - 1).saturating_sub(behind).max(written));
                let rows: History<T> = rows
                    .iter()
                    .map(|(row, behind, diff)| (*row, at(*behind), *diff))
                    .collect();
                writer
                    .compare_and_append(upper(written), upper(written + by), updates(&rows))
                    .await
                    .unwrap();
                history.extend(rows);
                written += by;
            }
            Deed::Downgrade(by) => {
                since = (since + by).min(written.saturating_sub(1));
                critical
                    .compare_and_downgrade(EPOCH, EPOCH, &Since::at(T::at(since)))
                    .await
                    .unwrap();
            }
            Deed::Compact => drop(mine.compact(shard()).await.unwrap()),
            Deed::CompactElsewhere => drop(theirs.compact(shard()).await.unwrap()),
            Deed::Sweep => drop(mine.sweep(shard()).await.unwrap()),
            Deed::SweepElsewhere => drop(theirs.sweep(shard()).await.unwrap()),
            Deed::Pass => skip(std::time::Duration::from_secs(700)).await,
        }
        for at in since..written {
            for process in [&mine, &theirs] {
                let read = process.try_snapshot(shard(), &as_of(at)).await.unwrap();
                assert_eq!(list(&read), oracle(&history, &as_of(at)), "as of {at}");
            }
        }
        if since > 0 {
            let refused = theirs.snapshot(shard(), &as_of(since - 1)).await;
            assert!(
                matches!(refused, Err(SnapshotError::TooEarly { .. })),
                "{refused:?}"
            );
        }
        let refused = theirs.try_snapshot(shard(), &as_of(written)).await;
        assert!(
            matches!(refused, Err(SnapshotError::NotYet { .. })),
            "{refused:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_snapshot_is_what_was_written(deeds in prop::collection::vec(deed(), 1..25), is_inline: bool) {
        run(play::<u64>(deeds, is_inline));
    }

    #[test]
    fn a_snapshot_is_what_was_written_in_a_partial_order(
        deeds in prop::collection::vec(deed(), 1..25),
        is_inline: bool,
    ) {
        run(play::<Pair>(deeds, is_inline));
    }
}

/// A few random histories where all that is done goes to a disk or a server.
fn on_a_store(place: fn() -> Option<Place>) {
    let deeds = (prop::collection::vec(deed(), 1..12), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(3));
    let played = runner.run(&deeds, |(deeds, is_inline)| {
        run_in(place(), || play::<Pair>(deeds, is_inline));
        Ok(())
    });
    played.unwrap();
}

#[test]
fn a_snapshot_is_what_was_written_to_sqlite() {
    on_a_store(Place::sqlite);
}

#[test]
fn a_snapshot_is_what_was_written_to_postgres() {
    on_a_store(Place::postgres);
}

#[test]
fn a_snapshot_is_what_was_written_to_postgres_and_s3() {
    on_a_store(Place::postgres_and_s3);
}

on_all_stores! {
    async fn a_snapshot_waits_until_its_frontier_is_complete<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process::<T>());
        let snapshot = mine.snapshot(shard(), &as_of(3));
        let snapshot = tokio::spawn(snapshot);
        let writer = writer(&theirs).await;
        for at in 0..4 {
            assert!(!snapshot.is_finished());
            write(&writer, at, at + 1).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let read = snapshot.await.unwrap().unwrap();
        assert_eq!(read.len(), 4);
    }

    async fn a_snapshot_as_of_the_empty_frontier_is_refused<T: TestTime>() {
        let shards = World::new().await.process::<T>();
        let refused = shards.snapshot(shard(), &Antichain::new()).await;
        assert!(matches!(refused, Err(SnapshotError::EmptyFrontier)), "{refused:?}");
        let refused = shards.snapshot_stats(shard(), &Antichain::new()).await;
        assert!(matches!(refused, Err(SnapshotError::EmptyFrontier)), "{refused:?}");
    }

    async fn stats_wait_and_refuse_as_a_snapshot_does<T: TestTime>() {
        let world = World::new().await;
        let shards = world.process_with::<T>(no_inline());
        let writer = writer(&shards).await;
        write(&writer, 0, 5).await;
        write(&writer, 5, 8).await;
        let stats = shards.snapshot_stats(shard(), &as_of(4)).await.unwrap();
        assert_eq!((stats.updates, stats.parts), (5, 1));
        let parts = shards.parts_stats(shard(), &as_of(7)).await.unwrap();
        assert_eq!(parts.iter().map(|part| part.updates).sum::<u64>(), 8);
        let mut critical = shards.critical(shard(), ME, EPOCH).await.unwrap();
        critical.compare_and_downgrade(EPOCH, EPOCH, &Since::at(T::at(6))).await.unwrap();
        let refused = shards.parts_stats(shard(), &as_of(5)).await;
        assert!(matches!(refused, Err(SnapshotError::TooEarly { .. })), "{refused:?}");
        let refused = shards.snapshot_stats(shard(), &as_of(5)).await;
        assert!(matches!(refused, Err(SnapshotError::TooEarly { .. })), "{refused:?}");
        // What is not yet written is waited for.
        let later = world.process::<T>();
        let stats = tokio::spawn(later.snapshot_stats(shard(), &as_of(8)));
        let parts = tokio::spawn(later.parts_stats(shard(), &as_of(8)));
        pass(std::time::Duration::from_secs(1)).await;
        assert!(!stats.is_finished() && !parts.is_finished());
        write(&writer, 8, 9).await;
        assert_eq!(stats.await.unwrap().unwrap().updates, 9);
        let parts = parts.await.unwrap().unwrap();
        assert_eq!(parts.iter().map(|part| part.updates).sum::<u64>(), 9);
    }
}

#[test]
fn neither_later_nor_incomparable_times_are_in_a_snapshot() {
    run(async {
        let world = World::new().await;
        let shards = world.process::<Pair>();
        let writer = writer(&shards).await;
        let rows = [
            (1, Pair::new(0, 3), 1),
            (2, Pair::new(3, 0), 1),
            (3, Pair::new(1, 1), 1),
        ];
        writer
            .compare_and_append(upper(0), lowwater::Upper::sealed(), updates(&rows))
            .await
            .unwrap();
        let read = shards
            .snapshot(shard(), &Antichain::from_elem(Pair::new(1, 2)))
            .await
            .unwrap();
        assert_eq!(list(&read), [(3, Pair::new(1, 2), 1)]);
        let both: Antichain<Pair> = [Pair::new(0, 3), Pair::new(1, 1)].into_iter().collect();
        let read = shards.snapshot(shard(), &both).await.unwrap();
        assert_eq!(read.len(), 2);
    });
}

#[test]
fn statistics_of_parts_are_told_without_reading_rows() {
    run(async {
        let stuck = Stuck::default();
        let world = World {
            parts: stuck.parts(),
            ..World::new().await
        };
        let shards = world.process_with::<u64>(no_inline());
        // Rows that hardly become smaller.
        let rows =
            (0..50_000_i64).map(|row| (row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64), 0, 1));
        let rows: Vec<_> = rows.collect();
        let writer = writer(&shards).await;
        let written = writer.compare_and_append(upper(0), upper(1), updates(&rows));
        written.await.unwrap();
        let stats = shards.parts_stats(shard(), &as_of(0)).await.unwrap();
        let (bytes, read) = (stats[0].bytes, stuck.bytes_read());
        assert_eq!((stats.len(), stats[0].updates), (1, 50_000));
        assert!(read > 0 && read < bytes / 10, "{read} of {bytes} bytes");
        assert_eq!(
            shards.snapshot(shard(), &as_of(0)).await.unwrap().len(),
            50_000
        );
        assert_eq!(stuck.bytes_read() - read, bytes);
    });
}
