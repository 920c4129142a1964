//! Names of nodes and jobs by number, the same in all files.

use super::chunk::Names;
use arrow_array::{Array, StringArray};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Numbers {
    by_name: HashMap<Arc<str>, u32>,
    /// Those that nobody has been told of.
    new: Vec<Arc<str>>,
}

impl Numbers {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.by_name.get(name) {
            return number;
        }
        let (name, number): (Arc<str>, u32) = (name.into(), self.by_name.len() as u32);
        self.new.push(name.clone());
        self.by_name.insert(name, number);
        number
    }

    /// The names that were met since the last call, in the order of their numbers.
    pub(super) fn take_new(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.new)
    }
}

/// The numbers of a file's names: chunk after chunk has the same ones.
#[derive(Debug, Default)]
pub(super) struct Known {
    names: Option<StringArray>,
    numbers: Arc<[u32]>,
}

impl Known {
    pub(super) fn numbers(&mut self, names: &Names, of: &mut Numbers) -> Arc<[u32]> {
        let values = names.values();
        let same = |known: &StringArray| {
            known.value_data().as_ptr() == values.value_data().as_ptr() && known.offsets().as_ptr() == values.offsets().as_ptr()
        };
        if !self.names.as_ref().is_some_and(|known| known.len() == values.len() && same(known)) {
            self.names = Some(values.clone());
            self.numbers = values.iter().map(|name| name.map_or(0, |name| of.number(name))).collect();
        }
        self.numbers.clone()
    }
}
