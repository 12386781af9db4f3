//! From the outcome of an attempt and its number to what happens next; pure, so that it can be tested by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{TaskError, Verdict};
use crate::state::State;
use crate::task::MAX_DELAY_SECS;
use crate::when_dead::WhenDead;

/// How the interval between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The growth.
    pub shape: BackoffShape,
    /// The longest interval; `None` is ten years.
    pub cap: Option<Duration>,
    /// Up to this share of the interval is added at random, in percent (0 to 100), so that failures do not return in step.
    pub jitter_percent: u8,
}

/// The growth of the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackoffShape {
    /// Always the base interval, as in the Java ancestor.
    Fixed,
    /// Attempt n waits n times the base.
    Linear,
    /// Attempt n waits 2^(n-1) times the base.
    Exponential,
}

impl Backoff {
    /// Always the base interval, without jitter.
    pub const FIXED: Backoff = Backoff { shape: BackoffShape::Fixed, cap: None, jitter_percent: 0 };

    /// The wait after failed attempt number `attempt` (from 1). `chance`, from 0 to 1, draws the jitter.
    ///
    /// Never overflows: the result is at most the cap, or ten years, plus the jitter of that; and at least `base`, unless that is
    /// longer than ten years.
    pub fn interval(&self, base: Duration, attempt: u32, chance: f64) -> Duration {
        let longest = Duration::from_secs(MAX_DELAY_SECS);
        let limit = self.cap.map_or(longest, |cap| cap.max(base)).min(longest);
        let grown = match self.shape {
            BackoffShape::Fixed => base,
            BackoffShape::Linear => base.saturating_mul(attempt.max(1)),
            BackoffShape::Exponential => {
                let doublings = attempt.saturating_sub(1).min(31);
                base.saturating_mul(1 << doublings)
            }
        };
        let interval = grown.min(limit);
        let share = f64::from(self.jitter_percent.min(100)) / 100.0 * chance.clamp(0.0, 1.0);
        interval.saturating_add(interval.mul_f64(share))
    }
}

/// The retry policy of one stored row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Base interval.
    pub every: Duration,
    /// Growth of the interval.
    pub backoff: Backoff,
    /// Attempts before the task is dead; `None` retries until it succeeds.
    pub max_attempts: Option<u32>,
}

/// What the settlement of an attempt writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// State succeeded.
    Succeed,
    /// State failed; due again after this time, counted from the settlement.
    Retry(Duration),
    /// State dead, or skipped where the row's ordering key goes on without it.
    GiveUp,
    /// State failed, without an attempt; due again after this time.
    Defer(Duration),
}

/// A row whose lease has ended without a settlement, as far as it decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Attempts charged so far, the lost one included.
    pub execute_times: i64,
    /// Attempts before it is given up; `None` retries until it succeeds.
    pub max_execute_times: Option<i64>,
    /// How many leases it has lost in a row, this one included.
    pub lost_times: i64,
    /// What becomes of its ordering key when it is given up; `None` for a row without one.
    pub when_dead: Option<WhenDead>,
}

/// Decides which state a rescue gives a row: cancelled, given up, or failed and so tried again.
pub fn after_loss(loss: &Loss, crash_budget: u32) -> State {
    let used_up = loss.max_execute_times.is_some_and(|most| loss.execute_times >= most);
    if loss.cancel_requested {
        State::Cancelled
    } else if used_up || loss.lost_times >= i64::from(crash_budget) {
        WhenDead::given_up(loss.when_dead)
    } else {
        State::Failed
    }
}

