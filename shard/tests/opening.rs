//! Opening stores: what is created, what is refused, what is never shown.

#![expect(clippy::unwrap_used, reason = "what a test does not expect fails it")]

mod place;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lowwater_shard::consensus::Consensus;
use lowwater_shard::consensus::embedded::{EmbeddedConsensus, OpenError};
use lowwater_shard::consensus::postgres::{
    AddressError, OpenExistingError, PostgresConfig, PostgresConsensus,
};
use place::postgres::{Postgres, run};
use rusqlite::Connection;
use tempfile::TempDir;

#[test]
fn a_folder_is_created_for_its_owner_alone() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("some/where/store");
    let store = EmbeddedConsensus::open(&folder).unwrap();
    assert_eq!(store.folder(), folder);
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_folder_whose_store_must_exist_is_left_as_it_is() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("store");
    let refused = || EmbeddedConsensus::open_existing(&folder).unwrap_err();
    assert!(matches!(refused(), OpenError::Absent));
    assert!(!folder.exists());
    fs::create_dir(&folder).unwrap();
    assert!(matches!(refused(), OpenError::Absent));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // As of somebody who is just creating one, or has died in the middle of it.
    let file = folder.join("records.sqlite");
    fs::write(&file, "").unwrap();
    assert!(matches!(refused(), OpenError::Absent));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::metadata(&file).unwrap().len(), 0);

    drop(EmbeddedConsensus::open(&folder).unwrap());
    let opened = EmbeddedConsensus::open_existing(&folder).unwrap();
    assert_eq!(run(opened.list(None, 7)).unwrap(), []);
    let other = Connection::open(&file).unwrap();
    other.pragma_update(None, "application_id", 7).unwrap();
    assert!(matches!(refused(), OpenError::Foreign));
}

#[test]
fn another_applications_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("records.sqlite");
    let other = Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    let before = fs::read(&file).unwrap();
    let refused = EmbeddedConsensus::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("records.sqlite");
    let text = "This is not a database, but it is somebody's.".repeat(100);
    fs::write(&file, &text).unwrap();
    let refused = EmbeddedConsensus::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Sqlite(_)), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(EmbeddedConsensus::open(folder.path()).unwrap());
    let later = Connection::open(folder.path().join("records.sqlite")).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    let refused = EmbeddedConsensus::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::UnknownLayout(2)), "{refused}");
}

const PASSWORD: &str = "hunter2swordfish";

#[test]
fn a_password_is_never_shown() {
    // A port where nobody answers, and one that a server may have.
    let address = format!("postgres://me:{PASSWORD}@127.0.0.1:1/db?sslmode=disable");
    let config = PostgresConfig::new(&address).unwrap();
    let mut shown = format!("{config:?} {config:#?}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(PostgresConsensus::open(config))
        .unwrap_err();
    shown += &format!("{error} {error:?}");
    assert!(shown.contains("127.0.0.1"));
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[test]
fn an_address_that_cannot_be_read_is_not_shown_either() {
    for address in [
        format!("postgres://me@host/db?{PASSWORD}={PASSWORD}"),
        format!("password={PASSWORD} port={PASSWORD}"),
        format!("{PASSWORD}=1"),
        PASSWORD.to_owned(),
    ] {
        let error = PostgresConfig::new(&address).unwrap_err();
        assert_eq!(error, AddressError);
        assert!(!format!("{error} {error:?}").contains(PASSWORD));
    }
}

/// Whatever the server offers, it has no certificate that the system knows.
#[test]
fn encryption_that_was_asked_for_is_not_given_up() {
    let Ok(server) = std::env::var("LOWWATER_TEST_POSTGRES") else {
        // The conformance suite says what is missing, and fails in CI.
        return;
    };
    let separator = if server.contains('?') { '&' } else { '?' };
    let config = PostgresConfig::new(&format!("{server}{separator}sslmode=require")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(runtime.block_on(PostgresConsensus::open(config)).is_err());
}

#[test]
fn a_store_is_opened_while_others_open_and_close_it() {
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    drop(EmbeddedConsensus::open(folder.path()).unwrap());
                }
            });
        }
    });
}

#[test]
fn a_store_that_must_exist_is_not_made_and_needs_no_right_to_make_one() {
    let Some(store) = Postgres::new() else {
        return;
    };
    // Somebody who may read, and nothing else.
    let role = format!("reader_of_{}", store.schema());
    let admin = |statement: String| {
        run(async {
            store
                .connect()
                .await
                .batch_execute(&statement)
                .await
                .unwrap()
        });
    };
    admin(format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {} TO {role}",
        store.schema()
    ));
    let address = format!("{}%20-c%20role%3D{role}", store.address());
    let config = || PostgresConfig::new(&address).unwrap();
    run(async {
        // Twice: the first one has left nothing behind.
        for _ in 0..2 {
            let absent = PostgresConsensus::open_existing(config())
                .await
                .unwrap_err();
            assert!(matches!(absent, OpenExistingError::Absent), "{absent}");
        }
        assert!(PostgresConsensus::open(config()).await.is_err());
        place::open(&store.address()).await;
    });
    let tables = format!("ALL TABLES IN SCHEMA {}", store.schema());
    admin(format!("GRANT SELECT ON {tables} TO {role}"));
    run(async {
        let opened = PostgresConsensus::open_existing(config()).await.unwrap();
        assert_eq!(opened.list(None, 7).await.unwrap(), []);
        assert_eq!(opened.fence().await.unwrap(), None);
    });
    admin(format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
