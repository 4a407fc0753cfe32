//! PostgreSQL that does not answer, is cut off, loses answers, is killed, and comes back.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lowwater::Upper;
use lowwater::{ShardId, StorageErrorKind};
use lowwater_shard::consensus::postgres::{PostgresConfig, PostgresConsensus};
use lowwater_shard::consensus::{Consensus, Fence};
use lowwater_shard::{AppendError, Epoch, Incarnation, Parts, Settings, Shards, Upkeep, Writer};
use timely::progress::Antichain;

use super::controller::{BOUND, Controller, runtime};
use super::proxy::{Proxy, Way};
use super::server::{End, Server};
use crate::place::open;
use crate::place::postgres::Postgres;
use crate::place::rows::{list, schema, updates};

/// None of the controller's.
const SHARD: ShardId = ShardId::new(1_000);

/// A schema, and a way to it.
struct World {
    proxy: Proxy,
    database: Postgres,
    /// The server by way of the proxy.
    server: String,
}

impl World {
    /// None, with a word about it, where there is no server.
    fn new() -> Option<Self> {
        let server = Postgres::server()?;
        let config: tokio_postgres::Config = server.parse().unwrap();
        let host = match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            other => panic!("{other:?} is no host"),
        };
        let there = format!("{host}:{}", config.get_ports()[0]);
        let proxy = Proxy::to(&there);
        let by_proxy = server.replace(&there, &proxy.address().to_string());
        assert_ne!(by_proxy, server, "the address names host and port");
        Some(World {
            proxy,
            database: Postgres::on(server),
            server: by_proxy,
        })
    }

    /// A store by way of the proxy.
    async fn open(&self, request_timeout: Duration) -> Arc<dyn Consensus> {
        let address = self.database.address_by(&self.server);
        let config = PostgresConfig::new(&address).unwrap();
        let config = config.request_timeout(request_timeout);
        let open = async || PostgresConsensus::open(config.clone()).await;
        Arc::new(again(open).await)
    }

    /// A store past the proxy.
    async fn open_directly(&self) -> Arc<dyn Consensus> {
        open(&self.database.address()).await
    }
}

fn shards(store: Arc<dyn Consensus>) -> Shards<u64> {
    let settings = Settings {
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    };
    let runtime = tokio::runtime::Handle::current();
    Shards::new(&runtime, store, Parts::memory(), settings)
}

/// Asks until it is answered: on a machine that is slow some of it takes longer than it may.
async fn again<X, E>(ask: impl AsyncFn() -> Result<X, E>) -> X {
    within(async {
        loop {
            if let Ok(answer) = ask().await {
                return answer;
            }
        }
    })
    .await
}

async fn within<X>(future: impl Future<Output = X>) -> X {
    let done = tokio::time::timeout(BOUND, future).await;
    done.expect("it hangs")
}

/// One row at each time.
async fn append(writer: &Writer<u64>, at: u64) -> Result<Upper<u64>, AppendError<u64>> {
    let row = updates(&[(at.cast_signed(), at, 1)]);
    within(writer.compare_and_append(Upper::at(at), Upper::at(at + 1), row)).await
}

async fn rows(store: Arc<dyn Consensus>, at: u64) -> Vec<i64> {
    let as_of = Antichain::from_elem(at);
    let read = within(shards(store).snapshot(SHARD, &as_of)).await.unwrap();
    assert!(read.diffs().iter().all(|diff| *diff == 1));
    list(&read).into_iter().map(|(row, _, _)| row).collect()
}

fn away(way: Way) {
    let Some(world) = World::new() else { return };
    let runtime = runtime();
    let store = runtime.block_on(world.open(Duration::from_secs(1)));
    let controller = Controller::start(runtime, store, BOUND);
    controller.tick(1);
    controller.becomes_durable(0);
    world.proxy.set(way);
    // Some of what was asked for has failed, and is asked for again.
    let began = Instant::now();
    let mut upper = 1;
    while upper < 200 || controller.client.metrics().downgrades.failed == 0 {
        assert!(began.elapsed() < BOUND, "nothing fails");
        upper += 1;
        controller.tick(upper);
    }
    assert_eq!(controller.collections[0].durable_since().frontier()[0], 0);
    world.proxy.set(Way::Open);
    controller.becomes_durable(upper - 1);
    controller.stop();
}

