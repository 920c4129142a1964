//! Incidents as rows: each in the last revision that anybody was told of.

use crate::alerts::{Announcement, word};
use crate::incidents::{Incident, Kind, State};
use gridstep_wire::Micros;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params, params_from_iter};

/// An incident, and what was announced of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) incident: Incident,
    pub(crate) announcement: Option<Announcement>,
}

/// Which incidents are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Those that went on at any time between these.
    pub(crate) from: Option<Micros>,
    pub(crate) to: Option<Micros>,
    pub(crate) kind: Option<Kind>,
    pub(crate) state: Option<State>,
    pub(crate) node: Option<String>,
}

impl Wanted {
    pub(crate) fn has(&self, incident: &Incident) -> bool {
        self.to.is_none_or(|to| incident.started_at <= to)
            && self.from.is_none_or(|from| incident.closed_at.is_none_or(|closed| closed >= from))
            && self.kind.is_none_or(|kind| incident.kind == kind)
            && self.state.is_none_or(|state| incident.state == state)
            && self.node.as_ref().is_none_or(|node| incident.subject.node.as_ref() == Some(node))
    }

    fn conditions(&self) -> (Vec<&'static str>, Vec<Value>) {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        let mut add = |condition, value: Option<Value>| {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(value);
            }
        };
        add("started_at <= ?", self.to.map(|to| to.0.into()));
        add("coalesce(closed_at >= ?, TRUE)", self.from.map(|from| from.0.into()));
        add("kind = ?", self.kind.map(|kind| word(kind).into()));
        add("state = ?", self.state.map(|state| word(state).into()));
        add("node = ?", self.node.clone().map(Into::into));
        (conditions, values)
    }
}

/// An older revision does not replace a newer one.
pub(super) fn write(transaction: &Transaction<'_>, told: &[Told]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare(
        "INSERT INTO incident (id, revision, kind, cause, severity, state, started_at, updated_at, closed_at, job, node, gpu, json, \
         announcement) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
         ON CONFLICT (id) DO UPDATE SET revision = ?2, cause = ?4, severity = ?5, state = ?6, updated_at = ?8, closed_at = ?9, \
         job = ?10, node = ?11, gpu = ?12, json = ?13, announcement = coalesce(?14, announcement) WHERE revision <= ?2",
    )?;
    for Told { incident, announcement } in told {
        let json = |fault: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(fault.into());
        let announcement = announcement.as_ref().map(serde_json::to_string).transpose().map_err(json)?;
        put.execute(params![
            incident.id,
            incident.revision,
            word(incident.kind),
            incident.cause,
            word(incident.severity),
            word(incident.state),
            incident.started_at.0,
            incident.updated_at.0,
            incident.closed_at.map(|closed| closed.0),
            incident.subject.job,
            incident.subject.node,
            incident.subject.gpu,
            serde_json::to_string(incident).map_err(json)?,
            announcement,
        ])?;
    }
    Ok(())
}

/// Those that are open, and those that closed since, the oldest first.
pub(super) fn current(database: &Connection, since: Micros) -> rusqlite::Result<Vec<Told>> {
    let mut get = database
        .prepare("SELECT id, json, announcement FROM incident WHERE state = 'open' OR closed_at >= ?1 ORDER BY started_at, id")?;
    let rows = get.query_map([since.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut told = Vec::new();
    for row in rows {
        let (id, json, announcement): (String, String, Option<String>) = row?;
        let Some(incident) = understood(&id, &json) else { continue };
        let announcement = announcement.and_then(|text| understood(&id, &text));
        told.push(Told { incident, announcement });
    }
    Ok(told)
}

/// At most `limit`, the newest of them, newest last.
pub(super) fn find(database: &Connection, wanted: &Wanted, limit: usize) -> rusqlite::Result<Vec<Incident>> {
    let (conditions, values) = wanted.conditions();
    let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
    let text = format!("SELECT id, json FROM incident WHERE {conditions} ORDER BY started_at DESC, id DESC LIMIT {limit}");
    let mut get = database.prepare(&text)?;
    let both = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let rows = get.query_map(params_from_iter(values), both)?.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    Ok(rows.iter().rev().filter_map(|(id, json)| understood(id, json)).collect())
}

/// Those that closed before are let go of; gives how many.
pub(super) fn forget(database: &Connection, before: Micros) -> rusqlite::Result<usize> {
    database.execute("DELETE FROM incident WHERE closed_at < ?1", [before.0])
}

fn understood<T: serde::de::DeserializeOwned>(id: &str, json: &str) -> Option<T> {
    serde_json::from_str(json)
        .inspect_err(|fault| tracing::warn!(incident = id, %fault, "a row of the store is not understood"))
        .ok()
}
