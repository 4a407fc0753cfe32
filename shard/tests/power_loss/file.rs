//! A file on a disk: its certain bytes, and changes that may be lost.

use std::collections::HashMap;
use std::mem;

use super::luck::Luck;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

#[derive(Default)]
pub(crate) struct File {
    certain: Vec<u8>,
    changes: Vec<Change>,
}

struct Change {
    change: u64,
    what: FileChange,
    is_done: bool,
}

pub(crate) enum FileChange {
    Wrote {
        at: u64,
        data: Vec<u8>,
    },
    /// Or lengthened.
    Cut(u64),
}

impl File {
    pub(crate) fn change(&mut self, change: u64, what: FileChange) {
        let is_done = matches!(what, FileChange::Cut(_));
        self.changes.push(Change {
            change,
            what,
            is_done,
        });
    }

    /// A write has ended; gives how much it wrote.
    pub(crate) fn is_done(&mut self, change: u64) -> u64 {
        let mut changes = self.changes.iter_mut().rev();
        let change = changes.find(|it| it.change == change).unwrap();
        change.is_done = true;
        match &change.what {
            FileChange::Wrote { data, .. } => data.len() as u64,
            FileChange::Cut(_) => unreachable!("it is no write"),
        }
    }

    /// The changes that a sync would make certain.
    pub(crate) fn done(&self) -> impl Iterator<Item = u64> {
        self.changes
            .iter()
            .filter(|it| it.is_done)
            .map(|it| it.change)
    }

    /// Makes these changes certain, which are in order.
    pub(crate) fn make_certain(&mut self, changes: &[u64]) {
        for change in mem::take(&mut self.changes) {
            if changes.binary_search(&change.change).is_err() {
                self.changes.push(change);
                continue;
            }
            match change.what {
                FileChange::Wrote { at, data } => {
                    let at = at as usize;
                    let end = at + data.len();
                    self.certain.resize(self.certain.len().max(end), 0);
                    self.certain[at..end].copy_from_slice(&data);
                }
                FileChange::Cut(length) => self.certain.resize(length as usize, 0),
            }
        }
    }

    /// What a power loss may leave. Length and sectors are written apart: a sector that was not
    /// written, but is within the length, has zeros.
    pub(crate) fn lose_power(&self, luck: &mut Luck) -> Vec<u8> {
        let changes: Vec<u64> = self.changes.iter().map(|it| it.change).collect();
        let length_last = luck.last_of(&changes);
        let mut sectors = HashMap::new();
        let mut bytes = self.certain.clone();
        let mut length = bytes.len();
        for Change { change, what, .. } in &self.changes {
            let has_length = length_last.includes(*change);
            match what {
                FileChange::Wrote { at, data } => {
                    let at = *at as usize;
                    let end = at + data.len();
                    bytes.resize(bytes.len().max(end), 0);
                    length = if has_length { length.max(end) } else { length };
                    for sector in at / SECTOR..end.div_ceil(SECTOR) {
                        let last = luck.last_of_each(sector, &mut sectors, &changes);
                        if last.includes(*change) {
                            let from = at.max(sector * SECTOR);
                            let to = end.min((sector + 1) * SECTOR);
                            bytes[from..to].copy_from_slice(&data[from - at..to - at]);
                        }
                    }
                }
                FileChange::Cut(to) if has_length => {
                    length = *to as usize;
                    bytes.truncate(length);
                    bytes.resize(length, 0);
                }
                FileChange::Cut(_) => {}
            }
        }
        bytes.truncate(length);
        bytes
    }
}
