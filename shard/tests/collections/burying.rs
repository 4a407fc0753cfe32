//! Giving back the space of what was dropped, and what is in the way of it.

use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, Since, Upper};
use lowwater_shard::collections::{Finalization, FinalizerStats, Kind, Start, Unfinalized};
use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::record::{DataRecord, NewBatch, SinceRecord};
use lowwater_shard::{Log, Parts, ReaderId, SchemaId, SeqNo, Shards, Transactor};

use super::stuck::Stuck;
use super::world::*;

/// How long one try may take, where some never end by themselves.
const TRY_MAX: Duration = Duration::from_millis(100);

/// How many tries at a time, and how long each may take: tries that never end are waited for by
/// nobody, and those that do leave room for others.
const TRIES: [(usize, Duration); 2] = [(3, Duration::from_secs(3_600)), (2, TRY_MAX)];

fn off() -> Finalization {
    Finalization {
        enabled: false,
        ..quick().finalization
    }
}

/// All is as it was begun, and what has come of it.
fn check(stats: &FinalizerStats) {
    let over = stats.succeeded + stats.failed;
    let running = stats.started - over;
    assert!(running <= stats.outstanding as u64, "{stats:?}");
    assert_eq!(stats.pending_commit, 0, "{stats:?}");
}

/// Leaves something of everything in a shard: batches of parts, parts that were replaced, and one
/// that a writer who died has left behind.
async fn fill(controller: &Controller, shard: ShardId, parts: &Parts) {
    controller.write_rows(shard, 0..4).await;
    controller.write_rows(shard, 4..8).await;
    let shards = controller.collections.shards();
    let reader = shards.reader(shard).await.unwrap();
    shards.compact(shard).await.unwrap();
    reader.leave().await.unwrap();
    controller.write_rows(shard, 8..12).await;
    let (schema, lost) = (columns(&["a"]), rows(0..9));
    let orphan = parts.write(shard, SeqNo::FIRST, SchemaId::new(0), &schema, &lost);
    orphan.await.unwrap();
    assert!(parts.list(shard).await.unwrap().len() >= 3);
}

async fn is_gone(shards: &Shards<u64>, shard: ShardId) -> bool {
    let inspected = shards.inspect(shard).await.unwrap();
    let listed = shards.parts().list(shard).await.unwrap();
    if inspected.is_tombstone {
        // The tombstone is the last thing to be written.
        assert!(listed.is_empty(), "{listed:?}");
        assert!(inspected.upper.is_sealed());
        assert_eq!((inspected.batches, inspected.garbage), (0, 0));
    }
    inspected.is_tombstone
}

#[test]
fn the_space_of_what_was_dropped_is_gone_and_that_of_the_others_is_not() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1, 2]).await;
        let collections = &controller.collections;
        let _held = collections.acquire(&[2]).await.unwrap();
        let (shard, other) = (controller.shard(1), controller.shard(2));
        fill(&controller, shard, &parts).await;
        fill(&controller, other, &parts).await;
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let stats = controller.until(|stats| stats.succeeded == 1).await;
        check(&stats);
        assert_eq!(stats.outstanding, 0);
        assert!(is_gone(collections.shards(), shard).await);
        let read = collections
            .snapshot(2, &timely::progress::Antichain::from_elem(11))
            .await
            .unwrap();
        assert_eq!(values(&read).len(), 12);
    }));
}

/// A finalizer returned success on a mismatch of uppers or epochs, and the shard left the list
/// unfinalized.
#[test]
fn the_finalizer_closes_uppers_and_moves_sinces_that_lower_epochs_left_behind() {
    run(on_each_with_parts(|store, parts| async move {
        let first = Controller::start_empty(&store, &parts).await;
        first.collections.change_finalization(off());
        first.create(&[1]).await;
        let shard = first.shard(1);
        fill(&first, shard, &parts).await;
        let _ = first.prepare(&[], &[1]).await;
        let inspected = first.collections.shards().inspect(shard).await.unwrap();
        assert!(!inspected.upper.is_sealed() && !inspected.since.is_gone());
        let epoch = first.collections.fence().unwrap().epoch;
        assert!(
            inspected
                .critical
                .values()
                .all(|since| since.epoch == epoch)
        );
        // It dies before its engine has dropped anything; the next one opens nothing.
        drop(first);
        let second = Controller::start_empty(&store, &parts).await;
        let stats = second.until(|stats| stats.succeeded == 1).await;
        check(&stats);
        assert!(is_gone(second.collections.shards(), shard).await);
        assert_eq!(second.prepare(&[], &[]).await.finalized, [shard].into());
    }));
}

