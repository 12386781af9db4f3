//! A database with its outbox. They travel together, so that nobody opens a transaction on the one with the outbox of another.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use consistency_diesel::builder::OutboxBuilder;
use consistency_diesel::prelude::*;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;

/// A SQLite file, a connection to it, and the outbox that is in it.
pub struct Database {
    /// One is enough: a SQLite file has one writer at a time.
    conn: Mutex<SqliteConnection>,
    outbox: Outbox,
}

impl Database {
    /// Opens `file`, creates `tables` where they are missing, and starts the outbox. A real application would use migrations.
    ///
    /// # Errors
    /// When the file cannot be opened, or the outbox does not start.
    pub fn open(file: &str, tables: &str, set_up: impl FnOnce(OutboxBuilder) -> OutboxBuilder) -> Result<Self> {
        let mut conn = SqliteConnection::establish(file).with_context(|| format!("cannot open {file}"))?;
        conn.batch_execute("PRAGMA busy_timeout = 10000;")?;
        conn.batch_execute(tables).with_context(|| format!("cannot create the tables in {file}"))?;
        let outbox = set_up(Outbox::builder(format!("sqlite://{file}")).migrate()).start_blocking()?;
        Ok(Self { conn: Mutex::new(conn), outbox })
    }

    /// Runs `work` in a transaction: what it writes and what it enqueues is committed together, or not at all.
    ///
    /// # Errors
    /// As [`Outbox::transaction`](Transact::transaction).
    pub fn transaction<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut TaskTx<'_, SqliteConnection>) -> Result<T, E>,
    ) -> Result<T, E> {
        // A panic in an earlier transaction rolled it back; the connection is as good as before.
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        self.outbox.transaction(&mut *conn, work)
    }

    /// Stops running tasks; those that run are waited for.
    pub fn close(&self) {
        self.outbox.shutdown_blocking();
    }
}
