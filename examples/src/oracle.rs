//! Every answer once more, straight from the tables: no updates, no times, no history.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::catalog::{REGISTERED, Relation};
use crate::data::Data;
use crate::data::airline::{Airport, Carrier};
use crate::data::flight::{DIVERTED_AFTER, Flight, Status};
use crate::data::weather::WeatherRow;
use crate::minute::{DAY, Minute};
use crate::row::{Delay, Row, Rows};
use crate::timetable::id;

/// Knows what each collection holds at any minute of the year.
pub struct Oracle<'a> {
    data: &'a Data,
    names: BTreeMap<Carrier, &'a str>,
    /// The most minutes from a scheduled departure to the end of the flight's row. It only spares
    /// looking at flights that are long gone.
    longest: Minute,
}

impl<'a> Oracle<'a> {
    /// Answers from `data`.
    #[must_use]
    pub fn new(data: &'a Data) -> Self {
        let names = data
            .airlines
            .iter()
            .map(|a| (a.carrier, a.name.as_str()))
            .collect();
        let longest = data
            .flights
            .iter()
            .map(minutes_from_schedule_to_end)
            .max()
            .unwrap_or(0);
        Self {
            data,
            names,
            longest,
        }
    }

    /// The rows that `relation` has at the minute `at`.
    #[must_use]
    pub fn rows(&self, relation: Relation, at: Minute) -> Rows {
        let rows: Vec<Row> = match relation {
            Relation::Flights => self.flights(at),
            Relation::Departures => self.departures(at),
            Relation::Airlines if at == REGISTERED => Vec::new(),
            Relation::Airlines => self.airlines(),
            Relation::WeatherRemap => vec![Row::Offset(self.weather_rows_until(at))],
            Relation::Weather => self
                .weather(at)
                .map(|(origin, row)| Row::Weather(origin, row))
                .collect(),
            Relation::Airborne => airborne_rows(self.airborne(at)),
            Relation::DepartureDelay => self.departure_delay(at),
            Relation::AirborneInRain => self.airborne_in_rain(at),
        };
        rows.into_iter().map(|row| (row, 1)).collect()
    }

    fn flights(&self, at: Minute) -> Vec<Row> {
        self.present(at, self.around(at))
            .map(|(index, flight, status)| Row::Flight(id(index), flight.row(status)))
            .collect()
    }

    fn departures(&self, at: Minute) -> Vec<Row> {
        let left = self.present(at, self.around(at));
        left.filter(|(_, _, status)| {
            matches!(status, Status::Airborne | Status::Landed | Status::Diverted)
        })
        .filter_map(|(index, flight, _)| Some(Row::Departure(id(index), flight.dep_delay?)))
        .collect()
    }

    fn airlines(&self) -> Vec<Row> {
        self.names
            .iter()
            .map(|(carrier, name)| Row::Airline(*carrier, (*name).into()))
            .collect()
    }

    fn weather_rows_until(&self, at: Minute) -> u64 {
        self.data
            .weather
            .iter()
            .map(|w| u64::from(Minute::from(w.row.from) <= at))
            .sum()
    }

    fn weather(&self, at: Minute) -> impl Iterator<Item = (Airport, WeatherRow)> {
        self.data
            .weather
            .chunk_by(|a, b| a.origin == b.origin)
            .filter_map(move |of_airport| {
                let begun = of_airport.partition_point(|w| Minute::from(w.row.from) <= at);
                let latest = &of_airport[begun.checked_sub(1)?];
                Some((latest.origin, latest.row))
            })
    }

    fn airborne(&self, at: Minute) -> BTreeMap<Airport, i64> {
        let mut counts = BTreeMap::new();
        for (_, flight, status) in self.present(at, self.around(at)) {
            if status == Status::Airborne {
                *counts.entry(flight.origin).or_insert(0) += 1;
            }
        }
        counts
    }

    fn departure_delay(&self, at: Minute) -> Vec<Row> {
        let mut delays = BTreeMap::new();
        for (_, flight, status) in self.present(at, self.around(at)) {
            let (Some(minutes), true) = (flight.dep_delay, status != Status::Scheduled) else {
                continue;
            };
            let Some(name) = self.names.get(&flight.carrier) else {
                continue;
            };
            let delay = delays.entry(*name).or_insert(Delay {
                flights: 0,
                dep_delay: 0,
            });
            delay.flights += 1;
            delay.dep_delay += i64::from(minutes);
        }
        delays
            .into_iter()
            .map(|(name, delay)| Row::Delay(name.to_owned(), delay))
            .collect()
    }

