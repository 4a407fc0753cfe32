//! How much is written, and how much of it is kept.

use lowwater::StorageError;

use super::patience::patiently;
use super::{Places, Store, StoreError, folder};

/// How much was written to a store, and how much of it was kept: records and parts, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What this run has written.
    pub written: u64,
    /// What the store held at most, of all the times that it was looked at.
    pub held_most: u64,
    /// What it holds at the end.
    pub held_at_end: u64,
    /// What the folder takes of the disk at the end, if the store is one.
    pub on_disk_at_end: Option<u64>,
}

impl Store {
    /// How many bytes this process has written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.records.written() + self.shards.parts().bytes_written()
    }

    /// How many bytes the store holds.
    ///
    /// # Errors
    /// When it does not answer for a while.
    pub fn held(&self, places: &Places) -> Result<u64, StoreError> {
        Ok(self.runtime.block_on(patiently(async || {
            let mut held = self.records.held().await.map_err(StorageError::from)?;
            for shard in places.all() {
                let listed = self.shards.parts().list(shard).await;
                let parts = listed.map_err(|error| StorageError::new(error.kind(), error))?;
                held += parts.iter().map(|part| part.bytes).sum::<u64>();
            }
            Ok(held)
        }))?)
    }

    /// Merges what is written, and deletes what nobody refers to or can read any more. From then on
    /// the store is looked after no more.
    ///
    /// # Errors
    /// When the store does not answer for a while.
    pub fn tidy(&mut self, places: &Places) -> Result<(), StoreError> {
        self.end_upkeep();
        self.runtime.block_on(async {
            for shard in places.all() {
                patiently(async || self.shards.compact(shard).await).await?;
                patiently(async || self.shards.sweep(shard).await).await?;
            }
            if let Some(embedded) = &self.embedded {
                patiently(async || embedded.shrink().await.map_err(StorageError::from)).await?;
            }
            Ok(())
        })
    }

    /// Closes the store. How many bytes of the disk it takes then, if it is one folder that can be
    /// looked at.
    #[must_use]
    pub fn close(self) -> Option<u64> {
        let folder = self.folder.clone();
        // What SQLite keeps beside its file goes when the last one closes it.
        drop(self);
        folder::bytes_on_disk(&folder?).ok()
    }
}
