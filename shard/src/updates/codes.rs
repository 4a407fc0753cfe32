//! Rows as numbers in the same order, so that sorting them is sorting numbers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::buffer::NullBuffer;
use arrow::record_batch::RecordBatch;

use super::column::{Kind, Pieces, Values};

/// The place of a row, in a number of 128 bits.
const PLACE_BITS: u32 = 32;

/// What there is room for beside that.
const BITS_MAX: u32 = 96;

/// What is sorted by at once.
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Fewer rows are sorted faster by comparing them.
const DIGITS_ROWS_MIN: usize = if cfg!(test) { 10 } else { 2 * DIGITS };

/// Of so many different texts each gets a number; of more only the beginnings are compared.
const TEXTS_MAX: usize = if cfg!(test) { 4 } else { 4096 };

/// A number for each row: where those of two rows differ, they are in the order of the rows.
pub(super) struct Codes {
    /// Below 2^[`BITS_MAX`].
    codes: Vec<u128>,
    bits: u32,
    /// Rows of one number are equal.
    is_exact: bool,
}

/// The same for one column; where there is nothing, any number.
struct Column {
    codes: Vec<u64>,
    bits: u32,
    is_exact: bool,
}

impl Codes {
    pub(super) fn of(rows: &RecordBatch) -> Self {
        let mut codes = Codes {
            codes: vec![0; rows.num_rows()],
            bits: 0,
            is_exact: true,
        };
        for column in rows.columns() {
            let Values { nulls, kind } = Values::of(column);
            if let Some(nulls) = nulls {
                codes.push(&presence(nulls));
            }
            codes.push(&match kind {
                Kind::Numbers(numbers) => of_numbers(numbers.to_vec(), nulls),
                Kind::Pieces(pieces) => of_pieces(pieces, rows.num_rows(), nulls),
            });
            if !codes.is_exact {
                break;
            }
        }
        codes
    }

    /// Appends a column's numbers, or what there is room for of them.
    fn push(&mut self, column: &Column) {
        if !self.is_exact {
            return;
        }
        let bits = column.bits.min(BITS_MAX - self.bits);
        let cut = column.bits - bits;
        self.is_exact = column.is_exact && cut == 0;
        self.bits += bits;
        if bits > 0 {
            for (code, number) in self.codes.iter_mut().zip(&column.codes) {
                *code = *code << bits | u128::from(*number >> cut);
            }
        }
    }

    /// The places of the rows, in their order; those with one number as they were.
    pub(super) fn sort(self) -> Sorted {
        let mut keys = self.codes;
        for (place, key) in keys.iter_mut().enumerate() {
            *key = *key << PLACE_BITS | place as u128;
        }
        if keys.len() < DIGITS_ROWS_MIN {
            keys.sort_unstable();
        } else {
            keys = by_digits(keys, self.bits);
        }
        Sorted {
            keys,
            is_exact: self.is_exact,
        }
    }
}

/// Sorts numbers by so many bits above their place, those with equal ones as they were: a radix sort,
/// from the last digit to the first.
fn by_digits(mut keys: Vec<u128>, bits: u32) -> Vec<u128> {
    let mut sorted = vec![0; keys.len()];
    for digit in 0..bits.div_ceil(DIGIT_BITS) {
        let shift = PLACE_BITS + digit * DIGIT_BITS;
        // Only these bits are looked at.
        let digit = |key: u128| (key >> shift) as usize % DIGITS;
        let mut starts = [0_usize; DIGITS];
        for key in &keys {
            starts[digit(*key)] += 1;
        }
        let mut next = 0;
        for start in &mut starts {
            let count = *start;
            *start = next;
            next += count;
        }
        for key in &keys {
            let place = &mut starts[digit(*key)];
            sorted[*place] = *key;
            *place += 1;
        }
        std::mem::swap(&mut keys, &mut sorted);
    }
    keys
}

/// Rows in the order of their numbers.
pub(super) struct Sorted {
    /// Number and place.
    keys: Vec<u128>,
    /// Rows of one number are equal.
    pub(super) is_exact: bool,
}

