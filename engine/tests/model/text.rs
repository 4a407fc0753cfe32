//! Times and frontiers as they stand in scripts: `7`, `(1,7)`, `[]`, `(0,5)+(3,0)`.

use lowwater::{ReadPolicy, Time};
use timely::order::Product;
use timely::progress::Antichain;

/// Times that tests run with.
pub(crate) trait TestTime: Time {
    fn parse(text: &str) -> Self;

    fn show(&self) -> String;

    /// Each coordinate `distance` less, not below 0: what the policies below are to do.
    fn back(&self, distance: u64) -> Self;

    fn step_back() -> ReadPolicy<Self>;

    fn lag(distance: u64) -> ReadPolicy<Self>;
}

impl TestTime for u64 {
    fn parse(text: &str) -> Self {
        number(text)
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn back(&self, distance: u64) -> Self {
        self.saturating_sub(distance)
    }

    fn step_back() -> ReadPolicy<Self> {
        ReadPolicy::step_back()
    }

    fn lag(distance: u64) -> ReadPolicy<Self> {
        ReadPolicy::lag_writes_by(distance, 1).expect("a granularity")
    }
}

impl TestTime for Product<u64, u64> {
    fn parse(text: &str) -> Self {
        let inside = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        let pair = inside.and_then(|inside| inside.split_once(','));
        let (outer, inner) = pair.unwrap_or_else(|| panic!("{text} is no pair"));
        Product::new(number(outer), number(inner))
    }

    fn show(&self) -> String {
        format!("({},{})", self.outer, self.inner)
    }

    fn back(&self, distance: u64) -> Self {
        let back = |coordinate: u64| coordinate.saturating_sub(distance);
        Product::new(back(self.outer), back(self.inner))
    }

    fn step_back() -> ReadPolicy<Self> {
        Self::lag(1)
    }

    fn lag(distance: u64) -> ReadPolicy<Self> {
        ReadPolicy::lag_each(move |time: &Self| time.back(distance))
    }
}

pub(crate) fn number(text: &str) -> u64 {
    let parsed = text.parse();
    parsed.unwrap_or_else(|_| panic!("{text} is no number"))
}

pub(crate) fn frontier<T: TestTime>(text: &str) -> Antichain<T> {
    match text {
        "[]" => Antichain::new(),
        _ => text.split('+').map(T::parse).collect(),
    }
}

/// In the order of `Ord`, so that equal frontiers are equal texts.
pub(crate) fn show<T: TestTime>(frontier: &Antichain<T>) -> String {
    let mut times: Vec<_> = frontier.iter().collect();
    times.sort();
    match times.is_empty() {
        true => String::from("[]"),
        false => times.iter().map(|t| t.show()).collect::<Vec<_>>().join("+"),
    }
}

/// `a=7` as `a` and `7`.
pub(crate) fn assignment(text: &str) -> (&str, &str) {
    let pair = text.split_once('=');
    pair.unwrap_or_else(|| panic!("{text} is not of the form name=value"))
}

/// The one-letter id of a collection.
pub(crate) fn id(text: &str) -> char {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => letter,
        _ => panic!("{text} is no one-letter id"),
    }
}
