//! One figure of both sides, beside what it should be.

use serde::Serialize;

use super::Goal;

/// All rows, in the order of the design's table, and further ones after them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The rows.
    pub rows: Vec<Row>,
    /// What a row has no column for: histograms, how something was taken.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// One figure of both sides. What does not apply, or was not taken, is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which figure.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// Lowwater's.
    pub ours: Option<f64>,
    /// The baseline's.
    pub baseline: Option<f64>,
    /// How many times ours the baseline's is.
    pub ratio: Option<f64>,
    /// What the bare machine needs.
    pub floor: Option<f64>,
    /// What is to be reached.
    pub goal: Option<String>,
    /// Whether every figure in the goal holds.
    pub met: Option<bool>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Bytes.
    Bytes,
}

impl Row {
    /// A row in nanoseconds, without a goal yet.
    pub fn nanoseconds(
        name: &str,
        ours: impl Into<Option<f64>>,
        baseline: impl Into<Option<f64>>,
    ) -> Self {
        Self::new(name, Unit::Ns, ours.into(), baseline.into())
    }

    /// A row in bytes, without a goal yet.
    pub fn bytes(
        name: &str,
        ours: impl Into<Option<f64>>,
        baseline: impl Into<Option<f64>>,
    ) -> Self {
        Self::new(name, Unit::Bytes, ours.into(), baseline.into())
    }

    /// The same with what the bare machine needs.
    #[must_use]
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    /// The same with its goal, which is met or not by the figures that the row has now.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.met = Some(goal.is_met(self.ours, self.baseline, self.floor));
        self.goal = Some(goal.text.to_owned());
        self
    }

    fn new(name: &str, unit: Unit, ours: Option<f64>, baseline: Option<f64>) -> Self {
        let ratio = ours.zip(baseline).map(|(ours, baseline)| baseline / ours);
        let ratio = ratio.filter(|ratio| ratio.is_finite());
        Self {
            name: name.to_owned(),
            unit,
            ours,
            baseline,
            ratio,
            floor: None,
            goal: None,
            met: None,
        }
    }
}

impl Report {
    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a line that the table has no column for.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}
