//! What a figure has to reach.

/// The goal of a row, in the words of the design, and the figures in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goal {
    /// The design's words, with what they are taken to mean in brackets where they leave it open.
    pub text: &'static str,
    /// Ours must not be greater.
    pub at_most: Option<f64>,
    /// The baseline must be at least so many times ours.
    pub times_baseline: Option<f64>,
    /// Ours must be at most so many times the floor.
    pub times_floor: Option<f64>,
    /// Something else that the goal asks for, and that this run has not shown.
    pub missed_otherwise: bool,
}

impl Goal {
    /// Whether every figure in the goal holds. A figure that was not taken does not hold.
    pub fn is_met(&self, ours: Option<f64>, baseline: Option<f64>, floor: Option<f64>) -> bool {
        let Some(ours) = ours else { return false };
        let holds =
            |limit: Option<f64>, is_within: &dyn Fn(f64) -> bool| limit.is_none_or(is_within);
        holds(self.at_most, &|most| ours <= most)
            && holds(self.times_baseline, &|times| {
                baseline.is_some_and(|b| b >= times * ours)
            })
            && holds(self.times_floor, &|times| {
                floor.is_some_and(|floor| ours <= times * floor)
            })
            && !self.missed_otherwise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_only_if_every_figure_in_it_holds() {
        let goal = Goal {
            at_most: Some(15.0),
            times_baseline: Some(50.0),
            ..Goal::default()
        };
        assert!(goal.is_met(Some(15.0), Some(750.0), None));
        assert!(!goal.is_met(Some(15.1), Some(7500.0), None));
        assert!(!goal.is_met(Some(15.0), Some(749.0), None));
        assert!(!goal.is_met(Some(1.0), None, None));
        assert!(!goal.is_met(None, Some(750.0), None));
        let missed = Goal {
            missed_otherwise: true,
            ..goal
        };
        assert!(!missed.is_met(Some(15.0), Some(750.0), None));
    }

    #[test]
    fn a_goal_against_the_floor_needs_the_floor() {
        let goal = Goal {
            times_floor: Some(1.5),
            ..Goal::default()
        };
        assert!(goal.is_met(Some(15.0), None, Some(10.0)));
        assert!(!goal.is_met(Some(15.1), None, Some(10.0)));
        assert!(!goal.is_met(Some(15.0), None, None));
    }
}
