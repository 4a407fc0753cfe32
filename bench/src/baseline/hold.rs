//! The token, and what it tells the background.

use timely::progress::{Antichain, ChangeBatch};
use tokio::sync::mpsc;

/// A change of what is held of one collection.
pub type HoldChange = (u64, ChangeBatch<u64>);

/// Keeps a collection readable from [`Hold::since`] on.
#[must_use = "dropping a hold releases it"]
pub struct Hold {
    id: u64,
    since: Antichain<u64>,
    changes: mpsc::UnboundedSender<HoldChange>,
}

impl Hold {
    pub(super) fn new(
        id: u64,
        since: Antichain<u64>,
        changes: mpsc::UnboundedSender<HoldChange>,
    ) -> Self {
        Self { id, since, changes }
    }

    /// From when on the collection stays readable.
    pub fn since(&self) -> &Antichain<u64> {
        &self.since
    }

    /// Lets go of what is before `to`; false if that would mean to go back.
    pub fn downgrade(&mut self, to: u64) -> bool {
        if !self.since.less_equal(&to) {
            return false;
        }
        let to = Antichain::from_elem(to);
        let mut change = ChangeBatch::new();
        change.extend(to.iter().map(|&time| (time, 1)));
        change.extend(self.since.iter().map(|&time| (time, -1)));
        self.since = to;
        self.tell(change);
        true
    }

    fn tell(&self, change: ChangeBatch<u64>) {
        // Without a background there is nobody left for whom a hold could matter.
        drop(self.changes.send((self.id, change)));
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        let mut change = ChangeBatch::new();
        change.extend(self.since.iter().map(|&time| (time, 1)));
        // The clone counts before the original can be released: it is the same channel.
        self.tell(change);
        Self {
            id: self.id,
            since: self.since.clone(),
            changes: self.changes.clone(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut change = ChangeBatch::new();
        change.extend(self.since.iter().map(|&time| (time, -1)));
        self.tell(change);
    }
}
