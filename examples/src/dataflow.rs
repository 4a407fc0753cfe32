//! The tables, the ingestion and the views, on one worker of `timely`.

use differential_dataflow::input::{Input, InputSession};
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::dataflow::ProbeHandle;
use timely::progress::Antichain;
use timely::worker::Worker;

use crate::arrangement::{Arrangement, Diff, Index};
use crate::catalog::{REGISTERED, Relation};
use crate::data::Data;
use crate::data::airline::Carrier;
use crate::data::flight::{FlightId, FlightRow};
use crate::ingestion::{Ingestion, RemapInput, WeatherInput};
use crate::minute::Minute;
use crate::past::{Past, Update};
use crate::row::{Row, Rows};
use crate::timetable::{Change, Stage, Timetable};
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
    departures: InputSession<Minute, (FlightId, i16), Diff>,
    airlines: InputSession<Minute, (Carrier, String), Diff>,
    weather_remap: RemapInput,
    weather: WeatherInput,
}

impl<'a> Dataflow<'a> {
    /// Builds the dataflow, and goes on from `past`: the tables are given what they have, and then
    /// what happens from where each is written on. The views are computed from where the tables
    /// begin. `airlines` is written in the first minute that it can be.
    ///
    /// Everything is complete up to [`Past::begin`] afterwards.
    #[must_use]
    pub fn new(data: &'a Data, past: &Past) -> Self {
        let allocator = Allocator::Thread(Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        let probe = ProbeHandle::new();
        let (mut inputs, arrangements) = build(&mut worker, past, &probe);

        for relation in Relation::ALL {
            for (row, at, diff) in past.updates(relation) {
                inputs.restore(row, *at, *diff);
            }
        }
        let first = REGISTERED + 1;
        if past.end(Relation::Airlines) <= first {
            for airline in &data.airlines {
                let named = (airline.carrier, airline.name.clone());
                inputs.airlines.update_at(named, first, 1);
            }
        }

        let mut dataflow = Self {
            worker,
            inputs,
            probe,
            arrangements,
            timetable: Timetable::starting_at(&data.flights, past.end(Relation::Flights)),
            ingestion: Ingestion::new(&data.weather, past),
        };
        if past.begin() > 0 {
            dataflow.advance(past.begin());
        }
        dataflow
    }

    /// Writes what happens before the minute `upper`, and waits until all views have seen it.
    pub fn advance(&mut self, upper: Minute) {
        while let Some(change) = self.timetable.next_before(upper) {
            self.inputs.change(&change);
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

    /// Takes the updates of `relation` before the minute `upper` that are still to be written. All
    /// must be complete up to there.
    pub fn take_unwritten(&mut self, relation: Relation, upper: Minute) -> Vec<Update> {
        self.arrangement(relation).take_unwritten(upper)
    }

    fn arrangement(&mut self, relation: Relation) -> &mut dyn Arrangement {
        &mut *self.arrangements[relation.index()]
    }
}

impl Inputs {
    fn change(&mut self, change: &Change) {
        let Change { at, flight, .. } = *change;
        let delay = |stage: Option<Stage>| stage.and_then(|stage| stage.dep_delay);
        let has_left_or_gone = delay(change.before) != delay(change.after);
        for (stage, diff) in [(change.before, -1), (change.after, 1)] {
            let Some(Stage { row, dep_delay }) = stage else {
                continue;
            };
            self.flights.update_at((flight, row), at, diff);
            if let Some(dep_delay) = dep_delay.filter(|_| has_left_or_gone) {
                self.departures.update_at((flight, dep_delay), at, diff);
            }
        }
    }

    /// Gives a table an update that was written before.
    fn restore(&mut self, row: &Row, at: Minute, diff: Diff) {
        match row {
            Row::Flight(id, flight) => self.flights.update_at((*id, *flight), at, diff),
            Row::Departure(id, dep_delay) => {
                self.departures.update_at((*id, *dep_delay), at, diff);
            }
            Row::Airline(code, name) => self.airlines.update_at((*code, name.clone()), at, diff),
            Row::Offset(offset) => self.weather_remap.update_at(((), *offset), at, diff),
            Row::Weather(origin, weather) => self.weather.update_at((*origin, *weather), at, diff),
            // Views are computed, not restored.
            Row::Airborne(..) | Row::Delay(..) => {}
        }
    }

    fn advance_to(&mut self, upper: Minute) {
        self.flights.advance_to(upper);
        self.flights.flush();
        self.departures.advance_to(upper);
        self.departures.flush();
        self.airlines.advance_to(upper);
        self.airlines.flush();
        self.weather_remap.advance_to(upper);
        self.weather_remap.flush();
        self.weather.advance_to(upper);
        self.weather.flush();
    }
}

type Built = (Inputs, Vec<Box<dyn Arrangement>>);

fn build(worker: &mut Worker, past: &Past, probe: &ProbeHandle<Minute>) -> Built {
    let written = |relation| past.end(relation);
    worker.dataflow::<Minute, _, _>(|scope| {
        let (flights_input, flights) = scope.new_collection();
        let (departures_input, departures) = scope.new_collection();
        let (airlines_input, airlines) = scope.new_collection();
        let (remap_input, remap) = scope.new_collection();
        let (weather_input, weather) = scope.new_collection();

        let (flights, flights_arranged) = Index::build(
            flights,
            "flights",
            written(Relation::Flights),
            probe,
            |id, row| Row::Flight(*id, *row),
        );
        let (departures, departures_arranged) = Index::build(
            departures,
            "departures",
            written(Relation::Departures),
            probe,
            |id, dep_delay| Row::Departure(*id, *dep_delay),
        );
        let (airlines, airlines_arranged) = Index::build(
            airlines,
            "airlines",
            written(Relation::Airlines),
            probe,
            |code: &Carrier, name: &String| Row::Airline(*code, name.clone()),
        );
        let (remap, _) = Index::build(
            remap,
            "weather_remap",
            written(Relation::WeatherRemap),
            probe,
            |(), offset| Row::Offset(*offset),
        );
        let (weather, weather_arranged) = Index::build(
            weather,
            "weather",
            written(Relation::Weather),
            probe,
            |origin, row| Row::Weather(*origin, *row),
        );

        let airborne = views::airborne(&flights_arranged);
        let (airborne, airborne_arranged) = Index::build(
            airborne,
            "airborne",
            written(Relation::Airborne),
            probe,
            |origin, n| Row::Airborne(*origin, *n),
        );
        let delay =
            views::departure_delay(&flights_arranged, &departures_arranged, &airlines_arranged);
        let (delay, _) = Index::build(
            delay,
            "departure_delay",
            written(Relation::DepartureDelay),
            probe,
            |name: &String, delay| Row::Delay(name.clone(), *delay),
        );
        let rain = views::airborne_in_rain(&airborne_arranged, &weather_arranged);
        let (rain, _) = Index::build(
            rain,
            "airborne_in_rain",
            written(Relation::AirborneInRain),
            probe,
            |origin, n| Row::Airborne(*origin, *n),
        );

        let inputs = Inputs {
            flights: flights_input,
            departures: departures_input,
            airlines: airlines_input,
            weather_remap: remap_input,
            weather: weather_input,
        };
        let arrangements: Vec<Box<dyn Arrangement>> = vec![
            Box::new(flights),
            Box::new(departures),
            Box::new(airlines),
            Box::new(remap),
            Box::new(weather),
            Box::new(airborne),
            Box::new(delay),
            Box::new(rain),
        ];
        (inputs, arrangements)
    })
}

#[cfg(test)]
mod tests;
