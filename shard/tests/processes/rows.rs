//! What is written: chains of rows, of which one is there at any time.
//!
//! A writer has a chain in each shard. Each append takes the chain's row away and puts the next one
//! in, so whatever is read as of whatever time has one row of each chain. A writer that does not
//! know what became of an append begins a new chain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One row of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    /// No two processes have the same.
    pub(crate) writer: u16,
    pub(crate) chain: u16,
    pub(crate) number: u16,
}

impl Row {
    pub(crate) fn pack(self) -> i64 {
        let Row {
            writer,
            chain,
            number,
        } = self;
        i64::from(writer) << 32 | i64::from(chain) << 16 | i64::from(number)
    }

    pub(crate) fn unpack(packed: i64) -> Self {
        let part = |shift: u32| u16::try_from(packed >> shift & 0xffff).unwrap();
        Row {
            writer: part(32),
            chain: part(16),
            number: part(0),
        }
    }

    /// What is in its place before.
    pub(crate) fn before(self) -> Option<Row> {
        let number = self.number.checked_sub(1)?;
        Some(Row { number, ..self })
    }

    pub(crate) fn next(self) -> Row {
        let number = self.number + 1;
        Row { number, ..self }
    }

    /// What an append of it changes.
    pub(crate) fn changes(self) -> impl Iterator<Item = (i64, i64)> {
        let before = self.before().map(|before| (before.pack(), -1));
        before.into_iter().chain([(self.pack(), 1)])
    }
}

/// Contents at some time: how often each row is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<i64, i64>);

impl Contents {
    pub(crate) fn add(&mut self, changes: impl IntoIterator<Item = (i64, i64)>) {
        for (row, diff) in changes {
            let count = self.0.entry(row).or_insert(0);
            *count += diff;
            if *count == 0 {
                self.0.remove(&row);
            }
        }
    }

    pub(crate) fn has(&self, row: Row) -> bool {
        self.0.contains_key(&row.pack())
    }

    /// One row of each chain, once, whatever the time.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut chains = BTreeSet::new();
        for (row, count) in &self.0 {
            let row = Row::unpack(*row);
            if *count != 1 || !chains.insert((row.writer, row.chain)) {
                return Err(format!("{row:?} is there {count} times: {self:?}"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().map(|(row, count)| (Row::unpack(*row), count));
        f.debug_map().entries(rows).finish()
    }
}
