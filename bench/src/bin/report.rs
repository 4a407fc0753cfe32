//! Measures Lowwater beside the baseline, in one process run.

#![forbid(unsafe_code)]

fn main() {}
