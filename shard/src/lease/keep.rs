//! The task that renews leases, and carries out what readers wish.

use std::sync::{Arc, Weak};
use std::time::Duration;

use lowwater::StorageErrorKind;
use tokio::time::Instant;

use crate::clock::in_future;
use crate::shards::Inner;
use crate::time::ShardTime;

use super::{Lease, Leases};

/// How long to wait before leases are renewed again that could not be.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// Leases are not renewed more often than this, however short they are.
const PACE_MIN: Duration = Duration::from_millis(1);

impl<T: ShardTime> Inner<T> {
    /// The leases, and how often they are renewed.
    fn keeps(&self) -> (Arc<Leases<T>>, Duration) {
        let pace = self.leases.shortest(self.lease()) / 4;
        (Arc::clone(&self.leases), pace.max(PACE_MIN))
    }
}

/// What the task has to do.
struct Keeper<T: ShardTime> {
    /// When all are renewed.
    renew_at: Option<Instant>,
    /// Those that have left and could not be taken out of the record, and when that is tried again.
    staying: Vec<Arc<Lease<T>>>,
    leave_at: Option<Instant>,
}

/// Renews the leases of a process at a quarter of their length, until its shards go.
pub(crate) async fn keep<T: ShardTime>(inner: Weak<Inner<T>>) {
    let mut keeper = Keeper {
        renew_at: None,
        staying: Vec::new(),
        leave_at: None,
    };
    loop {
        // Held only while there is something to do, so that the last handle that goes ends this.
        let Some((leases, pace)) = inner.upgrade().map(|inner| inner.keeps()) else {
            return;
        };
        // Shorter leases may have come.
        let latest = in_future(pace);
        let renew_at = keeper.renew_at.map_or(latest, |at| at.min(latest));
        keeper.renew_at = Some(renew_at);
        let others = leases.next().into_iter().chain(keeper.leave_at);
        let wake_at = others.fold(renew_at, Instant::min);
        tokio::select! {
            () = leases.news.notified() => {}
            () = tokio::time::sleep_until(wake_at) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        keeper.leave(&inner).await;
        keeper.renew(&inner, pace).await;
    }
}

impl<T: ShardTime> Keeper<T> {
    /// Takes those that have left out of the record. What can never be done is left to others: they
    /// expire who is not heard of.
    async fn leave(&mut self, inner: &Inner<T>) {
        let now = Instant::now();
        let mut leaving = std::mem::take(&mut *inner.leases.left.lock());
        if self.leave_at.take_if(|at| *at <= now).is_some() {
            leaving.append(&mut self.staying);
        }
        if leaving.is_empty() {
            return;
        }
        let failed = inner.leave_all(&leaving).await;
        for (shard, error) in &failed {
            tracing::warn!(%shard, %error, "readers could not leave");
        }
        let may_pass = |lease: &Arc<Lease<T>>| {
            let error = failed.get(&lease.shard.id);
            error.is_some_and(|error| error.kind() == StorageErrorKind::Retry)
        };
        leaving.retain(may_pass);
        if !leaving.is_empty() {
            self.staying.append(&mut leaving);
            self.leave_at = Some(in_future(RENEW_AGAIN));
        }
    }

    /// Renews all if it is time, and otherwise those that something is to be written for.
    async fn renew(&mut self, inner: &Inner<T>, pace: Duration) {
        let now = Instant::now();
        let due = inner.leases.due(inner.settings.downgrade_interval);
        let due = match self.renew_at.take_if(|at| *at <= now) {
            Some(_) => inner.leases.all(),
            None => due,
        };
        if due.is_empty() {
            return;
        }
        for (lease, error) in inner.renew_all(due).await {
            let shard = lease.shard.id;
            tracing::warn!(%shard, %error, "a lease could not be renewed");
            let may_pass = error.kind() == StorageErrorKind::Retry;
            let wait = if may_pass { RENEW_AGAIN } else { pace };
            lease.try_again_at(in_future(wait.min(pace)));
        }
    }
}
