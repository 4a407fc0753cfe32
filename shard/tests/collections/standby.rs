//! A controller that only reads, beside one that is in charge, and put in charge itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{CloneError, DowngradeError, HoldLost, Refusal, ShardId, Since, StopReason, Upper};
use lowwater_shard::collections::{
    AlterError, CollectionRefusal, Collections, Kind, PrepareError, PromoteError,
    ReadCollectionError, Start,
};
use lowwater_shard::consensus::MemoryConsensus;
use lowwater_shard::consensus::unreliable::{Fault, UnreliableConsensus};
use lowwater_shard::metadata::StoredMetadata;
use lowwater_shard::record::{DataRecord, SinceRecord};
use lowwater_shard::{Log, LogId, Parts, ReaderId, SeqNo, Settings, Shards, Transactor, Upkeep};
use timely::progress::Antichain;
use tokio::runtime::Handle;

use super::world::*;

pub(super) const LEASE: Duration = Duration::from_secs(900);

/// A controller that only reads, and knows who owns which shard.
pub(super) async fn follow(store: &World, lease: Duration) -> Controller {
    follow_on(store, &Parts::memory(), lease).await
}

async fn follow_on(store: &World, parts: &Parts, lease: Duration) -> Controller {
    follow_with(&shards_on(store, parts), lease).await
}

async fn follow_with(shards: &Shards<u64>, lease: Duration) -> Controller {
    let store = shards.store();
    let collections = Collections::follow(shards, quick(), lease);
    let collections = collections.unwrap();
    let metadata = StoredMetadata::new(Arc::clone(store), None);
    collections
        .observe(&metadata.begin().await.unwrap())
        .unwrap();
    Controller {
        store: Arc::clone(store),
        collections,
        metadata,
    }
}

#[test]
fn whoever_only_reads_starts_outside_of_the_runtime_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let store = Arc::new(MemoryConsensus::new());
    let settings = Settings::default();
    let shards = Shards::<u64>::new(runtime.handle(), store, Parts::memory(), settings);
    let follower = Collections::<u64, u64>::follow(&shards, quick(), LEASE).unwrap();
    runtime.block_on(follower.stop()).unwrap();
}

async fn reads(follower: &Controller, id: u64) {
    let batch = vec![new(id, Kind::Compute)];
    let _ = follower.collections.create(None, batch).await.unwrap();
}

/// All that is stored, but for leases.
pub(super) async fn without_leases(store: &World) -> Vec<String> {
    let reader = Transactor::new(Arc::clone(store), None);
    let mut all = vec![format!("{:?}", store.fence().await.unwrap())];
    for id in store.list(None, 1_000).await.unwrap() {
        if id == LogId::since(id.shard) {
            let mut log = Log::<SinceRecord<u64>>::new(id.shard);
            reader.refresh(&mut [&mut log]).await.unwrap();
            let record = log.record();
            all.push(format!(
                "{id} {:?} {:?} {}",
                record.since(),
                record.critical(),
                record.is_buried()
            ));
        } else if id == LogId::data(id.shard) {
            let mut log = Log::<DataRecord<u64>>::new(id.shard);
            reader.refresh(&mut [&mut log]).await.unwrap();
            all.push(format!("{id} {:?}", log.record()));
        } else {
            all.push(format!("{id} {:?}", store.heads(vec![id]).await.unwrap()));
        }
    }
    all
}

#[test]
fn a_controller_that_only_reads_has_given_its_leases_back_when_it_has_stopped() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1, 2]).await;
        let follower = follow(&store, LEASE).await;
        reads(&follower, 1).await;
        follower.collections.change_lease(LEASE / 3);
        reads(&follower, 2).await;
        let mut lengths = Vec::new();
        for id in [1, 2] {
            let sinces = follower.sinces(live.shard(id)).await;
            lengths.extend(sinces.leased().values().map(|of| of.lease_ms));
        }
        assert_eq!(lengths, [900_000, 300_000]);
        follower.collections.stop().await.unwrap();
        for id in [1, 2] {
            assert!(live.sinces(live.shard(id)).await.leased().is_empty());
        }
        live.collections.stop().await.unwrap();
    }));
}

