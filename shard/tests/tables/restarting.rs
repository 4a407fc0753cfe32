//! What was committed survives.

use crate::place::postgres::insist;
use crate::*;

async fn survives_a_restart(reopen: impl AsyncFn() -> Store) {
    let store = reopen().await;
    let tables = take_over(&store, 1, false).await;
    tables.register(&1, &both()).await.unwrap();
    commit(&tables, 5, &[(A, &[1, 2]), (B, &[3])])
        .await
        .unwrap();
    commit(&tables, 7, &[(B, &[4])]).await.unwrap();
    drop((tables, store));
    let store = reopen().await;
    let reader = open(&store, Access::ReadOnly).await;
    assert_eq!(
        reader.upper(),
        Upper::at(8),
        "tables' uppers start at the txns upper"
    );
    assert_eq!(read(&reader, A, 7).await, [1, 2]);
    let tables = take_over(&store, 2, true).await;
    assert_eq!(read(&tables, B, 7).await, [3, 4]);
    assert_eq!(read(&tables, B, 6).await, [3]);
    tables.forget(&9, &[A]).await.unwrap();
    drop((tables, reader, store));
    let store = reopen().await;
    let tables = take_over(&store, 3, true).await;
    assert!(!tables.needs(A).await.unwrap());
    assert!(tables.needs(B).await.unwrap());
    assert_eq!(read(&tables, A, 9).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_survives_a_restart_in_memory() {
    let store = memory();
    survives_a_restart(async || Arc::clone(&store)).await;
}

#[tokio::test]
async fn what_was_committed_survives_a_restart_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = async || {
        let store: Store = Arc::new(EmbeddedConsensus::open(folder.path()).unwrap());
        store
    };
    survives_a_restart(reopen).await;
}

#[tokio::test]
async fn what_was_committed_survives_a_restart_on_postgres() {
    // Where there is none, the conformance tests say so, and in CI they fail.
    let Ok(server) = std::env::var("LOWWATER_TEST_POSTGRES") else {
        return;
    };
    let connected = tokio_postgres::connect(&server, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("the server that was named answers");
    tokio::spawn(connection);
    let schema = format!("lowwater_test_{}", Nonce::random());
    let execute = async |statement: String| insist(&client, &statement).await;
    execute(format!("CREATE SCHEMA {schema}")).await;
    let separator = if server.contains('?') { '&' } else { '?' };
    let address = format!("{server}{separator}options=-c%20search_path%3D{schema}");
    let reopen = async || {
        let config = PostgresConfig::new(&address).unwrap();
        let store: Store = Arc::new(PostgresConsensus::open(config).await.unwrap());
        store
    };
    survives_a_restart(reopen).await;
    execute(format!("DROP SCHEMA {schema} CASCADE")).await;
}
