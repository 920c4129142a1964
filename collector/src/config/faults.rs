//! Every fault of a configuration, not only the first.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    pub(super) fn add(&mut self, key: &str, fault: impl std::fmt::Display) {
        self.0.push(format!("{key}: {fault}"));
    }

    pub(super) fn into_list(mut self) -> Vec<String> {
        self.0.sort();
        self.0
    }

    /// Reads a section. What is faulty is noted, taken out, and stands at its default in the result.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, mut table: Table) -> T {
        loop {
            let error = match serde_path_to_error::deserialize(Value::Table(table.clone())) {
                Ok(section) => return section,
                Err(error) => error,
            };
            let keys = keys(error.path());
            self.add(&keys.join("."), describe(&error.inner().to_string()));
            if !take_out(&mut table, &keys) {
                return T::default();
            }
        }
    }

    /// Faults that name their keys themselves.
    pub(super) fn extend(&mut self, faults: Vec<String>) {
        self.0.extend(faults);
    }
}

/// The key as its parts. A part of a list ends it: a list is faulty as a whole.
fn keys(path: &Path) -> Vec<String> {
    let names = path.iter().map_while(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    });
    names.collect()
}

fn describe(fault: &str) -> &str {
    let fault = fault.lines().next().unwrap_or(fault);
    if fault.starts_with("unknown field") { "is not a key of the configuration" } else { fault }
}

/// False: there is no such key.
fn take_out(table: &mut Table, keys: &[String]) -> bool {
    match keys {
        [] => false,
        [last] => table.remove(last).is_some(),
        [first, rest @ ..] => {
            let inner = table.get_mut(first).and_then(Value::as_table_mut);
            // A required key that is missing is a fault of its section.
            inner.is_some_and(|inner| take_out(inner, rest)) || table.remove(first).is_some()
        }
    }
}
