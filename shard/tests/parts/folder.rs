//! What only a folder can show.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::parts::{PartError, PartFault, PlaceError};
use lowwater_shard::record::Stored;
use lowwater_shard::{Parts, SchemaId, SeqNo};

use crate::in_a_folder;
use crate::parts::rows::{flights, schema};

fn shard() -> ShardId {
    ShardId::new(0xabc)
}

async fn write(parts: &Parts) -> Result<Stored, PartError> {
    let (begun, id) = (SeqNo::new(5), SchemaId::new(0));
    let updates = flights(0, 50);
    parts.write(shard(), begun, id, &schema(), &updates).await
}

fn file(folder: &Path, stored: &Stored) -> PathBuf {
    let name = format!("{:016x}-{:032x}.parquet", 5, stored.part.number());
    folder
        .join("parts")
        .join(format!("{:032x}", 0xabc))
        .join(name)
}

#[tokio::test]
async fn a_part_is_a_file_of_the_documented_name_that_only_its_owner_can_reach() {
    let (folder, parts) = in_a_folder();
    let stored = write(&parts).await.unwrap();
    let file = file(folder.path(), &stored);
    assert_eq!(fs::metadata(&file).unwrap().len(), stored.bytes);
    for folder in file.ancestors().skip(1).take(2) {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder:?}");
    }
    parts.clear(shard()).await.unwrap();
    assert!(!file.parent().unwrap().exists(), "nothing is left");
}

#[tokio::test]
async fn a_folder_that_must_exist_is_not_made() {
    let (folder, parts) = in_a_folder();
    let stored = write(&parts).await.unwrap();
    let there = Parts::existing_folder(folder.path().join("parts")).unwrap();
    let read = there.read(shard(), &stored, &schema()).await.unwrap();
    assert_eq!(read, flights(0, 50));

    let elsewhere = folder.path().join("elsewhere");
    let absent = Parts::existing_folder(&elsewhere).unwrap_err();
    assert!(matches!(absent, PlaceError::Absent(_)), "{absent}");
    assert!(!elsewhere.exists());
    fs::write(&elsewhere, "a file").unwrap();
    let unusable = Parts::existing_folder(&elsewhere).unwrap_err();
    assert!(matches!(unusable, PlaceError::Folder { .. }), "{unusable}");
}

#[tokio::test]
async fn another_process_sees_what_was_written() {
    let (folder, parts) = in_a_folder();
    let stored = write(&parts).await.unwrap();
    let again = Parts::folder(folder.path().join("parts")).unwrap();
    let read = again.read(shard(), &stored, &schema()).await.unwrap();
    assert_eq!(read, flights(0, 50));
}

/// As `object_store` leaves it behind when the process is killed while it writes.
#[tokio::test]
async fn what_a_killed_writer_left_behind_is_listed_and_deleted() {
    let (folder, parts) = in_a_folder();
    let stored = write(&parts).await.unwrap();
    let whole = file(folder.path(), &stored);
    let unfinished = whole.to_string_lossy().into_owned() + "#1";
    fs::rename(&whole, &unfinished).unwrap();
    let read = parts.read::<u64>(shard(), &stored, &schema()).await;
    assert!(matches!(read, Err(PartError::Missing(_))), "{read:?}");
    let listed = parts.list(shard()).await.unwrap();
    assert_eq!(listed[0].name, stored.name());
    assert_eq!((listed.len(), listed[0].bytes), (1, stored.bytes));
    parts.delete(shard(), &[stored.name()]).await.unwrap();
    assert!(!Path::new(&unfinished).exists());
    assert_eq!(parts.list(shard()).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_no_part_is_neither_listed_nor_deleted() {
    let (folder, parts) = in_a_folder();
    let stored = write(&parts).await.unwrap();
    let other = file(folder.path(), &stored).with_file_name("notes.txt");
    fs::write(&other, "mine").unwrap();
    assert_eq!(parts.list(shard()).await.unwrap().len(), 1);
    parts.clear(shard()).await.unwrap();
    assert!(other.exists());
}

fn fault(read: Result<impl std::fmt::Debug, PartError>) -> PartFault {
    let error = read.unwrap_err();
    let PartError::Unreadable { fault, .. } = error else {
        panic!("{error}")
    };
    fault
}

#[tokio::test]
async fn damage_is_found_out_and_named() {
    let (folder, parts) = in_a_folder();
    let stored = write(&parts).await.unwrap();
    let file = file(folder.path(), &stored);
    let sound = fs::read(&file).unwrap();
    let read = async |bytes: &[u8], stored: &Stored| {
        fs::write(&file, bytes).unwrap();
        let read = parts.read::<u64>(shard(), stored, &schema()).await;
        let stats = parts.stats::<u64>(shard(), stored, &schema()).await;
        (read, stats)
    };
    let mut flipped = sound.clone();
    flipped[100] ^= 1;
    let (rows, _) = read(&flipped, &stored).await;
    assert_eq!(fault(rows), PartFault::Checksum);

    let (rows, stats) = read(&sound[..sound.len() - 7], &stored).await;
    let length = PartFault::Length {
        wanted: stored.bytes,
        found: stored.bytes - 7,
    };
    assert_eq!(fault(rows), length);
    assert_eq!(fault(stats), length);

    let (rows, stats) = read(b"", &stored).await;
    assert!(matches!(fault(rows), PartFault::Length { found: 0, .. }));
    assert!(matches!(fault(stats), PartFault::Length { found: 0, .. }));

    // What somebody else has put there, and no record vouches for.
    let unknown = |bytes: &[u8]| Stored {
        bytes: bytes.len() as u64,
        checksum: None,
        ..stored.clone()
    };
    let noise = [7; 500];
    let (rows, stats) = read(&noise, &unknown(&noise)).await;
    assert!(matches!(fault(rows), PartFault::Malformed(_)));
    assert!(matches!(fault(stats), PartFault::Malformed(_)));
}

#[tokio::test]
async fn a_part_of_another_name_is_foreign() {
    let (folder, parts) = in_a_folder();
    let (one, two) = (write(&parts).await.unwrap(), write(&parts).await.unwrap());
    fs::copy(file(folder.path(), &one), file(folder.path(), &two)).unwrap();
    let mistaken = Stored {
        checksum: one.checksum,
        bytes: one.bytes,
        ..two
    };
    let read = parts.read::<u64>(shard(), &mistaken, &schema()).await;
    assert_eq!(fault(read), PartFault::Foreign);
    let stats = parts.stats::<u64>(shard(), &mistaken, &schema()).await;
    assert_eq!(fault(stats), PartFault::Foreign);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_given_up() {
    let (folder, parts) = in_a_folder();
    // Works for root too, whom permissions do not stop: a file is where the shard's folder should be.
    fs::write(
        folder.path().join("parts").join(format!("{:032x}", 0xabc)),
        "",
    )
    .unwrap();
    let error = write(&parts).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::GiveUp, "{error}");
    assert!(matches!(error, PartError::Store(_)));
}

#[test]
fn what_is_no_place_is_refused() {
    for place in ["", "ftp://user:secret@host/x", "postgres://x"] {
        let error = Parts::at(place).unwrap_err();
        assert!(matches!(error, PlaceError::Unknown(_)), "{error}");
        assert!(!error.to_string().contains("secret"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Parts::folder(file.path().join("below")).unwrap_err();
    assert!(matches!(error, PlaceError::Folder { .. }), "{error}");
    assert!(Parts::at(&file.path().to_string_lossy()).is_err());
    assert_eq!(Parts::at("memory").unwrap().to_string(), "memory");
}
