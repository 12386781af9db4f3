//! The states of a task and the only legal transitions between them; every other module asks here.

use std::fmt;

/// The state of a stored task, with the code its row carries in the column `state`.
///
/// Codes 0 to 3 are those of the table's Java ancestor, because people read this column with SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum State {
    /// Waits to be claimed, not before `next_execute_time`.
    Pending = 0,
    /// Leased to one node, which runs it or is about to.
    Running = 1,
    /// Ran to its end. Only retention touches it again.
    Succeeded = 2,
    /// The last attempt failed; it will be retried at `next_execute_time`.
    Failed = 3,
    /// Given up: attempts used up, a permanent error, or arguments that cannot be decoded. Needs a person.
    Dead = 4,
    /// Waits for predecessors or children.
    Blocked = 5,
    /// Stopped on request.
    Cancelled = 6,
    /// Given up, or not run at all, because a policy, a guard or a predecessor's outcome said so. Nobody is asked.
    Skipped = 7,
}

impl State {
    /// Every state, in the order of the codes.
    pub const ALL: [State; 8] = [
        State::Pending,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Dead,
        State::Blocked,
        State::Cancelled,
        State::Skipped,
    ];

    /// The code stored in the column `state`.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The state of a stored code, or `None` for a code no version of this library writes.
    pub fn from_code(code: i64) -> Option<State> {
        Self::ALL.into_iter().find(|state| i64::from(state.code()) == code)
    }

    /// The name the views show, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Dead => "dead",
            State::Blocked => "blocked",
            State::Cancelled => "cancelled",
            State::Skipped => "skipped",
        }
    }

    /// Whether a claim may take a row in this state once it is due.
    pub const fn is_claimable(self) -> bool {
        matches!(self, State::Pending | State::Failed)
    }

    /// Whether the row is finished, so that only retention touches it again.
    pub const fn is_finished(self) -> bool {
        matches!(self, State::Succeeded | State::Cancelled | State::Skipped)
    }

    /// Where `cause` leads from this state, or `None` where that is not legal.
    ///
    /// This is the whole state machine. `docs/state-machine.md` draws it; the stores' statements are tested against it.
    pub const fn after(self, cause: Cause) -> Option<State> {
        use Cause::*;
        match (self, cause) {
            (State::Pending | State::Failed, Claim) => Some(State::Running),
            (State::Running, Succeed) => Some(State::Succeeded),
            (State::Running, Retry | Defer) => Some(State::Failed),
            (State::Running, GiveUp) => Some(State::Dead),
            (State::Running, Release) => Some(State::Pending),
            (State::Running, Rescue | ReleaseFailed) => Some(State::Failed),
            (State::Running, RescueTooOften) => Some(State::Dead),
            (State::Running | State::Pending | State::Failed | State::Dead | State::Blocked, Cancel) => {
                Some(State::Cancelled)
            }
            (State::Dead | State::Failed | State::Cancelled, OperatorRetry) => Some(State::Pending),
            (State::Dead | State::Failed, MarkSucceeded) => Some(State::Succeeded),
            (State::Blocked, Unblock) => Some(State::Pending),
            (State::Blocked | State::Pending | State::Running, Skip) => Some(State::Skipped),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a task changes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A node took the due row and leased it.
    Claim,
    /// The attempt returned without an error.
    Succeed,
    /// The attempt failed and another one follows.
    Retry,
    /// The attempt failed and none follows.
    GiveUp,
    /// This build cannot run the row although a newer one can; it is put back without an attempt, with the reason.
    Defer,
    /// The row was not started, or stopped by a shutdown; it is put back without an attempt.
    Release,
    /// As `Release`, of a row that failed before: its error stays visible.
    ReleaseFailed,
    /// The lease ended without a settlement.
    Rescue,
    /// The lease ended without a settlement, and the crash budget or the attempts are used up with it.
    RescueTooOften,
    /// Somebody asked for it. A running task gets there when it stops, not before.
    Cancel,
    /// A person puts it back.
    OperatorRetry,
    /// A person did its work by hand.
    MarkSucceeded,
    /// The last predecessor or child settled.
    Unblock,
    /// A guard or a predecessor's outcome said so; or the attempt failed, or the lease ended, where the row would be given up,
    /// and its ordering key goes on without it ([`WhenDead::Skip`](crate::when_dead::WhenDead::Skip)).
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_and_round_trip() {
        for (code, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(i64::from(state.code()), code as i64);
            assert_eq!(State::from_code(code as i64), Some(state));
        }
        assert_eq!(State::from_code(8), None);
        assert_eq!(State::from_code(-1), None);
    }

    #[test]
    fn only_the_claim_leads_to_running() {
        use Cause::*;
        let causes = [
            Claim,
            Succeed,
            Retry,
            GiveUp,
            Defer,
            Release,
            ReleaseFailed,
            Rescue,
            RescueTooOften,
            Cancel,
            OperatorRetry,
            MarkSucceeded,
            Unblock,
            Skip,
        ];
        for state in State::ALL {
            for cause in causes {
                if state.after(cause) == Some(State::Running) {
                    assert_eq!(cause, Claim);
                    assert!(state.is_claimable());
                }
                if state.is_finished() && cause != OperatorRetry {
                    assert_eq!(state.after(cause), None, "{state} is final, yet {cause:?} moves it");
                }
            }
        }
    }
}
