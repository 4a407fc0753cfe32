//! What was acknowledged survives a power loss, whenever it comes.
//!
//! This test starts itself again, as a process that writes, under `strace`. From what that wrote
//! down it knows each change of the disk, each sync, and each acknowledgement, in order; at many
//! moments it builds the disk as a power loss may leave it: what was synced is there, the rest is
//! kept, lost or torn, by seed. Then it opens the store there, and looks.

#[path = "power_loss/book.rs"]
mod book;
#[path = "power_loss/disk.rs"]
mod disk;
#[path = "power_loss/file.rs"]
mod file;
#[path = "power_loss/luck.rs"]
mod luck;
#[path = "power_loss/records.rs"]
mod records;
#[path = "power_loss/strace.rs"]
mod strace;

use std::env;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use book::{Book, Pen};
use disk::{Did, Disk};
use luck::{How, Luck};
use strace::{Moment, Trace};

const WORK: &str = "LOWWATER_TEST_POWER_LOSS";
const SEED: u64 = 1;

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

/// What the process does that is started.
#[test]
fn worker() {
    let Ok(work) = env::var(WORK) else {
        return;
    };
    let folder = PathBuf::from(env::var("LOWWATER_TEST_FOLDER").unwrap());
    let (disk, pen) = (folder.join("disk"), Pen::new(&folder.join("book")));
    match work.split_once(' ') {
        None => records::write(&disk, pen),
        Some(("synchronous", level)) => records::write_past_the_store(level, &disk, &pen),
        Some(_) => panic!("{work} is not known"),
    }
}

/// What a process did, and where.
struct Recording {
    folder: TempDir,
    trace: Trace,
}

impl Recording {
    fn new(work: &str) -> Self {
        // In memory if possible: it is for us to say what survives.
        let folder = TempDir::new_in("/dev/shm")
            .or_else(|_| TempDir::new())
            .unwrap();
        fs::create_dir(folder.path().join("disk")).unwrap();
        let mut process = Command::new(env::current_exe().unwrap());
        process
            .args(["worker", "--exact", "--nocapture"])
            .env(WORK, work)
            .env("LOWWATER_TEST_FOLDER", folder.path());
        let trace = strace::run(&process, &folder.path().join("log"));
        Recording { folder, trace }
    }

    /// Loses the power at many moments. Gives what `check` finds, and how often it has looked.
    fn lose_power(
        &self,
        one_in: u64,
        check: impl Fn(&Path, &Book) -> Result<(), Finding>,
    ) -> (Vec<Finding>, usize) {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut disk = Disk::new(&self.folder.path().join("disk"));
        let mut book = Book::default();
        let (mut findings, mut images) = (Vec::new(), 0);
        for moment in &self.trace.moments {
            let told = book.told;
            self.read_book(*moment, &mut book);
            let did = disk.follow(&self.trace, *moment);
            for how in losses(did, book.told > told, one_in, &mut random) {
                // A name of its own: threads of the store before may still be closing it.
                let image = self.folder.path().join(format!("image {images}"));
                fs::create_dir(&image).unwrap();
                let seed = random.u64(..);
                disk.lose_power(&mut Luck::new(how, seed), &image);
                if let Err(finding) = check(&image, &book) {
                    eprintln!("{moment:?}, {did:?}, {how:?}, seed {seed}: {finding:?}");
                    findings.push(finding);
                }
                fs::remove_dir_all(&image).unwrap();
                images += 1;
            }
        }
        (findings, images)
    }

    fn read_book(&self, moment: Moment, book: &mut Book) {
        let Moment::Began(call) = moment else {
            return;
        };
        let call = &self.trace.calls[call];
        let path = self.folder.path().join("book");
        if call.name == "write" && call.path_of_file(0) == Some(path) {
            book.read(std::str::from_utf8(&call.bytes(1)).unwrap());
        }
    }
}

/// How to lose the power at a moment: at each where something is decided, and at some others.
fn losses(did: Did, has_told: bool, one_in: u64, random: &mut fastrand::Rng) -> Vec<How> {
    let is_chosen = random.u64(0..one_in) == 0;
    match did {
        Did::Nothing if has_told => vec![How::Nothing, How::Torn],
        Did::Nothing => Vec::new(),
        Did::Wrote if is_chosen => vec![How::Torn],
        Did::Wrote => Vec::new(),
        Did::Named => vec![How::Nothing, How::Torn, How::Everything],
        Did::BeganToSync => vec![How::Torn, How::Everything],
        Did::Synced => vec![How::Nothing],
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
    let recording = Recording::new("records");
    let began = std::time::Instant::now();
    let (findings, images) = recording.lose_power(20, |image, book| {
        records::check(image, book)?;
        records::check_file(image)
    });
    eprintln!("{images} images, {:?}", began.elapsed());
    assert_eq!(findings, []);
}

/// This test can fail.
#[test]
fn records_that_were_not_synced_are_found_to_be_lost() {
    if !strace::is_there() {
        return;
    }
    for (level, is_lost) in [("FULL", false), ("NORMAL", true), ("OFF", true)] {
        let recording = Recording::new(&format!("synchronous {level}"));
        let (findings, _) = recording.lose_power(100, records::check);
        let lost = findings
            .iter()
            .any(|finding| matches!(finding, Finding::Lost(_)));
        assert_eq!(lost, is_lost, "{level}: {findings:?}");
    }
}
