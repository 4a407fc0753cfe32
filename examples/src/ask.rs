//! Asking a store what the views were, without a controller.

use std::mem;

use lowwater::{Since, Upper};
use serde::Serialize;

use crate::catalog::Relation;
use crate::findings::Findings;
use crate::minute::Minute;
use crate::store::{Reading, Store, StoreError, Window};

/// What is answered. Written as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The views, as they were.
    Found(Found),
    /// They cannot be read there.
    Refused(Refused),
}

/// The views as of a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// As of when.
    pub minute: Minute,
    /// What they say.
    #[serde(flatten)]
    pub findings: Findings,
    /// From when on all of them can be read.
    pub since: Option<Minute>,
}

/// Why the views cannot be read as of a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// As of when they were asked for.
    pub minute: Minute,
    /// What is in the way.
    pub refused: Reason,
    /// From when on all of them can be read.
    pub since: Option<Minute>,
    /// Up to when all of them are written.
    pub upper: Option<Minute>,
}

/// Why a minute cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// It lies before since.
    #[serde(rename = "before since")]
    BeforeSince,
    /// It does not lie before upper.
    #[serde(rename = "not yet written")]
    NotYetWritten,
}

/// Reads the views as of the minute `at`, if that is possible at this moment.
///
/// # Errors
/// When the store does not answer, or has something else in it.
pub fn ask(store: &Store, at: Minute) -> Result<Answer, StoreError> {
    let Some(places) = store.places()? else {
        // No controller has come so far as to make them.
        return Ok(Answer::Refused(Refused {
            minute: at,
            refused: Reason::NotYetWritten,
            since: Some(0),
            upper: Some(0),
        }));
    };
    let contents = store.contents(&places)?;
    // The windows first: while a controller is at work both ends go on, and what is told must agree
    // with what was read.
    let mut common = Window {
        since: Since::minimum(),
        upper: Upper::sealed(),
    };
    for view in Relation::VIEWS {
        common.narrow(contents.window(view)?);
    }
    let mut findings = Findings::default();
    for view in Relation::VIEWS {
        if !common.has(at) {
            break;
        }
        match contents.read(view, at)? {
            Reading::Rows(rows) => findings.put(view, rows),
            // Since has passed it in between.
            Reading::Refused(window) => common.narrow(window),
        }
    }
    Ok(answer(at, &common, findings))
}

/// `findings` if `at` is within the window, and why not otherwise.
fn answer(at: Minute, window: &Window, findings: Findings) -> Answer {
    let first = |times: &[Minute]| times.first().copied();
    let since = first(window.since.frontier());
    if window.has(at) {
        return Answer::Found(Found {
            minute: at,
            findings,
            since,
        });
    }
    Answer::Refused(Refused {
        minute: at,
        refused: if window.since.can_read(&at) {
            Reason::NotYetWritten
        } else {
            Reason::BeforeSince
        },
        since,
        upper: first(window.upper.frontier()),
    })
}

impl Window {
    /// Leaves what is within `other` as well.
    fn narrow(&mut self, other: Self) {
        self.since = self.since.join(&other.since);
        let upper = mem::replace(&mut self.upper, Upper::minimum());
        self.upper = least(upper, other.upper);
    }

    fn has(&self, at: Minute) -> bool {
        self.since.can_read(&at) && self.upper.is_complete_at(&at)
    }
}

/// The earlier one of two uppers; one that is sealed is the last of all.
fn least(one: Upper<Minute>, other: Upper<Minute>) -> Upper<Minute> {
    let time = one.frontier().iter().chain(other.frontier().iter()).min();
    time.copied().map_or_else(Upper::sealed, Upper::at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(since: Since<Minute>, upper: Upper<Minute>) -> Window {
        Window { since, upper }
    }

    #[test]
    fn an_answer_never_contradicts_the_window_that_it_tells() {
        let mut common = window(Since::minimum(), Upper::sealed());
        common.narrow(window(Since::at(5), Upper::at(12)));
        common.narrow(window(Since::at(3), Upper::at(9)));
        let refusal = |at, common: &Window| match answer(at, common, Findings::default()) {
            Answer::Found(found) => Err(found.since),
            Answer::Refused(refused) => Ok((refused.refused, refused.since, refused.upper)),
        };
        for at in 5..9 {
            assert_eq!(refusal(at, &common), Err(Some(5)));
        }
        let before_since = (Reason::BeforeSince, Some(5), Some(9));
        assert_eq!(refusal(4, &common), Ok(before_since));
        let not_yet = (Reason::NotYetWritten, Some(5), Some(9));
        assert_eq!(refusal(9, &common), Ok(not_yet));
        // A view was refused that had moved on since its window was looked at.
        common.narrow(window(Since::at(7), Upper::at(15)));
        let moved_on = (Reason::BeforeSince, Some(7), Some(9));
        assert_eq!(refusal(6, &common), Ok(moved_on));
        common.narrow(window(Since::gone(), Upper::sealed()));
        let gone = (Reason::BeforeSince, None, Some(9));
        assert_eq!(refusal(8, &common), Ok(gone));
    }

    #[test]
    fn answers_are_lines_of_json() {
        let found = Answer::Found(Found {
            minute: 7,
            findings: Findings {
                airborne: [("JFK".to_owned(), 2)].into(),
                ..Findings::default()
            },
            since: Some(5),
        });
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"minute":7,"airborne":{"JFK":2},"departure_delay":{},"airborne_in_rain":{},"since":5}"#
        );
        let refused = Answer::Refused(Refused {
            minute: 7,
            refused: Reason::BeforeSince,
            since: None,
            upper: Some(9),
        });
        assert_eq!(
            serde_json::to_string(&refused).unwrap(),
            r#"{"minute":7,"refused":"before since","since":null,"upper":9}"#
        );
    }
}
