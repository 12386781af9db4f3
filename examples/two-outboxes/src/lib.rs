//! One process with two databases: orders on one, the audit trail on the other, and an outbox on each.
//!
//! No transaction spans both. What happens to an order is carried to the trail by a task of the orders' outbox, whose key makes
//! the trail's outbox take it once, however often it is carried.

pub mod audit;
pub mod database;
pub mod orders;
