//! The Diesel store by itself, for the contract suite.
//!
//! `consistency-diesel` shows its store to nobody, and need not: applications hold an `Outbox`. The suite asks the store
//! itself, so its modules are compiled here once more from the same files.

#![forbid(unsafe_code)]
// The modules are checked where they belong; here only a part of each is used.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, elided_lifetimes_in_paths, clippy::all)]

#[path = "../../../consistency-diesel/src/connection.rs"]
pub mod connection;
#[path = "../../../consistency-diesel/src/dialect.rs"]
mod dialect;
#[path = "../../../consistency-diesel/src/error.rs"]
mod error;
#[path = "../../../consistency-diesel/src/insert.rs"]
mod insert;
#[path = "../../../consistency-diesel/src/operations.rs"]
mod operations;
#[path = "../../../consistency-diesel/src/pool.rs"]
mod pool;
#[path = "../../../consistency-diesel/src/proof.rs"]
mod proof;
#[path = "../../../consistency-diesel/src/rows.rs"]
mod rows;
#[path = "../../../consistency-diesel/src/statement.rs"]
mod statement;
#[path = "../../../consistency-diesel/src/store.rs"]
mod store;
#[path = "../../../consistency-diesel/src/task_tx.rs"]
mod task_tx;
#[path = "../../../consistency-diesel/src/transaction.rs"]
mod transaction;
#[path = "../../../consistency-diesel/src/write_gate.rs"]
mod write_gate;

use std::sync::Arc;
use std::time::Duration;

use consistency_core::store::Store;

/// The store on the database at `address`, as an outbox would open it: a file for SQLite, else a URL.
pub fn open<C: connection::TaskConnection>(address: &str, busy_wait: Duration) -> Arc<dyn Store> {
    let connections = pool::Connections::<C>::open(address, 4, busy_wait);
    let gate = Arc::new(write_gate::WriteGate::new(C::DIALECT.kind, busy_wait));
    Arc::new(store::DieselStore::new(connections, 4, busy_wait, gate))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
