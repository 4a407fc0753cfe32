//! The hot path allocates nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::{AllocationInfo, measure};
use lowwater::{Client, Collection, Config, Description, Engine, MemoryStorage, ReadPolicy, Upper};

/// An engine turned by hand.
struct Turning {
    engine: Engine<u64, u64>,
    client: Client<u64, u64>,
    collections: Vec<Collection<u64, u64>>,
}

/// Nine of ten collections depend on one; all are written up to 100.
fn start(collections: u64) -> Turning {
    let (mut engine, client) = Engine::new(Config::default(), MemoryStorage::new()).unwrap();
    let lag = ReadPolicy::lag_writes_by(10, 1).unwrap();
    let new = |id| {
        let dependency = (id % 10 != 0).then_some(id - id % 10);
        Description::new(id, lag.clone()).depends_on(dependency)
    };
    let created = client.create((0..collections).map(new).collect());
    engine.turn();
    let collections = created.wait().unwrap();
    let mut turning = Turning {
        engine,
        client,
        collections,
    };
    turning.tick(100);
    turning
}

impl Turning {
    /// One turn that moves every collection; says what it allocated.
    fn tick(&mut self, upper: u64) -> AllocationInfo {
        let uppers = self
            .collections
            .iter()
            .map(|each| (each.key(), Upper::at(upper)))
            .collect();
        let reported = self.client.report(uppers);
        let allocated = measure(|| {
            self.engine.turn();
        });
        reported.wait().unwrap();
        allocated
    }
}

#[test]
fn taking_cloning_and_dropping_a_hold_allocates_nothing() {
    let Turning {
        engine: _engine,
        client,
        collections,
    } = start(100);
    // The first look into the directory by this thread registers it there.
    drop(client.acquire(7).unwrap());
    let allocated = measure(|| {
        for _ in 0..1_000 {
            let hold = collections[7].acquire().unwrap();
            let clone = hold.try_clone().unwrap();
            drop(hold);
            drop(client.acquire(7).unwrap());
            drop(clone);
        }
    });
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn dropping_a_hold_on_a_retired_cell_allocates_nothing_but_its_message() {
    let mut turning = start(100);
    let holds: Vec<_> = (0..10)
        .map(|_| turning.collections[7].acquire().unwrap())
        .collect();
    turning.tick(101);
    let allocated = measure(|| drop(holds));
    // The last one to leave tells the owner; the queue may need another block for it.
    assert!(allocated.count_total <= 1, "{allocated:?}");
}

#[test]
fn a_tick_allocates_the_same_for_a_hundred_collections_and_for_ten_thousand() {
    let (mut few, mut many) = (start(100), start(10_000));
    for upper in 101..110 {
        let (in_few, in_many) = (few.tick(upper), many.tick(upper));
        // Whatever there is belongs to the command and the queue's blocks, not to collections.
        assert!(in_few.count_total <= 4, "{in_few:?}");
        assert!(in_many.count_total <= 4, "{in_many:?}");
    }
}
