//! Scripts of the state machine: one file per lesson and per rule, named after it.
//!
//! Each file in `scripts/numbers` runs with `u64` times, each in `scripts/pairs` with partially
//! ordered ones. After every line all is compared with the plain truth, and at the end everybody
//! lets go and nothing may be left.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use timely::order::Product;

mod model;

use model::{TestTime, World};

#[test]
fn the_scripts_of_numbers_hold() {
    check::<u64>("numbers", 50);
}

#[test]
fn the_scripts_of_pairs_hold() {
    check::<Product<u64, u64>>("pairs", 12);
}

#[test]
fn a_script_that_expects_what_is_not_so_fails() {
    let failed = |script: &str| run::<u64>(script).is_err_and(|why| why.contains("line 2"));
    assert!(failed("create a\nexpect a since 1"));
    assert!(failed("create a\ndrop b"));
    assert!(failed("create a\ndrop a => UnknownCollection(a)"));
    assert!(failed("create a\nexpect a sins 0"));
    assert!(failed("create a\nforget a"));
}

#[test]
fn a_hold_that_is_released_twice_is_a_mistake_that_is_seen() {
    let once = "create a valid:5\nacquire h a 7\nrelease h\n";
    assert_eq!(run::<u64>(once), Ok(()));
    let twice = format!("{once}stray a! 7");
    let why = run::<u64>(&twice).unwrap_err();
    assert!(why.contains("1 released at 7, where 0 were held"), "{why}");
}

#[test]
fn a_hold_that_nobody_can_have_is_a_mistake_that_is_seen() {
    let early = run::<u64>("create a valid:5\nforge a 3").unwrap_err();
    assert!(early.contains("a hold moved to {3}"), "{early}");
    let late = run::<u64>("create a valid:5\ndrop a\nforge a 7").unwrap_err();
    assert!(late.contains("which is gone, moved"), "{late}");
    let leaked = run::<u64>("create a valid:5\nforge a 7").unwrap_err();
    assert!(leaked.contains("the capabilities of a"), "{leaked}");
}

fn check<T: TestTime>(folder: &str, at_least: usize) {
    let scripts = scripts(folder);
    assert!(
        scripts.len() >= at_least,
        "scripts are missing: {scripts:?}"
    );
    let mut failures = Vec::new();
    for path in scripts {
        let script = fs::read_to_string(&path).expect("a script is a text");
        if let Err(why) = run::<T>(&script) {
            failures.push(format!("{}: {why}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn run<T: TestTime>(script: &str) -> Result<(), String> {
    let mut world = World::<T>::new();
    for (at, line) in script.lines().enumerate() {
        let done = catch_unwind(AssertUnwindSafe(|| world.line(line)));
        done.map_err(|why| format!("line {}: {line}: {}", at + 1, message(&*why)))?;
    }
    let done = catch_unwind(AssertUnwindSafe(|| world.finish()));
    done.map_err(|why| format!("at the end: {}", message(&*why)))
}

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(folder);
    let entries = fs::read_dir(folder).expect("the folder of scripts");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn message(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().cloned();
    text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| String::from("a panic without a text"))
}
