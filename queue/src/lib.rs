//! The concurrent protocols of Lowwater: its command queue with wake-up, pins, and published
//! views.

mod channel;
mod directory;
mod pin;
mod published;
mod sequence;
mod sync;

pub use channel::{Closed, Receiver, Sender, Sleep, Wake, channel};
pub use directory::Directory;
pub use pin::{CellId, Freed, Handle, Owner, Pin, PinError, Shape, Slot, Table};
pub use published::read_all;
pub use sequence::Sequence;