#[test]
fn a_controller_that_only_reads_writes_nothing_but_its_own_leases() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1, 2]).await;
        let shard = live.shard(1);
        live.write(shard, 100).await;
        let handle = live.collections.client().collection(1).unwrap();
        handle.wait_for_since_past([89]).await.unwrap();
        live.collections.stop().await.unwrap();

        let before = without_leases(&store).await;
        let follower = follow(&store, LEASE).await;
        let collections = &follower.collections;
        reads(&follower, 1).await;
        reads(&follower, 2).await;
        let held = collections.acquire(&[1]).await.unwrap();
        assert_eq!(held[0].frontiers.upper, Upper::at(100));
        assert_eq!(follower.sinces(shard).await.leased().len(), 1);
        let mut transaction = follower.metadata.begin().await.unwrap();
        let refused = collections.prepare(&mut transaction, vec![], &ids([1]));
        assert!(matches!(refused.unwrap_err(), PrepareError::ReadOnly(_)));
        let refused = collections.initialize(&mut transaction, &ids([]), &ids([1]));
        assert!(matches!(refused.unwrap_err(), PrepareError::ReadOnly(_)));
        let schema = columns(&["a"]);
        let refused = collections.alter_table_schema(1, &schema, &schema).await;
        assert!(matches!(refused.unwrap_err(), AlterError::ReadOnly(_)));
        drop(held);
        collections.drop_collections(vec![1]).await.unwrap();
        comes_true("the lease is given back", async || {
            follower.sinces(shard).await.leased().is_empty()
        })
        .await;
        assert_eq!(collections.fence(), None);
        let other = follower.shard(2);
        assert_eq!(follower.sinces(other).await.leased().len(), 1);
        collections.stop().await.unwrap();
        comes_true("all leases are given back", async || {
            follower.sinces(other).await.leased().is_empty()
        })
        .await;
        assert_eq!(without_leases(&store).await, before);
    }));
}

/// Whoever looks after shards has had the time to, many times over, when a lease was renewed so often.
const RENEWALS: u64 = 50;

#[test]
fn whoever_only_reads_looks_after_nothing_before_it_is_promoted() {
    run(on_each_with_parts(|store, parts| async move {
        let live = Controller::start_empty(&store, &parts).await;
        live.create(&[1]).await;
        let shard = live.shard(1);
        for at in 0..50 {
            live.write_rows(shard, at..at + 1).await;
        }
        critical(&live, shard, 40).await;
        live.collections.stop().await.unwrap();
        // One that has died: whoever looks after the shard expires it.
        let dead = register(&store, shard).await;
        let before = without_leases(&store).await;

        let settings = Settings {
            lease: SHORT,
            part_grace: Duration::ZERO,
            upkeep: Upkeep::InBackground { tasks_max: 2 },
            ..Settings::default()
        };
        let (runtime, shared) = (Handle::current(), Arc::clone(&store));
        let shards = Shards::new(&runtime, shared, parts.clone(), settings);
        let follower = follow_with(&shards, SHORT).await;
        reads(&follower, 1).await;
        comes_true("its lease is renewed", async || {
            let record = follower.sinces(shard).await;
            assert!(record.leased().contains_key(&dead));
            record.leased().values().any(|of| of.renewals > RENEWALS)
        })
        .await;
        assert_eq!(without_leases(&store).await, before);
        let held = follower.collections.acquire(&[1]).await.unwrap();

        let _ = follower.collections.promote(None).await.unwrap();
        comes_true("the dead reader is expired", async || {
            !follower.sinces(shard).await.leased().contains_key(&dead)
        })
        .await;
        comes_true("batches are merged, and parts are deleted", async || {
            let inspection = shards.inspect(shard).await.unwrap();
            inspection.batches < 10 && parts.list(shard).await.unwrap().len() < 10
        })
        .await;
        assert_eq!(held[0].hold.check(), Ok(()));
        assert!(follower.collections.lapsed().is_empty());
        follower.collections.stop().await.unwrap();
    }));
}

