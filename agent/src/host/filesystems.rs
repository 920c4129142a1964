//! How full the disks are that a node cannot do without. A file system over the network may not answer.

use super::reading::{Reading, node};
use std::path::Path;

/// Of the root and, where there is one, of the agent's state.
pub(super) fn read(root: &Path, state: Option<&Path>, into: &mut Reading) {
    for (path, size, free) in [
        (Some(root), const { node("root_filesystem_size_bytes") }, const { node("root_filesystem_free_bytes") }),
        (state, const { node("state_filesystem_size_bytes") }, const { node("state_filesystem_free_bytes") }),
    ] {
        let Some(Ok(known)) = path.map(rustix::fs::statvfs) else { continue };
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(known.f_frsize)).unwrap_or(i64::MAX);
        into.put(size, bytes(known.f_blocks));
        into.put(free, bytes(known.f_bavail));
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::Moment;
    use super::*;

    #[test]
    fn free_is_part_of_the_size_and_what_is_not_there_is_absent() {
        let mut reading = Reading::at(Moment::now());
        read(Path::new("/"), Some(Path::new("/nowhere/at/all")), &mut reading);
        let &[(size_id, size), (free_id, free)] = &reading.values[..] else { panic!("{reading:?}") };
        assert_eq!((size_id, free_id), (node("root_filesystem_size_bytes"), node("root_filesystem_free_bytes")));
        assert!(size > 0 && (0..=size).contains(&free));
    }
}
