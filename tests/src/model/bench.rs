//! What a play needs of a store: its table as the model sees it, and what people and time do to rows.

use consistency_core::state::State;
use consistency_core::store::Store;

use super::operation::Operation;
use super::row::{Due, Held, Node, Row};
use crate::backend::Backend;
use crate::database::Database;
use crate::memory_row::{MemoryRow, Micros};
use crate::memory_store::MemoryStore;
use crate::scene;
use crate::store_under_test::{DatabaseStore, StoreUnderTest};
use crate::task_row::TaskRow;

/// How far ahead "later" is, and how long a lease lasts: so far that nothing else comes near, in seconds.
pub const AHEAD: i64 = 5 * 365 * 24 * 60 * 60;
/// What "since 0" is, in seconds since 1970: the 9th of September 2001.
pub const SINCE: i64 = 1_000_000_000;

/// A store beside a person's access to its table.
pub trait Bench {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// Every row with its id, by id.
    fn rows(&self) -> Vec<(i64, Row)>;

    /// What time or a person does to the row with this id; `operation` is none of a store's own.
    fn by_hand(&self, operation: &Operation, id: i64);

    /// Puts a row off for years, whatever its state.
    fn put_off(&self, id: i64);

    /// Lets every row look as if nobody had changed it for years.
    fn age(&self);
}

impl<B: Bench> Bench for &B {
    fn store(&self) -> &dyn Store {
        (*self).store()
    }

    fn rows(&self) -> Vec<(i64, Row)> {
        (*self).rows()
    }

    fn by_hand(&self, operation: &Operation, id: i64) {
        (*self).by_hand(operation, id);
    }

    fn put_off(&self, id: i64) {
        (*self).put_off(id);
    }

    fn age(&self) {
        (*self).age();
    }
}

impl Bench for MemoryStore {
    fn store(&self) -> &dyn Store {
        self
    }

    fn rows(&self) -> Vec<(i64, Row)> {
        let mut rows = Vec::new();
        self.edit(|id, row, now| rows.push((id, seen_in_memory(row, now))));
        rows
    }

    fn by_hand(&self, operation: &Operation, id: i64) {
        self.edit(|each, row, now| {
            if each == id {
                edit_in_memory(operation, row, now);
            }
        });
    }

    fn put_off(&self, id: i64) {
        self.edit(|each, row, now| {
            if each == id {
                row.due = now + AHEAD * 1_000_000;
            }
        });
    }

    fn age(&self) {
        self.edit(|_, row, _| row.changed = 0);
    }
}

fn seen_in_memory(row: &MemoryRow, now: Micros) -> Row {
    let by = |name: &String| Node::ALL.into_iter().find(|node| node.name() == name).expect("a known owner");
    let since = (row.due / 1_000_000) - SINCE;
    Row {
        state: row.state,
        version: row.version,
        attempts: row.execute_times,
        most: row.new.max_execute_times,
        lost: row.lost_times,
        held: row.owner.as_ref().map(|name| Held { by: by(name), over: row.lease_until <= now }),
        due: match u8::try_from(since) {
            Ok(since) => Due::Since(since),
            Err(_) if row.due <= now => Due::Lately,
            Err(_) => Due::Later,
        },
        cancel: row.cancel_requested,
        key: row.new.order_key.as_ref().map(|key| key.parse().expect("a number")),
        has_error: row.error.is_some(),
    }
}

fn edit_in_memory(operation: &Operation, row: &mut MemoryRow, now: Micros) {
    match operation {
        Operation::LeaseRunsOut { .. } => row.lease_until = row.lease_until.min(now - 1),
        Operation::BecomesDue { since, .. } => row.due = (SINCE + i64::from(*since)) * 1_000_000,
        Operation::AskToCancel { .. } => row.cancel_requested = true,
        Operation::RetryByHand { .. } if matches!(row.state, State::Failed | State::Dead) => {
            (row.state, row.due) = (State::Pending, now);
            (row.execute_times, row.lost_times, row.cancel_requested) = (0, 0, false);
        }
        Operation::MarkSucceeded { .. } if matches!(row.state, State::Failed | State::Dead) => {
            row.state = State::Succeeded;
        }
        Operation::CancelByHand { .. } if matches!(row.state, State::Pending | State::Failed | State::Dead) => {
            row.state = State::Cancelled;
        }
        _ => {}
    }
}