#[test]
fn what_was_replaced_is_deleted_however_long_a_follower_holds() {
    run(on_each_with_parts(|store, parts| async move {
        let live = Controller::start_empty(&store, &parts).await;
        live.create(&[1]).await;
        let shard = live.shard(1);
        live.write_rows(shard, 0..100).await;
        critical(&live, shard, 90).await;
        let follower = follow_on(&store, &parts, SHORT).await;
        reads(&follower, 1).await;
        let held = follower.collections.acquire(&[1]).await.unwrap();
        for at in 100..130 {
            live.write_rows(shard, at..at + 1).await;
            live.collections.shards().compact(shard).await.unwrap();
        }
        comes_true("what was replaced is deleted", async || {
            live.collections.shards().compact(shard).await.unwrap();
            parts.list(shard).await.unwrap().len() < 4
        })
        .await;
        let as_of = Antichain::from_elem(90);
        let read = follower.collections.snapshot(1, &as_of).await.unwrap();
        assert_eq!(values(&read).len(), 91);
        assert_eq!(held[0].hold.check(), Ok(()));
    }));
}

#[test]
fn whoever_creates_in_vain_gives_its_leases_back() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1, 2]).await;
        let (shard, gone) = (live.shard(1), live.shard(2));
        let follower = follow(&store, LEASE).await;
        let _ = live.prepare(&[], &[2]).await;
        live.collections.drop_collections(vec![2]).await.unwrap();
        live.until(|stats| stats.succeeded == 1).await;
        let batch = vec![new(1, Kind::Compute), new(2, Kind::Compute)];
        let refused = follower.collections.create(None, batch).await.unwrap_err();
        let refused = refusals(refused);
        assert!(
            matches!(refused[..], [(2, CollectionRefusal::Engine(Refusal::ShardGone(of)))] if of == gone),
            "{refused:?}"
        );
        comes_true("the lease is given back", async || {
            live.sinces(shard).await.leased().is_empty()
        })
        .await;
        reads(&follower, 1).await;
        assert_eq!(live.sinces(shard).await.leased().len(), 1);
    }));
}

#[test]
fn whoever_only_reads_moves_nothing_that_nobody_is_in_charge_of_yet() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        let _ = live.prepare(&[1], &[]).await;
        let follower = follow(&store, SHORT).await;
        reads(&follower, 1).await;
        let shard = follower.shard(1);
        live.write(shard, 100).await;
        comes_true("it is read from here on", async || {
            let frontiers = follower.collections.frontiers(&[1]).await.unwrap();
            frontiers[0].durable_since == Since::at(90)
        })
        .await;
        assert_eq!(*live.sinces(shard).await.since(), Since::minimum());
        let batch = vec![new(1, Kind::Compute)];
        let _ = live.collections.create(None, batch).await.unwrap();
        comes_true("the lease follows", async || {
            *live.sinces(shard).await.since() == Since::at(90)
        })
        .await;
        assert_eq!(live.sinces(shard).await.leased().len(), 1);
    }));
}

/// A reader that is never heard of again.
async fn register(store: &World, shard: ShardId) -> ReaderId {
    let dead = ReaderId::new(7);
    let writer = Transactor::new(Arc::clone(store), None);
    let mut log = Log::<SinceRecord<u64>>::new(shard);
    let register = |record: &SinceRecord<u64>| record.register_leased(dead, 1, SeqNo::FIRST);
    writer.carry_out(&mut log, register).await.unwrap();
    dead
}

