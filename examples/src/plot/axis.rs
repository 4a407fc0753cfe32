//! Minutes and pixels.

use crate::minute::{DAY, Minute};

/// The first days of the quarters of the year.
const QUARTERS: [(Minute, &str); 4] = [
    (0, "Jan"),
    (90 * DAY, "Apr"),
    (181 * DAY, "Jul"),
    (273 * DAY, "Oct"),
];

/// Up to so many days are numbered; beyond, months have names.
const NUMBERED_DAYS_MAX: Minute = 100;

/// How many numbers there are at least.
const NUMBERS_MIN: Minute = 4;

/// The same scale to the right and upwards.
pub(super) struct Axis {
    pub(super) end: Minute,
    pub(super) side: f64,
}

impl Axis {
    /// Pixels from the left.
    pub(super) fn x(&self, minute: Minute) -> f64 {
        pixels(minute) / pixels(self.end) * self.side
    }

    /// Pixels from the top. What has no minute is beyond the end.
    pub(super) fn y(&self, minute: Option<Minute>) -> f64 {
        self.side - self.x(minute.unwrap_or(self.end))
    }

    /// What its numbers count; months speak for themselves.
    pub(super) fn unit(&self) -> &'static str {
        if self.has_months() { "" } else { "day" }
    }

    /// Where lines of the grid are, and what they are called.
    pub(super) fn ticks(&self) -> Vec<(Minute, String)> {
        if self.has_months() {
            let begun = QUARTERS.iter().filter(|(minute, _)| *minute < self.end);
            return begun
                .map(|(minute, name)| (*minute, (*name).to_owned()))
                .collect();
        }
        let days = self.end / DAY;
        let step = [20, 10, 5, 2]
            .into_iter()
            .find(|step| days / step >= NUMBERS_MIN)
            .unwrap_or(1);
        let multiples = (0..).map(|n| n * step).take_while(|day| *day <= days);
        multiples.map(|day| (day * DAY, day.to_string())).collect()
    }

    fn has_months(&self) -> bool {
        self.end > NUMBERED_DAYS_MAX * DAY
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a year has half a million minutes"
)]
fn pixels(minute: Minute) -> f64 {
    minute as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_in_the_upper_right_corner() {
        let axis = Axis {
            end: DAY,
            side: 100.0,
        };
        assert_eq!((axis.x(0), axis.y(Some(0))), (0.0, 100.0));
        assert_eq!((axis.x(DAY), axis.y(Some(DAY))), (100.0, 0.0));
        assert_eq!(axis.y(None), 0.0);
    }

    #[test]
    fn there_are_neither_too_few_nor_too_many_ticks() {
        for days in 1..=365 {
            let ticks = Axis {
                end: days * DAY,
                side: 1.0,
            }
            .ticks()
            .len();
            assert!((2..=10).contains(&ticks), "{ticks} for {days} days");
        }
    }
}
