//! Parts in a folder: what the process does, and what must be there after a power loss.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch};
use lowwater::ShardId;
use lowwater_shard::record::Stored;
use lowwater_shard::{Column, ColumnKind, PartId, Parts, Schema, SchemaId, SeqNo, Updates};
use object_store::local::LocalFileSystem;

use super::book::{Book, Entry, PartBook, Pen, data};
use crate::{Finding, run};

const FOLDER: &str = "parts";

/// How many parts each writes.
const PARTS: u64 = 8;

/// Of several shards, each of who writes.
fn shard(part: u64) -> ShardId {
    ShardId::new((part % PARTS / 4).into())
}

fn schema() -> Schema {
    Schema::new(vec![Column {
        name: "data".to_owned(),
        kind: ColumnKind::Bytes,
        nullable: false,
    }])
    .unwrap()
}

fn updates(part: u64) -> Updates<u64> {
    let rows: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&data(part, 0)]));
    let rows = RecordBatch::try_new(schema().arrow(), vec![rows]).unwrap();
    Updates::new(rows, vec![part], vec![1]).unwrap()
}

/// How much is done for parts to survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    Nothing,
    /// What `object_store` does when it is told to sync.
    Synced,
    /// What [`Parts::folder`] does: the folder of a shard is synced into the one above, whoever has
    /// created it.
    FolderToo,
}

impl Care {
    fn parts(self, folder: &Path) -> Parts {
        if self == Care::FolderToo {
            return Parts::folder(folder).unwrap();
        }
        fs::create_dir_all(folder).unwrap();
        File::open(folder.parent().unwrap())
            .unwrap()
            .sync_all()
            .unwrap();
        let store = LocalFileSystem::new_with_prefix(folder).unwrap();
        let store = store.with_fsync(self != Care::Nothing);
        Parts::over(Arc::new(store), "", FOLDER)
    }
}

/// Several write at once to one shard after the other, and delete what they have written.
pub(crate) fn write(care: Care, first: u64, disk: &Path, pen: Pen) {
    let parts = care.parts(&disk.join(FOLDER));
    let pen = Arc::new(pen);
    run(async {
        let writers = (0..3).map(|writer| {
            let (parts, pen) = (parts.clone(), Arc::clone(&pen));
            tokio::spawn(async move {
                let mut last = None;
                for part in first + writer * PARTS..first + (writer + 1) * PARTS {
                    let stored = write_one(&parts, &pen, part).await;
                    let before = last.replace(stored);
                    if part % 4 == 3 {
                        let before = before.expect("it is not the first");
                        delete_one(&parts, &pen, part - 1, &before).await;
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn write_one(parts: &Parts, pen: &Pen, part: u64) -> Stored {
    pen.ask(&Entry::Write(part));
    let (begun, schema_id) = (SeqNo::new(part), SchemaId::new(0));
    let stored = parts
        .write(shard(part), begun, schema_id, &schema(), &updates(part))
        .await
        .unwrap();
    let id = stored.part.number();
    pen.told(&Entry::Stored(
        part,
        [
            (id >> 64) as u64,
            id as u64,
            stored.bytes,
            u64::from(stored.checksum.unwrap()),
        ],
    ));
    stored
}

async fn delete_one(parts: &Parts, pen: &Pen, part: u64, stored: &Stored) {
    pen.ask(&Entry::Delete(part));
    let names = [stored.name()];
    parts.delete(shard(part), &names).await.unwrap();
    pen.told(&Entry::Delete(part));
}

/// As a record would refer to it; none of a part that nobody was told of.
fn stored(part: u64, book: &PartBook) -> Option<Stored> {
    let [high, low, bytes, checksum] = book.stored?;
    Some(Stored {
        part: PartId::new(u128::from(high) << 64 | u128::from(low)),
        begun: SeqNo::new(part),
        schema: SchemaId::new(0),
        updates: 1,
        bytes,
        checksum: Some(u32::try_from(checksum).unwrap()),
    })
}

/// A part that was written is there, whole, unless it was to be deleted; and all can be listed, so
/// that what nobody was told of is swept.
pub(crate) fn check(disk: &Path, book: &Book) -> Result<(), Finding> {
    let folder = disk.join(FOLDER);
    if !folder.exists() && !book.parts.values().any(|part| part.stored.is_some()) {
        return Ok(());
    }
    let parts = Parts::folder(folder).unwrap();
    run(async {
        for (part, state) in &book.parts {
            if let Err(error) = parts.list(shard(*part)).await {
                return Err(Finding::Unreadable(error.to_string()));
            }
            let Some(stored) = stored(*part, state) else {
                continue;
            };
            match parts.read::<u64>(shard(*part), &stored, &schema()).await {
                Ok(read) if is(&read, *part) => {}
                Ok(_) => return Err(Finding::Wrong(format!("part {part}"))),
                Err(_) if state.may_be_deleted => {}
                Err(error) => return Err(Finding::Lost(format!("part {part}: {error}"))),
            }
        }
        Ok(())
    })
}

fn is(read: &Updates<u64>, part: u64) -> bool {
    let rows = read.rows().column(0).as_any();
    let rows = rows.downcast_ref::<BinaryArray>().unwrap();
    (rows.len(), read.times(), read.diffs()) == (1, &[part][..], &[1][..])
        && rows.value(0) == data(part, 0)
}
