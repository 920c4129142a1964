//! What was not seen while the collector was away.

use crate::incidents::{stamp, stamp_option};
use gridstep_wire::Micros;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

/// One restart. As long as it is not settled, agents may yet bring what is missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Gap {
    /// Everything up to here had been judged before.
    #[serde(serialize_with = "stamp::serialize")]
    pub(crate) judged_until: Micros,
    #[serde(serialize_with = "stamp::serialize")]
    pub(crate) started_at: Micros,
    /// The stretch in which most of the fleet is missing. None: there is none, or it is not settled.
    #[serde(serialize_with = "stamp_option::serialize")]
    pub(crate) unseen_from: Option<Micros>,
    #[serde(serialize_with = "stamp_option::serialize")]
    pub(crate) unseen_to: Option<Micros>,
    /// How much of that stretch.
    pub(crate) unseen_seconds: Option<f64>,
    /// Share of the expected data that came after all, from `judged_until` to `settled_at`.
    pub(crate) completeness: Option<f64>,
    #[serde(serialize_with = "stamp_option::serialize")]
    pub(crate) settled_at: Option<Micros>,
}

pub(super) fn write(database: &Connection, gap: &Gap) -> rusqlite::Result<usize> {
    database.execute(
        "INSERT OR REPLACE INTO gap (started_at, judged_until, unseen_from, unseen_to, unseen_seconds, completeness, settled_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            gap.started_at.0,
            gap.judged_until.0,
            gap.unseen_from.map(|at| at.0),
            gap.unseen_to.map(|at| at.0),
            gap.unseen_seconds,
            gap.completeness,
            gap.settled_at.map(|at| at.0),
        ],
    )
}

/// At most `limit`, the newest of them, newest last.
pub(super) fn list(database: &Connection, limit: usize) -> rusqlite::Result<Vec<Gap>> {
    let mut get = database.prepare(
        "SELECT started_at, judged_until, unseen_from, unseen_to, unseen_seconds, completeness, settled_at FROM gap \
         ORDER BY started_at DESC LIMIT ?1",
    )?;
    let gap = |row: &Row<'_>| {
        let stamp = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Micros));
        Ok(Gap {
            started_at: Micros(row.get(0)?),
            judged_until: Micros(row.get(1)?),
            unseen_from: stamp(2)?,
            unseen_to: stamp(3)?,
            unseen_seconds: row.get(4)?,
            completeness: row.get(5)?,
            settled_at: stamp(6)?,
        })
    };
    let mut gaps = get.query_map([limit as i64], gap)?.collect::<rusqlite::Result<Vec<Gap>>>()?;
    gaps.reverse();
    Ok(gaps)
}

/// Those of restarts before are let go of.
pub(super) fn forget(database: &Connection, before: Micros) -> rusqlite::Result<usize> {
    database.execute("DELETE FROM gap WHERE started_at < ?1", [before.0])
}
