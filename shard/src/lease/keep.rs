//! The task that renews leases, and carries out what readers wish.

use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::StorageError;
use tokio::time::Instant;

use crate::shards::Inner;
use crate::time::ShardTime;

use super::Leases;

/// How long to wait before leases are renewed again that could not be.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// Leases are not renewed more often than this, however short they are.
const PACE_MIN: Duration = Duration::from_millis(1);

impl<T: ShardTime> Inner<T> {
    /// The leases, how often they are renewed, and how long wishes wait.
    fn keeps(&self) -> (Arc<Leases<T>>, Duration, Duration) {
        let pace = self.leases.shortest(self.lease()) / 4;
        let interval = self.settings.downgrade_interval;
        (Arc::clone(&self.leases), pace.max(PACE_MIN), interval)
    }

    /// Writes the wishes there are, and takes out those that have left.
    async fn carry_out_wishes(&self) -> Result<(), StorageError> {
        let left = std::mem::take(&mut *self.leases.left.lock());
        if !left.is_empty()
            && let Err(error) = self.leave(&left).await
        {
            self.leases.left.lock().extend(left);
            return Err(error);
        }
        let wishing = self.leases.all().into_iter();
        let wishing: Vec<_> = wishing.filter(|lease| lease.has_wish()).collect();
        if wishing.is_empty() {
            return Ok(());
        }
        self.renew(wishing).await
    }
}

/// Renews the leases of a process at a quarter of their length, until its shards go.
pub(crate) async fn keep<T: ShardTime>(inner: Weak<Inner<T>>) {
    let mut renew_at = None;
    let mut wishes_at = None;
    loop {
        // Held only while there is something to do, so that the last handle that goes ends this.
        let Some((leases, pace, interval)) = inner.upgrade().map(|inner| inner.keeps()) else {
            return;
        };
        // Shorter leases may have come.
        let latest = Instant::now() + pace;
        let renew_at = renew_at.insert(renew_at.map_or(latest, |at: Instant| at.min(latest)));
        let wake_at = wishes_at.map_or(*renew_at, |at: Instant| at.min(*renew_at));
        tokio::select! {
            () = leases.wished.notified(), if wishes_at.is_none() => {
                let urgent = !leases.left.lock().is_empty();
                let wait = if urgent { Duration::ZERO } else { interval };
                wishes_at = Some(Instant::now() + wait);
                continue;
            }
            () = tokio::time::sleep_until(wake_at) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let now = Instant::now();
        if wishes_at.is_some_and(|at| at <= now) {
            wishes_at = None;
            if let Err(error) = inner.carry_out_wishes().await {
                tracing::warn!(%error, "sinces of readers could not be moved");
                wishes_at = Some(now + RENEW_AGAIN);
            }
        }
        if *renew_at <= now {
            *renew_at = now + pace;
            let all = inner.leases.all();
            if !all.is_empty()
                && let Err(error) = inner.renew(all).await
            {
                tracing::warn!(%error, "leases could not be renewed");
                *renew_at = now + RENEW_AGAIN.min(pace);
            }
        }
    }
}
