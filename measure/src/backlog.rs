//! What lies in the table beside the rows that are drained: rows due much later, and finished ones.

use diesel::result::QueryResult;

use crate::hand_written::HandWritten;
use crate::options::{By, Options};

/// Rows of a statement.
const TOGETHER: usize = 100_000;

/// Stores them, straight into the tables, and has the server know the tables' shape, as it would long since.
pub(crate) fn store<C: HandWritten>(conn: &mut C, options: &Options) -> QueryResult<()> {
    if options.future + options.finished == 0 {
        return Ok(());
    }
    for (rows, finished) in [(options.future, false), (options.finished, true)] {
        for first in (0..rows).step_by(TOGETHER) {
            let rows = TOGETHER.min(rows - first);
            if options.by == By::Outbox {
                conn.insert_outbox_backlog(first, rows, finished)?;
            } else {
                conn.insert_backlog(rows, finished)?;
            }
        }
    }
    conn.analyze()
}
