//! The report: every figure of both sides, in one process run.

mod options;
mod goal;
mod row;
mod table;
mod json;
mod rows;

pub use goal::Goal;
pub use options::{BadOption, Options};
pub use row::{Report, Row, Unit};
pub use rows::measure;
