//! The thread that reads, beside the one that writes.

use std::path::Path;

use tokio::sync::oneshot;

use super::super::{Answer, ConsensusError};
use super::database::{Database, OpenError, failed};
use super::worker::Worker;
use super::writer::stopped;

type Question = Box<dyn FnOnce(&Database) + Send>;

/// Where questions go.
#[derive(Debug)]
pub(super) struct Reader {
    questions: Worker<Question>,
}

impl Reader {
    pub(super) fn spawn(folder: &Path) -> Result<Self, OpenError> {
        let database = Database::open_existing(folder)?;
        let questions = Worker::spawn("lowwater-reader", move |questions| {
            for question in questions {
                let question: Question = question;
                question(&database);
            }
        })?;
        Ok(Reader { questions })
    }

    pub(super) fn ask<X: Send + 'static>(
        &self,
        question: impl FnOnce(&Database) -> rusqlite::Result<X> + Send + 'static,
    ) -> Answer<X> {
        let (answer, answered) = oneshot::channel();
        let ask = move |database: &Database| {
            if answer.is_closed() {
                return;
            }
            let said = question(database).map_err(failed);
            // Whoever has lost interest learns nothing.
            let _: Result<(), Result<X, ConsensusError>> = answer.send(said);
        };
        self.questions.tell(Box::new(ask));
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(stopped())) })
    }
}
