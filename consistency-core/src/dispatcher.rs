//! When to claim, and how many: the polling thread. It also takes back rows whose lease has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::dispatch::HandOff;
use crate::error::StoreError;
use crate::event::Event;
use crate::executor::Executor;
use crate::lane::{Held, Lane};
use crate::ledger::Lease;
use crate::pause::Pause;
use crate::signal::Signal;
use crate::store::{ClaimRequest, Head};

/// Most rows one rescue statement takes.
const RESCUE_BATCH: usize = 200;
/// Outcomes waiting to be written above which nothing more is claimed: the database is behind.
const UNSETTLED_MAX: usize = 20_000;
/// How often rows of unknown names are looked for, and how many names are reported.
const UNKNOWN_NAMES_EVERY: Duration = Duration::from_secs(60);
const UNKNOWN_NAMES_MAX: usize = 10;

/// The polling thread's work.
pub(crate) struct Dispatcher {
    pub(crate) executor: Arc<Executor>,
    pub(crate) hand_off: Arc<dyn HandOff>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    /// One line per queue for the scheduling thread; empty when no task runs there.
    pub(crate) serial_lanes: Vec<Arc<Lane>>,
    pub(crate) wake: Arc<Signal>,
    pub(crate) stopping: Arc<AtomicBool>,
}

/// What one look at the table found.
struct Round {
    /// Rows were left behind although there was room for more.
    again: bool,
    /// Time until the next row is due.
    next_due: Option<Duration>,
    /// Due rows were seen that no claim took.
    passed_over: bool,
}

impl Dispatcher {
    /// Polls until the runtime stops.
    pub(crate) fn run(self) {
        let settings = Arc::clone(&self.executor.settings);
        let names: Vec<String> = self.executor.registry.names().map(str::to_owned).collect();
        let mut next_rescue = Instant::now();
        let mut next_unknown = Instant::now();
        let mut trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
        while !self.stopping.load(Ordering::Acquire) {
            let round = self.rescue(&mut next_rescue).and_then(|()| self.round(&names));
            let wait = match round {
                Ok(round) => {
                    trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
                    self.executor.passed_over.store(round.passed_over, Ordering::Relaxed);
                    if round.passed_over && Instant::now() >= next_unknown {
                        next_unknown = Instant::now() + UNKNOWN_NAMES_EVERY;
                        self.report_unknown(&names);
                    }
                    if round.again { Duration::ZERO } else { self.idle_wait(round.next_due, next_rescue) }
                }
                Err(error) => {
                    self.executor
                        .events
                        .emit(Event::StoreTrouble { doing: "look for due tasks", error: error.to_string() });
                    trouble.next_length()
                }
            };
            if !wait.is_zero() {
                self.wake.wait(wait.min(settings.poll_interval));
            }
        }
    }

    /// The time to the next look: the poll interval with jitter, or sooner when a row is known to be due.
    fn idle_wait(&self, next_due: Option<Duration>, next_rescue: Instant) -> Duration {
        let poll = self.executor.settings.poll_interval.mul_f64(rand::random_range(0.9..=1.0));
        let to_rescue = next_rescue.saturating_duration_since(Instant::now());
        let to_due = next_due.map_or(poll, |due| due.max(Duration::from_millis(1)));
        // Never zero, so that a wake-up raised meanwhile is consumed.
        poll.min(to_due).min(to_rescue).max(Duration::from_micros(100))
    }

    fn rescue(&self, next_rescue: &mut Instant) -> Result<(), StoreError> {
        if Instant::now() < *next_rescue {
            return Ok(());
        }
        let settings = &self.executor.settings;
        self.executor.renew_overdue_leases();
        loop {
            let rescued = self.executor.store.rescue(settings.crash_budget, RESCUE_BATCH)?;
            let full = rescued.len() == RESCUE_BATCH;
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
        *next_rescue = Instant::now() + settings.poll_interval;
        Ok(())
    }

    fn round(&self, names: &[String]) -> Result<Round, StoreError> {
        let mut round = Round { again: false, next_due: None, passed_over: false };
        self.start_waiting();
        let all = || self.lanes.iter().chain(&self.serial_lanes);
        if self.executor.settler.waiting() > UNSETTLED_MAX || all().all(|lane| lane.room() == 0) {
            // Whether the table holds more is not known; a freed slot shall wake us to see.
            all().for_each(|lane| lane.set_backlog(true));
            // So that the settler wakes us as well.
            round.passed_over = true;
            round.again = self.executor.settler.waiting() <= UNSETTLED_MAX && all().any(|lane| lane.room() > 0);
            return Ok(round);
        }
        let queues: Vec<String> = self.lanes.iter().map(|lane| lane.queue().to_owned()).collect();
        let mut heads = self.executor.store.look(&queues)?;
        heads.sort_by_key(|head| head.priority);
        for (lanes, serial) in [(&self.lanes, false), (&self.serial_lanes, true)] {
            for lane in lanes {
                self.fill(lane, serial, &heads, names, &mut round)?;
            }
        }
        Ok(round)
    }

    /// Claims for one lane, best priority first, while there is room.
    fn fill(
        &self,
        lane: &Arc<Lane>,
        serial: bool,
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
                serial,
            };
            let sent = Instant::now();
            let claimed = self.executor.store.claim(&request)?;
            if claimed.len() == limit {
                left_behind = true;
                round.again |= lane.room() > 0;
            } else if claimed.is_empty() {
                round.passed_over = true;
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
        match self.executor.store.unknown_names(names, UNKNOWN_NAMES_MAX) {
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