/// Decides what follows an attempt.
///
/// `attempt` is the number of the attempt just made, from 1; `chance` (0 to 1) draws the jitter.
pub fn decide(outcome: &Result<(), TaskError>, attempt: u32, policy: &RetryPolicy, chance: f64) -> Decision {
    let Err(error) = outcome else { return Decision::Succeed };
    let used_up = policy.max_attempts.is_some_and(|most| attempt >= most);
    match error.verdict() {
        Verdict::Defer => Decision::Defer(policy.every),
        Verdict::Permanent => Decision::GiveUp,
        _ if used_up => Decision::GiveUp,
        Verdict::RetryAfter(delay) => Decision::Retry(delay.min(Duration::from_secs(MAX_DELAY_SECS))),
        Verdict::Retry | Verdict::Interrupted => {
            Decision::Retry(policy.backoff.interval(policy.every, attempt, chance))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy(max_attempts: Option<u32>) -> RetryPolicy {
        RetryPolicy { every: MINUTE, backoff: Backoff::FIXED, max_attempts }
    }

    #[test]
    fn the_interval_stays_within_cap_and_jitter_at_any_attempt() {
        for shape in [BackoffShape::Fixed, BackoffShape::Linear, BackoffShape::Exponential] {
            let backoff = Backoff { shape, cap: Some(Duration::from_secs(3600)), jitter_percent: 20 };
            for attempt in [0, 1, 2, 3, 31, 32, 33, 64, 1_000_000, u32::MAX] {
                assert!(backoff.interval(MINUTE, attempt, 0.0) >= MINUTE);
                assert!(backoff.interval(MINUTE, attempt, 1.0) <= Duration::from_secs(4320));
            }
            let open = Backoff { shape, cap: None, jitter_percent: 100 };
            assert!(open.interval(Duration::MAX, u32::MAX, 1.0) <= Duration::from_secs(2 * MAX_DELAY_SECS));
        }
    }

    #[test]
    fn linear_and_exponential_grow_as_named() {
        let linear = Backoff { shape: BackoffShape::Linear, ..Backoff::FIXED };
        let exponential = Backoff { shape: BackoffShape::Exponential, ..Backoff::FIXED };
        assert_eq!(linear.interval(MINUTE, 3, 0.5), 3 * MINUTE);
        assert_eq!(exponential.interval(MINUTE, 1, 0.5), MINUTE);
        assert_eq!(exponential.interval(MINUTE, 4, 0.5), 8 * MINUTE);
    }

    #[test]
    fn attempts_used_up_means_dead_and_not_one_sooner() {
        let failed = Err(TaskError::message("no"));
        assert_eq!(decide(&failed, 2, &policy(Some(3)), 0.0), Decision::Retry(MINUTE));
        assert_eq!(decide(&failed, 3, &policy(Some(3)), 0.0), Decision::GiveUp);
        assert_eq!(decide(&failed, u32::MAX, &policy(None), 0.0), Decision::Retry(MINUTE));
    }

    #[test]
    fn a_lost_row_is_given_up_when_its_budget_or_its_attempts_are_used_up_unless_somebody_wants_it_cancelled() {
        let loss = Loss {
            cancel_requested: false,
            execute_times: 1,
            max_execute_times: Some(2),
            lost_times: 1,
            when_dead: Some(WhenDead::Skip),
        };
        assert_eq!(after_loss(&loss, 5), State::Failed);
        assert_eq!(after_loss(&loss, 1), State::Skipped);
        assert_eq!(after_loss(&Loss { execute_times: 2, ..loss }, 5), State::Skipped);
        assert_eq!(after_loss(&Loss { execute_times: 2, when_dead: Some(WhenDead::Park), ..loss }, 5), State::Dead);
        assert_eq!(after_loss(&Loss { lost_times: 5, when_dead: None, ..loss }, 5), State::Dead);
        assert_eq!(after_loss(&Loss { cancel_requested: true, lost_times: 5, ..loss }, 5), State::Cancelled);
    }

    #[test]
    fn deliberate_words_are_heard() {
        assert_eq!(decide(&Err(TaskError::permanent("no")), 1, &policy(None), 0.0), Decision::GiveUp);
        let later = Err(TaskError::retry_after(Duration::from_millis(5), "busy"));
        assert_eq!(decide(&later, 1, &policy(None), 0.0), Decision::Retry(Duration::from_millis(5)));
        assert_eq!(decide(&later, 1, &policy(Some(1)), 0.0), Decision::GiveUp);
        assert_eq!(decide(&Ok(()), 1, &policy(Some(1)), 0.0), Decision::Succeed);
    }
}
