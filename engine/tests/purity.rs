//! The state machine is pure: its sources name no clock, thread, file, randomness, lock or hash
//! order. What it asks about pins it asks through a trait.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that stand for what the state machine must not touch.
const FORBIDDEN: [&str; 34] = [
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "thread",
    "thread_local",
    "fs",
    "io",
    "net",
    "env",
    "process",
    "rand",
    "fastrand",
    "RandomState",
    "HashSet",
    "parking_lot",
    "crossbeam",
    "mio",
    "papaya",
    "oneshot",
    "tracing",
    "lowwater_queue",
    "Mutex",
    "RwLock",
    "Condvar",
    "Once",
    "OnceLock",
    "LazyLock",
    "RefCell",
    "Rc",
    "Arc",
    "atomic",
    "mpsc",
    "unsafe",
    "static",
];

/// What walks a map. Maps that hash are only looked into: see `Lookup`.
const WALKS: [&str; 10] = [
    "iter",
    "iter_mut",
    "keys",
    "values",
    "values_mut",
    "into_iter",
    "into_keys",
    "into_values",
    "drain",
    "retain",
];

#[test]
fn the_sources_of_the_state_machine_name_nothing_impure() {
    for (path, source) in sources() {
        let found = impure(&source);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

#[test]
fn what_is_impure_is_found() {
    assert_eq!(impure("use std::time::{Duration, Instant};"), ["Instant"]);
    assert_eq!(
        impure("let now = std::time::SystemTime::now();"),
        ["SystemTime"]
    );
    assert_eq!(
        impure("// An Instant is not for us.\n/// Nor a thread."),
        [""; 0]
    );
    assert_eq!(
        impure("let m: HashMap<u8, u8> = HashMap::new();"),
        ["HashMap without its hasher"]
    );
    let lookup = "struct A { names: Lookup<u8, u8>, rest: u8 }\nfn f(a: &A) { a.names";
    assert_eq!(
        impure(&format!("{lookup}.get(&1); a.rest.iter(); }}")),
        [""; 0]
    );
    assert_eq!(impure(&format!("{lookup}.values(); }}")), ["names.values"]);
    assert_eq!(
        impure(&format!("{lookup}\n    .retain(|_, _| true); }}")),
        ["names.retain"]
    );
    let bound = "let mut names = Lookup::default(); for";
    assert_eq!(
        impure(&format!("{bound} name in &names {{}}")),
        ["in names"]
    );
}

/// `state.rs` and all in `state/`.
fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folder = fs::read_dir(src.join("state")).expect("the folder of the state machine");
    let mut paths: Vec<_> = folder
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(paths.len() >= 5, "the state machine is elsewhere");
    paths.push(src.join("state.rs"));
    let read = |path: PathBuf| {
        let source = fs::read_to_string(&path).expect("a source is a text");
        (path, source)
    };
    paths.into_iter().map(read).collect()
}

/// What of a source is impure, without its comments and tests.
fn impure(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let words = words(&code);
    let mut found: Vec<String> = FORBIDDEN
        .iter()
        .filter(|forbidden| words.contains(forbidden))
        .map(|forbidden| (*forbidden).to_owned())
        .collect();
    let flat: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.contains(&"HashMap") && !flat.contains("FixedState>") {
        found.push(String::from("HashMap without its hasher"));
    }
    found.extend(walked(&flat));
    found
}

/// Walks over what is a `Lookup` in this source.
fn walked(flat: &str) -> Vec<String> {
    let mut found = Vec::new();
    let tight = flat.replace(" .", ".");
    for name in lookups(flat) {
        let walks = WALKS.iter().map(|walk| format!("{name}.{walk}"));
        found.extend(walks.filter(|walk| tight.contains(&format!("{walk}("))));
        let into = [
            format!(" in {name} "),
            format!(" in &{name} "),
            format!(" in &mut {name} "),
        ];
        if into.iter().any(|into| tight.contains(into)) {
            found.push(format!("in {name}"));
        }
    }
    found
}

/// The names of fields, parameters and variables that are `Lookup`s; those of `State` everywhere.
fn lookups(flat: &str) -> Vec<&str> {
    let mut names = vec!["by_id", "by_shard"];
    for (at, _) in flat.match_indices("Lookup") {
        let before = flat[..at].trim_end_matches(['&', ' ']);
        let before = before
            .strip_suffix("mut")
            .unwrap_or(before)
            .trim_end_matches(['&', ' ']);
        let Some(before) = before.strip_suffix([':', '=']) else {
            continue;
        };
        let name = words(before).last().copied();
        names.extend(name.filter(|name| name.starts_with(char::is_lowercase)));
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn words(code: &str) -> Vec<&str> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.split(|letter| !is_word(letter))
        .filter(|word| !word.is_empty())
        .collect()
}
