//! Loom models of the protocols in lowwater-queue, and the mutants that they must catch.

#![forbid(unsafe_code)]
