//! Names by number: few different ones, many rows.

use arrow_array::StringArray;
use std::collections::HashMap;
use std::sync::Arc;

/// Beyond so many the numbers are given anew with the next files: details of events are as agents like them.
const MOST: usize = 1 << 17;

/// What a row without the name has.
pub(super) const NONE: i32 = -1;

#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Arc<str>, i32>,
    list: Vec<Arc<str>>,
    /// All of them, as the files take them.
    array: Option<Arc<StringArray>>,
}

impl Names {
    /// The empty name is none.
    pub(super) fn number(&mut self, name: &str) -> i32 {
        if name.is_empty() {
            return NONE;
        }
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let (name, number): (Arc<str>, i32) = (name.into(), self.list.len() as i32);
        self.list.push(name.clone());
        self.numbers.insert(name, number);
        self.array = None;
        number
    }

    pub(super) fn array(&mut self) -> Arc<StringArray> {
        let list = &self.list;
        self.array.get_or_insert_with(|| Arc::new(StringArray::from_iter_values(list))).clone()
    }

    pub(super) fn are_many(&self) -> bool {
        self.list.len() > MOST
    }

    /// Forgets all but these, which get numbers anew.
    pub(super) fn renumber<'a>(&mut self, kept: impl Iterator<Item = &'a mut i32>) {
        let before = std::mem::take(self);
        for number in kept.filter(|number| **number != NONE) {
            *number = before.list.get(*number as usize).map_or(NONE, |name| self.number(name));
        }
    }
}
