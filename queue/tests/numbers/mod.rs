//! The types of the tests: pins carry a number, views are numbers, what is freed goes into a queue.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lowwater_queue::{Freed, Owner, Receiver, Sender, Shape, Wake, channel};

pub(crate) enum Numbers {}

/// Counts how many of it there are, wherever they are.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    alive: Arc<AtomicUsize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

impl Alive {
    pub(crate) fn number(&self, number: u64) -> Counted {
        self.0.fetch_add(1, Ordering::SeqCst);
        Counted {
            number,
            alive: Arc::clone(&self.0),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

pub(crate) struct Context {
    freed: Sender<Freed<Numbers>, Silent>,
    _alive: Counted,
}

impl Shape for Numbers {
    type Capability = Counted;
    type View = Counted;
    type Context = Context;

    fn freed(freed: Freed<Self>) {
        let sender = freed.table().context().freed.clone();
        // Refused when the owner is gone: then nobody needs the cell.
        let _ = sender.send(freed);
    }
}

pub(crate) type FreedCells = Receiver<Freed<Numbers>, Silent>;

/// An owner of nothing, and where it hears what is freed. Its table counts as one alive.
pub(crate) fn owner(alive: &Alive) -> (Owner<Numbers>, FreedCells) {
    let (freed, receiver) = channel(Silent);
    (
        Owner::new(Context {
            freed,
            _alive: alive.number(0),
        }),
        receiver,
    )
}

pub(crate) fn reclaim_all(owner: &mut Owner<Numbers>, freed: &mut FreedCells) -> usize {
    std::iter::from_fn(|| freed.pop())
        .map(|cell| owner.reclaim(cell))
        .count()
}