#[test]
fn a_lease_blocks_and_is_named_and_keeps_what_it_reads_until_it_is_left() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1]).await;
        let (collections, shard) = (&controller.collections, controller.shard(1));
        fill(&controller, shard, &parts).await;
        let elsewhere = shards_on(&store, &parts);
        let reader = elsewhere.reader(shard).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let blocked = |stats: &FinalizerStats| {
            let reason = stats.blocked.get(&shard);
            stats.failed >= 2
                && matches!(reason, Some(Unfinalized::Readers(readers)) if *readers == [reader.id()])
        };
        let stats = controller.until(blocked).await;
        check(&stats);
        assert_eq!((stats.outstanding, stats.succeeded), (1, 0));
        let read = reader
            .snapshot(&timely::progress::Antichain::from_elem(11))
            .await;
        assert_eq!(values(&read.unwrap()).len(), 12);
        reader.leave().await.unwrap();
        let stats = controller.until(|stats| stats.succeeded == 1).await;
        check(&stats);
        assert!(stats.blocked.is_empty());
        assert!(is_gone(collections.shards(), shard).await);
    }));
}

/// Holds outlived their dead owners.
#[test]
fn a_lease_whose_owner_has_died_blocks_no_longer_than_it_lasts() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        controller.create(&[1]).await;
        let (collections, shard) = (&controller.collections, controller.shard(1));
        let dead = ReaderId::new(99);
        let transactor = Transactor::new(Arc::clone(&store), None);
        let mut log = Log::<SinceRecord<u64>>::new(shard);
        let register = |record: &SinceRecord<u64>| record.register_leased(dead, 100, SeqNo::FIRST);
        transactor.carry_out(&mut log, register).await.unwrap();
        let _ = controller.prepare(&[], &[1]).await;
        collections.drop_collections(vec![1]).await.unwrap();
        let blocked = |stats: &FinalizerStats| {
            let reason = stats.blocked.get(&shard);
            matches!(reason, Some(Unfinalized::Readers(readers)) if *readers == [dead])
        };
        controller.until(blocked).await;
        controller.until(|stats| stats.succeeded == 1).await;
        assert!(is_gone(collections.shards(), shard).await);
    }));
}

/// Shards 1 and 2 hang, in `store` or in `parts`; everything else goes on meanwhile. Others get to
/// the records all the same, by `elsewhere`.
async fn stuck_shards_stop_nobody(
    (shards_at_once, try_max): (usize, Duration),
    stuck: Stuck,
    store: World,
    elsewhere: World,
    parts: Parts,
) {
    let start = Start {
        finalization: Finalization {
            shards_at_once,
            try_max,
            ..quick().finalization
        },
        ..quick()
    };
    let controller = Controller::start_on(&shards_on(&store, &parts), start).await;
    let _ = controller.initialize(&ids([]), &ids([])).await;
    controller.create(&[1, 2, 3, 4, 5, 6]).await;
    let collections = &controller.collections;
    let shards: Vec<ShardId> = (1..=6).map(|id| controller.shard(id)).collect();
    for shard in &shards {
        controller.write_rows(*shard, 0..20).await;
    }
    stuck.hold(shards[0]);
    stuck.hold(shards[1]);
    let _ = controller.prepare(&[], &[1, 2, 3, 4, 5]).await;
    let dropped = (1..=5).collect();
    collections.drop_collections(dropped).await.unwrap();
    let stats = controller.until(|stats| stats.succeeded == 3).await;
    check(&stats);
    assert_eq!(stats.outstanding, 2);
    for shard in &shards[2..5] {
        assert!(is_gone(collections.shards(), *shard).await);
    }
    // What is live is told, moved, created and dropped.
    let elsewhere = shards_on(&elsewhere, &parts);
    let other = elsewhere.writer(shards[5], &columns(&["a"])).await.unwrap();
    for round in 1..=3 {
        // Somebody writes to what is stuck, and nobody waits behind that either.
        advance(&elsewhere, shards[0], 20 + round).await;
        let (from, to) = (20 * round, 20 * round + 20);
        let written = other.compare_and_append(Upper::at(from), Upper::at(to), rows(from..to));
        written.await.unwrap();
        let handle = collections.client().collection(6).unwrap();
        handle.wait_for_upper_past([to - 1]).await.unwrap();
        handle.wait_for_since_past([to - 11]).await.unwrap();
        controller.create(&[100 + round]).await;
        let shard = controller.shard(100 + round);
        let _ = controller.prepare(&[], &[100 + round]).await;
        let dropped = collections.drop_collections(vec![100 + round]).await;
        dropped.unwrap();
        controller.until(|stats| stats.succeeded == 3 + round).await;
        assert!(is_gone(collections.shards(), shard).await);
    }
    comes_true("the since is durable", async || {
        *controller.sinces(shards[5]).await.since() == Since::at(70)
    })
    .await;
    let given_up = |stats: &FinalizerStats| {
        let late = |shard| matches!(stats.blocked.get(shard), Some(Unfinalized::TooLong));
        shards[..2].iter().all(late)
    };
    if try_max == TRY_MAX {
        controller.until(given_up).await;
    }
    let stats = collections.finalizer_stats();
    check(&stats);
    assert_eq!((stats.outstanding, stats.succeeded), (2, 6));
    stuck.release();
    let stats = controller.until(|stats| stats.outstanding == 0).await;
    assert_eq!(stats.succeeded, 8);
    assert_eq!(stats.started, stats.succeeded + stats.failed);
    for shard in &shards[..2] {
        assert!(is_gone(collections.shards(), *shard).await);
    }
}

