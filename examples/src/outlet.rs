//! What comes out of the dataflow and is still to be written.

use std::cell::RefCell;
use std::rc::Rc;

use differential_dataflow::consolidation::consolidate_updates;
use differential_dataflow::{ExchangeData, VecCollection};

use crate::arrangement::Diff;
use crate::minute::Minute;
use crate::past::Update;
use crate::row::Row;

/// The updates of a collection that were not written when they came out of the dataflow.
pub struct Outlet {
    updates: Rc<RefCell<Vec<Update>>>,
}

impl Outlet {
    /// Collects the updates of `collection` from the minute `written` on: those before are written
    /// already.
    pub fn attach<'scope, K: ExchangeData, V: ExchangeData>(
        collection: VecCollection<'scope, Minute, (K, V), Diff>,
        written: Minute,
        row: fn(&K, &V) -> Row,
    ) -> (Self, VecCollection<'scope, Minute, (K, V), Diff>) {
        let updates = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&updates);
        let collection = collection.inspect(move |((key, value), at, diff)| {
            if *at >= written {
                into.borrow_mut().push((row(key, value), *at, *diff));
            }
        });
        (Self { updates }, collection)
    }

    /// Takes what lies before the minute `upper`, which must be complete; each row once per minute.
    #[must_use]
    pub fn take_before(&self, upper: Minute) -> Vec<Update> {
        let mut updates = self.updates.borrow_mut();
        let mut taken: Vec<_> = updates.extract_if(.., |(_, at, _)| *at < upper).collect();
        consolidate_updates(&mut taken);
        taken
    }
}
