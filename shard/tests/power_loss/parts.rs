//! Parts in a folder: what the process does, and what must be there after a power loss.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::book::{Book, Entry, Pen, data};
use crate::{Finding, run};

const FOLDER: &str = "parts";

/// How many parts each writes.
const PARTS: u64 = 20;

/// Several parts a shard, of each who writes.
fn name(part: u64) -> Name {
    Name::from(format!("{:032x}/{part:016x}.parquet", part % PARTS / 4))
}

/// Several write at once to one shard after the other, and delete what they have written.
pub(crate) fn write(is_synced: bool, disk: &Path, pen: Pen) {
    fs::create_dir(disk.join(FOLDER)).unwrap();
    File::open(disk).unwrap().sync_all().unwrap();
    let parts = LocalFileSystem::new_with_prefix(disk.join(FOLDER)).unwrap();
    let parts = Arc::new(parts.with_fsync(is_synced));
    let pen = Arc::new(pen);
    run(async {
        let writers = (0..3).map(|writer| {
            let (parts, pen) = (Arc::clone(&parts), Arc::clone(&pen));
            tokio::spawn(async move {
                for part in writer * PARTS..(writer + 1) * PARTS {
                    write_one(&*parts, &pen, part).await;
                    if part % 4 == 3 {
                        pen.ask(&Entry::Delete(part - 1));
                        parts.delete(&name(part - 1)).await.unwrap();
                        pen.told(&Entry::Delete(part - 1));
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn write_one(parts: &dyn ObjectStore, pen: &Pen, part: u64) {
    pen.ask(&Entry::Write(part));
    let payload = PutPayload::from(data(part, 0));
    let create = PutOptions::from(PutMode::Create);
    parts.put_opts(&name(part), payload, create).await.unwrap();
    pen.told(&Entry::Write(part));
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
