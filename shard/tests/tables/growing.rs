//! What tables take up.

use crate::*;

#[tokio::test]
async fn a_large_transaction_is_stored_in_parts_and_outlives_a_crash_before_it_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let store: Store = Arc::new(EmbeddedConsensus::open(folder.path().join("records")).unwrap());
    let parts = Parts::folder(folder.path().join("parts")).unwrap();
    store.take_over(fence(1)).await.unwrap().unwrap();
    let open = |access| {
        let (runtime, store) = (Handle::current(), Arc::clone(&store));
        let parts = parts.clone();
        async move {
            Tables::<u64>::open(&runtime, store, parts, TXNS, access)
                .await
                .unwrap()
        }
    };
    let tables = open(control(1, false)).await;
    tables.register(&1, &both()).await.unwrap();
    let many: Vec<i64> = (0..30_000).map(|n| n * 1_000_003).collect();
    commit(&tables, 3, &[(A, &many), (B, &[1])]).await.unwrap();
    assert_eq!(parts.list(TXNS).await.unwrap().len(), 1);
    drop(tables);
    let reader = open(Access::ReadOnly).await;
    assert_eq!(read(&reader, A, 3).await, many);
    assert_eq!(parts.list(A).await.unwrap(), []);
    let tables = open(control(1, false)).await;
    tables.apply_through(&3).await.unwrap();
    assert_eq!(parts.list(A).await.unwrap().len(), 1);
    for at in 4..40 {
        commit(&tables, at, &[(B, &[2])]).await.unwrap();
        tables.apply_through(&at).await.unwrap();
    }
    tables.let_go().await.unwrap();
    let mut log = Log::<DataRecord<u64>>::new(TXNS);
    let versions = store.scan(vec![log.scan()]).await.unwrap().remove(0);
    log.follow(&versions).unwrap();
    let contents = log
        .record()
        .batches()
        .iter()
        .flat_map(|batch| &batch.contents);
    let stored = contents.filter(|content| matches!(content, Content::Stored(_)));
    assert_eq!(
        stored.count(),
        0,
        "what was applied is nowhere in the txns shard"
    );
    assert_eq!(
        parts.list(TXNS).await.unwrap(),
        [],
        "nor is it stored any more"
    );
    assert_eq!(read(&tables, A, 39).await, many);
    assert_eq!(read(&reader, B, 39).await.len(), 37);
}

#[tokio::test(start_paused = true)]
async fn the_txns_shard_does_not_grow_with_what_was_applied() {
    let store = memory();
    let tables = take_over(&store, 1, false).await;
    let follower = open(&store, Access::ReadOnly).await;
    tables.register(&1, &both()).await.unwrap();
    for at in 2..300 {
        commit(&tables, at, &[(A, &[7; 20]), (B, &[8; 20])])
            .await
            .unwrap();
        tables.apply_through(&at).await.unwrap();
        if at % 5 == 0 {
            tables.let_go().await.unwrap();
        }
    }
    let mut log = Log::<DataRecord<u64>>::new(TXNS);
    let versions = store.scan(vec![log.scan()]).await.unwrap().remove(0);
    log.follow(&versions).unwrap();
    let batches = log.record().batches();
    assert!(batches.len() < 50, "{}", batches.len());
    let updates = batches.iter().flat_map(|batch| &batch.contents);
    let updates: u64 = updates.map(Content::updates).sum();
    assert!(updates < 300, "{updates} of some 1,200");
    assert_eq!(read(&follower, A, 299).await.len(), 298 * 20);
    assert_eq!(follower.state().await.registered().count(), 2);
    let late = open(&store, Access::ReadOnly).await;
    assert_eq!(read(&late, B, 299).await.len(), 298 * 20);
}
