//! The orders, their database and its two tasks.

use std::sync::Arc;

use anyhow::Result;
use consistency_diesel::prelude::*;
use diesel::prelude::*;

use crate::audit::Audit;
use crate::database::Database;

diesel::table! {
    /// The orders.
    orders (id) {
        /// Its number.
        id -> BigInt,
        /// What was ordered.
        sku -> Text,
        /// Whether it has left.
        shipped -> Bool,
    }
}

const TABLES: &str = "CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY NOT NULL, sku TEXT NOT NULL, shipped BOOLEAN NOT NULL DEFAULT FALSE)";

/// What this outbox runs. All tasks of the program are known to both outboxes; this is what keeps them apart.
pub const TASKS: [&str; 2] = ["order.ship", "order.report"];

/// Ships an order and enqueues the report of it, in one transaction with its own completion.
#[consistency_task(name = "order.ship", retry_every = "1s")]
pub fn ship(order_id: i64, #[tx] tx: &mut TaskTx<SqliteConnection>) -> QueryResult<()> {
    diesel::update(orders::table.find(order_id)).set(orders::shipped.eq(true)).execute(tx)?;
    tx.enqueue(report(order_id, "shipped").ordered_by(subject(order_id)))?;
    Ok(())
}

/// Carries an event to the audit trail, in the other database.
///
/// It may do so twice, if this process dies before its own row says that it has. The key is the same at every attempt, so
/// that the trail's outbox finds the event there already.
#[consistency_task(name = "order.report", retry_every = "1s")]
pub fn report(
    order_id: i64,
    event: &str,
    #[inject] audit: &Arc<Audit>,
    #[context] cx: &TaskContext,
) -> QueryResult<()> {
    audit.note(&subject(order_id), event, cx.idempotency_key()).map(drop)
}

/// What the trail calls an order; also the key that keeps the reports of one order in order.
fn subject(order_id: i64) -> String {
    format!("order {order_id}")
}

/// The orders' database.
pub struct Orders {
    database: Database,
}

impl Orders {
    /// Opens the database in `file`, and starts its outbox. Events go to `audit`.
    ///
    /// # Errors
    /// When it cannot be opened, or its outbox does not start.
    pub fn open(file: &str, audit: Arc<Audit>) -> Result<Self> {
        let database = Database::open(file, TABLES, |outbox| outbox.only(TASKS).inject(audit))?;
        Ok(Self { database })
    }

    /// Stores an order with the task that ships it and the report of it; returns its number.
    ///
    /// # Errors
    /// The database's; nothing is stored then.
    pub fn place(&self, sku: &str) -> QueryResult<i64> {
        self.database.transaction(|tx| {
            let order_id =
                diesel::insert_into(orders::table).values(orders::sku.eq(sku)).returning(orders::id).get_result(tx)?;
            tx.enqueue(report(order_id, "placed").ordered_by(subject(order_id)))?;
            tx.enqueue(ship(order_id))?;
            Ok(order_id)
        })
    }

    /// The database, for transactions of another kind.
    pub fn database(&self) -> &Database {
        &self.database
    }
}
