//! Holds as their users see them, with real threads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod running;

use lowwater::{
    AcquireError, Config, CreateError, Description, Engine, MemoryStorage, MergeRefusal,
    ReadPolicy, Refusal, Since, Upper, WaitError,
};
use timely::order::Product;

use running::{BOUND, start};

#[test]
fn a_hold_keeps_a_collection_and_what_it_depends_on_readable() {
    let running = start();
    let base = running.create(1, &[]);
    let view = running.create(2, &[1]);
    running.upper(1, 10);
    running.upper(2, 10);
    assert_eq!(base.since(), Since::at(9));
    let hold = view.acquire().unwrap();
    assert_eq!(hold.since(), &Since::at(9));
    running.upper(1, 20);
    running.upper(2, 20);
    assert_eq!(view.since(), Since::at(9));
    assert_eq!(base.since(), Since::at(9));
    assert_eq!(base.implied(), Since::at(19));
    drop(hold);
    base.wait_for_since_past([18])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(view.since(), Since::at(19));
    running.stop();
}

#[test]
fn a_hold_is_moved_cloned_and_merged() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let mut first = base.acquire().unwrap();
    let second = first.try_clone().unwrap();
    first.downgrade(Since::at(30)).unwrap();
    assert!(first.downgrade(Since::at(20)).is_err());
    assert_eq!(first.since(), &Since::at(30));
    running.upper(1, 100);
    assert_eq!(base.since(), Since::at(9));
    let third = first.try_clone().unwrap();
    let merged = second.merge(first).unwrap();
    assert_eq!(merged.since(), &Since::at(9));
    drop(merged);
    base.wait_for_since_past([29])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(base.since(), Since::at(30));
    drop(third);
    base.wait_for_since_past([98])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.stop();
}

#[test]
fn holds_on_different_collections_do_not_merge_and_are_given_back() {
    let running = start();
    let (one, two) = (running.create(1, &[]), running.create(2, &[]));
    let refused = one
        .acquire()
        .unwrap()
        .merge(two.acquire().unwrap())
        .unwrap_err();
    assert_eq!(refused.reason, MergeRefusal::Mismatch);
    assert_eq!((refused.holds.0.id(), refused.holds.1.id()), (1, 2));
    running.stop();
}

#[test]
fn incomparable_holds_merge_at_their_meet() {
    type Pair = Product<u64, u64>;
    let (engine, client) =
        Engine::<u64, Pair>::new(Config::default(), MemoryStorage::new()).unwrap();
    let thread = engine.spawn().unwrap();
    let new = Description::new(1, ReadPolicy::lag_each(Pair::clone));
    let pairs = client.create(vec![new]).wait().unwrap().remove(0);
    let mut left = pairs.acquire().unwrap();
    let mut right = left.try_clone().unwrap();
    left.downgrade(Since::at(Pair::new(3, 0))).unwrap();
    right.downgrade(Since::at(Pair::new(0, 4))).unwrap();
    client
        .report_uppers(vec![(1, Upper::at(Pair::new(9, 9)))])
        .wait()
        .unwrap();
    let both = Since::new([Pair::new(3, 0), Pair::new(0, 4)].into_iter().collect());
    assert_eq!(pairs.since(), both);
    let merged = left.merge(right).unwrap();
    assert_eq!(merged.since(), &both);
    assert_eq!(client.explain(1).wait().unwrap().frontiers.since, both);
    drop(merged);
    pairs
        .wait_for_since_past(both.into_frontier())
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(pairs.since(), Since::at(Pair::new(9, 9)));
    client.stop().wait().unwrap();
    thread.join().unwrap();
}

#[test]
fn a_hold_starts_at_a_chosen_time_or_at_the_earliest() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let first = base.acquire().unwrap();
    running.upper(1, 50);
    let later = base.acquire_at(Since::at(60)).wait().unwrap();
    assert_eq!(later.since(), &Since::at(60));
    let between = base.acquire_at(Since::at(20)).wait().unwrap();
    assert_eq!(between.since(), &Since::at(20));
    let earliest = base.acquire_earliest().wait().unwrap();
    assert_eq!(earliest.since(), &Since::at(9));
    let refused = base.acquire_at(Since::at(3)).wait().unwrap_err();
    assert_eq!(
        refused,
        AcquireError::TooEarly {
            collection: 1,
            since: Since::at(9)
        }
    );
    drop((first, earliest));
    base.wait_for_since_past([19])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    assert_eq!(base.since(), Since::at(20));
    drop(between);
    base.wait_for_since_past([48])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.stop();
}

