//! The rows of each collection as columns: how they are stored, so that other tools can read them.

use std::fmt::Display;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type, UInt64Type};
use lowwater_shard::{Column, ColumnKind, Schema};

use crate::catalog::Relation;
use crate::data::airline::Code;
use crate::data::flight::{FlightId, FlightRow, Status};
use crate::data::weather::WeatherRow;
use crate::row::{Delay, Row};

/// What is stored is not what the collection has: somebody else's, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is stored of {} is none of its rows: {what}", .relation.name())]
pub struct RowError {
    relation: Relation,
    what: String,
}

/// The columns of `relation`.
///
/// # Panics
/// Never.
#[must_use]
pub fn schema(relation: Relation) -> Schema {
    let column = |name: &str, kind, nullable| Column {
        name: name.to_owned(),
        kind,
        nullable,
    };
    let text = |name| column(name, ColumnKind::Text, false);
    let number = |name| column(name, ColumnKind::Int64, false);
    let count = |name| column(name, ColumnKind::UInt64, false);
    let columns = match relation {
        Relation::Flights => vec![
            count("flight"),
            text("carrier"),
            column("number", ColumnKind::Int32, false),
            text("origin"),
            text("status"),
        ],
        Relation::Departures => vec![
            count("flight"),
            column("dep_delay", ColumnKind::Int32, false),
        ],
        Relation::Airlines => vec![text("carrier"), text("name")],
        Relation::WeatherRemap => vec![count("rows_taken_in")],
        Relation::Weather => vec![
            text("origin"),
            count("from_minute"),
            column("precip_hundredths_inch", ColumnKind::Int32, false),
        ],
        Relation::Airborne | Relation::AirborneInRain => vec![text("origin"), number("flights")],
        Relation::DepartureDelay => vec![text("airline"), number("flights"), number("dep_delay")],
    };
    Schema::new(columns).expect("no name occurs twice")
}

/// Rows of `relation` as columns, in the same order.
///
/// # Panics
/// If one of them is no row of `relation`.
#[must_use]
pub fn encode<'a>(relation: Relation, rows: impl ExactSizeIterator<Item = &'a Row>) -> RecordBatch {
    let expected = rows.len();
    let columns: Vec<ArrayRef> = match relation {
        Relation::Flights => encode_flights(rows),
        Relation::Departures => encode_departures(rows),
        Relation::Airlines => encode_airlines(rows),
        Relation::WeatherRemap => encode_offsets(rows),
        Relation::Weather => encode_weather(rows),
        Relation::Airborne | Relation::AirborneInRain => encode_airborne(rows),
        Relation::DepartureDelay => encode_delays(rows),
    };
    let found = columns.first().map_or(0, |column| column.len());
    assert_eq!(
        found, expected,
        "rows of another collection than {relation:?}"
    );
    RecordBatch::try_new(schema(relation).arrow(), columns).expect("the columns are the schema's")
}

/// The rows of `relation` that are in these columns, in order.
///
/// # Errors
/// When they are no rows of `relation`.
pub fn decode(relation: Relation, batch: &RecordBatch) -> Result<Vec<Row>, RowError> {
    let fail = |what: String| RowError { relation, what };
    if batch.schema().fields() != schema(relation).arrow().fields() {
        return Err(fail("it has other columns".to_owned()));
    }
    let columns = Columns(batch);
    let row = |at| match relation {
        Relation::Flights => columns.flight(at),
        Relation::Departures => columns.departure(at),
        Relation::Airlines => Ok(Row::Airline(
            columns.code(0, at)?,
            columns.text(1, at).to_owned(),
        )),
        Relation::WeatherRemap => Ok(Row::Offset(columns.count(0, at))),
        Relation::Weather => columns.weather(at),
        Relation::Airborne | Relation::AirborneInRain => {
            Ok(Row::Airborne(columns.code(0, at)?, columns.number(1, at)))
        }
        Relation::DepartureDelay => {
            let (flights, dep_delay) = (columns.number(1, at), columns.number(2, at));
            Ok(Row::Delay(
                columns.text(0, at).to_owned(),
                Delay { flights, dep_delay },
            ))
        }
    };
    (0..batch.num_rows())
        .map(row)
        .collect::<Result<_, _>>()
        .map_err(fail)
}

fn encode_flights<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let (mut ids, mut carriers, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut origins, mut statuses) = (Vec::new(), Vec::new());
    for row in rows {
        if let Row::Flight(FlightId(id), flight) = row {
            ids.push(u64::from(*id));
            carriers.push(flight.carrier.to_string());
            numbers.push(i32::from(flight.number));
            origins.push(flight.origin.to_string());
            statuses.push(flight.status.name());
        }
    }
    vec![
        Arc::new(UInt64Array::from(ids)),
        Arc::new(StringArray::from(carriers)),
        Arc::new(Int32Array::from(numbers)),
        Arc::new(StringArray::from(origins)),
        Arc::new(StringArray::from(statuses)),
    ]
}

fn encode_departures<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let (mut ids, mut delays) = (Vec::new(), Vec::new());
    for row in rows {
        if let Row::Departure(FlightId(id), dep_delay) = row {
            ids.push(u64::from(*id));
            delays.push(i32::from(*dep_delay));
        }
    }
    vec![
        Arc::new(UInt64Array::from(ids)),
        Arc::new(Int32Array::from(delays)),
    ]
}

