//! A second of all GPUs, two bytes a figure.

use crate::align::seconds::Second;
use crate::fleet::GpuMetric;

/// What is kept of a GPU: its name in the API, where it comes from (None: the power at 10 Hz), and what one step of two bytes is worth.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    pub name: &'static str,
    metric: Option<GpuMetric>,
    step: f64,
}

const fn kept(name: &'static str, metric: GpuMetric, step: f64) -> Quantity {
    Quantity { name, metric: Some(metric), step }
}

const QUANTITIES: [Quantity; 8] = [
    Quantity { name: "power_watts", metric: None, step: 0.05 },
    kept("temperature_celsius", GpuMetric::Temperature, 0.01),
    kept("memory_temperature_celsius", GpuMetric::MemoryTemperature, 0.01),
    kept("sm_clock_mhz", GpuMetric::SmClock, 0.1),
    kept("sm_active_ratio", GpuMetric::SmActive, 2e-5),
    kept("tensor_active_ratio", GpuMetric::TensorActive, 2e-5),
    kept("gpu_utilization_ratio", GpuMetric::Utilization, 2e-5),
    kept("hbm_used_bytes", GpuMetric::HbmUsed, 8_388_608.0),
];

/// What a GPU costs: 14.4 kB.
pub const GPU_BYTES: usize = super::SECONDS * QUANTITIES.len() * size_of::<u16>();

/// Nothing was measured.
const NONE: u16 = u16::MAX;

/// By GPU, by quantity.
#[derive(Debug)]
pub struct GpuSeconds(Vec<[u16; QUANTITIES.len()]>);

impl GpuSeconds {
    /// `watts`: the latest power of each GPU, NaN where it is not known.
    pub(crate) fn new(second: &Second, watts: &[f32]) -> Self {
        let mut rows = vec![[NONE; QUANTITIES.len()]; watts.len()];
        for (place, quantity) in QUANTITIES.iter().enumerate() {
            match quantity.metric {
                Some(metric) => {
                    let column = second.column(metric as usize);
                    rows.iter_mut().zip(column).for_each(|(row, &value)| row[place] = quantity.pack(value));
                }
                None => rows.iter_mut().zip(watts).for_each(|(row, &value)| row[place] = quantity.pack(f64::from(value))),
            }
        }
        Self(rows)
    }

    /// None: not measured.
    pub fn value(&self, gpu: usize, quantity: usize) -> Option<f64> {
        let packed = *self.0.get(gpu)?.get(quantity)?;
        QUANTITIES[quantity].unpack(packed)
    }

    pub fn quantities() -> &'static [Quantity] {
        &QUANTITIES
    }
}

impl Quantity {
    /// To the nearest step; what is out of range is as far as that goes.
    fn pack(&self, value: f64) -> u16 {
        if value.is_nan() {
            return NONE;
        }
        let steps = (value / self.step).clamp(0.0, f64::from(NONE - 1));
        // `round` is a call where processors are taken to be as old as they may be.
        let whole = steps as u16;
        whole + u16::from(steps - f64::from(whole) >= 0.5)
    }

    fn unpack(&self, packed: u16) -> Option<f64> {
        // Of a step that is no sum of powers of two, no more digits than it has.
        let digits = 1e6;
        (packed != NONE).then(|| (f64::from(packed) * self.step * digits).round() / digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bytes_are_enough() {
        let near = |name: &str, value: f64, off: f64| {
            let quantity = QUANTITIES.iter().find(|quantity| quantity.name == name).unwrap();
            let kept = quantity.unpack(quantity.pack(value)).unwrap();
            assert!((kept - value).abs() <= off, "{name}: {kept}, not {value}");
        };
        near("power_watts", 698.73, 0.03);
        near("power_watts", 1200.0, 0.0);
        near("sm_clock_mhz", 1980.0, 0.0);
        near("sm_active_ratio", 0.86342, 1e-5);
        near("sm_active_ratio", 1.0, 0.0);
        near("hbm_used_bytes", 80e9, 4.2e6);
        near("temperature_celsius", 61.5, 0.0);
        assert_eq!(QUANTITIES[0].unpack(QUANTITIES[0].pack(f64::NAN)), None);
        const { assert!(GPU_BYTES <= 16 << 10) };
    }
}
