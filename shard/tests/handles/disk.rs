//! On SQLite and folders: each opens the store by itself, as a process does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lowwater::{Since, StorageErrorKind, Upper};
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::{Epoch, Parts, ReaderId, Settings, Shards, SnapshotError, Upkeep};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::world::{as_of, by_hand, list, no_inline, shard, updates, upper, write, writer};

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

fn open(folder: &Path, settings: Settings) -> Shards<u64> {
    let store = EmbeddedConsensus::open(folder.join("records")).unwrap();
    let parts = Parts::folder(folder.join("parts")).unwrap();
    Shards::new(&Handle::current(), Arc::new(store), parts, settings)
}

#[test]
fn what_another_process_writes_is_seen_without_being_asked_for() {
    let folder = TempDir::new().unwrap();
    runtime().block_on(async {
        let (mine, theirs) = (
            open(folder.path(), by_hand()),
            open(folder.path(), no_inline()),
        );
        let (waiting, writing) = (writer(&mine).await, writer(&theirs).await);
        let snapshot = tokio::spawn(mine.snapshot(shard(), &as_of(29)));
        for at in 0..30 {
            write(&writing, at, at + 1).await;
            let past = as_of(at);
            let seen = waiting.wait_for_upper_past(&past);
            let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
            assert!(seen.unwrap().unwrap().is_past(&past));
        }
        let read = snapshot.await.unwrap().unwrap();
        assert_eq!(read.len(), 30);
        let end = writing
            .compare_and_append(upper(30), Upper::sealed(), updates(&[]))
            .await;
        assert!(end.unwrap().is_sealed());
        let far = as_of(u64::MAX);
        let seen = waiting.wait_for_upper_past(&far);
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        assert!(seen.unwrap().unwrap().is_sealed());
    });
}

#[test]
fn writers_of_several_processes_that_repeat_each_other_write_each_row_once() {
    let folder = TempDir::new().unwrap();
    runtime().block_on(async {
        let mut writers = Vec::new();
        for number in 0..4_u64 {
            let folder = folder.path().to_owned();
            let settings = if number % 2 == 0 {
                by_hand()
            } else {
                no_inline()
            };
            writers.push(tokio::spawn(async move {
                let shards = open(&folder, settings);
                let writer = writer(&shards).await;
                for at in 0..40 {
                    // Each begins anew from some way back.
                    let from = at - number.min(at);
                    let rows: Vec<_> = (from..=at).map(|at| (at as i64, at, 1)).collect();
                    writer
                        .append(upper(from), upper(at + 1), updates(&rows))
                        .await
                        .unwrap();
                    if at % 10 == number {
                        shards.compact(shard()).await.unwrap();
                    }
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let read = open(folder.path(), by_hand())
            .snapshot(shard(), &as_of(39))
            .await
            .unwrap();
        let all: Vec<_> = (0..40).map(|at| (at, 39, 1)).collect();
        assert_eq!(list(&read), all);
    });
}

/// One row is there at every time, under another name at each.
#[test]
fn who_reads_while_others_merge_and_sweep_is_given_what_is_right_or_refused() {
    let folder = TempDir::new().unwrap();
    runtime().block_on(async {
        let settings = Settings {
            inline_bytes_max: 0,
            upkeep: Upkeep::InBackground { tasks_max: 2 },
            part_grace: Duration::ZERO,
            ..Settings::default()
        };
        let (writing, reading) = (
            open(folder.path(), settings),
            open(folder.path(), by_hand()),
        );
        let (me, epoch) = (ReaderId::new(1), Epoch::new(1));
        let mut critical = writing.critical(shard(), me, epoch).await.unwrap();
        let upper_now = Arc::new(AtomicU64::new(0));
        let written = Arc::clone(&upper_now);
        let merging = writing.clone();
        let write = tokio::spawn(async move {
            let writer = writer(&writing).await;
            for at in 0..150_u64 {
                let mut rows = vec![(at as i64, at, 1)];
                if at > 0 {
                    rows.push((at as i64 - 1, at, -1));
                }
                writer
                    .append(upper(at), upper(at + 1), updates(&rows))
                    .await
                    .unwrap();
                let since = Since::at(at.saturating_sub(3));
                critical
                    .compare_and_downgrade(epoch, epoch, &since)
                    .await
                    .unwrap();
                written.store(at + 1, Ordering::SeqCst);
                if at % 5 == 0 {
                    merging.compact(shard()).await.unwrap();
                    merging.sweep(shard()).await.unwrap();
                }
            }
        });
        let mut read = 0;
        while !write.is_finished() {
            let at = upper_now.load(Ordering::SeqCst);
            if at == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            match reading.snapshot(shard(), &as_of(at - 1)).await {
                Ok(updates) => {
                    assert_eq!(list(&updates), [(at as i64 - 1, at - 1, 1)]);
                    read += 1;
                }
                Err(SnapshotError::TooEarly { since, .. }) => assert!(!since.can_read(&(at - 1))),
                Err(SnapshotError::Storage(error)) => {
                    assert_eq!(error.kind(), StorageErrorKind::Retry, "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        write.await.unwrap();
        assert!(read > 10, "{read}");
    });
}
