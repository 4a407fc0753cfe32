//! Finalizing in the background, by a clock that runs when everybody waits.

use super::*;

/// What each shard does when it is finalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Succeed,
    /// Fails, and at the last try of these many succeeds.
    FailTimes(u32),
    Hang,
    Panic,
    BeFenced,
    BeOwned,
}

#[derive(Default)]
struct World {
    does: Mutex<BTreeMap<ShardId, Does>>,
    tries: Mutex<Vec<(ShardId, Duration)>>,
    running: Mutex<usize>,
    running_max: Mutex<usize>,
    began: Option<Instant>,
}

fn shard(number: u128) -> ShardId {
    ShardId::new(number)
}

fn others() -> Unfinalized {
    Unfinalized::Readers(vec![ReaderId::new(7)])
}

impl Finalize for Arc<World> {
    fn finalize(&self, shard: ShardId) -> Finalizing {
        let world = Arc::clone(self);
        Box::pin(async move {
            let now = Instant::now() - world.began.unwrap();
            world.tries.lock().push((shard, now));
            let running = {
                let mut running = world.running.lock();
                *running += 1;
                *running
            };
            let max = (*world.running_max.lock()).max(running);
            *world.running_max.lock() = max;
            tokio::time::sleep(Duration::from_millis(1)).await;
            *world.running.lock() -= 1;
            let does = world.does.lock().get(&shard).copied();
            match does.unwrap_or(Does::Succeed) {
                Does::Succeed => Ok(()),
                Does::FailTimes(0) => Ok(()),
                Does::FailTimes(times) => {
                    world.does.lock().insert(shard, Does::FailTimes(times - 1));
                    Err(others())
                }
                Does::Hang => std::future::pending().await,
                Does::Panic => {
                    world.does.lock().insert(shard, Does::Succeed);
                    panic!("told to")
                }
                Does::BeFenced => Err(Unfinalized::Fenced { by: Epoch::new(9) }),
                Does::BeOwned => Err(Unfinalized::Owned(String::from("7"))),
            }
        })
    }
}

async fn with(
    does: impl IntoIterator<Item = (u128, Does)>,
    settings: Finalization,
) -> (Arc<World>, Finalizer) {
    let does = does.into_iter().map(|(number, does)| (shard(number), does));
    let world = Arc::new(World {
        does: Mutex::new(does.collect()),
        began: Some(Instant::now()),
        ..World::default()
    });
    let finalizer = Finalizer::spawn(&Handle::current(), Arc::new(Arc::clone(&world)), settings);
    (world, finalizer)
}

async fn until(finalizer: &Finalizer, holds: impl Fn(&FinalizerStats) -> bool) {
    let waiting = async {
        while !holds(&finalizer.stats()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(36_000), waiting).await;
    waited.unwrap_or_else(|_| panic!("{:?}", finalizer.stats()));
}

fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn all(range: std::ops::Range<u128>) -> BTreeSet<ShardId> {
    range.map(shard).collect()
}

#[test]
fn what_is_given_up_is_finalized_a_few_at_a_time() {
    run(async {
        let settings = Finalization {
            shards_at_once: 3,
            ..Finalization::default()
        };
        let (world, finalizer) = with([], settings).await;
        finalizer.give_up(all(0..20));
        until(&finalizer, |stats| stats.outstanding == 0).await;
        assert_eq!(finalizer.finalized(), all(0..20));
        assert_eq!(*world.running_max.lock(), 3);
        let stats = finalizer.stats();
        assert_eq!((stats.started, stats.succeeded, stats.failed), (20, 20, 0));
    });
}

#[test]
fn how_many_are_finalized_at_a_time_changes_at_run_time() {
    run(async {
        let settings = |shards_at_once| Finalization {
            shards_at_once,
            try_max: Duration::from_secs(3_600),
            ..Finalization::default()
        };
        let hang = (0..10).map(|number| (number, Does::Hang));
        let (world, finalizer) = with(hang, settings(1)).await;
        finalizer.give_up(all(0..10));
        let tries = || world.tries.lock().len();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tries(), 1);
        // Those that are under way need not end first.
        finalizer.set(settings(4));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tries(), 4);
        finalizer.set(settings(2));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tries(), 4);
        finalizer.set(settings(5));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tries(), 5);
    });
}

#[test]
fn what_fails_is_tried_again_after_longer_and_longer_waits_and_who_blocks_is_named() {
    run(async {
        let (world, finalizer) = with([(1, Does::FailTimes(9))], Finalization::default()).await;
        finalizer.give_up([shard(1)]);
        until(&finalizer, |stats| stats.failed == 1).await;
        let stats = finalizer.stats();
        let blocked = &stats.blocked[&shard(1)];
        assert!(matches!(blocked, Unfinalized::Readers(readers) if readers == &[ReaderId::new(7)]));
        assert_eq!(stats.outstanding, 1);
        until(&finalizer, |stats| stats.succeeded == 1).await;
        assert!(finalizer.stats().blocked.is_empty());
        let times: Vec<_> = world.tries.lock().iter().map(|(_, at)| *at).collect();
        let waits = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_millis() - 1);
        let waits: Vec<_> = waits.map(|wait| wait / 10 * 10).collect();
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
    });
}

