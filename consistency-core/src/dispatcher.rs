//! When to claim, and how many: the polling thread. It also takes back rows whose lease has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::clock::{Clock, Moment};
use crate::dispatch::HandOff;
use crate::doubt::Doubt;
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
/// Rows claimed ahead wait for a slot at least this long, and at least a poll interval: then another node would look for them.
const WAIT_AHEAD: Duration = Duration::from_secs(1);
/// How often rows of unknown names are looked for, and how many names are reported.
const UNKNOWN_NAMES_EVERY: Duration = Duration::from_secs(60);
const UNKNOWN_NAMES_MAX: usize = 10;
/// What it does, for people.
const LOOK: &str = "look for due tasks";
const RESCUE: &str = "take back rows whose lease has ended";
const PUT_BACK: &str = "put back what claims took whose answer was lost";

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
#[derive(Default)]
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
    /// There was no room for rows, or too much to write.
    no_room: bool,
}

impl Dispatcher {
    /// Polls until the runtime stops.
    pub(crate) fn run(self) {
        let settings = Arc::clone(&self.executor.settings);
        let names: Vec<String> = self.executor.registry.names().map(str::to_owned).collect();
        let mut pace = Pace::new(settings.poll_interval, settings.lease);
        let mut doubt = Doubt::new(&settings);
        let mut next_unknown = Instant::now();
        let mut trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
        while !self.stopping.load(Ordering::Acquire) {
            self.clock.observe();
            if self.executor.at_work.swap(false, Ordering::Relaxed) {
                pace.is_at_work();
            }
            // Said before the look: what is written after it finds it said.
            self.executor.may_rest.store(pace.may_rest(), Ordering::SeqCst);
            let wait = match self.executor.guarded(|| self.round(&names, &mut pace, &mut doubt)) {
                Ok(round) => {
                    trouble = Pause::new(Duration::from_millis(50), Duration::from_secs(2));
                    if round.looked {
                        self.executor.is_well(LOOK);
                    }
                    // The settler wakes us as well where there was no room.
                    self.executor.passed_over.store(round.passed_over || round.no_room, Ordering::Relaxed);
                    if round.passed_over {
                        pace.is_at_work();
                    }
                    if round.passed_over && Instant::now() >= next_unknown {
                        next_unknown = Instant::now() + UNKNOWN_NAMES_EVERY;
                        self.report_unknown(&names);
                    }
                    let wait = next_wait(&mut pace, &round);
                    doubt.next_ask(Instant::now()).map_or(wait, |ask| wait.min(ask))
                }
                Err(error) => {
                    self.executor.met_trouble(LOOK, &error);
                    trouble.next_length().min(settings.poll_interval)
                }
            };
            if !wait.is_zero() && self.wake.wait(wait) {
                pace.announced();
            }
        }
        // What is there shall not wait for the end of its lease.
        self.executor.decide(&self.lanes);
    }

    /// Takes rows back whose lease has ended; whether there were any. A rescue that fails must not keep due rows from being
    /// claimed.
    fn rescue(&self, pace: &mut Pace) -> bool {
        let may_rescue = pace.may_rescue(Instant::now());
        may_rescue
            && self.try_to_rescue(pace).unwrap_or_else(|error| {
                pace.rescue_failed(Instant::now());
                self.executor.met_trouble(RESCUE, &error);
                false
            })
    }

    fn try_to_rescue(&self, pace: &mut Pace) -> Result<bool, StoreError> {
        let settings = &self.executor.settings;
        if !self.clock.is_steady() {
            return Ok(false);
        }
        if !self.executor.renew_overdue_leases()? {
            // Rows this node runs may seem abandoned. Another node may take back what is, or this one at its next look.
            return Ok(false);
        }
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
        self.executor.is_well(RESCUE);
        Ok(found)
    }

