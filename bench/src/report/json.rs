//! The report for programs.

use std::fs;
use std::io;
use std::path::Path;

use super::Report;

impl Report {
    /// The rows as JSON.
    ///
    /// # Panics
    ///
    /// Never: a row is made of strings and numbers.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a row is made of strings and numbers") + "\n"
    }

    /// Writes the rows into a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_json(&self, file: &Path) -> io::Result<()> {
        fs::write(file, self.to_json())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::report::{Goal, Report, Row};

    #[test]
    fn rows_are_written_with_null_where_a_figure_does_not_apply() {
        let goal = Goal {
            text: "≤ 15 ns",
            at_most: Some(15.0),
            ..Goal::default()
        };
        let mut report = Report::default();
        report.push(Row::nanoseconds("one", 10.0, 500.0).floor(5.0).goal(goal));
        report.push(Row::bytes("two", None, 300.0));
        report.note("not part of it".into());
        let written: Value = serde_json::from_str(&report.to_json()).unwrap();
        let expected = json!({"rows": [
            {"name": "one", "unit": "ns", "ours": 10.0, "baseline": 500.0, "ratio": 50.0,
             "floor": 5.0, "goal": "≤ 15 ns", "met": true},
            {"name": "two", "unit": "bytes", "ours": null, "baseline": 300.0, "ratio": null,
             "floor": null, "goal": null, "met": null},
        ]});
        assert_eq!(written, expected);
    }
}
