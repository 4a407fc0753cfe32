//! How much memory collections take.

use std::fs;

/// Bytes of anonymous memory that this process has in use, as the system counts them: what was
/// asked of the allocator, what the allocator adds to it, and no code. `None` where the system does
/// not say.
pub fn resident_bytes() -> Option<u64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How many bytes more there are after `make`. What it made stays, so that the next one to be
/// measured does not move into memory that was used and freed.
pub fn taken_by<M>(make: impl FnOnce() -> M) -> (Option<u64>, M) {
    let before = resident_bytes();
    let made = make();
    let taken = before
        .zip(resident_bytes())
        .map(|(before, after)| after.saturating_sub(before));
    (taken, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_is_written_to_is_counted() {
        let (taken, made) = taken_by(|| vec![1u8; 64 << 20]);
        let taken = taken.unwrap();
        assert!(
            (64 << 20..80 << 20).contains(&taken),
            "{taken} for {}",
            made.len()
        );
    }
}
