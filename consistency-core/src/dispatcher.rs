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
use crate::polling::Pace;
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
    /// A look was made: there was room for rows.
    looked: bool,
    /// Rows were taken.
    claimed: bool,
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
        let mut pace = Pace::new(settings.poll_interval, settings.lease);
        let mut next_unknown = Instant::now();
        let mut trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
        while !self.stopping.load(Ordering::Acquire) {
            let round = self.rescue(&mut pace).and_then(|()| self.round(&names));
            let wait = match round {
                Ok(round) => {
                    trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
                    self.executor.passed_over.store(round.passed_over, Ordering::Relaxed);
                    if round.passed_over && Instant::now() >= next_unknown {
                        next_unknown = Instant::now() + UNKNOWN_NAMES_EVERY;
                        self.report_unknown(&names);
                    }
                    next_wait(&mut pace, &round)
                }
                Err(error) => {
                    self.executor
                        .events
                        .emit(Event::StoreTrouble { doing: "look for due tasks", error: error.to_string() });
                    trouble.next_length()
                }
            };
            if !wait.is_zero() && self.wake.wait(wait.min(settings.poll_interval)) {
                pace.announced();
            }
        }
    }

    /// Takes rows back whose lease has ended, where that is due. It goes with a look, which finds what it took back.
    fn rescue(&self, pace: &mut Pace) -> Result<(), StoreError> {
        if !pace.rescue_is_due(Instant::now()) {
            return Ok(());
        }
        let settings = &self.executor.settings;
        self.executor.renew_overdue_leases();
        loop {
            let rescued = self.executor.store.rescue(settings.crash_budget, RESCUE_BATCH)?;
            let full = rescued.len() == RESCUE_BATCH;
            if !rescued.is_empty() {
                pace.announced();
            }
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
        pace.rescued(Instant::now());
        Ok(())
    }

    fn round(&self, names: &[String]) -> Result<Round, StoreError> {
        let mut round = Round { looked: false, claimed: false, again: false, next_due: None, passed_over: false };
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
        round.looked = true;
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
            round.claimed |= !claimed.is_empty();
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

/// The wait after a round; none where it left rows behind that there is room for.
fn next_wait(pace: &mut Pace, round: &Round) -> Duration {
    let chance = rand::random_range(0.0..=1.0);
    if round.looked {
        pace.looked(round.claimed);
    }
    if round.again {
        pace.announced();
        Duration::ZERO
    } else if round.looked {
        pace.next_wait(round.next_due, chance)
    } else {
        pace.wait_for_room(chance)
    }
}
