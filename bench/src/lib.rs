//! Figures of Lowwater beside a baseline that does the same job the usual way.

#![forbid(unsafe_code)]