#[test]
fn a_controller_that_only_reads_holds_what_it_reads_and_outlives_those_in_charge() {
    run(on_each(|store| async move {
        let first = Controller::start(&store, &ids([]), &ids([])).await;
        first.create(&[1]).await;
        let shard = first.shard(1);
        first.write(shard, 100).await;
        let handle = first.collections.client().collection(1).unwrap();
        handle.wait_for_since_past([89]).await.unwrap();
        first.collections.stop().await.unwrap();
        let follower = follow(&store, LEASE).await;
        reads(&follower, 1).await;
        let held = follower.collections.acquire(&[1]).await.unwrap();
        assert_eq!(held[0].hold.since(), &Since::at(90));

        let second = Controller::start(&store, &ids([1]), &ids([])).await;
        reads(&second, 1).await;
        second.write(shard, 200).await;
        let handle = second.collections.client().collection(1).unwrap();
        handle.wait_for_since_past([189]).await.unwrap();
        second.collections.stop().await.unwrap();
        let critical = second.sinces(shard).await;
        let critical = critical.critical().values().next().unwrap().since.clone();
        assert_eq!(critical, Since::at(190));
        assert_eq!(
            *second.sinces(shard).await.since(),
            Since::at(90),
            "it is held"
        );
        // What the other one has done is seen.
        let here = follower.collections.client().collection(1).unwrap();
        here.wait_for_upper_past([199]).await.unwrap();
        drop(held);
        comes_true("the lease follows the policy", async || {
            *second.sinces(shard).await.since() == Since::at(190)
        })
        .await;
        assert_eq!(follower.collections.client().stopped(), None);
    }));
}

#[test]
fn a_controller_that_is_promoted_keeps_its_holds_and_the_older_one_ends() {
    run(on_each(|store| async move {
        let older = Controller::start(&store, &ids([]), &ids([])).await;
        older.create(&[1, 2]).await;
        let (shard, other) = (older.shard(1), older.shard(2));
        older.write(shard, 100).await;
        let follower = follow(&store, LEASE).await;
        reads(&follower, 1).await;
        reads(&follower, 2).await;
        let here = follower.collections.client().collection(1).unwrap();
        here.wait_for_since_past([89]).await.unwrap();
        let mut held = follower.collections.acquire(&[1]).await.unwrap();
        assert_eq!(held[0].hold.since(), &Since::at(90));
        // The critical since goes beyond what is held here.
        older.write(shard, 200).await;
        comes_true("the critical since moves", async || {
            let record = older.sinces(shard).await;
            record
                .critical()
                .values()
                .all(|critical| critical.since == Since::at(190))
        })
        .await;

        let taken = follower.collections.promote(None).await.unwrap();
        assert_eq!(taken.previous, older.collections.fence());
        let again = follower.collections.promote(None).await.unwrap_err();
        assert!(matches!(again, PromoteError::InCharge));
        // Where nothing is held back, the critical since takes over at once.
        assert!(follower.sinces(other).await.leased().is_empty());
        let by = taken.fence.epoch;
        older.write(shard, 300).await;
        comes_true("the older one ends", async || {
            older.collections.client().stopped() == Some(StopReason::Fenced { by })
        })
        .await;
        // What is held is kept by the lease until nobody needs it.
        here.wait_for_upper_past([299]).await.unwrap();
        assert_eq!(*follower.sinces(shard).await.since(), Since::at(90));
        assert_eq!(follower.sinces(shard).await.leased().len(), 1);
        // Moved, but not yet to where the critical since is.
        held[0].hold.downgrade(Since::at(150)).unwrap();
        comes_true("the lease follows the hold", async || {
            let record = follower.sinces(shard).await;
            *record.since() == Since::at(150) && record.leased().len() == 1
        })
        .await;
        comes_true("what is durable is what is held", async || {
            let frontiers = follower.collections.frontiers(&[1]).await.unwrap();
            frontiers[0].durable_since == Since::at(150)
        })
        .await;
        drop(held);
        comes_true("the critical since has taken over", async || {
            let record = follower.sinces(shard).await;
            record.leased().is_empty() && *record.since() == Since::at(290)
        })
        .await;

        // From here on it is a controller like any other.
        let metadata = StoredMetadata::new(Arc::clone(&store), follower.collections.fence());
        let promoted = Controller {
            metadata,
            ..follower
        };
        let _ = promoted.initialize(&ids([1, 2]), &ids([])).await;
        promoted.create(&[3]).await;
        let plan = promoted.prepare(&[], &[2]).await;
        assert_eq!(plan.given_up, BTreeSet::from([other]));
        promoted
            .collections
            .drop_collections(vec![2])
            .await
            .unwrap();
        promoted.until(|stats| stats.succeeded == 1).await;
        assert!(promoted.sinces(other).await.is_buried());
        promoted.collections.stop().await.unwrap();
    }));
}

