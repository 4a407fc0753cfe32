//! What must hold wherever parts are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::parts::{ColumnStats, PartError, PartFault, Value};
use lowwater_shard::record::Stored;
use lowwater_shard::{PartName, Parts, SchemaId, SeqNo, Updates};

use crate::parts::rows::{flights, schema};

fn shard(number: u128) -> ShardId {
    ShardId::new(number)
}

async fn write(parts: &Parts, of: u128, begun: u64, updates: &Updates<u64>) -> Stored {
    let (begun, id) = (SeqNo::new(begun), SchemaId::new(0));
    let schema = schema();
    let written = parts.write(shard(of), begun, id, &schema, updates);
    written.await.unwrap()
}

async fn names(parts: &Parts, of: u128) -> Vec<PartName> {
    let listed = parts.list(shard(of)).await.unwrap();
    listed.into_iter().map(|part| part.name).collect()
}

pub(crate) async fn what_is_written_is_read_again(parts: Parts) {
    for count in [0, 1, 5_000] {
        let updates = flights(100, count);
        let stored = write(&parts, 1, 4, &updates).await;
        assert_eq!(stored.updates, count);
        assert_eq!(stored.begun, SeqNo::new(4));
        let read = parts.read(shard(1), &stored, &schema()).await.unwrap();
        assert_eq!(read, updates);
    }
}

fn is_missing<R: std::fmt::Debug>(outcome: Result<R, PartError>, part: &Stored) -> bool {
    matches!(outcome, Err(PartError::Missing(name)) if name == part.name())
}

pub(crate) async fn a_part_that_is_not_there_is_missing(parts: Parts) {
    let stored = write(&parts, 1, 1, &flights(0, 3)).await;
    let other = Stored {
        begun: SeqNo::new(2),
        ..stored.clone()
    };
    let read = parts.read::<u64>(shard(1), &other, &schema()).await;
    assert!(is_missing(read, &other));
    let elsewhere = parts.read::<u64>(shard(2), &stored, &schema()).await;
    assert!(is_missing(elsewhere, &stored));
    let stats = parts.stats::<u64>(shard(1), &other, &schema()).await;
    assert!(is_missing(stats, &other));
}

pub(crate) async fn what_was_deleted_is_missing_and_to_delete_twice_does_no_harm(parts: Parts) {
    let gone = write(&parts, 1, 1, &flights(0, 3)).await;
    let kept = write(&parts, 1, 1, &flights(0, 3)).await;
    let never = PartName {
        begun: SeqNo::new(7),
        ..gone.name()
    };
    for _ in 0..2 {
        parts.delete(shard(1), &[gone.name(), never]).await.unwrap();
        parts.delete(shard(9), &[never]).await.unwrap();
        let read = parts.read::<u64>(shard(1), &gone, &schema()).await;
        assert!(is_missing(read, &gone));
        assert_eq!(names(&parts, 1).await, [kept.name()]);
    }
    parts.delete(shard(1), &[]).await.unwrap();
}

pub(crate) async fn parts_are_listed_with_when_they_were_begun(parts: Parts) {
    assert_eq!(parts.list(shard(1)).await.unwrap(), []);
    let mut written = Vec::new();
    for begun in [300, 2, 17] {
        written.push(write(&parts, 1, begun, &flights(0, 3)).await);
    }
    write(&parts, 2, 1, &flights(0, 3)).await;
    written.sort_by_key(|stored| stored.begun);
    let listed = parts.list(shard(1)).await.unwrap();
    let expected: Vec<_> = written
        .iter()
        .map(|stored| (stored.name(), stored.bytes))
        .collect();
    let listed: Vec<_> = listed.iter().map(|part| (part.name, part.bytes)).collect();
    assert_eq!(listed, expected);
}

