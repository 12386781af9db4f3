//! Runs one claimed row: look up, decode, run, decide, settle. Every way an attempt can end comes back here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable};
use tracing::Instrument;

use crate::bodies::Bodies;
use crate::caught::{caught, caught_blocking};
use crate::context::{CancelReason, TaskContext};
use crate::dispatch::HandOff;
use crate::enqueue::EnqueueRules;
use crate::error::{TaskError, clean_error_text};
use crate::event::{AttemptInfo, Event, Events};
use crate::inject::InjectedState;
use crate::lane::{Held, Slot};
use crate::ledger::{Gate, Ledger, RunningAttempt};
use crate::registry::Registry;
use crate::retry::{Decision, decide};
use crate::settings::Settings;
use crate::settler::{Done, Outcome, Settler};
use crate::signal::Signal;
use crate::state::State;
use crate::store::{ClaimedTask, Settlement, Store, TransactionOutcome};
use crate::task::{Attempt, Body, TaskDefinition, TxParts};

/// Runs claimed rows.
pub struct Executor {
    pub(crate) node: Arc<str>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) registry: Registry,
    pub(crate) state: InjectedState,
    pub(crate) rules: Arc<EnqueueRules>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ledger: Ledger,
    pub(crate) settler: Settler,
    pub(crate) events: Events,
    pub(crate) bodies: Bodies,
    pub(crate) watchdog: Signal,
    /// Wakes the dispatcher.
    pub(crate) wake: Arc<Signal>,
    /// The dispatcher's last look found due rows that no claim took: an ordered one may wait for one of ours.
    pub(crate) passed_over: AtomicBool,
}

/// A body under way, from its begin to its settlement.
struct Started {
    running: RunningAttempt,
    attempt: Attempt,
    span: tracing::Span,
    done: Option<Arc<Done>>,
}

impl Executor {
    /// Runs `held` in `slot`, then whatever waits for that slot, in the background.
    pub fn drive(self: &Arc<Self>, held: Held, slot: Slot, hand_off: &Arc<dyn HandOff>) {
        let executor = Arc::clone(self);
        let hand_off = Arc::clone(hand_off);
        let unstarted = Unstarted { executor: Arc::clone(self), held: Some(held) };
        match unstarted.body() {
            Some(Body::Async(_)) => self.bodies.spawn(async move {
                if let Some(held) = unstarted.take() {
                    executor.drive_async(held, slot, hand_off).await;
                }
            }),
            _ => self.bodies.spawn_blocking(move || {
                if let Some(held) = unstarted.take() {
                    executor.drive_blocking(held, slot, hand_off);
                }
            }),
        }
    }

    async fn drive_async(self: Arc<Self>, first: Held, slot: Slot, hand_off: Arc<dyn HandOff>) {
        let mut next = Some(first);
        let mut in_a_row = 0_u32;
        while let Some(held) = next {
            let Some(Body::Async(run)) = self.body(&held.task) else {
                return self.drive(held, slot, &hand_off);
            };
            self.run_async(held, run, &slot).await;
            next = slot.next();
            // Bodies that never wait must not keep the application's other futures from running.
            in_a_row += 1;
            if in_a_row.is_multiple_of(32) {
                tokio::task::yield_now().await;
            }
        }
    }

    fn drive_blocking(self: Arc<Self>, first: Held, slot: Slot, hand_off: Arc<dyn HandOff>) {
        let mut next = Some(first);
        while let Some(held) = next {
            if let Some(Body::Async(_)) = self.body(&held.task) {
                return self.drive(held, slot, &hand_off);
            }
            self.run_blocking(held, Some(&slot), &*hand_off, None);
            next = slot.next();
        }
    }

    /// Runs `held` on this thread, which must be outside any Tokio runtime, and waits until its outcome is written.
    pub fn run_inline(&self, held: Held, hand_off: &dyn HandOff) {
        let done = Arc::new(Done::default());
        match self.body(&held.task) {
            Some(Body::Async(run)) => {
                let Some(started) = self.start(held, None, None, Some(Arc::clone(&done))) else { return };
                let outcome =
                    self.bodies.block_on(caught(run(started.attempt.clone())).instrument(started.span.clone()));
                self.conclude(&started, outcome);
            }
            _ => self.run_blocking(held, None, hand_off, Some(Arc::clone(&done))),
        }
        done.wait(self.settings.busy_wait);
    }

