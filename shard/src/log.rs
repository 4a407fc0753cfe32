//! One log as a process sees it: the record that it leads to, and what to write next.

use std::fmt;

use lowwater::{ShardId, StorageError, StorageErrorKind};

use crate::consensus::{Offer, Scan, Version};
use crate::format::{Body, Format, FormatError, decode, encode};
use crate::id::{LogId, Nonce, SeqNo};
use crate::record::{Misfit, Record};

/// How many versions stay behind the latest one at least: the outcome of a write is decided by
/// looking at the version that it would be, as long as that is there.
const VERSIONS_KEPT: u64 = 8;

/// A log of one shard, as far as it was read.
#[derive(Clone, Debug)]
pub struct Log<R> {
    id: LogId,
    /// The latest version that was read; `None` before the first.
    seen: Option<SeqNo>,
    record: R,
    /// How large the latest full version is.
    full_bytes: usize,
    /// How large the differences behind it are together.
    difference_bytes: usize,
    /// The latest full version; everything before it can be truncated.
    full: SeqNo,
    /// What we have truncated already.
    truncated: SeqNo,
}

/// A version that was not yet offered.
#[derive(Clone, Debug)]
#[must_use = "nothing is written yet"]
pub struct Proposal<R: Record> {
    /// To offer it to the store.
    pub(crate) offer: Offer,
    /// Tells whether it was this one that was taken.
    pub(crate) nonce: Nonce,
    changes: Vec<R::Change>,
    /// Whether the offer is the full record.
    is_full: bool,
}

/// A log that cannot be read: it was damaged, or is not ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct LogError {
    /// The log.
    pub log: LogId,
    /// The version, if it is one that is at fault.
    pub seqno: SeqNo,
    /// What is wrong with it.
    pub fault: LogFault,
}

/// What is wrong with a version of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// Its bytes are no version.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It does not fit what comes before.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// It is missing, and there is no full version behind it.
    #[error("it is missing")]
    Missing,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogError { log, seqno, fault } = self;
        write!(f, "version {seqno} of {log} cannot be read: {fault}")
    }
}

impl From<LogError> for StorageError {
    fn from(error: LogError) -> Self {
        StorageError::new(StorageErrorKind::GiveUp, error)
    }
}

impl<R: Format> Log<R> {
    /// A shard's log, of which nothing was read yet.
    pub fn new(shard: ShardId) -> Self {
        Log {
            id: LogId {
                shard,
                kind: R::KIND,
            },
            seen: None,
            record: R::initial(),
            full_bytes: 0,
            difference_bytes: 0,
            full: SeqNo::FIRST,
            truncated: SeqNo::FIRST,
        }
    }

    /// Its name.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The latest version that was read.
    pub fn seen(&self) -> Option<SeqNo> {
        self.seen
    }

    /// The record that it leads to.
    pub fn record(&self) -> &R {
        &self.record
    }

    /// What to read to know the latest.
    pub fn scan(&self) -> Scan {
        Scan {
            log: self.id,
            from: self.next_seqno(),
        }
    }

    fn next_seqno(&self) -> SeqNo {
        self.seen.map_or(SeqNo::FIRST, SeqNo::next)
    }

    /// Takes in what a [`scan`](Log::scan) has found.
    ///
    /// # Errors
    ///
    /// If it cannot be read; the log is as if nothing had been read then.
    pub fn follow(&mut self, versions: &[Version]) -> Result<(), LogError> {
        let followed = self.follow_on(versions);
        if followed.is_err() {
            *self = Log::new(self.id.shard);
        }
        followed
    }

    fn follow_on(&mut self, versions: &[Version]) -> Result<(), LogError> {
        let mut behind = Vec::new();
        // From the back: what is before a full version need not be read.
        for version in versions.iter().rev() {
            let (_, body) = decode::<R>(self.id, version.seqno, &version.data)
                .map_err(|fault| self.fault(version.seqno, fault))?;
            let is_full = matches!(body, Body::Full(_));
            behind.push((version, body));
            if is_full {
                break;
            }
        }
        let mut behind = behind.into_iter().rev();
        behind.try_for_each(|(version, body)| self.read(version, body))
    }