pub(crate) async fn a_shard_is_cleared_without_touching_others(parts: Parts) {
    write(&parts, 1, 1, &flights(0, 3)).await;
    write(&parts, 1, 2, &flights(0, 3)).await;
    let other = write(&parts, 2, 1, &flights(0, 3)).await;
    for _ in 0..2 {
        parts.clear(shard(1)).await.unwrap();
        assert_eq!(names(&parts, 1).await, []);
    }
    assert_eq!(names(&parts, 2).await, [other.name()]);
    // Of use again, should anybody write there.
    write(&parts, 1, 3, &flights(0, 3)).await;
    assert_eq!(names(&parts, 1).await.len(), 1);
}

pub(crate) async fn metadata_tell_the_bounds_of_rows(parts: Parts) {
    let updates = flights(70, 700);
    let stored = write(&parts, 1, 1, &updates).await;
    let stats = parts
        .stats::<u64>(shard(1), &stored, &schema())
        .await
        .unwrap();
    assert_eq!((stats.updates, stats.bytes), (700, stored.bytes));
    assert_eq!(stats.times, [(70, 769)]);
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let carriers = ColumnStats {
        min: text("carrier 0"),
        max: text("carrier 9"),
        nulls: Some(0),
    };
    let delays = ColumnStats {
        min: Some(Value::Int64(-20)),
        max: Some(Value::Int64(69)),
        nulls: Some(100),
    };
    assert_eq!(stats.columns, [carriers, delays]);
    let stored = write(&parts, 1, 1, &flights(0, 0)).await;
    let stats = parts
        .stats::<u64>(shard(1), &stored, &schema())
        .await
        .unwrap();
    assert_eq!((stats.updates, &*stats.times), (0, &[][..]));
}

pub(crate) async fn a_part_that_is_not_what_the_record_says_is_given_up(parts: Parts) {
    let stored = write(&parts, 1, 1, &flights(0, 3)).await;
    let mistaken = Stored {
        checksum: stored.checksum.map(|checksum| checksum ^ 1),
        ..stored
    };
    let read = parts.read::<u64>(shard(1), &mistaken, &schema()).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::GiveUp);
    let fault = PartFault::Checksum;
    assert!(matches!(error, PartError::Unreadable { fault: f, .. } if f == fault));
}

pub(crate) async fn clones_are_of_the_same_place(parts: Parts) {
    let stored = write(&parts.clone(), 1, 1, &flights(0, 3)).await;
    assert_eq!(names(&parts, 1).await, [stored.name()]);
    assert_eq!(parts.to_string(), parts.clone().to_string());
}

pub(crate) async fn updates_of_another_schema_are_refused(parts: Parts) {
    let other = lowwater_shard::Schema::new(vec![]).unwrap();
    let (begun, id) = (SeqNo::FIRST, SchemaId::new(0));
    let updates = flights(0, 3);
    let written = parts.write(shard(1), begun, id, &other, &updates);
    assert!(matches!(written.await, Err(PartError::Updates(_))));
    let stored = write(&parts, 1, 1, &flights(0, 3)).await;
    let read = parts.read::<u64>(shard(1), &stored, &other).await;
    let fault = PartFault::OtherColumns;
    assert!(matches!(read, Err(PartError::Unreadable { fault: f, .. }) if f == fault));
    let schema = schema();
    let read = parts.read::<timely::order::Product<u64, u64>>(shard(1), &stored, &schema);
    let fault = PartFault::OtherColumns;
    assert!(matches!(read.await, Err(PartError::Unreadable { fault: f, .. }) if f == fault));
}

/// On a runtime of one thread: while rows are written and read, others run on.
pub(crate) async fn reading_stalls_nobody(parts: Parts) {
    let updates = flights(0, 100_000);
    let (turns, done) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let other = tokio::spawn({
        let (turns, done) = (Arc::clone(&turns), Arc::clone(&done));
        async move {
            while !done.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let stored = write(&parts, 1, 1, &updates).await;
    let written = turns.load(Ordering::Relaxed);
    assert!(written > 100, "{written} turns while it was written");
    let read = parts.read(shard(1), &stored, &schema()).await.unwrap();
    let read_in = turns.load(Ordering::Relaxed) - written;
    assert!(read_in > 100, "{read_in} turns while it was read");
    done.store(true, Ordering::Relaxed);
    other.await.unwrap();
    assert_eq!(read, updates);
}
