//! How a figure is taken: many operations at a time, several times over, and the median.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// How much effort goes into a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// What is written into `RESULTS.md`.
    Full,
    /// The same with smaller samples: the whole report in less than a minute.
    Quick,
    /// Everything once, small: for tests, where only its working counts.
    Smoke,
}

impl Scale {
    /// For a criterion bench: [`Scale::Smoke`] where `cargo test` runs it, as criterion does.
    pub fn of_bench() -> Self {
        if std::env::args().any(|arg| arg == "--bench") {
            Self::Full
        } else {
            Self::Smoke
        }
    }

    /// How many collections a bench of `len` collections takes.
    pub fn collections(self, len: u64) -> u64 {
        match self {
            Self::Full | Self::Quick => len,
            Self::Smoke => len.min(200),
        }
    }

    /// How many rows a bench of `len` rows takes.
    pub fn rows(self, len: u64) -> u64 {
        self.collections(len)
    }

    /// How many times a figure is taken: at least, and at most. In between, only as long as the
    /// [patience](Scale::patience) lasts.
    fn runs(self) -> (usize, usize) {
        match self {
            Self::Full => (5, 11),
            Self::Quick => (3, 5),
            Self::Smoke => (1, 1),
        }
    }

    /// How long the runs of one figure may take.
    fn patience(self) -> Duration {
        match self {
            Self::Full => Duration::from_secs(20),
            Self::Quick => Duration::from_secs(2),
            Self::Smoke => Duration::ZERO,
        }
    }

    /// How long one run takes, at least, unless one operation takes longer.
    fn run(self) -> Duration {
        match self {
            Self::Full => Duration::from_millis(100),
            Self::Quick => Duration::from_millis(20),
            Self::Smoke => Duration::ZERO,
        }
    }

    /// How long a latency is watched under load.
    pub fn watch(self) -> Duration {
        match self {
            Self::Full => Duration::from_secs(5),
            Self::Quick => Duration::from_secs(1),
            Self::Smoke => Duration::from_millis(10),
        }
    }
}

/// Does so many operations, and says how long they took: only that, not what prepares or cleans up.
pub type Sample<'a> = dyn FnMut(u64) -> Duration + 'a;

/// Nanoseconds per operation.
///
/// The runs of the samples take turns, so that what else the machine does, and how warm it is, is
/// the same for all. The first run of each finds the number of operations, and is thrown away.
pub fn medians<const N: usize>(scale: Scale, samples: [&mut Sample<'_>; N]) -> [f64; N] {
    let mut samples = samples.map(|sample| (operations(scale, sample), sample));
    let mut runs = [const { Vec::new() }; N];
    let (least, most) = scale.runs();
    let start = Instant::now();
    for run in 0..most {
        if run >= least && start.elapsed() > scale.patience() {
            break;
        }
        for ((operations, sample), runs) in samples.iter_mut().zip(&mut runs) {
            runs.push(nanoseconds(sample(*operations)) / *operations as f64);
        }
    }
    runs.map(median)
}

/// Nanoseconds per operation of one sample.
pub fn median_of(scale: Scale, sample: &mut Sample<'_>) -> f64 {
    let [nanoseconds] = medians(scale, [sample]);
    nanoseconds
}

/// Times `operation`, over and over.
pub fn timed(operations: u64, mut operation: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..operations {
        operation();
    }
    start.elapsed()
}

/// A duration as a figure.
pub fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// A histogram of nanoseconds, three digits exact; what takes longer than a minute counts as a
/// minute.
///
/// # Panics
///
/// Never: the bounds are within what a histogram allows.
pub fn nanosecond_histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3)
        .expect("the bounds are within what a histogram allows")
}

/// How many operations make a run long enough.
fn operations(scale: Scale, sample: &mut Sample<'_>) -> u64 {
    let mut operations = 1;
    loop {
        let took = sample(operations);
        if took >= scale.run() {
            return operations;
        }
        // No more than tenfold at once: the first operations are slower than the later ones.
        let missing = scale.run().as_secs_f64() / took.as_secs_f64().max(1e-9);
        operations = (operations as f64 * missing.clamp(1.5, 10.0)).ceil() as u64;
    }
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    let middle = runs.len() / 2;
    if runs.len().is_multiple_of(2) {
        (runs[middle - 1] + runs[middle]) / 2.0
    } else {
        runs[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_mind_one_run_that_was_disturbed() {
        assert_eq!(median(vec![3.0, 900.0, 1.0]), 3.0);
        assert_eq!(median(vec![4.0, 900.0, 2.0, 1.0]), 3.0);
    }

    #[test]
    fn a_figure_is_time_per_operation_whatever_the_number_of_operations() {
        let mut slow = |operations| Duration::from_micros(3) * u32::try_from(operations).unwrap();
        let mut fast = |operations| Duration::from_nanos(7) * u32::try_from(operations).unwrap();
        let [slow, fast] = medians(Scale::Quick, [&mut slow, &mut fast]);
        assert!(
            (slow - 3000.0).abs() < 1e-6 && (fast - 7.0).abs() < 1e-6,
            "{slow} {fast}"
        );
    }

    #[test]
    fn a_histogram_keeps_what_is_slow() {
        let mut histogram = nanosecond_histogram();
        histogram.saturating_record(5_000_000_000);
        assert!(histogram.max() >= 5_000_000_000);
    }

    #[test]
    fn samples_take_turns() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut first = |_| {
            order.borrow_mut().push('a');
            Duration::from_secs(1)
        };
        let mut second = |_| {
            order.borrow_mut().push('b');
            Duration::from_secs(1)
        };
        medians(Scale::Quick, [&mut first, &mut second]);
        assert_eq!(order.borrow().iter().collect::<String>(), "abababababab");
    }
}
