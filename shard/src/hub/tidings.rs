//! What has happened to shards since somebody listened last: the latest of each, so that who is slow
//! has not more to do, and costs bounded memory.

use lowwater::ShardId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ById;

/// What has happened to shards since somebody listened last.
#[derive(Debug)]
pub(crate) struct Tidings<V> {
    unheard: Mutex<ById<V>>,
    told: Notify,
}

impl<V> Default for Tidings<V> {
    fn default() -> Self {
        Tidings {
            unheard: Mutex::default(),
            told: Notify::new(),
        }
    }
}

impl<V> Tidings<V> {
    pub(crate) fn tell(&self, shard: ShardId, what: V) {
        self.unheard.lock().insert(shard, what);
        self.told.notify_one();
    }

    /// Waits until something has happened. To drop the future loses nothing.
    pub(crate) async fn next(&self) -> ById<V> {
        loop {
            let unheard = std::mem::take(&mut *self.unheard.lock());
            if !unheard.is_empty() {
                return unheard;
            }
            // What is told after the look leaves a permit, so it is not slept through.
            self.told.notified().await;
        }
    }
}
