//! What a person reads when another controller was followed.

use std::fmt::{self, Display, Formatter};

use crate::follower::Followed;
use crate::latency::Latency;

use super::{checks, grouped, latency, leaked_holds, wrong_readings};

/// What was seen while another controller was followed, to be written as text.
pub struct FollowedReport<'a> {
    /// What was seen.
    pub followed: &'a Followed,
}

impl Display for FollowedReport<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Followed {
            from,
            reached,
            tally,
            elapsed,
        } = self.followed;
        let seconds = elapsed.as_secs_f64();
        writeln!(
            f,
            "Followed another controller from minute {from} to minute {reached}, in {seconds:.1} seconds.\n"
        )?;
        checks(f, tally)?;
        writeln!(f, "{:<24}{:>12}", "holds lapsed", grouped(tally.lapsed))?;
        writeln!(
            f,
            "\n{:<10}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "latency", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let all: [(&str, &Latency); 3] = [
            ("acquire", &tally.acquire),
            ("  asked", &tally.acquire_asked),
            ("release", &tally.release),
        ];
        all.into_iter()
            .try_for_each(|(name, of_one)| latency(f, name, of_one))?;
        writeln!(f)?;
        wrong_readings(f, tally)?;
        leaked_holds(f, tally)?;
        if self.followed.is_good() {
            writeln!(f, "Every reading was right.")?;
        }
        Ok(())
    }
}
