//! The program on a store that was there before, and what is left of it.

#![allow(clippy::unwrap_used, reason = "in a test it is how one fails")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

fn controller(args: &[&str], store: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_controller"))
        .args(args)
        .arg("--store")
        .arg(store)
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn ask(store: &Path, minute: &str) -> (i32, Value) {
    let output = controller(&["ask", "--at", minute], store);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (code(&output), answer)
}

/// A folder in which a store is, or will be.
fn store() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    (folder, store)
}

/// The number in the line that begins with `name`.
fn figure(summary: &str, name: &str) -> u64 {
    let line = summary.lines().find(|line| line.starts_with(name)).unwrap();
    let number = line.split_whitespace().last().unwrap();
    number.replace(',', "").parse().unwrap()
}

#[test]
fn without_a_store_a_fresh_folder_is_made_named_and_left_behind_for_its_owner_alone() {
    let among = tempfile::tempdir().unwrap();
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args(["--days", "1", "--readers", "1"])
            .env("TMPDIR", among.path())
            .output()
            .unwrap();
        let said = err(&output);
        assert_eq!(code(&output), 0, "{said}");
        let named = said
            .lines()
            .next()
            .unwrap()
            .strip_prefix("The store is in ");
        std::path::PathBuf::from(named.unwrap())
    };
    let (one, other) = (run(), run());
    assert_ne!(one, other);
    for folder in [one, other] {
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(ask(&folder, "700").0, 0);
    }
}

#[test]
fn a_replay_goes_on_where_the_last_one_ended() {
    let (_folder, store) = store();
    for days in 1..=3 {
        let output = controller(&["--days", &days.to_string()], &store);
        let summary = err(&output);
        assert_eq!(code(&output), 0, "{summary}");
        assert_eq!(figure(&summary, "ticks"), 96, "{summary}");
        assert_eq!(figure(&summary, "wrong readings"), 0);
        assert!(figure(&summary, "  from shards") > 0, "{summary}");
    }
    let probe = ["--days", "7", "--probe", "10000", "--probe", "3000"];
    let output = controller(&probe, &store);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let probes: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(probes[0]["minute"], 3000);
    assert_eq!(probes[0]["since_before_release"], 3000);
    assert_eq!(
        probes[1]["airborne"],
        json!({"EWR": 26, "JFK": 42, "LGA": 8})
    );
    let united = json!({"flights": 181, "dep_delay": 2034});
    assert_eq!(
        probes[1]["departure_delay"]["United Air Lines Inc."],
        united
    );
    assert_eq!(probes[1]["since_after_release"], 6 * 1440);
}

#[test]
fn a_store_that_is_beyond_says_so_and_what_it_has_forgotten_cannot_be_probed() {
    let (_folder, store) = store();
    assert_eq!(code(&controller(&["--days", "3"], &store)), 0);
    for days in ["1", "3"] {
        let output = controller(&["--days", days], &store);
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(
            err(&output).contains("The store is at minute 4320"),
            "{}",
            err(&output)
        );
    }
    let forgotten = controller(&["--days", "4", "--probe", "2879"], &store);
    assert_eq!(code(&forgotten), 2);
    assert_eq!(err(&forgotten).lines().count(), 1, "{}", err(&forgotten));
    assert!(err(&forgotten).contains("2879"), "{}", err(&forgotten));
    let kept = controller(&["--days", "3", "--probe", "2880"], &store);
    assert_eq!(code(&kept), 0, "{}", err(&kept));
    let probe: Value = serde_json::from_slice(&kept.stdout).unwrap();
    assert_eq!(probe["minute"], 2880);
}

#[test]
fn what_is_asked_is_answered_inside_the_window_and_refused_outside() {
    let (_folder, store) = store();
    let run = controller(
        &["--days", "8", "--probe", "10000", "--readers", "0"],
        &store,
    );
    assert_eq!(code(&run), 0, "{}", err(&run));
    let probe: Value = serde_json::from_slice(&run.stdout).unwrap();
    // The probe held back what the shards could forget; now it is gone.
    let (since, upper) = (7 * 1440, 8 * 1440);
    let window = |minute: u64, refused: &str| json!({"minute": minute, "refused": refused, "since": since, "upper": upper});
    assert_eq!(ask(&store, "10000"), (3, window(10_000, "before since")));
    assert_eq!(ask(&store, "10079"), (3, window(10_079, "before since")));
    assert_eq!(ask(&store, "11520"), (3, window(11_520, "not yet written")));
    let (code, answer) = ask(&store, "10080");
    assert_eq!(
        (code, &answer["minute"], &answer["since"]),
        (0, &json!(10_080), &json!(since))
    );
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&probe["departure_delay"]),
        names(&answer["departure_delay"])
    );
}

#[test]
fn what_is_asked_is_never_made() {
    let (_folder, store) = store();
    let output = controller(&["ask", "--at", "7"], &store);
    assert_eq!(code(&output), 2);
    assert!(output.stdout.is_empty());
    assert!(!store.exists());
    fs::create_dir(&store).unwrap();
    assert_eq!(ask(&store, "7").0, 2);
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
}

#[test]
fn a_controller_whose_store_is_taken_over_says_so_and_ends() {
    let (_folder, store) = store();
    let mut old = Command::new(env!("CARGO_BIN_EXE_controller"));
    old.args(["--days", "365", "--readers", "0", "--store"]);
    let mut old = old.arg(&store).stderr(Stdio::piped()).spawn().unwrap();
    let has_written = || match ask(&store, "0") {
        (0, _) => true,
        (_, answer) => answer["refused"] == "before since",
    };
    while !has_written() && old.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(20));
    }
    // What becomes of this one does not matter here: the old one still writes the same as it does.
    drop(controller(&["--days", "1", "--readers", "0"], &store));
    let old = old.wait_with_output().unwrap();
    assert_eq!(code(&old), 4, "{}", err(&old));
    assert_eq!(err(&old).lines().count(), 1, "{}", err(&old));
    assert!(err(&old).contains("has taken over"), "{}", err(&old));
}

#[test]
fn of_controllers_that_start_at_once_all_but_the_last_say_that_they_were_replaced() {
    for _ in 0..3 {
        let (_folder, store) = store();
        let start = |_| {
            let mut one = Command::new(env!("CARGO_BIN_EXE_controller"));
            one.args(["--days", "1", "--readers", "0", "--step", "60", "--store"]);
            one.arg(&store).stderr(Stdio::piped()).spawn().unwrap()
        };
        let started: Vec<_> = (0..4).map(start).collect();
        let mut good = 0;
        for one in started {
            let one = one.wait_with_output().unwrap();
            match code(&one) {
                0 => good += 1,
                4 => assert!(err(&one).contains("has taken over"), "{}", err(&one)),
                code => panic!("{code}: {}", err(&one)),
            }
        }
        assert!(good > 0);
    }
}

#[test]
fn a_store_shrinks_to_a_tenth_of_what_was_written_to_it() {
    let (_folder, store) = store();
    let output = controller(&["--days", "16", "--readers", "1"], &store);
    let summary = err(&output);
    assert_eq!(code(&output), 0, "{summary}");
    let written = figure(&summary, "bytes written");
    assert!(
        figure(&summary, "bytes held at most") < written / 2,
        "{summary}"
    );
    assert!(
        figure(&summary, "bytes on disk") <= written / 10,
        "{summary}"
    );
    assert_eq!(figure(&summary, "bytes on disk"), on_disk(&store));
}

/// What `du` would say.
fn on_disk(path: &Path) -> u64 {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            bytes += on_disk(&entry.unwrap().path());
        }
    }
    bytes
}
