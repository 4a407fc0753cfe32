//! Snapshots and histories where frontiers have several times and cannot all be compared, against all
//! that was written.

use lowwater::{Since, Upper};
use lowwater_shard::{Epoch, ReaderId, SnapshotError};
use proptest::prelude::*;
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::snapshots::{History, oracle};
use crate::world::*;

const ME: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);

type Times = Vec<(u64, u64)>;

#[derive(Clone, Debug)]
enum Deed {
    /// The upper goes on to there, and these rows are written as far as they fit in between.
    Write(Times, Vec<(i64, (u64, u64), i64)>),
    Downgrade(Times),
    Compact,
    Read(Times),
}

/// One or two times, comparable or not.
fn times() -> impl Strategy<Value = Times> {
    prop::collection::vec((0..8_u64, 0..8_u64), 1..3)
}

fn deed() -> impl Strategy<Value = Deed> {
    let row = (0..3_i64, (0..9_u64, 0..9_u64), -2..3_i64);
    let rows = prop::collection::vec(row, 0..12);
    prop_oneof![
        4 => (times(), rows).prop_map(|(to, rows)| Deed::Write(to, rows)),
        2 => times().prop_map(Deed::Downgrade),
        2 => Just(Deed::Compact),
        4 => times().prop_map(Deed::Read),
    ]
}

fn frontier(times: &[(u64, u64)]) -> Antichain<Pair> {
    let times = times.iter().map(|&(outer, inner)| Pair::new(outer, inner));
    times.collect()
}

fn join(left: &Antichain<Pair>, right: &Antichain<Pair>) -> Antichain<Pair> {
    let joined = Since::new(left.clone()).join(&Since::new(right.clone()));
    joined.into_frontier()
}

async fn play(deeds: Vec<Deed>, is_inline: bool) {
    let world = World::new().await;
    let settings = if is_inline { by_hand() } else { no_inline() };
    let (mine, theirs) = (
        world.process_with::<Pair>(settings.clone()),
        world.process_with::<Pair>(settings),
    );
    let writer = writer(&mine).await;
    let mut critical = mine.critical(shard(), ME, EPOCH).await.unwrap();
    let mut history = History::new();
    let (mut upper, mut since) = (Upper::minimum(), Since::minimum());
    for deed in deeds {
        match deed {
            Deed::Write(to, rows) => {
                let to = Upper::new(join(upper.frontier(), &frontier(&to)));
                let rows = rows
                    .into_iter()
                    .map(|(row, (outer, inner), diff)| (row, Pair::new(outer, inner), diff));
                let rows: History<Pair> = rows
                    .filter(|(_, time, _)| {
                        upper.frontier().less_equal(time) && to.is_complete_at(time)
                    })
                    .collect();
                writer
                    .compare_and_append(upper, to.clone(), updates(&rows))
                    .await
                    .unwrap();
                upper = to;
                history.extend(rows);
            }
            Deed::Downgrade(to) => {
                since = since.join(&Since::new(frontier(&to)));
                critical
                    .compare_and_downgrade(EPOCH, EPOCH, &since)
                    .await
                    .unwrap();
            }
            Deed::Compact => drop(theirs.compact(shard()).await.unwrap()),
            Deed::Read(at) => {
                let at = frontier(&at);
                let is_readable = PartialOrder::less_equal(since.frontier(), &at);
                match theirs.try_snapshot(shard(), &at).await {
                    Ok(read) => {
                        assert!(is_readable && upper.is_past(&at));
                        assert_eq!(list(&read), oracle(&history, &at), "as of {at:?}");
                        let stats = theirs.snapshot_stats(shard(), &at).await.unwrap();
                        assert!(stats.updates >= read.len() as u64);
                    }
                    Err(SnapshotError::NotYet { .. }) => {
                        assert!(is_readable && !upper.is_past(&at), "{at:?}");
                    }
                    Err(SnapshotError::TooEarly { since: from, .. }) => {
                        assert!(!is_readable, "{at:?}");
                        assert_eq!(from, since);
                        // Who would wait is refused as well.
                        let refused = theirs.snapshot_stats(shard(), &at).await;
                        assert!(matches!(refused, Err(SnapshotError::TooEarly { .. })));
                    }
                    Err(error) => panic!("{error}"),
                }
                match mine.history(shard(), &Since::new(at.clone())).await {
                    Ok(read) => {
                        assert!(is_readable, "{at:?}");
                        let sum: i64 = read.diffs().iter().sum();
                        let all: i64 = history.iter().map(|(_, _, diff)| diff).sum();
                        assert_eq!(sum, all);
                    }
                    Err(SnapshotError::TooEarly { .. }) => assert!(!is_readable, "{at:?}"),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_snapshot_as_of_several_times_is_what_was_written(
        deeds in prop::collection::vec(deed(), 1..25),
        is_inline: bool,
    ) {
        run(play(deeds, is_inline));
    }
}

#[test]
fn who_waits_past_several_times_waits_for_all_of_them() {
    run(async {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<Pair>(), world.process::<Pair>());
        let (waiter, writer) = (writer(&mine).await, writer(&theirs).await);
        let past = frontier(&[(1, 3), (3, 1)]);
        let mut waiting = std::pin::pin!(waiter.wait_for_upper_past(&past));
        let steps = [
            // Past one of them only, and then beyond what was waited for, but not past it: neither
            // "not less" nor "greater" is enough.
            frontier(&[(0, 4), (2, 0)]),
            frontier(&[(1, 4), (2, 2), (3, 1)]),
            frontier(&[(1, 4), (4, 0)]),
        ];
        let mut lower = Upper::minimum();
        for (at, step) in steps.into_iter().enumerate() {
            let done = tokio::time::timeout(std::time::Duration::from_secs(1), &mut waiting).await;
            assert!(done.is_err(), "before step {at}");
            let to = Upper::new(join(lower.frontier(), &step));
            writer
                .compare_and_append(lower, to.clone(), updates(&[]))
                .await
                .unwrap();
            lower = to;
        }
        assert_eq!(waiting.await.unwrap(), lower);
    });
}
