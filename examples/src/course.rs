//! The way that since and upper of every collection took.

use crate::catalog::Relation;
use crate::embedding::Embedding;
use crate::minute::Minute;

/// So many observations are kept: more than a picture can show.
const OBSERVATIONS_MAX: Minute = 1200;

/// Observations in the order of time.
#[derive(Clone, Debug)]
pub struct Course {
    /// When the replay ends.
    pub end: Minute,
    /// What was seen.
    pub observations: Vec<Observation>,
    /// The holds taken and released for show, each with the number of observations before it.
    pub marks: Vec<(usize, Mark)>,
    last_before_mark: Option<Observation>,
}

/// All frontiers at a minute of the replay.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The minute that the replay has reached.
    pub now: Minute,
    /// Since and upper, in the order of [`Relation::ALL`]; `None` is the empty frontier.
    pub frontiers: [(Option<Minute>, Option<Minute>); Relation::ALL.len()],
}

/// What happened to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was taken.
    Taken,
    /// It was dropped.
    Released,
}

/// A hold that was taken or released for show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// On which collection.
    pub relation: Relation,
    /// What happened.
    pub event: Event,
    /// From when on the hold keeps the collection readable.
    pub since: Minute,
}

impl Course {
    /// Of a replay that ends at `end`.
    #[must_use]
    pub fn new(end: Minute) -> Self {
        Self {
            end,
            observations: Vec::new(),
            marks: Vec::new(),
            last_before_mark: None,
        }
    }

    /// Remembers that the replay did something, just after the last observation.
    pub fn mark(&mut self, mark: Mark) {
        // The picture bends here, so the last step before and the first one after are both kept.
        self.observations.extend(self.last_before_mark.take());
        self.marks.push((self.observations.len(), mark));
    }

    /// Looks at all collections, when the replay has reached the minute `now`.
    pub fn observe(&mut self, now: Minute, embedding: &Embedding) {
        let frontiers = Relation::ALL.map(|relation| {
            let frontiers = embedding.collection(relation).frontiers();
            let first = |times: &[Minute]| times.first().copied();
            (
                first(frontiers.since.frontier()),
                first(frontiers.upper.frontier()),
            )
        });
        let observation = Observation { now, frontiers };
        let due = self.observations.last().map_or(0, |last| last.now) + self.end / OBSERVATIONS_MAX;
        let after_mark = self
            .marks
            .last()
            .is_some_and(|(at, _)| *at == self.observations.len());
        if now >= due || now == self.end || after_mark {
            self.observations.push(observation);
            self.last_before_mark = None;
        } else {
            self.last_before_mark = Some(observation);
        }
    }
}
