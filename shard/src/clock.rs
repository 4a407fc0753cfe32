//! Moments that lie ahead.

use std::time::Duration;

use tokio::time::Instant;

/// Thirty years: as good as never, and every clock can say when that is.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// So long, or never. Whoever means "never" may say so with the longest duration there is.
pub(crate) fn bounded(wait: Duration) -> Duration {
    wait.min(NEVER)
}

/// So long after a moment.
pub(crate) fn after(moment: Instant, wait: Duration) -> Instant {
    moment + bounded(wait)
}

/// So long from now.
pub(crate) fn in_future(wait: Duration) -> Instant {
    after(Instant::now(), wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_a_moment_too() {
        let now = Instant::now();
        assert_eq!(
            after(now, Duration::from_secs(1)) - now,
            Duration::from_secs(1)
        );
        assert_eq!(after(now, Duration::MAX) - now, NEVER);
    }
}
