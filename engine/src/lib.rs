//! Keeps track of how far each collection of a data system may be compacted.

#![forbid(unsafe_code)]
