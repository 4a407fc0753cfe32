//! The ways to take holds, and the times that they allow to read at.

use lowwater::Since;

use crate::catalog::Relation;
use crate::embedding::{EmbeddingError, Hold};
use crate::minute::Minute;

use super::Reader;

/// The ways to take holds, all of which readers use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// At the implied capability, by id.
    ById,
    /// At the implied capability, by handle.
    ByHandle,
    /// At a minute of the reader's choice.
    At,
    /// At the since, wherever it is.
    Earliest,
    /// At the implied capability, then a clone moved forward, and the first one dropped.
    Moved,
    /// On several collections at once, each at its implied capability.
    Many,
    /// On several collections at once, at a minute of the reader's choice.
    ManyAt,
    /// On the tables of flights at once, each at its implied capability.
    Tables,
}

impl Way {
    pub(super) const ALL: [Self; 8] = [
        Self::ById,
        Self::ByHandle,
        Self::At,
        Self::Earliest,
        Self::Moved,
        Self::Many,
        Self::ManyAt,
        Self::Tables,
    ];
}

impl Reader<'_> {
    pub(super) fn relations(&mut self, way: Way) -> Vec<Relation> {
        let mut relations = Relation::ALL.to_vec();
        self.random.shuffle(&mut relations);
        match way {
            Way::Many | Way::ManyAt => relations.truncate(self.random.usize(2..=3)),
            Way::Tables => relations = vec![Relation::Flights, Relation::Departures],
            Way::ById | Way::ByHandle | Way::At | Way::Earliest | Way::Moved => {
                relations.truncate(1);
            }
        }
        relations
    }

    pub(super) fn take(
        &mut self,
        way: Way,
        relations: &[Relation],
    ) -> Result<Vec<Hold>, EmbeddingError> {
        let client = self.embedding.client();
        let collection = self.embedding.collection(relations[0]);
        let ids: Vec<u64> = relations.iter().map(|relation| relation.id()).collect();
        let hold = match way {
            Way::ById => self.tally.take(|| client.acquire(ids[0]))?,
            Way::ByHandle => self.tally.take(|| collection.acquire())?,
            Way::At => {
                let at = Since::at(self.readable_minute(relations));
                self.tally.ask(|| collection.acquire_at(at).wait())?
            }
            Way::Earliest => self.tally.ask(|| collection.acquire_earliest().wait())?,
            Way::Moved => {
                let hold = self.tally.take(|| collection.acquire())?;
                self.moved(hold, relations)?
            }
            Way::Many | Way::Tables => {
                return Ok(self.tally.take(|| client.acquire_many(&ids))?);
            }
            Way::ManyAt => {
                let at = Since::at(self.readable_minute(relations));
                return Ok(self.tally.ask(|| client.acquire_many_at(&ids, at).wait())?);
            }
        };
        Ok(vec![hold])
    }

    /// A clone of `hold`, moved forward; the first one is dropped.
    fn moved(&mut self, hold: Hold, relations: &[Relation]) -> Result<Hold, EmbeddingError> {
        let cloned = self.tally.take(|| hold.try_clone());
        let from = start_of(&hold);
        self.tally.release(hold);
        let mut clone = cloned?;
        let to = self.random.u64(from..=self.last_complete(relations));
        if let Err(error) = clone.downgrade(Since::at(to)) {
            self.tally.release(clone);
            return Err(error.into());
        }
        Ok(clone)
    }

    /// A minute at which, at this moment, all of `relations` can be read.
    fn readable_minute(&mut self, relations: &[Relation]) -> Minute {
        let sinces = relations
            .iter()
            .map(|relation| self.embedding.collection(*relation).since());
        let since = sinces
            .filter_map(|since| earliest(&since))
            .max()
            .unwrap_or(0);
        self.random
            .u64(since..=self.last_complete(relations).max(since))
    }

    /// A time at which the holds allow to read; more often than not the earliest one.
    pub(super) fn time_within(
        &mut self,
        way: Way,
        relations: &[Relation],
        holds: &[Hold],
    ) -> Minute {
        let from = holds.iter().map(start_of).max().unwrap_or(0);
        let to = self.last_complete(relations).max(from);
        match way {
            Way::Earliest => from,
            Way::ById
            | Way::ByHandle
            | Way::At
            | Way::Moved
            | Way::Many
            | Way::ManyAt
            | Way::Tables => {
                if self.random.bool() {
                    from
                } else {
                    self.random.u64(from..=to)
                }
            }
        }
    }

    /// The last minute at which all of `relations` are complete.
    fn last_complete(&self, relations: &[Relation]) -> Minute {
        relations
            .iter()
            .filter_map(|r| {
                self.embedding
                    .collection(*r)
                    .upper()
                    .frontier()
                    .first()
                    .copied()
            })
            .min()
            .map_or(0, |upper| upper.saturating_sub(1))
    }
}

/// The earliest minute that a hold keeps readable.
pub(crate) fn start_of(hold: &Hold) -> Minute {
    earliest(hold.since()).expect("a hold that is live holds a time")
}

fn earliest(since: &Since<Minute>) -> Option<Minute> {
    since.frontier().first().copied()
}
