//! What a collection holds at a time.

use serde::{Deserialize, Serialize};

use crate::data::airline::{Airport, Carrier};
use crate::data::flight::{FlightId, FlightRow};
use crate::data::weather::WeatherRow;

/// A row of any of the collections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Of `flights`: one per flight, with its status.
    Flight(FlightId, FlightRow),
    /// Of `departures`: minutes that it has left late.
    Departure(FlightId, i16),
    /// Of `airlines`: the name behind a code.
    Airline(Carrier, String),
    /// Of `weather_remap`: how many rows of the source the ingestion has taken in.
    Offset(u64),
    /// Of `weather`: the latest row of an airport.
    Weather(Airport, WeatherRow),
    /// Of `airborne` and `airborne_in_rain`: flights in the air, by where they came from.
    Airborne(Airport, i64),
    /// Of `departure_delay`: by the airline's name.
    Delay(String, Delay),
}

/// What the flights of an airline that have left, and are still in the table, add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Delay {
    /// How many they are.
    pub flights: i64,
    /// The sum of their delays in minutes.
    pub dep_delay: i64,
}

/// The rows of a collection at a time, each with how often it is there, in ascending order.
///
/// In a healthy collection each row is there once; the count is kept so that a row that is there
/// twice, or minus once, differs from what it should be.
pub type Rows = Vec<(Row, i64)>;