    async fn run_async(&self, held: Held, run: fn(Attempt) -> crate::task::BoxFuture, slot: &Slot) {
        let (abort, registration) = AbortHandle::new_pair();
        let Some(started) = self.start(held, Some(slot), Some(abort), None) else { return };
        let dropped = DroppedBody { executor: self, running: &started.running };
        let body = caught(run(started.attempt.clone())).instrument(started.span.clone());
        // An aborted body was settled by whoever aborted it.
        if let Ok(outcome) = Abortable::new(body, registration).await {
            slot.lane().ran(started.running.begun.elapsed());
            self.conclude(&started, outcome);
        }
        drop(dropped);
    }

    fn run_blocking(&self, held: Held, slot: Option<&Slot>, hand_off: &dyn HandOff, done: Option<Arc<Done>>) {
        let body = self.body(&held.task);
        let Some(started) = self.start(held, slot, None, done) else { return };
        let _span = started.span.enter();
        let attempt = started.attempt.clone();
        let outcome = match body {
            Some(Body::Blocking(run)) => caught_blocking(|| run(attempt)),
            Some(Body::Transactional { run, .. }) => {
                let task = &started.running.task;
                let mut body = |parts: TxParts<'_>| caught_blocking(|| run(attempt.clone(), parts));
                let outcome = self.store.run_in_transaction(task.lease, task.charge_when_run(), hand_off, &mut body);
                return self.conclude_transaction(&started, outcome, slot);
            }
            // Claims ask only for names this process knows, and `drive` sends the others elsewhere.
            _ => Err(TaskError::message("this process has no blocking function of that name")),
        };
        if let Some(slot) = slot {
            slot.lane().ran(started.running.begun.elapsed());
        }
        self.conclude(&started, outcome);
    }