#[test]
fn a_promotion_that_is_refused_leaves_a_reader_as_it_was() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1]).await;
        let follower = follow(&store, LEASE).await;
        reads(&follower, 1).await;
        let epoch = live.collections.fence().map(|fence| fence.epoch);
        let refused = follower.collections.promote(epoch).await.unwrap_err();
        assert!(matches!(refused, PromoteError::TakeOver(_)));
        assert_eq!(follower.collections.fence(), None);
        live.write(live.shard(1), 50).await;
        let here = follower.collections.client().collection(1).unwrap();
        here.wait_for_upper_past([49]).await.unwrap();
        let there = live.collections.client().collection(1).unwrap();
        there.wait_for_since_past([39]).await.unwrap();
        let in_charge = live.collections.promote(None).await.unwrap_err();
        assert!(matches!(in_charge, PromoteError::InCharge));
    }));
}

/// Somebody whose clock says that all leases on a shard are over.
async fn expire(store: &World, shard: ShardId) -> Vec<ReaderId> {
    let expirer = Transactor::new(Arc::clone(store), None);
    let mut log = Log::<SinceRecord<u64>>::new(shard);
    let expire = |record: &SinceRecord<u64>| {
        let leased = record.leased().iter();
        let seen: Vec<_> = leased
            .map(|(reader, leased)| (*reader, leased.renewals))
            .collect();
        Ok::<_, std::convert::Infallible>(record.expire(&seen))
    };
    expirer.carry_out(&mut log, expire).await.unwrap()
}

/// Leases are renewed so often that a test does not wait long, and seldom enough to be expired in
/// between.
const SHORT: Duration = Duration::from_millis(40);

/// Expires the leases of a follower, and waits until it knows.
async fn lapse(follower: &Controller, shard: ShardId) {
    let mut expired = Vec::new();
    // Renewed in between, a lease is not over.
    comes_true("the lease is over", async || {
        expired = expire(&follower.store, shard).await;
        !expired.is_empty()
    })
    .await;
    comes_true("it is told", async || {
        follower.collections.lapsed().contains_key(&shard)
    })
    .await;
    let record = follower.sinces(shard).await;
    assert!(record.leased().keys().all(|reader| *reader != expired[0]));
}

/// The critical since of the one in charge has got here.
async fn critical(live: &Controller, shard: ShardId, since: u64) {
    comes_true("the critical since moves", async || {
        let record = live.sinces(shard).await;
        let mut all = record.critical().values();
        all.all(|critical| critical.since == Since::at(since))
    })
    .await;
}