fn encode_airlines<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let (mut carriers, mut names) = (Vec::new(), Vec::new());
    for row in rows {
        if let Row::Airline(carrier, name) = row {
            carriers.push(carrier.to_string());
            names.push(name.as_str());
        }
    }
    vec![
        Arc::new(StringArray::from(carriers)),
        Arc::new(StringArray::from(names)),
    ]
}

fn encode_offsets<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let mut offsets = Vec::new();
    for row in rows {
        if let Row::Offset(offset) = row {
            offsets.push(*offset);
        }
    }
    vec![Arc::new(UInt64Array::from(offsets))]
}

fn encode_weather<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let (mut origins, mut begins, mut precipitations) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if let Row::Weather(origin, weather) = row {
            origins.push(origin.to_string());
            begins.push(u64::from(weather.from));
            precipitations.push(i32::from(weather.precipitation));
        }
    }
    vec![
        Arc::new(StringArray::from(origins)),
        Arc::new(UInt64Array::from(begins)),
        Arc::new(Int32Array::from(precipitations)),
    ]
}

fn encode_airborne<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let (mut origins, mut counts) = (Vec::new(), Vec::new());
    for row in rows {
        if let Row::Airborne(origin, count) = row {
            origins.push(origin.to_string());
            counts.push(*count);
        }
    }
    vec![
        Arc::new(StringArray::from(origins)),
        Arc::new(Int64Array::from(counts)),
    ]
}

fn encode_delays<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<ArrayRef> {
    let (mut names, mut flights, mut delays) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if let Row::Delay(name, delay) = row {
            names.push(name.as_str());
            flights.push(delay.flights);
            delays.push(delay.dep_delay);
        }
    }
    vec![
        Arc::new(StringArray::from(names)),
        Arc::new(Int64Array::from(flights)),
        Arc::new(Int64Array::from(delays)),
    ]
}

/// Columns that were found to be those of a schema: each has the type that is asked for.
struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    fn flight(&self, at: usize) -> Result<Row, String> {
        let id = narrow(self.count(0, at))?;
        let status = self.text(4, at);
        let flight = FlightRow {
            carrier: self.code(1, at)?,
            number: narrow(self.small(2, at))?,
            origin: self.code(3, at)?,
            status: Status::named(status).ok_or_else(|| format!("{status:?} is no status"))?,
        };
        Ok(Row::Flight(FlightId(id), flight))
    }

    fn departure(&self, at: usize) -> Result<Row, String> {
        let id = FlightId(narrow(self.count(0, at))?);
        Ok(Row::Departure(id, narrow(self.small(1, at))?))
    }

    fn weather(&self, at: usize) -> Result<Row, String> {
        let weather = WeatherRow {
            from: narrow(self.count(1, at))?,
            precipitation: narrow(self.small(2, at))?,
        };
        Ok(Row::Weather(self.code(0, at)?, weather))
    }

    fn text(&self, column: usize, at: usize) -> &'a str {
        self.0.column(column).as_string::<i32>().value(at)
    }

    fn code<const N: usize>(&self, column: usize, at: usize) -> Result<Code<N>, String> {
        Code::try_from(self.text(column, at).to_owned())
    }

    fn count(&self, column: usize, at: usize) -> u64 {
        self.0.column(column).as_primitive::<UInt64Type>().value(at)
    }

    fn number(&self, column: usize, at: usize) -> i64 {
        self.0.column(column).as_primitive::<Int64Type>().value(at)
    }

    fn small(&self, column: usize, at: usize) -> i32 {
        self.0.column(column).as_primitive::<Int32Type>().value(at)
    }
}

/// The same number, if the narrower type has it.
fn narrow<From: Copy + Display, To: TryFrom<From>>(number: From) -> Result<To, String> {
    To::try_from(number).map_err(|_| format!("{number} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::year;
    use crate::minute::DAY;
    use crate::oracle::Oracle;

    fn rows(relation: Relation) -> Vec<Row> {
        let at_noon = Oracle::new(year()).rows(relation, 200 * DAY + DAY / 2);
        at_noon.into_iter().map(|(row, _)| row).collect()
    }

    #[test]
    fn rows_of_every_collection_come_back_as_they_were() {
        for relation in Relation::ALL {
            let rows = rows(relation);
            let batch = encode(relation, rows.iter());
            assert_eq!(decode(relation, &batch).unwrap(), rows, "{relation:?}");
            let none = encode(relation, [].iter());
            assert_eq!(decode(relation, &none).unwrap(), []);
        }
    }

    #[test]
    fn what_is_no_row_is_refused_and_names_the_collection() {
        let airlines = encode(Relation::Airlines, rows(Relation::Airlines).iter());
        let refused = decode(Relation::Airborne, &airlines).unwrap_err();
        assert!(refused.to_string().contains("airborne"), "{refused}");

        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["Newark"])),
            Arc::new(Int64Array::from(vec![1])),
        ];
        let schema = schema(Relation::Airborne).arrow();
        let batch = RecordBatch::try_new(schema, columns).unwrap();
        let refused = decode(Relation::Airborne, &batch).unwrap_err();
        assert!(refused.to_string().contains("Newark"), "{refused}");
    }
}
