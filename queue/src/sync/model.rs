//! A stand-in for crossbeam's `SegQueue`, which loom cannot look into.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many messages a model may send in all: places are not used again.
const MESSAGES_MAX: usize = 6;

/// A queue that promises what `SegQueue` promises and nothing more.
///
/// It is made of acquire and release accesses, so that it does not add the very ordering that the
/// models look for: a lock would make every model pass, and so would a fence of its own. A message
/// is in the queue from the instant at which `ready` is set. Where `SegQueue` would make a popper
/// wait for a producer that is in the middle of a push, this one says that it sees nothing, which
/// is weaker still, and leaves loom no spinning loop to explore.
pub(crate) struct Queue<M> {
    places: [Place<M>; MESSAGES_MAX],
    head: AtomicUsize,
    tail: AtomicUsize,
}

struct Place<M> {
    ready: AtomicBool,
    message: UnsafeCell<Option<M>>,
}

// SAFETY: a message is written by the one producer that took its place, before `ready` is
// released, and taken by the one consumer that moved the head past it, after `ready` was acquired.
unsafe impl<M: Send> Sync for Queue<M> {}

impl<M> Queue<M> {
    pub(crate) fn new() -> Self {
        Self {
            places: std::array::from_fn(|_| Place {
                ready: AtomicBool::new(false),
                message: UnsafeCell::new(None),
            }),
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        }
    }

    pub(crate) fn push(&self, message: M) {
        let place = &self.places[self.tail.fetch_add(1, Ordering::Relaxed)];
        place.message.with_mut(|slot| {
            // SAFETY: the place is ours alone until it is ready.
            unsafe { *slot = Some(message) }
        });
        place.ready.store(true, Ordering::Release);
    }

    pub(crate) fn pop(&self) -> Option<M> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let place = self.places.get(head)?;
            if !place.ready.load(Ordering::Acquire) {
                return None;
            }
            let next = head + 1;
            match self
                .head
                .compare_exchange(head, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    // SAFETY: the place is ready, and whoever moved the head past it owns it.
                    return place.message.with_mut(|slot| unsafe { (*slot).take() });
                }
                Err(moved) => head = moved,
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.places
            .get(head)
            .is_none_or(|place| !place.ready.load(Ordering::Relaxed))
    }

    pub(crate) fn len(&self) -> usize {
        self.tail
            .load(Ordering::Relaxed)
            .saturating_sub(self.head.load(Ordering::Relaxed))
    }
}
