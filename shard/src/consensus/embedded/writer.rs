//! The thread that writes: group commit.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::id::LogId;

use super::super::hints::Hints;
use super::super::{Answer, ConsensusError};
use super::database::{Database, OpenError, failed};
use super::worker::Worker;

/// How often to look whether other processes have written, while somebody listens. It is a look
/// into shared memory, one for the whole store.
const OTHERS_POLL: Duration = Duration::from_millis(10);

/// Where writes go.
#[derive(Debug)]
pub(super) struct Writer {
    messages: Worker<Message>,
}

enum Message {
    Write(Box<dyn Write>),
    /// Somebody has begun to listen.
    Listener,
    /// Give back what is not needed, between two transactions.
    Shrink(oneshot::Sender<Result<(), ConsensusError>>),
}

/// Part of a transaction.
trait Write: Send {
    /// Carries it out; the transaction is not yet committed.
    fn carry_out(&mut self, database: &mut Database) -> rusqlite::Result<()>;

    /// Tells the caller what it came to, now that the transaction is committed or has failed.
    fn answer(self: Box<Self>, committed: Result<&Hints, &ConsensusError>);
}

struct Task<W, X> {
    work: W,
    /// What it came to, once it was carried out.
    done: Option<X>,
    /// The logs that have changed then.
    logs: Vec<LogId>,
    answer: oneshot::Sender<Result<X, ConsensusError>>,
}

