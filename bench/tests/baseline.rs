//! The yardstick must do the job right, or its figures mean nothing.

use std::collections::BTreeMap;

use lowwater_bench::baseline::Baseline;
use lowwater_bench::baseline::background::Background;
use lowwater_bench::baseline::collections::{Description, Policy, Refused};
use lowwater_bench::baseline::hold::Hold;
use lowwater_bench::workload::{self, LAG, Node};
use timely::progress::Antichain;

fn describe(nodes: impl Iterator<Item = Node>) -> Vec<Description> {
    nodes
        .map(|Node { id, dependencies }| Description {
            id,
            policy: Policy::Lag(LAG),
            dependencies,
        })
        .collect()
}

fn of_forest(len: u64) -> (Baseline, Background) {
    let (baseline, background) = Baseline::new();
    baseline
        .create(describe(workload::forest(len)))
        .expect("a forest can be created");
    (baseline, background)
}

fn tick(baseline: &Baseline, background: &mut Background, len: u64, upper: u64) {
    let mut answer = baseline.report_uppers((0..len).map(|id| (id, upper)).collect());
    background.turn();
    answer.try_recv().expect("the background has been turned");
}

fn at(time: u64) -> Antichain<u64> {
    Antichain::from_elem(time)
}

#[test]
fn a_tick_moves_every_since_to_the_lag_behind_its_upper() {
    let (baseline, mut background) = of_forest(100);
    tick(&baseline, &mut background, 100, 50);
    for id in 0..100 {
        let frontiers = baseline.frontiers(id).unwrap();
        assert_eq!(frontiers.upper, at(50));
        assert_eq!(frontiers.implied, at(50 - LAG));
        assert_eq!(frontiers.since, at(50 - LAG));
    }
}

#[test]
fn a_hold_keeps_since_until_it_is_dropped() {
    let (baseline, mut background) = of_forest(10);
    let hold = baseline.acquire(3).unwrap();
    tick(&baseline, &mut background, 10, 50);
    assert_eq!(baseline.since(3), at(0));
    assert_eq!(
        baseline.since(0),
        at(0),
        "its dependency keeps what it needs"
    );
    assert_eq!(baseline.since(4), at(50 - LAG));
    drop(hold);
    background.turn();
    assert_eq!(baseline.since(3), at(50 - LAG));
    assert_eq!(baseline.since(0), at(50 - LAG));
}

#[test]
fn a_hold_that_is_moved_lets_go_of_what_lies_before() {
    let (baseline, mut background) = of_forest(1);
    let mut hold = baseline.acquire(0).unwrap();
    tick(&baseline, &mut background, 1, 50);
    assert!(hold.downgrade(7));
    assert!(!hold.downgrade(6));
    background.turn();
    assert_eq!(baseline.since(0), at(7));
}

#[test]
fn a_clone_holds_after_the_original_is_dropped() {
    let (baseline, mut background) = of_forest(1);
    let hold = baseline.acquire(0).unwrap();
    let clone = hold.clone();
    drop(hold);
    tick(&baseline, &mut background, 1, 50);
    assert_eq!(baseline.since(0), at(0));
    drop(clone);
    background.turn();
    assert_eq!(baseline.since(0), at(50 - LAG));
}

#[test]
fn a_dropped_collection_lives_while_it_is_held_and_takes_no_new_holds() {
    let (baseline, mut background) = of_forest(1);
    let hold = baseline.acquire(0).unwrap();
    drop(baseline.drop_collections(vec![0]));
    background.turn();
    assert_eq!(baseline.since(0), at(0));
    assert_eq!(baseline.acquire(0).err(), Some(Refused::Dropped(0)));
    drop(hold);
    background.turn();
    assert_eq!(baseline.frontiers(0), None);
    assert_eq!(baseline.acquire(0).err(), Some(Refused::Unknown(0)));
}

#[test]
fn a_refused_batch_creates_nothing() {
    let (baseline, _background) = of_forest(10);
    let mut batch = describe(workload::chain(20).skip(10));
    batch[9].dependencies.push(77);
    assert_eq!(baseline.create(batch), Err(Refused::Unknown(77)));
    assert_eq!(baseline.frontiers(10), None);
    assert_eq!(
        baseline.create(describe(workload::chain(1))),
        Err(Refused::Exists(0))
    );
}

#[test]
fn a_hold_before_since_is_refused() {
    let (baseline, mut background) = of_forest(1);
    tick(&baseline, &mut background, 1, 50);
    assert_eq!(
        baseline.acquire_at(0, 50 - LAG - 1).err(),
        Some(Refused::TooEarly(0))
    );
    assert_eq!(
        baseline.acquire_at(0, 50 - LAG).unwrap().since(),
        &at(50 - LAG)
    );
}

#[test]
fn a_collection_starts_where_what_it_depends_on_can_be_read() {
    let (baseline, mut background) = of_forest(1);
    tick(&baseline, &mut background, 1, 50);
    baseline
        .create(describe(workload::chain(2).skip(1)))
        .unwrap();
    assert_eq!(baseline.since(1), at(50 - LAG));
    assert_eq!(baseline.since(0), at(50 - LAG));
}

#[test]
fn an_upper_does_not_go_back() {
    let (baseline, mut background) = of_forest(1);
    tick(&baseline, &mut background, 1, 50);
    tick(&baseline, &mut background, 1, 40);
    assert_eq!(baseline.frontiers(0).unwrap().upper, at(50));
}

