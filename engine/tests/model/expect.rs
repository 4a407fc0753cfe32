//! The expectations of the language.

use timely::PartialOrder;
use timely::progress::Antichain;

use super::text::{TestTime, id, number, show};
use super::world::World;

impl<T: TestTime> World<T> {
    /// Sees that it is so, as the last turn has left it.
    ///
    /// ```text
    /// a since F implied F upper F durable F      a gone      a dropped
    /// hold h at F     hold h lost | holds        wait w waits | ok | Gone | Never
    /// asked 1=F 2=F | nothing                    events X Y | none     (of the last line)
    /// collections N    waiting N    durable yes | no    next-tick MS | none
    /// ```
    pub(super) fn expect(&self, text: &str) {
        let words: Vec<_> = text.split_whitespace().collect();
        match words[..] {
            ["hold", hold, "at", at] => assert_eq!(show(&self.holds[hold].since), at, "{hold}"),
            ["hold", name, how] => {
                // As clients find out, without asking anybody.
                let hold = &self.holds[name];
                let shown = &self.board.shown[&hold.key.generation()];
                let since = shown.frontiers.since.frontier();
                let holds = !shown.removed && PartialOrder::less_equal(since, &hold.since);
                let found = if holds { "holds" } else { "lost" };
                assert_eq!(found, how, "{name}");
                assert!(holds || hold.may_be_lost, "{name} is lost");
            }
            ["wait", wait, answer] => {
                let told = self.waits[wait].answer.as_deref();
                assert_eq!(told.unwrap_or("waits"), answer, "{wait}");
            }
            ["asked", ..] => {
                let asked = or_none(&self.asked, "nothing");
                assert_eq!(asked, words[1..].join(" "), "asked of storage");
            }
            ["events", ..] => {
                assert_eq!(
                    or_none(&self.events, "none"),
                    words[1..].join(" "),
                    "events"
                );
            }
            ["collections", count] => {
                assert_eq!(self.state.collections() as u64, number(count));
            }
            ["waiting", count] => assert_eq!(self.state.waiting() as u64, number(count)),
            ["durable", answer] => assert_eq!(self.state.is_durable(), answer == "yes"),
            ["next-tick", at] => {
                let next = self
                    .state
                    .next_tick()
                    .map(|next| next.as_millis().to_string());
                assert_eq!(next.unwrap_or(String::from("none")), at, "next tick");
            }
            [of, "gone"] => {
                let generation = self.keys[&id(of)].generation();
                assert!(self.board.shown[&generation].removed, "{of} is still there");
            }
            [of, "dropped"] => {
                let (_, known) = self.truth.by_id(id(of)).expect("it is still there");
                assert!(known.policy.is_none(), "{of} is not dropped");
            }
            [of, ref places @ ..] if places.len() % 2 == 0 && !places.is_empty() => {
                let generation = self.keys[&id(of)].generation();
                let shown = &self.board.shown[&generation];
                assert!(!shown.removed, "{of} is gone");
                for place in places.chunks(2) {
                    let frontiers = &shown.frontiers;
                    let frontier: &Antichain<T> = match place[0] {
                        "since" => frontiers.since.frontier(),
                        "implied" => frontiers.implied.frontier(),
                        "upper" => frontiers.upper.frontier(),
                        "durable" => frontiers.durable_since.frontier(),
                        other => panic!("there is no {other} to expect"),
                    };
                    assert_eq!(show(frontier), place[1], "{} of {of}", place[0]);
                }
            }
            _ => panic!("{text} is no expectation"),
        }
    }
}

fn or_none(all: &[String], none: &str) -> String {
    if all.is_empty() {
        return none.to_owned();
    }
    all.join(" ")
}
