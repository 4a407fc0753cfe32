//! The thread that reads, beside the one that writes.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use super::super::{Answer, ConsensusError};
use super::database::{Database, OpenError, failed};
use super::writer::stopped;

type Question = Box<dyn FnOnce(&Database) + Send>;

/// Where questions go.
#[derive(Debug)]
pub(super) struct Reader {
    questions: mpsc::Sender<Question>,
}

impl Reader {
    pub(super) fn spawn(folder: &Path) -> Result<Self, OpenError> {
        let database = Database::open(folder)?;
        let (questions, receiver) = mpsc::channel::<Question>();
        thread::Builder::new()
            .name("lowwater-reader".to_owned())
            .spawn(move || {
                for question in receiver {
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
            let said = question(database).map_err(failed);
            // Whoever has lost interest learns nothing.
            let _: Result<(), Result<X, ConsensusError>> = answer.send(said);
        };
        // Where the thread has panicked, the question is dropped here, and the caller hears of it.
        drop(self.questions.send(Box::new(ask)));
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(stopped())) })
    }
}
