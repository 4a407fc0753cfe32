//! A tick over plain arrays.

use crate::workload::{LAG, Node};

/// No dependency.
const NONE: u32 = u32::MAX;

/// Uppers and sinces of collections with at most one dependency, which has a smaller id.
pub struct Arrays {
    dependencies: Box<[u32]>,
    uppers: Box<[u64]>,
    sinces: Box<[u64]>,
    /// The least since of those that depend on it, in this tick.
    needed: Box<[u64]>,
}

impl Arrays {
    /// The arrays of these collections.
    ///
    /// # Panics
    ///
    /// When one has more than one dependency.
    pub fn new(nodes: &[Node]) -> Self {
        let dependency = |node: &Node| {
            assert!(
                node.dependencies.len() <= 1,
                "the arrays have room for one dependency"
            );
            node.dependencies.first().map_or(NONE, |&on| on as u32)
        };
        Self {
            dependencies: nodes.iter().map(dependency).collect(),
            uppers: vec![0; nodes.len()].into(),
            sinces: vec![0; nodes.len()].into(),
            needed: vec![u64::MAX; nodes.len()].into(),
        }
    }

    /// Moves every upper, and every since as far as the policy and the dependents allow.
    pub fn tick(&mut self, upper: u64) {
        self.uppers.fill(upper);
        for at in (0..self.dependencies.len()).rev() {
            let wanted = self.uppers[at].saturating_sub(LAG);
            let since = wanted.min(std::mem::replace(&mut self.needed[at], u64::MAX));
            self.sinces[at] = since;
            let on = self.dependencies[at];
            if on != NONE {
                let needed = &mut self.needed[on as usize];
                *needed = since.min(*needed);
            }
        }
    }

    /// The least since of all.
    pub fn since(&self) -> Option<u64> {
        self.sinces.iter().copied().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn a_tick_moves_every_since() {
        let mut arrays = Arrays::new(&workload::forest(100).collect::<Vec<_>>());
        arrays.tick(50);
        arrays.tick(60);
        assert!(arrays.sinces.iter().all(|&since| since == 60 - LAG));
        assert_eq!(arrays.since(), Some(60 - LAG));
    }
}
