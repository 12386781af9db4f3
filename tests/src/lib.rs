//! What the tests share: fresh databases, events to wait for, the contract every store keeps, and the smallest store.

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any_connection;
#[cfg(feature = "async")]
pub mod async_stage;
pub mod backend;
pub mod bulk;
pub mod chains;
pub mod contract;
pub mod database;
pub mod effects;
pub mod faults;
pub mod for_each;
pub mod hostile;
pub mod length;
mod memory_row;
pub mod memory_store;
pub mod missing;
pub mod model;
pub mod recorder;
pub mod refusals;
pub mod scene;
pub mod seed;
pub mod stage;
pub mod store_under_test;
pub mod task_row;
pub mod touched;
pub mod worker_process;
