//! When to claim, and how many: the polling thread. It also takes back rows whose lease has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::dispatch::HandOff;
use crate::error::StoreError;
use crate::event::Event;
use crate::executor::Executor;
use crate::fault::{self, Point};
use crate::lane::{Held, Lane};
use crate::ledger::Lease;
use crate::pause::Pause;
use crate::polling::Pace;
use crate::signal::Signal;
use crate::store::{ClaimRequest, Head, Outlook, Share};

/// Most rows one rescue statement takes.
const RESCUE_BATCH: usize = 200;
/// Outcomes waiting to be written above which nothing more is claimed: the database is behind.
const UNSETTLED_MAX: usize = 20_000;
/// How often rows of unknown names are looked for, and how many names are reported.
const UNKNOWN_NAMES_EVERY: Duration = Duration::from_secs(60);
const UNKNOWN_NAMES_MAX: usize = 10;
/// What it does, for people.
const LOOK: &str = "look for due tasks";

/// The polling thread's work.
pub(crate) struct Dispatcher {
    pub(crate) executor: Arc<Executor>,
    pub(crate) hand_off: Arc<dyn HandOff>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    /// One line per queue for the scheduling thread; empty when no task runs there.
    pub(crate) serial_lanes: Vec<Arc<Lane>>,
    pub(crate) wake: Arc<Signal>,
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) clock: Clock,
}

/// What one look at the table found.
struct Round {
    /// A look was made: there was room for rows.
    looked: bool,
    /// Rows were taken.
    claimed: bool,
    /// Rows were left behind although there was room for more.
    again: bool,
    /// Rows were taken, and none was left behind that is due; when the one behind them is due was not seen.
    hidden: bool,
    /// Time until the next row is due, or the next lease ends.
    next_due: Option<Duration>,
    /// Due rows were seen that no claim took.
    passed_over: bool,
}

impl Dispatcher {
    /// Polls until the runtime stops.
    pub(crate) fn run(self) {
        let settings = Arc::clone(&self.executor.settings);
        let names: Vec<String> = self.executor.registry.names().map(str::to_owned).collect();
        let mut pace = Pace::new(settings.poll_interval, settings.lease);
        let mut next_unknown = Instant::now();
        let mut trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
        while !self.stopping.load(Ordering::Acquire) {
            self.clock.observe();
            let wait = match self.round(&names, &mut pace) {
                Ok(round) => {
                    trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
                    if round.looked {
                        self.executor.is_well(LOOK);
                    }
                    self.executor.passed_over.store(round.passed_over, Ordering::Relaxed);
                    if round.passed_over && Instant::now() >= next_unknown {
                        next_unknown = Instant::now() + UNKNOWN_NAMES_EVERY;
                        self.report_unknown(&names);
                    }
                    next_wait(&mut pace, &round)
                }
                Err(error) => {
                    self.executor.met_trouble(LOOK, &error);
                    trouble.next_length()
                }
            };
            if !wait.is_zero() && self.wake.wait(wait.min(settings.poll_interval)) {
                pace.announced();
            }
        }
        // What is there shall not wait for the end of its lease.
        self.executor.decide(&self.lanes);
    }

    /// Takes rows back whose lease has ended; whether there were any.
    fn rescue(&self, pace: &mut Pace) -> Result<bool, StoreError> {
        self.try_to_rescue(pace).or_else(|error| self.pass_over(error, pace))
    }

    /// A rescue the database refuses for good must not keep due rows from being claimed.
    fn pass_over(&self, error: StoreError, pace: &mut Pace) -> Result<bool, StoreError> {
        if error.is_transient() {
            return Err(error);
        }
        pace.leases_seen(Instant::now());
        let doing = "take back rows whose lease has ended";
        self.executor.events.emit(Event::StoreTrouble { doing, error: error.to_string() });
        Ok(false)
    }

    fn try_to_rescue(&self, pace: &mut Pace) -> Result<bool, StoreError> {
        let settings = &self.executor.settings;
        if !self.clock.is_steady() {
            return Ok(false);
        }
        self.executor.renew_overdue_leases();
        self.executor.decide(&self.lanes);
        let mut found = false;
        loop {
            let rescue = || self.executor.store.rescue(settings.crash_budget, RESCUE_BATCH);
            let rescued = fault::around(Point::BeforeRescue, rescue, Point::AfterRescue)?;
            let full = rescued.len() == RESCUE_BATCH;
            found |= !rescued.is_empty();
            for row in rescued {
                self.executor.events.emit(Event::Rescued {
                    id: row.id,
                    name: row.method_name,
                    node: row.node,
                    state: row.state,
                    lost_times: row.lost_times,
                });
            }
            if !full {
                break;
            }
        }
        pace.leases_seen(Instant::now());
        Ok(found)
    }

