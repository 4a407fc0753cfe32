//! Noticing that another controller has taken over, also while nothing is written.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::consensus::{Consensus, Fence};
use crate::id::Epoch;
use crate::storage::Herald;
use crate::time::ShardTime;

/// How often to look who is in charge: one small read for the whole store.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks who is in charge of a store, and tells the engine when that is somebody else. Whatever is
/// written is refused before; this is for a controller that has nothing to write, whose holds would
/// otherwise seem to hold something. The task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    task: AbortHandle,
}

impl Watch {
    pub(super) fn spawn<T: ShardTime>(
        runtime: &Handle,
        store: Arc<dyn Consensus>,
        fence: Fence,
        herald: Herald<T>,
    ) -> Self {
        let watching = async move { herald.fenced(overtaken(&*store, fence).await) };
        Watch {
            task: runtime.spawn(watching).abort_handle(),
        }
    }

    /// Looks no more.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until another controller is in charge; says which.
async fn overtaken(store: &dyn Consensus, fence: Fence) -> Epoch {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match store.fence().await {
            Ok(Some(current)) if current != fence => return current.epoch,
            Ok(_) => {}
            // Whoever writes will say more.
            Err(error) => tracing::debug!(%error, "it is not known who is in charge"),
        }
    }
}
