//! What a process has asked for, and what it was told is done, up to a moment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Written to by the process: a line each before it asks and after it was told. That is traced
/// like everything else, and so stands in order with what happens to the disk.
pub(crate) struct Pen(File);

impl Pen {
    pub(crate) fn new(path: &Path) -> Self {
        Pen(File::create(path).unwrap())
    }

    pub(crate) fn ask(&self, what: &Entry) {
        self.line("ask", what);
    }

    pub(crate) fn told(&self, what: &Entry) {
        self.line("told", what);
    }

    fn line(&self, verb: &str, what: &Entry) {
        let line = format!("{verb} {}\n", what.text());
        // In one call.
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// These versions of logs, in one commit.
    Commit(Vec<(u64, u64)>),
    /// Log, and its first version that stays.
    Truncate(u64, u64),
    /// An epoch.
    TakeOver(u64),
    /// A part by its number.
    Write(u64),
    /// It is stored: what a record would say of it.
    Stored(u64, [u64; 4]),
    Delete(u64),
}

impl Entry {
    fn text(&self) -> String {
        match self {
            Entry::Commit(versions) => {
                let versions = versions
                    .iter()
                    .map(|(log, seqno)| format!(" {log} {seqno}"));
                format!("commit{}", versions.collect::<String>())
            }
            Entry::Truncate(log, before) => format!("truncate {log} {before}"),
            Entry::TakeOver(epoch) => format!("take_over {epoch}"),
            Entry::Write(part) => format!("write {part}"),
            Entry::Stored(part, [high, low, bytes, checksum]) => {
                format!("stored {part} {high} {low} {bytes} {checksum}")
            }
            Entry::Delete(part) => format!("delete {part}"),
        }
    }

    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Self {
        let kind = words.next().unwrap();
        let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
        match (kind, &numbers[..]) {
            ("commit", pairs) => {
                let (pairs, _) = pairs.as_chunks::<2>();
                Entry::Commit(pairs.iter().map(|[log, seqno]| (*log, *seqno)).collect())
            }
            ("truncate", [log, before]) => Entry::Truncate(*log, *before),
            ("take_over", [epoch]) => Entry::TakeOver(*epoch),
            ("write", [part]) => Entry::Write(*part),
            ("stored", [part, rest @ ..]) => Entry::Stored(*part, rest.try_into().unwrap()),
            ("delete", [part]) => Entry::Delete(*part),
            _ => panic!("{kind} {numbers:?} is not known"),
        }
    }
}

/// Of something that only grows: how far it was asked to, and how far it was told to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    pub(crate) asked: u64,
    pub(crate) told: u64,
}

#[derive(Debug, Default)]
pub(crate) struct LogBook {
    pub(crate) head: Reach,
    /// The first version that stays.
    pub(crate) start: Reach,
}

#[derive(Debug, Default)]
pub(crate) struct PartBook {
    pub(crate) stored: Option<[u64; 4]>,
    pub(crate) may_be_deleted: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) logs: BTreeMap<u64, LogBook>,
    /// What was asked for in one commit.
    pub(crate) commits: Vec<Vec<(u64, u64)>>,
    pub(crate) epoch: Reach,
    pub(crate) parts: BTreeMap<u64, PartBook>,
    pub(crate) told: usize,
}

impl Book {
    pub(crate) fn read(&mut self, lines: &str) {
        for line in lines.lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("ask") => self.asked(Entry::parse(words)),
                Some("told") => self.was_told(&Entry::parse(words)),
                verb => panic!("{verb:?} is not known"),
            }
        }
    }

    fn asked(&mut self, entry: Entry) {
        match entry {
            Entry::Commit(versions) => {
                for (log, seqno) in &versions {
                    self.logs.entry(*log).or_default().head.asked = *seqno;
                }
                self.commits.push(versions);
            }
            Entry::Truncate(log, before) => {
                self.logs.entry(log).or_default().start.asked = before;
            }
            Entry::TakeOver(epoch) => self.epoch.asked = epoch,
            Entry::Stored(..) => unreachable!("nobody asks for it"),
            Entry::Write(part) => drop(self.parts.entry(part).or_default()),
            Entry::Delete(part) => self.parts.entry(part).or_default().may_be_deleted = true,
        }
    }

    fn was_told(&mut self, entry: &Entry) {
        self.told += 1;
        match entry {
            Entry::Commit(versions) => {
                for (log, seqno) in versions {
                    self.logs.entry(*log).or_default().head.told = *seqno;
                }
            }
            Entry::Truncate(log, before) => {
                self.logs.entry(*log).or_default().start.told = *before;
            }
            Entry::TakeOver(epoch) => self.epoch.told = *epoch,
            Entry::Stored(part, stored) => {
                self.parts.entry(*part).or_default().stored = Some(*stored);
            }
            // It may come back, and is deleted once more.
            Entry::Delete(_) => {}
            Entry::Write(_) => unreachable!("he is told where it is stored"),
        }
    }
}

/// What a version or a part has in it: no two have the same.
pub(crate) fn data(of: u64, number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(of << 32 | number);
    let length = match random.u8(0..6) {
        0 => random.usize(20_000..120_000),
        _ => random.usize(0..600),
    };
    let mut data = vec![0; length];
    random.fill(&mut data);
    data.extend(format!("{of} {number}").bytes());
    data
}
