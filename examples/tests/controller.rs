//! The program as a user runs it.

#![allow(clippy::unwrap_used, reason = "in a test it is how one fails")]

use std::process::{Command, Output};

fn controller(args: &[&str]) -> Output {
    // Where the fresh folder of a run is made, and left behind.
    let temporary = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_controller"))
        .args(args)
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The number at the end of the line that begins with `name`.
fn figure(summary: &str, name: &str) -> u64 {
    let line = summary
        .lines()
        .find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in:\n{summary}"));
    line.split_whitespace()
        .last()
        .unwrap()
        .replace(',', "")
        .parse()
        .unwrap()
}

#[test]
fn a_few_days_end_well_and_with_a_summary() {
    let output = controller(&["--days", "3"]);
    let summary = err(&output);
    assert_eq!(code(&output), 0, "{summary}");
    assert!(output.stdout.is_empty());
    assert_eq!(figure(&summary, "ticks"), 3 * 96);
    assert!(figure(&summary, "readings checked") >= 12);
    assert!(figure(&summary, "exactly at since") > 0);
    assert_eq!(figure(&summary, "wrong readings"), 0);
    assert_eq!(figure(&summary, "airborne at the end"), 49);
    assert_eq!(
        figure(&summary, "holds taken"),
        figure(&summary, "holds dropped")
    );
    for relation in [
        "flights",
        "airlines",
        "weather",
        "airborne",
        "departure_delay",
        "airborne_in_rain",
    ] {
        assert!(summary.contains(relation), "{summary}");
    }
}

#[test]
fn without_holds_no_more_than_policies_ask_for_is_kept() {
    let output = controller(&["--days", "10", "--readers", "0"]);
    let summary = err(&output);
    let flights = summary
        .lines()
        .find(|line| line.starts_with("flights "))
        .unwrap();
    let figures: Vec<u64> = flights
        .split_whitespace()
        .skip(1)
        .take(3)
        .map(|figure| figure.replace(',', "").parse().unwrap())
        .collect();
    let [updates, kept_at_most, kept_at_end] = figures[..] else {
        panic!("{flights}")
    };
    // A day of history, and what merges have not come to yet.
    assert!(kept_at_most < updates / 3, "{summary}");
    assert!(kept_at_end < kept_at_most, "{summary}");
}

#[test]
fn probes_print_what_was_true_and_let_go_one_after_the_other() {
    let output = controller(&["--days", "8", "--probe", "10000", "--probe", "700"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let probes: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [early, late] = &probes[..] else {
        panic!("{lines}")
    };

    assert_eq!(early["minute"], 700);
    assert_eq!(early["since_before_release"], 700);
    // The other probe is still there.
    assert_eq!(early["since_after_release"], 10_000);

    assert_eq!(late["minute"], 10_000);
    assert_eq!(
        late["airborne"],
        serde_json::json!({"EWR": 26, "JFK": 42, "LGA": 8})
    );
    assert_eq!(
        late["departure_delay"]["United Air Lines Inc."],
        serde_json::json!({"flights": 181, "dep_delay": 2034})
    );
    assert_eq!(late["airborne_in_rain"], serde_json::json!({}));
    assert_eq!(late["since_before_release"], 10_000);
    assert_eq!(late["since_after_release"], 7 * 1440);
}

#[test]
fn the_fields_of_a_probe_stand_in_their_order() {
    let output = controller(&["--days", "1", "--readers", "0", "--probe", "0"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "{\"minute\":0,\"airborne\":{},\"departure_delay\":{},\"airborne_in_rain\":{},\
         \"since_before_release\":0,\"since_after_release\":0}\n"
    );
}

#[test]
fn odd_steps_and_the_longest_one_end_at_the_same_minute() {
    for (step, ticks) in [("7", 412), ("1440", 2)] {
        let output = controller(&["--days", "2", "--step", step, "--probe", "1441"]);
        let summary = err(&output);
        assert_eq!(code(&output), 0, "{summary}");
        assert_eq!(figure(&summary, "ticks"), ticks);
        let probe: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            probe["since_before_release"], 1440,
            "a later probe holds nothing earlier"
        );
        assert_eq!(probe["since_after_release"], 1440);
    }
}

#[test]
fn many_readers_and_none_at_all_end_well() {
    for readers in ["0", "1", "16"] {
        let output = controller(&["--days", "2", "--readers", readers]);
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert_eq!(
            figure(&err(&output), "readings checked") > 0,
            readers != "0"
        );
    }
}

#[test]
fn the_picture_shows_holds_that_keep_since_back() {
    let file = std::env::temp_dir().join(format!("lowwater-plot-{}.svg", std::process::id()));
    let output = controller(&["--days", "6", "--plot", file.to_str().unwrap()]);
    let svg = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(svg.matches(">hold taken<").count(), 2);
    assert_eq!(svg.matches(">released<").count(), 2);
}

#[test]
fn bad_options_and_missing_data_get_one_line_and_exit_code_2() {
    for args in [
        &["--days", "0"][..],
        &["--step", "0"],
        &["--days", "1", "--probe", "1440"],
        &["--unknown"],
        &["--data", "/nowhere"],
        &["--days", "1", "--plot", "/nowhere/plot.svg"],
        &["--days", "1", "--store", "/dev/null/store"],
        &["--days", "1", "--store", "host=here password=secret"],
        &["--blobs", "parts"],
        &["ask", "--at", "7"],
        &["ask", "--store", "/nowhere", "--at", "7"],
    ] {
        let output = controller(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(output.stdout.is_empty());
        assert_eq!(
            err(&output).lines().count(),
            1,
            "{args:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn what_looks_like_an_address_is_neither_shown_nor_made() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["--store", "postgres:/me:secret@here/this"][..],
        &["--store", "host=here password=secret"],
        &["--store", "me:secret@here"],
        &["ask", "postgres://me:secret@here/this", "--at", "7"],
        &["--metrics", "postgres://me:secret@here/this"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_controller"))
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(!err(&output).contains("secret"), "{}", err(&output));
        let made = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(made.count(), 0, "{args:?}");
    }
}

#[test]
fn help_is_given_where_it_was_asked_for_and_is_no_failure() {
    for (args, said) in [
        (&["--help"][..], "--probe"),
        (&["ask", "--help"], "--at"),
        (&["--version"], "controller 0."),
    ] {
        let output = controller(args);
        assert_eq!(code(&output), 0);
        assert!(err(&output).is_empty());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains(said), "{help}");
    }
    let help = String::from_utf8(controller(&["ask", "--help"]).stdout).unwrap();
    assert!(!help.contains("fresh folder"), "{help}");
}
