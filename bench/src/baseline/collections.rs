//! The collections, and how a change travels from dependents to dependencies.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use timely::PartialOrder;
use timely::progress::frontier::MutableAntichain;
use timely::progress::{Antichain, ChangeBatch};

/// Every collection by its id.
#[derive(Default)]
pub struct Collections {
    by_id: BTreeMap<u64, Collection>,
}

/// Changes of capabilities, merged per collection.
pub type Changes = BTreeMap<u64, ChangeBatch<u64>>;

struct Collection {
    upper: Antichain<u64>,
    policy: Policy,
    /// Empty from the moment when the collection is dropped.
    implied: Antichain<u64>,
    capabilities: MutableAntichain<u64>,
    dependencies: SmallVec<[u64; 2]>,
}

/// What the owner of a collection wants its since to be.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// From this time on.
    ValidFrom(u64),
    /// So far behind the upper.
    Lag(u64),
}

/// A collection to create.
#[derive(Clone, Debug)]
pub struct Description {
    /// Greater than those of its dependencies, as ids that are given out in order are.
    pub id: u64,
    /// What the owner wants its since to be.
    pub policy: Policy,
    /// What it depends on.
    pub dependencies: SmallVec<[u64; 2]>,
}

/// What everybody may know of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontiers {
    /// Times not beyond it are complete.
    pub upper: Antichain<u64>,
    /// What the collection itself keeps.
    pub implied: Antichain<u64>,
    /// Times beyond it can be read.
    pub since: Antichain<u64>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The id is in use.
    Exists(u64),
    /// There is no such collection.
    Unknown(u64),
    /// It was dropped, and lives only because somebody holds it.
    Dropped(u64),
    /// Its since is past the time that was asked for.
    TooEarly(u64),
}

impl Collections {
    /// Creates a batch, all or nothing.
    ///
    /// # Errors
    ///
    /// When an id exists already, or a dependency does not, or does not come before its dependent.
    pub fn create(&mut self, batch: Vec<Description>) -> Result<(), Refused> {
        for (
            at,
            Description {
                id, dependencies, ..
            },
        ) in batch.iter().enumerate()
        {
            let in_batch = |id| batch[..at].binary_search_by_key(id, |d| d.id).is_ok();
            let in_order = at == 0 || batch[at - 1].id < *id;
            if self.by_id.contains_key(id) || !in_order {
                return Err(Refused::Exists(*id));
            }
            for on in dependencies {
                let existing = self.by_id.get(on);
                if on >= id || existing.is_none() && !in_batch(on) {
                    return Err(Refused::Unknown(*on));
                }
                if existing.is_some_and(|on| on.implied.is_empty()) {
                    return Err(Refused::Dropped(*on));
                }
            }
        }
        let mut changes = Changes::new();
        for description in batch {
            self.install(description, &mut changes);
        }
        self.apply(changes);
        Ok(())
    }

    /// Counts a hold at the implied capability, which is the answer.
    ///
    /// # Errors
    ///
    /// When there is no such collection, or it was dropped.
    pub fn acquire(&mut self, id: u64) -> Result<Antichain<u64>, Refused> {
        let collection = self.living(id)?;
        let since = collection.implied.clone();
        collection
            .capabilities
            .update_iter(since.iter().map(|&time| (time, 1)));
        Ok(since)
    }

    /// Counts a hold at `time`.
    ///
    /// # Errors
    ///
    /// When there is no such collection, or its since is past `time`.
    pub fn acquire_at(&mut self, id: u64, time: u64) -> Result<Antichain<u64>, Refused> {
        let collection = self.living(id)?;
        if !collection.capabilities.less_equal(&time) {
            return Err(Refused::TooEarly(id));
        }
        collection.capabilities.update_iter([(time, 1)]);
        Ok(Antichain::from_elem(time))
    }

