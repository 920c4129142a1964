//! NVLinks: sums over all of them in each sweep, and now and then each by itself.

use super::protocol::Part;
use super::raw::Field;
use super::values::{Absent, Values};
use gridstep_wire::catalog::{self, Subject};
use nvml_wrapper::error::NvmlError;

const fn id(name: &str) -> u32 {
    catalog::index(catalog::GPU, name)
}

const fn of_link(name: &str) -> u32 {
    catalog::index(catalog::NVLINK, name)
}

const BYTES: u32 = id("nvlink_bytes_total");
const LINKS_UP: u32 = id("nvlink_links_up");
const ERRORS: u32 = id("nvlink_errors_total");
pub(super) const SUMS: [u32; 3] = [BYTES, LINKS_UP, ERRORS];

/// NVLinks that a GPU has at most.
const LINKS: u32 = 18;
/// All links of a GPU, as the scope of a field.
const ALL_LINKS: u32 = u32::MAX;
/// NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and …_RX, KiB.
const SENT: u32 = 138;
const RECEIVED: u32 = 139;
/// NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY, …_RECOVERY and …_CRC of a link.
const REPLAYS: u32 = 161;
const RECOVERIES: u32 = 162;
const CRC_ERRORS: u32 = 163;
/// NVML_FI_DEV_NVLINK_GET_SPEED and …_STATE of a link: MB/s, and 1 active, 2 asleep.
const SPEED: u32 = 164;
const STATE: u32 = 165;
const UP: [i64; 2] = [1, 2];

/// Of each link in each sweep.
const OFTEN: [u32; 3] = [STATE, REPLAYS, RECOVERIES];
/// Of each link in a slow sweep, beside those.
const SLOW: [u32; 4] = [SPEED, CRC_ERRORS, SENT, RECEIVED];

/// In the order in which [`Links::new`] takes the values.
pub(super) fn fields(slow: bool) -> impl Iterator<Item = Field> {
    let totals = [SENT, RECEIVED].map(|id| Field { id, scope: ALL_LINKS });
    let ids = OFTEN.into_iter().chain(SLOW.into_iter().filter(move |_| slow));
    totals.into_iter().chain(ids.flat_map(|id| (0..LINKS).map(move |scope| Field { id, scope })))
}

/// What was read of a GPU's links.
pub(super) struct Links {
    totals: [Result<i64, NvmlError>; 2],
    /// By field, then link.
    values: Vec<Vec<Result<i64, NvmlError>>>,
    slow: bool,
}

impl Links {
    pub(super) fn new(mut values: impl Iterator<Item = Result<i64, NvmlError>>, slow: bool) -> Self {
        let mut next = || values.next().unwrap_or(Err(NvmlError::NotSupported));
        let totals = [next(), next()];
        let count = OFTEN.len() + if slow { SLOW.len() } else { 0 };
        let values = (0..count).map(|_| (0..LINKS).map(|_| next()).collect()).collect();
        Self { totals, values, slow }
    }

    /// Each link that can be read, where it is time for that.
    pub(super) fn parts(&self) -> Vec<Part> {
        if !self.slow {
            return Vec::new();
        }
        (0..LINKS as usize).filter_map(|link| self.part(link)).collect()
    }

    fn part(&self, link: usize) -> Option<Part> {
        let [state, replays, recoveries, speed, crc_errors, sent, received] = &self.values[..] else { return None };
        let state = *state[link].as_ref().ok()?;
        let mut part = Part::new(Subject::Nvlink, link.to_string());
        part.put(const { of_link("up") }, i64::from(UP.contains(&state)));
        for (metric, values, factor) in [
            (const { of_link("speed_bytes_per_second") }, speed, 1),
            (const { of_link("replays_total") }, replays, 1),
            (const { of_link("recoveries_total") }, recoveries, 1),
            (const { of_link("crc_errors_total") }, crc_errors, 1),
            (const { of_link("sent_bytes_total") }, sent, 1024),
            (const { of_link("received_bytes_total") }, received, 1024),
        ] {
            if let Ok(value) = values[link] {
                part.put(metric, value.saturating_mul(factor));
            }
        }
        Some(part)
    }

    /// Puts the sums; `known` has replays and recoveries by link: one that cannot be read keeps what it had, lest the sum fall.
    pub(super) fn sum(self, known: &mut Vec<i64>, out: &mut Values) {
        for kib in self.totals {
            out.add(BYTES, kib.map(|kib| kib.saturating_mul(1024)).map_err(Absent::from));
        }
        let mut values = self.values.into_iter();
        for state in values.next().into_iter().flatten() {
            out.add(LINKS_UP, state.map(|state| i64::from(UP.contains(&state))).map_err(Absent::from));
        }
        let errors: Vec<_> = values.take(2).flatten().collect();
        if errors.iter().any(Result::is_ok) {
            known.resize(errors.len(), 0);
            known.iter_mut().zip(errors).for_each(|(known, errors)| *known = errors.unwrap_or(*known));
            out.put(ERRORS, Ok::<_, Absent>(known.iter().sum::<i64>()));
        } else if let Some(Err(why)) = errors.into_iter().next() {
            out.refuse([ERRORS], why);
        }
    }
}
