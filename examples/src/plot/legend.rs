//! What the lines mean.

use std::fmt::{self, Display, Formatter};

use crate::catalog::Relation;
use crate::course::{Course, Event};

/// Explains the picture, the holds taken for show included.
pub(super) struct Legend<'a> {
    pub(super) course: &'a Course,
}

impl Display for Legend<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            r#"<path class="upper" d="M0 6H30"/><text class="key" x="42" y="10">upper: written up to here</text>
<path class="since" d="M0 32H30"/><text class="key" x="42" y="36">since: readable from here on</text>
<rect class="kept" y="50" width="30" height="16"/><text class="key" x="42" y="62">history kept between them</text>
<circle class="mark" cx="15" cy="84" r="3.5"/><text class="key" x="42" y="88">a hold is taken, and released</text>
<text class="key" y="122">Without holds the policies keep one day.</text>"#
        )?;
        let taken = self
            .course
            .marks
            .iter()
            .filter(|(_, mark)| mark.event == Event::Taken);
        let mut y = 122;
        for (_, mark) in taken {
            let below: Vec<_> = beneath(mark.relation)
                .into_iter()
                .map(Relation::name)
                .collect();
            y += 30;
            writeln!(
                f,
                r#"<text class="key" y="{y}">A hold on {} also holds</text>"#,
                mark.relation.name()
            )?;
            for names in below.chunks(2) {
                y += 18;
                writeln!(
                    f,
                    r#"<text class="key" x="12" y="{y}">{}</text>"#,
                    names.join(", ")
                )?;
            }
        }
        Ok(())
    }
}

/// All that `relation` is made from, directly or not.
fn beneath(relation: Relation) -> Vec<Relation> {
    let mut found = Vec::new();
    let mut ahead = relation.depends_on().to_vec();
    while let Some(next) = ahead.pop() {
        if !found.contains(&next) {
            found.push(next);
            ahead.extend(next.depends_on());
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diamond_is_named_once() {
        let below = beneath(Relation::AirborneInRain);
        assert_eq!(
            below,
            [
                Relation::Flights,
                Relation::WeatherRemap,
                Relation::Weather,
                Relation::Airborne
            ]
        );
    }
}
