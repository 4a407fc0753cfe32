//! Airlines, and the codes that stand for them and for airports.

use serde::{Deserialize, Serialize};

/// The code of an airline or an airport, such as `UA` or `JFK`: `N` letters or digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code<const N: usize>([u8; N]);

/// An airline.
pub type Carrier = Code<2>;

/// An airport.
pub type Airport = Code<3>;

impl<const N: usize> std::fmt::Display for Code<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| std::fmt::Write::write_char(f, char::from(*letter)))
    }
}

impl<const N: usize> TryFrom<String> for Code<N> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match <[u8; N]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_alphanumeric) => Ok(Self(bytes)),
            Ok(_) | Err(_) => Err(format!("{text:?} is not a code of {N} letters")),
        }
    }
}

impl<const N: usize> From<Code<N>> for String {
    fn from(code: Code<N>) -> Self {
        code.to_string()
    }
}

impl<const N: usize> std::fmt::Debug for Code<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A row of `airlines`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Airline {
    /// The code that flights bear.
    pub carrier: Carrier,
    /// The name that people know.
    pub name: String,
}
