//! Rows taken back because their lease has ended: as a rescue finds them, and as it leaves them.

use std::time::Duration;

use crate::retry::{Loss, after_loss};
use crate::state::State;

/// A row whose lease has ended, as a rescue finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The row's primary key.
    pub id: i64,
    /// Public handle.
    pub task_id: String,
    /// The stored name.
    pub method_name: String,
    /// The node that lost it.
    pub node: String,
    /// What decides about it.
    pub loss: Loss,
}

impl Expired {
    /// The row as the rescue leaves it.
    pub fn rescued(self, crash_budget: u32) -> Rescued {
        let Expired { id, task_id, method_name, node, loss } = self;
        let state = after_loss(&loss, crash_budget);
        Rescued { id, task_id, method_name, node, state, lost_times: loss.lost_times }
    }
}

/// A row whose lease had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// The row's primary key.
    pub id: i64,
    /// Public handle.
    pub task_id: String,
    /// The stored name.
    pub method_name: String,
    /// The node that lost it.
    pub node: String,
    /// Its state now: failed, dead, skipped or cancelled.
    pub state: State,
    /// How many leases it has lost in a row.
    pub lost_times: i64,
}

/// How long a row waits after its `lost_times`th lost lease in a row: not at all after the first, then at random within a
/// bound that doubles. A task that kills its process shall not always take the same neighbours with it.
pub fn rescue_pause(lost_times: i64) -> Duration {
    match u32::try_from(lost_times) {
        Ok(0 | 1) | Err(_) => Duration::ZERO,
        Ok(lost) => Duration::from_secs(1 << lost.min(6)).mul_f64(rand::random_range(0.0..=0.5)),
    }
}
