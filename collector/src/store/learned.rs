//! What was learned of GPUs and nodes, as rows: outlives a checkpoint that is lost or of another version, and can be looked at.

use crate::judge::Lesson;
use gridstep_wire::Micros;
use rusqlite::{Connection, Row, Transaction, params};

/// In place of a GPU, of what is its node's. NULL is no key.
const NO_GPU: i64 = -1;

pub(super) fn write(transaction: &Transaction<'_>, lessons: &[Lesson], now: Micros) -> rusqlite::Result<()> {
    let text = "INSERT OR REPLACE INTO learned (what, job, node, gpu, value, learned_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut put = transaction.prepare(text)?;
    for lesson in lessons {
        let gpu = lesson.gpu.map_or(NO_GPU, i64::from);
        put.execute(params![lesson.what, lesson.job, lesson.node, gpu, lesson.value, now.0])?;
    }
    Ok(())
}

pub(super) fn read(database: &Connection) -> rusqlite::Result<Vec<Lesson>> {
    let mut get = database.prepare("SELECT what, job, node, gpu, value FROM learned")?;
    let lesson = |row: &Row<'_>| {
        let gpu = u8::try_from(row.get::<_, i64>(3)?).ok();
        Ok(Lesson { what: row.get::<_, String>(0)?.into(), job: row.get(1)?, node: row.get(2)?, gpu, value: row.get(4)? })
    };
    get.query_map([], lesson)?.collect()
}

/// What was learned before is let go of.
pub(super) fn forget(database: &Connection, before: Micros) -> rusqlite::Result<usize> {
    database.execute("DELETE FROM learned WHERE learned_at < ?1", [before.0])
}
