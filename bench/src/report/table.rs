//! The report for people.

use std::fmt;

use super::{Report, Row, Unit};

const HEADER: [&str; 7] = ["what", "ours", "baseline", "ratio", "floor", "met", "goal"];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; 7]> = std::iter::once(HEADER.map(String::from))
            .chain(self.rows.iter().map(cells))
            .collect();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        for [what, ours, baseline, ratio, floor, met, goal] in &lines {
            let [w0, w1, w2, w3, w4, w5, _] = widths;
            let line = format!(
                "{what:<w0$}  {ours:>w1$}  {baseline:>w2$}  {ratio:>w3$}  {floor:>w4$}  {met:<w5$}  {goal}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 7] {
    let figure =
        |figure: Option<f64>| figure.map_or_else(String::new, |it| with_unit(it, row.unit));
    [
        row.name.clone(),
        figure(row.ours),
        figure(row.baseline),
        row.ratio
            .map_or_else(String::new, |ratio| format!("{} ×", digits(ratio))),
        figure(row.floor),
        match row.met {
            Some(true) => "met".to_owned(),
            Some(false) => "MISSED".to_owned(),
            None => String::new(),
        },
        row.goal.clone().unwrap_or_default(),
    ]
}

/// Always the unit of the row, so that the columns can be compared by eye.
fn with_unit(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::Ns => format!("{} ns", digits(figure)),
        Unit::Bytes => format!("{} B", digits(figure)),
    }
}

/// Three digits that count, and thousands apart.
fn digits(figure: f64) -> String {
    if figure < 10.0 {
        return format!("{figure:.2}");
    }
    if figure < 100.0 {
        return format!("{figure:.1}");
    }
    let whole = format!("{figure:.0}");
    let mut apart = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Goal;

    #[test]
    fn figures_are_short_and_thousands_apart() {
        let figures = [0.5, 9.994, 12.34, 99.96, 100.4, 1234.0, 6_400_000.0].map(digits);
        assert_eq!(
            figures,
            ["0.50", "9.99", "12.3", "100.0", "100", "1,234", "6,400,000"]
        );
    }

    #[test]
    fn the_table_says_what_is_met_and_what_is_not() {
        let goal = |most| Goal {
            text: "at most",
            at_most: Some(most),
            ..Goal::default()
        };
        let mut report = Report::default();
        report.push(
            Row::nanoseconds("a_row", 10.0, 1000.0)
                .floor(5.0)
                .goal(goal(10.0)),
        );
        report.push(Row::bytes("longer_row", 20.0, None).goal(goal(10.0)));
        report.push(Row::bytes("without", 20.0, None));
        let expected = "\
what           ours  baseline  ratio    floor  met     goal
a_row       10.0 ns  1,000 ns  100 ×  5.00 ns  met     at most
longer_row   20.0 B                            MISSED  at most
without      20.0 B
";
        assert_eq!(report.to_string(), expected);
    }
}
