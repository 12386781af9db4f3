//! The shop: orders, stock and parcels, as ordinary Diesel code that knows nothing of tasks.

pub(crate) mod schema;
mod statements;
mod tables;

use std::collections::HashSet;

use diesel::connection::Connection;
use diesel::result::QueryResult;

use crate::orders::Order;

/// What the shop does on a connection, whatever the database. `statements` holds the one text of it.
pub(crate) trait Shop: Connection {
    /// Connections that store orders side by side.
    ///
    /// Every order is a transaction of its own, and COMMIT waits for the disk: on PostgreSQL and MariaDB a few connections
    /// share that wait. SQLite has one writer, so more would only wait for each other.
    const PRODUCERS: usize;

    /// Creates the shop's tables where they are missing, and readies the connection.
    fn set_up(&mut self) -> QueryResult<()>;

    /// The numbers of all stored orders.
    fn order_numbers(&mut self) -> QueryResult<HashSet<i64>>;

    /// Stores an open order.
    fn insert_order(&mut self, order: &Order) -> QueryResult<()>;

    /// Completes the order's document. `None` when it is not open: missing, or finished before.
    fn complete_document(&mut self, order_no: i64) -> QueryResult<Option<Document>>;

    /// Takes what the document says out of the stock.
    fn book_stock(&mut self, document: &Document) -> QueryResult<()>;

    /// Hands the goods to the dispatch department and answers the parcel's number.
    fn dispatch_parcel(&mut self, document: &Document) -> QueryResult<String>;

    /// How many tasks of these names are in which state after how many attempts.
    fn task_counts(&mut self, names: &[&str]) -> QueryResult<Vec<TaskCount>>;

    /// Whether a task of these names has yet to run.
    fn has_unfinished_tasks(&mut self, names: &[&str]) -> QueryResult<bool>;
}

/// A completed document: what is to leave the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) order_no: i64,
    pub(crate) quantity: i32,
}

/// `count` tasks of one name are in `state` after `attempts` attempts each.
#[derive(Debug, Clone, PartialEq, Eq, diesel::Queryable)]
pub(crate) struct TaskCount {
    pub(crate) name: String,
    pub(crate) state: i16,
    pub(crate) attempts: i32,
    pub(crate) count: i64,
}
