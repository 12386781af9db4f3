//! Everything after a body: what its outcome means, and its way into the table.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::context::CancelReason;
use crate::error::{StoreError, TaskError, Verdict};
use crate::error_text::clean_error_text;
use crate::event::{AttemptInfo, Event};
use crate::executor::Executor;
use crate::lane::Slot;
use crate::ledger::RunningAttempt;
use crate::new_task::NewTask;
use crate::polling::rest_interval;
use crate::retry::{Decision, decide};
use crate::sensitive::Secrets;
use crate::settings::Settings;
use crate::settler::{Done, Outcome};
use crate::starting::Started;
use crate::state::State;
use crate::store::{ClaimedTask, Settlement, TransactionOutcome};

/// How often rows that were passed over may wake the dispatcher: they may be ordered ones, or ones nobody here can run.
const PASSED_OVER_WAKE: Duration = Duration::from_millis(20);

/// Longest pause before a task whose transaction was undone is tried again uncharged.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What could not be done, for people.
const TRANSACT: &str = "run a task in a transaction";

impl Started {
    /// Says that nothing is left to be written, to whoever waits for it.
    pub(crate) fn finished(&self) {
        if let Some(done) = &self.done {
            done.set();
        }
    }
}

impl Executor {
    /// Everything after the body, unless somebody settled it before.
    pub(crate) fn conclude(&self, started: &Started, outcome: Result<(), TaskError>) {
        let took = started.running.begun.elapsed();
        started.span.record("duration_ms", took.as_secs_f64() * 1000.0);
        if started.running.gate.take() {
            self.settle(&started.running, outcome, took, started.done.clone());
        } else {
            started.finished();
        }
    }

    pub(crate) fn conclude_transaction(&self, started: &Started, outcome: TransactionOutcome, slot: Option<&Slot>) {
        let took = started.running.begun.elapsed();
        let lease = started.running.task.lease;
        if let Some(slot) = slot {
            slot.lane().ran(took);
        }
        match outcome {
            TransactionOutcome::Failed(error) => self.conclude(started, Err(error)),
            TransactionOutcome::Committed => {
                started.span.record("duration_ms", took.as_secs_f64() * 1000.0);
                // Were the gate taken, the time limit's settlement finds the row done and changes nothing.
                started.running.gate.take();
                self.ledger.forget([lease]);
                let attempt = info(&started.running.task);
                self.events.emit(Event::Settled { attempt, state: State::Succeeded, took, error: None });
                self.wake_if_awaited(None);
                started.finished();
            }
            TransactionOutcome::LeaseLost => {
                if started.running.gate.take() {
                    self.ledger.forget([lease]);
                    self.events.emit(Event::LeaseLost { attempt: info(&started.running.task) });
                }
                started.finished();
            }
            TransactionOutcome::RolledBack(error) => self.undone(started, &error, took),
            TransactionOutcome::NotStarted(error) => {
                let error = self.clean(&started.running.task, &error.to_string());
                self.events.emit(Event::StoreTrouble { doing: TRANSACT, error });
                if started.running.gate.take() {
                    let why = "its transaction could not be opened";
                    self.put_back(self.for_later(&started.running.task), why, started.done.clone());
                    self.ledger.end(lease);
                } else {
                    started.finished();
                }
            }
        }
    }

    /// The body succeeded, and its transaction was undone by what passes for a passing fault. That costs no attempt, and is tried
    /// again after a pause that doubles. What happens time after time does not pass: then it counts as a failure of the task's.
    fn undone(&self, started: &Started, error: &StoreError, took: Duration) {
        let (running, task) = (&started.running, &started.running.task);
        self.events.emit(Event::StoreTrouble { doing: TRANSACT, error: self.clean(task, &error.to_string()) });
        if !running.gate.take() {
            return started.finished();
        }
        let times = task.lost_times.saturating_add(1);
        if times >= i64::from(self.settings.crash_budget) {
            let why = format!(
                "it came back without an outcome {times} times in a row; now its transaction was undone after its body: {error}"
            );
            return self.settle(running, Err(TaskError::message(why)), took, started.done.clone());
        }
        let doublings = u32::try_from(times - 1).unwrap_or(u32::MAX).min(16);
        let pause = self.settings.poll_interval.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        let text =
            self.clean(task, &format!("its transaction was undone after its body, which costs no attempt: {error}"));
        self.put_back(task.undone(pause, text), "its transaction was undone", started.done.clone());
        self.ledger.end(task.lease);
    }

