//! Holds on all three views at a minute that the user chose, kept to the end of the replay.

use lowwater::{AcquireError, Since};
use serde::Serialize;

use crate::catalog::Relation;
use crate::dataflow::Dataflow;
use crate::embedding::{Embedding, EmbeddingError, Hold};
use crate::findings::Findings;
use crate::minute::Minute;
use crate::oracle::Oracle;
use crate::tally::Tally;
use crate::trouble::ReplayError;

/// The probes of a replay.
pub struct Probes {
    /// Those to come, the last one first.
    ahead: Vec<Minute>,
    /// Those that hold, in ascending order.
    held: Vec<Probe>,
}

struct Probe {
    minute: Minute,
    /// In the order of [`Relation::VIEWS`].
    holds: Vec<Hold>,
}

/// What a probe has read, and what its release has moved. Written as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// As of when.
    pub minute: Minute,
    /// What the views said.
    #[serde(flatten)]
    pub findings: Findings,
    /// The least since of the three views just before the probe's release.
    pub since_before_release: Option<Minute>,
    /// The least since of the three views just after it.
    pub since_after_release: Option<Minute>,
}

impl Probes {
    /// Probes at `minutes`, in any order, repeated or not.
    #[must_use]
    pub fn new(mut minutes: Vec<Minute>) -> Self {
        minutes.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            ahead: minutes,
            held: Vec::new(),
        }
    }

    /// Takes the holds of all probes before `upper`: it is about to be reported, or was found in the
    /// store.
    ///
    /// # Errors
    /// When a minute cannot be read any more, or the engine has stopped.
    pub fn take_before(
        &mut self,
        upper: Minute,
        embedding: &Embedding,
        tally: &mut Tally,
    ) -> Result<(), ReplayError> {
        let ids = Relation::VIEWS.map(Relation::id);
        while let Some(minute) = self.ahead.pop_if(|minute| *minute < upper) {
            let asked = || embedding.client().acquire_many_at(&ids, Since::at(minute));
            let holds = tally.ask(|| asked().wait()).map_err(|error| match error {
                AcquireError::TooEarly { since, .. } => ReplayError::Unreadable { minute, since },
                AcquireError::UnknownCollection(_)
                | AcquireError::Dropped(_)
                | AcquireError::TooManyHolds(_)
                | AcquireError::Stopped(_) => EmbeddingError::from(error).into(),
            })?;
            self.held.push(Probe { minute, holds });
        }
        Ok(())
    }

    /// Reads what every probe holds, then releases one after the other, in ascending order.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub fn release(
        self,
        dataflow: &mut Dataflow<'_>,
        embedding: &Embedding,
        oracle: &Oracle<'_>,
        tally: &mut Tally,
    ) -> Result<Vec<Reading>, EmbeddingError> {
        let read = |probe: &Probe| read(probe.minute, dataflow, oracle, tally);
        let mut readings: Vec<Reading> = self.held.iter().map(read).collect();
        for (probe, reading) in self.held.into_iter().zip(&mut readings) {
            reading.since_before_release = least_since(embedding)?;
            probe.holds.into_iter().for_each(|hold| tally.release(hold));
            reading.since_after_release = least_since(embedding)?;
        }
        Ok(readings)
    }
}

fn read(
    minute: Minute,
    dataflow: &mut Dataflow<'_>,
    oracle: &Oracle<'_>,
    tally: &mut Tally,
) -> Reading {
    let mut reading = Reading {
        minute,
        findings: Findings::default(),
        since_before_release: None,
        since_after_release: None,
    };
    for view in Relation::VIEWS {
        let rows = dataflow.read(view, minute);
        tally.check(view, minute, &rows, oracle);
        reading.findings.put(view, rows);
    }
    reading
}

fn least_since(embedding: &Embedding) -> Result<Option<Minute>, EmbeddingError> {
    let sinces = embedding.sinces(&Relation::VIEWS)?;
    Ok(sinces.iter().flat_map(|since| since.first().copied()).min())
}