#[test]
fn holds_on_several_are_all_or_nothing() {
    let running = start();
    let (one, two) = (running.create(1, &[]), running.create(2, &[]));
    running.upper(1, 10);
    running.upper(2, 20);
    let holds = running.client.acquire_many(&[1, 2, 1]).unwrap();
    assert_eq!(holds.len(), 3);
    let refused = running.client.acquire_many(&[1, 3]).unwrap_err();
    assert_eq!(refused, AcquireError::UnknownCollection(3));
    let refused = running
        .client
        .acquire_many_at(&[1, 2], Since::at(15))
        .wait()
        .unwrap_err();
    assert_eq!(
        refused,
        AcquireError::TooEarly {
            collection: 2,
            since: Since::at(19)
        }
    );
    let at = running
        .client
        .acquire_many_at(&[1, 2], Since::at(25))
        .wait()
        .unwrap();
    drop(holds);
    running.upper(1, 90);
    running.upper(2, 90);
    for each in [&one, &two] {
        each.wait_for_since_past([24])
            .wait_timeout(BOUND)
            .unwrap()
            .unwrap();
    }
    assert_eq!((one.since(), two.since()), (Since::at(25), Since::at(25)));
    drop(at);
    one.wait_for_since_past([88])
        .wait_timeout(BOUND)
        .unwrap()
        .unwrap();
    running.stop();
}

#[test]
fn a_dropped_collection_stays_for_its_holds_and_takes_no_new_ones() {
    let running = start();
    let base = running.create(1, &[]);
    running.upper(1, 10);
    let hold = base.acquire().unwrap();
    running.client.drop_collections(vec![1]).wait().unwrap();
    assert_eq!(base.acquire().unwrap_err(), AcquireError::Dropped(1));
    assert_eq!(
        running.client.acquire(1).unwrap_err(),
        AcquireError::Dropped(1)
    );
    assert_eq!(
        base.acquire_earliest().wait().unwrap_err(),
        AcquireError::Dropped(1)
    );
    let clone = hold.try_clone().unwrap();
    drop(hold);
    assert_eq!(base.since(), Since::at(9));
    let again = running
        .client
        .create(vec![Description::new(1, ReadPolicy::step_back())]);
    let CreateError::Refused(refused) = again.wait().unwrap_err() else {
        panic!()
    };
    assert!(matches!(refused[..], [(1, Refusal::StillDropping)]));
    let gone = base.wait_for_upper_past([1_000]);
    drop(clone);
    assert_eq!(
        gone.wait_timeout(BOUND).unwrap().unwrap_err(),
        WaitError::Gone
    );
    let next = running.create(1, &[]);
    assert!(next.key().generation() > base.key().generation());
    assert_eq!(base.since(), Since::gone());
    assert_eq!(next.since(), Since::at(0));
    running.stop();
}

#[test]
fn many_threads_hold_and_let_go_and_nothing_leaks() {
    let running = start();
    let handles: Vec<_> = (0..8)
        .map(|id| running.create(id, if id < 4 { &[] } else { &[0, 1] }))
        .collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let handles = &handles;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut held = Vec::new();
                for _ in 0..20_000 {
                    let collection = &handles[random.usize(..handles.len())];
                    match random.u8(..8) {
                        0..3 => held.push(collection.acquire().unwrap()),
                        3 if !held.is_empty() => {
                            let at = random.usize(..held.len());
                            let clone = held[at].try_clone().unwrap();
                            held.push(clone);
                        }
                        4 if !held.is_empty() => {
                            let at = random.usize(..held.len());
                            let to = held[at].since().frontier().elements()[0] + random.u64(..5);
                            held[at].downgrade(Since::at(to)).unwrap();
                        }
                        _ if !held.is_empty() => {
                            let hold = held.swap_remove(random.usize(..held.len()));
                            assert!(hold.since().can_read(&u64::MAX));
                        }
                        _ => {}
                    }
                    if held.len() > 50 {
                        held.clear();
                    }
                }
            });
        }
        for upper in 1..500 {
            let uppers = handles
                .iter()
                .map(|each| (each.key(), Upper::at(upper)))
                .collect();
            running.client.report(uppers).wait().unwrap();
        }
    });
    for (id, collection) in handles.iter().enumerate() {
        let past = collection.wait_for_since_past([497]).wait_timeout(BOUND);
        past.unwrap_or_else(|_| panic!("{}", running.client.explain(id as u64).wait().unwrap()))
            .unwrap();
    }
    running.stop();
}
