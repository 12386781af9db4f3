//! What goes wrong around the outbox, made by the tests: processes struck at any point of a task's path, servers that fall,
//! what stands between them and their clients; and the check of what is left.

pub mod at_points;
pub mod clock;
pub mod crash;
pub mod fault_node;
pub mod galera;
pub mod history;
pub mod in_process;
pub mod invariant;
pub mod load;
pub mod orders;
pub mod outage_load;
pub mod pgbouncer;
pub mod plan;
pub mod programs;
pub mod proxy;
mod running_checks;
pub mod sabotage;
pub mod server;
pub mod sessions;
pub mod setup;
pub mod sitting;
pub mod standby;
mod storing_checks;
pub mod strike;
pub mod switch;
