//! The tables, the ingestion and the views, on one worker of `timely`.

use differential_dataflow::input::{Input, InputSession};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::dataflow::ProbeHandle;
use timely::progress::Antichain;
use timely::worker::Worker;

use crate::arrangement::{Arrangement, Diff, Index};
use crate::catalog::Relation;
use crate::data::Data;
use crate::data::airline::Carrier;
use crate::data::flight::{FlightId, FlightRow};
use crate::ingestion::{Ingestion, RemapInput, WeatherInput};
use crate::minute::Minute;
use crate::row::{Row, Rows};
use crate::timetable::Timetable;
use crate::views;

/// Writes the tables minute by minute, maintains the views, and answers from the arrangements.
pub struct Dataflow<'a> {
    worker: Worker,
    inputs: Inputs,
    probe: ProbeHandle<Minute>,
    /// In the order of [`Relation::ALL`].
    arrangements: Vec<Box<dyn Arrangement>>,
    timetable: Timetable<'a>,
    ingestion: Ingestion,
}

struct Inputs {
    flights: InputSession<Minute, (FlightId, FlightRow), Diff>,
    weather_remap: RemapInput,
    weather: WeatherInput,
}

impl<'a> Dataflow<'a> {
    /// Builds the dataflow; `airlines` is written and sealed at once.
    #[must_use]
    pub fn new(data: &'a Data) -> Self {
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let probe = ProbeHandle::new();
        let (inputs, mut airlines, arrangements) = build(&mut worker, &probe);

        for airline in &data.airlines {
            airlines.update((airline.carrier, airline.name.clone()), 1);
        }
        airlines.close();

        Self {
            worker,
            inputs,
            probe,
            arrangements,
            timetable: Timetable::new(&data.flights),
            ingestion: Ingestion::new(&data.weather),
        }
    }

    /// Writes what happens before the minute `upper`, and waits until all views have seen it.
    pub fn advance(&mut self, upper: Minute) {
        while let Some(change) = self.timetable.next_before(upper) {
            let flights = &mut self.inputs.flights;
            if let Some(row) = change.before {
                flights.update_at((change.flight, row), change.at, -1);
            }
            if let Some(row) = change.after {
                flights.update_at((change.flight, row), change.at, 1);
            }
        }
        let inputs = &mut self.inputs;
        self.ingestion
            .advance(upper, &mut inputs.weather_remap, &mut inputs.weather);
        self.inputs.advance_to(upper);
        self.worker.step_while(|| self.probe.less_than(&upper));
    }

    /// The rows of `relation` at the time `as_of`, from its arrangement.
    pub fn read(&mut self, relation: Relation, as_of: Minute) -> Rows {
        self.arrangement(relation).read(as_of)
    }

    /// Lets the arrangement of `relation` forget what `since` permits to forget.
    pub fn compact(&mut self, relation: Relation, since: &Antichain<Minute>) {
        self.arrangement(relation).compact(since);
    }

    /// How far the arrangement of `relation` may have been compacted.
    pub fn since(&mut self, relation: Relation) -> Antichain<Minute> {
        self.arrangement(relation).since()
    }

    /// How far `relation` is complete.
    pub fn upper(&mut self, relation: Relation) -> Antichain<Minute> {
        self.arrangement(relation).upper()
    }

    /// How many updates the arrangement of `relation` keeps.
    #[must_use]
    pub fn kept(&self, relation: Relation) -> usize {
        self.arrangements[relation.index()].kept()
    }

    /// How many updates the arrangement of `relation` comes down to, once all of it is merged.
    pub fn needed(&mut self, relation: Relation) -> usize {
        self.arrangement(relation).needed()
    }

    /// How many updates `relation` has seen.
    #[must_use]
    pub fn taken_in(&self, relation: Relation) -> u64 {
        self.arrangements[relation.index()].taken_in()
    }

    fn arrangement(&mut self, relation: Relation) -> &mut dyn Arrangement {
        &mut *self.arrangements[relation.index()]
    }
}

impl Inputs {
    fn advance_to(&mut self, upper: Minute) {
        self.flights.advance_to(upper);
        self.flights.flush();
        self.weather_remap.advance_to(upper);
        self.weather_remap.flush();
        self.weather.advance_to(upper);
        self.weather.flush();
    }
}

type Built = (
    Inputs,
    InputSession<Minute, (Carrier, String), Diff>,
    Vec<Box<dyn Arrangement>>,
);

