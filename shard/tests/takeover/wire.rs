//! The older controller is cut off from its server in the middle of a transaction, and the newer one
//! takes over meanwhile.

use std::path::Path;
use std::str::FromStr;

use lowwater_shard::collections::take_over;
use tempfile::TempDir;
use tokio_postgres::config::Host;

use super::calls::Call;
use super::newer::goes_on;
use super::older::run;
use super::process::{Errand, Process, bounded};
use super::proxy::{Cut, Proxy};
use super::records::{Everything, check_parts};
use super::store::{Postgres, Store};

/// How long the server lets a transaction be idle: shorter than we would, for a quick test.
const IDLE: &str = "%20-c%20idle_in_transaction_session_timeout%3D300";

/// Cuts the older one off before and after each commit of a call, each time on another store.
pub(crate) fn cut_off_at_each_commit_of(call: Call) {
    for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
        let mut commits = 0;
        while let Some(store) = Postgres::new() {
            if !cut_off_at(&store, call, commits, cut) {
                assert!(commits > 0, "{call:?} commits nothing");
                break;
            }
            commits += 1;
        }
    }
}

/// False if there are no more commits than those that get through.
fn cut_off_at(store: &Postgres, call: Call, commits: usize, cut: Cut) -> bool {
    let parts = TempDir::new().unwrap();
    let (mut older, proxy) = start(store, parts.path(), call);
    proxy.cut_after(commits, cut);
    older.tell("go on");
    if is_over_before_it_is_cut_off(&older, &proxy) {
        older.tell("nobody");
        older.ends_well();
        return false;
    }
    let (by, before) = run(async {
        let store = store.open().await;
        let taken = take_over(&*store, None).await.unwrap();
        (taken.fence.epoch, Everything::in_store(&*store).await)
    });
    proxy.mend();
    assert_eq!(older.hear(), "over");
    older.tell(&by.to_string());
    older.ends_well();
    let changed = run(async {
        let store = store.open().await;
        before.changed(&Everything::in_store(&*store).await)
    });
    let none: Vec<String> = Vec::new();
    assert_eq!(changed, none, "{call:?}, {cut:?} {commits}");
    run(check_parts(store, parts.path()));
    run(goes_on(store, parts.path()));
    true
}

/// Starts the older one, which may be cut off, and waits until it is about to begin.
pub(crate) fn start(store: &Postgres, parts: &Path, call: Call) -> (Process, Proxy) {
    let direct = store.address();
    let server = server(&direct);
    let proxy = Proxy::to(server.clone());
    let through = direct.replacen(&server, &format!("127.0.0.1:{}", proxy.port()), 1);
    let older = Process::start(&Errand {
        address: &format!("{through}{IDLE}&sslmode=disable"),
        direct: &direct,
        parts,
        call,
        writes: 0,
        place: "OnTheWay".to_owned(),
    });
    assert_eq!(older.hear(), "begin");
    (older, proxy)
}

pub(crate) fn is_over_before_it_is_cut_off(older: &Process, proxy: &Proxy) -> bool {
    bounded("it comes to a commit, or is over", || {
        let is_over = older.heard().is_some();
        (is_over || proxy.is_cut()).then_some(is_over)
    })
}

/// Host and port, as they are in the address.
fn server(address: &str) -> String {
    let config = tokio_postgres::Config::from_str(address).unwrap();
    match (&config.get_hosts()[0], config.get_ports()[0]) {
        (Host::Tcp(host), port) => format!("{host}:{port}"),
        (Host::Unix(_), _) => panic!("the tests need a server with a port"),
    }
}
