//! How much of a replay's time goes to answering readers.

use std::time::{Duration, Instant};

use crate::desk::{Desk, Question};
use crate::minute::{DAY, Minute};

/// So many questions of readers are answered in a day of the replay at least, be it ever so fast.
const QUESTIONS_PER_DAY_MIN: u64 = 4;

/// So many at most, be the readers ever so eager.
const QUESTIONS_PER_DAY_MAX: u64 = 40;

/// Of the time that has passed, at most one part in so many goes to questions beyond the least. A
/// probe keeps a long history, which every reading has to walk through.
const ANSWERING_SHARE: u32 = 3;

/// How many questions were answered, and how long that took.
#[derive(Debug)]
pub struct Answering {
    per_day_least: u64,
    answered: u64,
    spent: Duration,
    begin: Instant,
}

impl Answering {
    /// Nothing was answered yet. Without readers nobody is waited for.
    #[must_use]
    pub fn new(readers: u16) -> Self {
        Self {
            per_day_least: if readers == 0 {
                0
            } else {
                QUESTIONS_PER_DAY_MIN
            },
            answered: 0,
            spent: Duration::ZERO,
            begin: Instant::now(),
        }
    }

    /// Answers readers when the replay has gone on by `passed`: as many as the days ask for, and
    /// more if they wait and there is time.
    pub fn answer(&mut self, passed: Minute, desk: &Desk, mut answer: impl FnMut(Question)) {
        while self.answered < passed * self.per_day_least / DAY {
            let Ok(question) = desk.next() else {
                // All readers have left; they say why when they are joined.
                return;
            };
            self.answer_one(question, &mut answer);
        }
        while self.answered < passed * QUESTIONS_PER_DAY_MAX / DAY
            && self.spent * ANSWERING_SHARE <= self.begin.elapsed()
            && let Some(question) = desk.waiting()
        {
            self.answer_one(question, &mut answer);
        }
    }

    fn answer_one(&mut self, question: Question, answer: &mut impl FnMut(Question)) {
        let begin = Instant::now();
        answer(question);
        self.spent += begin.elapsed();
        self.answered += 1;
    }
}
