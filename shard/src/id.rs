//! What things are called: controllers, readers, versions, batches, parts, schemas.

use std::fmt;

use lowwater::ShardId;

pub use lowwater::Epoch;

macro_rules! number {
    ($(#[$docs:meta])* $name:ident($number:ty)) => {
        $(#[$docs])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($number);

        impl $name {
            /// The one with this number.
            pub const fn new(number: $number) -> Self {
                $name(number)
            }

            /// Its number.
            pub const fn number(self) -> $number {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$docs:meta])* $name:ident, $prefix:literal) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The one with this number.
            pub const fn new(number: u128) -> Self {
                $name(number)
            }

            /// A new one, like no other that was ever drawn.
            ///
            /// # Panics
            ///
            /// If the operating system has no random numbers.
            pub fn random() -> Self {
                // Not from a generator that is seeded by clock and thread: processes that start
                // together would draw the same.
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).expect("the operating system has random numbers");
                $name(u128::from_le_bytes(bytes))
            }

            /// Its number.
            pub const fn number(self) -> u128 {
                self.0
            }
        }

        #[doc = concat!("Written as `", $prefix, "` and 32 hexadecimal digits.")]
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number! {
    /// The number of a version of a log: the first is 1, each next one greater by 1.
    SeqNo(u64)
}

number! {
    /// A batch of a shard: later ones have greater numbers, none is used twice.
    BatchId(u64)
}

number! {
    /// A version of a shard's schema, counted from 0.
    SchemaId(u32)
}

random_id! {
    /// Somebody who keeps a shard readable.
    ///
    /// A controller uses the same one through all its incarnations; a leased reader draws one and
    /// never uses it again.
    ReaderId, "r"
}

random_id! {
    /// One start of one controller, so that two with an equal epoch can be told apart.
    Incarnation, "i"
}

random_id! {
    /// One attempt to write a version: tells afterwards whose attempt it was that succeeded.
    Nonce, "n"
}

random_id! {
    /// An immutable part in an object store.
    PartId, "p"
}

/// What a part is called within its shard.
///
/// It says when its writer began, so that a part that nothing refers to is known to be nobody's,
/// without a clock: see [`DataRecord::raise_floor`](crate::record::DataRecord::raise_floor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    /// The latest version of the shard's data that the writer had seen when it began to write the
    /// part; 0 if it had seen none.
    pub begun: SeqNo,
    /// The part.
    pub part: PartId,
}

impl SeqNo {
    /// Before the first version: nothing was written, or nothing was seen.
    pub const NONE: SeqNo = SeqNo(0);

    /// The first version of a log.
    pub const FIRST: SeqNo = SeqNo(1);

    /// The version after this one.
    ///
    /// # Panics
    ///
    /// If there were 2^64 versions.
    #[must_use]
    pub fn next(self) -> Self {
        SeqNo(self.0.checked_add(1).expect("no log has 2^64 versions"))
    }
}

/// Which of a shard's two logs, or the store's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogKind {
    /// Who keeps the shard readable, from when on: narrow, moves often.
    Since,
    /// What is written, and how far: carries data.
    Data,
    /// Which collection owns which shard: one log for the whole store.
    Metadata,
}

/// Names a log of versions in a [`Consensus`](crate::consensus::Consensus) store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Whose log it is.
    pub shard: ShardId,
    /// Which of its logs.
    pub kind: LogKind,
}

impl LogId {
    /// How many bytes [`to_bytes`](LogId::to_bytes) gives.
    pub const BYTES: usize = 17;

    /// The log of a shard's sinces.
    pub fn since(shard: ShardId) -> Self {
        LogId {
            shard,
            kind: LogKind::Since,
        }
    }

    /// The log of a shard's data.
    pub fn data(shard: ShardId) -> Self {
        LogId {
            shard,
            kind: LogKind::Data,
        }
    }

    /// The log of the store's metadata.
    pub fn metadata() -> Self {
        LogId {
            // It belongs to none. A shard of this name would do no harm: its logs are of other kinds.
            shard: ShardId::new(0),
            kind: LogKind::Metadata,
        }
    }

    /// The name as stores keep it; in the same order as the names themselves.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (shard, kind) = bytes.split_at_mut(16);
        shard.copy_from_slice(&self.shard.number().to_be_bytes());
        kind[0] = self.kind.code();
        bytes
    }

    /// The log of this name, if it is one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (shard, &[code]) = bytes.split_first_chunk::<16>()? else {
            return None;
        };
        Some(LogId {
            shard: ShardId::new(u128::from_be_bytes(*shard)),
            kind: LogKind::from_code(code)?,
        })
    }
}

impl LogKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            LogKind::Since => 1,
            LogKind::Data => 2,
            LogKind::Metadata => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(LogKind::Since),
            2 => Some(LogKind::Data),
            3 => Some(LogKind::Metadata),
            _ => None,
        }
    }
}

impl PartName {
    /// The name that is written like this, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (begun, part) = text.split_once('-')?;
        let is_hex = |text: &str, digits| {
            text.len() == digits
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(begun, 16) || !is_hex(part, 32) {
            return None;
        }
        Some(PartName {
            begun: SeqNo(u64::from_str_radix(begun, 16).ok()?),
            part: PartId(u128::from_str_radix(part, 16).ok()?),
        })
    }
}

/// Written as 16 hexadecimal digits, a hyphen, and 32 more: in the order in which they were begun.
impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:032x}", self.begun.0, self.part.0)
    }
}

/// Written as the shard, a slash and `since` or `data`; `metadata` for that of the store.
impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            LogKind::Since => "since",
            LogKind::Data => "data",
            LogKind::Metadata => return f.write_str("metadata"),
        };
        write!(f, "{}/{kind}", self.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_part_is_read_as_it_is_written_and_nothing_else_is_one() {
        let name = PartName {
            begun: SeqNo::new(0xab),
            part: PartId::new(7),
        };
        let written = name.to_string();
        assert_eq!(PartName::parse(&written), Some(name));
        for other in [
            &written[1..],
            &written.to_uppercase(),
            &written.replace('-', "+"),
            &format!("+{}", &written[1..]),
            "",
        ] {
            assert_eq!(PartName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_name_of_a_log_is_its_bytes_in_the_same_order() {
        let names = [
            LogId::since(ShardId::new(1)),
            LogId::data(ShardId::new(1)),
            LogId::since(ShardId::new(1 << 100)),
        ];
        assert!(names.is_sorted());
        assert!(names.map(LogId::to_bytes).is_sorted());
        for name in names {
            assert_eq!(LogId::from_bytes(&name.to_bytes()), Some(name));
        }
        assert_eq!(LogId::from_bytes(&[1; 16]), None);
        assert_eq!(LogId::from_bytes(&[9; 17]), None);
        assert_eq!(LogId::from_bytes(&[1; 18]), None);
    }
}
