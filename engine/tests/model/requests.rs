//! What clients ask of the owner.

use lowwater::{
    Command, Description, Input, ReadPolicy, ShardId, Since, Start, Target, Ticket, Until, Upper,
};
use timely::PartialOrder;
use timely::progress::Antichain;

use super::answers::{Asked, Request};
use super::clients::Wait;
use super::policy::Policy;
use super::text::{TestTime, assignment, frontier, id, number};
use super::truth::{Known, New};
use super::world::World;

impl<T: TestTime> World<T> {
    fn request(
        &mut self,
        command: Command<char, T>,
        asked: Asked<T>,
        accepted: Option<bool>,
        expected: Option<&str>,
    ) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let request = Request {
            asked,
            accepted,
            expected: expected.map(str::to_owned),
        };
        self.requests.insert(ticket, request);
        self.apply(Input::Command { ticket, command });
        ticket
    }

    /// A command that is answered at the end of the turn.
    pub(super) fn ask(
        &mut self,
        command: Command<char, T>,
        asked: Asked<T>,
        expected: Option<&str>,
    ) {
        self.request(command, asked, None, expected);
    }

    /// A command that is answered at once: accepted or not, as the truth has it.
    fn obeyed(
        &mut self,
        command: Command<char, T>,
        asked: Asked<T>,
        accepted: bool,
        expected: Option<&str>,
    ) {
        let ticket = self.request(command, asked, Some(accepted), expected);
        assert!(!self.requests.contains_key(&ticket), "not answered");
    }

    pub(super) fn create(&mut self, batch: &str, expected: Option<&str>) {
        let news: Vec<New<T>> = batch.split(", ").map(parse_new).collect();
        let batch = news.iter().map(description).collect();
        let accepted = !self.is_fenced && self.truth.accepts(&news);
        let waits = accepted && news.iter().any(|new| new.shard.is_some());
        if waits {
            self.truth.open(Ticket(self.tickets), news.clone());
        }
        let asked = Asked::Create(news);
        let ticket = self.request(Command::Create(batch), asked, None, expected);
        assert_eq!(
            self.requests.contains_key(&ticket),
            waits,
            "waits for shards"
        );
    }

    /// Says what creating the batch would say, before its shards are open.
    pub(super) fn check_only(&mut self, batch: &str, expected: Option<&str>) {
        let news: Vec<New<T>> = batch.split(", ").map(parse_new).collect();
        let batch = news.iter().map(description).collect();
        let accepted = !self.is_fenced && self.truth.accepts(&news);
        self.obeyed(Command::Check(batch), Asked::Other, accepted, expected);
    }

    /// Keeps shards for others, or keeps them no more.
    pub(super) fn keep(&mut self, shards: Vec<u64>, keeps: bool) {
        let ids = shards.iter().map(|shard| ShardId::new((*shard).into()));
        let ids = ids.collect();
        let command = match keeps {
            true => Command::KeepShards(ids),
            false => Command::FreeShards(ids),
        };
        for shard in shards {
            match keeps {
                true => self.truth.keep(shard),
                false => self.truth.free(shard),
            }
        }
        self.obeyed(command, Asked::Other, true, None);
    }

    pub(super) fn drop(&mut self, ids: Vec<char>, expected: Option<&str>) {
        let found: Option<Vec<_>> = ids.iter().map(|id| self.undropped(*id)).collect();
        for generation in found.iter().flatten() {
            self.known(*generation).policy = None;
        }
        self.obeyed(Command::Drop(ids), Asked::Other, found.is_some(), expected);
    }

    pub(super) fn policies(&mut self, all: &[&str], expected: Option<&str>) {
        let all: Vec<_> = all.iter().map(|text| assignment(text)).collect();
        let all: Vec<_> = all
            .iter()
            .map(|(of, p)| (id(of), Policy::parse(p)))
            .collect();
        let fits = |(of, policy): &(char, Policy<T>)| {
            let generation = self.undropped(*of)?;
            let known = &self.truth.alive[&generation];
            let fits = policy.is_valid() && policy.wants(&known.upper, &known.implied).is_some();
            fits.then(|| (generation, policy.clone()))
        };
        let found: Option<Vec<_>> = all.iter().map(fits).collect();
        let accepted = found.is_some();
        for (generation, policy) in found.into_iter().flatten() {
            self.known(generation).policy = Some(policy);
        }
        let all: Vec<(char, ReadPolicy<T>)> = all
            .into_iter()
            .map(|(of, policy)| (of, policy.read_policy()))
            .collect();
        self.obeyed(Command::SetPolicies(all), Asked::Other, accepted, expected);
    }

    pub(super) fn uppers(&mut self, all: &[&str], by_key: bool, expected: Option<&str>) {
        let all: Vec<_> = all.iter().map(|text| assignment(text)).collect();
        let all: Vec<_> = all
            .iter()
            .map(|(of, f)| (id(of), frontier::<T>(f)))
            .collect();
        // Said one after the other, on a copy: nothing is taken unless all is.
        let mut alive = self.truth.alive.clone();
        let accepted = all.iter().all(|(of, upper)| {
            let generation = match by_key {
                true => Some(self.keys[of].generation()),
                false => self.truth.by_id(*of).map(|(generation, _)| generation),
            };
            match generation.and_then(|generation| alive.get_mut(&generation)) {
                Some(known) => advance(&mut known.upper, upper),
                None => by_key,
            }
        });
        if accepted {
            self.truth.alive = alive;
        }
        let uppers = all.iter().map(|(_, upper)| Upper::new(upper.clone()));
        let command = match by_key {
            true => {
                let keys = all.iter().map(|(of, _)| self.keys[of]);
                Command::ReportUppersByKey(keys.zip(uppers).collect())
            }
            false => Command::ReportUppers(all.iter().map(|(of, _)| *of).zip(uppers).collect()),
        };
        self.obeyed(command, Asked::Other, accepted, expected);
    }

    pub(super) fn acquire(&mut self, all: &str, expected: Option<&str>) {
        let (mut names, mut wanted, mut granted) = (Vec::new(), Vec::new(), Some(Vec::new()));
        for one in all.split(", ") {
            let words: Vec<_> = one.split_whitespace().collect();
            let [name, of, at] = words[..] else {
                panic!("{one} is no `hold collection start`");
            };
            let of_id = id(of.trim_end_matches('!'));
            names.push(name.to_owned());
            let (target, found) = match self.keys.get(&of_id) {
                Some(key) if of.ends_with('!') => {
                    let undropped = self.truth.alive.get(&key.generation());
                    let undropped = undropped.filter(|known| known.policy.is_some());
                    (
                        Target::Key(of_id, *key),
                        undropped.map(|_| key.generation()),
                    )
                }
                _ => (Target::Id(of_id), self.undropped(of_id)),
            };
            let since = found.map(|generation| &self.truth.alive[&generation].since);
            let (start, fits) = match at {
                "earliest" => (Start::Earliest, since.cloned()),
                _ => {
                    let at = frontier::<T>(at);
                    let fits = since.is_some_and(|since| PartialOrder::less_equal(since, &at));
                    (Start::At(Since::new(at.clone())), fits.then_some(at))
                }
            };
            wanted.push((target, start));
            granted = match (granted, found, fits) {
                (Some(mut all), Some(generation), Some(since)) => {
                    all.push((generation, since));
                    Some(all)
                }
                _ => None,
            };
        }
        let accepted = granted.is_some();
        let asked = Asked::Acquire(names, granted.unwrap_or_default());
        self.obeyed(Command::Acquire(wanted), asked, accepted, expected);
    }

    pub(super) fn wait(&mut self, name: &str, of: char, until: &str, expected: Option<&str>) {
        let key = self.keys[&of];
        let version = self.board.shown[&key.generation()].frontiers.version;
        let until = match until.split_once(':') {
            Some(("upper", bound)) => Until::UpperPast(frontier(bound)),
            Some(("since", bound)) => Until::SincePast(frontier(bound)),
            _ if until == "change" => Until::ChangedAfter(version),
            _ => panic!("nobody waits for {until}"),
        };
        let wait = Wait {
            ticket: Ticket(self.tickets),
            key,
            until: until.clone(),
            answer: None,
        };
        let before = self.waits.insert(name.to_owned(), wait);
        assert!(before.is_none_or(|before| before.answer.is_some()));
        let asked = Asked::Wait(name.to_owned());
        self.ask(Command::Wait(key, until), asked, expected);
    }

    fn undropped(&self, id: char) -> Option<u64> {
        let (generation, known) = self.truth.by_id(id)?;
        known.policy.is_some().then_some(generation)
    }

    fn known(&mut self, generation: u64) -> &mut Known<T> {
        self.truth.alive.get_mut(&generation).expect("it is alive")
    }
}

