//! The summary that a person reads at the end.

mod following;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use timely::progress::Antichain;

use crate::latency::Latency;
use crate::minute::{DAY, HOUR, Minute};
use crate::options::Options;
use crate::outcome::{Outcome, RelationOutcome};
use crate::store::Space;
use crate::tally::{Tally, Wrong, WrongReading};

pub use following::FollowedReport;

/// An outcome, to be written as text.
pub struct Report<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// What came of it.
    pub outcome: &'a Outcome,
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.heading(f)?;
        self.collections(f)?;
        self.readings(f)?;
        self.space(f)?;
        self.latencies(f)?;
        self.verdict(f)
    }
}

impl Report<'_> {
    fn heading(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { options, outcome } = self;
        let days = counted(options.days, "day");
        let step = counted(options.step, "minute");
        let seconds = outcome.elapsed.as_secs_f64();
        let from = outcome.from;
        if options.end() <= from {
            return writeln!(
                f,
                "The store is at minute {from}: {days} of 2013 are behind it.\n"
            );
        }
        write!(f, "Replayed {days} of 2013 in steps of {step}, ")?;
        if from > 0 {
            write!(f, "going on from minute {from}, ")?;
        }
        writeln!(f, "in {seconds:.1} seconds.\n")
    }

    fn collections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<17}{:>11}{:>14}{:>13}  {:<18}{:<18}",
            "collection", "updates", "kept at most", "kept at end", "since", "upper"
        )?;
        for of_one in &self.outcome.relations {
            writeln!(
                f,
                "{:<17}{:>11}{:>14}{:>13}  {:<18}{:<18}",
                of_one.relation.name(),
                grouped(of_one.updates),
                grouped(of_one.kept_most as u64),
                grouped(of_one.kept_at_end as u64),
                moment(&of_one.since),
                moment(&of_one.upper),
            )?;
        }
        writeln!(f)
    }

    fn readings(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome {
            tally,
            ticks,
            airborne_at_end,
            ..
        } = self.outcome;
        writeln!(f, "{:<24}{:>12}", "ticks", grouped(*ticks))?;
        checks(f, tally)?;
        writeln!(f, "{:<24}{:>12}\n", "airborne at the end", airborne_at_end)
    }

    fn space(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome {
            relations, space, ..
        } = self.outcome;
        let updates = relations.iter().map(|relation| relation.updates).sum();
        let Space {
            written,
            held_most,
            held_at_end,
            on_disk_at_end,
        } = space;
        writeln!(f, "{:<24}{:>12}", "updates written", grouped(updates))?;
        writeln!(f, "{:<24}{:>12}", "bytes written", grouped(*written))?;
        writeln!(f, "{:<24}{:>12}", "bytes held at most", grouped(*held_most))?;
        writeln!(
            f,
            "{:<24}{:>12}",
            "bytes held at the end",
            grouped(*held_at_end)
        )?;
        if let Some(bytes) = on_disk_at_end {
            writeln!(f, "{:<24}{:>12}", "bytes on disk", grouped(*bytes))?;
        }
        writeln!(f)
    }

    fn latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome {
            tally,
            tick,
            append,
            ..
        } = self.outcome;
        writeln!(
            f,
            "{:<10}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        latency(f, "acquire", &tally.acquire)?;
        latency(f, "  asked", &tally.acquire_asked)?;
        latency(f, "release", &tally.release)?;
        latency(f, "append", append)?;
        latency(f, "tick", tick)?;
        writeln!(f)
    }

    fn verdict(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome {
            tally, relations, ..
        } = self.outcome;
        wrong_readings(f, tally)?;
        leaked_holds(f, tally)?;
        for leaked in relations.iter().filter(|relation| relation.leaked()) {
            let RelationOutcome {
                relation,
                since,
                since_asked_for,
                ..
            } = leaked;
            let (since, asked) = (minute(since), minute(since_asked_for));
            writeln!(
                f,
                "LEAKED: {} is at {since}, its policy asks for {asked}",
                relation.name()
            )?;
        }
        for behind in relations.iter().filter(|relation| relation.is_behind()) {
            let (planned, durable) = (minute(&behind.since), minute(&behind.durable_since));
            writeln!(
                f,
                "NOT DURABLE: {} is at {planned}, its shard at {durable}",
                behind.relation.name()
            )?;
        }
        if self.outcome.is_good() {
            writeln!(
                f,
                "Every reading was right, and every since is what its policy asks for."
            )?;
        }
        Ok(())
    }
}