#[test]
fn a_hold_whose_lease_lapsed_is_revoked_and_its_process_goes_on() {
    run(on_each_with_parts(|store, parts| async move {
        let live = Controller::start_empty(&store, &parts).await;
        live.create(&[1]).await;
        let shard = live.shard(1);
        live.write_rows(shard, 0..100).await;
        critical(&live, shard, 90).await;
        let follower = follow_on(&store, &parts, SHORT).await;
        reads(&follower, 1).await;
        let here = follower.collections.client().collection(1).unwrap();
        let mut held = follower.collections.acquire(&[1]).await.unwrap().remove(0);
        assert_eq!(held.hold.since(), &Since::at(90));
        assert_eq!(held.hold.check(), Ok(()));
        let as_of = Antichain::from_elem(90);
        let read = follower.collections.snapshot(1, &as_of).await.unwrap();
        assert_eq!(values(&read).len(), 91);

        live.write_rows(shard, 100..200).await;
        critical(&live, shard, 190).await;
        assert_eq!(*live.sinces(shard).await.since(), Since::at(90), "held");
        lapse(&follower, shard).await;
        assert_eq!(follower.collections.lapsed()[&shard], Since::at(190));
        comes_true("it is revoked", async || held.hold.check().is_err()).await;
        let since = Since::at(190);
        assert_eq!(held.hold.check(), Err(HoldLost::Revoked { since }));
        assert_eq!(held.hold.try_clone().unwrap_err(), CloneError::Revoked);
        let moved = held.hold.downgrade(Since::at(195)).unwrap_err();
        assert!(matches!(moved, DowngradeError::Revoked { .. }));
        let refused = follower.collections.snapshot(1, &as_of).await.unwrap_err();
        let ReadCollectionError::TooEarly { since, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(since, Since::at(190));
        drop(held);

        // From here on it holds again, by another lease.
        let held = follower.collections.acquire(&[1]).await.unwrap().remove(0);
        assert_eq!(held.hold.since(), &Since::at(190));
        live.write_rows(shard, 200..300).await;
        critical(&live, shard, 290).await;
        here.wait_for_upper_past([299]).await.unwrap();
        assert_eq!(*live.sinces(shard).await.since(), Since::at(190));
        assert_eq!(held.hold.check(), Ok(()));
        let as_of = Antichain::from_elem(190);
        let read = follower.collections.snapshot(1, &as_of).await.unwrap();
        assert_eq!(values(&read).len(), 191);
        assert_eq!(follower.collections.client().stopped(), None);
    }));
}

#[test]
fn a_hold_whose_lease_lapsed_goes_on_where_its_shard_still_has_it() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1]).await;
        let shard = live.shard(1);
        live.write(shard, 100).await;
        critical(&live, shard, 90).await;
        let follower = follow(&store, SHORT).await;
        reads(&follower, 1).await;
        let held = follower.collections.acquire(&[1]).await.unwrap().remove(0);
        lapse(&follower, shard).await;
        live.write(shard, 200).await;
        critical(&live, shard, 190).await;
        let here = follower.collections.client().collection(1).unwrap();
        here.wait_for_upper_past([199]).await.unwrap();
        assert_eq!(held.hold.check(), Ok(()));
        assert_eq!(*live.sinces(shard).await.since(), Since::at(90));
    }));
}

#[test]
fn a_lease_that_cannot_be_taken_anew_at_once_is_taken_later() {
    run(async {
        let memory: World = Arc::new(MemoryConsensus::new());
        let live = Controller::start(&memory, &ids([]), &ids([])).await;
        live.create(&[1]).await;
        let shard = live.shard(1);
        live.write(shard, 100).await;
        critical(&live, shard, 90).await;
        let unreliable = UnreliableConsensus::new(Arc::clone(&memory));
        let store: World = Arc::new(unreliable.clone());
        let follower = follow(&store, SHORT).await;
        reads(&follower, 1).await;
        let held = follower.collections.acquire(&[1]).await.unwrap().remove(0);
        live.write(shard, 200).await;
        critical(&live, shard, 190).await;
        // The commit by which it finds its lease gone works, and the next one, of a new lease, fails.
        unreliable.next_commits([Fault::Refused, Fault::None].repeat(20));
        comes_true("the lease is over", async || {
            !expire(&memory, shard).await.is_empty()
        })
        .await;
        comes_true("it is revoked", async || held.hold.check().is_err()).await;
        assert_eq!(follower.sinces(shard).await.leased().len(), 1);
    });
}

