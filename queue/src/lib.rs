//! What Lowwater's threads do to each other, and nothing else: the queue to the owner thread and
//! its wake-up, pins, and what other threads read.
//!
//! One thread owns the state. All others talk to it in three ways, none of which takes a lock:
//!
//! | way | costs | in exchange |
//! |---|---|---|
//! | send it a message: [`channel()`] | tens of ns, and a system call if it sleeps | an answer takes a round trip |
//! | keep something alive without asking: [`Pin`] | two atomic updates of one word, some 5 ns | it is told later, and only if it wanted to let go |
//! | read what it published: [`Handle::read`], [`read_all`] | as a pin | what is read may be a moment old |
//!
//! Take this crate as the lowest floor of Lowwater, not as a library of its own: it knows neither
//! times nor collections. It is the only crate of the workspace with `unsafe` code and with
//! atomics. Every ordering in it is argued where it stands, names its partner, and has a mutant
//! that some model catches (`loom-tests/`).
//!
//! # Example
//!
//! An owner that wants to let go of the number 1, and a reader that keeps it:
//!
//! ```
//! use lowwater_queue::{Freed, Owner, Sender, Shape, Wake, channel};
//!
//! struct Poll; // stands for what the owner sleeps in, such as `mio::Poll`
//! impl Wake for Poll {
//!     fn wake(&self) {}
//! }
//!
//! struct Numbers;
//! impl Shape for Numbers {
//!     type Capability = u64;
//!     type View = &'static str;
//!     type Context = Sender<Freed<Numbers>, Poll>;
//!
//!     fn freed(freed: Freed<Self>) {
//!         let owner = freed.table().context().clone();
//!         let _ = owner.send(freed); // refused once the owner is gone: nobody needs it then
//!     }
//! }
//!
//! let (sender, mut messages) = channel(Poll);
//! let mut owner = Owner::<Numbers>::new(sender);
//! let handle = owner.register(1, "one");
//!
//! let pin = handle.acquire()?; // on any thread, without asking
//! let cell = owner.retire(handle.slot(), 2).expect("somebody keeps it");
//! owner.publish(handle.slot(), "two");
//!
//! assert_eq!(*pin.capability(), 1); // kept, and known to the owner as kept
//! assert_eq!(owner.pins(cell), 1);
//! assert_eq!(*handle.acquire()?.capability(), 2); // others get what is current
//! assert_eq!(handle.read(|view| *view), "two");
//!
//! drop(pin); // the last one: the owner gets one message
//! let freed = messages.pop().expect("it was told");
//! assert_eq!(owner.reclaim(freed), cell);
//! # Ok::<(), lowwater_queue::PinError>(())
//! ```
//!
//! # The queue
//!
//! Messages go through crossbeam's `SegQueue`. Beside it lies one word of state. A receiver that
//! has nothing to do sets `ASLEEP`, and looks at the queue once more before it sleeps; a sender
//! looks at the state after it has put its message in. Between the two steps of each stands a
//! sequentially consistent fence, so that at least one of the two sees the other. The one sender
//! that clears `ASLEEP` wakes; all others save the system call.
//!
//! Closing is two steps as well. [`Receiver::close`] refuses new messages, and what was accepted
//! before can still be received. Dropping the receiver sets `GONE`: from then on a sender that was
//! in the middle of sending takes out what it finds, its own message and those of others like it,
//! so that nothing stays behind, even if the queue itself is kept alive by what lies in it. There
//! is no count of senders in flight. (If senders took out messages as soon as the queue is
//! *closed*, one that races with the close would throw away what was accepted long before.)
//!
//! `SegQueue` lets a popper spin for a producer that was preempted in the middle of a push, and two
//! producers for one that installs a block: this crate promises "no lock", not "wait-free".
//!
//! # Pins
//!
//! Each slot publishes a word, `cell index << 32 | pins`, that names its current cell. A cell
//! carries something that never changes while anybody can see it, and a count, `remaining`, that
//! starts at a large bias.
//!
//! - *Acquire*: add one to the word. What was there before names the cell that the pin is on. It
//!   counts from that instant.
//! - *Release, clone*: while the word still shows the pin's cell, one less or one more there, by
//!   compare-and-swap. Otherwise in the cell's `remaining`.
//! - *Retire*: fill another cell, and swap the word to it. The swap says exactly how many pins the
//!   old cell has. None: it is free. Otherwise that number, less the bias, is added to `remaining`,
//!   and whoever brings it to zero, the owner or the last to leave, has freed the cell. The bias
//!   is why those that clone and leave between the swap and the addition cannot look like the last.
//! - *Close*: swap the word to an index that no cell has.
//!
//! A cell is written again only when every pin on it was given back; so a pin needs neither hazard
//! pointer nor epoch to read its cell, and cells lie in a table that grows and never moves. What
//! keeps the table: the owner, each handle, and each retired cell that still has pins, by a
//! reference that the last to leave takes out. An owner that goes closes all its words first, so
//! that every pin is on a retired cell from then on. Pins may therefore outlive everything.
//!
//! A slot is used for another registration when it is closed and its handles are gone. Old pins do
//! not care: the word shows them a cell that is not theirs.
//!
//! # What is published
//!
//! Views are cells under a second word of the slot, entered and left as pins are. A reader that is
//! preempted in the middle of a reading costs the owner one spare cell, which it looks after
//! itself. A number that is odd in the middle of a [turn](Owner::begin_turn) lets [`read_all`] tell
//! whether the views that it read belong together.
//!
//! A [`Directory`] finds handles by id, over `papaya`.
//!
//! # How this was checked
//!
//! By loom models of every protocol, and by mutants, each of which makes a model fail: `loom-tests`
//! says how to run both. Loom does not know `SegQueue`, so that the models run on a stand-in that
//! promises less, and they do not cover `papaya`. By stress tests under real threads, also under
//! AddressSanitizer with its leak detection, and under ThreadSanitizer (which, where std is not built
//! for it, does not see that the end of a scope waits for its threads: a report of what a test frees
//! after its scope is a false one):
//!
//! ```text
//! RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/asan \
//!     cargo +nightly test -p lowwater-queue --target x86_64-unknown-linux-gnu --tests
//! TSAN_OPTIONS="suppressions=$PWD/queue/tests/tsan.suppressions" CARGO_TARGET_DIR=target/tsan \
//!     RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//!     cargo +nightly test -p lowwater-queue --target x86_64-unknown-linux-gnu --tests
//! ```

mod channel;
mod pin;
mod published;
mod directory;
mod sequence;
mod figure;
mod sync;

pub use channel::{Closed, Receiver, Sender, Sleep, Wake, channel};
pub use directory::Directory;
pub use figure::Figure;
pub use pin::{CellId, Freed, Handle, Owner, Pin, PinError, Shape, Slot, Table};
pub use published::read_all;
pub use sequence::Sequence;
