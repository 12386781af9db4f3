//! Runs one claimed row: look up, decode, run, decide, settle. Every way an attempt can end comes back here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use futures_util::future::{AbortHandle, Abortable};
use parking_lot::Mutex;
use tracing::Instrument;

use crate::bodies::Bodies;
use crate::caught::{caught, caught_blocking, caught_transactional};
use crate::dispatch::HandOff;
use crate::enqueue::EnqueueRules;
use crate::error::TaskError;
use crate::event::Events;
use crate::inject::InjectedState;
use crate::lane::{Held, Slot};
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::settler::{Done, Settler};
use crate::signal::Signal;
use crate::starting::{DroppedBody, Unstarted};
use crate::store::{ClaimedTask, Store, TransactionOutcome};
use crate::task::{Attempt, Body, TxParts};

/// Opens a transaction for a row, runs the body in it and completes the row with it.
pub type Transact<'a> =
    dyn FnMut(&ClaimedTask, &mut dyn FnMut(TxParts<'_>) -> Result<(), TaskError>) -> TransactionOutcome + 'a;

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
    /// Set once the runtime stops: nothing is started any more.
    pub(crate) stopping: Arc<AtomicBool>,
    /// The dispatcher's last look found due rows that no claim took: an ordered one may wait for one of ours.
    pub(crate) passed_over: AtomicBool,
    /// When such rows last woke the dispatcher.
    pub(crate) passed_over_woke: Mutex<Instant>,
    /// When every lease was last renewed.
    pub(crate) renewed: Mutex<Instant>,
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
                let mut body = |parts: TxParts<'_>| {
                    self.enter_transaction(&started)?;
                    caught_transactional(run, &attempt, parts)
                };
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
    pub fn run_transaction_on_caller(&self, held: Held, transact: &mut Transact<'_>) {
        let Some(Body::Transactional { run, .. }) = self.body(&held.task) else { return };
        let done = Arc::new(Done::default());
        let Some(started) = self.start(held, None, None, Some(Arc::clone(&done))) else { return };
        let span = started.span.enter();
        let attempt = started.attempt.clone();
        let mut body = |parts: TxParts<'_>| {
            self.enter_transaction(&started)?;
            caught_transactional(run, &attempt, parts)
        };
        let outcome = transact(&started.running.task, &mut body);
        drop(span);
        self.conclude_transaction(&started, outcome, None);
        done.wait(self.settings.busy_wait);
    }

    /// The body of a row, by its stored name.
    pub fn body(&self, task: &ClaimedTask) -> Option<Body> {
        self.registry.find(&task.method_name).map(|definition| definition.body)
    }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executor({})", self.node)
    }
}