#[test]
fn what_was_dropped_and_finalized_after_a_lease_lapsed_is_gone_for_its_holders() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1, 2]).await;
        let shard = live.shard(1);
        live.write(shard, 100).await;
        critical(&live, shard, 90).await;
        let follower = follow(&store, SHORT).await;
        reads(&follower, 1).await;
        reads(&follower, 2).await;
        let held = follower.collections.acquire(&[1]).await.unwrap().remove(0);
        let _ = live.prepare(&[], &[1]).await;
        live.collections.drop_collections(vec![1]).await.unwrap();
        // Its lease blocks that, for as long as it is there.
        live.until(|stats| stats.outstanding == 1 && stats.failed > 0)
            .await;
        assert_eq!(held.hold.check(), Ok(()));
        comes_true("it is over", async || {
            expire(&store, shard).await;
            live.sinces(shard).await.is_buried()
        })
        .await;
        comes_true("it is revoked", async || held.hold.check().is_err()).await;
        let since = Since::gone();
        assert_eq!(held.hold.check(), Err(HoldLost::Revoked { since }));
        comes_true("nobody knows it any more", async || {
            follower.collections.active() == [2]
        })
        .await;
        let as_of = Antichain::from_elem(95);
        let refused = follower.collections.snapshot(1, &as_of).await.unwrap_err();
        assert!(matches!(refused, ReadCollectionError::UnknownCollection(1)));
        drop(held);
        // By what it has seen of the metadata it is still there: it is told otherwise.
        let again = vec![new(1, Kind::Compute)];
        let refused = follower.collections.create(None, again).await.unwrap_err();
        let refused = refusals(refused);
        assert!(
            matches!(refused[0].1, CollectionRefusal::Engine(Refusal::ShardGone(gone)) if gone == shard),
            "{refused:?}"
        );
        follower.collections.stop().await.unwrap();
    }));
}

#[test]
fn whoever_only_reads_sees_what_others_create_and_drop() {
    run(on_each(|store| async move {
        let live = Controller::start(&store, &ids([]), &ids([])).await;
        live.create(&[1]).await;
        let follower = follow(&store, LEASE).await;
        reads(&follower, 1).await;
        // Created by the other: refused until it is looked for, and there from then on.
        live.create(&[2]).await;
        let batch = || vec![new(2, Kind::Compute)];
        let refused = follower
            .collections
            .create(None, batch())
            .await
            .unwrap_err();
        assert!(matches!(
            refusals(refused)[..],
            [(2, CollectionRefusal::NoShard)]
        ));
        let transaction = follower.metadata.begin().await.unwrap();
        follower.collections.observe(&transaction).unwrap();
        let _ = follower.collections.create(None, batch()).await.unwrap();
        live.write(live.shard(2), 50).await;
        let here = follower.collections.client().collection(2).unwrap();
        here.wait_for_upper_past([49]).await.unwrap();

        // Dropped by the other: kept while it is read here, and finalized when it is not.
        let held = follower.collections.acquire(&[1]).await.unwrap();
        let shard = live.shard(1);
        let _ = live.prepare(&[], &[1]).await;
        live.collections.drop_collections(vec![1]).await.unwrap();
        let transaction = follower.metadata.begin().await.unwrap();
        follower.collections.observe(&transaction).unwrap();
        assert_eq!(held[0].hold.check(), Ok(()));
        follower
            .collections
            .drop_collections(vec![1])
            .await
            .unwrap();
        assert!(!live.sinces(shard).await.is_buried());
        drop(held);
        live.until(|stats| stats.succeeded == 1).await;
        let batch = vec![new(1, Kind::Compute)];
        let refused = follower.collections.create(None, batch).await.unwrap_err();
        assert!(matches!(
            refusals(refused)[..],
            [(1, CollectionRefusal::NoShard)]
        ));
        assert_eq!(follower.collections.client().stopped(), None);
    }));
}

#[test]
fn whoever_only_reads_may_start_before_anybody_was_in_charge() {
    run(on_each(|store| async move {
        let follower = follow(&store, LEASE).await;
        assert!(follower.collections.active().is_empty());
        let taken = follower.collections.promote(None).await.unwrap();
        assert_eq!(taken.previous, None);
        let start = Start {
            epoch: Some(taken.fence.epoch),
            ..quick()
        };
        let refused = Collections::<u64, u64>::start(&shards(&store), start).await;
        assert!(refused.is_err());
    }));
}
