//! The two sides behind one face, so that the same code gives both the same work.
//!
//! A side is turned by hand on the thread that measures: a figure is then the work itself, with no
//! wake-up of another thread in it, and no second core that hides a part of it. Where other threads
//! belong to the job (holds while ticking, command round trips) the side runs on its own thread.

mod ours;
mod usual;

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::workload::Node;

pub use ours::{Ours, OursServed, OursTicking};
pub use usual::{Usual, UsualHandle, UsualServed};

/// Collections, and whoever keeps them.
pub trait Side: Sized + Send + 'static {
    /// What a reader has of one collection.
    type Handle: Handle;
    /// What finds a collection by its id.
    type Finder: Finder;
    /// A tick that is ready to be sent.
    type Tick: Send;
    /// The side on a thread of its own.
    type Served: Served;
    /// The side on a thread of its own that ticks.
    type Ticking: Ticking;

    /// Nobody's collections yet.
    fn new() -> Self;

    /// Creates a batch, each with its since [`LAG`](crate::workload::LAG) behind its upper.
    fn create(&mut self, nodes: Vec<Node>);

    /// What a reader has of a collection.
    fn handle(&self, id: u64) -> Self::Handle;

    /// Creates a batch in which each collection has a shard in memory, where the side knows shards.
    fn create_with_shards(&mut self, nodes: Vec<Node>) {
        self.create(nodes);
    }

    /// What finds a collection by its id.
    fn finder(&self) -> Self::Finder;

    /// A new upper for all of the first `len` collections, in one command.
    fn prepare_tick(&mut self, len: u64, upper: u64) -> Self::Tick;

    /// Sends the tick, does all that follows from it, and takes the answer: every new frontier is
    /// there for all to read.
    fn tick(&mut self, tick: Self::Tick);

    /// Keeps collections readable from `time` on and no further, by their policies, and does all
    /// that follows from it.
    fn hold_back(&mut self, ids: &[u64], time: u64);

    /// Takes a hold at a time of choice.
    fn acquire_at(&mut self, id: u64, time: u64) -> HoldOf<Self>;

    /// Moves a hold, and does all that follows from it.
    fn downgrade(&mut self, hold: &mut HoldOf<Self>, to: u64);

    /// When a collection can be read from.
    fn since(&self, id: u64) -> u64;

    /// Lets the side run on a thread of its own.
    fn spawn(self) -> Self::Served;

    /// Lets the side run on a thread of its own that moves the upper of the first `len` collections
    /// by one, so often.
    fn spawn_ticking(self, len: u64, every: Duration) -> Self::Ticking;
}

/// The hold that a side gives out.
pub type HoldOf<S> = <<S as Side>::Handle as Handle>::Hold;

/// What a reader has of one collection.
pub trait Handle: Clone + Send + Sync + 'static {
    /// A read hold.
    type Hold: Send + 'static;

    /// Takes a hold at the implied capability, by the handle.
    fn acquire(&self) -> Self::Hold;

    /// Another hold like it.
    fn clone_hold(hold: &Self::Hold) -> Self::Hold;
}

/// What finds a collection by its id.
pub trait Finder: Send + Sync + 'static {
    /// A read hold.
    type Hold: Send + 'static;

    /// Takes a hold at the implied capability of any collection.
    fn acquire(&self, id: u64) -> Self::Hold;
}

/// A side that runs on a thread of its own.
pub trait Served {
    /// Reports the upper of one collection, and waits for the answer.
    fn round_trip(&self, id: u64, upper: u64);

    /// Waits until all is done that drops have left to do.
    fn settle(&self);
}

/// A side that ticks on a thread of its own.
pub trait Ticking {
    /// Stops it, and says how long each tick took, in nanoseconds.
    fn stop(self) -> Histogram<u64>;
}