/// What readers did, and what they found.
fn checks(f: &mut Formatter<'_>, tally: &Tally) -> fmt::Result {
    for (name, figure) in [
        ("holds taken", tally.taken),
        ("holds dropped", tally.dropped),
        ("holds refused, too early", tally.refused),
        ("readings checked", tally.readings),
        ("  from shards", tally.from_shards),
        ("  exactly at since", tally.at_since),
        ("  across both tables", tally.across),
        ("wrong readings", tally.wrong),
    ] {
        writeln!(f, "{name:<24}{:>12}", grouped(figure))?;
    }
    Ok(())
}

fn wrong_readings(f: &mut Formatter<'_>, tally: &Tally) -> fmt::Result {
    for wrong in &tally.examples {
        let WrongReading {
            relation,
            as_of,
            what,
        } = wrong;
        write!(f, "WRONG: {} as of minute {as_of} ", relation.name())?;
        match what {
            Wrong::Rows {
                rows,
                rows_expected,
            } => writeln!(
                f,
                "has {rows} rows, not the {rows_expected} that the tables say"
            )?,
            Wrong::Refused => writeln!(f, "cannot be read, though it was held")?,
            Wrong::HalfChanged { flights } => {
                let flights = counted(*flights as u64, "flight");
                writeln!(f, "does not go with flights: {flights} changed by half")?;
            }
        }
    }
    Ok(())
}

fn leaked_holds(f: &mut Formatter<'_>, tally: &Tally) -> fmt::Result {
    let kept_back = tally.taken - tally.dropped;
    if kept_back > 0 {
        writeln!(f, "LEAKED: {} never dropped", counted(kept_back, "hold"))?;
    }
    Ok(())
}

fn latency(f: &mut Formatter<'_>, name: &str, latency: &Latency) -> fmt::Result {
    write!(f, "{name:<10}")?;
    for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
        let shown = latency
            .percentile(percent)
            .map_or_else(|| "-".to_owned(), duration);
        write!(f, "{shown:>11}")?;
    }
    writeln!(f)
}

fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", duration.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// A frontier as a minute; the empty one is the end of all times.
fn minute(frontier: &Antichain<Minute>) -> String {
    frontier
        .first()
        .map_or_else(|| "the end".to_owned(), |minute| format!("minute {minute}"))
}

/// A frontier as a minute with day and time; a sealed collection has no minute.
fn moment(frontier: &Antichain<Minute>) -> String {
    match frontier.first() {
        Some(minute) => {
            let (day, hour, rest) = (minute / DAY, minute % DAY / HOUR, minute % HOUR);
            format!("{minute} d{day} {hour:02}:{rest:02}")
        }
        None => "sealed".to_owned(),
    }
}

fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// A number with a comma after each three digits from the right.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(2_003_194), "2,003,194");
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        assert_eq!(duration(Duration::from_nanos(42)), "42 ns");
        assert_eq!(duration(Duration::from_micros(1500)), "1.5 ms");
        assert_eq!(duration(Duration::from_secs(2)), "2.0 s");
    }

    #[test]
    fn moments_are_minutes_days_and_hours() {
        assert_eq!(moment(&Antichain::from_elem(DAY + 61)), "1501 d1 01:01");
        assert_eq!(moment(&Antichain::new()), "sealed");
    }
}
