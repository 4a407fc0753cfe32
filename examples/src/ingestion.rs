//! The ingestion of the weather: a source, a remap collection, an export.

use std::iter::Peekable;
use std::vec;

use differential_dataflow::input::InputSession;

use crate::arrangement::Diff;
use crate::data::airline::Airport;
use crate::data::weather::{Weather, WeatherRow};
use crate::minute::Minute;

/// Where it is written how far the source was taken in.
pub type RemapInput = InputSession<Minute, ((), u64), Diff>;

/// Where the export is written.
pub type WeatherInput = InputSession<Minute, (Airport, WeatherRow), Diff>;

/// The source of the weather, which is one file.
const SOURCE: () = ();

/// What the ingestion of the weather has still to take in, and what it has written last.
pub struct Ingestion {
    rows: Peekable<vec::IntoIter<Weather>>,
    offset: u64,
    latest: Vec<Weather>,
}

impl Ingestion {
    /// Of `weather`, which comes in any order.
    #[must_use]
    pub fn new(weather: &[Weather]) -> Self {
        let mut rows = weather.to_vec();
        rows.sort_by_key(|weather| weather.row.from);
        Self {
            rows: rows.into_iter().peekable(),
            offset: 0,
            latest: Vec::new(),
        }
    }

    /// Takes in what holds before the minute `upper`.
    pub fn advance(
        &mut self,
        upper: Minute,
        weather_remap: &mut RemapInput,
        weather: &mut WeatherInput,
    ) {
        if *weather_remap.time() == 0 && upper > 0 {
            weather_remap.update_at((SOURCE, 0), 0, 1);
        }
        while let Some(hour) = self.rows.next_if(|w| Minute::from(w.row.from) < upper) {
            let at = Minute::from(hour.row.from);
            weather_remap.update_at((SOURCE, self.offset), at, -1);
            self.offset += 1;
            weather_remap.update_at((SOURCE, self.offset), at, 1);

            if let Some(before) = self.latest.iter_mut().find(|w| w.origin == hour.origin) {
                weather.update_at((before.origin, before.row), at, -1);
                *before = hour.clone();
            } else {
                self.latest.push(hour.clone());
            }
            weather.update_at((hour.origin, hour.row), at, 1);
        }
    }
}
