//! How long things take.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Durations from a nanosecond to a minute, to three digits.
#[derive(Clone, Debug)]
pub struct Latency {
    nanoseconds: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let minute = 60_000_000_000;
        let nanoseconds =
            Histogram::new_with_bounds(1, minute, 3).expect("the bounds are in range");
        Self { nanoseconds }
    }
}

impl Latency {
    /// Does `work` and remembers how long it took.
    pub fn of<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let result = work();
        self.record(begin.elapsed());
        result
    }

    /// Takes in what another one has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.nanoseconds
            .add(&other.nanoseconds)
            .expect("all have the same bounds");
    }

    /// The duration that `percent` of all did not exceed; `None` if nothing was measured.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let measured = !self.nanoseconds.is_empty();
        measured.then(|| Duration::from_nanos(self.nanoseconds.value_at_percentile(percent)))
    }

    /// How many were measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.saturating_record(nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_have_seen_adds_up() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        one.record(Duration::from_nanos(10));
        other.record(Duration::from_nanos(30));
        other.record(Duration::from_secs(3600));
        one.merge(&other);
        assert_eq!(one.count(), 3);
        assert_eq!(one.percentile(1.0), Some(Duration::from_nanos(10)));
        assert!(one.percentile(100.0) > Some(Duration::from_secs(59)));
    }

    #[test]
    fn nothing_measured_has_no_percentiles() {
        assert_eq!(Latency::default().percentile(50.0), None);
    }
}
