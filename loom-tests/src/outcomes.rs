//! Running a model, and what came out of it in its many executions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Which of the expected outcomes some execution has shown. Invisible to loom.
#[derive(Clone)]
pub struct Outcomes {
    seen: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Outcomes {
    /// None of `expected` seen yet.
    pub fn expected(expected: &[&'static str]) -> Self {
        let seen = expected.iter().map(|outcome| (*outcome, 0)).collect();
        Self {
            seen: Arc::new(Mutex::new(seen)),
        }
    }

    /// This execution shows `outcome`.
    ///
    /// # Panics
    ///
    /// Nobody expected it.
    pub fn note(&self, outcome: &'static str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen
            .get_mut(outcome)
            .unwrap_or_else(|| panic!("unexpected outcome: {outcome}")) += 1;
    }

    /// # Panics
    ///
    /// Some expected outcome never came: the model does not try what it claims to try.
    pub fn assert_all_seen(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (outcome, times) in seen.iter() {
            assert!(*times > 0, "no execution showed: {outcome} (of {seen:?})");
        }
    }
}

/// Runs a model through every execution with at most `preemptions_max` preemptions, and demands
/// that each of `expected` was the outcome of some.
///
/// Two preemptions find nearly every known kind of error. The models here allow five, and four
/// where more would take minutes; `LOOM_MAX_PREEMPTIONS` raises the bound of all of them.
pub fn check(
    preemptions_max: usize,
    expected: &[&'static str],
    model: impl Fn(&Outcomes) + Send + Sync + 'static,
) {
    let outcomes = Outcomes::expected(expected);
    let mut builder = loom::model::Builder::new();
    let asked_for = builder.preemption_bound.unwrap_or(0);
    builder.preemption_bound = Some(preemptions_max.max(asked_for));
    let noted = outcomes.clone();
    builder.check(move || model(&noted));
    outcomes.assert_all_seen();
}
