//! What was written before this run began.

use timely::progress::Antichain;

use crate::arrangement::Diff;
use crate::catalog::{REGISTERED, Relation};
use crate::minute::Minute;
use crate::row::Row;

/// A row that comes, or goes, in a minute.
pub type Update = (Row, Minute, Diff);

/// What was written before this run began: how far each collection is written, and what the tables
/// and the ingestion have, from their since on.
///
/// How far they are written need not agree. Nothing is needed of the views: they are computed again
/// from where the tables begin.
#[derive(Clone, Debug)]
pub struct Past {
    uppers: [Antichain<Minute>; Relation::ALL.len()],
    updates: [Vec<Update>; Relation::ALL.len()],
}

impl Past {
    /// Nothing was written.
    #[must_use]
    pub fn none() -> Self {
        Self {
            uppers: std::array::from_fn(|_| Antichain::from_elem(0)),
            updates: std::array::from_fn(|_| Vec::new()),
        }
    }

    /// Remembers that `relation` is written up to `upper`, and has these updates, of which those
    /// before its since stand at its since.
    pub fn put(&mut self, relation: Relation, upper: Antichain<Minute>, updates: Vec<Update>) {
        self.uppers[relation.index()] = upper;
        self.updates[relation.index()] = updates;
    }

    /// How far `relation` is written.
    #[must_use]
    pub fn upper(&self, relation: Relation) -> &Antichain<Minute> {
        &self.uppers[relation.index()]
    }

    /// What `relation` has.
    #[must_use]
    pub fn updates(&self, relation: Relation) -> &[Update] {
        &self.updates[relation.index()]
    }

    /// The minute up to which `relation` is written; the last of all if it is sealed.
    #[must_use]
    pub fn end(&self, relation: Relation) -> Minute {
        self.upper(relation).first().copied().unwrap_or(Minute::MAX)
    }

    /// Up to which minute everything is written.
    #[must_use]
    pub fn begin(&self) -> Minute {
        let ends = Relation::ALL.into_iter().map(|relation| self.end(relation));
        ends.min().unwrap_or(0)
    }

    /// Up to which minute anything is written; 0 if all that there is are tables without rows.
    #[must_use]
    pub fn reached(&self) -> Minute {
        let ends = Relation::ALL.into_iter().map(|relation| self.end(relation));
        ends.filter(|end| *end > REGISTERED + 1).max().unwrap_or(0)
    }
}