    /// Looks at the table, and first takes back what it finds abandoned there.
    fn look(&self, pace: &mut Pace) -> Result<Outlook, StoreError> {
        let queues = self.queues();
        let mut outlook = self.executor.store.look(&queues)?;
        pace.leases_seen(Instant::now());
        if outlook.lease_ends_in.is_some_and(|end| end.is_zero()) {
            if self.rescue(pace)? {
                pace.announced();
                outlook = self.executor.store.look(&queues)?;
            }
            // What is still there is locked by somebody: no reason to look again at once.
            outlook.lease_ends_in = outlook.lease_ends_in.filter(|end| !end.is_zero());
        }
        Ok(outlook)
    }

    fn round(&self, names: &[String], pace: &mut Pace) -> Result<Round, StoreError> {
        let mut round =
            Round { looked: false, claimed: false, again: false, hidden: false, next_due: None, passed_over: false };
        self.start_waiting();
        let all = || self.lanes.iter().chain(&self.serial_lanes);
        if self.executor.settler.waiting() > UNSETTLED_MAX || all().all(|lane| lane.room() == 0) {
            if pace.rescue_is_due(Instant::now()) {
                self.rescue(pace)?;
            }
            // Whether the table holds more is not known; a freed slot shall wake us to see.
            all().for_each(|lane| lane.set_backlog(true));
            // So that the settler wakes us as well.
            round.passed_over = true;
            round.again = self.executor.settler.waiting() <= UNSETTLED_MAX && all().any(|lane| lane.room() > 0);
            return Ok(round);
        }
        let Outlook { mut heads, lease_ends_in } = self.look(pace)?;
        round.looked = true;
        round.next_due = lease_ends_in;
        heads.sort_by_key(|head| head.priority);
        let workers = if self.serial_lanes.is_empty() { Share::All } else { Share::Workers };
        for (lanes, share) in [(&self.lanes, workers), (&self.serial_lanes, Share::SchedulingThread)] {
            for lane in lanes {
                self.fill(lane, share, &heads, names, &mut round)?;
            }
        }
        Ok(round)
    }

    fn queues(&self) -> Vec<String> {
        self.lanes.iter().map(|lane| lane.queue().to_owned()).collect()
    }

    /// Claims for one lane, best priority first, while there is room.
    fn fill(
        &self,
        lane: &Arc<Lane>,
        share: Share,
        heads: &[Head],
        names: &[String],
        round: &mut Round,
    ) -> Result<(), StoreError> {
        let settings = &self.executor.settings;
        let mut left_behind = false;
        for head in heads.iter().filter(|head| head.queue == lane.queue()) {
            if !head.wait.is_zero() {
                round.next_due = Some(round.next_due.map_or(head.wait, |next| next.min(head.wait)));
                continue;
            }
            let limit = lane.room();
            if limit == 0 || self.stopping.load(Ordering::Acquire) {
                left_behind = true;
                break;
            }
            let request = ClaimRequest {
                node: &self.executor.node,
                lease: settings.lease,
                queue: lane.queue(),
                priority: head.priority,
                names,
                limit,
                share,
            };
            let sent = Instant::now();
            let claim = || self.executor.store.claim(&request);
            let claimed = fault::around(Point::BeforeClaim, claim, Point::AfterClaim)?;
            round.claimed |= !claimed.is_empty();
            if claimed.len() == limit {
                left_behind = true;
                round.again |= lane.room() > 0;
            } else if claimed.is_empty() {
                round.passed_over = true;
            } else {
                round.hidden = true;
            }
            for task in claimed {
                let lease = Lease::new(sent, settings.lease);
                self.executor.ledger.hold(task.lease, Arc::clone(&lease));
                lane.offer(Held { task, lease });
            }
            self.start_waiting();
        }
        lane.set_backlog(left_behind);
        round.again |= left_behind && lane.room() > 0;
        Ok(())
    }

    /// Starts what waits wherever a slot is free. The scheduling thread serves its own lanes.
    fn start_waiting(&self) {
        for lane in &self.lanes {
            while let Some((held, slot)) = lane.next_with_slot() {
                self.executor.drive(held, slot, &self.hand_off);
            }
        }
    }

    fn report_unknown(&self, names: &[String]) {
        match self.executor.store.unknown_names(&self.queues(), names, UNKNOWN_NAMES_MAX) {
            Ok(unknown) if unknown.is_empty() => {}
            Ok(mut unknown) => {
                unknown.sort();
                self.executor.events.emit(Event::UnknownNames { names: unknown });
            }
            Err(error) => {
                self.executor
                    .events
                    .emit(Event::StoreTrouble { doing: "look for unknown names", error: error.to_string() });
            }
        }
    }
}

/// The wait after a round; none where it left rows behind that there is room for, or took those that hid the next one: a look
/// sees the first row of each queue and priority alone, and a known due time must not wait for the poll interval.
fn next_wait(pace: &mut Pace, round: &Round) -> Duration {
    let chance = rand::random_range(0.0..=1.0);
    if round.looked {
        pace.looked(round.claimed);
    }
    if round.again || round.hidden {
        pace.announced();
        Duration::ZERO
    } else if round.looked {
        pace.next_wait(round.next_due, chance)
    } else {
        pace.wait_for_room(chance)
    }
}
