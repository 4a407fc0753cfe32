//! The weather at the three airports, hour by hour.

use serde::{Deserialize, Serialize};

use super::airline::Airport;
use crate::minute::{DAY, HOUR, Minute};

/// An hour of weather.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Line")]
pub struct Weather {
    /// Where.
    pub origin: Airport,
    /// What.
    pub row: WeatherRow,
}

/// A row of the table `weather`: the latest of its airport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WeatherRow {
    /// The minute from which on it holds.
    pub from: u32,
    /// What fell in that hour, in hundredths of an inch; where nobody measured, 0.
    pub precipitation: u16,
}

impl WeatherRow {
    /// Whether it rains, or snows.
    #[must_use]
    pub fn is_wet(&self) -> bool {
        self.precipitation > 0
    }
}

/// Orders the rows by airport and time; of those that share an hour, the last one wins.
pub(super) fn latest_of_each_hour(mut rows: Vec<Weather>) -> Vec<Weather> {
    // Stable, and from the back: so the later line stands before the earlier one of its hour.
    rows.reverse();
    rows.sort_by_key(|weather| (weather.origin, weather.row.from));
    rows.dedup_by_key(|weather| (weather.origin, weather.row.from));
    rows
}

/// A line of `weather.csv`.
#[derive(Deserialize)]
struct Line {
    origin: Airport,
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    precip: String,
}

impl TryFrom<Line> for Weather {
    type Error = String;

    fn try_from(line: Line) -> Result<Self, String> {
        let day = day_of_2013(line.year, line.month, line.day)
            .filter(|_| line.hour < 24)
            .ok_or("it lies outside of 2013")?;
        let from = day * DAY + Minute::from(line.hour) * HOUR;
        Ok(Self {
            origin: line.origin,
            row: WeatherRow {
                from: u32::try_from(from).expect("a year has fewer minutes"),
                precipitation: hundredths(&line.precip)?,
            },
        })
    }
}

/// Days since 1 January 2013.
fn day_of_2013(year: u16, month: u8, day: u8) -> Option<Minute> {
    const DAYS: [u8; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::from(month).checked_sub(1)?;
    let in_month = DAYS
        .get(month)
        .filter(|days| year == 2013 && (1..=**days).contains(&day))?;
    debug_assert!(day <= *in_month);
    let before: Minute = DAYS[..month].iter().copied().map(Minute::from).sum();
    Some(before + Minute::from(day) - 1)
}

fn hundredths(inches: &str) -> Result<u16, String> {
    if inches.is_empty() || inches == "NA" {
        return Ok(0);
    }
    let value: f64 = inches
        .parse()
        .map_err(|_| format!("{inches:?} is no precipitation"))?;
    let hundredths = (value * 100.0).round();
    if !(0.0..=f64::from(u16::MAX)).contains(&hundredths) {
        return Err(format!("{inches:?} is no precipitation"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it was found to lie in the range of u16"
    )]
    Ok(hundredths as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::year;

    #[test]
    fn a_missing_precipitation_counts_as_none() {
        assert_eq!(hundredths("").unwrap(), 0);
        assert_eq!(hundredths("NA").unwrap(), 0);
        assert_eq!(hundredths("0.29").unwrap(), 29);
        assert!(hundredths("-1").is_err());
        assert!(hundredths("wet").is_err());
    }

    #[test]
    fn the_first_row_of_the_year_is_an_hour_old_at_two() {
        let first = &year().weather[0];
        assert_eq!(
            (first.origin.to_string(), first.row.from),
            ("EWR".into(), 60)
        );
    }

    #[test]
    fn the_later_line_of_an_hour_wins() {
        let row = |precipitation| Weather {
            origin: Airport::try_from("EWR".to_owned()).unwrap(),
            row: WeatherRow {
                from: 60,
                precipitation,
            },
        };
        assert_eq!(latest_of_each_hour(vec![row(1), row(2)]), [row(2)]);
    }

    #[test]
    fn days_are_counted_across_months() {
        assert_eq!(day_of_2013(2013, 1, 1), Some(0));
        assert_eq!(day_of_2013(2013, 3, 1), Some(59));
        assert_eq!(day_of_2013(2013, 12, 31), Some(364));
        assert_eq!(day_of_2013(2013, 2, 29), None);
        assert_eq!(day_of_2013(2012, 2, 29), None);
    }
}
