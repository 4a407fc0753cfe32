//! Passwords and keys are shown nowhere: neither in what is logged, nor by what can be printed.

use std::env;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lowwater::ShardId;
use lowwater_shard::Parts;
use lowwater_shard::consensus::Consensus;
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::place::postgres::{Postgres, run};

const PASSWORD: &str = "open-sesame-4711";

/// Everything that is logged on this thread, and what is written to it besides.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<String>>);

impl Seen {
    fn add(&self, shown: impl fmt::Debug + fmt::Display) {
        self.debug(&shown);
        writeln!(self.0.lock().unwrap(), "{shown}").unwrap();
    }

    fn debug(&self, shown: impl fmt::Debug) {
        writeln!(self.0.lock().unwrap(), "{shown:?} {shown:#?}").unwrap();
    }

    #[track_caller]
    fn shows_nothing_of(&self, secret: &str) {
        let seen = self.0.lock().unwrap();
        assert!(!seen.is_empty(), "nothing was looked at");
        assert!(!seen.contains(secret), "a secret is shown");
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.debug((field.name(), value));
    }
}

impl Subscriber for Seen {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn watched<F: Future<Output = ()>>(watch: impl FnOnce(Seen) -> F) {
    let seen = Seen::default();
    tracing::subscriber::with_default(seen.clone(), || run(async { watch(seen).await }));
}

#[test]
fn the_password_of_a_database_is_shown_nowhere() {
    let Some(server) = Postgres::server() else {
        return;
    };
    let database = Postgres::on(server.clone());
    let config: tokio_postgres::Config = server.parse().unwrap();
    let host = match &config.get_hosts()[0] {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        other => panic!("{other:?} is no host"),
    };
    let name = config.get_dbname().unwrap_or("postgres");
    let address = |user: &str, port: u16| {
        let schema = database.schema();
        format!(
            "host={host} port={port} user={user} password={PASSWORD} dbname={name} \
             application_name={schema} options='-c search_path={schema}'"
        )
    };
    let (user, port) = (config.get_user().unwrap(), config.get_ports()[0]);
    watched(async |seen| {
        let there = PostgresConfig::new(&address(user, port)).unwrap();
        seen.debug(&there);
        let store = PostgresConsensus::open(there).await.unwrap();
        seen.debug(&store);
        store.commit(None, Vec::new()).await.unwrap().unwrap();
        // Who is cut off says so in the log.
        database_is_cut_off(&database, &store, &seen).await;
        let nobody = PostgresConfig::new(&address("nobody_of_this_name", port)).unwrap();
        seen.add(PostgresConsensus::open(nobody).await.unwrap_err());
        let nowhere = PostgresConfig::new(&address(user, 1)).unwrap();
        let nowhere = nowhere.request_timeout(Duration::from_secs(5));
        seen.add(PostgresConsensus::open(nowhere).await.unwrap_err());
        let wrong = format!("postgres://me:{PASSWORD}@host:port/");
        seen.add(PostgresConfig::new(&wrong).unwrap_err());
        seen.shows_nothing_of(PASSWORD);
    });
}

async fn database_is_cut_off(database: &Postgres, store: &PostgresConsensus, seen: &Seen) {
    let other = database.connect().await;
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'",
        database.schema()
    );
    other.query(&end, &[]).await.unwrap();
    if let Err(error) = store.commit(None, Vec::new()).await {
        seen.add(error);
    }
}

#[test]
fn the_keys_of_an_object_store_are_shown_nowhere() {
    let (Ok(place), Ok(secret)) = (
        env::var("LOWWATER_TEST_S3"),
        env::var("AWS_SECRET_ACCESS_KEY"),
    ) else {
        return;
    };
    let places = [place, "s3://there-is-no-such-bucket".to_owned()];
    let others = env::vars().filter(|(name, _)| name != "AWS_SECRET_ACCESS_KEY");
    if others.into_iter().any(|(_, value)| value.contains(&secret)) {
        // It is another name for something that may be shown.
        return;
    }
    watched(async |seen| {
        for place in &places {
            let parts = Parts::at(place).unwrap();
            seen.add(&parts);
            if let Err(error) = parts.list(ShardId::new(1)).await {
                seen.add(error);
            }
        }
        seen.shows_nothing_of(&secret);
    });
}
