//! What the three views say as of one time, as it is printed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::catalog::Relation;
use crate::row::{Delay, Row, Rows};

/// What the three views say as of one time. Origins and airlines that count nothing are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Flights in the air, by origin.
    pub airborne: BTreeMap<String, i64>,
    /// Flights departed and their delays, by airline.
    pub departure_delay: BTreeMap<String, Delay>,
    /// Flights in the air, by origin, where it is wet.
    pub airborne_in_rain: BTreeMap<String, i64>,
}

impl Findings {
    /// Takes in what was read of `view`.
    ///
    /// # Panics
    /// If they are rows of something else.
    pub fn put(&mut self, view: Relation, rows: Rows) {
        for (row, _) in rows {
            self.put_row(view, row);
        }
    }

    fn put_row(&mut self, view: Relation, row: Row) {
        match row {
            Row::Airborne(origin, count) if view == Relation::AirborneInRain => {
                self.airborne_in_rain.insert(origin.to_string(), count);
            }
            Row::Airborne(origin, count) => {
                self.airborne.insert(origin.to_string(), count);
            }
            Row::Delay(name, delay) => {
                self.departure_delay.insert(name, delay);
            }
            Row::Flight(..)
            | Row::Departure(..)
            | Row::Airline(..)
            | Row::Offset(_)
            | Row::Weather(..) => {
                unreachable!("{} has no such rows", view.name())
            }
        }
    }
}