    /// Runs a transactional task in a transaction that `transact` opens on the caller's connection.
    pub fn run_transaction_on_caller(
        &self,
        held: Held,
        transact: &mut dyn FnMut(
            &ClaimedTask,
            &mut dyn FnMut(TxParts<'_>) -> Result<(), TaskError>,
        ) -> TransactionOutcome,
    ) {
        let Some(Body::Transactional { run, .. }) = self.body(&held.task) else { return };
        let done = Arc::new(Done::default());
        let Some(started) = self.start(held, None, None, Some(Arc::clone(&done))) else { return };
        let span = started.span.enter();
        let attempt = started.attempt.clone();
        let mut body = |parts: TxParts<'_>| caught_blocking(|| run(attempt.clone(), parts));
        let outcome = transact(&started.running.task, &mut body);
        drop(span);
        let settled_here = matches!(outcome, TransactionOutcome::Committed | TransactionOutcome::LeaseLost);
        self.conclude_transaction(&started, outcome, None);
        if !settled_here {
            done.wait(self.settings.busy_wait);
        }
    }

    /// After an outcome is in the table: wakes the dispatcher when a row may now be claimed, or will be sooner than it looks.
    pub(crate) fn wake_if_awaited(&self, due_in: Option<Duration>) {
        let soon = due_in.is_some_and(|due_in| due_in < self.settings.poll_interval);
        if soon || self.passed_over.load(Ordering::Relaxed) {
            self.wake.raise();
        }
    }

    /// The body of a row, by its stored name.
    pub fn body(&self, task: &ClaimedTask) -> Option<Body> {
        self.registry.find(&task.method_name).map(|definition| definition.body)
    }

    /// Puts a row back that was not started.
    pub fn release(&self, task: &ClaimedTask, reason: &'static str) {
        self.put_back(task.released(), reason, None);
    }

    fn put_back(&self, settlement: Settlement, reason: &'static str, done: Option<Arc<Done>>) {
        self.settler.submit(Outcome { settlement, attempt: None, took: Duration::ZERO, reason, done });
    }

    /// Everything before the body: a stale lease or a wish to cancel ends here, without an attempt.
    fn start(
        &self,
        held: Held,
        slot: Option<&Slot>,
        abort: Option<AbortHandle>,
        done: Option<Arc<Done>>,
    ) -> Option<Started> {
        let Held { task, lease } = held;
        let Some(definition) = self.registry.find(&task.method_name) else {
            self.put_back(task.released(), "this process has no function of that name", done);
            return None;
        };
        if !lease.is_fresh() {
            self.put_back(task.released(), "its lease was too old to start it", done);
            return None;
        }
        if task.cancel_requested {
            self.put_back(task.cancelled(), "cancelled on request", done);
            return None;
        }
        Some(self.begin(definition, task, slot, abort, done))
    }

    fn begin(
        &self,
        definition: &'static TaskDefinition,
        task: ClaimedTask,
        slot: Option<&Slot>,
        abort: Option<AbortHandle>,
        done: Option<Arc<Done>>,
    ) -> Started {
        let number = task.attempt();
        let context = TaskContext::new(
            task.lease.id,
            task.task_id.clone(),
            definition.name,
            number,
            Arc::clone(&self.node),
            Arc::clone(&self.rules),
        );
        let span = tracing::info_span!(
            "attempt",
            task = definition.name,
            id = task.lease.id,
            task_id = %task.task_id,
            attempt = number,
            node = &*self.node,
            duration_ms = tracing::field::Empty,
        );
        let attempt = Attempt {
            arguments: Arc::from(task.task_parameter.as_str()),
            context: context.clone(),
            state: self.state.clone(),
        };
        let running = RunningAttempt {
            task: Arc::new(task),
            context,
            begun: Instant::now(),
            limit: definition.options.timeout.unwrap_or(self.settings.attempt_timeout),
            gate: Arc::new(Gate::default()),
            abort,
            slot: slot.map(Slot::handle),
        };
        let deadline = self.ledger.begin(running.task.lease, running.clone());
        // The watchdog looks at every heartbeat anyway; only earlier limits must wake it.
        if deadline < Instant::now() + self.settings.heartbeat {
            self.watchdog.raise();
        }
        Started { running, attempt, span, done }
    }

    /// Everything after the body, unless somebody settled it before.
    fn conclude(&self, started: &Started, outcome: Result<(), TaskError>) {
        let took = started.running.begun.elapsed();
        started.span.record("duration_ms", took.as_secs_f64() * 1000.0);
        if started.running.gate.take() {
            self.settle(&started.running, outcome, took, started.done.clone());
        }
    }

    fn conclude_transaction(&self, started: &Started, outcome: TransactionOutcome, slot: Option<&Slot>) {
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
            }
            TransactionOutcome::LeaseLost => {
                if started.running.gate.take() {
                    self.ledger.forget([lease]);
                    self.events.emit(Event::LeaseLost { attempt: info(&started.running.task) });
                }
            }
            TransactionOutcome::NotStarted(error) => {
                self.events
                    .emit(Event::StoreTrouble { doing: "open a transaction for a task", error: error.to_string() });
                if started.running.gate.take() {
                    self.ledger.end(lease);
                    let mut settlement = started.running.task.released();
                    settlement.due_in = Some(self.settings.poll_interval);
                    self.put_back(settlement, "no transaction could be opened", started.done.clone());
                }
            }
        }
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
        self.ledger.end(task.lease);
        if outcome.is_err() && running.context.cancel_reason() == Some(CancelReason::Shutdown) {
            return self.put_back(task.released(), "stopped by the shutdown", done);
        }
        let decision = decide(&outcome, task.attempt(), &task.policy(), rand::random_range(0.0..=1.0));
        let follow_ups = if decision == Decision::Succeed { running.context.take_follow_ups() } else { Vec::new() };
        let error = outcome.err().map(|error| clean_error_text(error.text(), self.settings.max_error_bytes));
        let settlement = task.settled(decision, error, follow_ups);
        self.settler.submit(Outcome { settlement, attempt: Some(info(task)), took, reason: "", done });
    }
}

/// A row on its way to a thread or a future. Should the Tokio runtime end first, it is put back instead of being renewed
/// for ever by the heartbeat.
struct Unstarted {
    executor: Arc<Executor>,
    held: Option<Held>,
}

impl Unstarted {
    fn body(&self) -> Option<Body> {
        self.held.as_ref().and_then(|held| self.executor.body(&held.task))
    }

    fn take(mut self) -> Option<Held> {
        self.held.take()
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            self.executor.release(&held.task, "the Tokio runtime ended before it started");
        }
    }
}

/// Puts a row back whose future is dropped in the middle, when the Tokio runtime it runs on ends.
struct DroppedBody<'a> {
    executor: &'a Executor,
    running: &'a RunningAttempt,
}

impl Drop for DroppedBody<'_> {
    fn drop(&mut self) {
        if self.running.gate.take() {
            self.executor.ledger.end(self.running.task.lease);
            self.executor.release(&self.running.task, "the Tokio runtime ended while it ran");
        }
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executor({})", self.node)
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
