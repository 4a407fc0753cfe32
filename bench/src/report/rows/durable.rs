//! What becomes durable, on each store that there is.

use lowwater_shard::consensus::embedded::EmbeddedConsensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};

use super::appends;
use crate::job::durable::Store;
use crate::report::{Goal, Row};
use crate::sample::{Scale, medians};

const MANY: u64 = 10_000;
const FEW: u64 = 1_000;

/// Nanoseconds for each of 10,000 shards that make 5 seconds.
const OPEN_NS_MAX: f64 = 5e9 / MANY as f64;

/// Names a PostgreSQL server that may be written to.
const SERVER: &str = "LOWWATER_TEST_POSTGRES";

/// Why a bench that fails has no figures.
const OPENS: &str = "the store of a bench opens";

pub(super) struct Durable {
    pub(super) rows: Vec<Row>,
    /// Those that the design has no goal for.
    pub(super) further: Vec<Row>,
    pub(super) notes: Vec<String>,
}

pub(super) fn measure(scale: Scale) -> Durable {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let open = || EmbeddedConsensus::open(folder.path().join("store")).expect(OPENS);
    let mut sqlite = Store::new(async || open());
    let mut rows = downgrades(scale, &mut sqlite, "sqlite");
    let (opened, note) = opening(scale, &mut sqlite);
    rows.push(opened);
    let mut notes = vec![note];
    let mut further = vec![appends::small(scale, &sqlite, "sqlite")];
    match std::env::var(SERVER) {
        Ok(server) => {
            let mut postgres = postgres(&server);
            rows.extend(downgrades(scale, &mut postgres, "postgres"));
            further.push(appends::small(scale, &postgres, "postgres"));
        }
        Err(_) => notes.push(format!(
            "downgrade_1k_postgres, downgrade_10k_postgres, append_small_postgres: skipped, for {SERVER} names no server"
        )),
    }
    let appends = appends::measure(scale);
    rows.extend(appends.rows);
    notes.extend(appends.notes);
    Durable {
        rows,
        further,
        notes,
    }
}

fn downgrades(scale: Scale, store: &mut Store, name: &str) -> Vec<Row> {
    let row = |(size, shards)| {
        let shards = scale.collections(shards);
        let (mut controller, _) = store.controller(shards);
        let [ours, one_by_one] = medians(
            scale,
            [&mut |n| controller.downgrade(n), &mut |n| {
                store.one_by_one(n)
            }],
        );
        let row = Row::nanoseconds(
            &format!("downgrade_{size}_{name}"),
            ours / shards as f64,
            one_by_one,
        );
        row.goal(Goal {
            text: "≥ 20 × one compare-and-set per shard, one after another (the baseline of this row)",
            times_baseline: Some(20.0),
            ..Goal::default()
        })
    };
    [("1k", FEW), ("10k", MANY)].map(row).into()
}

fn opening(scale: Scale, store: &mut Store) -> (Row, String) {
    let shards = scale.collections(MANY);
    let (mut controller, created) = store.controller(shards);
    // With some history, as shards have that are opened again.
    controller.downgrade(5);
    drop(controller);
    let [opened] = medians(scale, [&mut |n| store.reopen(shards, n)]);
    let note = format!(
        "opening {shards} shards in SQLite: {:.2} s again, {:.2} s for the first time",
        opened / 1e9,
        created.as_secs_f64(),
    );
    let row = Row::nanoseconds("open_10k_sqlite", opened / shards as f64, None);
    let row = row.goal(Goal {
        text: "10,000 shards in ≤ 5 s (≤ 500 µs each)",
        at_most: Some(OPEN_NS_MAX),
        ..Goal::default()
    });
    (row, note)
}

/// In a schema of its own, which the next run empties.
fn postgres(server: &str) -> Store {
    let separator = if server.contains('?') { '&' } else { '?' };
    let address = format!("{server}{separator}options=-c%20search_path%3Dlowwater_bench");
    let config = PostgresConfig::new(&address).expect(OPENS);
    Store::new(async || {
        let connected = tokio_postgres::connect(server, tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect(OPENS);
        tokio::spawn(connection);
        let empty = "DROP SCHEMA IF EXISTS lowwater_bench CASCADE; CREATE SCHEMA lowwater_bench";
        client.batch_execute(empty).await.expect(OPENS);
        PostgresConsensus::open(config).await.expect(OPENS)
    })
}
