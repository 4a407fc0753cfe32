//! The program and its database: what it makes there, what it needs there, and when it is away.

#![allow(clippy::unwrap_used, reason = "in a test it is how one fails")]
#![allow(clippy::print_stderr, reason = "people are told")]

#[path = "killed/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use server::Server;

fn controller(args: &[&str], store: &str, blobs: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controller"));
    command.args(args).args(["--store", store, "--blobs"]);
    command.arg(blobs);
    command
}

fn ask(store: &str, blobs: &Path) -> Output {
    let mut asked = controller(&["ask", "--at", "700"], store, blobs);
    asked.output().unwrap()
}

/// It has found nothing to work on, and has said so in one line.
fn is_refused(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn ends_well(output: &Output) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
}

const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'lowwater%'";

#[test]
fn who_only_reads_makes_nothing_in_a_database_and_needs_no_right_to() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (blobs, store) = (
        folder.path().join("blobs"),
        server.address("postgres", "postgres"),
    );
    is_refused(&ask(&store, &blobs));
    assert_eq!(server.sql(TABLES), "0");
    assert!(!blobs.exists());

    // Whoever follows waits, for the tables and for the folder.
    let mut follower = controller(&["--read-only", "--days", "1"], &store, &blobs);
    let follower = follower.stderr(Stdio::piped()).spawn().unwrap();
    let replayed = controller(&["--days", "1", "--readers", "1"], &store, &blobs);
    ends_well(&{ replayed }.output().unwrap());
    ends_well(&follower.wait_with_output().unwrap());

    server.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    let reader = server.address("reader", "postgres");
    let answered = ask(&reader, &blobs);
    ends_well(&answered);
    assert_eq!(answered.stdout, ask(&store, &blobs).stdout);

    let misspelt = folder.path().join("bolbs");
    let said = is_refused(&ask(&store, &misspelt));
    assert!(said.contains("bolbs"), "{said}");
    assert!(!misspelt.exists());
}

#[test]
fn what_is_misspelt_leaves_nothing_behind() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    let replay = |store: &str, blobs: &Path| {
        let mut replay = controller(&["--days", "1"], store, blobs);
        is_refused(&replay.output().unwrap())
    };
    let said = replay(&server.address("postgres", "progress"), &blobs);
    assert!(said.contains("progress"), "{said}");
    assert!(!blobs.exists());
    replay(
        &server.address("postgres", "postgres"),
        Path::new("/dev/null/blobs"),
    );
    assert_eq!(server.sql(TABLES), "0");
}

#[test]
fn a_database_that_is_away_while_its_store_is_opened_is_waited_for() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (blobs, store) = (
        folder.path().join("blobs"),
        server.address("postgres", "postgres"),
    );
    server.kill();
    let mut replay = controller(&["--days", "1", "--readers", "1"], &store, &blobs);
    let replay = replay.stderr(Stdio::piped()).spawn().unwrap();
    server.start_again();
    ends_well(&replay.wait_with_output().unwrap());
    ends_well(&ask(&store, &blobs));
}
