//! How long the dispatcher waits from one look to the next, and when it must rescue without one: pure, so that its promises
//! can be tested by themselves.
//!
//! A process is not told of rows another one commits; only looking finds them, and looking often costs statements. So
//! the wait follows the traffic: short after a look that found rows nobody here had announced, then doubling while
//! nothing is found, up to the poll interval. A row that comes after a silence is noticed about as late as the silence
//! was long, and never later than the poll interval, or a few of them when nothing has come for a long time.

use std::time::{Duration, Instant};

/// The wait after a look that found unannounced rows.
const SHORTEST: Duration = Duration::from_millis(20);
/// No wait is shorter: a wake-up raised meanwhile is taken in, and nothing spins.
const LEAST: Duration = Duration::from_micros(100);
/// As [`LEAST`], where a row is known to be due: that is what the coarsest of the databases' clocks can tell apart.
const LEAST_TO_DUE: Duration = Duration::from_millis(1);
/// After this many looks in a row that found nothing the node is at rest, and looks more rarely.
const LOOKS_TO_REST: u32 = 60;
/// The wait of a node at rest, in poll intervals; no longer than a lease, so that those of nodes like this one are seen before they end.
const REST_POLLS: u32 = 6;
/// Chance takes away up to one part in this many, so that several nodes do not look in step.
const JITTER_PART: u32 = 10;
/// A node without room for rows does not look, but takes back what others lost this often per lease all the same: another
/// node may have room.
const RESCUES_PER_LEASE: u32 = 4;
/// Or after this many poll intervals: who looks often wants to recover soon as well.
const RESCUE_POLLS: u32 = 3;

/// The longest wait of a node at rest.
pub(crate) fn rest_interval(poll_interval: Duration, lease: Duration) -> Duration {
    poll_interval.saturating_mul(REST_POLLS).min(lease).max(poll_interval)
}

/// The pace of one dispatcher.
#[derive(Debug)]
pub(crate) struct Pace {
    poll_interval: Duration,
    rescue_interval: Duration,
    /// The longest wait of a node at rest.
    rest_interval: Duration,
    /// Looks in a row that had no reason of their own and found nothing.
    silent_looks: u32,
    /// The wait to the next look when nothing calls for one sooner.
    wait: Duration,
    /// The next look has a reason of its own, so what it finds says nothing of other processes.
    announced: bool,
    leases_seen: Option<Instant>,
    rescue_failed: Option<Instant>,
}

impl Pace {
    /// The pace of a node that has not looked yet.
    pub(crate) fn new(poll_interval: Duration, lease: Duration) -> Self {
        let rescue_interval = (lease / RESCUES_PER_LEASE).min(poll_interval.saturating_mul(RESCUE_POLLS));
        Self {
            poll_interval,
            rescue_interval,
            rest_interval: rest_interval(poll_interval, lease),
            silent_looks: 0,
            wait: poll_interval,
            announced: false,
            leases_seen: None,
            rescue_failed: None,
        }
    }

    /// The next look's rows are known of: somebody woke us, the last look left them behind, or a rescue took them back.
    pub(crate) fn announced(&mut self) {
        self.announced = true;
        self.is_at_work();
    }

    /// Whether the wait after the next look may be that of a node at rest.
    pub(crate) fn may_rest(&self) -> bool {
        self.silent_looks.saturating_add(1) >= LOOKS_TO_REST
    }

    /// The node has work, whatever its looks find: it does not come to rest.
    pub(crate) fn is_at_work(&mut self) {
        self.silent_looks = 0;
        self.wait = self.wait.min(self.poll_interval);
    }

    /// The longest wait now.
    fn longest(&self) -> Duration {
        if self.silent_looks >= LOOKS_TO_REST { self.rest_interval } else { self.poll_interval }
    }

