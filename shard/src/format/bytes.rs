//! The smallest pieces of the format: numbers, bytes, times, frontiers, lists.

use bytes::{Buf, Bytes};
use timely::progress::Antichain;

use crate::time::ShardTime;

use super::FormatError;

/// Writes the pieces of a version one after the other.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

/// Reads the pieces of a version one after the other; never reads beyond its end.
#[derive(Debug)]
pub struct Reader {
    left: Bytes,
    /// Which format they are in.
    pub(super) format: u8,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Writer(Vec::with_capacity(128))
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into()
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn id(&mut self, id: u128) {
        self.raw(&id.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.raw(&[u8::from(flag)]);
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Small numbers on either side of zero take few bytes.
    pub(crate) fn zigzag(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63).cast_unsigned());
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn frontier<T: ShardTime>(&mut self, frontier: &Antichain<T>) {
        self.list(frontier.elements(), |writer, time| {
            time.coordinates(&mut |coordinate| writer.number(coordinate));
        });
    }

    pub(crate) fn list<X>(
        &mut self,
        list: impl IntoIterator<Item = X, IntoIter: ExactSizeIterator>,
        mut each: impl FnMut(&mut Self, X),
    ) {
        let list = list.into_iter();
        self.count(list.len());
        list.for_each(|item| each(self, item));
    }
}

impl Reader {
    pub(crate) fn new(left: Bytes, format: u8) -> Self {
        Reader { left, format }
    }

    /// How many bytes are left to read.
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }

    /// Leaves the last bytes unread, for ever.
    pub(crate) fn drop_last(&mut self, bytes: usize) -> Result<(), FormatError> {
        let left = self.left.len().checked_sub(bytes).ok_or(ENDS_EARLY)?;
        self.left.truncate(left);
        Ok(())
    }

    /// Checks that all was read.
    pub(crate) fn end(&self) -> Result<(), FormatError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Malformed("there is something behind the end"))
        }
    }

    pub(crate) fn raw(&mut self, bytes: usize) -> Result<Bytes, FormatError> {
        if bytes > self.left.len() {
            return Err(ENDS_EARLY);
        }
        Ok(self.left.split_to(bytes))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        self.left.try_get_u8().map_err(|_| ENDS_EARLY)
    }

    pub(crate) fn id(&mut self) -> Result<u128, FormatError> {
        self.left.try_get_u128_le().map_err(|_| ENDS_EARLY)
    }

    pub(crate) fn little_endian(&mut self) -> Result<u32, FormatError> {
        self.left.try_get_u32_le().map_err(|_| ENDS_EARLY)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, FormatError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FormatError::Malformed("a flag is 0 or 1")),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, FormatError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(TOO_LARGE);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(TOO_LARGE)
    }

    pub(crate) fn zigzag(&mut self) -> Result<i64, FormatError> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    pub(crate) fn eight(&mut self) -> Result<[u8; 8], FormatError> {
        let bytes = self.raw(8)?;
        Ok((*bytes).try_into().expect("these are eight"))
    }

    pub(crate) fn count(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.number()?).map_err(|_| TOO_LARGE)
    }

    /// Bytes that share the memory of the version that they are read from.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, FormatError> {
        let length = self.count()?;
        self.raw(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, FormatError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| FormatError::Malformed("text is UTF-8"))
    }

    pub(crate) fn frontier<T: ShardTime>(&mut self) -> Result<Antichain<T>, FormatError> {
        let times: Vec<T> = self.list(Self::time)?;
        let count = times.len();
        let frontier: Antichain<T> = times.into_iter().collect();
        if frontier.len() == count {
            Ok(frontier)
        } else {
            Err(FormatError::Malformed(
                "times of a frontier are incomparable",
            ))
        }
    }

    fn time<T: ShardTime>(&mut self) -> Result<T, FormatError> {
        let mut failure = FormatError::Malformed("the coordinates are no time");
        let mut next = || self.number().map_err(|error| failure = error).ok();
        let time = T::from_coordinates(&mut next);
        time.ok_or(failure)
    }

    /// Makes no room ahead for more than can follow: a count may be damaged.
    pub(crate) fn list<X>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<X, FormatError>,
    ) -> Result<Vec<X>, FormatError> {
        let count = self.count()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(each(self)?);
        }
        Ok(list)
    }
}

const ENDS_EARLY: FormatError = FormatError::Malformed("it ends early");
const TOO_LARGE: FormatError = FormatError::Malformed("a number is too large");

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: Bytes) -> Reader {
        Reader::new(bytes, 2)
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::MAX / 2, u64::MAX] {
            let mut writer = Writer::new();
            writer.number(number);
            let mut reader = reader(writer.finish());
            assert_eq!(reader.number(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn numbers_on_either_side_of_zero_are_read_as_they_were_written() {
        for number in [0, -1, 1, -64, 63, i64::MIN, i64::MAX] {
            let mut writer = Writer::new();
            writer.zigzag(number);
            assert_eq!(reader(writer.finish()).zigzag(), Ok(number));
        }
    }

    #[test]
    fn numbers_of_more_than_64_bits_are_refused() {
        let read = |bytes: &'static [u8]| reader(Bytes::from_static(bytes)).number();
        assert_eq!(read(&[0xff; 12]), Err(TOO_LARGE));
        let mut bit_65 = [0x80; 10].to_vec();
        bit_65[9] = 0x02;
        assert_eq!(reader(bit_65.into()).number(), Err(TOO_LARGE));
        assert_eq!(read(&[0x80]), Err(ENDS_EARLY));
    }

    #[test]
    fn comparable_times_are_no_frontier() {
        let mut writer = Writer::new();
        writer.list([3_u64, 5], Writer::number);
        let read = reader(writer.finish()).frontier::<u64>();
        assert!(matches!(read, Err(FormatError::Malformed(_))));
    }

    #[test]
    fn an_absurd_count_is_refused_without_making_room_for_it() {
        let mut writer = Writer::new();
        writer.number(u64::MAX >> 1);
        let read = reader(writer.finish()).list(Reader::id);
        assert_eq!(read, Err(ENDS_EARLY));
    }
}