impl<W, X> Write for Task<W, X>
where
    W: FnMut(&mut Database) -> rusqlite::Result<X> + Send,
    X: Send,
{
    fn carry_out(&mut self, database: &mut Database) -> rusqlite::Result<()> {
        self.done = Some((self.work)(database)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<&Hints, &ConsensusError>) {
        let Task {
            done, logs, answer, ..
        } = *self;
        let committed = committed.map_err(ConsensusError::clone).map(|hints| {
            hints.logs_changed(logs);
            done.expect("what is committed was carried out")
        });
        // Whoever has lost interest learns nothing.
        drop(answer.send(committed));
    }
}

impl Writer {
    /// `database`: that of the folder.
    pub(super) fn spawn(
        folder: PathBuf,
        database: Database,
        hints: Hints,
    ) -> Result<Self, OpenError> {
        let committer = Committer {
            folder,
            others_seen: Some(database.others_version()?),
            others_looked_at: Instant::now(),
            database,
            hints,
        };
        let messages = Worker::spawn("lowwater-writer", move |messages| committer.run(&messages))?;
        Ok(Writer { messages })
    }

    /// Has `work` carried out, in one transaction with what else is waiting. The `logs` are hinted
    /// at when it is committed.
    pub(super) fn write<X: Send + 'static>(
        &self,
        logs: Vec<LogId>,
        work: impl FnMut(&mut Database) -> rusqlite::Result<X> + Send + 'static,
    ) -> Answer<X> {
        let (answer, answered) = oneshot::channel();
        let task = Task {
            work,
            done: None,
            logs,
            answer,
        };
        self.messages.tell(Message::Write(Box::new(task)));
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(stopped())) })
    }

    /// Has the thread give back what is not needed, after what was asked before.
    pub(super) fn shrink(&self) -> Answer<()> {
        let (answer, answered) = oneshot::channel();
        self.messages.tell(Message::Shrink(answer));
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(stopped())) })
    }

    /// Tells the thread that somebody listens now.
    pub(super) fn listener(&self) {
        self.messages.tell(Message::Listener);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the store's thread has stopped")]
struct Stopped;

/// Only a panic stops a thread while there are handles: whether the request was carried out, only
/// the file knows.
pub(super) fn stopped() -> ConsensusError {
    ConsensusError::indeterminate(Stopped)
}

struct Committer {
    folder: PathBuf,
    database: Database,
    hints: Hints,
    /// What [`Database::others_version`] said last; `None` where that is not known, or of another
    /// connection.
    others_seen: Option<i64>,
    others_looked_at: Instant,
}

impl Committer {
    /// Carries out what is asked until nobody can ask any more.
    fn run(mut self, messages: &Receiver<Message>) {
        while let Some(first) = self.wait(messages) {
            let (mut group, mut shrinkers) = (Vec::new(), Vec::new());
            for message in std::iter::once(first).chain(messages.try_iter()) {
                match message {
                    Message::Write(write) => group.push(write),
                    Message::Shrink(answer) => shrinkers.push(answer),
                    Message::Listener => {}
                }
            }
            if !group.is_empty() {
                self.commit(group);
            }
            self.shrink(shrinkers);
        }
    }

    fn shrink(&mut self, answers: Vec<oneshot::Sender<Result<(), ConsensusError>>>) {
        if answers.is_empty() {
            return;
        }
        let shrunk = self.database.shrink().map_err(failed);
        for answer in answers {
            drop(answer.send(shrunk.clone()));
        }
    }

    /// Waits for a message, and meanwhile looks what others do, if somebody wants to know.
    fn wait(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        while self.hints.are_heard() {
            self.look_at_others();
            match messages.recv_timeout(OTHERS_POLL) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        messages.recv().ok()
    }

    fn look_at_others(&mut self) {
        if self.others_looked_at.elapsed() < OTHERS_POLL {
            return;
        }
        self.others_looked_at = Instant::now();
        let seen = self.database.others_version().ok();
        // Where it cannot be known, something may have changed.
        if seen.is_none() || seen != self.others_seen {
            self.others_seen = seen;
            self.hints.anything_changed();
        }
    }

    /// One transaction for all that waits: while it is synced, the next group gathers.
    fn commit(&mut self, mut group: Vec<Box<dyn Write>>) {
        let committed = self.carry_out(&mut group);
        if let Err(error) = &committed {
            tracing::warn!(%error, requests = group.len(), "a transaction has failed");
        }
        for write in group {
            write.answer(committed.as_ref().map(|()| &self.hints));
        }
    }

    fn carry_out(&mut self, group: &mut [Box<dyn Write>]) -> Result<(), ConsensusError> {
        self.database.begin().map_err(failed)?;
        for write in group {
            if let Err(error) = write.carry_out(&mut self.database) {
                self.database.roll_back();
                return Err(failed(error));
            }
        }
        self.database.end().map_err(|error| {
            // What the file says counts, not what this connection believes.
            self.reopen();
            ConsensusError::indeterminate(error)
        })
    }

    fn reopen(&mut self) {
        self.database.roll_back();
        match Database::open_existing(&self.folder) {
            Ok(database) => {
                self.database = database;
                // Each connection counts for itself.
                self.others_seen = None;
            }
            Err(error) => tracing::warn!(%error, "the store could not be opened again"),
        }
        self.hints.anything_changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Fence, Hint};
    use crate::id::{Epoch, Incarnation};

    #[test]
    fn what_others_write_right_after_the_file_was_opened_again_is_hinted_at() {
        let folder = tempfile::tempdir().unwrap();
        let hints = Hints::default();
        let mut heard = hints.changes();
        let database = Database::open(folder.path()).unwrap();
        let mut committer = Committer {
            folder: folder.path().to_owned(),
            others_seen: Some(database.others_version().unwrap()),
            others_looked_at: Instant::now(),
            database,
            hints,
        };
        let mut look = |committer: &mut Committer| {
            std::thread::sleep(OTHERS_POLL);
            committer.look_at_others();
            heard.take()
        };
        assert_eq!(look(&mut committer), None);
        committer.reopen();
        let mut other = Database::open(folder.path()).unwrap();
        other.begin().unwrap();
        let fence = Fence {
            epoch: Epoch::new(1),
            incarnation: Incarnation::new(1),
        };
        other.take_over(fence).unwrap().unwrap();
        other.end().unwrap();
        // What the reopening itself hints at may be heard before that.
        assert_eq!(committer.others_seen, None);
        assert_eq!(look(&mut committer), Some(Hint::Any));
        assert_eq!(look(&mut committer), None);
        assert!(committer.others_seen.is_some());
    }
}
