//! What the bare machine needs for the heart of each job: nothing can be faster than that.

mod words;
mod arrays;
mod doorbell;
mod tracker;

pub use arrays::Arrays;
pub use doorbell::Doorbell;
pub use tracker::Tracker;
pub use words::Words;
