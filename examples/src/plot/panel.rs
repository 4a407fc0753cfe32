//! One collection.

use std::fmt::{self, Display, Formatter};

use super::axis::Axis;
use crate::course::{Course, Event, Mark, Observation};
use crate::outcome::RelationOutcome;
use crate::report::grouped;

/// Draws upper, since, what lies between them, and the holds taken for show.
pub(super) struct Panel<'a> {
    pub(super) axis: &'a Axis,
    pub(super) course: &'a Course,
    pub(super) of_one: &'a RelationOutcome,
}

impl Display for Panel<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.heading(f)?;
        self.grid(f)?;
        self.lines(f)?;
        self.holds(f)?;
        let side = self.axis.side;
        writeln!(f, r#"<rect class="frame" width="{side}" height="{side}"/>"#)
    }
}

impl Panel<'_> {
    fn heading(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let most = grouped(self.of_one.kept_most as u64);
        let end = grouped(self.of_one.kept_at_end as u64);
        let name = self.of_one.relation.name();
        writeln!(f, r#"<text class="name" y="-24">{name}</text>"#)?;
        writeln!(
            f,
            r#"<text class="note" y="-8">updates kept: {most} at most, {end} at the end</text>"#
        )
    }

    fn grid(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let side = self.axis.side;
        for (minute, name) in self.axis.ticks() {
            let (x, y) = (self.axis.x(minute), self.axis.y(Some(minute)));
            writeln!(
                f,
                r#"<path class="grid" d="M{x:.1} 0V{side}M0 {y:.1}H{side}"/>
<text class="tick" x="{x:.1}" y="{below}" text-anchor="middle">{name}</text>
<text class="tick" x="-7" y="{beside:.1}" text-anchor="end">{name}</text>"#,
                below = side + 17.0,
                beside = y + 4.0,
            )?;
        }
        let (x, y, unit) = (side / 2.0, side + 32.0, self.axis.unit());
        writeln!(
            f,
            r#"<text class="tick" x="{x}" y="{y}" text-anchor="middle">{unit}</text>"#
        )?;
        Ok(())
    }

    fn lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let index = self.of_one.relation.index();
        let point = |now, minute| format!("{:.1},{:.1}", self.axis.x(now), self.axis.y(minute));
        let observations = &self.course.observations;
        let since: Vec<_> = observations
            .iter()
            .map(|o| point(o.now, o.frontiers[index].0))
            .collect();
        let upper: Vec<_> = observations
            .iter()
            .map(|o| point(o.now, o.frontiers[index].1))
            .collect();
        let around: Vec<_> = upper
            .iter()
            .chain(since.iter().rev())
            .map(String::as_str)
            .collect();

        writeln!(
            f,
            r#"<polygon class="kept" points="{}"/>"#,
            around.join(" ")
        )?;
        writeln!(
            f,
            r#"<polyline class="upper" points="{}"/>"#,
            upper.join(" ")
        )?;
        writeln!(
            f,
            r#"<polyline class="since" points="{}"/>"#,
            since.join(" ")
        )?;
        if self.of_one.upper.is_empty() {
            let x = self.axis.side - 8.0;
            writeln!(
                f,
                r#"<text class="event" x="{x}" y="18" text-anchor="end">sealed</text>"#
            )?;
        }
        Ok(())
    }

    fn holds(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (before, mark) in &self.course.marks {
            if mark.relation != self.of_one.relation {
                continue;
            }
            let Some(seen) = self.course.observations.get(before.saturating_sub(1)) else {
                continue;
            };
            self.mark(f, seen, mark)?;
        }
        Ok(())
    }

    fn mark(&self, f: &mut Formatter<'_>, seen: &Observation, mark: &Mark) -> fmt::Result {
        let (_, upper) = seen.frontiers[self.of_one.relation.index()];
        let (x, y, side) = (
            self.axis.x(seen.now),
            self.axis.y(Some(mark.since)),
            self.axis.side,
        );
        // Above the upper and below the since there is nothing to collide with.
        let (name, anchor, aside, beside) = match mark.event {
            Event::Taken => ("hold taken", "end", x - 4.0, self.axis.y(upper) - 6.0),
            Event::Released => ("released", "start", x + 7.0, y + 4.0),
        };
        writeln!(
            f,
            r#"<path class="held" d="M{x:.1} {y:.1}V{side}"/>
<circle class="mark" cx="{x:.1}" cy="{y:.1}" r="3.5"/>
<text class="event" x="{aside:.1}" y="{beside:.1}" text-anchor="{anchor}">{name}</text>"#,
        )
    }
}
