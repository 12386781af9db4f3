//! The audit trail, its database and its one task.

use anyhow::Result;
use consistency_diesel::prelude::*;
use diesel::prelude::*;

use crate::database::Database;

diesel::table! {
    /// What happened, in the order in which the trail heard of it.
    audit_entry (id) {
        /// Its number.
        id -> BigInt,
        /// To what.
        subject -> Text,
        /// What happened.
        event -> Text,
    }
}

const TABLES: &str = "CREATE TABLE IF NOT EXISTS audit_entry (
    id INTEGER PRIMARY KEY NOT NULL, subject TEXT NOT NULL, event TEXT NOT NULL)";

/// What this outbox runs.
pub const TASKS: [&str; 1] = ["audit.record"];

/// Writes an entry, in one transaction with its own completion: exactly once.
#[consistency_task(name = "audit.record", retry_every = "1s")]
pub fn record(subject: &str, event: &str, #[tx] tx: &mut TaskTx<SqliteConnection>) -> QueryResult<()> {
    diesel::insert_into(audit_entry::table)
        .values((audit_entry::subject.eq(subject), audit_entry::event.eq(event)))
        .execute(tx)
        .map(drop)
}

/// The trail's database.
pub struct Audit {
    database: Database,
}

impl Audit {
    /// Opens the database in `file`, and starts its outbox.
    ///
    /// # Errors
    /// When it cannot be opened, or its outbox does not start.
    pub fn open(file: &str) -> Result<Self> {
        Ok(Self { database: Database::open(file, TABLES, |outbox| outbox.only(TASKS))? })
    }

    /// Takes an event over; those of one subject are recorded in the order in which they are taken. One with this key is taken
    /// once: a second time it is [`Receipt::Duplicate`], and nothing changes.
    ///
    /// # Errors
    /// The database's; nothing is stored then.
    pub fn note(&self, subject: &str, event: &str, key: &str) -> QueryResult<Receipt> {
        self.database.transaction(|tx| tx.enqueue(record(subject, event).key(key).ordered_by(subject)))
    }

    /// The entries so far: subject and event.
    ///
    /// # Errors
    /// The database's.
    pub fn entries(&self) -> QueryResult<Vec<(String, String)>> {
        let entries = audit_entry::table.order(audit_entry::id).select((audit_entry::subject, audit_entry::event));
        self.database.transaction(|tx| entries.load(tx))
    }

    /// The database, for transactions of another kind.
    pub fn database(&self) -> &Database {
        &self.database
    }
}
