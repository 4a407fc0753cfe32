//! What a folder needs beyond what `object_store` does for it.
//!
//! `object_store` writes a part into a file beside it (`….parquet#1`), syncs that, links it to its
//! name, and syncs the folder; what a crash leaves of this it does not list. Folders of shards we
//! make ourselves, for their owner alone, and once in the life of a process each is synced into the
//! folder of all parts: whoever else has made it may not have come so far.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lowwater::ShardId;
use parking_lot::Mutex;

use crate::folder;
use crate::id::PartName;

use super::ListedPart;

/// The rights of a folder that only its owner may enter.
const OWNER_ALONE: u32 = 0o700;

/// A folder of parts on this machine.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// The shards whose folders are there, durably.
    ready: Mutex<BTreeSet<ShardId>>,
}

impl Folder {
    /// Opens the folder, and creates it where it is not there, for its owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        folder::create(path, OWNER_ALONE)?;
        Self::open_existing(path)
    }

    /// Opens the folder, which must be there.
    pub(super) fn open_existing(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Folder {
            root: fs::canonicalize(path)?,
            ready: Mutex::default(),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn of(&self, shard: ShardId) -> PathBuf {
        self.root.join(format!("{:032x}", shard.number()))
    }

    /// Whether the shard's folder is there, durably.
    pub(super) fn has_room_for(&self, shard: ShardId) -> bool {
        self.ready.lock().contains(&shard)
    }

    /// Sees to it that the shard's folder is there, durably.
    pub(super) fn make_room_for(&self, shard: ShardId) -> io::Result<()> {
        folder::create(&self.of(shard), OWNER_ALONE)?;
        self.ready.lock().insert(shard);
        Ok(())
    }

    /// Parts of the shard that were begun and not finished.
    pub(super) fn unfinished(&self, shard: ShardId) -> io::Result<Vec<ListedPart>> {
        let mut unfinished = Vec::new();
        for (name, path) in self.unfinished_files(shard)? {
            match fs::metadata(path) {
                Ok(metadata) => unfinished.push(ListedPart {
                    name,
                    bytes: metadata.len(),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(unfinished)
    }

    /// Deletes what was begun of these parts and not finished.
    pub(super) fn delete_unfinished(&self, shard: ShardId, parts: &[PartName]) -> io::Result<()> {
        let parts: BTreeSet<PartName> = parts.iter().copied().collect();
        for (name, path) in self.unfinished_files(shard)? {
            if parts.contains(&name) {
                if_there(fs::remove_file(path))?;
            }
        }
        Ok(())
    }

    fn unfinished_files(&self, shard: ShardId) -> io::Result<Vec<(PartName, PathBuf)>> {
        let Some(entries) = if_there(fs::read_dir(self.of(shard)))? else {
            return Ok(Vec::new());
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let file = path.file_name().and_then(|name| name.to_str());
            let name = file.and_then(|file| file.split_once(".parquet#"));
            if let Some(name) = name.and_then(|(name, _)| PartName::parse(name)) {
                files.push((name, path));
            }
        }
        Ok(files)
    }

    /// Removes the shard's folder, if nothing is left in it.
    pub(super) fn remove(&self, shard: ShardId) -> io::Result<()> {
        self.ready.lock().remove(&shard);
        match fs::remove_dir(self.of(shard)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => if_there(removed).map(|_| ()),
        }
    }
}

fn if_there<X>(outcome: io::Result<X>) -> io::Result<Option<X>> {
    match outcome {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
