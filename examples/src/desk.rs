//! Where readers ask, and the thread that owns the arrangements answers.

use std::sync::mpsc::{Receiver, RecvError, Sender, channel};

use crate::catalog::Relation;
use crate::dataflow::Dataflow;
use crate::minute::Minute;
use crate::row::Rows;

/// Reads for others.
pub struct Desk {
    questions: Receiver<Question>,
}

/// Somebody who asks; each thread has its own.
pub struct Visitor {
    questions: Sender<Question>,
}

/// What a reading has found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// One for each collection asked for.
    pub rows: Vec<Rows>,
    /// How many of them could not have been read any earlier.
    pub at_since: u64,
}

/// What somebody wants to read.
pub struct Question {
    relations: Vec<Relation>,
    as_of: Minute,
    answer_to: Sender<Answer>,
}

/// Lets visitors in. To be dropped when all are inside, for the desk is told when all have left.
pub struct Entrance {
    questions: Sender<Question>,
}

/// The desk, and a way to it.
#[must_use]
pub fn open() -> (Desk, Entrance) {
    let (sender, questions) = channel();
    (Desk { questions }, Entrance { questions: sender })
}

impl Entrance {
    /// A visitor more.
    #[must_use]
    pub fn visitor(&self) -> Visitor {
        Visitor {
            questions: self.questions.clone(),
        }
    }
}

impl Visitor {
    /// Reads `relations` as of a time that the caller holds; `None` when the desk has closed.
    #[must_use]
    pub fn ask(&self, relations: Vec<Relation>, as_of: Minute) -> Option<Answer> {
        // A channel for each question: should the desk close on it, nobody can answer, and we see.
        let (answer_to, answer) = channel();
        self.questions
            .send(Question {
                relations,
                as_of,
                answer_to,
            })
            .ok()?;
        answer.recv().ok()
    }
}

impl Desk {
    /// A question, if somebody waits with one.
    #[must_use]
    pub fn waiting(&self) -> Option<Question> {
        self.questions.try_recv().ok()
    }

    /// Waits for the next question.
    ///
    /// # Errors
    /// When all visitors have left.
    pub fn next(&self) -> Result<Question, RecvError> {
        self.questions.recv()
    }
}

impl Question {
    /// What is to be read.
    #[must_use]
    pub fn relations(&self) -> &[Relation] {
        &self.relations
    }

    /// Reads what is asked for, and tells the visitor.
    pub fn answer(self, dataflow: &mut Dataflow<'_>) {
        let Self {
            relations,
            as_of,
            answer_to,
        } = self;
        let at_since = relations
            .iter()
            .map(|r| u64::from(*dataflow.since(*r) == [as_of]))
            .sum();
        let rows = relations
            .iter()
            .map(|relation| dataflow.read(*relation, as_of))
            .collect();
        // The visitor may have gone; nobody misses the answer.
        drop(answer_to.send(Answer { rows, at_since }));
    }
}
