//! Who holds back a collection's since.

use std::collections::BTreeMap;

use crate::command::LookupError;
use crate::effect::Readers;
use crate::explanation::{Cause, Explanation};
use crate::frontier::{Since, Time};
use crate::id::{CollectionId, Key};

use super::State;

impl<I: CollectionId, T: Time> State<I, T> {
    /// Walks all collections for the dependents: a question for people, not for every turn.
    pub(super) fn explain(
        &self,
        id: I,
        readers: &impl Readers<I, T>,
    ) -> Result<Explanation<I, T>, LookupError<I>> {
        let collection = self.by_id(id).ok_or(LookupError::UnknownCollection(id))?;
        let slot = collection.key.slot;
        let mut causes = Vec::new();
        if !collection.implied.is_gone() {
            causes.push(Cause::Policy(collection.implied.clone()));
        }
        if collection.dependents > 0 {
            let all = self.collections.iter().flatten();
            let dependents = all.filter(|other| other.dependencies.contains(&slot));
            causes.extend(dependents.map(|other| Cause::Dependent(other.id, other.since.clone())));
        }
        let retired = self
            .retired
            .iter()
            .filter(|(_, (key, since))| *key == collection.key && !since.is_gone());
        causes.extend(retired.map(|(cell, (_, since))| Cause::Pins {
            since: since.clone(),
            holds: readers.pins(*cell),
        }));
        let mut rest: BTreeMap<&T, u64> = collection.capabilities.iter().collect();
        for time in causes
            .iter()
            .flat_map(|cause| cause.since().frontier().iter())
        {
            if let Some(count) = rest.get_mut(time) {
                *count -= 1;
            }
        }
        let held = rest.into_iter().filter(|(_, holds)| *holds > 0);
        causes.extend(held.map(|(time, holds)| Cause::Holds {
            since: Since::at(time.clone()),
            holds,
        }));
        Ok(Explanation {
            id,
            key: collection.key,
            dropped: collection.is_dropped(),
            frontiers: collection.frontiers(),
            causes,
        })
    }
    /// How many holds collections have; none for those that are not there. Walks all retired cells.
    pub(super) fn holds(&self, ids: &[I], readers: &impl Readers<I, T>) -> Vec<Option<u64>> {
        let mut retired = BTreeMap::<Key, u64>::new();
        for (cell, (key, _)) in &self.retired {
            *retired.entry(*key).or_default() += readers.pins(*cell);
        }
        let holds = |id: &I| {
            let collection = self.by_id(*id)?;
            let key = collection.key;
            let retired = retired.get(&key).copied().unwrap_or_default();
            Some(u64::from(collection.holds) + retired + readers.current_pins(key))
        };
        ids.iter().map(holds).collect()
    }
}
