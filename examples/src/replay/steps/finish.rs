//! The end of a replay.

use timely::progress::Antichain;

use crate::catalog::{Relation, since_asked_for};
use crate::dataflow::Dataflow;
use crate::minute::Minute;
use crate::oracle::Oracle;
use crate::outcome::{Outcome, RelationOutcome};
use crate::row::Row;
use crate::store::Space;
use crate::trouble::ReplayError;

use super::Replay;

impl Replay<'_> {
    /// Reads and releases the probes; then nobody holds anything.
    pub(in crate::replay) fn finish(mut self, oracle: &Oracle<'_>) -> Result<Outcome, ReplayError> {
        let Self {
            mut dataflow,
            embedding,
            writers,
            mut tally,
            ..
        } = self;
        for demonstration in &mut self.demonstrations {
            demonstration.end(&mut tally);
        }
        writers.settle()?;
        let probes = self
            .probes
            .release(&mut dataflow, embedding, oracle, &mut tally)?;
        let sinces = embedding.sinces(&Relation::ALL)?;
        for (relation, since) in Relation::ALL.into_iter().zip(&sinces) {
            dataflow.compact(relation, since);
        }
        let airborne_at_end = airborne(&mut dataflow, self.now - 1);

        let relations = Relation::ALL
            .into_iter()
            .zip(sinces)
            .map(|(relation, since)| RelationOutcome {
                relation,
                updates: writers.updates(relation),
                kept_most: self.kept_most[relation.index()],
                kept_at_end: dataflow.needed(relation),
                durable_since: since.clone(),
                since,
                since_asked_for: Antichain::from_elem(since_asked_for(self.now)),
                upper: embedding.collection(relation).upper().into_frontier(),
            })
            .collect();
        Ok(Outcome {
            from: self.from,
            now: self.now,
            relations,
            ticks: self.ticks,
            tick: self.tick,
            append: self.append,
            tally,
            probes,
            airborne_at_end,
            elapsed: self.begin.elapsed(),
            space: Space {
                held_most: self.held_most,
                ..Space::default()
            },
            course: self.course,
        })
    }
}

fn airborne(dataflow: &mut Dataflow<'_>, as_of: Minute) -> i64 {
    let rows = dataflow.read(Relation::Airborne, as_of);
    let counts = rows.into_iter().map(|(row, _)| match row {
        Row::Airborne(_, count) => count,
        Row::Flight(..)
        | Row::Departure(..)
        | Row::Airline(..)
        | Row::Offset(_)
        | Row::Weather(..)
        | Row::Delay(..) => 0,
    });
    counts.sum()
}
