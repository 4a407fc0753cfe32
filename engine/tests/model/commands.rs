//! The commands of the language.

use std::time::Duration;

use lowwater::{Command, Epoch, HoldChange, Input, Since, State, StorageReport};
use timely::progress::Antichain;

use super::answers::Asked;
use super::storage::Answering;
use super::text::{TestTime, assignment, frontier, id, number};
use super::world::World;

/// Of the controller that has taken over.
const OTHER_EPOCH: u64 = 7;

impl<T: TestTime> World<T> {
    /// Obeys one command, and sees that its answer is `expected`.
    ///
    /// ```text
    /// create a [policy] [on:b,c] [from:F] [shard:N], d ..      all or nothing; `back` by default
    /// drop a b        policy a=P b=P        upper a=F b=F       upper-by-key a=F b=F
    /// acquire h a F, g b earliest          counted by the owner; `a!`: by key
    /// pin h a         clone g h    move h F    merge h g    release h
    /// wait w a upper:F | since:F | change  cancel w
    /// frontiers a b   explain a            holds a b
    /// check a ..      as for create, and nothing comes of it
    /// keep N M        free N M              shards that others need, who are not here
    /// messages wait | flow   deliver [n]   freed [n]            what holds have sent
    /// stray a F       stray a! F           a release of the incarnation before, of this one
    /// storage waits | works                 answer [at:n] [fail | lost | fenced [shard ..]]
    /// fenced                                another controller is in charge, of epoch 7
    /// shard N since:F upper:F              how it is found; or how somebody else moves it
    /// answers any                          what is refused need not be expected
    /// lapsed N=F M=F                        leases have lapsed: the shards are there, or further
    /// written N=F     after MS     flush   interval MS | max
    /// ```
    pub(crate) fn command(&mut self, text: &str, expected: Option<&str>) {
        let text = text.trim();
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match (verb, &words[..]) {
            ("create", _) => self.create(rest, expected),
            ("check", _) => self.check_only(rest, expected),
            ("keep", shards) => self.keep(shards.iter().copied().map(number).collect(), true),
            ("free", shards) => self.keep(shards.iter().copied().map(number).collect(), false),
            ("drop", ids) => self.drop(ids.iter().copied().map(id).collect(), expected),
            ("policy", all) => self.policies(all, expected),
            ("upper", all) => self.uppers(all, false, expected),
            ("upper-by-key", all) => self.uppers(all, true, expected),
            ("acquire", _) => self.acquire(rest, expected),
            ("pin", [hold, of]) => {
                let closed = self.is_closed(id(of));
                let pinned = self.pin(hold, id(of));
                assert_eq!(pinned, !closed, "a pin on {of}");
                let answer = if pinned { "ok" } else { "closed" };
                self.expected(answer, expected);
            }
            ("clone", [hold, of]) => self.clone_hold(hold, of),
            ("move", [hold, to]) => self.move_hold(hold, frontier(to)),
            ("merge", [hold, other]) => self.merge_holds(hold, other),
            ("release", [hold]) => self.release(hold),
            ("wait", [name, of, until]) => self.wait(name, id(of), until, expected),
            ("cancel", [name]) => {
                let wait = self.waits.remove(*name).expect("there is such a wait");
                self.requests.remove(&wait.ticket);
                self.apply(Input::Cancelled(wait.ticket));
            }
            ("frontiers", ids) => {
                let ids: Vec<_> = ids.iter().copied().map(id).collect();
                self.ask(
                    Command::Frontiers(ids.clone()),
                    Asked::Frontiers(ids),
                    expected,
                );
            }
            ("explain", [of]) => {
                self.ask(Command::Explain(id(of)), Asked::Explain(id(of)), expected);
            }
            ("holds", ids) => {
                let ids: Vec<_> = ids.iter().copied().map(id).collect();
                self.ask(Command::Holds(ids.clone()), Asked::Holds(ids), expected);
            }
            ("messages", [how]) => self.messages_flow = *how == "flow",
            ("deliver", []) => self.deliver_all(),
            ("deliver", [count]) => (0..number(count)).for_each(|_| self.deliver()),
            ("freed", [at]) => self.free_cell(number(at) as usize),
            ("stray", [of, released]) => self.stray(of, frontier(released)),
            ("forge", [of, acquired]) => self.apply(Input::Held(HoldChange {
                key: self.keys[&id(of)],
                acquired: Some(Since::new(frontier(acquired))),
                released: None,
            })),
            ("storage", [how]) => self.storage_works = *how == "works",
            ("answer", how) => self.answer(how),
            ("shard", [shard, places @ ..]) => self.shard(number(shard), places),
            ("written", [written]) => {
                let (shard, upper) = assignment(written);
                self.written(number(shard), frontier(upper));
            }
            ("lapsed", all) => {
                let all = all.iter().map(|text| assignment(text));
                self.lapsed(all.map(|(shard, since)| (number(shard), frontier(since))));
            }
            ("answers", ["any"]) => self.all_succeeds = false,
            ("after", [ms]) => self.after(Duration::from_millis(number(ms))),
            ("flush", []) => self.flush(),
            ("fenced", []) => {
                let report = StorageReport::Fenced(Epoch::new(OTHER_EPOCH));
                self.apply(Input::Storage(report));
            }
            ("interval", [ms]) => {
                self.interval = match *ms {
                    "max" => Duration::MAX,
                    ms => Duration::from_millis(number(ms)),
                };
                match self.tickets {
                    0 => self.state = State::new(self.interval),
                    _ => self.apply(Input::DowngradeInterval(self.interval)),
                }
            }
            _ => panic!("{text} is no command"),
        }
    }

    fn stray(&mut self, of: &str, released: Antichain<T>) {
        let key = match of.strip_suffix('!') {
            Some(of) => self.keys[&id(of)],
            None => {
                let mut old = self.old_keys.iter().filter(|(generation, _)| {
                    let shown = &self.board.shown[generation];
                    shown.id == id(of) && shown.removed
                });
                *old.next_back().expect("an incarnation before").1
            }
        };
        self.apply(Input::Held(HoldChange {
            key,
            acquired: None,
            released: Some(Since::new(released)),
        }));
    }

    fn answer(&mut self, how: &[&str]) {
        let (at, how) = match how.split_first() {
            Some((at, how)) if at.starts_with("at:") => (number(&at[3..]) as usize, how),
            _ => (0, how),
        };
        let (verb, shards) = how.split_first().unwrap_or((&"ok", &[]));
        let how = Answering {
            fails: *verb == "fail",
            lost: *verb == "lost",
            fenced: (*verb == "fenced").then_some(OTHER_EPOCH),
            only: shards.iter().copied().map(number).collect(),
        };
        self.answer_storage(at, &how);
    }

    fn shard(&mut self, shard: u64, places: &[&str]) {
        let shard = self.storage.shard(shard);
        for place in places {
            match place.split_once(':') {
                Some(("since", since)) => shard.since = frontier(since),
                Some(("upper", upper)) => shard.upper = frontier(upper),
                _ => panic!("a shard has no {place}"),
            }
        }
    }

    /// Nobody takes a pin there any more.
    fn is_closed(&self, id: char) -> bool {
        let known = self.truth.alive.get(&self.keys[&id].generation());
        known.is_none_or(|known| known.implied.is_empty())
    }
}
