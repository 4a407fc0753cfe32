//! What comes of commands, compared with the truth.

use std::collections::{BTreeMap, BTreeSet};

use lowwater::{Answer, Cause, Explanation, Frontiers, Granted, Key, Ticket};
use timely::progress::Antichain;

use super::tell::{is_ok, tell};
use super::text::TestTime;
use super::truth::New;
use super::world::World;

/// A command that waits for its answer.
#[derive(Debug)]
pub(crate) struct Request<T> {
    pub(super) asked: Asked<T>,
    /// Whether it must be accepted, where that is known beforehand.
    pub(super) accepted: Option<bool>,
    pub(super) expected: Option<String>,
}

#[derive(Debug)]
pub(super) enum Asked<T> {
    Create(Vec<New<T>>),
    /// These holds, of these incarnations at these frontiers.
    Acquire(Vec<String>, Vec<(u64, Antichain<T>)>),
    Wait(String),
    Frontiers(Vec<char>),
    Explain(char),
    Holds(Vec<char>),
    /// Nothing but yes or no.
    Other,
}

impl<T: TestTime> World<T> {
    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer<char, T>) {
        let told = tell(&answer);
        let request = self.requests.remove(&ticket);
        let request = request.unwrap_or_else(|| panic!("answered twice, or cancelled: {told}"));
        let is_ok = is_ok(&answer);
        if let Some(accepted) = request.accepted {
            assert_eq!(is_ok, accepted, "{:?}: {told}", request.asked);
        }
        match (request.asked, answer) {
            (Asked::Create(news), Answer::Created(created)) => {
                self.created(ticket, &news, created.ok());
            }
            (Asked::Acquire(names, granted), Answer::Acquired(Ok(holds))) => {
                self.acquired(names, &granted, holds);
            }
            (Asked::Wait(name), Answer::Waited(_)) => {
                // Expected of the wait later, not of the line.
                let wait = self.waits.get_mut(&name).expect("it was not cancelled");
                wait.answer = Some(told.clone());
                if request.expected.is_none() {
                    return;
                }
            }
            (Asked::Frontiers(ids), Answer::Frontiers(found)) => self.told(&ids, found.ok()),
            (Asked::Explain(id), Answer::Explained(found)) => self.explained(id, found.ok()),
            (Asked::Holds(ids), Answer::Holds(found)) => return self.counted_holds(&ids, &found),
            (Asked::Acquire(..), Answer::Acquired(Err(_)))
            | (
                Asked::Other,
                Answer::Dropped(_)
                | Answer::PoliciesSet(_)
                | Answer::UppersReported(_)
                | Answer::Checked(_)
                | Answer::ShardsKept,
            ) => {}
            (asked, _) => panic!("{asked:?} was answered with {told}"),
        }
        let questions_answer_themselves = told.contains('@');
        match request.expected {
            None if questions_answer_themselves => {}
            expected => self.expected(&told, expected.as_deref()),
        }
    }

    pub(super) fn expected(&self, told: &str, expected: Option<&str>) {
        match expected {
            Some(expected) => assert_eq!(told, expected, "the answer"),
            None if self.all_succeeds => assert_eq!(told, "ok", "the answer"),
            None => {}
        }
    }

    fn created(&mut self, ticket: Ticket, news: &[New<T>], keys: Option<Vec<(char, Key)>>) {
        self.truth.openings.remove(&ticket);
        let opened = std::mem::take(&mut self.opened);
        let starts = match !self.is_fenced && self.truth.accepts(news) {
            true => self.truth.starts(news, &opened),
            false => None,
        };
        assert_eq!(
            keys.is_some(),
            starts.is_some(),
            "created, or not: {news:?}"
        );
        let (Some(keys), Some(starts)) = (keys, starts) else {
            return;
        };
        let ids: Vec<_> = keys.iter().map(|(id, _)| *id).collect();
        let asked: Vec<_> = news.iter().map(|new| new.id).collect();
        assert_eq!(ids, asked, "keys come in the order of the batch");
        let generations: BTreeMap<_, _> = keys
            .iter()
            .map(|(id, key)| (*id, key.generation()))
            .collect();
        self.truth.install(news, starts, &generations);
        for (id, key) in keys {
            self.keys.insert(id, key);
            let before = self.old_keys.insert(key.generation(), key);
            assert!(before.is_none(), "the generation of {id} was there before");
        }
    }

    fn acquired(
        &mut self,
        names: Vec<String>,
        expected: &[(u64, Antichain<T>)],
        holds: Vec<Granted<char, T>>,
    ) {
        let granted: Vec<_> = holds
            .iter()
            .map(|hold| (hold.key.generation(), hold.since.frontier().clone()))
            .collect();
        assert_eq!(granted, expected, "what was granted");
        for (name, hold) in names.into_iter().zip(holds) {
            self.counted(&name, hold.id, hold.key, hold.since.into_frontier());
        }
    }

    fn told(&self, ids: &[char], found: Option<Vec<Frontiers<T>>>) {
        let alive: Option<Vec<_>> = ids.iter().map(|id| self.truth.by_id(*id)).collect();
        assert_eq!(found.is_some(), alive.is_some(), "the frontiers of {ids:?}");
        for (found, (generation, _)) in found.into_iter().flatten().zip(alive.into_iter().flatten())
        {
            assert_eq!(found, self.board.shown[&generation].frontiers);
        }
    }

    /// Each hold is counted once, wherever it is on its way: messages that are not delivered yet
    /// have not counted anything.
    fn counted_holds(&self, ids: &[char], found: &[Option<u64>]) {
        for (id, found) in ids.iter().zip(found) {
            let expected = self.truth.by_id(*id).map(|(generation, _)| {
                let ledger = self.ledger.iter();
                let counted = ledger.filter(|(key, _)| key.generation() == generation);
                counted.count() as u64 + self.board.pins_of(generation)
            });
            assert_eq!(*found, expected, "the holds of {id}");
        }
    }

    /// Everybody is named who keeps the collection readable, and nobody else.
    fn explained(&self, id: char, found: Option<Explanation<char, T>>) {
        let alive = self.truth.by_id(id);
        assert_eq!(found.is_some(), alive.is_some(), "an explanation of {id}");
        let (Some(found), Some((generation, known))) = (found, alive) else {
            return;
        };
        assert_eq!(found.frontiers, self.board.shown[&generation].frontiers);
        assert_eq!(found.dropped, known.policy.is_none());
        let mut meet = Antichain::new();
        found.causes.iter().for_each(|cause| {
            meet.extend(cause.since().frontier().iter().cloned());
        });
        assert_eq!(meet, known.since, "what keeps {id}");
        let named: BTreeSet<_> = found
            .causes
            .iter()
            .filter_map(|cause| match cause {
                Cause::Dependent(id, _) => Some(*id),
                Cause::Policy(_) | Cause::Pins { .. } | Cause::Holds { .. } => None,
            })
            .collect();
        let dependents =
            self.truth.alive.values().filter(|other| {
                other.dependencies.contains(&generation) && !other.upper.is_empty()
            });
        assert_eq!(
            named,
            dependents.map(|other| other.id).collect(),
            "dependents of {id}"
        );
    }
}