/// Writes nothing up to here, unless the shard is written so far.
async fn advance(shards: &Shards<u64>, shard: ShardId, upper: u64) {
    let mut log = Log::<DataRecord<u64>>::new(shard);
    let writer = Transactor::new(Arc::clone(shards.store()), None);
    let append = |record: &DataRecord<u64>| {
        let batch = NewBatch::empty(record.upper().clone(), Upper::at(upper));
        record
            .compare_and_append(batch.map_err(|_| None)?)
            .map_err(Some)
    };
    let _ = writer.carry_out(&mut log, append).await;
}

#[test]
fn a_shard_whose_parts_cannot_be_deleted_stops_nobody_else() {
    run(async {
        for tries in TRIES {
            let stuck = Stuck::default();
            let (store, parts): (World, _) = (Arc::new(MemoryConsensus::new()), stuck.parts());
            let elsewhere = Arc::clone(&store);
            stuck_shards_stop_nobody(tries, stuck, store, elsewhere, parts).await;
        }
    });
}

#[test]
fn a_shard_whose_record_cannot_be_written_stops_nobody_else() {
    run(async {
        for tries in TRIES {
            let stuck = Stuck::default();
            let store: World = Arc::new(MemoryConsensus::new());
            let records = stuck.records(&store);
            stuck_shards_stop_nobody(tries, stuck, records, store, Parts::memory()).await;
        }
    });
}

#[test]
fn switched_off_at_run_time_every_since_of_a_batch_still_goes_and_switched_on_all_are_buried() {
    run(on_each_with_parts(|store, parts| async move {
        let controller = Controller::start_empty(&store, &parts).await;
        let all: Vec<u64> = (1..=20).collect();
        let _ = controller.prepare(&all, &[]).await;
        // One depends on the other, from first to last.
        let batch = all.iter().map(|id| {
            let mut view = new(*id, Kind::Compute);
            view.description
                .dependencies
                .extend((*id > 1).then_some(id - 1));
            view
        });
        let collections = &controller.collections;
        collections.create(None, batch.collect()).await.unwrap();
        let of_all: Vec<ShardId> = all.iter().map(|id| controller.shard(*id)).collect();
        for shard in &of_all[..3] {
            fill(&controller, *shard, &parts).await;
        }
        collections.change_finalization(off());
        let _ = controller.prepare(&[], &all).await;
        collections.drop_collections(all).await.unwrap();
        for shard in &of_all {
            comes_true("a since goes", async || {
                controller.sinces(*shard).await.since().is_gone()
            })
            .await;
        }
        let stats = collections.finalizer_stats();
        assert_eq!((stats.started, stats.outstanding), (0, 20));
        assert!(!parts.list(of_all[0]).await.unwrap().is_empty());
        collections.change_finalization(quick().finalization);
        let stats = controller.until(|stats| stats.succeeded == 20).await;
        check(&stats);
        for shard in &of_all {
            assert!(is_gone(collections.shards(), *shard).await);
        }
    }));
}
