//! What the tests share: fresh databases, events to wait for, the contract every store keeps, and the smallest store.

// A panic is how a test speaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any_connection;
#[cfg(feature = "async")]
pub mod async_stage;
pub mod backend;
pub mod contract;
pub mod database;
pub mod effects;
pub mod for_each;
mod memory_row;
pub mod memory_store;
pub mod recorder;
pub mod scene;
pub mod stage;
pub mod store_under_test;
pub mod task_row;
pub mod worker_process;