    fn read(&mut self, version: &Version, body: Body<R>) -> Result<(), LogError> {
        let seqno = version.seqno;
        match body {
            Body::Full(record) => {
                self.record = record;
                self.full = seqno;
                self.full_bytes = version.data.len();
                self.difference_bytes = 0;
            }
            Body::Difference(changes) => {
                if self.seen.is_none() || seqno != self.next_seqno() {
                    return Err(self.fault(self.next_seqno(), LogFault::Missing));
                }
                let applied = self.record.apply_all(&changes, seqno);
                applied.map_err(|fault| self.fault(seqno, fault))?;
                self.difference_bytes += version.data.len();
            }
        }
        self.seen = Some(seqno);
        Ok(())
    }

    fn fault(&self, seqno: SeqNo, fault: impl Into<LogFault>) -> LogError {
        LogError {
            log: self.id,
            seqno,
            fault: fault.into(),
        }
    }

    /// The next version: what a command has decided.
    ///
    /// It is a difference, or full once the differences together are as large as the last full one:
    /// so neither what is written nor what is read grows with the record, but for a factor of two.
    ///
    /// # Panics
    ///
    /// If the changes were not decided on this record.
    pub fn propose(&self, changes: Vec<R::Change>) -> Proposal<R> {
        self.propose_as(Nonce::random(), changes)
    }

    /// The next version, as the attempt of this name: drawn for it, or for several attempts on as
    /// many logs.
    pub(crate) fn propose_as(&self, nonce: Nonce, changes: Vec<R::Change>) -> Proposal<R> {
        let seqno = self.next_seqno();
        let body = Body::<R>::Difference(changes);
        let mut data = encode(self.id, seqno, nonce, &body);
        let Body::Difference(changes) = body else {
            unreachable!("it was just made one")
        };
        let is_full = self.seen.is_none() || self.difference_bytes + data.len() >= self.full_bytes;
        if is_full {
            let mut next = self.record.clone();
            next.apply_all(&changes, seqno).expect(DECIDED);
            data = encode(self.id, seqno, nonce, &Body::Full(next));
        }
        let offer = Offer {
            log: self.id,
            seen: self.seen,
            data,
            keep_from: self.keep_from(seqno, is_full),
        };
        Proposal {
            offer,
            nonce,
            changes,
            is_full,
        }
    }

    /// The proposal was taken: it is the latest version.
    ///
    /// # Panics
    ///
    /// If it was not proposed to this log as it is.
    pub fn accept(&mut self, proposal: Proposal<R>) {
        let Proposal {
            offer,
            changes,
            is_full,
            ..
        } = proposal;
        assert_eq!(
            offer.seen, self.seen,
            "the proposal was made to another version"
        );
        let seqno = offer.seqno();
        self.record.apply_all(&changes, seqno).expect(DECIDED);
        if is_full {
            self.full = seqno;
            self.full_bytes = offer.data.len();
            self.difference_bytes = 0;
        } else {
            self.difference_bytes += offer.data.len();
        }
        self.seen = Some(seqno);
        self.truncated = offer.keep_from.unwrap_or(self.truncated);
    }

    /// What can be truncated once the next version is there, if it is worth while.
    fn keep_from(&self, next: SeqNo, is_full: bool) -> Option<SeqNo> {
        let kept = SeqNo::new(next.number().saturating_sub(VERSIONS_KEPT));
        let full = if is_full { next } else { self.full };
        let before = full.min(kept);
        let gain = before.number().saturating_sub(self.truncated.number());
        (gain >= VERSIONS_KEPT).then_some(before)
    }
}

const DECIDED: &str = "a command decides only what fits its record";

#[cfg(test)]
mod tests;
