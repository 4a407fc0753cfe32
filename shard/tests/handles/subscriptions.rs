//! Subscriptions in a partial order, against all that was written.

use std::collections::BTreeMap;
use std::time::Duration;

use lowwater::{Since, Upper};
use lowwater_shard::{Epoch, ReaderId};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use timely::progress::Antichain;

use crate::place::Place;
use crate::world::*;

const ME: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);

#[derive(Clone, Debug)]
struct Tick {
    /// How far the upper goes on, in each coordinate.
    by: (u64, u64),
    rows: Vec<(i64, (u64, u64), i64)>,
    is_compacted: bool,
    is_told: bool,
}

fn tick() -> impl Strategy<Value = Tick> {
    let row = (0..3_i64, (0..12_u64, 0..12_u64), 1..3_i64);
    let rows = prop::collection::vec(row, 0..8);
    let flags = (any::<bool>(), any::<bool>());
    ((0..4_u64, 0..4_u64), rows, flags).prop_map(|(by, rows, (is_compacted, is_told))| Tick {
        by,
        rows,
        is_compacted,
        is_told,
    })
}

fn add(sums: &mut BTreeMap<(i64, Pair), i64>, rows: &[(i64, Pair, i64)]) {
    for (row, time, diff) in rows {
        *sums.entry((*row, *time)).or_insert(0) += diff;
    }
}

async fn play(as_of: Pair, ticks: Vec<Tick>) {
    let world = World::new().await;
    let (mine, theirs) = (
        world.process::<Pair>(),
        world.process_with::<Pair>(no_inline()),
    );
    let writer = writer(&theirs).await;
    let mut critical = theirs.critical(shard(), ME, EPOCH).await.unwrap();
    let reader = mine.reader(shard()).await.unwrap();
    // From here on only the subscription keeps anything.
    let gone = Since::at(Pair::new(1_000, 1_000));
    let bound = Antichain::from_elem(as_of);
    let mut subscription = reader.subscribe(bound.clone());
    let mut sums = BTreeMap::new();
    let mut told = BTreeMap::new();
    let mut lower = Upper::at(Pair::new(as_of.outer + 1, as_of.inner + 1));
    let first = updates(&[(9, as_of, 1)]);
    writer
        .compare_and_append(Upper::minimum(), lower.clone(), first)
        .await
        .unwrap();
    add(&mut sums, &[(9, as_of, 1)]);
    let snapshot = subscription.next().await.unwrap().unwrap();
    add(&mut told, &list(&snapshot.updates));
    critical
        .compare_and_downgrade(EPOCH, EPOCH, &gone)
        .await
        .unwrap();
    for Tick {
        by,
        rows,
        is_compacted,
        is_told,
    } in ticks
    {
        let at = lower.frontier().elements()[0];
        let upper = Upper::at(Pair::new(at.outer + by.0, at.inner + by.1));
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(row, (outer, inner), diff)| {
                (row, Pair::new(at.outer + outer, at.inner + inner), diff)
            })
            .filter(|(_, time, _)| upper.is_complete_at(time))
            .collect();
        writer
            .compare_and_append(lower, upper.clone(), updates(&rows))
            .await
            .unwrap();
        lower = upper;
        let mut advanced = rows;
        for (_, time, _) in &mut advanced {
            use differential_dataflow::lattice::Lattice;
            time.advance_by(bound.borrow());
        }
        add(&mut sums, &advanced);
        if is_told && by != (0, 0) {
            let step = subscription.next().await.unwrap().unwrap();
            add(&mut told, &list(&step.updates));
            pass(Duration::from_secs(2)).await;
        }
        if is_compacted {
            theirs.compact(shard()).await.unwrap();
        }
    }
    writer
        .compare_and_append(lower, Upper::sealed(), updates(&[]))
        .await
        .unwrap();
    while let Some(step) = subscription.next().await.unwrap() {
        add(&mut told, &list(&step.updates));
    }
    assert_eq!(told, sums);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn in_a_partial_order_every_update_is_told_once(
        as_of in (0..3_u64, 0..3_u64),
        ticks in prop::collection::vec(tick(), 1..12),
    ) {
        run(play(Pair::new(as_of.0, as_of.1), ticks));
    }
}

/// A few where all that is done goes to a disk or a server.
fn on_a_store(place: fn() -> Option<Place>) {
    let ticks = prop::collection::vec(tick(), 1..8);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(4));
    let played = runner.run(&ticks, |ticks| {
        run_in(place(), || play(Pair::new(1, 2), ticks));
        Ok(())
    });
    played.unwrap();
}

#[test]
fn on_sqlite_every_update_is_told_once() {
    on_a_store(Place::sqlite);
}

#[test]
fn on_postgres_every_update_is_told_once() {
    on_a_store(Place::postgres);
}

#[test]
fn on_postgres_and_s3_every_update_is_told_once() {
    on_a_store(Place::postgres_and_s3);
}
