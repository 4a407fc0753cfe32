//! The collections of the controller: their names, what they depend on, how long they are kept.

use bytes::Bytes;
use lowwater_shard::collections::Kind;

use crate::minute::{DAY, Minute};

/// A collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// A table: one row per flight, with its status.
    Flights,
    /// A table: one row per flight that has left, with its delay.
    Departures,
    /// A table: codes and names.
    Airlines,
    /// How far the source of the weather was taken in at each minute.
    WeatherRemap,
    /// The export of that ingestion: the latest row per airport.
    Weather,
    /// A view: flights in the air, by origin.
    Airborne,
    /// A view: flights departed and their delays, by airline.
    DepartureDelay,
    /// A view: flights in the air, by origin, where the latest weather is wet.
    AirborneInRain,
}

impl Relation {
    /// All of them, each after what it depends on.
    pub const ALL: [Self; 8] = [
        Self::Flights,
        Self::Departures,
        Self::Airlines,
        Self::WeatherRemap,
        Self::Weather,
        Self::Airborne,
        Self::DepartureDelay,
        Self::AirborneInRain,
    ];

    /// The tables: what is written to them commits together.
    pub const TABLES: [Self; 3] = [Self::Flights, Self::Departures, Self::Airlines];

    /// The maintained views.
    pub const VIEWS: [Self; 3] = [Self::Airborne, Self::DepartureDelay, Self::AirborneInRain];

    /// By what the engine knows it.
    #[must_use]
    pub const fn id(self) -> u64 {
        self.index() as u64 + 1
    }

    /// Its place in [`Relation::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// By what people know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flights => "flights",
            Self::Departures => "departures",
            Self::Airlines => "airlines",
            Self::WeatherRemap => "weather_remap",
            Self::Weather => "weather",
            Self::Airborne => "airborne",
            Self::DepartureDelay => "departure_delay",
            Self::AirborneInRain => "airborne_in_rain",
        }
    }

    /// What it is made from, and may not outlive.
    #[must_use]
    pub const fn depends_on(self) -> &'static [Self] {
        match self {
            Self::Flights | Self::Departures | Self::Airlines | Self::WeatherRemap => &[],
            Self::Weather => &[Self::WeatherRemap],
            Self::Airborne => &[Self::Flights],
            Self::DepartureDelay => &[Self::Flights, Self::Departures, Self::Airlines],
            Self::AirborneInRain => &[Self::Airborne, Self::Weather, Self::Flights],
        }
    }

    /// Where its updates come from.
    #[must_use]
    pub fn kind(self) -> Kind<u64> {
        match self {
            Self::Flights | Self::Departures | Self::Airlines => Kind::Table,
            // One source, one file: the ingestion is its own remap collection.
            Self::WeatherRemap => Kind::Ingestion {
                remap: Self::WeatherRemap.id(),
                connection: Bytes::from_static(b"weather.csv.zst"),
            },
            Self::Weather => Kind::IngestionExport {
                ingestion: Self::WeatherRemap.id(),
            },
            Self::Airborne | Self::DepartureDelay | Self::AirborneInRain => Kind::Compute,
        }
    }

    /// Whether it is a table.
    #[must_use]
    pub fn is_table(self) -> bool {
        Self::TABLES.contains(&self)
    }

    /// Whether it is computed from others.
    #[must_use]
    pub fn is_view(self) -> bool {
        Self::VIEWS.contains(&self)
    }
}

/// The minute in which the tables are registered: they are empty in it, and written afterwards.
pub const REGISTERED: Minute = 0;

/// How much history the policies keep: a day.
pub const KEPT: Minute = DAY;

/// The since that the policies ask for when everything is written up to `upper`.
#[must_use]
pub fn since_asked_for(upper: Minute) -> Minute {
    upper.saturating_sub(KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_collection_comes_after_what_it_depends_on() {
        for (index, relation) in Relation::ALL.into_iter().enumerate() {
            assert_eq!(relation.index(), index);
            assert!(
                relation
                    .depends_on()
                    .iter()
                    .all(|dependency| dependency.index() < index)
            );
        }
    }
}
