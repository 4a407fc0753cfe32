//! The concurrent protocols of Lowwater: its command queue with wake-up, pins, and published frontiers.
