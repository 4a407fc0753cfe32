//! Opening the tables of a store.

use std::sync::Arc;
use std::time::Duration;

use lowwater::ShardId;
use tokio::runtime::Handle;

use crate::consensus::{Consensus, Fence};
use crate::hub::Hub;
use crate::id::ReaderId;
use crate::parts::Parts;

use super::error::{ApplyError, write_trouble};
use super::handle::{Leaving, Mode, Tables};
use super::shards::ShardTables;
use super::time::TableTime;

/// What a process may do with tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is the controller that is in charge of the store.
    Control {
        /// The name of the controller's critical sinces, the same through all its incarnations.
        reader: ReaderId,
        /// What it has [taken over](Consensus::take_over) the store with.
        fence: Fence,
        /// When what was committed is applied.
        apply: Apply,
    },
    /// It reads, and writes nothing: not even for a reader who would be helped by it.
    ReadOnly,
}

/// When what was committed is applied, and the txns shard let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// In the background, not more often than this, so that many commits are applied at once; but
    /// soon when they are large.
    InBackground {
        /// At most this often.
        every: Duration,
    },
    /// When it is asked for.
    ByHand,
}

impl Access {
    fn mode(self) -> Mode {
        match self {
            Access::Control {
                apply: Apply::InBackground { every },
                ..
            } => Mode::Background(every),
            Access::Control {
                apply: Apply::ByHand,
                ..
            } => Mode::ByHand,
            Access::ReadOnly => Mode::ReadOnly,
        }
    }
}

impl<T: TableTime> Tables<T> {
    /// The tables that this shard of a store carries the transactions of; what is large is stored as
    /// parts there. Reads what they are; their uppers start at that of the txns shard.
    ///
    /// # Errors
    ///
    /// If another controller is in charge of the store; if it fails, or what it has cannot be read.
    pub async fn open(
        runtime: &Handle,
        store: Arc<dyn Consensus>,
        parts: Parts,
        txns: ShardId,
        access: Access,
    ) -> Result<Self, ApplyError> {
        let hub = Hub::spawn(runtime, store);
        Tables::open_in(runtime, hub, parts, txns, access, Leaving::default()).await
    }

    /// On what the handles of this process share.
    pub(crate) async fn open_in(
        runtime: &Handle,
        hub: Arc<Hub<T>>,
        parts: Parts,
        txns: ShardId,
        access: Access,
        leaving: Leaving,
    ) -> Result<Self, ApplyError> {
        let shards = Arc::new(ShardTables::new(hub, parts, txns));
        let opened = Tables::open_on(runtime, shards, txns, Mode::ReadOnly, leaving).await?;
        opened.take_charge(access).await?;
        Ok(opened)
    }

    /// From now on it may do this; what it may already stays.
    ///
    /// # Errors
    ///
    /// If another controller is in charge of the store; if it fails.
    pub(crate) async fn take_charge(&self, access: Access) -> Result<(), ApplyError> {
        if let Access::Control { reader, fence, .. } = access {
            let inner = &self.inner;
            let taken = inner.store.take_charge(inner.txns, reader, fence).await;
            taken.map_err(write_trouble)?;
        }
        self.begin_to_write(access.mode());
        Ok(())
    }
}
