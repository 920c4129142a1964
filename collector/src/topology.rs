//! Where nodes stand: the topology file, which is also the inventory.
//!
//! CSV with a header, `node,rack,feeder[,state]`; further columns are further levels and are not judged. `state` is
//! `in_service` (default), `drained` or `retired`.

use crate::fleet::Place;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a topology file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error("read topology {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("topology {path}")]
    Csv { path: PathBuf, source: csv::Error },
    #[error("topology {path}, line {line}: {fault}")]
    Line { path: PathBuf, line: u64, fault: String },
}

#[derive(Deserialize)]
struct Row {
    node: String,
    rack: String,
    feeder: String,
    #[serde(default)]
    state: Option<State>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    InService,
    Drained,
    Retired,
}

/// The file's places, in its order.
pub fn read(path: &Path) -> Result<Vec<Place>, TopologyError> {
    let text = fs::read_to_string(path).map_err(|source| TopologyError::Read { path: path.into(), source })?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Place>, TopologyError> {
    let failed = |source| TopologyError::Csv { path: path.into(), source };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(failed)?.clone();
    let mut places = Vec::new();
    let mut seen = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(0, csv::Position::line);
        let fault = |fault| TopologyError::Line { path: path.into(), line, fault };
        let row: Row = record.deserialize(Some(&headers)).map_err(failed)?;
        if row.node.is_empty() {
            return Err(fault("node is empty".into()));
        }
        if let Some(first) = seen.insert(row.node.clone(), line) {
            return Err(fault(format!("node {} stands in line {first} already", row.node)));
        }
        let in_service = row.state.unwrap_or_default() == State::InService;
        places.push(Place { node: row.node, rack: row.rack, feeder: row.feeder, in_service });
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Place>, String> {
        parse(text, Path::new("t.csv")).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    #[test]
    fn state_and_further_columns_are_optional() {
        let places = read("node,rack,feeder,row,state\nn1,r1,f1,A,drained\nn2,r1,f1,B,\nn3,r2,f1,C,in_service\n").unwrap();
        assert_eq!(places.iter().map(|place| place.in_service).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!((places[2].node.as_str(), places[2].rack.as_str()), ("n3", "r2"));
    }

    #[test]
    fn faults_name_their_line() {
        assert!(read("node,rack,feeder\nn1,r,f\nn1,r,f\n").unwrap_err().contains("line 3: node n1 stands in line 2 already"));
        assert!(read("node,rack,feeder,state\nn1,r,f,gone\n").unwrap_err().contains("line: 2"));
        assert!(read("node,rack\nn1,r\n").unwrap_err().contains("missing field `feeder`"));
    }
}
