//! Runs one claimed row: look up, decode, run, decide, settle. Every way an attempt can end comes back here.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable, Either, select};
use parking_lot::Mutex;
use tracing::Instrument;

use crate::bodies::Bodies;
use crate::caught::{caught, caught_async_transactional, caught_blocking, caught_transactional};
use crate::dispatch::HandOff;
use crate::enqueue::EnqueueRules;
use crate::error::{StoreError, TaskError};
use crate::event::Events;
use crate::health::Health;
use crate::inject::InjectedState;
use crate::lane::{Held, Lane, Slot};
use crate::ledger::Ledger;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::settler::{Done, Settler};
use crate::signal::Signal;
use crate::starting::{CALLER_GAVE_UP, DroppedBody, RUNTIME_ENDED, Started, Unstarted};
use crate::store::{ClaimedTask, OutcomeFuture, Store, TransactionOutcome};
use crate::task::{Attempt, Body, NeededType, TxBody, TxFuture, TxParts, tx_body};
use crate::undecided::Undecided;

/// Opens a transaction for a row, runs the body in it and completes the row with it.
pub trait Transact: Send {
    /// Does so. On a blocking connection the future is ready when it is first polled.
    fn transact<'a>(&'a mut self, task: &'a ClaimedTask, body: &'a mut TxBody<'_>) -> OutcomeFuture<'a>;
}

/// Transactions on the store's own connections.
struct OwnConnection<'e> {
    store: &'e dyn Store,
    connection: NeededType,
    hand_off: &'e dyn HandOff,
}

impl Transact for OwnConnection<'_> {
    fn transact<'a>(&'a mut self, task: &'a ClaimedTask, body: &'a mut TxBody<'_>) -> OutcomeFuture<'a> {
        self.store.run_in_transaction(self.connection, task.lease, task.charge_when_run(), self.hand_off, body)
    }
}

/// Runs claimed rows.
pub struct Executor {
    pub(crate) node: Arc<str>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) registry: Registry,
    pub(crate) state: InjectedState,
    pub(crate) rules: Arc<EnqueueRules>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ledger: Ledger,
    pub(crate) undecided: Undecided,
    pub(crate) settler: Settler,
    pub(crate) events: Events,
    pub(crate) bodies: Bodies,
    /// Slots without end, for blocking bodies of asynchronous callers: so their threads, too, are counted once given up.
    pub(crate) callers: Arc<Lane>,
    pub(crate) watchdog: Signal,
    /// Wakes the dispatcher.
    pub(crate) wake: Arc<Signal>,
    /// Set once the runtime stops: nothing is started any more.
    pub(crate) stopping: Arc<AtomicBool>,
    /// The dispatcher's last look found due rows that no claim took: an ordered one may wait for one of ours.
    pub(crate) passed_over: AtomicBool,
    /// Something was let go of since the dispatcher last asked: the node is not idle, whatever its looks find.
    pub(crate) at_work: AtomicBool,
    /// The dispatcher may be about to wait for longer than a poll interval.
    pub(crate) may_rest: AtomicBool,
    /// When such rows last woke the dispatcher.
    pub(crate) passed_over_woke: Mutex<Instant>,
    /// What of the runtime's own work fails.
    pub(crate) health: Health,
}

impl Executor {
    /// Runs `held` in `slot`, then whatever waits for that slot, in the background.
    pub fn drive(self: &Arc<Self>, held: Held, slot: Slot, hand_off: &Arc<dyn HandOff>) {
        let executor = Arc::clone(self);
        let hand_off = Arc::clone(hand_off);
        let unstarted = Unstarted { executor: Arc::clone(self), held: Some(held) };
        if unstarted.body().is_some_and(Body::is_async) {
            self.bodies.spawn(async move {
                if let Some(held) = unstarted.take() {
                    executor.drive_async(held, slot, hand_off).await;
                }
            });
        } else {
            self.bodies.spawn_blocking(move || {
                if let Some(held) = unstarted.take() {
                    executor.drive_blocking(held, slot, hand_off);
                }
            });
        }
    }

