//! Read policies as scripts name them, and what they ask for, said a second time.

use lowwater::{ReadPolicy, Since};
use timely::progress::Antichain;

use super::text::{TestTime, frontier, number};

#[derive(Clone, Debug)]
pub(crate) enum Policy<T> {
    /// `stay:5`: `NoPolicy` that starts there.
    Stay(Antichain<T>),
    /// `valid:5`: `ValidFrom`.
    Valid(Antichain<T>),
    /// `lag:5`, and `back` for 1.
    Lag(u64),
    /// `gives:5`: a lag whose function always says so.
    Gives(Antichain<T>),
    /// `panics:5`: as `back`, but its function panics for exactly that upper.
    Panics(Antichain<T>),
    /// `least(back|valid:5)`: `Multiple`.
    Least(Vec<Policy<T>>),
}

impl<T: TestTime> Policy<T> {
    pub(crate) fn parse(text: &str) -> Self {
        if let Some(parts) = text.strip_prefix("least(") {
            let parts = parts.strip_suffix(')').expect("least(..) ends with )");
            let parts = parts.split('|').filter(|part| !part.is_empty());
            return Policy::Least(parts.map(Policy::parse).collect());
        }
        match text.split_once(':').unwrap_or((text, "")) {
            ("stay", at) => Policy::Stay(frontier(at)),
            ("valid", from) => Policy::Valid(frontier(from)),
            ("lag", distance) => Policy::Lag(number(distance)),
            ("back", "") => Policy::Lag(1),
            ("gives", always) => Policy::Gives(frontier(always)),
            ("panics", at) => Policy::Panics(frontier(at)),
            _ => panic!("{text} is no policy"),
        }
    }

    pub(crate) fn read_policy(&self) -> ReadPolicy<T> {
        match self.clone() {
            Policy::Stay(at) => ReadPolicy::NoPolicy {
                initial_since: Since::new(at),
            },
            Policy::Valid(from) => ReadPolicy::ValidFrom(Since::new(from)),
            Policy::Lag(1) => T::step_back(),
            Policy::Lag(distance) => T::lag(distance),
            Policy::Gives(always) => ReadPolicy::lag(move |_| always.clone()),
            Policy::Panics(at) => ReadPolicy::lag(move |upper| {
                assert!(*upper != at, "the policy was told to panic here");
                upper.iter().map(|time| time.back(1)).collect()
            }),
            Policy::Least(all) => {
                ReadPolicy::Multiple(all.iter().map(Policy::read_policy).collect())
            }
        }
    }

    pub(crate) fn initial_since(&self) -> Antichain<T> {
        match self {
            Policy::Stay(at) => at.clone(),
            Policy::Valid(_)
            | Policy::Lag(_)
            | Policy::Gives(_)
            | Policy::Panics(_)
            | Policy::Least(_) => Antichain::from_elem(T::minimum()),
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Policy::Least(all) => !all.is_empty() && all.iter().all(Policy::is_valid),
            Policy::Stay(_)
            | Policy::Valid(_)
            | Policy::Lag(_)
            | Policy::Gives(_)
            | Policy::Panics(_) => true,
        }
    }

    /// What the policy asks for; none if it panics.
    pub(crate) fn wants(
        &self,
        upper: &Antichain<T>,
        implied: &Antichain<T>,
    ) -> Option<Antichain<T>> {
        let lagging = |distance| upper.iter().map(|time| time.back(distance)).collect();
        match self {
            Policy::Stay(since) | Policy::Valid(since) => Some(since.clone()),
            Policy::Lag(_) | Policy::Gives(_) | Policy::Panics(_) if upper.is_empty() => {
                Some(implied.clone())
            }
            Policy::Lag(distance) => Some(lagging(*distance)),
            Policy::Gives(always) => Some(always.clone()),
            Policy::Panics(at) => (upper != at).then(|| lagging(1)),
            Policy::Least(all) => {
                // The meet: what any of them keeps.
                let mut least = Antichain::new();
                for policy in all {
                    least.extend(policy.wants(upper, implied)?);
                }
                Some(least)
            }
        }
    }
}