#[test]
fn a_background_that_runs_answers() {
    let (baseline, background) = of_forest(10);
    let running = background.spawn();
    let hold = baseline.acquire(3).unwrap();
    baseline
        .report_uppers(vec![(3, 50)])
        .blocking_recv()
        .unwrap();
    assert_eq!(baseline.since(3), at(0));
    drop(hold);
    running.stop();
    assert!(baseline.report_uppers(vec![]).blocking_recv().is_err());
}

/// Collection 3 is held at 0 by nobody any more, but the background has not heard of it yet.
fn with_a_release_on_its_way() -> (Baseline, Background) {
    let (baseline, mut background) = of_forest(10);
    let hold = baseline.acquire(3).expect("it has been created");
    tick(&baseline, &mut background, 10, 50);
    drop(hold);
    assert_eq!(baseline.since(3), at(0));
    (baseline, background)
}

/// The background looks at its channels in random order, so once is not enough to see a mistake.
const TIMES: usize = 20;

#[test]
fn what_is_settled_has_been_applied() {
    for _ in 0..TIMES {
        let (baseline, background) = with_a_release_on_its_way();
        let settled = baseline.settle();
        let _running = background.spawn();
        settled.blocking_recv().unwrap();
        assert_eq!(baseline.since(3), at(50 - LAG));
    }
}

#[test]
fn a_background_that_is_stopped_applies_what_was_sent_before() {
    for _ in 0..TIMES {
        let (baseline, background) = with_a_release_on_its_way();
        assert_eq!(background.spawn().stop().len(), 0);
        assert_eq!(baseline.since(3), at(50 - LAG));
    }
}

#[test]
fn a_background_that_ticks_moves_all_uppers_alike() {
    let (baseline, background) = of_forest(10);
    let uppers = (0..10).map(|id| (id, 0)).collect();
    let running = background.spawn_ticking(Some((std::time::Duration::from_micros(100), uppers)));
    while baseline.since(0) == at(0) {
        std::thread::yield_now();
    }
    let ticks = running.stop().len();
    assert!((0..10).all(|id| baseline.frontiers(id).unwrap().upper == at(ticks)));
}

/// Every since, recomputed from what is held, from the last collection to the first.
fn oracle(
    nodes: &[Node],
    implied: &BTreeMap<u64, Antichain<u64>>,
    holds: &[(u64, Hold)],
) -> BTreeMap<u64, Antichain<u64>> {
    let mut sinces: BTreeMap<u64, Antichain<u64>> = BTreeMap::new();
    for node in nodes.iter().rev() {
        let mut since = implied[&node.id].clone();
        for (_, hold) in holds.iter().filter(|(id, _)| *id == node.id) {
            since.extend(hold.since().iter().copied());
        }
        for dependent in nodes
            .iter()
            .filter(|other| other.dependencies.contains(&node.id))
        {
            since.extend(sinces[&dependent.id].iter().copied());
        }
        sinces.insert(node.id, since);
    }
    sinces
}

#[test]
fn random_commands_leave_every_since_where_a_recount_puts_it() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let len = 12;
        let nodes: Vec<Node> = match seed % 4 {
            0 => workload::forest(len).collect(),
            1 => workload::chain(len).collect(),
            2 => workload::fan_out(len).collect(),
            _ => workload::diamonds(len).collect(),
        };
        let (baseline, mut background) = Baseline::new();
        baseline.create(describe(nodes.iter().cloned())).unwrap();
        let mut holds: Vec<(u64, Hold)> = Vec::new();
        let mut uppers = vec![0; nodes.len()];
        let mut dropped = vec![false; nodes.len()];
        for _ in 0..200 {
            let id = random.u64(0..len);
            let at = usize::try_from(id).unwrap();
            match random.u32(0..100) {
                0..35 => {
                    uppers[at] += random.u64(0..20);
                    drop(baseline.report_uppers(vec![(id, uppers[at])]));
                }
                35..60 => match baseline.acquire(id) {
                    Ok(hold) => holds.push((id, hold)),
                    Err(refused) => assert!(dropped[at], "{refused:?}"),
                },
                60..75 if !holds.is_empty() => {
                    drop(holds.swap_remove(random.usize(0..holds.len())));
                }
                75..88 if !holds.is_empty() => {
                    let (_, hold) = random.choice(&mut holds).unwrap();
                    let time = hold.since().elements()[0] + random.u64(0..10);
                    assert!(hold.downgrade(time));
                }
                88..98 if !holds.is_empty() => {
                    let clone = holds[random.usize(0..holds.len())].clone();
                    holds.push(clone);
                }
                98.. => {
                    dropped[at] = true;
                    drop(baseline.drop_collections(vec![id]));
                }
                _ => {}
            }
            background.turn();
            let implied = (0..len)
                .map(|id| {
                    let upper = uppers[usize::try_from(id).unwrap()];
                    let gone = dropped[usize::try_from(id).unwrap()];
                    let kept = if gone {
                        Antichain::new()
                    } else {
                        at_lag(upper)
                    };
                    (id, kept)
                })
                .collect();
            for (id, since) in oracle(&nodes, &implied, &holds) {
                let actual = baseline
                    .frontiers(id)
                    .map_or_else(Antichain::new, |frontiers| frontiers.since);
                assert_eq!(actual, since, "collection {id}, seed {seed}");
            }
        }
    }
}

fn at_lag(upper: u64) -> Antichain<u64> {
    at(upper.saturating_sub(LAG))
}
