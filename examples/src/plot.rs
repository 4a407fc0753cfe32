//! A picture of the replay: since and upper of every collection over time.

mod axis;
mod legend;
mod panel;

use std::fmt::{self, Display, Formatter};

use crate::catalog::Relation;
use crate::course::Course;
use crate::minute::DAY;
use crate::outcome::RelationOutcome;
use axis::Axis;
use legend::Legend;
use panel::Panel;

/// Panels beside each other; the legend takes the place after the last one.
const COLUMNS: usize = 4;

/// From one panel to the next, in pixels.
const CELL: (f64, f64) = (306.0, 336.0);

/// Left of and above the first panel.
const MARGIN: (f64, f64) = (32.0, 96.0);

/// The sides of a panel's square.
const SIDE: f64 = 240.0;

const STYLE: &str = "
text { font-family: 'Inter', 'Helvetica Neue', 'DejaVu Sans', sans-serif; fill: #24303c; }
.title { font-size: 22px; font-weight: 600; }
.subtitle, .key { font-size: 13px; fill: #51606f; }
.name { font-size: 14px; font-weight: 600; }
.note, .tick { font-size: 11px; fill: #6b7987; }
.grid { stroke: #e3e8ed; stroke-width: 1; }
.frame { fill: none; stroke: #c3ccd5; stroke-width: 1; }
.kept { fill: #9cc3ea; fill-opacity: 0.55; }
.upper { fill: none; stroke: #2a6cb0; stroke-width: 3; stroke-linejoin: round; }
.since { fill: none; stroke: #e0662a; stroke-width: 1.6; stroke-linejoin: round; }
.held { stroke: #3d4955; stroke-width: 1; stroke-dasharray: 3 3; }
.mark { fill: #ffffff; stroke: #3d4955; stroke-width: 1.6; }
.event { font-size: 11px; fill: #3d4955; }
";

/// The course of a replay, to be written as SVG.
pub struct Plot<'a> {
    /// The way of the frontiers.
    pub course: &'a Course,
    /// What became of the collections.
    pub relations: &'a [RelationOutcome],
}

impl Display for Plot<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rows = (Relation::ALL.len() + 1).div_ceil(COLUMNS);
        let width = 2.0 * MARGIN.0 + CELL.0 * to_f64(COLUMNS);
        let height = MARGIN.1 + CELL.1 * to_f64(rows);
        writeln!(
            f,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>{STYLE}</style>
<rect width="100%" height="100%" fill="#ffffff"/>"##
        )?;
        self.heading(f)?;
        let axis = Axis {
            end: self.course.end,
            side: SIDE,
        };
        for (index, of_one) in self.relations.iter().enumerate() {
            let (x, y) = corner(index);
            writeln!(f, r#"<g transform="translate({x} {y})">"#)?;
            write!(
                f,
                "{}",
                Panel {
                    axis: &axis,
                    course: self.course,
                    of_one
                }
            )?;
            writeln!(f, "</g>")?;
        }
        let (x, y) = corner(self.relations.len());
        writeln!(f, r#"<g transform="translate({x} {y})">"#)?;
        write!(
            f,
            "{}",
            Legend {
                course: self.course
            }
        )?;
        writeln!(f, "</g>\n</svg>")
    }
}

impl Plot<'_> {
    fn heading(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let days = self.course.end / DAY;
        let x = MARGIN.0;
        writeln!(
            f,
            r#"<text class="title" x="{x}" y="40">{days} days of flights, and how much of their history was kept</text>
<text class="subtitle" x="{x}" y="62">To the right the replay moves on. Upwards: how far each collection is written (upper), and from when on it can still be read (since).</text>"#
        )
    }
}

/// Where the square of a panel begins.
fn corner(index: usize) -> (f64, f64) {
    let (column, row) = (index % COLUMNS, index / COLUMNS);
    (
        MARGIN.0 + 28.0 + CELL.0 * to_f64(column),
        MARGIN.1 + 44.0 + CELL.1 * to_f64(row),
    )
}

fn to_f64(small: usize) -> f64 {
    f64::from(u16::try_from(small).expect("a picture has few panels"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::{Event, Mark, Observation};
    use timely::progress::Antichain;

    #[test]
    fn every_collection_has_a_panel_and_every_hold_its_marks() {
        let mut course = Course::new(10 * DAY);
        for day in 1..=10 {
            if day == 3 || day == 6 {
                let event = if day == 3 {
                    Event::Taken
                } else {
                    Event::Released
                };
                course.mark(Mark {
                    relation: Relation::Airborne,
                    event,
                    since: 0,
                });
            }
            let frontiers = [(Some((day - 1) * DAY), Some(day * DAY)); Relation::ALL.len()];
            course.observations.push(Observation {
                now: day * DAY,
                frontiers,
            });
        }
        let relations = Relation::ALL.map(|relation| RelationOutcome {
            relation,
            updates: 1,
            kept_most: 1,
            kept_at_end: 1,
            durable_since: Antichain::from_elem(0),
            since: Antichain::from_elem(0),
            since_asked_for: Antichain::from_elem(0),
            upper: Antichain::new(),
        });
        let svg = Plot {
            course: &course,
            relations: &relations,
        }
        .to_string();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for relation in Relation::ALL {
            assert!(svg.contains(&format!(">{}</text>", relation.name())));
        }
        assert_eq!(
            svg.matches("class=\"since\"").count(),
            Relation::ALL.len() + 1
        );
        assert_eq!(svg.matches("class=\"mark\"").count(), 3);
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }
}
