//! Protocol buffers' own encoding, as far as it is needed here: keys, lengths, numbers.

/// Bytes that are no message, or none that our encoders write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not encoded as is usual")]
pub struct Irregular;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message, each with its number; none follows one that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Irregular> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.rest.first_chunk().ok_or(Irregular)?)),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Irregular)?)?)
            }
            5 => Value::Fixed32,
            _ => return Err(Irregular),
        };
        match value {
            Value::Fixed64(_) => self.take(8)?,
            Value::Fixed32 => self.take(4)?,
            Value::Varint(_) | Value::Bytes(_) => &[],
        };
        let is_key = (8..=u64::from(u32::MAX)).contains(&key);
        is_key.then_some((key >> 3, value)).ok_or(Irregular)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Irregular> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Irregular)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Irregular> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(first.into());
        }
        let end = self.rest.iter().take(LONGEST).position(|byte| *byte < 0x80).ok_or(Irregular)?;
        let number = self.take(end + 1)?;
        if number.len() == LONGEST && number[end] > 1 {
            return Err(Irregular);
        }
        Ok(number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
    }
}

/// Bytes of a number of 64 bits.
const LONGEST: usize = 10;

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Irregular>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Numbers of a packed field. Of one that has more bytes than a number may have, what lies beyond 64 bits is nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Numbers<'a> {
    /// Takes what a field holds, which comes once and ends with a number's end.
    pub(super) fn set(&mut self, bytes: &'a [u8]) -> Result<(), Irregular> {
        if !self.bytes.is_empty() || bytes.last().is_some_and(|last| *last >= 0x80) {
            return Err(Irregular);
        }
        // A number ends with each byte that says that no further one follows.
        *self = Self { bytes, len: bytes.iter().filter(|byte| **byte < 0x80).count() };
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn unsigned(self) -> impl Iterator<Item = u64> + use<'a> {
        let mut bytes = self.bytes.iter();
        std::iter::from_fn(move || {
            let first = *bytes.next()?;
            if first < 0x80 {
                return Some(first.into());
            }
            let (mut number, mut shift) = (u64::from(first & 0x7f), 7);
            for byte in bytes.by_ref() {
                number |= if shift < 64 { u64::from(byte & 0x7f) << shift } else { 0 };
                shift += 7;
                if *byte < 0x80 {
                    break;
                }
            }
            Some(number)
        })
    }

    /// As ZigZag has them: the sign is the last bit.
    #[inline]
    pub fn signed(self) -> impl Iterator<Item = i64> + use<'a> {
        self.unsigned().map(|number| (number >> 1) as i64 ^ -((number & 1) as i64))
    }
}