impl Sorted {
    pub(super) fn places(&self) -> Vec<u32> {
        // The place is in the lowest bits.
        self.keys.iter().map(|key| *key as u32).collect()
    }

    /// Runs of rows with one number, in which there are several.
    pub(super) fn ties(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut from = 0;
        let runs = self
            .keys
            .chunk_by(|left, right| left >> PLACE_BITS == right >> PLACE_BITS);
        let runs = runs.map(move |run| {
            let start = from;
            from += run.len();
            start..from
        });
        runs.filter(|run| run.len() > 1)
    }
}

/// Nothing comes first.
fn presence(nulls: &NullBuffer) -> Column {
    Column {
        codes: nulls.iter().map(u64::from).collect(),
        bits: 1,
        is_exact: true,
    }
}

/// What the numbers are above the least of them.
fn of_numbers(mut numbers: Vec<u64>, nulls: Option<&NullBuffer>) -> Column {
    if let Some(nulls) = nulls {
        let any = nulls.valid_indices().next().map_or(0, |at| numbers[at]);
        for (number, is_there) in numbers.iter_mut().zip(nulls) {
            if !is_there {
                *number = any;
            }
        }
    }
    let least = numbers.iter().copied().min().unwrap_or(0);
    let greatest = numbers.iter().copied().max().unwrap_or(0);
    for number in &mut numbers {
        *number -= least;
    }
    Column {
        codes: numbers,
        bits: u64::BITS - (greatest - least).leading_zeros(),
        is_exact: true,
    }
}

fn of_pieces(pieces: Pieces<'_>, rows: usize, nulls: Option<&NullBuffer>) -> Column {
    let is_there = |at: usize| nulls.is_none_or(|nulls| nulls.is_valid(at));
    let piece = |at: usize| if is_there(at) { pieces.at(at) } else { &[] };
    match ranks(rows, piece) {
        Some(ranks) => of_numbers(ranks, None),
        None => beginnings(rows, piece, nulls),
    }
}

/// The place of each piece among all different ones, in their order; `None` if they are too many.
fn ranks<'a>(rows: usize, piece: impl Fn(usize) -> &'a [u8]) -> Option<Vec<u64>> {
    let mut numbers: HashMap<&[u8], u32, foldhash::fast::RandomState> = HashMap::default();
    let mut different: Vec<&[u8]> = Vec::new();
    let mut of_rows: Vec<u32> = Vec::with_capacity(rows);
    for at in 0..rows {
        let next = different.len();
        let number = match numbers.entry(piece(at)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(_) if next == TEXTS_MAX => return None,
            Entry::Vacant(new) => {
                different.push(new.key());
                *new.insert(next as u32)
            }
        };
        of_rows.push(number);
    }
    let mut order: Vec<u32> = (0..different.len() as u32).collect();
    order.sort_unstable_by_key(|number| different[*number as usize]);
    let mut ranks = vec![0_u64; different.len()];
    for (rank, number) in order.into_iter().enumerate() {
        ranks[number as usize] = rank as u64;
    }
    let of_rows = of_rows.into_iter();
    Some(of_rows.map(|number| ranks[number as usize]).collect())
}

/// The first eight bytes behind those that all have in common.
fn beginnings<'a>(
    rows: usize,
    piece: impl Fn(usize) -> &'a [u8],
    nulls: Option<&NullBuffer>,
) -> Column {
    let is_there = |at: &usize| nulls.is_none_or(|nulls| nulls.is_valid(*at));
    let mut those_there = (0..rows).filter(is_there).map(&piece);
    let first = those_there.next().unwrap_or_default();
    let common = those_there.fold(first, |common, piece| {
        let same = common.iter().zip(piece).take_while(|(a, b)| a == b);
        &common[..same.count()]
    });
    let beginning = |at: usize| {
        let rest = piece(at).get(common.len()..).unwrap_or_default();
        let mut beginning = [0; 8];
        let length = rest.len().min(8);
        beginning[..length].copy_from_slice(&rest[..length]);
        u64::from_be_bytes(beginning)
    };
    Column {
        is_exact: false,
        ..of_numbers((0..rows).map(beginning).collect(), nulls)
    }
}
