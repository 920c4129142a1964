//! Columns of numbers in a checkpoint: their bytes as they lie in memory, which is thirty times quicker than one by one. `#[serde(with = "crate::packed")]`
//!
//! It is read by the machine that wrote it, or by one of the same byte order. Columns of an older version, number by number, are read as well.

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub(crate) trait Number: FromBytes + IntoBytes + Immutable + Copy + for<'de> Deserialize<'de> {}

impl Number for f32 {}
impl Number for f64 {}
impl Number for u16 {}

/// What can be packed: a column, or several.
pub(crate) trait Packed: Sized {
    fn pack<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

pub(crate) fn serialize<P: Packed, S: Serializer>(columns: &P, serializer: S) -> Result<S::Ok, S::Error> {
    columns.pack(serializer)
}

pub(crate) fn deserialize<'de, P: Packed, D: Deserializer<'de>>(deserializer: D) -> Result<P, D::Error> {
    P::unpack(deserializer)
}

impl<T: Number> Packed for Vec<T> {
    fn pack<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_slice().as_bytes())
    }

    fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Column(PhantomData))
    }
}

impl<T: Number, const N: usize> Packed for [T; N] {
    fn pack<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }

    fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let column = Vec::<T>::unpack(deserializer)?;
        column.try_into().map_err(|column: Vec<T>| D::Error::invalid_length(column.len(), &format!("{N} numbers").as_str()))
    }
}

/// One column of several.
struct One<P>(P);

impl<T: Number> Serialize for One<&Vec<T>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.pack(serializer)
    }
}

impl<'de, T: Number> Deserialize<'de> for One<Vec<T>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Packed::unpack(deserializer).map(Self)
    }
}

impl<T: Number> Packed for Vec<Vec<T>> {
    fn pack<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(One))
    }

    fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<One<Vec<T>>>::deserialize(deserializer)?.into_iter().map(|column| column.0).collect())
    }
}

impl<T: Number> Packed for VecDeque<Vec<T>> {
    fn pack<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(One))
    }

    fn unpack<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Vec<T>>::unpack(deserializer).map(Self::from)
    }
}

struct Column<T>(PhantomData<T>);

impl<'de, T: Number> Visitor<'de> for Column<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "bytes, {} to a number", size_of::<T>())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<T>, E> {
        let numbers = bytes.chunks_exact(size_of::<T>());
        if !numbers.remainder().is_empty() {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        numbers.map(|number| T::read_from_bytes(number).map_err(|_| E::invalid_length(number.len(), &self))).collect()
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<T>, E> {
        self.visit_bytes(&bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vec<T>, A::Error> {
        let mut column = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(1 << 16));
        while let Some(number) = numbers.next_element()? {
            column.push(number);
        }
        Ok(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        rows: VecDeque<Vec<f32>>,
        #[serde(with = "super")]
        columns: Vec<Vec<f64>>,
        #[serde(with = "super")]
        counts: Vec<u16>,
        #[serde(with = "super")]
        fixed: [f32; 3],
    }

    /// As an older version wrote it.
    #[derive(Serialize)]
    struct Plain {
        rows: VecDeque<Vec<f32>>,
        columns: Vec<Vec<f64>>,
        counts: Vec<u16>,
        fixed: Vec<f32>,
    }

    fn read(written: &impl Serialize) -> Result<Kept, String> {
        let mut bytes = Vec::new();
        ciborium::into_writer(written, &mut bytes).unwrap();
        // Parts that may be of another version are read this way.
        let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
        let read = ciborium::from_reader::<Kept, _>(bytes.as_slice()).map_err(|error| error.to_string());
        assert_eq!(value.deserialized().ok().as_ref(), read.as_ref().ok());
        read
    }

    fn plain() -> Plain {
        let long = (0..20_000).map(f64::from).collect();
        Plain {
            rows: VecDeque::from([vec![1.5, -3.25, 1e9], vec![]]),
            columns: vec![vec![], long],
            counts: vec![7, u16::MAX],
            fixed: vec![0.0, 1.0, f32::INFINITY],
        }
    }

    #[test]
    fn columns_come_back_as_they_went_and_as_they_were_written_before() {
        let Plain { rows, columns, counts, .. } = plain();
        let kept = Kept { rows, columns, counts, fixed: [0.0, 1.0, f32::INFINITY] };
        assert_eq!(read(&kept).as_ref(), Ok(&kept));
        assert_eq!(read(&plain()).as_ref(), Ok(&kept));
        let none = [f32::NAN, 1.0].to_vec();
        let mut bytes = Vec::new();
        ciborium::into_writer(&One(&none), &mut bytes).unwrap();
        let One(again): One<Vec<f32>> = ciborium::from_reader(bytes.as_slice()).unwrap();
        assert!(again[0].is_nan() && again[1] == 1.0);
    }

    #[test]
    fn a_column_of_another_length_is_refused() {
        let error = read(&Plain { fixed: vec![1.0], ..plain() }).unwrap_err();
        assert!(error.contains("3 numbers"), "{error}");
    }
}
