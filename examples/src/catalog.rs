//! The collections of the controller: their names, what they depend on, how long they are kept.

use lowwater::ShardId;

use crate::minute::{DAY, Minute};

/// A collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// A table: one row per flight, with its status.
    Flights,
    /// A table that is written once and sealed: codes and names.
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
    pub const ALL: [Self; 7] = [
        Self::Flights,
        Self::Airlines,
        Self::WeatherRemap,
        Self::Weather,
        Self::Airborne,
        Self::DepartureDelay,
        Self::AirborneInRain,
    ];

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

    /// Its shard: the letters of its name. The same in every store, and in every incarnation.
    #[must_use]
    pub fn shard(self) -> ShardId {
        let (name, mut letters) = (self.name().as_bytes(), [0; 16]);
        letters[..name.len()].copy_from_slice(name);
        ShardId::new(u128::from_be_bytes(letters))
    }

    /// By what people know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flights => "flights",
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
            Self::Flights | Self::Airlines | Self::WeatherRemap => &[],
            Self::Weather => &[Self::WeatherRemap],
            Self::Airborne => &[Self::Flights],
            Self::DepartureDelay => &[Self::Flights, Self::Airlines],
            Self::AirborneInRain => &[Self::Airborne, Self::Weather, Self::Flights],
        }
    }

    /// Whether it is computed from others.
    #[must_use]
    pub const fn is_view(self) -> bool {
        match self {
            Self::Airborne | Self::DepartureDelay | Self::AirborneInRain => true,
            Self::Flights | Self::Airlines | Self::WeatherRemap | Self::Weather => false,
        }
    }

    /// Whether it is written to its end at once.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        match self {
            Self::Airlines => true,
            Self::Flights
            | Self::WeatherRemap
            | Self::Weather
            | Self::Airborne
            | Self::DepartureDelay
            | Self::AirborneInRain => false,
        }
    }
}

/// How much history the policies keep: a day.
pub const KEPT: Minute = DAY;

/// The since that the policies ask for when everything is written up to `upper`.
///
/// What is sealed keeps the since that it has had when it was sealed: the beginning.
#[must_use]
pub fn since_asked_for(relation: Relation, upper: Minute) -> Minute {
    if relation.is_sealed() {
        0
    } else {
        upper.saturating_sub(KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_collection_has_a_shard_of_its_own() {
        let shards = Relation::ALL.map(Relation::shard);
        let letters = shards.map(|shard| shard.number().to_be_bytes());
        for (relation, letters) in Relation::ALL.into_iter().zip(letters) {
            let name = String::from_utf8(letters.to_vec()).unwrap();
            assert_eq!(name.trim_end_matches('\0'), relation.name());
        }
    }

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
