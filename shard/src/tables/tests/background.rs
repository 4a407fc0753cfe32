//! What is done in the background.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_background_applies_tidies_and_lets_go_of_the_txns_shard() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::Background(Duration::ZERO)).await;
    commit(&tables, 5, &[(A, &[1]), (B, &[2])]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (store.upper(A), store.upper(B)),
        (Upper::at(6), Upper::at(6))
    );
    assert_eq!(store.since(TXNS), Since::at(5));
    tables.advance(&9).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.since(TXNS), Since::at(9));
    let latest = open(&store, Mode::ReadOnly).await.state().await;
    assert_eq!(latest.oldest_unapplied(), None);
    let steps = store.steps();
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert_eq!(
        store.steps(),
        steps,
        "nothing is written when nothing happens"
    );
}

#[tokio::test(start_paused = true)]
async fn the_background_applies_what_other_processes_commit() {
    let store = MemoryTables::new();
    let _background = registered(&store, Mode::Background(Duration::ZERO)).await;
    let other = open(&store, Mode::ByHand).await;
    commit(&other, 5, &[(A, &[1])]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.upper(A), Upper::at(6));
}

#[tokio::test(start_paused = true)]
async fn tables_that_are_dropped_leave_no_task_behind() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::Background(Duration::ZERO)).await;
    let inner = Arc::downgrade(&tables.inner);
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(tables);
    assert!(inner.upgrade().is_none());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn what_was_taken_in_wrongly_is_read_anew_by_who_follows() {
    let store = MemoryTables::new();
    let writer = registered(&store, Mode::ByHand).await;
    let reader = open(&store, Mode::ReadOnly).await;
    *reader.inner.cache.lock().await = Cache::new();
    commit(&writer, 5, &[(A, &[1])]).await;
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        if reader.upper() == Upper::at(6) {
            return;
        }
    }
    panic!("it is read as a whole no more: {:?}", reader.upper());
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_applied_keeps_the_txns_shard_from_nothing_else() {
    let store = MemoryTables::new();
    let tables = registered(&store, Mode::Background(Duration::ZERO)).await;
    // Somebody else writes to it, so that nothing can be brought there.
    store.write_directly(A, Upper::at(50));
    commit(&tables, 5, &[(B, &[1])]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    commit(&tables, 7, &[(A, &[2])]).await;
    commit(&tables, 9, &[(B, &[3])]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.upper(B), Upper::at(10));
    assert_eq!(
        store.since(TXNS),
        Since::at(7),
        "not past what is not applied"
    );
    let compactions = store.compactions();
    tables.advance(&10).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        store.compactions() > compactions,
        "it may have become many batches"
    );
    assert_eq!(store.since(TXNS), Since::at(7));
}
