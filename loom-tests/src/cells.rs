//! Pins without an engine: what is freed rings through a queue, as it does in the real one.

use lowwater_queue::{Freed, Owner, Receiver, Sender, Shape, channel};

use crate::{Bell, Dropped, Witness};

/// The types of a model that is about pins or views alone: both carry a number.
#[derive(Debug)]
pub enum Numbers {}

/// What such a model shares.
#[derive(Debug)]
pub struct Shared {
    freed: Sender<Freed<Numbers>, Bell>,
    _table: Witness,
}

impl Shared {
    /// Whether nothing waits that was freed: a use of what is shared.
    pub fn is_quiet(&self) -> bool {
        self.freed.depth() == 0
    }
}

impl Shape for Numbers {
    type Capability = u64;
    type View = u64;
    type Context = Shared;

    fn freed(freed: Freed<Self>) {
        let sender = freed.table().context().freed.clone();
        // Refused when the owner is gone: then nobody needs the cell.
        let _ = sender.send(freed);
    }
}

/// An owner of nothing yet, and where it hears what is freed. `tables` counts the tables that are
/// gone.
pub fn owner(tables: &Dropped) -> (Owner<Numbers>, Receiver<Freed<Numbers>, Bell>) {
    let (freed, receiver) = channel(Bell::new());
    (
        Owner::new(Shared {
            freed,
            _table: tables.witness(),
        }),
        receiver,
    )
}
