//! What becomes of an ordering key when a row of it is given up, and the one place that says which state that row takes.

use crate::state::State;

/// What becomes of an ordering key when a row of it is given up.
///
/// A row is given up when its attempts are used up, after a permanent error, when its arguments cannot be decoded, and when
/// it has lost too many leases in a row. Stored in the column `order_policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum WhenDead {
    /// The row is dead and holds up the rest of its key until a person mends it (code 0).
    #[default]
    Block = 0,
    /// The row is dead and waits for a person; the key flows on without it (code 1). Retried by a person, it runs as a row of
    /// its key again, never beside another one, but out of the order of the commits.
    Park = 1,
    /// The row ends skipped, with its error kept, and the key flows on; nobody is asked (code 2).
    Skip = 2,
}

impl WhenDead {
    /// Every policy, in the order of the codes.
    pub const ALL: [WhenDead; 3] = [WhenDead::Block, WhenDead::Park, WhenDead::Skip];

    /// The code stored in the column `order_policy`.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The policy of a stored code, or `None` for a code no version of this library writes.
    pub fn from_code(code: i64) -> Option<WhenDead> {
        Self::ALL.into_iter().find(|policy| i64::from(policy.code()) == code)
    }

    /// The state a given up row takes; `policy` is `None` for a row without an ordering key.
    pub const fn given_up(policy: Option<WhenDead>) -> State {
        match policy {
            None | Some(WhenDead::Block | WhenDead::Park) => State::Dead,
            Some(WhenDead::Skip) => State::Skipped,
        }
    }

    /// Whether a row in `state` keeps the later rows of its key from being claimed.
    pub const fn holds_key(self, state: State) -> bool {
        match state {
            State::Dead => matches!(self, WhenDead::Block),
            _ => !state.is_finished(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Cause;

    #[test]
    fn codes_are_stable_and_round_trip() {
        for (code, policy) in WhenDead::ALL.into_iter().enumerate() {
            assert_eq!(i64::from(policy.code()), code as i64);
            assert_eq!(WhenDead::from_code(code as i64), Some(policy));
        }
        assert_eq!(WhenDead::from_code(3), None);
    }

    #[test]
    fn what_is_given_up_goes_where_the_state_machine_allows_and_blocks_only_where_asked_to() {
        for policy in [None].into_iter().chain(WhenDead::ALL.map(Some)) {
            let state = WhenDead::given_up(policy);
            let legal = [Cause::GiveUp, Cause::RescueTooOften, Cause::Skip].map(|cause| State::Running.after(cause));
            assert!(legal.contains(&Some(state)), "{policy:?}: {state}");
            let holds = policy.is_some_and(|policy| policy.holds_key(state));
            assert_eq!(holds, policy == Some(WhenDead::Block));
        }
    }
}
