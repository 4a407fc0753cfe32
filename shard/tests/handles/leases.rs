//! Leased readers: renewed, lapsed, expired by others.

use std::time::Duration;

use lowwater::Since;
use lowwater_shard::consensus::unreliable::Fault;
use lowwater_shard::{Epoch, ReadError, Reader, ReaderId, Settings, ShardTime, Shards, Upkeep};

use crate::world::*;

const LEASE: Duration = Duration::from_secs(15 * 60);
const ME: ReaderId = ReaderId::new(1);
const EPOCH: Epoch = Epoch::new(1);

fn watching() -> Settings {
    Settings {
        upkeep: Upkeep::InBackground { tasks_max: 1 },
        ..Settings::default()
    }
}

async fn is_lost<T: TestTime>(reader: &Reader<T>, at: u64) -> bool {
    match reader.snapshot(&as_of(at)).await {
        Ok(_) => false,
        Err(ReadError::LeaseLost(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

async fn move_critical<T: TestTime>(shards: &Shards<T>, to: u64) {
    let mut critical = shards.critical(shard(), ME, EPOCH).await.unwrap();
    let since = Since::at(T::at(to));
    critical
        .compare_and_downgrade(EPOCH, EPOCH, &since)
        .await
        .unwrap();
}

async fn since<T: ShardTime>(shards: &Shards<T>) -> Since<T> {
    shards.inspect(shard()).await.unwrap().since
}

/// Registers a reader whose process dies: it is neither renewed nor given back.
async fn dead_reader<T: TestTime>(world: &World) {
    dead_reader_for::<T>(world, LEASE).await;
}

pub(crate) async fn dead_reader_for<T: TestTime>(world: &World, lease: Duration) {
    let store = std::sync::Arc::new(world.store.clone());
    let dying = lowwater_shard::Transactor::new(store, None);
    let mut log = lowwater_shard::Log::<lowwater_shard::record::SinceRecord<T>>::new(shard());
    let lease_ms = u64::try_from(lease.as_millis()).unwrap();
    let register = |record: &lowwater_shard::record::SinceRecord<T>| {
        record.register_leased(ReaderId::random(), lease_ms, lowwater_shard::SeqNo::FIRST)
    };
    dying.carry_out(&mut log, register).await.unwrap();
}

/// The lengths of the leases in the record.
async fn leases<T: TestTime>(world: &World) -> Vec<Duration> {
    let store = std::sync::Arc::new(world.store.clone());
    let reads = lowwater_shard::Transactor::new(store, None);
    let mut log = lowwater_shard::Log::<lowwater_shard::record::SinceRecord<T>>::new(shard());
    let read = reads.refresh(&mut [&mut log]).await.unwrap();
    read.into_iter().for_each(Result::unwrap);
    let leased = log.record().leased().values();
    leased
        .map(|of| Duration::from_millis(of.lease_ms))
        .collect()
}

for_both_times! {
    async fn leases_have_the_length_that_is_set_when_they_are_taken<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process_with::<T>(watching()));
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        move_critical(&theirs, 0).await;
        let long = mine.reader(shard()).await.unwrap();
        let short = LEASE / 60;
        mine.change_lease(short);
        // The other process learns nothing of it but what is in the record.
        theirs.change_lease(short);
        let brief = mine.reader(shard()).await.unwrap();
        dead_reader_for::<T>(&world, short).await;
        let mut lengths = leases::<T>(&world).await;
        lengths.sort_unstable();
        assert_eq!(lengths, [short, short, LEASE]);
        // Those that live are renewed in time, and the one that does not is expired in time.
        for _ in 0..20 {
            tokio::time::sleep(short / 2).await;
            assert!(!is_lost(&long, 0).await);
            assert!(!is_lost(&brief, 0).await);
        }
        assert_eq!(leases::<T>(&world).await.len(), 2);
    }

    async fn a_reader_keeps_its_since_and_its_lease_is_renewed<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process_with::<T>(watching()));
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        move_critical(&theirs, 0).await;
        let reader = mine.reader(shard()).await.unwrap();
        move_critical(&theirs, 9).await;
        for _ in 0..20 {
            tokio::time::sleep(LEASE / 2).await;
            assert_eq!(since(&theirs).await, Since::at(T::at(0)));
            assert!(!is_lost(&reader, 0).await);
        }
        reader.leave().await.unwrap();
        assert_eq!(since(&theirs).await, Since::at(T::at(9)));
    }

    async fn a_reader_that_is_dead_is_expired_after_its_whole_lease<T: TestTime>() {
        let world = World::new().await;
        let theirs = world.process_with::<T>(watching());
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        move_critical(&theirs, 0).await;
        dead_reader::<T>(&world).await;
        move_critical(&theirs, 9).await;
        assert_eq!(theirs.inspect(shard()).await.unwrap().leased.len(), 1);
        tokio::time::sleep(LEASE - Duration::from_secs(5)).await;
        assert_eq!(since(&theirs).await, Since::at(T::at(0)));
        tokio::time::sleep(LEASE).await;
        assert_eq!(since(&theirs).await, Since::at(T::at(9)));
        assert!(theirs.inspect(shard()).await.unwrap().leased.is_empty());
    }

    async fn a_critical_since_never_expires_and_who_drops_it_releases_nothing<T: TestTime>() {
        let world = World::new().await;
        let theirs = world.process_with::<T>(watching());
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        let mine = world.process::<T>();
        let critical = mine.critical(shard(), ME, EPOCH).await.unwrap();
        let other = ReaderId::new(2);
        let mut moves = theirs.critical(shard(), other, EPOCH).await.unwrap();
        moves.compare_and_downgrade(EPOCH, EPOCH, &Since::at(T::at(9))).await.unwrap();
        drop((critical, mine));
        tokio::time::sleep(10 * LEASE).await;
        let inspection = theirs.inspect(shard()).await.unwrap();
        assert_eq!(inspection.since, Since::at(T::at(0)));
        assert_eq!(inspection.critical.len(), 2);
        let read = theirs.snapshot(shard(), &as_of(0)).await.unwrap();
        assert_eq!(read.len(), 1);
    }

    async fn two_that_lapse_together_leave_the_since_to_those_that_stay<T: TestTime>() {
        let world = World::new().await;
        let theirs = world.process_with::<T>(watching());
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        move_critical(&theirs, 0).await;
        dead_reader::<T>(&world).await;
        dead_reader::<T>(&world).await;
        move_critical(&theirs, 7).await;
        tokio::time::sleep(2 * LEASE).await;
        assert_eq!(since(&theirs).await, Since::at(T::at(7)));
    }

    async fn a_lease_that_lapsed_while_the_store_was_out_of_reach_is_a_typed_loss<T: TestTime>() {
        let world = World::new().await;
        let cut_off = World::on(std::sync::Arc::new(world.store.clone()));
        let cut_off = World { parts: world.parts.clone(), ..cut_off };
        let theirs = world.process_with::<T>(watching());
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        move_critical(&theirs, 0).await;
        let mine = cut_off.process::<T>();
        let reader = mine.reader(shard()).await.unwrap();
        move_critical(&theirs, 9).await;
        cut_off.store.next_commits(vec![Fault::Refused; 100_000]);
        tokio::time::sleep(2 * LEASE).await;
        assert_eq!(since(&theirs).await, Since::at(T::at(9)));
        // Connected again.
        cut_off.store.forget_faults();
        assert!(is_lost(&reader, 0).await);
        assert!(is_lost(&reader, 9).await, "there is no way back");
        let again = mine.reader(shard()).await.unwrap();
        assert!(!is_lost(&again, 9).await);
    }

    async fn what_readers_wish_is_written_within_an_interval<T: TestTime>() {
        let world = World::new().await;
        let (mine, theirs) = (world.process::<T>(), world.process::<T>());
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        let reader = mine.reader(shard()).await.unwrap();
        for to in 1..=5 {
            reader.downgrade_soon(&Since::at(T::at(to)));
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(since(&theirs).await, Since::at(T::at(5)));
    }
}

#[test]
fn renewals_of_all_leases_are_one_transaction_four_times_a_lease() {
    run(async {
        let world = World::new().await;
        let counting = crate::counting::Counting::new(std::sync::Arc::new(world.store.clone()));
        let shards = Shards::<u64>::new(
            &tokio::runtime::Handle::current(),
            std::sync::Arc::new(counting.clone()),
            world.parts.clone(),
            by_hand(),
        );
        let mut readers = Vec::new();
        for id in 0..20 {
            readers.push(
                shards
                    .reader(lowwater::ShardId::new(id % 10))
                    .await
                    .unwrap(),
            );
        }
        let before = counting.commits();
        tokio::time::sleep(10 * LEASE).await;
        let renewals = counting.commits() - before;
        assert!((39..=41).contains(&renewals), "{renewals}");
    });
}

#[test]
fn after_the_machine_slept_the_next_call_tells_and_nothing_panics() {
    run(async {
        let world = World::new().await;
        let theirs = world.process_with::<u64>(watching());
        let writer = writer(&theirs).await;
        write(&writer, 0, 10).await;
        move_critical(&theirs, 0).await;
        let reader = world.process::<u64>().reader(shard()).await.unwrap();
        move_critical(&theirs, 9).await;
        // Another machine, that did not sleep, expires it.
        let seen = theirs.inspect(shard()).await.unwrap().leased;
        let seen: Vec<_> = seen
            .iter()
            .map(|(id, leased)| (*id, leased.renewals))
            .collect();
        let mut log = lowwater_shard::Log::new(shard());
        let other = lowwater_shard::Transactor::new(std::sync::Arc::new(world.store.clone()), None);
        let expire = |record: &lowwater_shard::record::SinceRecord<u64>| {
            Ok::<_, std::convert::Infallible>(record.expire(&seen))
        };
        other.carry_out(&mut log, expire).await.unwrap();
        tokio::time::advance(100 * LEASE).await;
        assert!(is_lost(&reader, 0).await);
    });
}

/// Leases that end while one waits, on each store.
mod short {
    use super::*;

    /// By the real clock: how long a lease is at least, others tell with the clock that runs when
    /// everybody waits.
    const SHORT: Duration = Duration::from_millis(500);

    /// Nothing here takes longer, unless it hangs.
    const BOUND: Duration = Duration::from_secs(60);

    fn watching_short() -> Settings {
        Settings {
            lease: SHORT,
            ..watching()
        }
    }

    async fn since_becomes<T: TestTime>(shards: &Shards<T>, at: u64) {
        let becomes = async {
            while since(shards).await != Since::at(T::at(at)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let became = tokio::time::timeout(BOUND, becomes).await;
        became.expect("the since goes there");
    }

    on_all_stores! {
        async fn dead_readers_are_expired_and_live_ones_stay<T: TestTime>() {
            let world = World::new().await;
            let (mine, theirs) = (world.process::<T>(), world.process_with::<T>(watching_short()));
            let writer = writer(&theirs).await;
            write(&writer, 0, 10).await;
            move_critical(&theirs, 0).await;
            dead_reader_for::<T>(&world, SHORT).await;
            dead_reader_for::<T>(&world, SHORT).await;
            move_critical(&theirs, 3).await;
            let reader = mine.reader(shard()).await.unwrap();
            reader.downgrade(&Since::at(T::at(2))).await.unwrap();
            assert_eq!(theirs.inspect(shard()).await.unwrap().leased.len(), 3);
            since_becomes(&theirs, 2).await;
            let left = theirs.inspect(shard()).await.unwrap().leased;
            assert_eq!(left.keys().collect::<Vec<_>>(), [&reader.id()]);
            assert!(!is_lost(&reader, 2).await);
            reader.leave().await.unwrap();
            since_becomes(&theirs, 3).await;
        }

        async fn who_was_cut_off_for_too_long_is_told_so<T: TestTime>() {
            let world = World::new().await;
            let cut_off = World::on(std::sync::Arc::new(world.store.clone()));
            let cut_off = World { parts: world.parts.clone(), ..cut_off };
            let theirs = world.process_with::<T>(watching_short());
            let writer = writer(&theirs).await;
            write(&writer, 0, 10).await;
            move_critical(&theirs, 0).await;
            let mine = cut_off.process_with::<T>(Settings { lease: SHORT, ..by_hand() });
            let reader = mine.reader(shard()).await.unwrap();
            cut_off.store.next_commits(vec![Fault::Refused; 100_000]);
            move_critical(&theirs, 9).await;
            since_becomes(&theirs, 9).await;
            cut_off.store.forget_faults();
            assert!(is_lost(&reader, 0).await);
            let again = cut_off.process::<T>().reader(shard()).await.unwrap();
            assert!(!is_lost(&again, 9).await);
        }

        async fn wishes_are_written_and_leases_renewed_in_the_background<T: TestTime>() {
            let world = World::new().await;
            let theirs = world.process::<T>();
            let writer = writer(&theirs).await;
            write(&writer, 0, 10).await;
            let mine = world.process_with::<T>(Settings { lease: 4 * SHORT, ..by_hand() });
            let reader = mine.reader(shard()).await.unwrap();
            reader.downgrade_soon(&Since::at(T::at(5)));
            since_becomes(&theirs, 5).await;
            let renewals = async || theirs.inspect(shard()).await.unwrap().leased[&reader.id()].renewals;
            let before = renewals().await;
            let renewed = async {
                while renewals().await < before + 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(BOUND, renewed).await.expect("nobody asks for it");
        }
    }
}
