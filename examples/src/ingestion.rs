//! The ingestion of the weather: a source, a remap collection, an export.

use differential_dataflow::input::InputSession;

use crate::arrangement::Diff;
use crate::catalog::Relation;
use crate::data::airline::Airport;
use crate::data::weather::{Weather, WeatherRow};
use crate::minute::Minute;
use crate::past::Past;
use crate::row::Row;

/// Where it is written how far the source was taken in.
pub type RemapInput = InputSession<Minute, ((), u64), Diff>;

/// Where the export is written.
pub type WeatherInput = InputSession<Minute, (Airport, WeatherRow), Diff>;

/// The source of the weather, which is one file.
const SOURCE: () = ();

/// What the ingestion of the weather has still to take in, and what it has written last.
///
/// At which minute a row of the source is taken in is settled once: the remap collection says so.
/// What it says already is followed, so that the export comes out the same however often the
/// ingestion is started anew; rows that it does not speak of yet are taken in from its upper on.
pub struct Ingestion {
    /// In the order in which they are taken in.
    rows: Vec<Weather>,
    /// How many of them were looked at.
    taken: usize,
    /// The offset that the source has reached, and in which minute, in ascending order: what the
    /// remap collection said when the ingestion was started.
    bindings: Vec<(u64, Minute)>,
    /// What is written to the remap collection already lies before this minute.
    remap_from: Minute,
    /// What is written to the export already lies before this minute.
    weather_from: Minute,
    latest: Vec<Weather>,
}

impl Ingestion {
    /// Of `weather`, which comes in any order, going on from what `past` says was taken in.
    #[must_use]
    pub fn new(weather: &[Weather], past: &Past) -> Self {
        let mut rows = weather.to_vec();
        rows.sort_by_key(|weather| weather.row.from);
        Self {
            rows,
            taken: 0,
            bindings: bindings(past),
            remap_from: past.end(Relation::WeatherRemap),
            weather_from: past.end(Relation::Weather),
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
        if self.remap_from == 0 && *weather_remap.time() == 0 && upper > 0 {
            weather_remap.update_at((SOURCE, 0), 0, 1);
        }
        while let Some(hour) = self.rows.get(self.taken) {
            let at = self.bound_at(hour);
            if at >= upper {
                break;
            }
            let (hour, offset) = (hour.clone(), self.taken as u64);
            self.taken += 1;
            if at >= self.remap_from {
                weather_remap.update_at((SOURCE, offset), at, -1);
                weather_remap.update_at((SOURCE, offset + 1), at, 1);
            }
            let before = self.replace_latest(&hour);
            if at >= self.weather_from {
                if let Some(before) = before {
                    weather.update_at((hour.origin, before), at, -1);
                }
                weather.update_at((hour.origin, hour.row), at, 1);
            }
        }
    }

    /// The minute in which the next row, which is `hour`, is taken in.
    fn bound_at(&self, hour: &Weather) -> Minute {
        let next = self.taken as u64;
        let after = self.bindings.partition_point(|(offset, _)| *offset <= next);
        match self.bindings.get(after) {
            Some((_, at)) => *at,
            None => self.remap_from.max(Minute::from(hour.row.from)),
        }
    }

    fn replace_latest(&mut self, hour: &Weather) -> Option<WeatherRow> {
        match self.latest.iter_mut().find(|w| w.origin == hour.origin) {
            Some(before) => Some(std::mem::replace(before, hour.clone()).row),
            None => {
                self.latest.push(hour.clone());
                None
            }
        }
    }
}

fn bindings(past: &Past) -> Vec<(u64, Minute)> {
    let updates = past.updates(Relation::WeatherRemap).iter();
    let reached = updates.filter_map(|(row, at, diff)| match row {
        Row::Offset(offset) if *diff > 0 => Some((*offset, *at)),
        Row::Offset(_)
        | Row::Flight(..)
        | Row::Departure(..)
        | Row::Airline(..)
        | Row::Weather(..)
        | Row::Airborne(..)
        | Row::Delay(..) => None,
    });
    let mut bindings: Vec<_> = reached.collect();
    bindings.sort_unstable();
    bindings
}
