//! While somebody on these shards only reads, nobody looks after them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::shards::Inner;
use crate::time::ShardTime;

/// How many want that shards are left alone.
#[derive(Debug)]
pub(crate) struct Pauses(watch::Sender<usize>);

impl Default for Pauses {
    fn default() -> Self {
        Pauses(watch::Sender::new(0))
    }
}

/// While it lives, nothing is begun in the background to look after the shards.
#[derive(Debug)]
pub(crate) struct Pause<T: ShardTime> {
    inner: Arc<Inner<T>>,
}

/// Whether it is to be paused, as the one sees it who looks after the shards.
#[derive(Debug)]
pub(super) struct Paused(watch::Receiver<usize>);

impl Pauses {
    pub(super) fn listen(&self) -> Paused {
        Paused(self.0.subscribe())
    }

    /// Whether somebody wants it now.
    pub(super) fn are_there(&self) -> bool {
        *self.0.borrow() > 0
    }
}

impl<T: ShardTime> Pause<T> {
    pub(crate) fn new(inner: &Arc<Inner<T>>) -> Self {
        inner.pauses.0.send_modify(|pauses| *pauses += 1);
        Pause {
            inner: Arc::clone(inner),
        }
    }
}

impl<T: ShardTime> Drop for Pause<T> {
    fn drop(&mut self) {
        self.inner.pauses.0.send_modify(|pauses| *pauses -= 1);
    }
}

impl Paused {
    pub(super) fn is_paused(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Waits until it goes on.
    pub(super) async fn over(&mut self) {
        // Where the shards have gone, whoever goes on finds that out.
        let _ = self.0.wait_for(|pauses| *pauses == 0).await;
    }
}
