//! What processes were told is written, and what there must be by that.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{Contents, Row};

/// What processes have said.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// By shard and time: what was acknowledged to be written there.
    written: BTreeMap<u128, BTreeMap<u64, Row>>,
    /// What was asked for and not heard of again: it may be there or not.
    unknown: BTreeMap<u128, BTreeSet<Row>>,
    /// How far a since was acknowledged to be, of each shard.
    since: BTreeMap<u128, u64>,
    /// Leases: reader, and who has it.
    pub(crate) readers: BTreeMap<String, u128>,
    pub(crate) snapshots: u64,
    pub(crate) steps: u64,
    pub(crate) lost_leases: u64,
}

impl Oracle {
    /// Takes in a line that a process has said.
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let shard = || u128::from(number(1));
        let row = || Row::unpack(words[2].parse().unwrap());
        match words[0] {
            "asked" => _ = self.unknown.entry(shard()).or_default().insert(row()),
            "wrote" => {
                self.unknown.entry(shard()).or_default().remove(&row());
                let times = self.written.entry(shard()).or_default();
                let other = times.insert(number(3), row());
                assert_eq!(other, None, "two were told to have written: {line}");
            }
            "since" => {
                let since = self.since.entry(shard()).or_default();
                *since = number(2).max(*since);
            }
            "reader" => _ = self.readers.insert(words[2].to_owned(), shard()),
            "left" => _ = self.readers.remove(words[2]),
            "lost" => self.lost_leases += 1,
            "read" => self.snapshots += 1,
            "step" => self.steps += 1,
            other => panic!("{other} is not known: {line}"),
        }
    }

    pub(crate) fn count(&self, shard: u128) -> usize {
        self.written.get(&shard).map_or(0, BTreeMap::len)
    }

    /// How many outcomes nobody knows.
    pub(crate) fn unknown(&self) -> usize {
        self.unknown.values().map(BTreeSet::len).sum()
    }

    pub(crate) fn since(&self, shard: u128) -> u64 {
        self.since.get(&shard).copied().unwrap_or(0)
    }

    /// Every time up to the upper belongs to one append: one that was acknowledged, or one of those
    /// that nobody knows the outcome of.
    pub(crate) fn check_times(&self, shard: u128, upper: u64) {
        let written = self.written.get(&shard).into_iter().flatten();
        let written: BTreeSet<u64> = written.map(|(time, _)| *time).collect();
        assert!(
            written.iter().all(|time| *time < upper),
            "lost behind {upper}"
        );
        let unowned = (0..upper).filter(|time| !written.contains(time)).count();
        let unknown = self.unknown.get(&shard).map_or(0, BTreeSet::len);
        assert!(unowned <= unknown, "{unowned} by nobody, {unknown} unknown");
    }

    /// The contents of a shard as of a time are what was acknowledged, and some of what is not known,
    /// each wholly or not at all.
    pub(crate) fn check(&self, shard: u128, as_of: u64, found: &Contents) {
        let mut must = Contents::default();
        for (time, row) in self.written.get(&shard).into_iter().flatten() {
            if *time <= as_of {
                must.add(row.changes());
            }
        }
        for row in self.unknown.get(&shard).into_iter().flatten() {
            let mut with = must.clone();
            with.add(row.changes());
            if found.has(*row) {
                must = with;
            }
        }
        assert_eq!(*found, must, "shard {shard} as of {as_of}");
    }
}
