//! What the library warns of, for people to read.

use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_global_default;
use tracing::{Event, Level, Metadata, Subscriber};

/// What all modules of the library are called by.
const LIBRARY: &str = "lowwater";

/// What those of the engine's thread are called by.
const ENGINE: &str = "lowwater::driver";

/// From now on, and for ever, what the library warns of goes to standard error, a line each.
pub fn show() {
    // Who has set another one before knows where to look.
    let _ = set_global_default(Warnings);
}

/// Shows warnings, and knows nothing of spans.
struct Warnings;

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        match *metadata.level() {
            Level::WARN => target.starts_with(LIBRARY),
            // How the engine ends, those that asked it for something are told.
            Level::ERROR => target.starts_with(LIBRARY) && !target.starts_with(ENGINE),
            _ => false,
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let Line { message, fields } = line;
        // Nobody is there to be told that this has failed.
        let _ = writeln!(io::stderr(), "warning: {message}{fields}");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A warning, as it is shown: what it says, then what it says it of.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}").replace('\n', " ");
        match field.name() {
            "message" => self.message = value,
            name => write!(self.fields, ", {name} = {value}").expect("strings take everything"),
        }
    }
}
