//! The machine's two clocks: how long ago a moment was, by the one that says more; and whether the one that shows the time
//! jumped ahead, so that nobody takes leases for ended which have only been overtaken.
//!
//! Leases end by the database's clock. On SQLite that is the machine's, and when it is set an hour ahead, all leases are over at
//! once, also of processes that are alive, this one among them. Their next heartbeat renews them; until then a rescue has to
//! wait. Where the database has a clock of its own the wait is not needed and does no harm: the other nodes go on.

use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// A moment by both clocks: the monotonic one, which may stand still while the machine is suspended, and the one that shows the
/// time, which may be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    time: SystemTime,
}

impl Moment {
    /// This moment.
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now() }
    }

    /// How long after it `now` is, by the clock that says more: no less than it really is, unless both stood still.
    pub(crate) fn until(self, now: Moment) -> Duration {
        now.at.saturating_duration_since(self.at).max(now.time.duration_since(self.time).unwrap_or(Duration::ZERO))
    }

    /// The later one of the two.
    pub(crate) fn later(self, other: Moment) -> Moment {
        if other.at >= self.at { other } else { self }
    }

    /// So much later by the monotonic clock, and by so many seconds on the other one.
    #[cfg(test)]
    pub(crate) fn after(self, monotonic: Duration, wall: i64) -> Moment {
        let by = Duration::from_secs(wall.unsigned_abs());
        Moment { at: self.at + monotonic, time: if wall < 0 { self.time - by } else { self.time + by } }
    }
}

/// A jump of this part of a lease is worth a wait: every heartbeat leaves at least half a lease.
const JUMPS_PER_LEASE: u32 = 4;

/// The machine's clock beside the monotonic one, which does not jump.
#[derive(Debug)]
pub(crate) struct Clock {
    lease: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    time: SystemTime,
    /// When the last jump was noticed.
    jumped: Option<Instant>,
}

impl Clock {
    /// The clock as it goes now, for leases of this length.
    pub(crate) fn new(lease: Duration) -> Self {
        let seen = Seen { at: Instant::now(), time: SystemTime::now(), jumped: None };
        Self { lease, seen: Mutex::new(seen) }
    }

    /// Notes how the clock goes. Call it often: a jump counts from when it is noticed.
    pub(crate) fn observe(&self) {
        self.is_steady();
    }

    /// Whether the clock has not jumped ahead within the last length of a lease.
    pub(crate) fn is_steady(&self) -> bool {
        self.is_steady_at(Instant::now(), SystemTime::now())
    }

    fn is_steady_at(&self, now: Instant, time: SystemTime) -> bool {
        let mut seen = self.seen.lock();
        let expected = seen.time.checked_add(now.saturating_duration_since(seen.at)).unwrap_or(time);
        let jump = time.duration_since(expected).unwrap_or(Duration::ZERO);
        if jump > self.lease / JUMPS_PER_LEASE {
            tracing::warn!(
                ?jump,
                "the machine's clock was set ahead; leases that seem to have ended are given time to be renewed"
            );
            seen.jumped = Some(now);
        }
        (seen.at, seen.time) = (now, time);
        seen.jumped.is_none_or(|jumped| now.saturating_duration_since(jumped) >= self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);
    const HOUR: Duration = Duration::from_secs(3600);

    fn begun(clock: &Clock) -> (Instant, SystemTime) {
        let seen = clock.seen.lock();
        (seen.at, seen.time)
    }

    /// What is answered after so many seconds, with the clock so far ahead or behind.
    fn steady(clock: &Clock, start: (Instant, SystemTime), after: u64, ahead: Duration, behind: Duration) -> bool {
        let after = Duration::from_secs(after);
        clock.is_steady_at(start.0 + after, start.1 + after + ahead - behind)
    }

    #[test]
    fn a_jump_ahead_is_waited_out_for_one_lease() {
        let clock = Clock::new(LEASE);
        let start = begun(&clock);
        let steady = |after, ahead| steady(&clock, start, after, ahead, Duration::ZERO);
        assert!(steady(7200, Duration::ZERO), "however long nobody looked");
        assert!(!steady(7203, HOUR));
        assert!(!steady(7212, HOUR));
        assert!(steady(7213, HOUR));
        assert!(!steady(7214, 2 * HOUR), "again");
    }

    #[test]
    fn a_jump_back_and_a_slow_drift_are_no_reason_to_wait() {
        let clock = Clock::new(LEASE);
        let start = begun(&clock);
        assert!(steady(&clock, start, 1, Duration::ZERO, HOUR));
        let drift = |after: u64| Duration::from_secs(after / 10);
        assert!((2..100).all(|after| steady(&clock, start, after, drift(after), HOUR)));
    }
}
