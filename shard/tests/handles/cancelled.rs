//! Whatever is asked for may be dropped at any point: nothing is lost by it, and nobody stuck.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use lowwater::Since;
use lowwater_shard::consensus::unreliable::Fault;
use lowwater_shard::{Epoch, ReaderId};
use proptest::prelude::*;

use crate::world::*;

const ME: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);

/// Goes on until it has waited so often, and then drops it.
async fn partly<X>(waits: usize, future: impl Future<Output = X>) -> Option<X> {
    let mut future = pin!(future);
    let mut waited = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if waited == waits => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

async fn play(waits: Vec<usize>, is_inline: bool, is_unreliable: bool) {
    let world = World::new().await;
    let settings = if is_inline { by_hand() } else { no_inline() };
    let (mine, theirs) = (
        world.process_with::<u64>(settings.clone()),
        world.process_with::<u64>(settings),
    );
    let writer = writer(&mine).await;
    let mut critical = mine.critical(shard(), ME, EPOCH).await.unwrap();
    write(&writer, 0, 1).await;
    let subscribing = theirs.reader(shard()).await.unwrap();
    let mut subscription = subscribing.subscribe(as_of(0));
    let mut told = 0;
    let mut at = 1;
    for waits in waits {
        if is_unreliable {
            world
                .store
                .next_commits([Fault::LostAfter, Fault::None, Fault::LostBefore]);
        }
        // Each is dropped on its way, and asked for again.
        let rows = || updates(&[(at as i64, at, 1)]);
        let append = partly(
            waits,
            writer.compare_and_append(upper(at), upper(at + 1), rows()),
        );
        drop(append.await);
        writer
            .append(upper(at), upper(at + 1), rows())
            .await
            .unwrap();
        at += 1;
        drop(partly(waits, mine.snapshot(shard(), &as_of(at - 1))).await);
        drop(partly(waits, theirs.compact(shard())).await);
        drop(partly(waits, mine.sweep(shard())).await);
        let since = Since::at(at / 2);
        drop(partly(waits, critical.compare_and_downgrade(EPOCH, EPOCH, &since)).await);
        if let Some(Ok(reader)) = partly(waits, theirs.reader(shard())).await {
            drop(partly(waits, reader.downgrade(&Since::at(at - 1))).await);
            drop(partly(waits, reader.leave()).await);
        }
        if let Some(step) = partly(waits, subscription.next()).await {
            told += step.unwrap().unwrap().updates.len();
        }
        skip(std::time::Duration::from_secs(700)).await;
        world.store.forget_faults();
    }
    critical
        .compare_and_downgrade(EPOCH, EPOCH, &Since::at(at / 2))
        .await
        .unwrap();
    while told < at as usize {
        told += subscription.next().await.unwrap().unwrap().updates.len();
    }
    assert_eq!(told, at as usize);
    for shards in [&mine, &theirs] {
        let read = shards.snapshot(shard(), &as_of(at - 1)).await.unwrap();
        let all: Vec<_> = (0..at).map(|row| (row as i64, at - 1, 1)).collect();
        assert_eq!(list(&read), all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_dropped_on_its_way_loses_nothing(
        waits in prop::collection::vec(0..12_usize, 1..20),
        is_inline: bool,
        is_unreliable: bool,
    ) {
        run(play(waits, is_inline, is_unreliable));
    }
}

#[test]
fn a_reader_that_is_dropped_as_it_registers_keeps_nothing_readable() {
    run(async {
        let mut landed = 0;
        for (waits, fault) in (0..8).flat_map(|waits| {
            [
                Fault::None,
                Fault::LostBefore,
                Fault::LostAfter,
                Fault::Late,
            ]
            .map(|fault| (waits, fault))
        }) {
            let world = World::new().await;
            let mine = world.process::<u64>();
            world.store.next_commits([fault]);
            drop(partly(waits, mine.reader(shard())).await);
            let leased = world
                .process::<u64>()
                .inspect(shard())
                .await
                .unwrap()
                .leased;
            landed += usize::from(!leased.is_empty());
            world.store.forget_faults();
            skip(std::time::Duration::from_secs(5)).await;
            pass(std::time::Duration::from_secs(5)).await;
            let leased = world
                .process::<u64>()
                .inspect(shard())
                .await
                .unwrap()
                .leased;
            assert!(leased.is_empty(), "{fault:?} after {waits}: {leased:?}");
        }
        assert!(landed > 0);
    });
}
