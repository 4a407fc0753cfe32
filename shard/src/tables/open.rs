//! Opening the tables of a store.

use std::sync::Arc;

use lowwater::ShardId;
use tokio::runtime::Handle;

use crate::consensus::{Consensus, Fence};
use crate::hub::Hub;
use crate::id::ReaderId;
use crate::parts::Parts;

use super::error::{ApplyError, write_trouble};
use super::handle::{Mode, Tables};
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
        /// Whether what was committed is applied in the background, and the txns shard let go of;
        /// otherwise only when it is asked for.
        in_background: bool,
    },
    /// It reads, and writes nothing: not even for a reader who would be helped by it.
    ReadOnly,
}

impl<T: TableTime> Tables<T> {
    /// The tables that this shard of a store carries the transactions of; what is large is stored as
    /// parts there. Reads what they are; their
    /// uppers start at that of the txns shard.
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
        Tables::open_in(runtime, hub, parts, txns, access).await
    }

    /// On what the handles of this process share.
    pub(crate) async fn open_in(
        runtime: &Handle,
        hub: Arc<Hub<T>>,
        parts: Parts,
        txns: ShardId,
        access: Access,
    ) -> Result<Self, ApplyError> {
        let shards = Arc::new(ShardTables::new(hub, parts, txns, access));
        let mode = match access {
            Access::Control {
                in_background: true,
                ..
            } => Mode::Background,
            Access::Control { .. } => Mode::ByHand,
            Access::ReadOnly => Mode::ReadOnly,
        };
        if mode != Mode::ReadOnly {
            let taken = shards.take_txns(txns).await;
            taken.map_err(write_trouble)?;
        }
        Ok(Tables::open_on(runtime, shards, txns, mode).await?)
    }
}
