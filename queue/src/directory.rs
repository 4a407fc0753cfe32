//! Finding a slot's handle by the name that users give it, without a lock.

use std::fmt;
use std::hash::Hash;

use foldhash::fast::RandomState;
use papaya::HashMap;

use crate::pin::{Handle, Pin, PinError, Shape};

/// Handles by id, for any thread to look up.
///
/// Its handles keep their table: a directory in the table's own context would keep both for ever.
/// A removed handle may live a little longer, until nobody can be looking at it any more; its slot
/// is used again only after that.
pub struct Directory<I, S: Shape> {
    /// The hash is fast, and seeded anew in every process.
    handles: HashMap<I, Handle<S>, RandomState>,
}

impl<I: Hash + Eq + Send + Sync, S: Shape> Directory<I, S> {
    /// An empty directory.
    pub fn new() -> Self {
        Self {
            handles: HashMap::with_hasher(RandomState::default()),
        }
    }

    /// Lets `id` be found, instead of what it named before.
    pub fn insert(&self, id: I, handle: Handle<S>) {
        self.handles.pin().insert(id, handle);
    }

    /// Lets `id` be found no more. Says whether it was.
    pub fn remove(&self, id: &I) -> bool {
        self.handles.pin().remove(id).is_some()
    }

    /// Lets nothing be found any more.
    pub fn clear(&self) {
        self.handles.pin().clear();
    }

    /// The handle of `id`.
    pub fn get(&self, id: &I) -> Option<Handle<S>> {
        self.with(id, Handle::clone)
    }

    /// Uses the handle of `id` in place: cheaper than [`get`](Self::get), which counts.
    #[inline]
    pub fn with<R>(&self, id: &I, use_handle: impl FnOnce(&Handle<S>) -> R) -> Option<R> {
        self.handles.pin().get(id).map(use_handle)
    }

    /// Takes a pin on the current cell of `id`, if there is such an id.
    #[inline]
    pub fn acquire(&self, id: &I) -> Option<Result<Pin<S>, PinError>> {
        self.with(id, Handle::acquire)
    }

    /// How many ids can be found.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether no id can be found.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }
}

impl<I: Hash + Eq + Send + Sync, S: Shape> Default for Directory<I, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I, S: Shape> fmt::Debug for Directory<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}
