//! What clients ask: each command is checked as a whole, then applied as a whole.

use timely::PartialOrder;

use crate::command::{
    AcquireError, Command, DropError, LookupError, ReportError, SetPoliciesError, Start, Target,
    Until, WaitError,
};
use crate::effect::{Answer, Effect, Granted, Readers};
use crate::frontier::{Frontiers, Time, Upper};
use crate::id::{CollectionId, Key, Ticket};
use crate::policy::ReadPolicy;

use super::{Named, State, answer};

/// What is answered when the turn is over.
#[derive(Debug)]
pub(super) enum Question<I> {
    Frontiers(Vec<I>),
    Explain(I),
    Holds(Vec<I>),
}

impl<I: CollectionId, T: Time> State<I, T> {
    pub(super) fn obey(
        &mut self,
        ticket: Ticket,
        command: Command<I, T>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let answer_now = match command {
            Command::Create(batch) => return self.create(ticket, batch, readers, effects),
            Command::Wait(key, until) => return self.wait(ticket, key, until, effects),
            Command::Frontiers(ids) => {
                return self.questions.push((ticket, Question::Frontiers(ids)));
            }
            Command::Explain(id) => return self.questions.push((ticket, Question::Explain(id))),
            Command::Holds(ids) => return self.questions.push((ticket, Question::Holds(ids))),
            Command::Drop(ids) => Answer::Dropped(self.drop_collections(&ids)),
            Command::SetPolicies(policies) => Answer::PoliciesSet(self.set_policies(policies)),
            Command::ReportUppers(uppers) => Answer::UppersReported(self.report_uppers(uppers)),
            Command::ReportUppersByKey(uppers) => {
                Answer::UppersReported(self.report_uppers_by_key(uppers))
            }
            Command::Acquire(wanted) => Answer::Acquired(self.acquire(wanted)),
            Command::Check(batch) => Answer::Checked(self.check_only(batch)),
            Command::KeepShards(shards) => {
                self.keep_shards(shards);
                Answer::ShardsKept
            }
            Command::FreeShards(shards) => {
                self.free_shards(shards);
                Answer::ShardsKept
            }
        };
        effects.push(answer(ticket, answer_now));
    }

    fn drop_collections(&mut self, ids: &[I]) -> Result<(), DropError<I>> {
        for &id in ids {
            let collection = self.by_id(id).ok_or(DropError::UnknownCollection(id))?;
            if collection.is_dropped() {
                return Err(DropError::Dropped(id));
            }
        }
        for id in ids {
            let slot = self.slot(id);
            let collection = self.at_mut(slot);
            collection.policy = None;
            collection.due = true;
            self.push(slot);
        }
        Ok(())
    }

    fn set_policies(
        &mut self,
        policies: Vec<(I, ReadPolicy<T>)>,
    ) -> Result<(), SetPoliciesError<I>> {
        for (id, policy) in &policies {
            let collection = self
                .by_id(*id)
                .ok_or(SetPoliciesError::UnknownCollection(*id))?;
            if collection.is_dropped() {
                return Err(SetPoliciesError::Dropped(*id));
            }
            policy
                .check()
                .and_then(|()| policy.try_since_for(&collection.upper, &collection.implied))
                .map_err(|error| SetPoliciesError::Policy {
                    collection: *id,
                    error,
                })?;
        }
        for (id, policy) in policies {
            let slot = self.slot(&id);
            let collection = self.at_mut(slot);
            collection.policy = Some(policy);
            collection.due = true;
            self.push(slot);
        }
        Ok(())
    }

    fn report_uppers(&mut self, uppers: Vec<(I, Upper<T>)>) -> Result<(), ReportError<I, T>> {
        let slot = |(id, upper)| match self.by_id(id) {
            Some(collection) => Ok((Some(collection.key.slot), upper)),
            None => Err(ReportError::UnknownCollection(id)),
        };
        let uppers: Vec<_> = uppers.into_iter().map(slot).collect::<Result<_, _>>()?;
        self.take_uppers(uppers, |_, slot| slot)
    }

    fn report_uppers_by_key(
        &mut self,
        uppers: Vec<(Key, Upper<T>)>,
    ) -> Result<(), ReportError<I, T>> {
        self.take_uppers(uppers, |state, key| {
            state.alive(key).map(|found| found.key.slot)
        })
    }

