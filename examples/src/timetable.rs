//! The updates to the tables `flights` and `departures`, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::data::flight::{Flight, FlightId, FlightRow, Status};
use crate::minute::Minute;

/// Tells what changes in `flights` and `departures`, minute by minute.
///
/// It remembers the flights that are present, a few thousand, and not the year.
pub struct Timetable<'a> {
    flights: &'a [Flight],
    /// The first flight that is not announced yet.
    announce: usize,
    /// What comes next for each flight that is present, and the status that it ends.
    due: BinaryHeap<Reverse<(Minute, FlightId, Status)>>,
}

/// A change of one flight: of its rows in both tables, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The minute in which it happens.
    pub at: Minute,
    /// The key of the rows.
    pub flight: FlightId,
    /// What was there.
    pub before: Option<Stage>,
    /// What is there from then on.
    pub after: Option<Stage>,
}

/// The rows of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its row in `flights`.
    pub row: FlightRow,
    /// Its row in `departures`, if it has left.
    pub dep_delay: Option<i16>,
}

impl<'a> Timetable<'a> {
    /// From the beginning of the year. The flights are sorted by their scheduled departure.
    #[must_use]
    pub fn new(flights: &'a [Flight]) -> Self {
        Self {
            flights,
            announce: 0,
            due: BinaryHeap::new(),
        }
    }

    /// From the minute `from` on: what happens before is known.
    #[must_use]
    pub fn starting_at(flights: &'a [Flight], from: Minute) -> Self {
        let mut timetable = Self::new(flights);
        while timetable.next_before(from).is_some() {}
        timetable
    }

    /// The next change, if it happens before the minute `before`.
    pub fn next_before(&mut self, before: Minute) -> Option<Change> {
        let announced = self.flights.get(self.announce).map(Flight::announced);
        let due = self.due.peek().map(|Reverse((at, ..))| *at);
        match (announced, due) {
            (Some(at), None) if at < before => Some(self.announce(at)),
            (Some(at), Some(due)) if at <= due && at < before => Some(self.announce(at)),
            (_, Some(due)) if due < before => self.move_on(),
            (_, None | Some(_)) => None,
        }
    }

    fn announce(&mut self, at: Minute) -> Change {
        let flight = id(self.announce);
        self.announce += 1;
        let after = Some(self.enter(flight, Status::Scheduled));
        Change {
            at,
            flight,
            before: None,
            after,
        }
    }

    fn move_on(&mut self) -> Option<Change> {
        let Reverse((at, flight, status)) = self.due.pop()?;
        let (_, next) = self.flight(flight).after(status);
        let before = Some(self.stage(flight, status));
        let after = next.map(|next| self.enter(flight, next));
        Some(Change {
            at,
            flight,
            before,
            after,
        })
    }

    fn enter(&mut self, flight: FlightId, status: Status) -> Stage {
        let (until, _) = self.flight(flight).after(status);
        self.due.push(Reverse((until, flight, status)));
        self.stage(flight, status)
    }

    fn stage(&self, flight: FlightId, status: Status) -> Stage {
        let flight = self.flight(flight);
        Stage {
            row: flight.row(status),
            dep_delay: flight.departed(status),
        }
    }

    fn flight(&self, FlightId(index): FlightId) -> &'a Flight {
        &self.flights[index as usize]
    }
}

/// The id of the flight that stands at `index`.
pub(crate) fn id(index: usize) -> FlightId {
    FlightId(u32::try_from(index).expect("there are fewer flights than that"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::year;
    use crate::minute::{DAY, YEAR_DAYS};

    fn updates(before: Minute) -> usize {
        let mut timetable = Timetable::new(&year().flights);
        let changes = std::iter::from_fn(|| timetable.next_before(before));
        changes
            .map(|c| usize::from(c.before.is_some()) + usize::from(c.after.is_some()))
            .sum()
    }

    #[test]
    fn the_year_has_as_many_updates_as_it_should() {
        assert_eq!(updates(YEAR_DAYS * DAY), 2_003_194);
        assert_eq!(updates(Minute::MAX), 2_004_146);
    }

    #[test]
    fn changes_come_in_the_order_of_time_and_fit_together() {
        let mut timetable = Timetable::new(&year().flights);
        let mut rows = std::collections::BTreeMap::new();
        let mut now = 0;
        while let Some(change) = timetable.next_before(30 * DAY) {
            assert!(now <= change.at);
            now = change.at;
            let before = match change.after {
                Some(row) => rows.insert(change.flight, row),
                None => rows.remove(&change.flight),
            };
            assert_eq!(before, change.before);
        }
        assert!(!rows.is_empty());
    }

    #[test]
    fn nothing_at_the_minute_asked_for_is_told() {
        let mut timetable = Timetable::new(&year().flights);
        assert_eq!(timetable.next_before(1), None);
        assert_eq!(timetable.next_before(2).map(|change| change.at), Some(1));
    }
}