/// Uppers follow each other; late ones say nothing. False: it is incomparable.
pub(super) fn advance<T: TestTime>(known: &mut Antichain<T>, reported: &Antichain<T>) -> bool {
    if PartialOrder::less_equal(known, reported) {
        known.clone_from(reported);
        return true;
    }
    PartialOrder::less_equal(reported, known)
}

fn parse_new<T: TestTime>(text: &str) -> New<T> {
    let mut words = text.split_whitespace();
    let mut new = New {
        id: id(words.next().expect("an id")),
        on: Vec::new(),
        policy: Policy::Lag(1),
        from: None,
        shard: None,
    };
    for word in words {
        match word.split_once(':') {
            Some(("on", others)) => new.on = others.split(',').map(id).collect(),
            Some(("from", since)) => new.from = Some(frontier(since)),
            Some(("shard", shard)) => new.shard = Some(number(shard)),
            _ => new.policy = Policy::parse(word),
        }
    }
    new
}

fn description<T: TestTime>(new: &New<T>) -> Description<char, T> {
    let mut description =
        Description::new(new.id, new.policy.read_policy()).depends_on(new.on.iter().copied());
    if let Some(since) = &new.from {
        description = description.since(Since::new(since.clone()));
    }
    if let Some(shard) = new.shard {
        description = description.shard(ShardId::new(shard.into()));
    }
    description
}
