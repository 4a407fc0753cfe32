//! Who holds back what.

use std::fmt::{self, Display};

use crate::frontier::{Frontiers, Since, Time};
use crate::id::Key;

/// Why a collection's since is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation<I, T> {
    /// Which collection.
    pub id: I,
    /// Which incarnation of it.
    pub key: Key,
    /// True iff it was dropped, and stays only for the causes listed.
    pub dropped: bool,
    /// Where it is.
    pub frontiers: Frontiers<T>,
    /// Everybody who keeps it readable, from when on each.
    pub causes: Vec<Cause<I, T>>,
}

/// Somebody who keeps a collection readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause<I, T> {
    /// Its own policy, through the implied capability.
    Policy(Since<T>),
    /// A collection that is computed from it.
    Dependent(I, Since<T>),
    /// Holds that were taken at an earlier implied capability and were not moved since.
    Pins {
        /// From when on they can read.
        since: Since<T>,
        /// How many they are, about: they come and go while one looks.
        holds: u64,
    },
    /// Holds that were moved, or taken by asking the owner, and collections that are just being
    /// created on top of it.
    Holds {
        /// From when on they can read.
        since: Since<T>,
        /// How many they are.
        holds: u64,
    },
}

impl<I, T> Cause<I, T> {
    /// From when on the collection is kept readable by this cause.
    pub fn since(&self) -> &Since<T> {
        match self {
            Cause::Policy(since)
            | Cause::Dependent(_, since)
            | Cause::Pins { since, .. }
            | Cause::Holds { since, .. } => since,
        }
    }
}

impl<I, T: Time> Explanation<I, T> {
    /// Those who hold the since back: without all of them it would move on.
    pub fn culprits(&self) -> impl Iterator<Item = &Cause<I, T>> {
        let since = self.frontiers.since.frontier();
        self.causes.iter().filter(move |cause| {
            cause
                .since()
                .frontier()
                .iter()
                .any(|time| since.contains(time))
        })
    }
}

impl<I: Display, T: fmt::Debug> Display for Cause<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Policy(since) => write!(f, "its policy, at {since}"),
            Cause::Dependent(id, since) => write!(f, "the dependent {id}, at {since}"),
            Cause::Pins { since, holds } => write!(f, "{holds} holds at {since}"),
            Cause::Holds { since, holds } => write!(f, "{holds} moved holds at {since}"),
        }
    }
}

/// One line for each cause.
impl<I: Display, T: Time> Display for Explanation<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frontiers { upper, since, .. } = &self.frontiers;
        write!(
            f,
            "{} has since {since} and upper {upper}, kept by",
            self.id
        )?;
        for cause in &self.causes {
            write!(f, "\n  {cause}")?;
        }
        Ok(())
    }
}
