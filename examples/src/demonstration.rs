//! Holds that the replay takes itself, so that the picture shows what a hold does.

use crate::catalog::Relation;
use crate::course::{Event, Mark};
use crate::embedding::{Embedding, EmbeddingError, Hold};
use crate::minute::Minute;
use crate::tally::Tally;

/// A hold at the implied capability of a collection, from one minute of the replay to another.
pub struct Demonstration {
    relation: Relation,
    from: Minute,
    until: Minute,
    hold: Option<Hold>,
}

/// Two of them, on views that depend on different collections: one after the other.
#[must_use]
pub fn demonstrations(end: Minute) -> Vec<Demonstration> {
    let at = |percent| end * percent / 100;
    [
        (Relation::DepartureDelay, at(28), at(48)),
        (Relation::AirborneInRain, at(55), at(78)),
    ]
    .map(|(relation, from, until)| Demonstration {
        relation,
        from,
        until,
        hold: None,
    })
    .into()
}

impl Demonstration {
    /// Takes or drops the hold, if that is due before `upper` is reported.
    ///
    /// # Errors
    /// When the engine refuses the hold.
    pub fn turn(
        &mut self,
        upper: Minute,
        embedding: &Embedding,
        tally: &mut Tally,
    ) -> Result<Option<Mark>, EmbeddingError> {
        let mark = |event, hold: &Hold| {
            let since = hold.since().frontier().first().copied().unwrap_or(upper);
            Some(Mark {
                relation: self.relation,
                event,
                since,
            })
        };
        match &self.hold {
            None if (self.from..self.until).contains(&upper) => {
                let collection = embedding.collection(self.relation);
                let hold = tally.take(|| collection.acquire())?;
                let mark = mark(Event::Taken, &hold);
                self.hold = Some(hold);
                Ok(mark)
            }
            Some(hold) if upper >= self.until => {
                let mark = mark(Event::Released, hold);
                self.end(tally);
                Ok(mark)
            }
            None | Some(_) => Ok(None),
        }
    }

    /// Drops the hold, if it is still there.
    pub fn end(&mut self, tally: &mut Tally) {
        if let Some(hold) = self.hold.take() {
            tally.release(hold);
        }
    }
}
