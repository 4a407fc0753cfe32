//! Parts in a folder: what the process does, and what must be there after a power loss.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::book::{Book, Entry, Pen, data};
use crate::{Finding, run};

const FOLDER: &str = "parts";

/// How many parts each writes.
const PARTS: u64 = 8;

/// Several parts a shard, of each who writes.
fn name(part: u64) -> Name {
    Name::from(format!("{:032x}/{part:016x}.parquet", part % PARTS / 4))
}

/// How much is done for parts to survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    Nothing,
    /// What `object_store` does when it is told to sync.
    Synced,
    /// And the folder of a shard is synced into the one above, whoever has created it.
    FolderToo,
}

/// Several write at once to one shard after the other, and delete what they have written.
pub(crate) fn write(care: Care, first: u64, disk: &Path, pen: Pen) {
    let folder = disk.join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    File::open(disk).unwrap().sync_all().unwrap();
    let parts = LocalFileSystem::new_with_prefix(&folder).unwrap();
    let parts = Arc::new(parts.with_fsync(care != Care::Nothing));
    let pen = Arc::new(pen);
    run(async {
        let writers = (0..3).map(|writer| {
            let (parts, pen, folder) = (Arc::clone(&parts), Arc::clone(&pen), folder.clone());
            tokio::spawn(async move {
                for part in first + writer * PARTS..first + (writer + 1) * PARTS {
                    if care == Care::FolderToo {
                        make_room_for(part, &folder);
                    }
                    write_one(&*parts, &pen, part).await;
                    if part % 4 == 3 {
                        delete_one(&*parts, &pen, part - 1).await;
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

fn make_room_for(part: u64, folder: &Path) {
    let name = name(part);
    let shard = name.parts().next().unwrap();
    match fs::create_dir(folder.join(shard.as_ref())) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
        Ok(()) | Err(_) => File::open(folder).unwrap().sync_all().unwrap(),
    }
}

async fn write_one(parts: &dyn ObjectStore, pen: &Pen, part: u64) {
    pen.ask(&Entry::Write(part));
    let payload = PutPayload::from(data(part, 0));
    let create = PutOptions::from(PutMode::Create);
    parts.put_opts(&name(part), payload, create).await.unwrap();
    pen.told(&Entry::Write(part));
}

async fn delete_one(parts: &dyn ObjectStore, pen: &Pen, part: u64) {
    pen.ask(&Entry::Delete(part));
    parts.delete(&name(part)).await.unwrap();
    pen.told(&Entry::Delete(part));
}

/// A part that was written is there, and one that is there is whole.
pub(crate) fn check(disk: &Path, book: &Book) -> Result<(), Finding> {
    let folder = disk.join(FOLDER);
    if !folder.exists() {
        assert!(book.parts.is_empty(), "the test itself has synced it");
        return Ok(());
    }
    let parts = LocalFileSystem::new_with_prefix(folder).unwrap();
    run(async {
        for (part, state) in &book.parts {
            let found = match parts.get(&name(*part)).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            match found {
                Ok(bytes) if bytes == data(*part, 0) => {}
                Ok(_) => return Err(Finding::Wrong(format!("part {part}"))),
                Err(_) if state.may_be_deleted || !state.is_written => {}
                Err(error) => return Err(Finding::Lost(format!("part {part}: {error}"))),
            }
        }
        Ok(())
    })
}
