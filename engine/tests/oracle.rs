//! The state machine by chance, against the plain truth that recomputes everything after every turn.
//!
//! What is done is a script: should a seed fail, the script is printed. It can be repeated with
//! `LOWWATER_SEED=<seed>`, or kept under `scripts/`, as far as it matters.
//! `LOWWATER_SEEDS=<count>` runs more of them.

use std::any::Any;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use timely::order::Product;

mod chance;
mod model;

use chance::{Chance, ChanceTime, Shape};
use model::World;

/// How many seeds run unless the environment says otherwise, for each kind of time.
const SEEDS: u64 = 150;

/// How many turns a seed has.
const TURNS: usize = 150;

#[test]
fn what_happens_by_chance_to_numbers_is_what_the_truth_says() {
    for seed in seeds() {
        run::<u64>(seed);
    }
}

#[test]
fn what_happens_by_chance_to_pairs_is_what_the_truth_says() {
    for seed in seeds() {
        run::<Product<u64, u64>>(seed);
    }
}

#[test]
fn the_same_seed_twice_has_the_same_effects() {
    for seed in seeds().take(20) {
        assert_eq!(run::<u64>(seed), run::<u64>(seed), "seed {seed}");
        let pairs = run::<Product<u64, u64>>;
        assert_eq!(pairs(seed), pairs(seed), "seed {seed}");
    }
    let first = seeds().start;
    assert_ne!(
        run::<u64>(first),
        run::<u64>(first + 1),
        "chance has no choice"
    );
}

#[test]
fn what_is_done_by_chance_is_a_script() {
    fn again<T: ChanceTime>(seed: u64) {
        let mut chance = Chance::<T>::new(seed, Shape::Any);
        (0..TURNS).for_each(|_| chance.turn());
        let mut world = World::<T>::new();
        chance.trace().lines().for_each(|line| world.line(line));
        assert_eq!(world.log, chance.world.log, "seed {seed}");
    }
    for seed in seeds().take(3) {
        again::<u64>(seed);
        again::<Product<u64, u64>>(seed);
    }
}

fn seeds() -> Range<u64> {
    let number = |name| {
        env::var(name)
            .ok()
            .map(|seed| seed.parse().expect("a number"))
    };
    match number("LOWWATER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LOWWATER_SEEDS").unwrap_or(SEEDS),
    }
}

/// Runs one seed, and gives every effect that it had.
fn run<T: ChanceTime>(seed: u64) -> String {
    let shape = match seed % 5 {
        0 => Shape::Chain,
        1 => Shape::FanOut,
        2 => Shape::Diamonds,
        _ => Shape::Any,
    };
    let mut chance = Chance::<T>::new(seed, shape);
    let done = catch_unwind(AssertUnwindSafe(|| {
        (0..TURNS).for_each(|_| chance.turn());
        chance.world.finish();
    }));
    if let Err(why) = done {
        let trace = chance.trace();
        panic!(
            "LOWWATER_SEED={seed}, {shape:?}:\n{trace}\n{}",
            message(&*why)
        );
    }
    chance.world.log
}

fn message(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().cloned();
    text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| String::from("a panic without a text"))
}
