//! Several processes on the tables of one store.

use crate::*;

#[tokio::test]
async fn two_that_commit_to_one_store_at_once_take_turns_and_a_reader_never_sees_half() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = || -> Store { Arc::new(EmbeddedConsensus::open(folder.path()).unwrap()) };
    let first = reopen();
    let tables = take_over(&first, 1, true).await;
    tables.register(&1, &both()).await.unwrap();
    let mut writers = Vec::new();
    for (process, tables) in [(0, tables), (1, open(&reopen(), control(1, true)).await)] {
        writers.push(tokio::spawn(async move {
            let mut at = 2;
            for number in 0..15 {
                let value = 100 * process + number;
                while let Err(refused) = commit(&tables, at, &[(A, &[value]), (B, &[value])]).await
                {
                    let TablesError::Refused(CommitRefusal::Passed(passed)) = refused else {
                        panic!("{refused}")
                    };
                    at = *passed.upper.frontier().as_option().unwrap();
                }
            }
        }));
    }
    let reader = open(&reopen(), Access::ReadOnly).await;
    for as_of in 2..32 {
        let (a, b) = (read(&reader, A, as_of).await, read(&reader, B, as_of).await);
        assert_eq!(a, b, "at {as_of}");
        assert_eq!(a.len() as u64, as_of - 1, "one commit at each time");
    }
    for writer in writers {
        timeout(LONG, writer).await.expect("it hangs").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_fenced_controller_does_not_land_whatever_it_was_in_the_middle_of() {
    let store = memory();
    let old = take_over(&store, 1, false).await;
    old.register(&1, &both()).await.unwrap();
    commit(&old, 3, &[(A, &[1])]).await.unwrap();
    let new = take_over(&store, 2, false).await;
    let is_fenced = |by| by == Some(fence(2));
    let refused = commit(&old, 5, &[(A, &[9])]).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let refused = old.apply_through(&3).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let refused = old.forget(&5, &[B]).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let refused = old.register(&5, &[(ShardId::new(9), schema())]).await;
    assert!(matches!(refused, Err(TablesError::Fenced(fenced)) if is_fenced(fenced.by)));
    let access = control(1, false);
    let (runtime, same) = (Handle::current(), Arc::clone(&store));
    let refused = Tables::<u64>::open(&runtime, same, Parts::memory(), TXNS, access).await;
    assert!(refused.is_err());
    commit(&new, 5, &[(A, &[2])]).await.unwrap();
    assert_eq!(read(&new, A, 5).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_writes_nothing() {
    let store = memory();
    let tables = take_over(&store, 1, false).await;
    tables.register(&1, &both()).await.unwrap();
    commit(&tables, 3, &[(A, &[1])]).await.unwrap();
    let heads = || async {
        let logs = store.list(None, 100).await.unwrap();
        store.heads(logs).await.unwrap()
    };
    let before = heads().await;
    let reader = open(&store, Access::ReadOnly).await;
    assert_eq!(read(&reader, A, 3).await, [1]);
    let mut subscription = reader.subscribe(A, 2);
    assert!(
        subscription
            .next()
            .await
            .unwrap()
            .unwrap()
            .updates
            .is_empty()
    );
    assert_eq!(subscription.next().await.unwrap().unwrap().updates.len(), 1);
    drop(reader);
    assert_eq!(heads().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_out_and_nothing_is_committed_twice() {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::Late] {
        let unreliable = UnreliableConsensus::new(memory());
        let store: Store = Arc::new(unreliable.clone());
        let tables = take_over(&store, 1, false).await;
        unreliable.next_commits([fault]);
        tables.register(&1, &both()).await.unwrap();
        unreliable.next_commits([fault]);
        commit(&tables, 3, &[(A, &[1]), (B, &[2])]).await.unwrap();
        unreliable.next_commits([fault]);
        tables.apply_through(&3).await.unwrap();
        unreliable.next_commits([fault]);
        tables.advance(&4).await.unwrap();
        unreliable.next_commits([fault]);
        tables.let_go().await.unwrap();
        unreliable.next_commits([fault, Fault::None, fault]);
        tables.forget(&5, &[A]).await.unwrap();
        assert_eq!(read(&tables, A, 5).await, [1], "{fault:?}");
        assert_eq!(read(&tables, B, 5).await, [2], "{fault:?}");
    }
}
