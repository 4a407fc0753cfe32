//! Asking a store what the views were, without a controller.

use lowwater::{Since, Upper};
use serde::Serialize;

use crate::catalog::Relation;
use crate::findings::Findings;
use crate::minute::Minute;
use crate::store::{Reading, Store, StoreError};

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
    let mut findings = Findings::default();
    let mut is_refused = false;
    for view in Relation::VIEWS {
        match contents.read(view, at)? {
            Reading::Rows(rows) => findings.put(view, rows),
            Reading::Refused(_) => is_refused = true,
        }
    }
    let (mut since, mut upper) = (Since::minimum(), Upper::sealed());
    for view in Relation::VIEWS {
        let window = contents.window(view)?;
        since = since.join(&window.since);
        upper = least(upper, window.upper);
    }
    let first = |times: &[Minute]| times.first().copied();
    let (since, upper) = (first(since.frontier()), first(upper.frontier()));
    Ok(if is_refused {
        let refused = if since.is_some_and(|since| since <= at) {
            Reason::NotYetWritten
        } else {
            Reason::BeforeSince
        };
        Answer::Refused(Refused {
            minute: at,
            refused,
            since,
            upper,
        })
    } else {
        Answer::Found(Found {
            minute: at,
            findings,
            since,
        })
    })
}

/// The earlier one of two uppers; one that is sealed is the last of all.
fn least(one: Upper<Minute>, other: Upper<Minute>) -> Upper<Minute> {
    let time = one.frontier().iter().chain(other.frontier().iter()).min();
    time.copied().map_or_else(Upper::sealed, Upper::at)
}

#[cfg(test)]
mod tests {
    use super::*;

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
