//! Stores that are shared by several `Shards`, each as if it were a process of its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use lowwater::{ShardId, Upper};
use lowwater_shard::consensus::unreliable::UnreliableConsensus;
use lowwater_shard::consensus::{Consensus, MemoryConsensus};
use lowwater_shard::{
    Column, ColumnKind, Parts, Schema, Settings, ShardTime, Shards, Updates, Upkeep, Writer,
};
use timely::order::Product;
use timely::progress::Antichain;
use tokio::runtime::Handle;

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

pub(crate) use for_both_times;

pub(crate) fn run<X>(future: impl Future<Output = X>) -> X {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// One store and its parts.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: UnreliableConsensus,
    pub(crate) parts: Parts,
}

impl World {
    pub(crate) fn new() -> Self {
        World::on(Arc::new(MemoryConsensus::new()))
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
    Settings {
        upkeep: Upkeep::ByHand,
        ..Settings::default()
    }
}

/// Every update becomes a part.
pub(crate) fn no_inline() -> Settings {
    Settings {
        inline_bytes_max: 0,
        ..by_hand()
    }
}

pub(crate) fn schema() -> Schema {
    Schema::new(vec![Column {
        name: "row".to_owned(),
        kind: ColumnKind::Int64,
        nullable: false,
    }])
    .unwrap()
}

pub(crate) fn updates<T: ShardTime>(of: &[(i64, T, i64)]) -> Updates<T> {
    let rows = Int64Array::from_iter_values(of.iter().map(|(row, _, _)| *row));
    let columns: Vec<ArrayRef> = vec![Arc::new(rows)];
    let rows = RecordBatch::try_new(schema().arrow(), columns).unwrap();
    let times = of.iter().map(|(_, time, _)| time.clone()).collect();
    let diffs = of.iter().map(|(_, _, diff)| *diff).collect();
    Updates::new(rows, times, diffs).unwrap()
}

/// Rows, times and differences, in order.
pub(crate) fn list<T: ShardTime>(updates: &Updates<T>) -> Vec<(i64, T, i64)> {
    let rows = updates.rows().column(0).as_any();
    let rows = rows.downcast_ref::<Int64Array>().unwrap().values();
    let times = updates.times().iter().cloned();
    let zipped = rows.iter().zip(times).zip(updates.diffs());
    let mut list: Vec<_> = zipped
        .map(|((row, time), diff)| (*row, time, *diff))
        .collect();
    list.sort();
    list
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