    /// Learns from a look whether rows come that nobody here announces.
    pub(crate) fn looked(&mut self, claimed: bool) {
        match (self.announced, claimed) {
            // A look with a reason of its own tells nothing, neither of rows nor of silence.
            (true, _) => {}
            (false, true) => {
                self.silent_looks = 0;
                self.wait = SHORTEST.min(self.poll_interval);
            }
            (false, false) => {
                self.silent_looks = self.silent_looks.saturating_add(1);
                self.wait = self.wait.saturating_mul(2).min(self.longest());
            }
        }
    }

    /// The wait to the next look, `next_due` being the time until the next row that was seen is due, or its lease ends.
    /// `chance`, from 0 to 1, draws the jitter.
    pub(crate) fn next_wait(&mut self, next_due: Option<Duration>, chance: f64) -> Duration {
        let wait = self.jittered(self.wait, chance);
        let to_due = next_due.map(|due| due.max(LEAST_TO_DUE)).filter(|due| *due < wait);
        self.announced = to_due.is_some();
        to_due.unwrap_or(wait).min(self.longest())
    }

    /// The wait when there is no room for rows and no look was made: a freed slot wakes us.
    pub(crate) fn wait_for_room(&mut self, chance: f64) -> Duration {
        self.announced = false;
        self.jittered(self.poll_interval, chance)
    }

    /// Whether a rescue is due although no look says so: there was none for long.
    pub(crate) fn rescue_is_due(&self, now: Instant) -> bool {
        self.leases_seen.is_none_or(|seen| now.saturating_duration_since(seen) >= self.rescue_interval)
    }

    /// Whether a rescue may be tried: the last one has not just failed. Claims need not wait for one that will fail again.
    pub(crate) fn may_rescue(&self, now: Instant) -> bool {
        self.rescue_failed.is_none_or(|failed| now.saturating_duration_since(failed) >= self.poll_interval)
    }

    /// Notes that a rescue has failed.
    pub(crate) fn rescue_failed(&mut self, now: Instant) {
        self.rescue_failed = Some(now);
    }

    /// Notes that a look or a rescue has seen which leases have ended.
    pub(crate) fn leases_seen(&mut self, now: Instant) {
        self.leases_seen = Some(now);
    }

