//! Rows about parts: links of a GPU; ports, interfaces and disks of the node.

use crate::reader::protocol::Part;
use gridstep_wire::block::BlockBuilder;
use gridstep_wire::catalog::Subject;
use gridstep_wire::pb;
use std::collections::BTreeMap;

/// Entities of parts are numbered from here: those below are the node's and its GPUs'.
const FIRST_ENTITY: u32 = 256;

/// The parts that have been seen, and what was read of them since the last batch.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Entities by that of the owner, kind and name.
    entities: BTreeMap<(u32, Subject, String), u32>,
    new: Vec<pb::Entity>,
    rows: BTreeMap<Subject, Vec<Row>>,
}

#[derive(Debug)]
struct Row {
    entity: u32,
    ts_us: i64,
    part: Part,
}

impl Parts {
    /// Takes what was read of an entity's parts.
    pub(super) fn extend(&mut self, of: u32, ts_us: i64, parts: Vec<Part>) {
        for part in parts {
            let Some(subject) = part.subject() else { continue };
            let entity = self.entity(of, subject, &part.name);
            self.rows.entry(subject).or_default().push(Row { entity, ts_us, part });
        }
    }

    fn entity(&mut self, of: u32, subject: Subject, name: &str) -> u32 {
        let next = FIRST_ENTITY + self.entities.len() as u32;
        let new = &mut self.new;
        *self.entities.entry((of, subject, name.to_owned())).or_insert_with(|| {
            let part = pb::Part { of, kind: subject.name().into(), name: name.to_owned() };
            new.push(pb::Entity { id: next, what: Some(pb::entity::What::Part(part)) });
            next
        })
    }

    /// A block for each kind of part.
    pub(super) fn blocks(&mut self, base_us: i64, error_us: u32) -> Vec<pb::Block> {
        let mut blocks = Vec::new();
        for (subject, rows) in std::mem::take(&mut self.rows) {
            let first = subject.first_id();
            let count = subject.metrics().len() as u32;
            let mut block = BlockBuilder::new(base_us, &(first..first + count).collect::<Vec<_>>(), error_us);
            for Row { entity, ts_us, part } in rows {
                let mut values = vec![None; count as usize];
                for (&metric, &value) in part.metrics.iter().zip(&part.values) {
                    if let Some(slot) = values.get_mut(metric as usize) {
                        *slot = Some(value);
                    }
                }
                block.push(entity, ts_us, values);
            }
            blocks.push(block.finish());
        }
        blocks
    }

    /// Parts not declared yet.
    pub(super) fn take_new(&mut self) -> Vec<pb::Entity> {
        std::mem::take(&mut self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_declared_once_and_keeps_its_entity() {
        let mut parts = Parts::default();
        let link = |name: &str| Part::new(Subject::Nvlink, name.into());
        parts.extend(1, 0, vec![link("0"), link("1")]);
        parts.extend(2, 0, vec![link("0")]);
        let new: Vec<u32> = parts.take_new().iter().map(|entity| entity.id).collect();
        assert_eq!(new, [256, 257, 258]);
        assert_eq!(parts.blocks(0, 1)[0].entity, [256, 257, 258]);
        parts.extend(1, 1, vec![link("1")]);
        assert_eq!(parts.blocks(0, 1)[0].entity, [257]);
        assert!(parts.take_new().is_empty());
    }
}
