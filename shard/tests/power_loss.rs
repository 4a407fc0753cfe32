//! What was acknowledged survives a power loss, whenever it comes.
//!
//! This test starts itself again, as a process that writes, under `strace`. From what that wrote
//! down it knows each change of the disk, each sync, and each acknowledgement, in order; at many
//! moments it builds the disk as a power loss may leave it: what was synced is there, the rest is
//! kept, lost or torn, by seed. Then it opens the store there, and looks.

#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]
#![expect(clippy::print_stderr, reason = "people are told what is missing")]

mod power_loss {
    pub(crate) mod machine;
    pub(crate) mod strace;
    pub(crate) mod disk;
    pub(crate) mod file;
    pub(crate) mod luck;
    pub(crate) mod book;
    pub(crate) mod records;
    pub(crate) mod parts;
}

use std::env;
use std::future::Future;
use std::path::{Path, PathBuf};

use power_loss::book::{Book, Pen};
use power_loss::machine::{self, Machine, Recording};
use power_loss::parts::{self, Care};
use power_loss::{records, strace};

/// Something that must not be after a power loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It was acknowledged.
    Lost(String),
    /// It is not what was written.
    Wrong(String),
    NeverAsked(String),
    Unreadable(String),
}

impl Finding {
    fn is_loss(&self) -> bool {
        matches!(self, Finding::Lost(_))
    }
}

/// What the process does that is started.
#[test]
fn worker() {
    let Ok(work) = env::var(machine::WORK) else {
        return;
    };
    let folder = PathBuf::from(env::var(machine::FOLDER).unwrap());
    let (disk, pen) = (folder.join("disk"), Pen::new(&folder.join("book")));
    match work.split_once(' ') {
        Some(("records", "write")) => records::write(&disk, pen),
        Some(("records", "read")) => records::read(&disk, &pen),
        Some(("records", level)) => records::write_past_the_store(level, &disk, &pen),
        Some(("parts", "write")) => parts::write(Care::FolderToo, 0, &disk, pen),
        Some(("parts", "write more")) => parts::write(Care::FolderToo, 80, &disk, pen),
        Some(("parts", "write more carelessly")) => parts::write(Care::Synced, 80, &disk, pen),
        Some(("parts", "write without care")) => parts::write(Care::Nothing, 0, &disk, pen),
        _ => panic!("{work} is not known"),
    }
}

fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

#[test]
fn records_that_were_acknowledged_survive_a_power_loss() {
    if !strace::is_there() {
        return;
    }
    let recording = Recording::new("records write");
    // One when the store is created, one each time it is closed: so it was done between as well.
    let syncs = recording.moments_before_syncs_of("records.sqlite").len();
    assert!(syncs > 4, "the log was never moved to the file");
    assert_eq!(Machine::new().lose_power(&recording, 30, check_records), []);
}

fn check_records(disk: &Path, book: &Book) -> Result<(), Finding> {
    records::check(disk, book)?;
    // It takes long.
    let is_chosen = book.told.is_multiple_of(4);
    if is_chosen {
        records::check_file(disk)
    } else {
        Ok(())
    }
}

/// A process is killed between writing and syncing, another one reads what it has written, and
/// then the power is lost.
#[test]
fn records_that_were_read_survive_a_power_loss_whoever_has_written_them() {
    if !strace::is_there() {
        return;
    }
    let writing = Recording::new("records write");
    let syncs = writing.moments_before_syncs_of("records.sqlite-wal");
    for moment in syncs.into_iter().step_by(40) {
        let mut machine = Machine::new();
        machine.run_until(&writing, moment);
        let reading = machine.record("records read");
        assert_eq!(machine.lose_power(&reading, 1, records::check), []);
    }
}

/// A process is killed when it has created a folder, another one goes on from there, and then the
/// power is lost.
#[test]
fn a_store_survives_a_power_loss_whoever_has_created_its_folders() {
    if !strace::is_there() {
        return;
    }
    let writing = Recording::new("records FULL");
    for above in ["disk", "disk/some", "disk/some/where"] {
        let moment = writing.moments_before_syncs_of(above)[0];
        let mut machine = Machine::new();
        machine.run_until(&writing, moment);
        let more = machine.record("records FULL");
        assert_eq!(
            machine.lose_power(&more, 100, records::check),
            [],
            "{above}"
        );
    }
}

#[test]
fn parts_that_were_acknowledged_survive_a_power_loss() {
    if !strace::is_there() {
        return;
    }
    let recording = Recording::new("parts write");
    assert_eq!(Machine::new().lose_power(&recording, 4, parts::check), []);
}

#[test]
fn parts_survive_a_power_loss_whoever_has_created_their_folder() {
    if !strace::is_there() {
        return;
    }
    assert_eq!(findings_in_the_folder_of_another("parts write more"), []);
    // And this can fail.
    let findings = findings_in_the_folder_of_another("parts write more carelessly");
    assert!(findings.iter().any(Finding::is_loss), "{findings:?}");
}

/// A process is killed when it has created a shard's folder, another one writes parts to it, and
/// then the power is lost.
fn findings_in_the_folder_of_another(work: &str) -> Vec<Finding> {
    let writing = Recording::new("parts write");
    let moments = writing.moments_before_syncs_of("parts");
    let mut machine = Machine::new();
    machine.run_until(&writing, moments[0]);
    let more = machine.record(work);
    machine.lose_power(&more, 4, parts::check)
}

/// These tests can fail.
#[test]
fn what_was_not_synced_is_found_to_be_lost() {
    if !strace::is_there() {
        return;
    }
    for (work, is_lost) in [("FULL", false), ("NORMAL", true), ("OFF", true)] {
        let recording = Recording::new(&format!("records {work}"));
        let findings = Machine::new().lose_power(&recording, 100, records::check);
        assert_eq!(
            findings.iter().any(Finding::is_loss),
            is_lost,
            "{work}: {findings:?}"
        );
    }
    let recording = Recording::new("parts write without care");
    let findings = Machine::new().lose_power(&recording, 100, parts::check);
    assert!(findings.iter().any(Finding::is_loss), "{findings:?}");
}