/// The Diesel store on a test's database, and SQL beside it.
#[derive(Debug)]
pub struct DatabaseBench<'d> {
    database: &'d Database,
    under_test: DatabaseStore<'d>,
    /// This year, to tell "lately" from "later".
    year: i64,
}

impl<'d> DatabaseBench<'d> {
    /// Empties the table `under_test` keeps in `database`, and works on it.
    pub fn new(database: &'d Database, under_test: DatabaseStore<'d>) -> Self {
        let year = match database.backend() {
            Backend::Sqlite => "CAST(strftime('%Y', 'now') AS INTEGER)",
            Backend::Postgres => "date_part('year', now())",
            Backend::Mysql => "YEAR(UTC_TIMESTAMP())",
        };
        Self { database, under_test, year: database.number(year) }
    }

    /// Removes every row.
    pub fn clear(&self) {
        self.database.execute("DELETE FROM consistency_task");
    }

    fn set(&self, what: &str, id: i64) {
        self.database.execute(&format!("UPDATE consistency_task SET {what} WHERE id = {id}"));
    }

    fn seen(&self, row: &TaskRow) -> Row {
        let by = |name: &String| Node::ALL.into_iter().find(|node| node.name() == name).expect("a known owner");
        let is_later = |time: &str| time[..4].parse::<i64>().expect("a year") > self.year + 1;
        let until = row.lease_until.as_deref();
        let held = |name: &String| Held { by: by(name), over: !until.is_some_and(is_later) };
        Row {
            state: row.state(),
            version: row.version,
            attempts: row.execute_times,
            most: row.max_execute_times,
            lost: row.lost_times,
            held: row.lease_owner.as_ref().map(held),
            due: match row.next_execute_time.strip_prefix("2001-09-09 01:46:") {
                Some(time) => Due::Since(time[..2].parse::<u8>().expect("seconds") - 40),
                None if is_later(&row.next_execute_time) => Due::Later,
                None => Due::Lately,
            },
            cancel: row.cancel_requested == 1,
            key: row.order_key.as_ref().map(|key| key.parse().expect("a number")),
            has_error: row.error_message.is_some(),
        }
    }
}

impl Bench for DatabaseBench<'_> {
    fn store(&self) -> &dyn Store {
        self.under_test.store()
    }

    fn rows(&self) -> Vec<(i64, Row)> {
        self.database.rows("1 = 1").iter().map(|row| (row.id, self.seen(row))).collect()
    }

    fn by_hand(&self, operation: &Operation, id: i64) {
        let the_row = format!("id = {id}");
        match operation {
            Operation::LeaseRunsOut { .. } => scene::end_leases(self.database, &the_row),
            Operation::BecomesDue { since, .. } => {
                let zone = if self.database.backend() == Backend::Postgres { "+00" } else { "" };
                self.set(&format!("next_execute_time = '2001-09-09 01:46:{}.000{zone}'", 40 + since), id);
            }
            Operation::AskToCancel { .. } => self.under_test.request_cancel(id),
            // As the first page has them.
            Operation::RetryByHand { .. } => scene::retry_by_hand(self.database, &the_row),
            Operation::MarkSucceeded { .. } => self
                .database
                .execute(&format!("UPDATE consistency_task SET state = 2 WHERE id = {id} AND state IN (3, 4)")),
            Operation::CancelByHand { .. } => self
                .database
                .execute(&format!("UPDATE consistency_task SET state = 6 WHERE id = {id} AND state IN (0, 3, 4)")),
            _ => {}
        }
    }

    fn put_off(&self, id: i64) {
        let zone = if self.database.backend() == Backend::Postgres { "+00" } else { "" };
        self.set(&format!("next_execute_time = '{}-01-01 00:00:00.000{zone}'", self.year + 5), id);
    }

    fn age(&self) {
        let zone = if self.database.backend() == Backend::Postgres { "+00" } else { "" };
        self.database.execute(&format!("UPDATE consistency_task SET gmt_modified = '2001-09-09 01:46:40.000{zone}'"));
    }
}