    async fn drive_async(self: Arc<Self>, first: Held, slot: Slot, hand_off: Arc<dyn HandOff>) {
        let mut next = Some(first);
        let mut in_a_row = 0_u32;
        while let Some(held) = next {
            if !self.body(&held.task).is_some_and(Body::is_async) {
                return self.drive(held, slot, &hand_off);
            }
            self.run_async(held, Some(&slot), &*hand_off, None).await;
            next = slot.next();
            // Bodies that never wait must not keep the application's other futures from running.
            in_a_row += 1;
            if in_a_row.is_multiple_of(32) && next.is_some() {
                // The Tokio runtime may end here, and drops this future.
                let unstarted = Unstarted { executor: Arc::clone(&self), held: next };
                tokio::task::yield_now().await;
                next = unstarted.take();
            }
        }
    }

    fn drive_blocking(self: Arc<Self>, first: Held, slot: Slot, hand_off: Arc<dyn HandOff>) {
        let mut next = Some(first);
        while let Some(held) = next {
            if self.body(&held.task).is_some_and(Body::is_async) {
                return self.drive(held, slot, &hand_off);
            }
            self.run_blocking(held, Some(&slot), &*hand_off, None);
            next = slot.next();
        }
    }

    /// Runs `held` on this thread, which must be outside any Tokio runtime, and waits up to `busy_wait` until its outcome is
    /// written.
    pub fn run_inline(&self, held: Held, hand_off: &dyn HandOff) {
        let done = Arc::new(Done::default());
        if self.body(&held.task).is_some_and(Body::is_async) {
            self.bodies.block_on(self.run_async(held, None, hand_off, Some(Arc::clone(&done))));
        } else {
            self.run_blocking(held, None, hand_off, Some(Arc::clone(&done)));
        }
        done.wait(self.settings.busy_wait);
    }

    /// Runs `held` as part of the caller's future, a blocking body on a thread of its own, and waits up to `busy_wait` until its
    /// outcome is written. What is given up at its time limit is not waited for.
    pub async fn run_inline_async(self: &Arc<Self>, held: Held, hand_off: &Arc<dyn HandOff>) {
        if self.body(&held.task).is_some_and(Body::is_async) {
            let done = Arc::new(Done::default());
            self.run_async(held, None, &**hand_off, Some(Arc::clone(&done))).await;
            return done.wait_async(self.settings.busy_wait).await;
        }
        let done = Arc::new(Done::default());
        let (ended, end) = tokio::sync::oneshot::channel();
        let (unstarted, hand_off) = (Unstarted { executor: Arc::clone(self), held: Some(held) }, Arc::clone(hand_off));
        let (slot, concluded) = (self.callers.reserve(), Arc::clone(&done));
        self.bodies.spawn_blocking(move || {
            let executor = Arc::clone(&unstarted.executor);
            if let Some(held) = unstarted.take() {
                executor.run_blocking(held, slot.as_ref(), &*hand_off, Some(concluded));
            }
            // The caller may have gone.
            ended.send(()).ok();
        });
        // The watchdog may give up the body before it ends. An error means that the thread never came; the row was put back.
        if let Either::Left((Ok(()), written)) = select(end, pin!(done.wait_async(Duration::MAX))).await {
            tokio::time::timeout(self.settings.busy_wait, written).await.ok();
        }
    }

    async fn run_async(&self, held: Held, slot: Option<&Slot>, hand_off: &dyn HandOff, done: Option<Arc<Done>>) {
        let body = self.body(&held.task);
        let (abort, registration) = AbortHandle::new_pair();
        let Some(started) = self.start(held, slot, Some(abort), done) else { return };
        let why = if slot.is_some() { RUNTIME_ENDED } else { CALLER_GAVE_UP };
        let dropped = DroppedBody { executor: self, running: &started.running, why };
        match body {
            Some(Body::AsyncTransactional { connection, run }) => {
                let mut own = OwnConnection { store: &*self.store, connection: connection(), hand_off };
                self.transact_async(&started, run, &mut own, registration, slot).await;
            }
            Some(Body::Async(run)) => {
                let body = caught(run(started.attempt.clone())).instrument(started.span.clone());
                match Abortable::new(body, registration).await {
                    Ok(outcome) => {
                        if let Some(slot) = slot {
                            slot.lane().ran(started.running.begun.elapsed());
                        }
                        self.conclude(&started, outcome);
                    }
                    // Settled by whoever aborted it.
                    Err(_) => started.finished(),
                }
            }
            // `drive` sends the others elsewhere.
            _ => self.conclude(&started, Err(TaskError::message("this process has no async function of that name"))),
        }
        drop(dropped);
    }

