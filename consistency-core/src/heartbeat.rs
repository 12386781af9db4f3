//! Keeps leases alive and attempts within their time limits, and asks for what is perhaps committed: one thread that runs no
//! body, so that none holds it up. Listeners run on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::clock::Moment;
use crate::concluding::info;
use crate::context::CancelReason;
use crate::error::{StoreError, TaskError};
use crate::event::Event;
use crate::executor::Executor;
use crate::fault::{self, Point};
use crate::lane::Lane;
use crate::ledger::{RunningAttempt, Stage};

/// Most leases one statement renews.
const RENEW_BATCH: usize = 1000;
/// The pause after an incomplete renewal, so that a short outage or a locked row does not cost a whole beat.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What it does, for people.
const RENEW: &str = "renew leases";

/// The heartbeat thread's work.
pub(crate) struct Heartbeat {
    pub(crate) executor: Arc<Executor>,
    /// Where rows go that turn out to be committed.
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) abandoned: Arc<AtomicUsize>,
    /// Set when the settler has ended: what is still held is left to run out.
    pub(crate) stopped: Arc<AtomicBool>,
}

impl Executor {
    /// Renews every lease in the ledger; whether all were extended.
    pub(crate) fn renew_leases(&self) -> bool {
        self.try_to_renew().unwrap_or(false)
    }

    fn try_to_renew(&self) -> Result<bool, StoreError> {
        let mut all = true;
        for part in self.ledger.leases().chunks(RENEW_BATCH) {
            let sent = Moment::now();
            let renew = || self.store.renew(part, self.settings.lease);
            match fault::around(Point::BeforeHeartbeat, renew, Point::AfterHeartbeat) {
                Ok(renewed) => {
                    all &= renewed.iter().all(|row| row.extended);
                    self.ledger.renewed(part, &renewed, sent);
                }
                Err(error) => {
                    self.met_trouble(RENEW, &error);
                    return Err(error);
                }
            }
        }
        self.is_well(RENEW);
        Ok(all)
    }

    /// Renews before a rescue, should a heartbeat have left out any lease; whether a rescue may follow. A lease that could not
    /// be renewed may be over, and this node must not take back the rows it is running.
    ///
    /// # Errors
    /// The renewal's.
    pub(crate) fn renew_overdue_leases(&self) -> Result<bool, StoreError> {
        if self.ledger.any_older_than(self.settings.heartbeat) { self.try_to_renew() } else { Ok(true) }
    }
}

impl Heartbeat {
    /// Beats and watches until told that everything is settled.
    pub(crate) fn run(self) {
        let beat = self.executor.settings.heartbeat;
        let mut next_beat = Instant::now() + beat;
        while !self.stopped.load(Ordering::Acquire) {
            let round = self.executor.guarded(|| Ok(self.round(&mut next_beat, beat)));
            let until = round.unwrap_or_else(|error| {
                self.executor.met_trouble(RENEW, &error);
                next_beat = Instant::now() + RETRY_AFTER.min(beat);
                next_beat
            });
            self.executor.watchdog.wait(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Ends what is over its time, beats and asks for what is undecided, if it is time to; until when there is nothing more to do.
    fn round(&self, next_beat: &mut Instant, beat: Duration) -> Instant {
        let now = Instant::now();
        let (overdue, next_limit) = self.executor.ledger.overdue(now);
        for running in overdue {
            self.end_at_limit(&running);
        }
        if now >= *next_beat {
            *next_beat = if self.executor.renew_leases() { now + beat } else { now + RETRY_AFTER.min(beat) };
        }
        if self.executor.undecided.ask_at().is_some_and(|at| at <= now) {
            self.executor.decide(&self.lanes);
        }
        [next_limit, self.executor.undecided.ask_at()].into_iter().flatten().fold(*next_beat, Instant::min)
    }

    /// Settles an attempt at its time limit: an `async` body is dropped at its next await, a blocking one goes on in a
    /// thread given up, as long as there are not too many of those. An asynchronous caller waits for neither any more.
    fn end_at_limit(&self, running: &RunningAttempt) {
        let executor = &self.executor;
        if !running.gate.take() {
            // Its body has just ended and is about to leave the ledger.
            executor.ledger.end(running.task.lease);
            return;
        }
        running.context.cancel(CancelReason::TimeLimit);
        let limit = running.limit;
        match running.stage {
            Stage::Opening => executor.put_back_for_later(&running.task, "its transaction could not be begun in time"),
            Stage::Body => {
                let outcome =
                    Err(TaskError::message(format!("time limit of {limit:?} reached; the attempt was given up")));
                executor.settle(running, outcome, running.begun.elapsed(), None);
            }
            Stage::Closing => {
                let outcome = Err(TaskError::message(format!(
                    "no answer of the database to the end of its transaction within {limit:?}: whether it is committed is unknown"
                )));
                executor.settle(running, outcome, running.begun.elapsed(), None);
            }
        }
        if let Some(done) = &running.done {
            done.set();
        }
        let let_go = match (&running.abort, &running.slot) {
            (Some(abort), _) => {
                abort.abort();
                false
            }
            (None, Some(slot)) => slot.abandon(executor.settings.max_abandoned_threads),
            (None, None) => true,
        };
        if let_go {
            executor.store.gave_up(running.task.lease);
        }
        let doing = match running.stage {
            Stage::Opening => "begin a task's transaction",
            Stage::Closing => "end a task's transaction",
            Stage::Body => {
                return executor.events.emit(Event::TimeLimitReached {
                    attempt: info(&running.task),
                    limit,
                    abandoned_threads: self.abandoned.load(Ordering::Acquire),
                });
            }
        };
        executor.events.emit(Event::StoreTrouble { doing, error: format!("no answer within {limit:?}") });
    }
}