    /// Advances uppers one after the other, or none of them: a collection may occur twice, and then
    /// even its own reports must follow each other.
    fn take_uppers<N: Copy>(
        &mut self,
        mut uppers: Vec<(N, Upper<T>)>,
        slot: impl Fn(&Self, N) -> Option<u32>,
    ) -> Result<(), ReportError<I, T>> {
        for place in 0..uppers.len() {
            let (name, upper) = &mut uppers[place];
            let Some(slot_here) = slot(self, *name) else {
                continue;
            };
            if let Err(refusal) = self.at_mut(slot_here).exchange_upper(upper) {
                for (name, before) in uppers[..place].iter_mut().rev() {
                    if let Some(slot) = slot(self, *name) {
                        std::mem::swap(&mut self.at_mut(slot).upper, before);
                    }
                }
                return Err(refusal);
            }
        }
        for (name, before) in &uppers {
            if let Some(slot) = slot(self, *name) {
                let collection = self.at_mut(slot);
                if collection.upper != *before {
                    collection.due = true;
                    collection.changed = true;
                    self.push(slot);
                }
            }
        }
        Ok(())
    }

    fn acquire(
        &mut self,
        wanted: Vec<(Target<I>, Start<T>)>,
    ) -> Result<Vec<Granted<I, T>>, AcquireError<I, T>> {
        let granted = wanted
            .into_iter()
            .map(|(target, start)| self.grant(target, start))
            .collect::<Result<Vec<_>, _>>()?;
        for Granted { key, since, .. } in &granted {
            self.count_hold(key.slot, since.clone(), 1);
        }
        Ok(granted)
    }

    /// What such a hold would own; nothing is counted yet.
    fn grant(
        &self,
        target: Target<I>,
        start: Start<T>,
    ) -> Result<Granted<I, T>, AcquireError<I, T>> {
        let id = target.id();
        let collection = match target {
            Target::Id(id) => self.by_id(id).ok_or(AcquireError::UnknownCollection(id))?,
            // A handle outlives its collection, which was dropped before it went.
            Target::Key(id, key) => self.alive(key).ok_or(AcquireError::Dropped(id))?,
        };
        if collection.is_dropped() {
            return Err(AcquireError::Dropped(id));
        }
        let since = collection.readable();
        let since = match start {
            Start::Earliest => since,
            Start::At(at) if PartialOrder::less_equal(&since, &at) => at,
            Start::At(_) => {
                return Err(AcquireError::TooEarly {
                    collection: id,
                    since,
                });
            }
        };
        Ok(Granted {
            id,
            key: collection.key,
            since,
        })
    }

    /// Answers what was asked of this turn, now that all of it has taken effect.
    pub(super) fn answer_questions(
        &mut self,
        readers: &impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        for (ticket, question) in std::mem::take(&mut self.questions) {
            effects.push(answer(
                ticket,
                match question {
                    Question::Frontiers(ids) => Answer::Frontiers(self.frontiers(&ids)),
                    Question::Explain(id) => Answer::Explained(self.explain(id, readers)),
                    Question::Holds(ids) => Answer::Holds(self.holds(&ids, readers)),
                },
            ));
        }
    }

    fn frontiers(&self, ids: &[I]) -> Result<Vec<Frontiers<T>>, LookupError<I>> {
        let known = |&id| self.by_id(id).ok_or(LookupError::UnknownCollection(id));
        ids.iter().map(|id| Ok(known(id)?.frontiers())).collect()
    }

    /// Looked at when the collection is visited in this turn, and whenever it changes later.
    fn wait(&mut self, ticket: Ticket, key: Key, until: Until<T>, effects: &mut Vec<Effect<I, T>>) {
        let refusal = match self.alive_mut(key) {
            _ if until.is_never() => WaitError::Never,
            None => WaitError::Gone,
            Some(collection) => {
                collection.watched = true;
                self.waiters.add(key.slot, ticket, until);
                return self.push(key.slot);
            }
        };
        effects.push(answer(ticket, Answer::Waited(Err(refusal))));
    }

    /// The slot of a collection that has been checked to be there.
    fn slot(&self, id: &I) -> u32 {
        match self.by_id.get(id) {
            Some(Named::Slot(slot)) => *slot,
            Some(Named::Opening(_)) | None => unreachable!("the command was checked as a whole"),
        }
    }
}