#[test]
fn stuck_shards_delay_nobody_for_long() {
    run(async {
        let settings = Finalization {
            shards_at_once: 2,
            ..Finalization::default()
        };
        let stuck = (0..10).map(|number| (number, Does::Hang));
        let (_world, finalizer) = with(stuck, settings).await;
        finalizer.give_up(all(0..10));
        // All of them have been tried by now, and are tried again and again.
        until(&finalizer, |stats| stats.failed == 10).await;
        let before = Instant::now();
        finalizer.give_up(all(10..50));
        until(&finalizer, |stats| stats.succeeded == 40).await;
        let took = Instant::now() - before;
        assert!(took <= Duration::from_secs(11), "{took:?}");
        let blocked = finalizer.stats().blocked;
        assert!(
            blocked
                .values()
                .all(|reason| matches!(reason, Unfinalized::TooLong))
        );
    });
}

#[test]
fn who_comes_finds_room_although_stuck_shards_are_tried_again_and_again() {
    run(async {
        let settings = Finalization {
            shards_at_once: 4,
            try_max: Duration::from_secs(3_600),
            ..Finalization::default()
        };
        let stuck = (0..10).map(|number| (number, Does::Hang));
        let (_world, finalizer) = with(stuck, settings).await;
        finalizer.give_up(all(0..10));
        until(&finalizer, |stats| stats.failed >= 12).await;
        for number in 10..20 {
            let before = Instant::now();
            finalizer.give_up(all(number..number + 1));
            until(&finalizer, |stats| stats.succeeded as u128 == number - 9).await;
            let took = Instant::now() - before;
            assert!(took <= Duration::from_secs(1), "{took:?}");
        }
        let stats = finalizer.stats();
        assert_eq!((stats.outstanding, stats.succeeded), (10, 10));
    });
}

#[test]
fn a_try_that_panics_is_a_try_that_failed() {
    run(async {
        let (_world, finalizer) = with([(1, Does::Panic)], Finalization::default()).await;
        finalizer.give_up([shard(1)]);
        until(&finalizer, |stats| stats.succeeded == 1).await;
        assert_eq!(finalizer.stats().failed, 1);
    });
}

#[test]
fn switched_off_nothing_is_finalized_and_switched_on_it_catches_up() {
    run(async {
        let off = Finalization {
            enabled: false,
            ..Finalization::default()
        };
        let (world, finalizer) = with([], off.clone()).await;
        finalizer.give_up(all(0..5));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert!(world.tries.lock().is_empty());
        assert_eq!(finalizer.stats().outstanding, 5);
        finalizer.set(Finalization::default());
        until(&finalizer, |stats| stats.succeeded == 5).await;
        finalizer.set(off);
        finalizer.give_up(all(5..9));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(finalizer.stats().succeeded, 5);
    });
}

#[test]
fn nothing_is_finalized_under_a_lower_epoch() {
    run(async {
        let (world, finalizer) = with([(1, Does::BeFenced)], Finalization::default()).await;
        finalizer.give_up([shard(1)]);
        until(&finalizer, |stats| stats.fenced_by.is_some()).await;
        finalizer.give_up(all(2..5));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(world.tries.lock().len(), 1);
        assert_eq!(finalizer.stats().fenced_by, Some(Epoch::new(9)));
    });
}

#[test]
fn what_is_owned_is_told_and_not_tried_again() {
    run(async {
        let (world, finalizer) = with([(1, Does::BeOwned)], Finalization::default()).await;
        finalizer.give_up([shard(1)]);
        until(&finalizer, |stats| stats.failed == 1).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(world.tries.lock().len(), 1);
        let stats = finalizer.stats();
        assert!(matches!(stats.blocked[&shard(1)], Unfinalized::Owned(_)));
        assert_eq!(stats.outstanding, 0);
    });
}

#[test]
fn what_is_needed_after_all_is_not_tried_again() {
    run(async {
        let (world, finalizer) = with([(1, Does::FailTimes(9))], Finalization::default()).await;
        finalizer.give_up([shard(1)]);
        until(&finalizer, |stats| stats.failed == 1).await;
        finalizer.keep([shard(1)]);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(world.tries.lock().len(), 1);
        assert!(finalizer.stats().blocked.is_empty());
    });
}

#[test]
fn what_was_finalized_is_kept_in_mind_until_nobody_lists_it() {
    run(async {
        let (world, finalizer) = with([], Finalization::default()).await;
        finalizer.give_up(all(1..3));
        until(&finalizer, |stats| stats.succeeded == 2).await;
        // Handed back by a transaction that then did not commit, and given up once more.
        finalizer.give_up(all(1..3));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.tries.lock().len(), 2);
        finalizer.forget(&all(1..2));
        assert_eq!(finalizer.finalized(), all(2..3));
    });
}
