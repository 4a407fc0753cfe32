//! The last handle of a folder closes it, wherever it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::{Answer, Consensus};
use lowwater_shard::{Parts, Settings, Shards};
use tempfile::TempDir;

use super::rules::{log, numbers, offer, write};
use super::store::run;

/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(60);

/// What SQLite leaves where nobody has it open.
const CLOSED: [&str; 1] = ["records.sqlite"];

fn files(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The files in a folder that this process has open.
fn open_files(folder: &Path) -> Vec<PathBuf> {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    open.filter(|file| file.starts_with(folder)).collect()
}

fn assert_closed(folder: &Path) {
    assert_eq!(files(folder), CLOSED);
    assert_eq!(open_files(folder), <[PathBuf; 0]>::default());
}

/// Where the last handle goes on one of its own threads, it cannot wait for that.
fn is_closed_soon(folder: &Path) {
    let began = Instant::now();
    while files(folder) != CLOSED || !open_files(folder).is_empty() {
        assert!(began.elapsed() < BOUND, "still open: {:?}", files(folder));
        thread::yield_now();
    }
}

/// A folder by the name that the system knows it by.
fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

#[test]
fn the_last_handle_closes_the_folder_and_others_do_not() {
    let (kept, folder) = folder();
    let first = EmbeddedConsensus::open(&folder).unwrap();
    let last = first.clone();
    run(async { write(&first, log(1), 3).await });
    drop(first);
    assert!(files(&folder).len() > CLOSED.len(), "the other one has it");
    assert!(!open_files(&folder).is_empty());
    run(async { write(&last, log(2), 3).await });
    drop(last);
    assert_closed(&folder);
    kept.close().unwrap();
}

#[test]
fn what_was_asked_is_carried_out_before_the_last_handle_closes_the_folder() {
    let (_kept, folder) = folder();
    let store = EmbeddedConsensus::open(&folder).unwrap();
    // Nobody waits for the answers, nor for those of what is read.
    for seen in 0..200 {
        drop(store.commit(None, vec![offer(log(1), seen, "x")]));
        drop(store.heads(vec![log(1)]));
    }
    drop(store);
    assert_closed(&folder);
    let again = EmbeddedConsensus::open(&folder).unwrap();
    let all = run(async { numbers(&again, log(1), 1).await });
    assert!(all.into_iter().eq(1..=200));
}

#[test]
fn a_folder_is_opened_closed_and_removed_again_and_again() {
    let (_kept, folder) = folder();
    let store = folder.join("store");
    for _ in 0..30 {
        let opened = EmbeddedConsensus::open(&store).unwrap();
        run(async { write(&opened, log(1), 1).await });
        drop(opened);
        assert_closed(&store);
        fs::remove_dir_all(&store).unwrap();
    }
}

#[test]
fn the_last_handle_may_go_inside_a_runtime_while_it_is_asked() {
    let (_kept, folder) = folder();
    run(async {
        let store = EmbeddedConsensus::open(&folder).unwrap();
        let waiting: Vec<_> = (0..50)
            .map(|number| tokio::spawn(store.commit(None, vec![offer(log(number), 0, "x")])))
            .collect();
        tokio::task::yield_now().await;
        drop(store);
        assert_closed(&folder);
        for answered in waiting {
            answered.await.unwrap().unwrap().unwrap();
        }
    });
}

#[test]
fn shards_that_go_with_their_runtime_close_the_folder() {
    let (_kept, folder) = folder();
    run(async {
        let store = Arc::new(EmbeddedConsensus::open(&folder).unwrap());
        let runtime = tokio::runtime::Handle::current();
        let shards = Shards::<u64>::new(&runtime, store, Parts::memory(), Settings::default());
        shards.upper(lowwater::ShardId::new(1)).await.unwrap();
    });
    assert_closed(&folder);
}

/// Is woken with the last handle in its hands, and drops it.
struct Holder {
    store: Mutex<Option<EmbeddedConsensus>>,
    dropped_on: Mutex<Option<String>>,
}

impl Wake for Holder {
    fn wake(self: Arc<Self>) {
        let here = thread::current().name().map(str::to_owned);
        *self.dropped_on.lock().unwrap() = here;
        drop(self.store.lock().unwrap().take());
    }
}

/// Which thread has dropped the last handle, as it answered the last of what was asked; none where
/// all was answered before somebody waited for it.
fn dropped_by_an_answer<X>(
    folder: &Path,
    ask: impl FnOnce(&EmbeddedConsensus) -> Vec<Answer<X>>,
) -> Option<String> {
    let store = EmbeddedConsensus::open(folder).unwrap();
    let mut answers = ask(&store);
    let holder = Arc::new(Holder {
        store: Mutex::new(Some(store)),
        dropped_on: Mutex::new(None),
    });
    let waker = Waker::from(Arc::clone(&holder));
    let last = answers.last_mut().unwrap();
    let polled = last.as_mut().poll(&mut Context::from_waker(&waker));
    if polled.is_ready() {
        drop(holder.store.lock().unwrap().take());
    }
    is_closed_soon(folder);
    holder.dropped_on.lock().unwrap().take()
}

#[test]
fn the_last_handle_may_go_on_the_thread_that_writes() {
    let (_kept, folder) = folder();
    let began = Instant::now();
    loop {
        let dropped_on = dropped_by_an_answer(&folder, |store| {
            vec![store.commit(None, vec![offer(log(1), 0, vec![7; 1 << 20])])]
        });
        match dropped_on {
            Some(thread) => return assert_eq!(thread, "lowwater-writer"),
            None => assert!(began.elapsed() < BOUND, "it is always answered at once"),
        }
    }
}

#[test]
fn the_last_handle_may_go_on_the_thread_that_reads() {
    let (_kept, folder) = folder();
    let began = Instant::now();
    loop {
        let dropped_on = dropped_by_an_answer(&folder, |store| {
            (0..1_000).map(|_| store.heads(vec![log(1)])).collect()
        });
        match dropped_on {
            Some(thread) => return assert_eq!(thread, "lowwater-reader"),
            None => assert!(began.elapsed() < BOUND, "it is always answered at once"),
        }
    }
}
