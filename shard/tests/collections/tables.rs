//! Tables that commit together, through the controller.

mod committing;
mod cost;
mod crash;
mod dropping;
mod following;
mod reading;

use lowwater_shard::collections::Kind;
use timely::progress::Antichain;

use super::world::*;

/// The values of a table as of a time, in order.
async fn read(controller: &Controller, id: u64, as_of: u64) -> Vec<i64> {
    let as_of = Antichain::from_elem(as_of);
    let read = controller.collections.snapshot(id, &as_of);
    values(&within(read).await.unwrap())
}

/// A controller with the tables 1 and 2, that begin at 5.
async fn two_tables(store: &World) -> Controller {
    let controller = Controller::start(store, &ids([1, 2]), &ids([])).await;
    let created = controller.collections.create(Some(5), both());
    let _ = created.await.unwrap();
    controller
}

fn both() -> Vec<lowwater_shard::collections::NewCollection<u64, u64>> {
    vec![new(1, Kind::Table), new(2, Kind::Table)]
}

/// Commits values to tables, one of each.
async fn commit<const N: usize>(controller: &Controller, at: u64, writes: [(u64, i64); N]) {
    let mut transaction = controller.collections.begin().unwrap();
    for (id, value) in writes {
        transaction.write(id, batch([value]), vec![1]).unwrap();
    }
    transaction.commit_at(&at).await.unwrap();
}