    async fn transact_async(
        &self,
        started: &Started,
        run: for<'a> fn(Attempt, TxParts<'a>) -> TxFuture<'a>,
        transact: &mut dyn Transact,
        registration: AbortRegistration,
        slot: Option<&Slot>,
    ) {
        let mut body = tx_body(|parts| match self.enter_transaction(started) {
            Ok(()) => Box::pin(caught_async_transactional(run, started.attempt.clone(), parts)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        });
        let work = transact.transact(&started.running.task, &mut body).instrument(started.span.clone());
        // The body's panics are caught already; a pool or driver may panic too, say where its Tokio runtime has ended.
        let work = AssertUnwindSafe(work).catch_unwind();
        let panicked = |_| TransactionOutcome::NotStarted(StoreError::Fatal("the connection's driver panicked".into()));
        match Abortable::new(work, registration).await {
            Ok(outcome) => self.conclude_transaction(started, outcome.unwrap_or_else(panicked), slot),
            Err(_) => started.finished(),
        }
    }

    fn run_blocking(&self, held: Held, slot: Option<&Slot>, hand_off: &dyn HandOff, done: Option<Arc<Done>>) {
        let body = self.body(&held.task);
        let Some(started) = self.start(held, slot, None, done) else { return };
        let _span = started.span.enter();
        let outcome = match body {
            Some(Body::Blocking(run)) => caught_blocking(|| run(started.attempt.clone())),
            Some(Body::Transactional { connection, run }) => {
                let mut own = OwnConnection { store: &*self.store, connection: connection(), hand_off };
                return self.transact(&started, run, &mut own, slot);
            }
            // Claims ask only for names this process knows, and `drive` sends the others elsewhere.
            _ => Err(TaskError::message("this process has no blocking function of that name")),
        };
        if let Some(slot) = slot {
            slot.lane().ran(started.running.begun.elapsed());
        }
        self.conclude(&started, outcome);
    }

    fn transact(
        &self,
        started: &Started,
        run: fn(Attempt, TxParts<'_>) -> Result<(), TaskError>,
        transact: &mut dyn Transact,
        slot: Option<&Slot>,
    ) {
        let mut body = tx_body(|parts| {
            let run = || caught_transactional(run, started.attempt.clone(), parts);
            let outcome = self.enter_transaction(started).and_then(|()| run());
            self.leave_body(started);
            Box::pin(std::future::ready(outcome))
        });
        // The body's panics are caught already; a pool or driver may panic too.
        let outcome = self.guarded(|| {
            let outcome = transact.transact(&started.running.task, &mut body).now_or_never();
            outcome.ok_or_else(|| StoreError::Fatal("a blocking connection had to wait".into()))
        });
        self.conclude_transaction(started, outcome.unwrap_or_else(TransactionOutcome::NotStarted), slot);
    }

    /// Runs a transactional task in a transaction that `transact` opens on the caller's blocking connection.
    pub fn run_transaction_on_caller(&self, held: Held, transact: &mut dyn Transact) {
        let Some(Body::Transactional { run, .. }) = self.body(&held.task) else { return };
        let done = Arc::new(Done::default());
        let Some(started) = self.start(held, None, None, Some(Arc::clone(&done))) else { return };
        self.open_on_caller(&started);
        let span = started.span.enter();
        self.transact(&started, run, transact, None);
        drop(span);
        done.wait(self.settings.busy_wait);
    }

    /// As [`run_transaction_on_caller`](Self::run_transaction_on_caller), on the caller's asynchronous connection.
    pub async fn run_transaction_on_async_caller(&self, held: Held, transact: &mut dyn Transact) {
        let Some(Body::AsyncTransactional { run, .. }) = self.body(&held.task) else { return };
        let done = Arc::new(Done::default());
        let (abort, registration) = AbortHandle::new_pair();
        let Some(started) = self.start(held, None, Some(abort), Some(Arc::clone(&done))) else { return };
        self.open_on_caller(&started);
        let dropped = DroppedBody { executor: self, running: &started.running, why: CALLER_GAVE_UP };
        self.transact_async(&started, run, transact, registration, None).await;
        drop(dropped);
        done.wait_async(self.settings.busy_wait).await;
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
