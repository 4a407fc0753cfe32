//! A machine whose power is lost while a process runs on it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::book::Book;
use super::disk::{Did, Disk};
use super::luck::{How, Luck};
use super::strace::{self, Moment, Trace};
use crate::Finding;

/// Says to a process what it is to do, and where.
pub(crate) const WORK: &str = "LOWWATER_TEST_POWER_LOSS";
pub(crate) const FOLDER: &str = "LOWWATER_TEST_POWER_LOSS_FOLDER";

const SEED: u64 = 1;

/// What a process did, in a folder: to its disk, and what it wrote in the book.
pub(crate) struct Recording {
    folder: TempDir,
    trace: Trace,
}

impl Recording {
    pub(crate) fn new(work: &str) -> Self {
        Machine::new().record(work)
    }

    /// What is written in the book at this moment.
    fn lines(&self, moment: Moment) -> Option<Vec<u8>> {
        let Moment::Began(call) = moment else {
            return None;
        };
        let call = &self.trace.calls[call];
        let path = self.folder.path().join("book");
        (call.name == "write" && call.path_of_file(0) == Some(path)).then(|| call.bytes(1))
    }

    /// The places of moments at which a file is about to be synced.
    pub(crate) fn moments_before_syncs_of(&self, file: &str) -> Vec<usize> {
        let is_sync = |moment: &Moment| match moment {
            Moment::Began(call) => {
                let call = &self.trace.calls[*call];
                call.name.ends_with("sync")
                    && call
                        .path_of_file(0)
                        .is_some_and(|path| path.ends_with(file))
            }
            Moment::Ended(_) => false,
        };
        let moments = self.trace.moments.iter().enumerate();
        moments
            .filter(|(_, moment)| is_sync(moment))
            .map(|(place, _)| place)
            .collect()
    }
}

/// A disk, and what was acknowledged about it.
pub(crate) struct Machine {
    disk: Disk,
    book: Book,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Machine {
            disk: Disk::new(),
            book: Book::default(),
        }
    }

    /// Starts a process, and records what it does. It sees all that was written before.
    pub(crate) fn record(&mut self, work: &str) -> Recording {
        // In memory if possible: it is for us to say what survives.
        let folder = TempDir::new_in("/dev/shm")
            .or_else(|_| TempDir::new())
            .unwrap();
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        self.disk
            .lose_power(&mut Luck::new(How::Everything, SEED), &disk);
        let mut process = Command::new(env::current_exe().unwrap());
        process
            .args(["worker", "--exact", "--nocapture"])
            .env(WORK, work)
            .env(FOLDER, folder.path());
        let trace = strace::run(&process);
        Recording { folder, trace }
    }

    /// Lets happen what was recorded up to a moment, at which the process is killed.
    pub(crate) fn run_until(&mut self, recording: &Recording, end: usize) {
        self.disk.mount(&recording.folder.path().join("disk"));
        for moment in &recording.trace.moments[..end] {
            self.follow(recording, *moment);
        }
    }

    /// Gives what it did, and whether something was acknowledged.
    fn follow(&mut self, recording: &Recording, moment: Moment) -> (Did, bool) {
        let told = self.book.told;
        if let Some(lines) = recording.lines(moment) {
            self.book.read(std::str::from_utf8(&lines).unwrap());
        }
        let did = self.disk.follow(&recording.trace, moment);
        (did, self.book.told > told)
    }

    /// Lets happen what was recorded, and loses the power at many moments: of those at which
    /// something is merely written, at one in so many. Gives what `check` finds.
    pub(crate) fn lose_power(
        &mut self,
        recording: &Recording,
        one_in: u64,
        check: impl Fn(&Path, &Book) -> Result<(), Finding>,
    ) -> Vec<Finding> {
        self.disk.mount(&recording.folder.path().join("disk"));
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut findings = Vec::new();
        let mut images = 0;
        for moment in &recording.trace.moments {
            let (did, was_told) = self.follow(recording, *moment);
            for how in losses(did, was_told, one_in, &mut random) {
                // A name of its own: threads of the store before may still be closing it.
                let image = recording.folder.path().join(format!("image {images}"));
                images += 1;
                fs::create_dir(&image).unwrap();
                self.disk
                    .lose_power(&mut Luck::new(how, random.u64(..)), &image);
                if let Err(finding) = check(&image, &self.book) {
                    eprintln!("{images}, {moment:?}, {did:?}, {how:?}: {finding:?}");
                    findings.push(finding);
                }
                fs::remove_dir_all(&image).unwrap();
            }
        }
        findings
    }
}

/// How to lose the power at a moment: at each where something is decided, and at some others.
fn losses(did: Did, was_told: bool, one_in: u64, random: &mut fastrand::Rng) -> Vec<How> {
    let is_chosen = random.u64(0..one_in) == 0;
    match did {
        Did::Nothing if was_told && is_chosen => vec![How::Nothing, How::Torn],
        Did::Nothing if was_told => vec![How::Nothing],
        Did::Nothing => Vec::new(),
        Did::Wrote if is_chosen => vec![How::Torn],
        Did::Wrote => Vec::new(),
        Did::Named => vec![How::Nothing, How::Torn, How::Everything],
        Did::BeganToSync => vec![How::Torn, How::Everything],
        Did::Synced => vec![How::Nothing],
    }
}
