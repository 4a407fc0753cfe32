//! Stores that are shared by several `Shards`, each as if it were a process of its own.
//!
//! Most tests run in memory, on a clock that runs when everybody waits; those that do not need such a
//! clock run on each store with parts as well, and what they have to wait for takes less there.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lowwater::{ShardId, Upper};
use lowwater_shard::consensus::unreliable::UnreliableConsensus;
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::{Parts, Settings, ShardTime, Shards, Upkeep, Writer};
use timely::order::Product;
use timely::progress::Antichain;
use tokio::runtime::Handle;

use crate::place::Place;
pub(crate) use crate::place::rows::{list, schema, updates};

thread_local! {
    /// Where the stores of this test are, if not in memory.
    static PLACE: RefCell<Option<Rc<Place>>> = const { RefCell::new(None) };
}

/// By how much shorter things take that are waited for, where the clock is the real one.
const SHORTER: u32 = 5_000;

pub(crate) type Pair = Product<u64, u64>;

pub(crate) fn shard() -> ShardId {
    ShardId::new(7)
}

/// A time that tests can make from a number, in the order of the numbers.
pub(crate) trait TestTime: ShardTime {
    fn at(number: u64) -> Self;
}

impl TestTime for u64 {
    fn at(number: u64) -> Self {
        number
    }
}

impl TestTime for Pair {
    fn at(number: u64) -> Self {
        Product::new(number, number)
    }
}

/// Makes each generic function a test for a total and for a partial order, on a clock that runs when
/// everybody waits.
macro_rules! for_both_times {
    ($(async fn $name:ident<T: TestTime>() $body:block)*) => {
        $(async fn $name<T: TestTime>() $body)*

        mod total {
            $(#[test] fn $name() { crate::world::run(super::$name::<u64>()); })*
        }

        mod partial {
            $(#[test] fn $name() { crate::world::run(super::$name::<crate::world::Pair>()); })*
        }
    };
}

/// The same, and on each store with parts.
macro_rules! on_all_stores {
    ($(async fn $name:ident<T: TestTime>() $body:block)*) => {
        crate::world::for_both_times! { $(async fn $name<T: TestTime>() $body)* }

        mod on_sqlite {
            $(#[test] fn $name() {
                crate::world::run_in(crate::place::Place::sqlite(), super::$name::<u64>);
            })*
        }

        mod on_postgres {
            $(#[test] fn $name() {
                crate::world::run_in(crate::place::Place::postgres(), super::$name::<u64>);
            })*
        }

        mod on_postgres_and_s3 {
            $(#[test] fn $name() {
                let place = crate::place::Place::postgres_and_s3();
                crate::world::run_in(place, super::$name::<crate::world::Pair>);
            })*
        }
    };
}

pub(crate) use {for_both_times, on_all_stores};

pub(crate) fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Runs it on stores of this place, by the real clock.
pub(crate) fn run_in<F: Future<Output = ()>>(place: Option<Place>, test: impl FnOnce() -> F) {
    let Some(place) = place.map(Rc::new) else {
        return;
    };
    PLACE.set(Some(Rc::clone(&place)));
    crate::place::postgres::run(async { test().await });
    // Gone only now, outside of the runtime.
    drop((PLACE.take(), place));
}

fn place() -> Option<Rc<Place>> {
    PLACE.with_borrow(Clone::clone)
}

/// How long that takes here.
fn here(duration: Duration) -> Duration {
    match place() {
        Some(_) => duration / SHORTER,
        None => duration,
    }
}

/// Lets so much time pass, and everybody do what is due meanwhile.
pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(here(duration) + Duration::from_millis(1)).await;
}

/// Lets so much time pass at once, as where the machine sleeps.
pub(crate) async fn skip(duration: Duration) {
    match place() {
        Some(_) => pass(duration).await,
        None => tokio::time::advance(duration).await,
    }
}

/// One store and its parts.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: UnreliableConsensus,
    pub(crate) parts: Parts,
}

impl World {
    pub(crate) async fn new() -> Self {
        let Some(place) = place() else {
            return World::on(Arc::new(MemoryConsensus::new()));
        };
        let address = place.fresh();
        let parts = address.parts();
        World {
            parts,
            ..World::on(address.store().await)
        }
    }

    pub(crate) fn on(store: Arc<dyn Consensus>) -> Self {
        World {
            store: UnreliableConsensus::new(store),
            parts: Parts::memory(),
        }
    }

    /// Another process, that does nothing of its own accord.
    pub(crate) fn process<T: ShardTime>(&self) -> Shards<T> {
        self.process_with(by_hand())
    }

    pub(crate) fn process_with<T: ShardTime>(&self, settings: Settings) -> Shards<T> {
        let store = Arc::new(self.store.clone());
        Shards::new(&Handle::current(), store, self.parts.clone(), settings)
    }
}

pub(crate) fn by_hand() -> Settings {
    let default = Settings::default();
    Settings {
        upkeep: Upkeep::ByHand,
        part_grace: here(default.part_grace),
        downgrade_interval: here(default.downgrade_interval),
        ..default
    }
}

/// Every update becomes a part.
pub(crate) fn no_inline() -> Settings {
    Settings {
        inline_bytes_max: 0,
        ..by_hand()
    }
}

pub(crate) fn upper<T: TestTime>(number: u64) -> Upper<T> {
    Upper::at(T::at(number))
}

pub(crate) fn as_of<T: TestTime>(number: u64) -> Antichain<T> {
    Antichain::from_elem(T::at(number))
}

pub(crate) async fn writer<T: ShardTime>(shards: &Shards<T>) -> Writer<T> {
    shards.writer(shard(), &schema()).await.unwrap()
}

/// Writes one row at each of these times, the shard being written up to `from`.
pub(crate) async fn write<T: TestTime>(writer: &Writer<T>, from: u64, to: u64) {
    let rows: Vec<_> = (from..to).map(|at| (at as i64, T::at(at), 1)).collect();
    writer
        .compare_and_append(upper(from), upper(to), updates(&rows))
        .await
        .unwrap();
}
