//! A server that talks to nobody unless it is encrypted: this test starts itself again, for whom to
//! trust is said to a process.

use std::env;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use lowwater_shard::LogId;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, Offer, Outcome};

use super::server::Server;
use crate::place::postgres::run;

const ADDRESS: &str = "LOWWATER_TEST_ENCRYPTED";

/// Not a test of its own: what the one below starts as another process.
#[test]
fn client() {
    let Ok(address) = env::var(ADDRESS) else {
        return;
    };
    run(async {
        let config = PostgresConfig::new(&address).unwrap();
        let store = PostgresConsensus::open(config).await.unwrap();
        let log = LogId::data(lowwater::ShardId::new(1));
        let head = store.heads(vec![log]).await.unwrap().remove(0);
        let offer = Offer {
            log,
            seen: head.map(|head| head.seqno),
            data: Bytes::from_static(b"encrypted"),
            keep_from: None,
        };
        let taken = store.commit(None, vec![offer]).await.unwrap();
        assert_eq!(taken, Ok(vec![Outcome::Taken]));
    });
}

fn connects(server: &Server, host: &str, mode: &str, trusted: &Path) -> bool {
    let port = server.port();
    let address = format!("postgres://postgres@{host}:{port}/postgres?sslmode={mode}");
    let client = Command::new(env::current_exe().unwrap())
        .args(["away::encrypted::client", "--exact"])
        .env(ADDRESS, address)
        .env("SSL_CERT_FILE", trusted)
        .output()
        .unwrap();
    client.status.success()
}

#[test]
fn a_server_that_encrypts_is_verified() {
    let (Some(server), Some(other)) = (Server::start_encrypted(), Server::start_encrypted()) else {
        return;
    };
    let trusted = server.trusted();
    assert!(connects(&server, "localhost", "require", &trusted));
    assert!(connects(&server, "localhost", "prefer", &trusted));
    assert!(!connects(&server, "localhost", "disable", &trusted));
    // Signed by somebody else, or for another name.
    assert!(!connects(&server, "localhost", "require", &other.trusted()));
    assert!(!connects(&server, "localhost", "prefer", &other.trusted()));
    assert!(!connects(&server, "127.0.0.1", "require", &trusted));
}
