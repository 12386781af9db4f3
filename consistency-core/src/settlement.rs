//! What is written when a node lets go of a row, for every way it can do so.

use std::time::Duration;

use crate::new_task::NewTask;
use crate::retry::Decision;
use crate::state::State;
use crate::store::{ClaimedTask, LeaseId};
use crate::when_dead::WhenDead;

/// What a settlement does to the count of losses in a row, `lost_times`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losses {
    /// Leaves it alone: nothing was tried.
    Kept = 0,
    /// Adds one: the attempt has no outcome.
    OneMore = 1,
    /// It starts again.
    Cleared = 2,
}

/// What is written when a node lets go of a row.
///
/// Where the row asks for cancellation, `Failed` and `Pending` become `Cancelled`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// Key and fence.
    pub lease: LeaseId,
    /// The new state.
    pub state: State,
    /// Due again after this time; `None` leaves `next_execute_time` alone.
    pub due_in: Option<Duration>,
    /// Added to `execute_times`.
    pub charge: i64,
    /// What becomes of the count of losses in a row.
    pub losses: Losses,
    /// The error text. `None` clears it after success and leaves it alone otherwise.
    pub error: Option<String>,
    /// Rows to store with it.
    pub follow_ups: Vec<NewTask>,
}

impl Settlement {
    /// When a row is due because of it: itself again, or one stored with it.
    pub fn next_due(&self) -> Option<Duration> {
        let follow_up = self.follow_ups.iter().map(|row| Duration::from_micros(row.delay_us.unsigned_abs())).min();
        self.due_in.into_iter().chain(follow_up).min()
    }
}

/// The answer to one settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is in the table.
    Written,
    /// The row is no longer ours; nothing was written.
    Lost,
}

impl ClaimedTask {
    /// The settlement of an attempt that was made.
    pub fn settled(&self, decision: Decision, error: Option<String>, follow_ups: Vec<NewTask>) -> Settlement {
        let ran = self.charge_when_run();
        let (state, due_in, charge, losses) = match decision {
            Decision::Succeed => (State::Succeeded, None, ran, Losses::Cleared),
            Decision::Retry(delay) => (State::Failed, Some(delay), ran, Losses::Cleared),
            Decision::GiveUp => (WhenDead::given_up(self.when_dead), None, ran, Losses::Cleared),
            Decision::Defer(delay) => (State::Failed, Some(delay), self.charge_when_released(), Losses::Kept),
        };
        Settlement { lease: self.lease, state, due_in, charge, losses, error, follow_ups }
    }

    /// The settlement that puts a row back that was not started.
    pub fn released(&self) -> Settlement {
        Settlement {
            lease: self.lease,
            state: if self.failed_before { State::Failed } else { State::Pending },
            due_in: None,
            charge: self.charge_when_released(),
            losses: Losses::Kept,
            error: None,
            follow_ups: Vec::new(),
        }
    }

    /// The settlement of an attempt whose body succeeded and whose transaction was undone by a passing fault: no attempt is
    /// charged, but the row says what happened, and how often in a row.
    pub fn undone(&self, due_in: Duration, error: String) -> Settlement {
        let (state, losses) = (State::Failed, Losses::OneMore);
        Settlement { state, due_in: Some(due_in), losses, error: Some(error), ..self.released() }
    }

    /// The settlement of a row whose cancellation was asked for before it started.
    pub fn cancelled(&self) -> Settlement {
        Settlement {
            lease: self.lease,
            state: State::Cancelled,
            due_in: None,
            charge: self.charge_when_released(),
            losses: Losses::Cleared,
            error: None,
            follow_ups: Vec::new(),
        }
    }
}