fn build(worker: &mut Worker, probe: &ProbeHandle<Minute>) -> Built {
    worker.dataflow::<Minute, _, _>(|scope| {
        let (flights_input, flights) = scope.new_collection();
        let (airlines_input, airlines) = scope.new_collection();
        let (remap_input, remap) = scope.new_collection();
        let (weather_input, weather) = scope.new_collection();

        let (flights, flights_arranged) =
            Index::build(flights, "flights", probe, |id, row| Row::Flight(*id, *row));
        let (airlines, airlines_arranged) = Index::build(
            airlines,
            "airlines",
            probe,
            |code: &Carrier, name: &String| Row::Airline(*code, name.clone()),
        );
        let (remap, _) = Index::build(remap, "weather_remap", probe, |(), offset| {
            Row::Offset(*offset)
        });
        let (weather, weather_arranged) = Index::build(weather, "weather", probe, |origin, row| {
            Row::Weather(*origin, *row)
        });

        let airborne = views::airborne(&flights_arranged);
        let (airborne, airborne_arranged) =
            Index::build(airborne, "airborne", probe, |origin, n| {
                Row::Airborne(*origin, *n)
            });
        let delay = views::departure_delay(&flights_arranged, &airlines_arranged);
        let (delay, _) = Index::build(delay, "departure_delay", probe, |name: &String, delay| {
            Row::Delay(name.clone(), *delay)
        });
        let rain = views::airborne_in_rain(&airborne_arranged, &weather_arranged);
        let (rain, _) = Index::build(rain, "airborne_in_rain", probe, |origin, n| {
            Row::Airborne(*origin, *n)
        });

        let inputs = Inputs {
            flights: flights_input,
            weather_remap: remap_input,
            weather: weather_input,
        };
        let arrangements: Vec<Box<dyn Arrangement>> = vec![
            Box::new(flights),
            Box::new(airlines),
            Box::new(remap),
            Box::new(weather),
            Box::new(airborne),
            Box::new(delay),
            Box::new(rain),
        ];
        (inputs, airlines_input, arrangements)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::since_asked_for;
    use crate::data::tests::year;
    use crate::minute::DAY;
    use crate::oracle::Oracle;

    fn compact_all(dataflow: &mut Dataflow<'_>, upper: Minute) {
        for relation in Relation::ALL {
            let since = Antichain::from_elem(since_asked_for(relation, upper));
            dataflow.compact(relation, &since);
        }
    }

    /// Replays `days`, each collection compacted to a day before its upper.
    fn replayed(days: Minute) -> Dataflow<'static> {
        let mut dataflow = Dataflow::new(year());
        for upper in (60..=days * DAY).step_by(60) {
            dataflow.advance(upper);
            compact_all(&mut dataflow, upper);
        }
        dataflow
    }

    #[test]
    fn every_collection_reads_right_from_since_to_upper() {
        let (mut dataflow, oracle) = (replayed(8), Oracle::new(year()));
        for relation in Relation::ALL {
            for as_of in [7 * DAY, 7 * DAY + 1, 7 * DAY + 777, 8 * DAY - 1] {
                let rows = dataflow.read(relation, as_of);
                assert_eq!(
                    rows,
                    oracle.rows(relation, as_of),
                    "{relation:?} as of {as_of}"
                );
            }
        }
    }

    #[test]
    fn what_lies_before_since_is_really_forgotten() {
        let (mut dataflow, oracle) = (replayed(8), Oracle::new(year()));
        for relation in [
            Relation::Flights,
            Relation::Airborne,
            Relation::DepartureDelay,
        ] {
            let forgotten = dataflow.read(relation, 4 * DAY);
            assert_ne!(forgotten, oracle.rows(relation, 4 * DAY), "{relation:?}");
        }
    }

    #[test]
    fn the_history_that_is_kept_does_not_grow_with_time() {
        let kept = |days| replayed(days).kept(Relation::Flights);
        assert!(kept(40) < 2 * kept(10));
    }

    #[test]
    fn uppers_are_what_was_written_and_airlines_is_sealed() {
        let mut dataflow = replayed(1);
        for relation in Relation::ALL {
            let upper = dataflow.upper(relation);
            if relation.is_sealed() {
                assert!(upper.is_empty());
            } else {
                assert_eq!(upper, Antichain::from_elem(DAY), "{relation:?}");
            }
        }
    }
}
