//! Records: what the process does, and what must be there after a power loss.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lowwater::ShardId;
use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::{Consensus, Fence, Offer, Outcome, Scan, Truncation, Version};
use lowwater_shard::{Epoch, Incarnation, LogId, SeqNo};
use rusqlite::{Connection, params};

use super::book::{Book, Entry, Pen, data};
use crate::{Finding, run};

/// Nothing of it is there at first.
const FOLDER: &str = "some/where/store";

/// How many write at once, each to two logs.
const WRITERS: u64 = 4;

fn log(number: u64) -> LogId {
    LogId::data(ShardId::new(number.into()))
}

fn fence(epoch: u64) -> Fence {
    Fence {
        epoch: Epoch::new(epoch),
        incarnation: Incarnation::new(7),
    }
}

fn offer(number: u64, seqno: u64) -> Offer {
    Offer {
        log: log(number),
        seen: seqno
            .checked_sub(1)
            .filter(|seen| *seen > 0)
            .map(SeqNo::new),
        data: data(number, seqno).into(),
        keep_from: None,
    }
}

/// Several write at once, truncate, take over; the store is closed and opened again between.
pub(crate) fn write(disk: &Path, pen: Pen) {
    let folder = disk.join(FOLDER);
    let pen = Arc::new(pen);
    run(async {
        for rounds in [1..3, 3..40, 40..50] {
            let store = EmbeddedConsensus::open(&folder).unwrap();
            let writers = (0..WRITERS).map(|writer| {
                let (store, pen, rounds) = (store.clone(), Arc::clone(&pen), rounds.clone());
                tokio::spawn(async move {
                    for round in rounds {
                        write_once(&store, &pen, writer, round).await;
                    }
                })
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.await.unwrap();
            }
            drop(store);
            until_closed(&folder).await;
        }
    });
}

async fn write_once(store: &EmbeddedConsensus, pen: &Pen, writer: u64, round: u64) {
    let logs = [2 * writer, 2 * writer + 1];
    if writer == 0 && round % 6 == 1 {
        pen.ask(&Entry::TakeOver(round));
        store.take_over(fence(round)).await.unwrap().unwrap();
        pen.told(&Entry::TakeOver(round));
    }
    let in_charge = (writer == 0).then(|| fence(round - (round - 1) % 6));
    let commit = Entry::Commit(logs.map(|log| (log, round)).into());
    pen.ask(&commit);
    let offers = logs.map(|log| offer(log, round)).into();
    let outcomes = store.commit(in_charge, offers).await.unwrap().unwrap();
    assert_eq!(outcomes, [Outcome::Taken, Outcome::Taken]);
    pen.told(&commit);
    if round % 5 == 4 {
        truncate(store, pen, logs[0], round - 2).await;
    }
}

async fn truncate(store: &EmbeddedConsensus, pen: &Pen, number: u64, before: u64) {
    let truncations = [number, number + 1].map(|number| Truncation {
        log: log(number),
        before: SeqNo::new(before),
    });
    pen.ask(&Entry::Truncate(number, before));
    pen.ask(&Entry::Truncate(number + 1, before));
    store.truncate(truncations.into()).await.unwrap();
    pen.told(&Entry::Truncate(number, before));
    pen.told(&Entry::Truncate(number + 1, before));
}

/// The last connection that is closed removes the log of SQLite; of two that are closed together
/// none may be the last, so there is one more.
async fn until_closed(folder: &Path) {
    for _ in 0..1_000 {
        let connection = Connection::open(folder.join("records.sqlite")).unwrap();
        let read = connection.query_row("SELECT count(*) FROM fence", [], |_| Ok(()));
        drop(connection);
        if read.is_ok() && !folder.join("records.sqlite-wal").exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the store is never closed");
}

/// Tells what there is, and dies before it closes the store.
pub(crate) fn read(disk: &Path, pen: &Pen) {
    let store = EmbeddedConsensus::open(disk.join(FOLDER)).unwrap();
    run(async {
        let numbers = 0..2 * WRITERS;
        let heads = store
            .heads(numbers.clone().map(log).collect())
            .await
            .unwrap();
        let heads = numbers.zip(heads);
        let there = heads.filter_map(|(number, head)| Some((number, head?.seqno.number())));
        pen.told(&Entry::Commit(there.collect()));
        if let Some(fence) = store.fence().await.unwrap() {
            pen.told(&Entry::TakeOver(fence.epoch.number()));
        }
    });
    std::process::exit(0);
}

/// The same on a connection of SQLite, which waits for the disk as it is told.
pub(crate) fn write_past_the_store(synchronous: &str, disk: &Path, pen: &Pen) {
    let folder = disk.join(FOLDER);
    drop(EmbeddedConsensus::open(&folder).unwrap());
    let connection = Connection::open(folder.join("records.sqlite")).unwrap();
    connection
        .pragma_update(None, "synchronous", synchronous)
        .unwrap();
    for seqno in 1..40 {
        let commit = Entry::Commit(vec![(1, seqno)]);
        pen.ask(&commit);
        let row = params![log(1).to_bytes(), seqno.cast_signed(), data(1, seqno)];
        connection
            .execute("INSERT INTO versions VALUES (?1, ?2, ?3)", row)
            .unwrap();
        pen.told(&commit);
    }
}

/// Opens the store, and compares it with the book.
pub(crate) fn check(disk: &Path, book: &Book) -> Result<(), Finding> {
    let trouble = |error: &dyn std::fmt::Display| Finding::Unreadable(error.to_string());
    let store = EmbeddedConsensus::open(disk.join(FOLDER)).map_err(|error| trouble(&error))?;
    run(async {
        let trouble = |error| trouble(&error);
        let epoch = store.fence().await.map_err(trouble)?;
        check_epoch(book, epoch.map_or(0, |fence| fence.epoch.number()))?;
        let numbers: Vec<u64> = book.logs.keys().copied().collect();
        let logs: Vec<LogId> = numbers.iter().map(|number| log(*number)).collect();
        let from_start = |log: &LogId| Scan {
            log: *log,
            from: SeqNo::FIRST,
        };
        let scans = logs.iter().map(from_start).collect();
        let found = store.scan(scans).await.map_err(trouble)?;
        for (number, versions) in numbers.iter().zip(&found) {
            check_log(book, *number, versions)?;
        }
        let head = |number: &u64| {
            let at = numbers.binary_search(number).unwrap();
            found[at].last().map_or(0, |version| version.seqno.number())
        };
        check_commits(book, head)?;
        for found in store.list(None, 100).await.map_err(trouble)? {
            if !logs.contains(&found) {
                return Err(Finding::NeverAsked(format!("log {found:?}")));
            }
        }
        let next = numbers
            .iter()
            .map(|number| offer(*number, head(number) + 1));
        go_on(&store, next.collect()).await
    })
}

fn check_epoch(book: &Book, epoch: u64) -> Result<(), Finding> {
    if epoch < book.epoch.told {
        return Err(Finding::Lost(format!("epoch {}", book.epoch.told)));
    }
    if epoch > book.epoch.asked {
        return Err(Finding::NeverAsked(format!("epoch {epoch}")));
    }
    Ok(())
}

fn check_log(book: &Book, number: u64, versions: &[Version]) -> Result<(), Finding> {
    let log = &book.logs[&number];
    let head = versions.last().map_or(0, |version| version.seqno.number());
    if head < log.head.told {
        return Err(Finding::Lost(format!(
            "log {number}, version {}",
            log.head.told
        )));
    }
    if head > log.head.asked {
        return Err(Finding::NeverAsked(format!("log {number}, version {head}")));
    }
    let Some(first) = versions.first() else {
        return Ok(());
    };
    let first = first.seqno.number();
    if first > log.start.asked.max(1) {
        return Err(Finding::Lost(format!(
            "log {number} before version {first}"
        )));
    }
    if first < log.start.told {
        return Err(Finding::Lost(format!(
            "log {number}, truncation to {}",
            log.start.told
        )));
    }
    for (version, seqno) in versions.iter().zip(first..) {
        if version.seqno.number() != seqno || version.data != data(number, seqno) {
            return Err(Finding::Wrong(format!("log {number}, version {seqno}")));
        }
    }
    Ok(())
}

/// What was asked for in one commit is there, or is not, together.
fn check_commits(book: &Book, head: impl Fn(&u64) -> u64) -> Result<(), Finding> {
    for commit in &book.commits {
        let there = commit
            .iter()
            .filter(|(log, seqno)| head(log) >= *seqno)
            .count();
        if there != 0 && there != commit.len() {
            return Err(Finding::Wrong(format!("one commit, {commit:?}, is torn")));
        }
    }
    Ok(())
}

/// The store can be written to again.
async fn go_on(store: &EmbeddedConsensus, offers: Vec<Offer>) -> Result<(), Finding> {
    let expected = vec![Outcome::Taken; offers.len()];
    match store.commit(None, offers).await {
        Ok(Ok(outcomes)) if outcomes == expected => Ok(()),
        other => Err(Finding::Unreadable(format!("cannot go on: {other:?}"))),
    }
}

/// What SQLite itself says about the file.
pub(crate) fn check_file(disk: &Path) -> Result<(), Finding> {
    let trouble = |error: rusqlite::Error| Finding::Unreadable(error.to_string());
    let file = disk.join(FOLDER).join("records.sqlite");
    let connection = Connection::open(file).map_err(trouble)?;
    let said: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .map_err(trouble)?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => Err(Finding::Wrong(said)),
    }
}