    /// Puts back what claims took whose answer was lost. A database that refuses it for good must not keep due rows from being
    /// claimed.
    fn put_back_unheld(&self, pace: &mut Pace, doubt: &mut Doubt) -> Result<(), StoreError> {
        let Some(sent) = doubt.asks(Instant::now()) else { return Ok(()) };
        let Executor { node, ledger, settings, store, .. } = &*self.executor;
        // The question itself may take as long until it is read.
        let since = sent.elapsed() + settings.lease / 2;
        match store.put_back_unheld(node, &ledger.ids(), since, settings.lease) {
            Ok(0) => {}
            Ok(_) => pace.announced(),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                self.executor.events.emit(Event::StoreTrouble { doing: PUT_BACK, error: error.to_string() });
            }
        }
        doubt.asked(Instant::now());
        Ok(())
    }

    /// Looks at the table, and first takes back what it finds abandoned there.
    fn look(&self, pace: &mut Pace) -> Result<Outlook, StoreError> {
        let queues = self.queues();
        let mut outlook = self.executor.store.look(&queues)?;
        pace.leases_seen(Instant::now());
        if outlook.lease_ends_in.is_some_and(|end| end.is_zero()) {
            if self.rescue(pace) {
                pace.announced();
                outlook = self.executor.store.look(&queues)?;
            }
            // What is still there is locked by somebody: no reason to look again at once.
            outlook.lease_ends_in = outlook.lease_ends_in.filter(|end| !end.is_zero());
        } else {
            // Should the last rescue have failed: others have taken the rows back.
            self.executor.is_well(RESCUE);
        }
        Ok(outlook)
    }

    fn round(&self, names: &[String], pace: &mut Pace, doubt: &mut Doubt) -> Result<Round, StoreError> {
        let mut round = Round::default();
        self.start_waiting();
        self.put_back_waiting();
        self.put_back_unheld(pace, doubt)?;
        let all = || self.lanes.iter().chain(&self.serial_lanes);
        if self.executor.settler.waiting() > UNSETTLED_MAX || all().all(|lane| lane.room() == 0) {
            if pace.rescue_is_due(Instant::now()) {
                self.rescue(pace);
            }
            // Whether the table holds more is not known; a freed slot shall wake us to see.
            all().for_each(|lane| lane.set_backlog(true));
            round.no_room = true;
            round.again = self.executor.settler.waiting() <= UNSETTLED_MAX && all().any(|lane| lane.room() > 0);
            return Ok(round);
        }
        let Outlook { mut heads, lease_ends_in } = self.look(pace)?;
        round.looked = true;
        round.next_due = lease_ends_in;
        heads.sort_by_key(|head| (head.priority, head.share));
        let all: &[Share] = &[Share::Workers, Share::SchedulingThread];
        let workers = if self.serial_lanes.is_empty() { all } else { &[Share::Workers] };
        for (lanes, shares) in [(&self.lanes, workers), (&self.serial_lanes, &[Share::SchedulingThread])] {
            for lane in lanes {
                let heads = heads.iter().filter(|head| head.queue == lane.queue() && shares.contains(&head.share));
                self.fill(lane, heads, names, &mut round, doubt)?;
            }
        }
        Ok(round)
    }

    fn queues(&self) -> Vec<String> {
        self.lanes.iter().map(|lane| lane.queue().to_owned()).collect()
    }

    /// Claims what is behind `heads`, best priority first, for one lane, while there is room.
    fn fill<'h>(
        &self,
        lane: &Arc<Lane>,
        heads: impl Iterator<Item = &'h Head>,
        names: &[String],
        round: &mut Round,
        doubt: &mut Doubt,
    ) -> Result<(), StoreError> {
        let settings = &self.executor.settings;
        let mut left_behind = false;
        for head in heads {
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
                share: head.share,
            };
            let (sent, begun) = (Moment::now(), Instant::now());
            let claim = || self.executor.store.claim(&request);
            let claimed = fault::around(Point::BeforeClaim, claim, Point::AfterClaim)
                .inspect_err(|_| doubt.begin(begun, Instant::now()))?;
            round.claimed |= !claimed.is_empty();
            let is_full = claimed.len() == limit;
            if is_full {
                left_behind = true;
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
            if self.stopping.load(Ordering::Acquire) {
                // The stop may have put back what waited before these came.
                lane.close().iter().for_each(|held| self.executor.release(&held.task, "the runtime stops"));
            }
            self.start_waiting();
            if is_full {
                // More of this priority may wait: room that comes free meanwhile is not for a worse one.
                break;
            }
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

    /// Puts back what has waited for a slot too long: it is renewed while it waits, and nobody else could run it.
    fn put_back_waiting(&self) {
        let patience = self.executor.settings.poll_interval.max(WAIT_AHEAD);
        for lane in self.lanes.iter().chain(&self.serial_lanes) {
            for held in lane.give_up_waiting(patience) {
                self.executor.release(&held.task, "no slot came free for it");
            }
        }
    }

    fn report_unknown(&self, names: &[String]) {
        match self.executor.guarded(|| self.executor.store.unknown_names(&self.queues(), names, UNKNOWN_NAMES_MAX)) {
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