    /// Decides and settles. The caller has taken the attempt's gate.
    pub(crate) fn settle(
        &self,
        running: &RunningAttempt,
        outcome: Result<(), TaskError>,
        took: Duration,
        done: Option<Arc<Done>>,
    ) {
        let task = &running.task;
        let reason = running.context.cancel_reason();
        let interrupted = matches!(&outcome, Err(error) if error.verdict() == Verdict::Interrupted);
        let follow_ups = running.context.take_follow_ups();
        if interrupted && reason == Some(CancelReason::Shutdown) {
            self.put_back(task.released(), "stopped by the shutdown", done);
        } else {
            let mut settlement = self.settlement(task, outcome, follow_ups);
            if settlement.state == State::Failed && reason == Some(CancelReason::Requested) {
                settlement.state = State::Cancelled;
            }
            let task = Some(Arc::clone(task));
            self.submit(Outcome { settlement, task, took, reason: "", done });
        }
        // Only now: a shutdown that finds no body under way ends the settler.
        self.ledger.end(task.lease);
    }

    /// An error text of this row as it may be stored and reported.
    fn clean(&self, task: &ClaimedTask, text: &str) -> String {
        let sensitive = self.registry.find(&task.method_name).map_or(&[][..], |definition| definition.sensitive);
        clean_error_text(text, self.settings.max_error_bytes, &Secrets::of(sensitive, &task.task_parameter))
    }

    /// What is written when an attempt has ended with `outcome`.
    pub(crate) fn settlement(
        &self,
        task: &ClaimedTask,
        outcome: Result<(), TaskError>,
        follow_ups: Vec<NewTask>,
    ) -> Settlement {
        let decision = decide(&outcome, task.attempt(), &task.policy(), rand::random_range(0.0..=1.0));
        let follow_ups = if decision == Decision::Succeed { follow_ups } else { Vec::new() };
        let error = outcome.err().map(|error| self.clean(task, error.text()));
        task.settled(decision, error, follow_ups)
    }

    /// Puts a row back that was not started.
    pub fn release(&self, task: &ClaimedTask, reason: &'static str) {
        self.put_back(task.released(), reason, None);
    }

    /// Puts a row back whose transaction the database does not begin; it is due again a little later.
    pub(crate) fn put_back_for_later(&self, task: &ClaimedTask, reason: &'static str) {
        self.put_back(self.for_later(task), reason, None);
        self.ledger.end(task.lease);
    }

    fn for_later(&self, task: &ClaimedTask) -> Settlement {
        Settlement { due_in: Some(self.settings.poll_interval), ..task.released() }
    }

    /// Writes that a row cannot be run, and why. Only a person can mend it.
    pub(crate) fn give_up(&self, task: ClaimedTask, why: &str, done: Option<Arc<Done>>) {
        let error = self.clean(&task, why);
        let settlement = task.settled(Decision::GiveUp, Some(error), Vec::new());
        self.submit(Outcome { settlement, task: Some(Arc::new(task)), took: Duration::ZERO, reason: "", done });
    }

    /// Writes that a row is let go of without an attempt.
    pub(crate) fn put_back(&self, settlement: Settlement, reason: &'static str, done: Option<Arc<Done>>) {
        self.submit(Outcome { settlement, task: None, took: Duration::ZERO, reason, done });
    }

    fn submit(&self, outcome: Outcome) {
        self.at_work.store(true, Ordering::Relaxed);
        if let Err(outcome) = self.settler.submit(outcome) {
            let error = "the runtime has stopped; the lease runs out instead".to_owned();
            self.events.emit(Event::SettleRefused { id: outcome.settlement.lease.id, error });
            if let Some(done) = outcome.done {
                done.set();
            }
        }
    }

    /// After an outcome is in the table: wakes the dispatcher when a row may now be claimed, or will be sooner than it looks.
    pub(crate) fn wake_if_awaited(&self, due_in: Option<Duration>) {
        let Settings { poll_interval, lease, .. } = *self.settings;
        let may_rest = self.may_rest.load(Ordering::SeqCst);
        let longest = if may_rest { rest_interval(poll_interval, lease) } else { poll_interval };
        let soon = due_in.is_some_and(|due_in| due_in < longest);
        if soon || (self.passed_over.load(Ordering::Relaxed) && self.may_wake_for_passed_over()) {
            self.wake.raise();
        }
    }

    fn may_wake_for_passed_over(&self) -> bool {
        let mut last = self.passed_over_woke.lock();
        let may = last.elapsed() >= PASSED_OVER_WAKE;
        if may {
            *last = Instant::now();
        }
        may
    }
}

/// Which attempt a row is at.
pub(crate) fn info(task: &ClaimedTask) -> AttemptInfo {
    AttemptInfo {
        id: task.lease.id,
        task_id: task.task_id.clone(),
        name: task.method_name.clone(),
        attempt: task.attempt(),
    }
}
