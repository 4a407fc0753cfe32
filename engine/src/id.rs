//! What things are called: collections, their incarnations, shards, requests.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;

/// What an id of a collection must be. Implemented for every type that has these bounds.
pub trait CollectionId: Copy + Ord + Hash + Debug + Display + Send + Sync + 'static {}

impl<I: Copy + Ord + Hash + Debug + Display + Send + Sync + 'static> CollectionId for I {}

/// Names one incarnation of a collection: what was said about an older one with the same id cannot
/// touch it.
///
/// Cheaper than the id where many collections are named at once, for it needs no look-up. Get it
/// from the collection's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where the collection stands in the engine's tables; reused after it is gone.
    pub(crate) slot: u32,
    /// How many collections were created before this one; never reused.
    pub(crate) generation: u64,
}

impl Key {
    /// The number of this incarnation: greater than those of all collections created before it.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Names a durable shard. Chosen by the embedder, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u128);

impl ShardId {
    /// The shard with this number.
    pub const fn new(number: u128) -> Self {
        ShardId(number)
    }

    /// The shard's number.
    pub fn number(&self) -> u128 {
        self.0
    }
}

/// Written as `s` and 32 hexadecimal digits.
impl Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:032x}", self.0)
    }
}

impl Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// The number of a controller's incarnation; the higher one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of this number.
    pub const fn new(number: u64) -> Self {
        Epoch(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// Names a request, so that its answer finds its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);