    /// Moves uppers, and what the policies make of them.
    pub fn report_uppers(&mut self, uppers: &[(u64, u64)]) {
        let mut changes = Changes::new();
        for &(id, upper) in uppers {
            let Some(collection) = self.by_id.get_mut(&id) else {
                continue;
            };
            if collection.upper.less_than(&upper) {
                collection.upper = Antichain::from_elem(upper);
                collection.follow_policy(id, &mut changes);
            }
        }
        self.apply(changes);
    }

    /// Changes policies.
    pub fn set_policies(&mut self, policies: &[(u64, Policy)]) {
        let mut changes = Changes::new();
        for &(id, policy) in policies {
            let Some(collection) = self.by_id.get_mut(&id) else {
                continue;
            };
            collection.policy = policy;
            collection.follow_policy(id, &mut changes);
        }
        self.apply(changes);
    }

    /// Lets collections go as soon as nobody needs them.
    pub fn drop_collections(&mut self, ids: &[u64]) {
        let mut changes = Changes::new();
        for &id in ids {
            let Some(collection) = self.by_id.get_mut(&id) else {
                continue;
            };
            collection.move_implied(id, Antichain::new(), &mut changes);
        }
        self.apply(changes);
    }

    /// Applies changes of capabilities, dependents before dependencies, so that each collection is
    /// visited once.
    pub fn apply(&mut self, mut changes: Changes) {
        while let Some((id, mut change)) = changes.pop_last() {
            // Late releases for what is gone are no errors.
            let Some(collection) = self.by_id.get_mut(&id) else {
                continue;
            };
            let moved: SmallVec<[(u64, i64); 2]> = collection
                .capabilities
                .update_iter(change.drain())
                .collect();
            if !moved.is_empty() {
                for &on in &collection.dependencies {
                    changes.entry(on).or_default().extend(moved.iter().copied());
                }
            }
            if collection.capabilities.is_empty() {
                self.by_id.remove(&id);
            }
        }
    }

    /// What everybody may know of a collection.
    pub fn frontiers(&self, id: u64) -> Option<Frontiers> {
        self.by_id.get(&id).map(|collection| Frontiers {
            upper: collection.upper.clone(),
            implied: collection.implied.clone(),
            since: collection.capabilities.frontier().to_owned(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn install(&mut self, description: Description, changes: &mut Changes) {
        let Description {
            id,
            policy,
            dependencies,
        } = description;
        let mut implied = 0;
        for on in &dependencies {
            let on = &self.by_id[on].implied;
            implied = on.iter().copied().fold(implied, u64::max);
        }
        for &on in &dependencies {
            changes.entry(on).or_default().update(implied, 1);
        }
        let mut collection = Collection {
            upper: Antichain::from_elem(0),
            policy,
            implied: Antichain::from_elem(implied),
            capabilities: MutableAntichain::from_elem(implied),
            dependencies,
        };
        collection.follow_policy(id, changes);
        self.by_id.insert(id, collection);
    }

    fn living(&mut self, id: u64) -> Result<&mut Collection, Refused> {
        let collection = self.by_id.get_mut(&id).ok_or(Refused::Unknown(id))?;
        if collection.implied.is_empty() {
            Err(Refused::Dropped(id))
        } else {
            Ok(collection)
        }
    }
}

impl Collection {
    fn follow_policy(&mut self, id: u64, changes: &mut Changes) {
        let wanted = match self.policy {
            Policy::ValidFrom(time) => time,
            Policy::Lag(lag) => self
                .upper
                .iter()
                .next()
                .map_or(0, |upper| upper.saturating_sub(lag)),
        };
        let wanted = Antichain::from_elem(wanted);
        if PartialOrder::less_than(&self.implied, &wanted) {
            self.move_implied(id, wanted, changes);
        }
    }

    fn move_implied(&mut self, id: u64, to: Antichain<u64>, changes: &mut Changes) {
        let change = changes.entry(id).or_default();
        change.extend(to.iter().map(|&time| (time, 1)));
        change.extend(self.implied.iter().map(|&time| (time, -1)));
        self.implied = to;
    }
}
