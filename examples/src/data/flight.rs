//! Flights, and the life of each.

use serde::{Deserialize, Serialize};

use super::airline::{Airport, Carrier};
use crate::catalog::REGISTERED;
use crate::minute::{DAY, Minute};

/// How long a flight without a known time in the air is taken to have flown.
pub const DIVERTED_AFTER: Minute = 360;

/// A line of `flights.csv`, as far as the replay needs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Line")]
pub struct Flight {
    /// The minute of the scheduled departure.
    pub scheduled: u32,
    /// Minutes that it left late (early: negative); absent if it was cancelled.
    pub dep_delay: Option<i16>,
    /// Minutes in the air; absent if it was diverted, or never left.
    pub air_time: Option<u16>,
    /// Its number, which the airline gives.
    pub number: u16,
    /// Whose flight it is.
    pub carrier: Carrier,
    /// Where it leaves from.
    pub origin: Airport,
}

/// Which flight: its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlightId(pub u32);

/// How far a flight has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It is announced.
    Scheduled,
    /// It has left and not arrived.
    Airborne,
    /// It has arrived.
    Landed,
    /// It has left, and nobody wrote down that it arrived.
    Diverted,
    /// It never left.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Scheduled,
        Self::Airborne,
        Self::Landed,
        Self::Diverted,
        Self::Cancelled,
    ];

    /// Whether a flight has left that is so: it has a row in `departures` then, and not otherwise.
    #[must_use]
    pub const fn has_left(self) -> bool {
        match self {
            Self::Airborne | Self::Landed | Self::Diverted => true,
            Self::Scheduled | Self::Cancelled => false,
        }
    }

    /// How it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Airborne => "airborne",
            Self::Landed => "landed",
            Self::Diverted => "diverted",
            Self::Cancelled => "cancelled",
        }
    }

    /// The one that is written like this.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A row of the table `flights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlightRow {
    /// Whose flight it is.
    pub carrier: Carrier,
    /// Its number.
    pub number: u16,
    /// Where it leaves from.
    pub origin: Airport,
    /// How far it has come.
    pub status: Status,
}

impl Flight {
    /// The row that it has while it is `status`.
    #[must_use]
    pub fn row(&self, status: Status) -> FlightRow {
        let Self {
            carrier,
            number,
            origin,
            ..
        } = *self;
        FlightRow {
            carrier,
            number,
            origin,
            status,
        }
    }

    /// By how much it has left late, if it has left while it is `status`: its row of `departures`.
    #[must_use]
    pub fn departed(&self, status: Status) -> Option<i16> {
        self.dep_delay.filter(|_| status.has_left())
    }

    /// The minute of its announcement, a day ahead: after the minute in which the table begins.
    #[must_use]
    pub fn announced(&self) -> Minute {
        Minute::from(self.scheduled)
            .saturating_sub(DAY)
            .max(REGISTERED + 1)
    }

    /// The minute in which `status` ends, and what it is then; `None` when its row goes away.
    #[must_use]
    pub fn after(&self, status: Status) -> (Minute, Option<Status>) {
        let scheduled = Minute::from(self.scheduled);
        match (status, self.departure(), self.air_time) {
            (Status::Scheduled, Some(departure), _) => (departure, Some(Status::Airborne)),
            (Status::Scheduled, None, _) => (scheduled, Some(Status::Cancelled)),
            (Status::Airborne, Some(departure), Some(air_time)) => {
                (departure + Minute::from(air_time), Some(Status::Landed))
            }
            (Status::Airborne, Some(departure), None) => {
                (departure + DIVERTED_AFTER, Some(Status::Diverted))
            }
            (Status::Landed, Some(departure), Some(air_time)) => {
                (departure + Minute::from(air_time) + DAY, None)
            }
            (Status::Diverted, Some(departure), None) => (departure + DIVERTED_AFTER + DAY, None),
            (Status::Cancelled, None, _) => (scheduled + DAY, None),
            (Status::Airborne | Status::Landed | Status::Diverted | Status::Cancelled, ..) => {
                unreachable!("a flight never has the status {status:?}: {self:?}")
            }
        }
    }

    fn departure(&self) -> Option<Minute> {
        let delay = self.dep_delay?;
        Some(Minute::from(self.scheduled).saturating_add_signed(i64::from(delay)))
    }
}

/// A line of `flights.csv`.
#[derive(Deserialize)]
struct Line {
    sched_dep_minute: u32,
    dep_delay: Option<i16>,
    air_time: Option<u16>,
    carrier: Carrier,
    flight: u16,
    origin: Airport,
}

impl TryFrom<Line> for Flight {
    type Error = String;

    fn try_from(line: Line) -> Result<Self, String> {
        let scheduled = i64::from(line.sched_dep_minute);
        let departed = scheduled + i64::from(line.dep_delay.unwrap_or(0));
        let first = REGISTERED.cast_signed() + 1;
        if departed < first.max(scheduled - DAY.cast_signed()) {
            return Err("it left before it was announced".into());
        }
        Ok(Self {
            scheduled: line.sched_dep_minute,
            dep_delay: line.dep_delay,
            air_time: line.air_time,
            number: line.flight,
            carrier: line.carrier,
            origin: line.origin,
        })
    }
}
