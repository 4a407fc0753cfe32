//! Ids of collections as they are stored.

/// An id of a collection that has a durable form: the same bytes for ever, others for each id.
pub trait StoredId: Clone + Ord {
    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8>;

    /// The id of these bytes, if it is one.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($number:ty),*) => {
        $(
            /// Big-endian, so that ids are stored in their order.
            impl StoredId for $number {
                fn to_bytes(&self) -> Vec<u8> {
                    self.to_be_bytes().to_vec()
                }

                fn from_bytes(bytes: &[u8]) -> Option<Self> {
                    Some(<$number>::from_be_bytes(bytes.try_into().ok()?))
                }
            }
        )*
    };
}

number!(u32, u64, u128);

/// UTF-8.
impl StoredId for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone().into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_were_stored_and_nothing_else_is_one() {
        assert_eq!(u64::from_bytes(&300_u64.to_bytes()), Some(300));
        assert_eq!(u64::from_bytes(&300_u32.to_bytes()), None);
        let name = String::from("délai");
        assert_eq!(String::from_bytes(&name.to_bytes()), Some(name));
        assert_eq!(String::from_bytes(&[0xff]), None);
    }
}
