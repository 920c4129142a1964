//! The columns of a recording's files, as the contract of recordings has them.

use crate::fleet::{GpuMetric, NodeMetric};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::sync::Arc;

/// The program that a file is from.
pub(crate) const CREATOR: &str = "gridstep-collector";

/// What the rows of a file are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gpu,
    Power,
    Node,
    Event,
}

/// Of a column of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    F32,
    F64,
    U64,
    U32,
    U8,
    I64,
    Bool,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Gpu, Self::Power, Self::Node, Self::Event];

    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Gpu => "gpu-",
            Self::Power => "power-",
            Self::Node => "node-",
            Self::Event => "event-",
        }
    }

    /// Columns of names, beside `node`.
    pub(super) fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Gpu => &["job", "uuid", "model"],
            Self::Power => &[],
            Self::Node => &["job", "boot"],
            Self::Event => &["kind", "detail"],
        }
    }

    /// Columns of figures. Where there is power it comes first, the metrics of the fleet follow in their order.
    pub(super) fn figures(self) -> Vec<(&'static str, Type)> {
        let power = [("power_watts", Type::F32)];
        match self {
            Self::Gpu => power.into_iter().chain(GpuMetric::ALL.iter().map(|&metric| (metric.name(), of_gpu(metric)))).collect(),
            Self::Power => power.to_vec(),
            Self::Node => {
                power.into_iter().chain(NodeMetric::ALL.iter().map(|&metric| (metric.name(), of_node(metric)))).collect()
            }
            Self::Event => vec![("code", Type::I64)],
        }
    }

    /// Rows of a row group: what is open of it lies in memory, compressed.
    fn group_rows(self) -> usize {
        if self == Self::Power { 1 << 19 } else { 1 << 16 }
    }

    /// Keys, names, figures: the order of [`super::rows::Rows`].
    /// What is late may be of a backlog.
    pub(super) fn schema(self, late: bool) -> Arc<Schema> {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let mut fields = vec![
            Field::new("ts", stamp.clone(), false),
            Field::new("ts_error_seconds", DataType::Float32, true),
            Field::new("arrived_at", stamp, false),
            Field::new("node", names(), false),
        ];
        if self != Self::Node {
            fields.push(Field::new("gpu", DataType::UInt8, self == Self::Event));
        }
        fields.extend(self.texts().iter().map(|name| Field::new(*name, names(), true)));
        fields.extend(self.figures().into_iter().map(|(name, of)| Field::new(name, of.arrow(), true)));
        if late {
            fields.push(Field::new("backlog", DataType::Boolean, false));
        }
        Arc::new(Schema::new(fields))
    }

    /// Stamps and what is measured finely hardly ever repeat: no dictionary for them.
    pub(super) fn properties(self) -> WriterProperties {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let mut properties = WriterProperties::builder()
            .set_compression(zstd)
            .set_created_by(format!("{CREATOR} {}", env!("CARGO_PKG_VERSION")))
            .set_max_row_group_row_count(Some(self.group_rows()))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_column_statistics_enabled("ts".into(), EnabledStatistics::Chunk)
            .set_column_statistics_enabled("arrived_at".into(), EnabledStatistics::Chunk);
        for stamps in ["ts", "arrived_at"] {
            properties = properties
                .set_column_dictionary_enabled(stamps.into(), false)
                .set_column_encoding(stamps.into(), Encoding::DELTA_BINARY_PACKED);
        }
        for (fine, of) in self.figures() {
            let is_fine =
                fine.ends_with("watts") && fine != "power_limit_watts" || of == Type::F64 || fine.ends_with("per_second");
            if is_fine {
                properties = properties
                    .set_column_dictionary_enabled(fine.into(), false)
                    .set_column_encoding(fine.into(), Encoding::BYTE_STREAM_SPLIT);
            }
        }
        properties.build()
    }
}

impl Type {
    fn arrow(self) -> DataType {
        match self {
            Self::F32 => DataType::Float32,
            Self::F64 => DataType::Float64,
            Self::U64 => DataType::UInt64,
            Self::U32 => DataType::UInt32,
            Self::U8 => DataType::UInt8,
            Self::I64 => DataType::Int64,
            Self::Bool => DataType::Boolean,
        }
    }
}

fn names() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn of_gpu(metric: GpuMetric) -> Type {
    use GpuMetric::*;
    match metric {
        Energy | LimitedPower | LimitedThermal | LimitedBrake => Type::F64,
        HbmUsed | EventReasons | PcieReplays | NvlinkErrors | EccCorrected | EccUncorrected | RemappedRows => Type::U64,
        PcieGeneration | PcieWidth | NvlinkLinksUp => Type::U8,
        RemapPending | Up => Type::Bool,
        Xid => Type::U32,
        _ => Type::F32,
    }
}

fn of_node(metric: NodeMetric) -> Type {
    match metric {
        NodeMetric::MemoryUsed | NodeMetric::NetworkErrors => Type::U64,
        NodeMetric::NetworkBytes | NodeMetric::NetworkLink => Type::F64,
        _ => Type::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Live and a replay judge the same figures.
    #[test]
    fn what_is_judged_is_what_is_recorded() {
        let fine = 0.1;
        for metric in GpuMetric::ALL.iter().filter(|&&metric| matches!(of_gpu(metric), Type::F32 | Type::F64)) {
            assert_eq!(metric.as_recorded(fine) == fine, of_gpu(*metric) == Type::F64, "{metric:?}");
        }
        for metric in NodeMetric::ALL.iter().filter(|&&metric| matches!(of_node(metric), Type::F32 | Type::F64)) {
            assert_eq!(metric.as_recorded(fine) == fine, of_node(*metric) == Type::F64, "{metric:?}");
        }
        let large = (1u64 << 40) as f64 + 1.0;
        for metric in GpuMetric::ALL.iter().filter(|&&metric| of_gpu(metric) == Type::U64) {
            assert_eq!(metric.as_recorded(large), large, "{metric:?}");
        }
    }
}