#[test]
fn while_the_database_does_not_answer_all_that_needs_none_is_done_and_then_nothing_is_lost() {
    away(Way::Held);
}

#[test]
fn while_the_answers_of_the_database_are_lost_all_that_needs_none_is_done() {
    away(Way::AnswersHeld);
}

#[test]
fn while_the_database_is_cut_off_all_that_needs_none_is_done_and_then_nothing_is_lost() {
    away(Way::Cut);
}

/// The database has carried it out, and the connection ends before it says so.
#[test]
fn an_append_whose_answer_is_lost_is_known_by_its_nonce() {
    let Some(world) = World::new() else { return };
    runtime().block_on(async {
        let writer = shards(world.open(BOUND).await);
        let writer = writer.writer(SHARD, &schema()).await.unwrap();
        let elsewhere = shards(world.open_directly().await);
        let (mut at, mut lost) = (0, 0);
        let began = Instant::now();
        while lost < 5 {
            assert!(began.elapsed() < BOUND, "no answer was lost");
            // On this connection: another one would have to ask how to go about it.
            append(&writer, at).await.unwrap();
            at += 1;
            // What was written is looked at once more, in the background.
            tokio::time::sleep(Duration::from_millis(20)).await;
            world.proxy.set(Way::AnswersHeld);
            let mut appending = pin!(append(&writer, at));
            let written =
                async { while elsewhere.upper(SHARD).await.unwrap() != Upper::at(at + 1) {} };
            tokio::select! {
                early = &mut appending => panic!("nobody has told it: {early:?}"),
                () = written => {
                    lost += 1;
                    world.proxy.set(Way::Cut);
                }
                // It was just looked at: the append waits for that.
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            world.proxy.set(Way::Open);
            assert_eq!(appending.await.unwrap(), Upper::at(at + 1));
            at += 1;
        }
        let all = rows(world.open_directly().await, at - 1).await;
        assert!(all.into_iter().eq(0..at.cast_signed()));
    });
}

/// The connection ends before the database hears of it; meanwhile somebody else may be faster.
#[test]
fn an_append_that_was_lost_is_written_again_or_refused() {
    let Some(world) = World::new() else { return };
    runtime().block_on(async {
        let (mine, theirs) = (
            shards(world.open(BOUND).await),
            shards(world.open_directly().await),
        );
        let mine = mine.writer(SHARD, &schema()).await.unwrap();
        let theirs = theirs.writer(SHARD, &schema()).await.unwrap();
        append(&mine, 0).await.unwrap();
        for at in 1..10 {
            let is_overtaken = at % 2 == 0;
            world.proxy.set(Way::Held);
            let mut appending = pin!(append(&mine, at));
            let begun = tokio::time::timeout(Duration::from_millis(20), &mut appending).await;
            assert!(begun.is_err(), "{begun:?}");
            if is_overtaken {
                append(&theirs, at).await.unwrap();
            }
            world.proxy.set(Way::Cut);
            world.proxy.set(Way::Open);
            match appending.await {
                Ok(upper) => assert_eq!((upper, is_overtaken), (Upper::at(at + 1), false)),
                Err(AppendError::UpperMismatch(_)) => assert!(is_overtaken),
                // Where it has just connected nothing was written, and that is said.
                Err(AppendError::Storage(_)) => within(write_on(&mine, at)).await,
                Err(error) => panic!("{error}"),
            }
        }
        let all = rows(world.open_directly().await, 9).await;
        assert!(all.into_iter().eq(0..10));
    });
}

#[test]
fn who_waits_and_reads_goes_on_when_the_database_is_back() {
    let Some(world) = World::new() else { return };
    runtime().block_on(async {
        let here = shards(world.open(Duration::from_millis(700)).await);
        let elsewhere = shards(world.open_directly().await);
        let writer = elsewhere.writer(SHARD, &schema()).await.unwrap();
        append(&writer, 0).await.unwrap();
        let reader = again(async || here.reader(SHARD).await).await;
        let waiting = again(async || here.reader(SHARD).await).await;
        let mut subscription = reader.subscribe(Antichain::from_elem(0));
        let mut told = 0;
        let mut upper = 1;
        for way in [Way::Held, Way::Cut, Way::AnswersHeld, Way::Cut] {
            world.proxy.set(way);
            let held = within(here.upper(SHARD)).await.unwrap_err();
            assert_eq!(held.kind(), StorageErrorKind::Retry, "{way:?}");
            // Nobody hears of it.
            append(&writer, upper).await.unwrap();
            upper += 1;
            world.proxy.set(Way::Open);
            let past = Antichain::from_elem(upper - 1);
            within(waiting.wait_for_upper_past(&past)).await.unwrap();
            while told < upper as usize {
                match within(subscription.next()).await {
                    Ok(step) => told += step.unwrap().updates.len(),
                    Err(error) => assert!(error.to_string().contains("store"), "{error}"),
                }
            }
        }
        assert_eq!(told, upper as usize);
    });
}

#[test]
fn nothing_waits_for_ever_for_a_database_that_does_not_answer() {
    let Some(world) = World::new() else { return };
    let timeout = Duration::from_millis(500);
    runtime().block_on(async {
        let store = within(world.open(timeout)).await;
        world.proxy.set(Way::Held);
        let address = world.database.address_by(&world.server);
        let config = PostgresConfig::new(&address)
            .unwrap()
            .request_timeout(timeout);
        let opened = within(PostgresConsensus::open(config)).await;
        assert_eq!(opened.unwrap_err().kind(), StorageErrorKind::Retry);
        // More than there are connections, again and again: they need new ones.
        for _ in 0..3 {
            let reading: Vec<_> = (0..20).map(|_| tokio::spawn(store.fence())).collect();
            for read in reading {
                let error = within(read).await.unwrap().unwrap_err();
                assert_eq!(error.kind(), StorageErrorKind::Retry);
            }
        }
        let written = within(store.commit(None, Vec::new())).await;
        assert_eq!(written.unwrap_err().kind(), StorageErrorKind::Retry);
        world.proxy.set(Way::Open);
        again(async || store.fence().await).await;
    });
}

/// Whoever holds the gate and vanishes, without his machine saying so, does not keep it.
#[test]
fn who_vanishes_at_the_gate_stops_nobody_for_long() {
    let Some(world) = World::new() else { return };
    runtime().block_on(async {
        let vanishing = world.open(Duration::from_millis(700)).await;
        let other = world.open_directly().await;
        let fence = Fence {
            epoch: Epoch::new(1),
            incarnation: Incarnation::new(1),
        };
        let holder = world.database.connect().await;
        let schema = world.database.schema();
        let gate = format!("BEGIN; SELECT FROM {schema}.lowwater_gate FOR UPDATE");
        holder.batch_execute(&gate).await.unwrap();
        let taking_over = tokio::spawn(vanishing.take_over(fence));
        let waits = format!(
            "SELECT FROM pg_stat_activity
             WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
        );
        let observer = world.database.connect().await;
        within(async { while observer.query(&waits, &[]).await.unwrap().is_empty() {} }).await;
        world.proxy.set(Way::Held);
        holder.batch_execute("COMMIT").await.unwrap();
        // Now the one that has vanished is at the gate.
        let committed = async {
            loop {
                if let Ok(committed) = other.commit(None, Vec::new()).await {
                    return committed;
                }
            }
        };
        within(committed).await.unwrap();
        assert!(within(taking_over).await.unwrap().is_err());
        world.proxy.set(Way::Open);
    });
}

/// Requests that were given up leave nothing behind in the server, and are known to have done nothing.
#[test]
fn a_gate_that_somebody_holds_for_long_is_not_crowded() {
    let Some(world) = World::new() else { return };
    runtime().block_on(async {
        let store = world.open(Duration::from_secs(2)).await;
        let holder = world.database.connect().await;
        let schema = world.database.schema();
        let gate = format!("BEGIN; SELECT FROM {schema}.lowwater_gate FOR UPDATE");
        holder.batch_execute(&gate).await.unwrap();
        let fence = Fence {
            epoch: Epoch::new(1),
            incarnation: Incarnation::new(1),
        };
        let refused = async {
            loop {
                let others: Vec<_> = (0..4)
                    .map(|_| tokio::spawn(store.take_over(fence)))
                    .collect();
                let error = store.commit(None, Vec::new()).await.unwrap_err();
                for other in others {
                    other.await.unwrap().unwrap_err();
                }
                if error.is_determinate() {
                    return error;
                }
            }
        };
        assert_eq!(within(refused).await.kind(), StorageErrorKind::Retry);
        let sessions = format!("SELECT FROM pg_stat_activity WHERE application_name = '{schema}'");
        let observer = world.database.connect().await;
        // Four that read, one that writes, one that listens; the holder is still there.
        within(async { while observer.query(&sessions, &[]).await.unwrap().len() > 6 {} }).await;
        holder.batch_execute("COMMIT").await.unwrap();
        again(async || store.take_over(fence).await).await.unwrap();
    });
}

/// Whoever asks from a runtime that then stands still keeps no connection from others.
#[test]
fn connections_are_driven_by_the_runtime_of_the_store() {
    let Some(world) = World::new() else { return };
    let runtime = runtime();
    // So long that whoever finds a connection that stands still is seen to wait.
    let store = runtime.block_on(world.open(2 * BOUND));
    let standing = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    standing.block_on(store.fence()).unwrap();
    runtime.block_on(within(store.fence())).unwrap();
    drop(standing);
    runtime.block_on(within(store.fence())).unwrap();
}

#[test]
fn however_often_listeners_are_told_to_look_they_hear_what_changes() {
    let Some(world) = World::new() else { return };
    runtime().block_on(async {
        let address = world.database.address();
        for interval in [Duration::ZERO, Duration::MAX] {
            let config = PostgresConfig::new(&address)
                .unwrap()
                .poll_interval(interval);
            let store = within(PostgresConsensus::open(config)).await.unwrap();
            let mut changes = store.changes();
            // That it has begun to listen, and that others write.
            let log = lowwater_shard::LogId::data(SHARD);
            let other = world.open_directly().await;
            let heard = async {
                loop {
                    if changes.next().await.names(log) {
                        return;
                    }
                }
            };
            within(heard).await;
            let mut seen = other.heads(vec![log]).await.unwrap()[0]
                .as_ref()
                .map(|head| head.seqno);
            let mut writing = async || {
                let data = bytes::Bytes::from_static(b"whatever");
                let offer = lowwater_shard::consensus::Offer {
                    log,
                    seen,
                    data,
                    keep_from: None,
                };
                seen = Some(offer.seqno());
                other.commit(None, vec![offer]).await.unwrap().unwrap();
            };
            for _ in 0..3 {
                writing().await;
                while !within(changes.next()).await.names(log) {}
            }
        }
    });
}

/// Writes, and where that is not known to be done, again.
async fn write_on(writer: &Writer<u64>, at: u64) {
    loop {
        let row = updates(&[(at.cast_signed(), at, 1)]);
        match writer.append(Upper::at(at), Upper::at(at + 1), row).await {
            Ok(_) => return,
            Err(AppendError::Storage(error)) => {
                assert_eq!(error.kind(), StorageErrorKind::Retry, "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_server_that_is_stopped_or_killed_and_started_again_loses_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let runtime = runtime();
    let (controller, writer) = runtime.block_on(async {
        let config = PostgresConfig::new(&server.address()).unwrap();
        let store = PostgresConsensus::open(config).await.unwrap();
        let store: Arc<dyn Consensus> = Arc::new(store);
        let shards = shards(Arc::clone(&store));
        let writer = shards.writer(SHARD, &schema()).await.unwrap();
        (store, writer)
    });
    let controller = Controller::start(runtime, controller, BOUND);
    let (mut upper, mut at) = (0, 0);
    for end in [End::Killed, End::Fast, End::Killed, End::Immediate] {
        std::thread::scope(|scope| {
            let away = scope.spawn(|| {
                server.stop(end);
                // Now and then it is away for a while.
                std::thread::sleep(Duration::from_millis(300));
                server.go_on();
            });
            while !away.is_finished() {
                upper += 1;
                controller.tick(upper);
            }
            away.join().unwrap();
        });
        for _ in 0..20 {
            controller.runtime.block_on(within(write_on(&writer, at)));
            at += 1;
        }
        upper += 1;
        controller.tick(upper);
        controller.becomes_durable(upper - 1);
    }
    // And while it goes: what is acknowledged stays.
    std::thread::scope(|scope| {
        let away = scope.spawn(|| {
            server.stop(End::Killed);
            server.go_on();
        });
        while !away.is_finished() {
            controller.runtime.block_on(within(write_on(&writer, at)));
            at += 1;
        }
        away.join().unwrap();
    });
    let all = controller
        .runtime
        .block_on(async { rows(open(&server.address()).await, at - 1).await });
    assert!(all.into_iter().eq(0..at.cast_signed()));
    controller.stop();
}