    fn jittered(&self, wait: Duration, chance: f64) -> Duration {
        let jitter = (wait / JITTER_PART).mul_f64(chance.clamp(0.0, 1.0));
        wait.saturating_sub(jitter).max(LEAST).min(self.longest())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LEASE: Duration = Duration::from_secs(10);
    const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

    /// The waits after each of `claims`, without jitter and with nothing known of.
    fn waits<const N: usize>(pace: &mut Pace, claims: [bool; N]) -> [u128; N] {
        claims.map(|claimed| {
            pace.looked(claimed);
            pace.next_wait(None, 0.0).as_millis()
        })
    }

    #[test]
    fn an_idle_node_looks_once_per_poll_interval_from_the_start() {
        assert_eq!(waits(&mut Pace::new(SECOND, LEASE), [false; 4]), [1000; 4]);
    }

    #[test]
    fn a_node_that_finds_nothing_for_long_looks_more_rarely_until_it_is_woken_or_finds_a_row() {
        for (poll, lease, rest) in
            [(SECOND, LEASE, 6 * SECOND), (SECOND, 4 * SECOND, 4 * SECOND), (LEASE, SECOND, LEASE)]
        {
            let mut pace = Pace::new(poll, lease);
            let rested = |pace: &mut Pace| waits(pace, [false; 64]).map(u64::try_from).map(Result::unwrap);
            let before = rested(&mut pace);
            assert!(before[..59].iter().all(|wait| Duration::from_millis(*wait) == poll), "{before:?}");
            assert_eq!(Duration::from_millis(before[63]), rest);
            pace.announced();
            assert_eq!(waits(&mut pace, [false]), [poll.as_millis()], "woken");
            rested(&mut pace);
            assert_eq!(waits(&mut pace, [true, false]), [20, 40], "found");
            assert_eq!(pace.wait_for_room(0.0), poll);
        }
    }

    #[test]
    fn after_a_failed_rescue_none_is_tried_for_a_poll_interval() {
        let (mut pace, now) = (Pace::new(SECOND, LEASE), Instant::now());
        assert!(pace.may_rescue(now));
        pace.rescue_failed(now);
        assert_eq!([SECOND / 2, SECOND].map(|passed| pace.may_rescue(now + passed)), [false, true]);
    }

    #[test]
    fn found_rows_make_the_wait_short_and_silence_doubles_it_up_to_the_poll_interval() {
        let mut pace = Pace::new(SECOND, LEASE);
        assert_eq!(waits(&mut pace, [false, true, true]), [1000, 20, 20]);
        assert_eq!(waits(&mut pace, [false; 7]), [40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(waits(&mut pace, [true, false]), [20, 40]);
    }

    #[test]
    fn what_was_announced_changes_nothing() {
        for claimed in [true, false] {
            let mut pace = Pace::new(SECOND, LEASE);
            assert_eq!(waits(&mut pace, [true, false]), [20, 40]);
            pace.announced();
            assert_eq!(waits(&mut pace, [claimed]), [40], "the announced look");
            assert_eq!(waits(&mut pace, [false]), [80], "and the one after it counts again");
        }
    }

    #[test]
    fn a_row_known_to_be_due_is_met_in_time_and_counts_as_announced() {
        let mut pace = Pace::new(SECOND, LEASE);
        pace.looked(false);
        assert_eq!(pace.next_wait(Some(Duration::from_millis(300)), 1.0), Duration::from_millis(300));
        pace.looked(true);
        assert_eq!(pace.next_wait(Some(2 * SECOND), 0.0), SECOND, "later than the next look");
        pace.looked(true);
        assert_eq!(pace.next_wait(Some(Duration::ZERO), 0.0), LEAST_TO_DUE);
    }

    #[test]
    fn waiting_for_room_keeps_the_pace() {
        let mut pace = Pace::new(SECOND, LEASE);
        assert_eq!(waits(&mut pace, [true]), [20]);
        assert_eq!(pace.wait_for_room(0.0), SECOND);
        assert_eq!(waits(&mut pace, [false]), [40]);
    }

    #[test]
    fn a_rescue_is_due_at_the_start_and_then_by_lease_and_poll_interval() {
        let at = Instant::now();
        for (poll, lease, interval) in [
            (SECOND, LEASE, Duration::from_millis(2500)),
            (Duration::from_millis(50), LEASE, Duration::from_millis(150)),
            (60 * SECOND, LEASE, Duration::from_millis(2500)),
            (Duration::MAX, Duration::MAX, Duration::MAX / 4),
        ] {
            let mut pace = Pace::new(poll, lease);
            assert!(pace.rescue_is_due(at));
            pace.leases_seen(at);
            assert!(!pace.rescue_is_due(at));
            if let (Some(before), Some(then)) =
                (at.checked_add(interval - Duration::from_nanos(1)), at.checked_add(interval))
            {
                assert!(!pace.rescue_is_due(before) && pace.rescue_is_due(then), "{poll:?} {lease:?}");
            }
        }
    }

    /// Settings from the shortest allowed to the longest.
    const LENGTHS: [Duration; 5] = [Duration::from_millis(1), Duration::from_millis(7), SECOND, LEASE, YEAR];

    #[test]
    fn no_wait_is_zero_or_longer_than_the_poll_interval_or_late_for_a_known_row() {
        for seed in 0..500 {
            let mut draw = StdRng::seed_from_u64(seed);
            let poll = LENGTHS[draw.random_range(0..5)];
            let mut pace = Pace::new(poll, LEASE);
            // What a dispatcher goes through: rows of others, wake-ups, due times, no room.
            for step in 0..300 {
                if draw.random_bool(0.3) {
                    pace.announced();
                }
                let chance = draw.random_range(0.0..=1.0);
                let due = draw.random_bool(0.3).then(|| LENGTHS[draw.random_range(0..5)].mul_f64(chance));
                let room = draw.random_bool(0.9);
                let wait = if room {
                    pace.looked(draw.random_bool(0.2));
                    pace.next_wait(due, chance)
                } else {
                    pace.wait_for_room(chance)
                };
                let at = format!("seed {seed}, step {step}, poll interval {poll:?}, due {due:?}");
                assert!(wait >= LEAST && wait <= pace.longest(), "{at}: {wait:?}");
                assert!(!room || due.is_none_or(|due| wait <= due.max(LEAST_TO_DUE)), "{at}: {wait:?} is late");
            }
        }
    }

    #[test]
    fn the_longest_of_all_settings_overflows_nothing() {
        let mut pace = Pace::new(Duration::MAX, Duration::MAX);
        for chance in [0.0, 0.5, 1.0, f64::INFINITY] {
            pace.looked(false);
            assert!(pace.next_wait(None, chance) > Duration::MAX / 2);
        }
        pace.looked(true);
        for _ in 0..100 {
            pace.next_wait(Some(Duration::MAX), 1.0);
            pace.looked(false);
        }
        assert_eq!(pace.next_wait(Some(Duration::MAX), 0.0), Duration::MAX);
    }

    #[test]
    fn a_row_is_noticed_about_as_late_as_the_silence_before_it_was_long() {
        for seed in 0..500 {
            let mut draw = StdRng::seed_from_u64(seed);
            let mut pace = Pace::new(draw.random_range(SHORTEST..YEAR), LEASE);
            pace.looked(true);
            let mut silence = Duration::ZERO;
            for _ in 0..40 {
                let wait = pace.next_wait(None, draw.random_range(0.0..=1.0));
                // Jitter makes waits shorter, so one may be a ninth longer than the silence before it.
                let most = SHORTEST + silence * 10 / 9 + Duration::from_micros(1);
                assert!(wait <= most, "seed {seed}: {wait:?} after {silence:?}");
                silence += wait;
                pace.looked(false);
            }
        }
    }

    #[test]
    fn a_last_row_costs_a_handful_of_looks_before_the_node_is_idle_again() {
        for seed in 0..500 {
            let mut draw = StdRng::seed_from_u64(seed);
            let mut pace = Pace::new(SECOND, LEASE);
            pace.looked(true);
            let (mut looks, mut passed) = (0, Duration::ZERO);
            while passed < 60 * SECOND {
                passed += pace.next_wait(None, draw.random_range(0.0..=1.0));
                pace.looked(false);
                looks += 1;
            }
            assert!(looks <= 60 * 10 / 9 + 6, "seed {seed}: {looks} looks in a minute");
        }
    }

    #[test]
    fn between_two_rescues_lies_a_quarter_of_the_lease_and_one_wait_at_most() {
        for seed in 0..500 {
            let mut draw = StdRng::seed_from_u64(seed);
            let (poll, lease) = (LENGTHS[draw.random_range(0..5)], LENGTHS[draw.random_range(0..5)]);
            let mut pace = Pace::new(poll, lease);
            let mut now = Instant::now();
            pace.leases_seen(now);
            let mut last = now;
            for _ in 0..100 {
                now += poll.mul_f64(draw.random_range(0.0..=1.0));
                if pace.rescue_is_due(now) {
                    pace.leases_seen(now);
                    let gap = now - last;
                    last = now;
                    assert!(gap <= lease / 4 + poll, "seed {seed}: {gap:?} at {poll:?} and {lease:?}");
                    assert!(gap >= (lease / 4).min(poll * 3), "seed {seed}: only {gap:?} at {poll:?} and {lease:?}");
                }
            }
            assert!(now - last <= lease / 4 + poll, "seed {seed}: none since {:?}", now - last);
        }
    }
}