    fn airborne_in_rain(&self, at: Minute) -> Vec<Row> {
        let wet: Vec<Airport> = self
            .weather(at)
            .filter(|(_, row)| row.is_wet())
            .map(|(origin, _)| origin)
            .collect();
        let mut counts = self.airborne(at);
        counts.retain(|origin, _| wet.contains(origin));
        airborne_rows(counts)
    }

    /// The flights among `candidates` that have a row at the minute `at`.
    fn present(
        &self,
        at: Minute,
        candidates: Range<usize>,
    ) -> impl Iterator<Item = (usize, &'a Flight, Status)> {
        let first = candidates.start;
        let flights = self.data.flights[candidates].iter().enumerate();
        flights.filter_map(move |(i, flight)| Some((first + i, flight, status_at(flight, at)?)))
    }

    /// The flights that may have a row at the minute `at`, judged by their schedule alone.
    fn around(&self, at: Minute) -> Range<usize> {
        let scheduled_before = |minute| {
            self.data
                .flights
                .partition_point(|flight| Minute::from(flight.scheduled) < minute)
        };
        scheduled_before(at.saturating_sub(self.longest))..scheduled_before(at + DAY + 1)
    }
}

/// The status of a flight at a minute; `None` while it has no row.
fn status_at(flight: &Flight, at: Minute) -> Option<Status> {
    let at = at.cast_signed();
    let scheduled = i64::from(flight.scheduled);
    let day = DAY.cast_signed();

    if at < scheduled - day || at <= REGISTERED.cast_signed() {
        return None;
    }
    let Some(dep_delay) = flight.dep_delay else {
        return match at {
            _ if at < scheduled => Some(Status::Scheduled),
            _ if at < scheduled + day => Some(Status::Cancelled),
            _ => None,
        };
    };
    let departure = scheduled + i64::from(dep_delay);
    let (end, last) = match flight.air_time {
        Some(air_time) => (departure + i64::from(air_time), Status::Landed),
        None => (departure + DIVERTED_AFTER.cast_signed(), Status::Diverted),
    };
    match at {
        _ if at < departure => Some(Status::Scheduled),
        _ if at < end => Some(Status::Airborne),
        _ if at < end + day => Some(last),
        _ => None,
    }
}

fn minutes_from_schedule_to_end(flight: &Flight) -> Minute {
    let delay = flight
        .dep_delay
        .map_or(0, |minutes| Minute::try_from(minutes).unwrap_or(0));
    delay + flight.air_time.map_or(DIVERTED_AFTER, Minute::from) + DAY
}

fn airborne_rows(counts: BTreeMap<Airport, i64>) -> Vec<Row> {
    counts
        .into_iter()
        .map(|(origin, count)| Row::Airborne(origin, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::year;
    use crate::minute::YEAR_DAYS;

    #[test]
    fn looking_at_few_flights_finds_what_looking_at_all_finds() {
        let oracle = Oracle::new(year());
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let at = random.u64(0..YEAR_DAYS * DAY);
            let few = oracle
                .present(at, oracle.around(at))
                .map(|(index, ..)| index);
            let all = oracle
                .present(at, 0..year().flights.len())
                .map(|(index, ..)| index);
            assert!(few.eq(all), "at {at}");
        }
    }

    #[test]
    fn forty_seven_are_airborne_at_the_end_of_the_year() {
        let airborne = Oracle::new(year()).airborne(YEAR_DAYS * DAY - 1);
        assert_eq!(airborne.values().sum::<i64>(), 47);
    }

    #[test]
    fn minute_ten_thousand_is_as_counted_by_hand() {
        let oracle = Oracle::new(year());
        let airborne: Vec<_> = oracle
            .airborne(10_000)
            .iter()
            .map(|(o, n)| (o.to_string(), *n))
            .collect();
        assert_eq!(
            airborne,
            [("EWR".into(), 26), ("JFK".into(), 42), ("LGA".into(), 8)]
        );
        let united = Row::Delay(
            "United Air Lines Inc.".into(),
            Delay {
                flights: 181,
                dep_delay: 2034,
            },
        );
        assert!(oracle.departure_delay(10_000).contains(&united));
        assert_eq!(oracle.airborne_in_rain(10_000), []);
    }

    #[test]
    fn an_airport_has_no_weather_before_its_first_row() {
        let oracle = Oracle::new(year());
        assert_eq!(oracle.weather(59).count(), 0);
        assert_eq!(oracle.weather(60).count(), 3);
    }
}
