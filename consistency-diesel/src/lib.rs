//! Transactional outbox for Diesel: annotated functions are stored with your transaction and run until they succeed.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(
    feature = "sqlite",
    feature = "postgres",
    feature = "mysql",
    feature = "async-postgres",
    feature = "async-mysql"
)))]
compile_error!(
    "`consistency-diesel` needs a database: enable the feature `sqlite`, `postgres`, `mysql`, `async-sqlite`, `async-postgres` or `async-mysql`"
);

mod apart;
mod arrays;
#[cfg(feature = "async")]
pub mod async_connection;
#[cfg(feature = "async")]
pub mod async_transact;
#[cfg(feature = "async")]
pub mod async_tx;
pub mod blocking_connection;
pub mod blocking_tx;
pub mod builder;
mod busy;
mod callers_connection;
mod carrier;
mod claims;
mod compound;
pub mod connection;
mod database;
mod dialect;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod diesel_connections;
#[cfg(feature = "async")]
mod driven;
pub mod error;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod given_pool;
mod insert;
mod insert_columns;
mod lists;
pub mod migrations;
#[cfg(not(feature = "async-postgres"))]
#[path = "no_notify.rs"]
mod notify;
#[cfg(feature = "async-postgres")]
mod notify;
mod open;
mod opened;
mod operations;
pub mod outbox;
mod own_transactions;
mod pool;
mod pooler;
#[cfg(feature = "mysql")]
mod prepared_transactions;
mod proof;
mod read_only;
mod rows;
mod savepoint;
mod set_up;
mod settle;
pub mod source;
mod stand_in;
mod statement;
mod store;
#[doc(hidden)]
pub mod store_access;
pub mod task_tx;
pub mod test_outbox;
#[cfg(feature = "async-postgres-rustls")]
pub mod tls;
pub mod transact;
mod transaction;
mod waiting;
#[doc(hidden)]
pub mod work;
pub mod world;
mod write_gate;

pub use consistency_core as core;
pub use consistency_macros::consistency_task;

/// What generated code reaches; not covered by semantic versioning.
#[doc(hidden)]
pub mod __private {
    pub use consistency_core::__private::*;
}

/// What most files that define or enqueue tasks need, with Diesel's own connections. Listed by hand, so that nothing arrives
/// unasked.
pub mod prelude {
    pub use crate::consistency_task;
    pub use crate::outbox::Outbox;
    pub use crate::task_tx::TaskTx;
    pub use crate::transact::Transact;
    pub use consistency_core::call::Call;
    pub use consistency_core::context::TaskContext;
    pub use consistency_core::enqueue::Receipt;
    pub use consistency_core::error::TaskError;
    // The task as a type, for `register::<ship>()` and `ship::NAME`.
    pub use consistency_core::task::Task;
    pub use consistency_core::when_dead::WhenDead;
}

/// As [`prelude`], with the connections of diesel-async: here `outbox.transaction(..)` takes an `async` closure.
#[cfg(feature = "async")]
pub mod async_prelude {
    pub use crate::async_transact::AsyncTransact;
    pub use crate::consistency_task;
    pub use crate::outbox::Outbox;
    pub use crate::task_tx::TaskTx;
    pub use consistency_core::call::Call;
    pub use consistency_core::context::TaskContext;
    pub use consistency_core::enqueue::Receipt;
    pub use consistency_core::error::TaskError;
    // The task as a type, for `register::<ship>()` and `ship::NAME`.
    pub use consistency_core::task::Task;
    pub use consistency_core::when_dead::WhenDead;
}

/// A duration in microseconds, as the statements take it.
fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A count, as the statements take it.
fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
