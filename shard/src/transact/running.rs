//! A command that is being carried out: what it has decided, and what is known of it.

use crate::format::Format;
use crate::id::{Nonce, SeqNo};
use crate::log::{Log, LogError, LogFault, Proposal};
use crate::record::Decision;

use super::{CommandError, Known, Proposed, Task, store_trouble};

/// A command that is being carried out.
pub(super) struct Running<'a, R: Format, F, O, E> {
    pub(super) log: &'a mut Log<R>,
    command: F,
    /// The log was read since the command was given: what it says of the record holds.
    pub(super) is_fresh: bool,
    /// What is to be offered, and what it comes to if it is taken.
    pub(super) decided: Option<(Proposal<R>, O)>,
    pub(super) outcome: Option<Result<O, CommandError<E>>>,
    /// What was seen of the log when an offer was stale: there must be more.
    stale_at: Option<Option<SeqNo>>,
}

impl<'a, R, F, O, E> Running<'a, R, F, O, E>
where
    R: Format,
    F: FnMut(&R) -> Result<Decision<R::Change, O>, E>,
{
    pub(super) fn new(task: Task<'a, R, F>) -> Self {
        let Task { log, command } = task;
        Running {
            log,
            command,
            is_fresh: false,
            decided: None,
            outcome: None,
            stale_at: None,
        }
    }

    /// Decides, unless it is over. Where nothing is to be written, nobody checks whether the record
    /// is the latest: it has to be read before.
    pub(super) fn decide(&mut self, nonce: Nonce) {
        if self.outcome.is_some() {
            return;
        }
        match (self.command)(self.log.record()) {
            Ok(Decision { changes, outcome }) if !changes.is_empty() => {
                self.decided = Some((self.log.propose_as(nonce, changes), outcome));
            }
            Ok(Decision { outcome, .. }) if self.is_fresh => self.outcome = Some(Ok(outcome)),
            Err(refusal) if self.is_fresh => {
                self.outcome = Some(Err(CommandError::Refused(refusal)));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

impl<R: Format, F, O, E> Running<'_, R, F, O, E> {
    /// Checks that somebody else has written where an offer was stale: otherwise the log has lost
    /// versions that were read, as one does that was restored from a copy, and to go on would be to
    /// try for ever. What was read of it is forgotten then: once others have written as far, their
    /// differences would be taken for those of another record.
    pub(super) fn check_progress(&mut self) -> Result<(), LogError> {
        match self.stale_at.take() {
            Some(seen) if seen == self.log.seen() => {
                let id = self.log.id();
                *self.log = Log::new(id.shard);
                Err(LogError {
                    log: id,
                    seqno: seen.unwrap_or(SeqNo::FIRST),
                    fault: LogFault::Missing,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn offer(&self) -> Option<Proposed<'_>> {
        let (proposal, _) = self.decided.as_ref()?;
        Some((&proposal.offer, proposal.nonce))
    }

    /// What became of the offer.
    pub(super) fn learn(&mut self, known: Known) {
        let Some((proposal, outcome)) = self.decided.take() else {
            return;
        };
        match known {
            Known::Taken => {
                self.log.accept(proposal);
                self.outcome = Some(Ok(outcome));
            }
            Known::Stale => self.stale_at = Some(self.log.seen()),
            Known::Fenced(fenced) => self.outcome = Some(Err(CommandError::Fenced(fenced))),
            Known::Unknown(error) => self.outcome = Some(Err(store_trouble(error))),
        }
    }
}
