//! A hotel's booking service: functions that take a connection and an outbox, so that a test can give them its own.
//!
//! `service` holds the functions and `mail` the outside world; `tests/service.rs` shows how to test them.

#[cfg(feature = "async-postgres")]
pub mod async_service;
pub mod error;
pub mod mail;
pub mod schema;
pub mod service;
